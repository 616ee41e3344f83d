//! Socket activation, `sd_listen_fds(3)`: assigns the sockets that the service manager opened to the URLs.
//!
//! There are `LISTEN_FDS` descriptors from 3 on, for the process `LISTEN_PID`, with the names in `LISTEN_FDNAMES`.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use shared::quote::quote;
use shared::url::Urls;
use socket2::SockRef;

use crate::addresses::addresses;
use crate::log;

/// The first passed descriptor.
const FIRST: usize = 3;

/// The most sockets that are accepted: more than any server has URLs.
const SOCKETS_MAX: usize = 256;

/// Why the sockets of the service manager cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The variable is not a valid number of sockets.
    #[error("LISTEN_FDS={0} is not a number of sockets from 0 to {SOCKETS_MAX}")]
    Count(String),
    /// A descriptor is not a listening TCP socket.
    #[error(
        "the service manager handed over {0}, which cannot be listened on: {1}. Only TCP sockets are of use \
         (ListenStream= with a port, and Accept=no)"
    )]
    NotListening(SocketLabel, String),
    /// The socket belongs to no URL.
    #[error(
        "the service manager handed over {0}, which belongs to no URL in {1}: name it 'client' or 'peer' \
         (FileDescriptorName=), or let a URL have its address"
    )]
    Unwanted(SocketLabel, &'static str),
    /// There are more sockets of this name than URLs.
    #[error("the service manager handed over {0}, and there are fewer URLs in {1} than sockets of this name")]
    TooMany(SocketLabel, &'static str),
    /// An error of the operating system.
    #[error("cannot share the socket of the service manager: {0}")]
    Io(#[from] io::Error),
}

/// Describes a socket in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketLabel {
    /// The descriptor's number at the start of the process.
    descriptor: usize,
    /// The socket's name; empty if it has none.
    name: String,
    /// The address that it listens on.
    address: Option<SocketAddr>,
}

impl std::fmt::Display for SocketLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the descriptor {}", self.descriptor)?;
        if !self.name.is_empty() {
            write!(f, " named {}", quote(&self.name))?;
        }
        match self.address {
            Some(address) => write!(f, " at {address}"),
            None => Ok(()),
        }
    }
}

/// The sockets that the service manager opened. They stay open, so that a member that becomes a proxy can use them.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    sockets: Vec<InheritedSocket>,
}

#[derive(Debug)]
struct InheritedSocket {
    label: SocketLabel,
    address: SocketAddr,
    listener: TcpListener,
}

/// The sockets assigned to the URLs of one list, by URL.
pub(crate) type SocketsByUrl = BTreeMap<String, TcpListener>;

/// The sockets assigned to the URLs of both lists.
#[derive(Debug, Default)]
pub(crate) struct AssignedSockets {
    pub(crate) peers: SocketsByUrl,
    pub(crate) clients: SocketsByUrl,
}

impl InheritedSockets {
    /// The sockets passed to this process.
    ///
    /// # Errors
    /// If one of them is not a listening TCP socket.
    pub(super) fn from_environment() -> Result<InheritedSockets, SocketError> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let (count, owner) = (variable("LISTEN_FDS"), variable("LISTEN_PID"));
        // The sockets are for another process: a parent did not clear its environment.
        if count.is_empty() || owner.parse() != Ok(std::process::id()) {
            return Ok(InheritedSockets::default());
        }
        if !count.parse().is_ok_and(|count| (0..=SOCKETS_MAX).contains(&count)) {
            return Err(SocketError::Count(count));
        }
        let names = variable("LISTEN_FDNAMES");
        let mut names = names.split(':');
        let mut descriptors = ListenFd::from_env();
        let mut sockets = Vec::new();
        for at in 0..descriptors.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let mut label = SocketLabel { descriptor: FIRST + at, name, address: None };
            let taken = descriptors.take_tcp_listener(at).and_then(|listener| {
                let listener = listener.ok_or_else(|| io::Error::other("it is gone"))?;
                let address = listener.local_addr()?;
                if !SockRef::from(&listener).is_listener()? {
                    return Err(io::Error::other("it is a connection"));
                }
                listener.set_nonblocking(true)?;
                Ok((listener, address))
            });
            match taken {
                Ok((listener, address)) => {
                    label.address = Some(address);
                    sockets.push(InheritedSocket { label, address, listener });
                }
                Err(error) => return Err(SocketError::NotListening(label, error.to_string())),
            }
        }
        Ok(InheritedSockets { sockets })
    }

    /// Assigns the sockets to the URLs of a member, or of a proxy, which has no peer URLs.
    ///
    /// # Errors
    /// If a socket belongs to no URL.
    pub(crate) async fn assign_to_urls(
        &self,
        peers: Option<&Urls>,
        clients: &Urls,
    ) -> Result<AssignedSockets, SocketError> {
        let mut assigned = AssignedSockets::default();
        if self.sockets.is_empty() {
            return Ok(assigned);
        }
        let mut wanted_urls = Vec::new();
        let lists = peers.map(|urls| (UrlList::Peers, urls)).into_iter().chain([(UrlList::Clients, clients)]);
        for (list, url) in lists.flat_map(|(list, urls)| urls.iter().map(move |url| (list, url))) {
            // A host that cannot be resolved matches no socket; the later bind reports the error.
            let addresses = addresses(url).await;
            wanted_urls.push((url, ListenUrl { list, addresses: addresses.unwrap_or_default() }));
        }
        let labels: Vec<SocketLabel> = self.sockets.iter().map(|socket| socket.label.clone()).collect();
        let addresses: Vec<SocketAddr> = self.sockets.iter().map(|socket| socket.address).collect();
        let only: Vec<ListenUrl> = wanted_urls.iter().map(|(_, wanted)| wanted.clone()).collect();
        for (socket, wanted) in pair_sockets(&labels, &addresses, &only, peers.is_none())? {
            let (url, wanted) = &wanted_urls[wanted];
            let socket = &self.sockets[socket];
            log::info!("etcdmain", "{url} is served on {}, of the service manager", socket.label);
            let taken =
                if wanted.list == UrlList::Peers { &mut assigned.peers } else { &mut assigned.clients };
            taken.insert(url.as_str().to_owned(), socket.listener.try_clone()?);
        }
        Ok(assigned)
    }
}

/// One of the two lists of URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UrlList {
    Clients,
    Peers,
}

/// A URL to listen on, with its addresses.
#[derive(Debug, Clone)]
struct ListenUrl {
    list: UrlList,
    addresses: Vec<SocketAddr>,
}

/// Pairs of indexes: a socket and the URL that it is for. The names `client` and `peer` select a list; within it, or
/// among all URLs for other names, the address decides. Remaining sockets with one of these names get the remaining
/// URLs of their list, in order.
fn pair_sockets(
    labels: &[SocketLabel],
    addresses: &[SocketAddr],
    wanted_urls: &[ListenUrl],
    is_proxy: bool,
) -> Result<Vec<(usize, usize)>, SocketError> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let by_rule: [fn(&SocketLabel, SocketAddr, &ListenUrl) -> bool; 3] = [
        |label, own, wanted| list_matches(label, wanted) && wanted.addresses.contains(&own),
        |label, own, wanted| {
            list_matches(label, wanted) && wanted.addresses.iter().any(|other| is_wildcard_match(own, *other))
        },
        |label, _, wanted| list_of(label).is_some() && list_matches(label, wanted),
    ];
    for fits in by_rule {
        for (socket, label) in labels.iter().enumerate() {
            if pairs.iter().any(|(other, _)| *other == socket) {
                continue;
            }
            let free = |wanted: &usize| !pairs.iter().any(|(_, other)| other == wanted);
            let wanted = (0..wanted_urls.len())
                .filter(free)
                .find(|wanted| fits(label, addresses[socket], &wanted_urls[*wanted]));
            pairs.extend(wanted.map(|wanted| (socket, wanted)));
        }
    }
    for (socket, label) in labels.iter().enumerate() {
        if pairs.iter().any(|(other, _)| *other == socket) {
            continue;
        }
        match list_of(label) {
            // A proxy may use the socket unit of a member.
            Some(UrlList::Peers) if is_proxy => {}
            Some(UrlList::Peers) => return Err(SocketError::TooMany(label.clone(), "-listen-peer-urls")),
            Some(UrlList::Clients) => return Err(SocketError::TooMany(label.clone(), "-listen-client-urls")),
            None => {
                let lists =
                    if is_proxy { "-listen-client-urls" } else { "-listen-client-urls or -listen-peer-urls" };
                return Err(SocketError::Unwanted(label.clone(), lists));
            }
        }
    }
    Ok(pairs)
}

fn list_of(label: &SocketLabel) -> Option<UrlList> {
    match &label.name[..] {
        "client" => Some(UrlList::Clients),
        "peer" => Some(UrlList::Peers),
        _ => None,
    }
}

fn list_matches(label: &SocketLabel, url: &ListenUrl) -> bool {
    list_of(label).is_none_or(|list| list == url.list)
}

/// Whether the ports are equal and one of the two addresses means all addresses of the machine.
fn is_wildcard_match(own: SocketAddr, wanted: SocketAddr) -> bool {
    own.port() == wanted.port() && (own.ip().is_unspecified() || wanted.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs for sockets `name@address` and URLs `c=addresses`, `p=addresses`.
    fn pairs(sockets: &[&str], urls: &[&str], is_proxy: bool) -> Result<Vec<(usize, usize)>, String> {
        let mut labels = Vec::new();
        for (at, socket) in sockets.iter().enumerate() {
            let (name, address) = socket.split_once('@').unwrap();
            let address = Some(address.parse().unwrap());
            labels.push(SocketLabel { descriptor: FIRST + at, name: name.to_owned(), address });
        }
        let addresses: Vec<SocketAddr> = labels.iter().filter_map(|label| label.address).collect();
        let wanted_urls: Vec<ListenUrl> = urls
            .iter()
            .map(|url| {
                let (list, addresses) = url.split_once('=').unwrap();
                let list = if list == "c" { UrlList::Clients } else { UrlList::Peers };
                let addresses = addresses.split(',').filter(|text| !text.is_empty());
                ListenUrl { list, addresses: addresses.map(|text| text.parse().unwrap()).collect() }
            })
            .collect();
        let mut pairs =
            pair_sockets(&labels, &addresses, &wanted_urls, is_proxy).map_err(|error| error.to_string())?;
        pairs.sort_unstable();
        Ok(pairs)
    }

    #[test]
    fn names_and_addresses_find_their_urls() {
        let urls = ["p=127.0.0.1:2380", "c=127.0.0.1:2379", "c=127.0.0.1:4001"];
        for (sockets, expected) in [
            (&["etcd.socket@127.0.0.1:4001", "x@127.0.0.1:2380"][..], &[(0, 2), (1, 0)][..]),
            // The name is enough.
            (&["client@10.0.0.1:1"], &[(0, 1)]),
            // It does not take the URL that matches another socket better.
            (&["client@10.0.0.1:1", "client@127.0.0.1:2379", "peer@[::]:7"], &[(0, 2), (1, 1), (2, 0)]),
            (&["@0.0.0.0:4001", "@[::]:2380"], &[(0, 2), (1, 0)]),
        ] {
            assert_eq!(pairs(sockets, &urls, false).unwrap(), expected, "{sockets:?}");
        }
        assert_eq!(pairs(&["@127.0.0.1:1"], &["c=[::]:1"], false).unwrap(), [(0, 0)]);
        assert_eq!(pairs(&["@127.0.0.1:1"], &["c=[::1]:1,127.0.0.1:1"], false).unwrap(), [(0, 0)]);
        // A host that cannot be resolved gets a socket by its name.
        assert_eq!(pairs(&["client@127.0.0.1:1"], &["c="], false).unwrap(), [(0, 0)]);
    }

    #[test]
    fn what_belongs_to_nobody_is_refused() {
        let urls = ["p=127.0.0.1:2380", "c=127.0.0.1:2379"];
        for (sockets, reason) in [
            (
                &["web@127.0.0.1:80"][..],
                "the service manager handed over the descriptor 3 named \"web\" at 127.0.0.1:80, which belongs to \
                 no URL in -listen-client-urls or -listen-peer-urls: name it 'client' or 'peer' \
                 (FileDescriptorName=), or let a URL have its address",
            ),
            (
                &["client@1.1.1.1:1", "client@1.1.1.1:2"],
                "the service manager handed over the descriptor 4 named \"client\" at 1.1.1.1:2, and there are \
                 fewer URLs in -listen-client-urls than sockets of this name",
            ),
            // A client port with the name `peer`.
            (
                &["@127.0.0.1:2380", "peer@127.0.0.1:2379"],
                "the service manager handed over the descriptor 4 named \"peer\" at 127.0.0.1:2379, and there are \
                 fewer URLs in -listen-peer-urls than sockets of this name",
            ),
        ] {
            assert_eq!(pairs(sockets, &urls, false).unwrap_err(), reason);
        }
        assert!(pairs(&["@127.0.0.2:2379"], &urls, false).is_err());
        // A proxy has no peer URLs, but may get a member's sockets.
        let proxy = pairs(&["peer@127.0.0.1:2380", "client@127.0.0.1:2379"], &urls[1..], true);
        assert_eq!(proxy.unwrap(), [(1, 0)]);
        assert!(
            pairs(&["@127.0.0.1:2380"], &urls[1..], true).unwrap_err().contains("no URL in -listen-client")
        );
    }
}
