//! The etcd version of this member, and the cluster versions that it supports.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// The version shown to clients and other members, whose code compares it.
pub const SPOKEN: &str = "2.3.8";

/// The highest cluster version that a member of the level 2.3 supports.
pub const CLUSTER_MAX: Version = Version { major: 2, minor: 3, patch: 0 };

/// The version of a new cluster while some of its members do not answer.
pub const CLUSTER_MIN: Version = Version { major: 2, minor: 2, patch: 0 };

/// The level of a cluster: which version of the original its members stand in for. What a member writes (log, snapshots,
/// database, headers between peers) is what the original of that level writes.
///
/// A cluster keeps its level: the way back to the program that wrote the data stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// The APIs v1 and v2, as 2.3 has them.
    #[default]
    V2_3,
    /// With version 3 of the API, as 3.4 has it.
    V3_4,
    /// As 3.5 has it.
    V3_5,
}

impl Level {
    /// The highest level.
    pub const NEWEST: Level = Level::V3_5;

    /// The version shown to clients and other members, whose code compares it.
    #[must_use]
    pub fn spoken(self) -> &'static str {
        match self {
            Level::V2_3 => SPOKEN,
            Level::V3_4 => "3.4.23",
            Level::V3_5 => "3.5.30",
        }
    }

    /// The cluster version of its members, which is the highest that they support.
    #[must_use]
    pub fn cluster_version(self) -> Version {
        let (major, minor) = match self {
            Level::V2_3 => return CLUSTER_MAX,
            Level::V3_4 => (3, 4),
            Level::V3_5 => (3, 5),
        };
        Version { major, minor, patch: 0 }
    }

    /// The version of a new cluster while some of its members do not answer.
    #[must_use]
    pub fn lowest_cluster_version(self) -> Version {
        match self {
            Level::V2_3 => CLUSTER_MIN,
            Level::V3_4 | Level::V3_5 => Version { major: 3, minor: 0, patch: 0 },
        }
    }

    /// The level of a cluster with this version; `None` if the version is newer than any level. Clusters of 3.0 to 3.3
    /// are continued by 3.4.
    #[must_use]
    pub fn of_cluster(version: Version) -> Option<Level> {
        match (version.major, version.minor) {
            (..=2, _) => Some(Level::V2_3),
            (3, ..=4) => Some(Level::V3_4),
            (3, 5) => Some(Level::V3_5),
            _ => None,
        }
    }

    /// Whether there is a database, and the third version of the API.
    #[must_use]
    pub fn has_v3(self) -> bool {
        self >= Level::V3_4
    }

    /// Whether a cluster version such as `2.3.0` is higher than members of this level support. A part that is not a
    /// number counts as zero.
    #[must_use]
    pub fn is_too_low_for(self, cluster: &str) -> bool {
        let mut parts = cluster.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
        let highest = self.cluster_version();
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) > (highest.major, highest.minor)
    }

    /// Whether `version` is a well-formed cluster version, such as `2.3.0`, that members of this level support.
    #[must_use]
    pub fn supports(self, version: &str) -> bool {
        let parts: Vec<&str> = version.split('.').collect();
        let is_number = |part: &&str| part.len() <= 9 && part.parse::<u64>().is_ok();
        parts.len() == 3 && parts.iter().all(is_number) && !self.is_too_low_for(version)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { major, minor, .. } = self.cluster_version();
        write!(f, "{major}.{minor}")
    }
}

/// A text that is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no level of a cluster: it is 2.3, 3.4 or 3.5")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Level, UnknownLevel> {
        [Level::V2_3, Level::V3_4, Level::V3_5]
            .into_iter()
            .find(|level| level.to_string() == text)
            .ok_or_else(|| UnknownLevel(text.to_owned()))
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_the_level_that_continues_it() {
        let level = |text: &str| Level::of_cluster(text.parse().unwrap());
        assert_eq!(level("2.0.0"), Some(Level::V2_3));
        assert_eq!(level("3.0.0"), Some(Level::V3_4));
        assert_eq!(level("3.4.0"), Some(Level::V3_4));
        assert_eq!(level("3.5.0"), Some(Level::V3_5));
        assert_eq!(level("3.6.0"), None);
        assert_eq!(level("4.0.0"), None);
        assert_eq!("3.5".parse(), Ok(Level::V3_5));
        assert!("3.6".parse::<Level>().is_err());
    }

    #[test]
    fn a_level_supports_what_is_not_newer() {
        assert!(Level::V2_3.supports("2.3.0"));
        for version in ["3.4.0", "2.4.0", "2.3", "2.3.x", "2.3.0.0", ""] {
            assert!(!Level::V2_3.supports(version), "{version}");
        }
        assert!(Level::V3_5.supports("3.5.0"));
        assert!(!Level::V3_4.supports("3.5.0"));
    }
}
