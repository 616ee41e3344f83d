//! The etcd version of this member, and the cluster versions that it supports.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// The version shown to clients and other members, whose code compares it.
pub const SPOKEN: &str = "2.3.8";

/// The highest cluster version that this member supports.
pub const CLUSTER_MAX: Version = Version { major: 2, minor: 3, patch: 0 };

/// The version of a new cluster while some of its members do not answer.
pub const CLUSTER_MIN: Version = Version { major: 2, minor: 2, patch: 0 };

/// A version of three numbers. A suffix (`-…`, `+…`) is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u64,
    /// The second.
    pub minor: u64,
    /// The third.
    pub patch: u64,
}

impl Version {
    /// The cluster version of a member with this version: the patch number does not count.
    #[must_use]
    pub fn of_cluster(self) -> Version {
        Version { patch: 0, ..self }
    }
}

impl FromStr for Version {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Version, ParseIntError> {
        let numbers = text.split(['-', '+']).next().unwrap_or_default();
        let mut numbers = numbers.splitn(3, '.');
        let mut next = || numbers.next().unwrap_or_default().parse();
        Ok(Version { major: next()?, minor: next()?, patch: next()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Whether a cluster version such as `2.3.0` is higher than this member supports. A part that is not a number
/// counts as zero.
pub fn is_too_new(cluster: &str) -> bool {
    let mut parts = cluster.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) > (CLUSTER_MAX.major, CLUSTER_MAX.minor)
}

/// Whether `version` is a well-formed cluster version, such as `2.3.0`, that this member supports.
pub fn is_of_cluster(version: &str) -> bool {
    let parts: Vec<&str> = version.split('.').collect();
    let is_number = |part: &&str| part.len() <= 9 && part.parse::<u64>().is_ok();
    parts.len() == 3 && parts.iter().all(is_number) && !is_too_new(version)
}
