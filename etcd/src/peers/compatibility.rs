//! What headers tell about the sender of a request or response: whether its version is compatible with ours, and
//! which extensions of 2.3 it understands.

use std::fmt;

use node::version::SPOKEN;

/// The oldest cluster version that we can be part of.
pub(super) const MIN_CLUSTER_VERSION: &str = "2.2.0";

/// Versions besides our own that are known to serve both streams.
const STREAMING: [(u64, u64); 3] = [(2, 1), (2, 2), (2, 3)];

/// The header of requests, and of responses to requests for a stream.
pub(super) const FEATURES_HEADER: &str = "X-Etcd-Features";

/// The part of a version that decides about compatibility.
pub(super) type MajorMinor = (u64, u64);

/// The header is not a version. The original closes the connection without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoVersion;

/// Parses a version header. A missing one means etcd 2.0.
pub(super) fn parse_version(header: Option<&str>) -> Result<MajorMinor, NoVersion> {
    let text = header.filter(|text| !text.is_empty()).unwrap_or("2.0.0");
    let text = text.split('+').next().unwrap_or_default();
    let numbers = text.split('-').next().unwrap_or_default();
    let mut parts = numbers.split('.').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if digits { part.parse::<u64>().map_err(|_| NoVersion) } else { Err(NoVersion) }
    });
    let mut next = || parts.next().unwrap_or(Err(NoVersion));
    let (major, minor, _) = (next()?, next()?, next()?);
    if parts.next().is_some() { Err(NoVersion) } else { Ok((major, minor)) }
}

/// Why the sender is incompatible with this member, in the words of the log.
pub(super) fn incompatibility(server: MajorMinor, min_cluster: MajorMinor) -> Option<&'static str> {
    // Both constants are valid versions.
    if server < parse_version(Some(MIN_CLUSTER_VERSION)).unwrap_or_default() {
        Some("remote version is too low")
    } else if min_cluster > parse_version(Some(SPOKEN)).unwrap_or_default() {
        Some("local version is too low")
    } else {
        None
    }
}

/// Whether a server of this version serves the streams that we request.
pub(super) fn serves_streams(server: MajorMinor) -> bool {
    server >= parse_version(Some(SPOKEN)).unwrap_or_default() || STREAMING.contains(&server)
}

/// The extensions that a member understands. A member of 2.x understands none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Pre-vote: a candidate asks for votes before it raises its term.
    pub pre_vote: bool,
    /// Check-quorum: a leader that hears from no majority steps down, and members refuse votes while they hear from a
    /// leader.
    pub check_quorum: bool,
    /// Quorum reads for which a follower asks the leader for a read index.
    pub read_index: bool,
    /// Leadership transfer.
    pub transfer: bool,
    /// Proposals that are bound to one leader and one term: see `member/proposals.rs`.
    pub bound_proposals: bool,
}

impl Features {
    /// The extensions of this program.
    pub const OURS: Features = Features {
        pre_vote: true,
        check_quorum: true,
        read_index: true,
        transfer: true,
        bound_proposals: true,
    };

    /// Parses a header. Unknown names are ignored; without a header there are no extensions.
    pub(super) fn parse(header: Option<&str>) -> Features {
        let mut features = Features::default();
        for name in header.unwrap_or_default().split(',') {
            match name.trim() {
                "pre-vote" => features.pre_vote = true,
                "check-quorum" => features.check_quorum = true,
                "read-index" => features.read_index = true,
                "transfer" => features.transfer = true,
                "bound-proposals" => features.bound_proposals = true,
                _ => {}
            }
        }
        features
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.pre_vote, "pre-vote"),
            (self.check_quorum, "check-quorum"),
            (self.read_index, "read-index"),
            (self.transfer, "transfer"),
            (self.bound_proposals, "bound-proposals"),
        ];
        let mut separator = "";
        for (_, name) in all.iter().filter(|(has, _)| *has) {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers() {
        assert_eq!(parse_version(Some("2.3.8")), Ok((2, 3)));
        assert_eq!(parse_version(Some("2.3.0-alpha.0+git")), Ok((2, 3)));
        assert_eq!(parse_version(None), Ok((2, 0)));
        for bad in ["2.3", "x", "2.3.8.1", "2.-3.8", "2..8", "v2.3.8"] {
            assert_eq!(parse_version(Some(bad)), Err(NoVersion), "{bad}");
        }
    }

    #[test]
    fn old_servers_and_clusters_beyond_us_are_refused() {
        assert_eq!(incompatibility((2, 2), (2, 1)), None);
        assert_eq!(incompatibility((3, 0), (2, 3)), None);
        assert_eq!(incompatibility((2, 1), (2, 0)), Some("remote version is too low"));
        assert_eq!(incompatibility((3, 0), (3, 0)), Some("local version is too low"));
        assert!(serves_streams((2, 1)) && serves_streams((3, 1)) && !serves_streams((2, 0)));
    }

    #[test]
    fn a_header_says_what_a_member_can() {
        assert_eq!(Features::OURS.to_string(), "pre-vote,check-quorum,read-index,transfer,bound-proposals");
        assert_eq!(Features::parse(Some(&Features::OURS.to_string())), Features::OURS);
        assert_eq!(Features::parse(None), Features::default());
        let some = Features::parse(Some("transfer, time-travel"));
        assert_eq!(some, Features { transfer: true, ..Features::default() });
    }
}
