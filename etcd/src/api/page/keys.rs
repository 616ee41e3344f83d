//! Requests for keys, in any API.

use http::Method;
use shared::error::{ApiError, Code};
use shared::time::UnixNanos;
use shared::v2;

use crate::auth;
use crate::transport::progress::ProgressInterval;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The expiration of a key that does not expire.
pub(crate) const NEVER: i64 = 0;

/// A parsed request for keys. Its parameters are valid.
#[derive(Debug, PartialEq)]
pub(crate) enum KeysRequest {
    /// A read of this member's store.
    Read { path: Vec<u8>, recursive: bool, sorted: bool },
    /// A watch from the event with index `since` on, or from the next one if that is 0.
    Watch { path: Vec<u8>, recursive: bool, stream: bool, since: u64, progress: ProgressInterval },
    /// A write or a quorum read.
    Write(v2::Request),
}

/// The API of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    /// `/v2/keys`
    V2,
    /// `/v1/keys`
    V1Keys,
    /// `/v1/watch`
    V1Watch,
}

impl Api {
    /// Whether it supports this method.
    pub(crate) fn knows(self, method: &Method) -> bool {
        match *method {
            Method::GET | Method::HEAD | Method::POST => true,
            Method::PUT | Method::DELETE => self != Api::V1Watch,
            _ => false,
        }
    }

    /// Whether a request with this method needs the permission to write.
    pub(crate) fn writes(self, method: &Method) -> bool {
        self != Api::V1Watch && !auth::only_reads(method)
    }
}

/// The path of a key in the store: with its prefix, without a slash at the end.
pub(crate) fn store_path(rest: &[u8]) -> Vec<u8> {
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    let mut path = Vec::with_capacity(2 + rest.len());
    path.extend_from_slice(b"/1");
    path.extend_from_slice(rest);
    path
}

/// The expiration of a key with this time to live, as the log has it; 0 for never.
///
/// The log counts nanoseconds in 64 bits, until April 2262. A later time means never. The original wraps around: most
/// such times mean never there too, and some mean now.
pub(crate) fn expiration(now: UnixNanos, seconds: u64) -> i64 {
    let nanos = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(NANOS_PER_SECOND));
    nanos.and_then(|nanos| now.0.checked_add(nanos)).unwrap_or(NEVER)
}

/// An error before the store was involved.
pub(crate) fn refusal(code: Code, cause: &str) -> ApiError {
    ApiError::new(code, cause, 0)
}

/// Refuses a write that could make a node more than `levels_max` levels below the root of the keys.
///
/// A listing and a snapshot have the whole path of each node, so their size grows with the square of the depth: one
/// request of 64 KB could make a gigabyte of either. The limit is checked before a request is proposed, and by a
/// leader for requests from other members. It is never checked when an entry is applied: all members must do the
/// same, also for entries of a member with another limit. Deeper keys that exist already can be read, changed and
/// deleted.
///
/// # Errors
/// 209, with the depth and the limit.
pub(crate) fn check_depth(request: &v2::Request, levels_max: usize) -> Result<(), ApiError> {
    request.levels_beyond(levels_max).map_or(Ok(()), |levels| Err(too_deep(levels, levels_max)))
}

/// The same for a node `more` levels below `path`, a path of the store.
pub(crate) fn check_levels(path: &[u8], more: usize, levels_max: usize) -> Result<(), ApiError> {
    v2::levels_beyond(path, more, levels_max).map_or(Ok(()), |levels| Err(too_deep(levels, levels_max)))
}

fn too_deep(levels: usize, levels_max: usize) -> ApiError {
    let cause = format!("the key has {levels} levels; at most {levels_max} are taken (-max-key-depth)");
    refusal(Code::InvalidField, &cause)
}

#[cfg(test)]
mod tests {
    use shared::v2::Verb;

    use super::*;

    fn deep(verb: Verb, levels: usize) -> v2::Request {
        let path = format!("/1{}", "/d".repeat(levels)).into();
        v2::Request { verb, path, ..v2::Request::default() }
    }

    #[test]
    fn a_new_key_may_be_as_deep_as_the_limit() {
        for (verb, most) in [(Verb::Put, 10), (Verb::Post, 9)] {
            assert_eq!(check_depth(&deep(verb, most), 10), Ok(()), "{verb:?}");
            let error = check_depth(&deep(verb, most + 1), 10).unwrap_err();
            assert_eq!(error.code, Code::InvalidField);
            let cause = "the key has 11 levels; at most 10 are taken (-max-key-depth)";
            assert_eq!(String::from_utf8(error.cause).unwrap(), cause);
        }
    }

    #[test]
    fn what_counts_are_names() {
        let path = format!("/1{}/x/", "//./d/../d".repeat(8));
        let request = v2::Request { path: path.into(), ..deep(Verb::Put, 0) };
        assert_eq!(check_depth(&request, 9), Ok(()));
        assert!(check_depth(&request, 8).is_err());
    }

    #[test]
    fn what_is_there_already_is_changed_and_deleted() {
        for verb in [Verb::Delete, Verb::QuorumGet] {
            assert_eq!(check_depth(&deep(verb, 100), 10), Ok(()), "{verb:?}");
        }
        let put = || deep(Verb::Put, 100);
        assert_eq!(check_depth(&v2::Request { prev_exist: Some(true), ..put() }, 10), Ok(()));
        assert_eq!(check_depth(&v2::Request { prev_index: 7, ..put() }, 10), Ok(()));
        assert_eq!(check_depth(&v2::Request { prev_value: "v".into(), ..put() }, 10), Ok(()));
        assert!(check_depth(&v2::Request { prev_exist: Some(false), prev_index: 7, ..put() }, 10).is_err());
    }
}
