//! Resolves listen URLs to socket addresses, and listens on them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shared::disk::reason;
use shared::url::Url;
use tokio::net::{TcpListener, TcpSocket};

/// The backlog: the most connections that the kernel holds until they are accepted. The kernel's own limit is lower
/// (`net.core.somaxconn`). Beyond it a client's first packet is lost and sent again a second later. The backlog matters
/// after a network failure, when all clients connect at once.
const BACKLOG: u32 = 65_535;

/// The addresses of a URL. Without a host, all addresses of this machine: the IPv6 wildcard, which also accepts IPv4
/// connections, or the IPv4 wildcard on a machine without IPv6. A name is resolved; IPv4 addresses come first.
///
/// # Errors
/// What is wrong with the host or the port.
pub(crate) async fn addresses(url: &Url) -> Result<Vec<SocketAddr>, String> {
    let port: u16 =
        url.port().parse().map_err(|_| format!("the port {:?} is no number from 0 to 65535", url.port()))?;
    // URLs escape the `%` before the zone of an IPv6 address.
    let host = url.host().replace("%25", "%");
    if host.is_empty() {
        let everywhere: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        return Ok(everywhere.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let found = tokio::net::lookup_host((host.as_str(), port)).await.map(Iterator::collect);
    let mut found: Vec<SocketAddr> = found.map_err(|error| cannot_resolve(&host, port, &error))?;
    found.sort_by_key(SocketAddr::is_ipv6);
    if found.is_empty() {
        return Err(format!("the host {host:?} has no address"));
    }
    Ok(found)
}

fn cannot_resolve(host: &str, port: u16, error: &io::Error) -> String {
    let text = error.to_string();
    let reason = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
    let hint = if host == "*" {
        format!("; to listen on all addresses leave the host out: http://:{port}")
    } else {
        String::new()
    };
    format!("the host {host:?} cannot be resolved ({reason}){hint}")
}

/// Listens on the first address. The second one is used only if the first is the IPv6 wildcard and the machine has no
/// IPv6.
///
/// # Errors
/// The original's text.
pub(crate) fn listen_at(addresses: &[SocketAddr]) -> Result<TcpListener, String> {
    let mut failure = String::new();
    for address in addresses {
        match bind(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                failure = format!("listen tcp {address}: bind: {}", reason(&error));
                if !(address.ip().is_unspecified() && address.is_ipv6() && is_without_ipv6(&error)) {
                    break;
                }
            }
        }
    }
    Err(failure)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted server can bind although old connections of its port remain.
    socket.set_reuseaddr(true)?;
    if address.ip().is_unspecified() && address.is_ipv6() {
        // Overrides the system's default (`net.ipv6.bindv6only`).
        socket2::SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(url: &str) -> Result<Vec<String>, String> {
        let found = addresses(&url.parse().unwrap()).await?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    #[tokio::test]
    async fn no_host_means_all_addresses() {
        assert_eq!(found("http://:2379").await.unwrap(), ["[::]:2379", "0.0.0.0:2379"]);
        assert_eq!(found("https://[::]:1").await.unwrap(), ["[::]:1"]);
        assert_eq!(found("http://0.0.0.0:1").await.unwrap(), ["0.0.0.0:1"]);
        assert_eq!(found("http://127.0.0.1:0").await.unwrap(), ["127.0.0.1:0"]);
        assert_eq!(found("http://localhost:7").await.unwrap()[0], "127.0.0.1:7");
    }

    #[tokio::test]
    async fn what_is_no_address_is_told() {
        for (url, why) in [
            ("http://127.0.0.1:99999", "the port \"99999\" is no number from 0 to 65535"),
            (
                "http://:99999999999999999999",
                "the port \"99999999999999999999\" is no number from 0 to 65535",
            ),
            ("http://127.0.0.1:", "the port \"\" is no number from 0 to 65535"),
        ] {
            assert_eq!(found(url).await.unwrap_err(), why);
        }
        let why = found("http://*:2379").await.unwrap_err();
        assert!(why.starts_with("the host \"*\" cannot be resolved ("), "{why}");
        assert!(why.ends_with("; to listen on all addresses leave the host out: http://:2379"), "{why}");
        let why = found("http://no-such-host.invalid:1").await.unwrap_err();
        assert!(why.starts_with("the host \"no-such-host.invalid\" cannot be resolved ("), "{why}");
    }

    #[tokio::test]
    async fn all_addresses_take_connections_of_ipv4() {
        let everywhere = addresses(&"http://:0".parse().unwrap()).await.unwrap();
        for addresses in [&everywhere[..], &everywhere[1..]] {
            let listener = listen_at(addresses).unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            // A port that is taken is not tried with the addresses of IPv4 alone.
            let taken: Vec<SocketAddr> =
                addresses.iter().map(|address| SocketAddr::new(address.ip(), port)).collect();
            let failure = listen_at(&taken).unwrap_err();
            assert_eq!(failure, format!("listen tcp {}: bind: address already in use", taken[0]));
        }
    }
}
