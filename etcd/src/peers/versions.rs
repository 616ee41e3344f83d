//! Which versions go together: what the headers of a request say about its sender.

use node::version::SPOKEN;

/// The oldest cluster that we take part in.
pub(super) const MIN_CLUSTER_VERSION: &str = "2.2.0";

/// Versions besides our own of which we know that they serve both streams.
const STREAMING: [(u64, u64); 3] = [(2, 1), (2, 2), (2, 3)];

/// A version by which compatibility is decided.
pub(super) type MajorMinor = (u64, u64);

/// A header that is no version. The original ends the connection without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoVersion;

/// Reads a version header; one that is missing is that of etcd 2.0.
pub(super) fn parse(header: Option<&str>) -> Result<MajorMinor, NoVersion> {
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

/// Why a sender and we do not go together, as the log has it.
pub(super) fn incompatibility(server: MajorMinor, min_cluster: MajorMinor) -> Option<&'static str> {
    // Both constants are versions.
    if server < parse(Some(MIN_CLUSTER_VERSION)).unwrap_or_default() {
        Some("remote version is too low")
    } else if min_cluster > parse(Some(SPOKEN)).unwrap_or_default() {
        Some("local version is too low")
    } else {
        None
    }
}

/// Whether a server of that version has the streams we ask for.
pub(super) fn serves_streams(server: MajorMinor) -> bool {
    server >= parse(Some(SPOKEN)).unwrap_or_default() || STREAMING.contains(&server)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_three_numbers() {
        assert_eq!(parse(Some("2.3.8")), Ok((2, 3)));
        assert_eq!(parse(Some("2.3.0-alpha.0+git")), Ok((2, 3)));
        assert_eq!(parse(None), Ok((2, 0)));
        for bad in ["2.3", "x", "2.3.8.1", "2.-3.8", "2..8", "v2.3.8"] {
            assert_eq!(parse(Some(bad)), Err(NoVersion), "{bad}");
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
}
