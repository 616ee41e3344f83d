//! Reports the server's state to the service manager by systemd's notification protocol, `sd_notify(3)`.
//!
//! A message is a datagram of `NAME=VALUE` lines to the Unix socket that `NOTIFY_SOCKET` names: a path or, after an
//! `@`, a name in the abstract namespace.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::log;

/// The variable with the service manager's socket.
const SOCKET: &str = "NOTIFY_SOCKET";
/// The watchdog's timeout in microseconds: without a message for so long, the service manager restarts the server.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// The process that the watchdog is for; unset means this process.
const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";

/// How often the status is checked for changes. It is for people, so this is often enough.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// How long a message may wait for room in the service manager's queue: the server must not be held up.
const SEND_TIME_MAX: Duration = Duration::from_millis(100);

/// The connection to the service manager, if there is one.
///
/// A message that cannot be sent is logged and dropped: serving clients comes first.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Reads the environment: `variable` returns a variable's value.
    pub fn new(variable: impl Fn(&str) -> Option<OsString>) -> ServiceManager {
        let Some(name) = variable(SOCKET).filter(|name| !name.is_empty()) else {
            return ServiceManager::default();
        };
        let socket = match connect(&name) {
            Ok(socket) => socket,
            Err(error) => {
                let name = name.to_string_lossy();
                log::error!(
                    "etcdmain",
                    "the service manager will get no status of this server: cannot reach {SOCKET}={name}: {error}"
                );
                return ServiceManager::default();
            }
        };
        let number = |name: &str| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = number(WATCHDOG_PROCESS).is_none_or(|id| id == u64::from(std::process::id()));
        let silence = number(WATCHDOG).filter(|micros| is_ours && *micros > 0).map(Duration::from_micros);
        ServiceManager { socket: Some(socket), watchdog: silence.map(|silence| silence / 2) }
    }

    /// Whether there is a service manager.
    pub fn is_present(&self) -> bool {
        self.socket.is_some()
    }

    /// Reports that the server is ready for clients.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// Sets the status line that people see in the service's state.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", one_line(status)));
    }

    /// Reports that the server is stopping.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    fn notify_alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            log::warning!("etcdmain", "cannot send {message:?} to the service manager: {error}");
        }
    }
}

fn connect(name: &OsString) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => {
            return Err(io::Error::other("it must be an absolute path, or '@' and an abstract name"));
        }
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_write_timeout(Some(SEND_TIME_MAX))?;
    Ok(socket)
}

/// Removes line ends, which would begin another field.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Reports every change of `status`, and sends a watchdog message each time `wait_for_turn` returns; runs forever.
/// `reported` is the status that was reported last.
///
/// A watchdog message is sent only after `wait_for_turn` returns: if the server's loop hangs, the messages stop.
pub(crate) async fn report_status(
    manager: &ServiceManager,
    mut reported: String,
    status: impl Fn() -> String,
    wait_for_turn: impl AsyncFn(),
) -> Infallible {
    if !manager.is_present() {
        return std::future::pending().await;
    }
    let watch = async {
        let Some(period) = manager.watchdog else { return std::future::pending().await };
        let mut signs = interval(period);
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            signs.tick().await;
            wait_for_turn().await;
            manager.notify_alive();
        }
    };
    let send = async {
        let mut looks = interval(STATUS_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let now = status();
            if now != reported {
                manager.status(&now);
                reported = now;
            }
        }
    };
    tokio::select! {
        never = watch => never,
        never = send => never,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn manager(variables: &[(&str, String)]) -> ServiceManager {
        ServiceManager::new(|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut space = [0; 512];
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = socket.recv(&mut space).unwrap();
        String::from_utf8(space[..length].to_vec()).unwrap()
    }

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        manager(&[(SOCKET, path.display().to_string())]).ready("a\nREADY=0");
        assert_eq!(received(&by_path), "READY=1\nSTATUS=a READY=0");

        let name = format!("etcd-rs-notify-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = manager(&[(SOCKET, format!("@{name}"))]);
        manager.stopping();
        assert_eq!(received(&by_name), "STOPPING=1\nSTATUS=stopping");
        manager.status("well");
        assert_eq!(received(&by_name), "STATUS=well");
    }

    #[test]
    fn nobody_and_nonsense_are_borne() {
        for name in ["", "relative", "/nonexistent/notify", "@nobody-listens-here"] {
            let manager = manager(&[(SOCKET, name.to_owned()), (WATCHDOG, "1000000".to_owned())]);
            assert!(!manager.is_present(), "{name}");
            manager.ready("");
        }
    }

    #[test]
    fn the_watchdog_is_for_its_process_and_wants_a_time() {
        let name = format!("etcd-rs-watchdog-{}", std::process::id());
        let _listens = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let period = |micros: &str, id: &str| {
            manager(&[
                (SOCKET, format!("@{name}")),
                (WATCHDOG, micros.to_owned()),
                (WATCHDOG_PROCESS, id.to_owned()),
            ])
            .watchdog
        };
        let own = std::process::id().to_string();
        assert_eq!(period("3000000", &own), Some(Duration::from_millis(1500)));
        assert_eq!(period("3000000", ""), Some(Duration::from_millis(1500)));
        for (micros, id) in [("0", &own[..]), ("x", &own), ("", &own), ("3000000", "1")] {
            assert_eq!(period(micros, id), None, "{micros} {id}");
        }
    }

    #[tokio::test]
    async fn signs_of_life_end_when_nothing_turns() {
        let name = format!("etcd-rs-turns-{}", std::process::id());
        let listens = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let manager = manager(&[(SOCKET, format!("@{name}")), (WATCHDOG, "40000".to_owned())]);
        let turns = Cell::new(0);
        let turn = async || {
            turns.set(turns.get() + 1);
            if turns.get() > 3 {
                std::future::pending::<()>().await;
            }
        };
        let informed = report_status(&manager, "one".to_owned(), || "two".to_owned(), turn);
        let _ = tokio::time::timeout(Duration::from_millis(400), informed).await;
        let mut messages = Vec::new();
        listens.set_nonblocking(true).unwrap();
        let mut space = [0; 64];
        while let Ok(length) = listens.recv(&mut space) {
            messages.push(String::from_utf8(space[..length].to_vec()).unwrap());
        }
        messages.sort();
        assert_eq!(messages, ["STATUS=two", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]);
    }
}
