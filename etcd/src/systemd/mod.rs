//! What a service manager such as systemd gives a server and hears from it: sockets that are open already, and how
//! the server is.
//!
//! Both come by the environment (`LISTEN_FDS`, `NOTIFY_SOCKET` and theirs), so they are looked for once, at the
//! start. **Invariant:** a server that nobody manages does nothing here.

mod manager;
mod sockets;

pub use self::manager::ServiceManager;
pub(crate) use self::manager::report_status;
pub(crate) use self::sockets::SocketsByUrl;
pub use self::sockets::{InheritedSockets, SocketError};

/// The service manager's side of this process.
#[derive(Debug, Default)]
pub struct ServiceEnvironment {
    /// Whom to tell how the server is.
    pub manager: ServiceManager,
    /// The sockets that it opened.
    pub sockets: InheritedSockets,
}

impl ServiceEnvironment {
    /// What the environment of this process says. Called once, before threads are started that read it.
    ///
    /// # Errors
    /// When there are sockets that cannot be listened on.
    pub fn from_environment() -> Result<ServiceEnvironment, SocketError> {
        Ok(ServiceEnvironment {
            manager: ServiceManager::new(|name| std::env::var_os(name)),
            sockets: InheritedSockets::from_environment()?,
        })
    }
}
