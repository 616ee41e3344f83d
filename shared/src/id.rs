//! Ids of members and clusters.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use sha1::{Digest, Sha1};

/// A member of a cluster. Printed and parsed as lower-case hexadecimal without leading zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemberId(pub u64);

/// A cluster. Printed and parsed as lower-case hexadecimal without leading zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterId(pub u64);

impl MemberId {
    /// The id of a member: the SHA-1 of its peer URLs, sorted, of the cluster's token and, for a member that
    /// is added to a running cluster (whose token is then empty), of the time of the request.
    #[must_use]
    pub fn compute(peer_urls: &[String], token: &str, unix_seconds: Option<i64>) -> MemberId {
        let mut urls: Vec<&String> = peer_urls.iter().collect();
        urls.sort_unstable();
        let mut hash = Sha1::new();
        for url in urls {
            hash.update(url);
        }
        hash.update(token);
        if let Some(seconds) = unix_seconds {
            hash.update(seconds.to_string());
        }
        MemberId(first_eight_bytes(hash))
    }
}

impl ClusterId {
    /// The id of a cluster: the SHA-1 of the ids of its first members, sorted.
    #[must_use]
    pub fn compute(members: &[MemberId]) -> ClusterId {
        let mut members = members.to_vec();
        members.sort_unstable();
        let mut hash = Sha1::new();
        for member in members {
            hash.update(member.0.to_be_bytes());
        }
        ClusterId(first_eight_bytes(hash))
    }
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let digest: [u8; 20] = hash.finalize().into();
    digest.first_chunk().map_or(0, |eight| u64::from_be_bytes(*eight))
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for MemberId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<MemberId, ParseIntError> {
        hexadecimal(text).map(MemberId)
    }
}

impl FromStr for ClusterId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<ClusterId, ParseIntError> {
        hexadecimal(text).map(ClusterId)
    }
}

/// Hexadecimal digits and nothing else: Rust alone would take a sign.
fn hexadecimal(text: &str) -> Result<u64, ParseIntError> {
    u64::from_str_radix(if text.starts_with('+') { "+" } else { text }, 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_are_those_of_go() {
        let id = |url: &str, token: &str| MemberId::compute(&[url.to_owned()], token, None).to_string();
        assert_eq!(id("http://127.0.0.1:22502", "etcd-cluster"), "1e03c8d35c34dbbd");
        assert_eq!(id("http://127.0.0.1:22521", "tok1"), "4fb365d517eecb35");
    }

    #[test]
    fn member_ids_do_not_depend_on_the_order_of_urls_but_on_the_time() {
        let urls = ["http://b:1".to_owned(), "http://a:1".to_owned()];
        let turned = [urls[1].clone(), urls[0].clone()];
        assert_eq!(MemberId::compute(&urls, "t", None), MemberId::compute(&turned, "t", None));
        assert_ne!(MemberId::compute(&urls, "", None), MemberId::compute(&urls, "", Some(1)));
        // The parts are concatenated without a separator.
        let one = ["http://a:1http://b:1".to_owned()];
        assert_eq!(MemberId::compute(&one, "7", None), MemberId::compute(&urls, "", Some(7)));
    }

    #[test]
    fn cluster_ids_are_those_of_go() {
        let ids = |list: &[&str]| list.iter().map(|id| id.parse().unwrap()).collect::<Vec<MemberId>>();
        let three = ids(&["9abbbc3dd05a233a", "4fb365d517eecb35", "643649a341ed1222"]);
        assert_eq!(ClusterId::compute(&three).to_string(), "c46df306ea09afe5");
        assert_eq!(ClusterId::compute(&ids(&["1e03c8d35c34dbbd"])).to_string(), "f01c6442dbe9904e");
    }

    #[test]
    fn ids_are_hexadecimal_without_leading_zeros() {
        assert_eq!("0A".parse::<MemberId>().unwrap().to_string(), "a");
        for bad in ["", "x", "+1", "-1", "10000000000000000"] {
            assert!(bad.parse::<MemberId>().is_err(), "{bad}");
            assert!(bad.parse::<ClusterId>().is_err(), "{bad}");
        }
    }
}
