//! How deep a new key may be.
//!
//! A listing and a snapshot show each node with its whole path, so their size grows with the square of the depth: one
//! request of 64 KB could make a gigabyte of either. The limit is checked here, before anything is proposed, and
//! by a leader for what other members pass on, and never where the log is applied: all members must do alike, also with entries of a member that has another limit.
//! Keys that are deeper already are read, changed and deleted as before.

use shared::error::{ApiError, Code};
use shared::v2;

use crate::api::page::keys::refusal;

/// Refuses a write that could make a node more than `levels_max` levels below the root of the keys.
///
/// # Errors
/// 209, with the depth and the limit.
pub(super) fn check(request: &v2::Request, levels_max: usize) -> Result<(), ApiError> {
    request.levels_beyond(levels_max).map_or(Ok(()), |levels| Err(too_deep(levels, levels_max)))
}

/// The same for a node `more` levels below `path`, which has the store's prefix.
pub(super) fn check_levels(path: &[u8], more: usize, levels_max: usize) -> Result<(), ApiError> {
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
            assert_eq!(check(&deep(verb, most), 10), Ok(()), "{verb:?}");
            let error = check(&deep(verb, most + 1), 10).unwrap_err();
            assert_eq!(error.code, Code::InvalidField);
            let cause = "the key has 11 levels; at most 10 are taken (-max-key-depth)";
            assert_eq!(String::from_utf8(error.cause).unwrap(), cause);
        }
    }

    #[test]
    fn what_counts_are_names() {
        let path = format!("/1{}/x/", "//./d/../d".repeat(8));
        let request = v2::Request { path: path.into(), ..deep(Verb::Put, 0) };
        assert_eq!(check(&request, 9), Ok(()));
        assert!(check(&request, 8).is_err());
    }

    #[test]
    fn what_is_there_already_is_changed_and_deleted() {
        for verb in [Verb::Delete, Verb::QuorumGet] {
            assert_eq!(check(&deep(verb, 100), 10), Ok(()), "{verb:?}");
        }
        let put = || deep(Verb::Put, 100);
        assert_eq!(check(&v2::Request { prev_exist: Some(true), ..put() }, 10), Ok(()));
        assert_eq!(check(&v2::Request { prev_index: 7, ..put() }, 10), Ok(()));
        assert_eq!(check(&v2::Request { prev_value: "v".into(), ..put() }, 10), Ok(()));
        assert!(check(&v2::Request { prev_exist: Some(false), prev_index: 7, ..put() }, 10).is_err());
    }
}
