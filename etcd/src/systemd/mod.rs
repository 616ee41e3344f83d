//! The interface to a service manager such as systemd: it passes open sockets to the server, and the server reports its
//! state to it.
//!
//! Both are set up by environment variables (`LISTEN_FDS`, `NOTIFY_SOCKET` and related ones), which are read once at
//! the start. **Invariant:** without a service manager, this module does nothing.

mod manager;
mod sockets;

pub use self::manager::ServiceManager;
pub(crate) use self::manager::report_status;
pub(crate) use self::sockets::SocketsByUrl;
pub use self::sockets::{InheritedSockets, SocketError};

/// What the service manager has set up for this process.
#[derive(Debug, Default)]
pub struct ServiceEnvironment {
    /// The connection for reports.
    pub manager: ServiceManager,
    /// The sockets that the service manager opened.
    pub sockets: InheritedSockets,
}

impl ServiceEnvironment {
    /// Reads the environment of this process. Call it once, before any thread starts that reads the environment.
    ///
    /// # Errors
    /// If a passed socket cannot be listened on.
    pub fn from_environment() -> Result<ServiceEnvironment, SocketError> {
        Ok(ServiceEnvironment {
            manager: ServiceManager::new(|name| std::env::var_os(name)),
            sockets: InheritedSockets::from_environment()?,
        })
    }
}
