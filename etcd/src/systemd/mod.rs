//! What a service manager such as systemd gives a server and hears from it: sockets that are open already, and how
//! the server is.
//!
//! Both come by the environment (`LISTEN_FDS`, `NOTIFY_SOCKET` and theirs), so they are looked for once, at the
//! start. **Invariant:** a server that nobody manages does nothing here.

mod manager;
mod sockets;

pub use self::manager::Manager;
pub(crate) use self::manager::keep_informed;
pub(crate) use self::sockets::Taken;
pub use self::sockets::{Inherited, SocketError};

/// The service manager's side of this process.
#[derive(Debug, Default)]
pub struct Managed {
    /// Whom to tell how the server is.
    pub manager: Manager,
    /// The sockets that it opened.
    pub sockets: Inherited,
}

impl Managed {
    /// What the environment of this process says. Called once, before threads are started that read it.
    ///
    /// # Errors
    /// When there are sockets that cannot be listened on.
    pub fn from_environment() -> Result<Managed, SocketError> {
        Ok(Managed {
            manager: Manager::new(|name| std::env::var_os(name)),
            sockets: Inherited::from_environment()?,
        })
    }
}
