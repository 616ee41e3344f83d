//! Detects forwarding loops, and endpoints that are the proxy itself.
//!
//! If a member advertises the address of a proxy, the proxy forwards requests to itself, or two proxies forward to each
//! other, until memory runs out. So each proxy adds its id to the requests that it forwards, and refuses requests that
//! already carry its id with 508. It never tries endpoints at which it listens itself.

use http::{HeaderMap, HeaderName, HeaderValue};
use shared::url::{Url, Urls};

/// The request header with the ids of the proxies that a request has passed.
const HOPS: HeaderName = HeaderName::from_static("x-etcd-proxy-hops");

/// The response header that marks a 508 caused by a looping endpoint. A client's own list of hops does not cause it,
/// unless the client guesses an id.
pub(super) const LOOP: HeaderName = HeaderName::from_static("x-etcd-proxy-loop");

/// A request that has passed this number of proxies is refused.
const HOPS_MAX: usize = 16;

/// The cause of a loop, and what to do about it.
pub(super) const ADVICE: &str = "the -advertise-client-urls of a member are those of a proxy: set them to the member's own \
    address, at which it listens for clients";

/// The id of this proxy, random at each start.
#[derive(Debug)]
pub(super) struct Hops {
    id: String,
}

/// Why a request is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HopError {
    /// It has passed this proxy before.
    Loop,
    /// It has passed [`HOPS_MAX`] proxies.
    TooFar,
}

impl Hops {
    pub(super) fn new() -> Hops {
        Hops { id: format!("{:016x}", rand::random::<u64>()) }
    }

    /// Adds this proxy to the hops of a request.
    ///
    /// # Errors
    /// If the request must not be forwarded.
    pub(super) fn add(&self, headers: &mut HeaderMap) -> Result<(), HopError> {
        let mut hops = Vec::new();
        let mut count = 0;
        for value in headers.get_all(&HOPS) {
            for hop in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if hop == self.id.as_bytes() {
                    return Err(HopError::Loop);
                }
                count += 1;
                hops.extend_from_slice(hop);
                hops.extend_from_slice(b", ");
            }
        }
        if count >= HOPS_MAX {
            return Err(HopError::TooFar);
        }
        hops.extend_from_slice(self.id.as_bytes());
        let value = HeaderValue::from_bytes(&hops).map_err(|_| HopError::TooFar)?;
        headers.insert(HOPS, value);
        Ok(())
    }
}

impl HopError {
    /// The text of the response.
    pub(super) fn text(self) -> String {
        match self {
            HopError::Loop => {
                format!("proxy: this request has come back to the proxy that forwarded it: {ADVICE}")
            }
            HopError::TooFar => format!("proxy: this request has passed {HOPS_MAX} proxies"),
        }
    }
}

/// Whether a URL certainly leads to the process that listens at these URLs.
pub(super) fn is_own_url(url: &Url, listening: &Urls) -> bool {
    listening.iter().any(|own| {
        let same_host = url.host().eq_ignore_ascii_case(own.host());
        let here = is_loopback(url.host()) && (is_loopback(own.host()) || is_unspecified(own.host()));
        url.port() == own.port() && (same_host || here)
    })
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_unspecified(host: &str) -> bool {
    host.is_empty() || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_passes_each_proxy_once() {
        let proxies: Vec<Hops> = (0..=HOPS_MAX).map(|_| Hops::new()).collect();
        let mut headers = HeaderMap::new();
        for proxy in &proxies[..HOPS_MAX] {
            assert_eq!(proxy.add(&mut headers), Ok(()));
            assert_eq!(proxy.add(&mut headers), Err(HopError::Loop));
        }
        assert_eq!(proxies[HOPS_MAX].add(&mut headers), Err(HopError::TooFar));
        // In lines of their own, as others may have split them.
        let mut headers = HeaderMap::new();
        headers.append(HOPS, HeaderValue::from_static("a"));
        headers.append(HOPS, HeaderValue::from_str(&format!("b,{} , c", proxies[0].id)).unwrap());
        assert_eq!(proxies[0].add(&mut headers), Err(HopError::Loop));
        assert_eq!(proxies[1].add(&mut headers), Ok(()));
        assert_eq!(headers.get_all(HOPS).iter().count(), 1);
    }

    #[test]
    fn own_addresses_are_known() {
        let listening = Urls::parse("http://127.0.0.1:2379,http://10.0.0.1:80").unwrap();
        for (url, wanted) in [
            ("http://127.0.0.1:2379", true),
            ("https://localhost:2379", true),
            ("http://127.0.0.2:2379", true),
            ("http://10.0.0.1:80", true),
            ("http://10.0.0.1:2379", false),
            ("http://127.0.0.1:80", false),
            ("http://10.0.0.2:80", false),
        ] {
            assert_eq!(is_own_url(&url.parse().unwrap(), &listening), wanted, "{url}");
        }
        let everywhere = Urls::parse("http://0.0.0.0:2379").unwrap();
        assert!(is_own_url(&"http://localhost:2379".parse().unwrap(), &everywhere));
        assert!(!is_own_url(&"http://10.0.0.1:2379".parse().unwrap(), &everywhere));
    }
}
