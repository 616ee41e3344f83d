//! Sockets that the service manager opened, `sd_listen_fds(3)`: which of them belongs to which URL.
//!
//! Descriptors from 3 on, `LISTEN_FDS` of them, for the process `LISTEN_PID`, with the names `LISTEN_FDNAMES`.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use shared::quote::quote;
use shared::url::Urls;
use socket2::SockRef;

use crate::addresses::addresses;
use crate::log;

/// The first descriptor that is handed over.
const FIRST: usize = 3;

/// More sockets than anybody has URLs.
const SOCKETS_MAX: usize = 256;

/// Why the sockets of the service manager cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The variable is no number of sockets.
    #[error("LISTEN_FDS={0} is not a number of sockets from 0 to {SOCKETS_MAX}")]
    Count(String),
    /// A descriptor is something else.
    #[error(
        "the service manager handed over {0}, which cannot be listened on: {1}. Only TCP sockets are of use \
         (ListenStream= with a port, and Accept=no)"
    )]
    Unfit(Place, String),
    /// Nobody wants it.
    #[error(
        "the service manager handed over {0}, which belongs to no URL in {1}: name it 'client' or 'peer' \
         (FileDescriptorName=), or let a URL have its address"
    )]
    Unwanted(Place, &'static str),
    /// There are fewer URLs.
    #[error("the service manager handed over {0}, and there are fewer URLs in {1} than sockets of this name")]
    TooMany(Place, &'static str),
    /// The system's.
    #[error("cannot share the socket of the service manager: {0}")]
    Io(#[from] io::Error),
}

/// Which socket it is, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The number that it had when the process was started.
    descriptor: usize,
    /// Its name, empty if it has none.
    name: String,
    /// Where it listens.
    address: Option<SocketAddr>,
}

impl std::fmt::Display for Place {
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

/// The sockets that the service manager opened. They stay open, so that a member that becomes a proxy has them still.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Socket>,
}

#[derive(Debug)]
struct Socket {
    place: Place,
    address: SocketAddr,
    listener: TcpListener,
}

/// Which URLs of one list have a socket already.
pub(crate) type Taken = BTreeMap<String, TcpListener>;

/// Which URLs have a socket already.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    pub(crate) peers: Taken,
    pub(crate) clients: Taken,
}

impl Inherited {
    /// The sockets that are there for this process.
    ///
    /// # Errors
    /// When one of them is no TCP socket that listens.
    pub(super) fn from_environment() -> Result<Inherited, SocketError> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let (count, whose) = (variable("LISTEN_FDS"), variable("LISTEN_PID"));
        // Sockets of another process: a parent did not clear its environment.
        if count.is_empty() || whose.parse() != Ok(std::process::id()) {
            return Ok(Inherited::default());
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
            let mut place = Place { descriptor: FIRST + at, name, address: None };
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
                    place.address = Some(address);
                    sockets.push(Socket { place, address, listener });
                }
                Err(error) => return Err(SocketError::Unfit(place, error.to_string())),
            }
        }
        Ok(Inherited { sockets })
    }

    /// Shares the sockets out among the URLs of a member, or of a proxy, which has none for peers.
    ///
    /// # Errors
    /// When a socket belongs to none.
    pub(crate) async fn share_out(
        &self,
        peers: Option<&Urls>,
        clients: &Urls,
    ) -> Result<Shares, SocketError> {
        let mut shares = Shares::default();
        if self.sockets.is_empty() {
            return Ok(shares);
        }
        let mut wishes = Vec::new();
        let lists = peers.map(|urls| (List::Peers, urls)).into_iter().chain([(List::Clients, clients)]);
        for (list, url) in lists.flat_map(|(list, urls)| urls.iter().map(move |url| (list, url))) {
            // An address that cannot be found fits no socket; whoever binds it says why.
            let addresses = addresses(url).await;
            wishes.push((url, Wish { list, addresses: addresses.unwrap_or_default() }));
        }
        let places: Vec<Place> = self.sockets.iter().map(|socket| socket.place.clone()).collect();
        let addresses: Vec<SocketAddr> = self.sockets.iter().map(|socket| socket.address).collect();
        let only: Vec<Wish> = wishes.iter().map(|(_, wish)| wish.clone()).collect();
        for (socket, wish) in assign(&places, &addresses, &only, peers.is_none())? {
            let (url, wish) = &wishes[wish];
            let socket = &self.sockets[socket];
            log::info!("etcdmain", "{url} is served on {}, of the service manager", socket.place);
            let taken = if wish.list == List::Peers { &mut shares.peers } else { &mut shares.clients };
            taken.insert(url.as_str().to_owned(), socket.listener.try_clone()?);
        }
        Ok(shares)
    }
}

/// The two lists of URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    Clients,
    Peers,
}

/// A URL that wants a socket.
#[derive(Debug, Clone)]
struct Wish {
    list: List,
    addresses: Vec<SocketAddr>,
}

/// Pairs of sockets and wishes. A name decides between clients and peers; in its list, as among all for sockets of
/// other names, the address does. What is left of the sockets with a name takes what is left of its list, in order.
fn assign(
    places: &[Place],
    addresses: &[SocketAddr],
    wishes: &[Wish],
    is_proxy: bool,
) -> Result<Vec<(usize, usize)>, SocketError> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let by_rule: [fn(&Place, SocketAddr, &Wish) -> bool; 3] = [
        |place, own, wish| list_fits(place, wish) && wish.addresses.contains(&own),
        |place, own, wish| list_fits(place, wish) && wish.addresses.iter().any(|other| covers(own, *other)),
        |place, _, wish| list_of(place).is_some() && list_fits(place, wish),
    ];
    for fits in by_rule {
        for (socket, place) in places.iter().enumerate() {
            if pairs.iter().any(|(other, _)| *other == socket) {
                continue;
            }
            let free = |wish: &usize| !pairs.iter().any(|(_, other)| other == wish);
            let wish =
                (0..wishes.len()).filter(free).find(|wish| fits(place, addresses[socket], &wishes[*wish]));
            pairs.extend(wish.map(|wish| (socket, wish)));
        }
    }
    for (socket, place) in places.iter().enumerate() {
        if pairs.iter().any(|(other, _)| *other == socket) {
            continue;
        }
        match list_of(place) {
            // Its socket unit is the same as a member's.
            Some(List::Peers) if is_proxy => {}
            Some(List::Peers) => return Err(SocketError::TooMany(place.clone(), "-listen-peer-urls")),
            Some(List::Clients) => return Err(SocketError::TooMany(place.clone(), "-listen-client-urls")),
            None => {
                let lists =
                    if is_proxy { "-listen-client-urls" } else { "-listen-client-urls or -listen-peer-urls" };
                return Err(SocketError::Unwanted(place.clone(), lists));
            }
        }
    }
    Ok(pairs)
}

fn list_of(place: &Place) -> Option<List> {
    match &place.name[..] {
        "client" => Some(List::Clients),
        "peer" => Some(List::Peers),
        _ => None,
    }
}

fn list_fits(place: &Place, wish: &Wish) -> bool {
    list_of(place).is_none_or(|list| list == wish.list)
}

/// Whether one of two addresses means all of the machine's, with the port of the other.
fn covers(own: SocketAddr, wanted: SocketAddr) -> bool {
    own.port() == wanted.port() && (own.ip().is_unspecified() || wanted.ip().is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs for sockets `name@address` and URLs `c:addresses`, `p:addresses`.
    fn pairs(sockets: &[&str], urls: &[&str], is_proxy: bool) -> Result<Vec<(usize, usize)>, String> {
        let mut places = Vec::new();
        for (at, socket) in sockets.iter().enumerate() {
            let (name, address) = socket.split_once('@').unwrap();
            let address = Some(address.parse().unwrap());
            places.push(Place { descriptor: FIRST + at, name: name.to_owned(), address });
        }
        let addresses: Vec<SocketAddr> = places.iter().filter_map(|place| place.address).collect();
        let wishes: Vec<Wish> = urls
            .iter()
            .map(|url| {
                let (list, addresses) = url.split_once('=').unwrap();
                let list = if list == "c" { List::Clients } else { List::Peers };
                let addresses = addresses.split(',').filter(|text| !text.is_empty());
                Wish { list, addresses: addresses.map(|text| text.parse().unwrap()).collect() }
            })
            .collect();
        let mut pairs = assign(&places, &addresses, &wishes, is_proxy).map_err(|error| error.to_string())?;
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
            // It does not take what fits another socket better.
            (&["client@10.0.0.1:1", "client@127.0.0.1:2379", "peer@[::]:7"], &[(0, 2), (1, 1), (2, 0)]),
            (&["@0.0.0.0:4001", "@[::]:2380"], &[(0, 2), (1, 0)]),
        ] {
            assert_eq!(pairs(sockets, &urls, false).unwrap(), expected, "{sockets:?}");
        }
        assert_eq!(pairs(&["@127.0.0.1:1"], &["c=[::]:1"], false).unwrap(), [(0, 0)]);
        assert_eq!(pairs(&["@127.0.0.1:1"], &["c=[::1]:1,127.0.0.1:1"], false).unwrap(), [(0, 0)]);
        // A name that nobody knows finds no socket by itself.
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
            // The port of clients with the name of peers.
            (
                &["@127.0.0.1:2380", "peer@127.0.0.1:2379"],
                "the service manager handed over the descriptor 4 named \"peer\" at 127.0.0.1:2379, and there are \
                 fewer URLs in -listen-peer-urls than sockets of this name",
            ),
        ] {
            assert_eq!(pairs(sockets, &urls, false).unwrap_err(), reason);
        }
        assert!(pairs(&["@127.0.0.2:2379"], &urls, false).is_err());
        // A proxy has no peers, and the sockets of a member.
        let proxy = pairs(&["peer@127.0.0.1:2380", "client@127.0.0.1:2379"], &urls[1..], true);
        assert_eq!(proxy.unwrap(), [(1, 0)]);
        assert!(
            pairs(&["@127.0.0.1:2380"], &urls[1..], true).unwrap_err().contains("no URL in -listen-client")
        );
    }
}
