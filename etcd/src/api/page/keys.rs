//! What may be asked of the keys, in whichever API.

use http::Method;
use shared::error::{ApiError, Code};
use shared::time::UnixNanos;
use shared::v2;

use crate::auth;
use crate::transport::progress::Progress;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The expiration of what does not expire.
pub(crate) const NEVER: i64 = 0;

/// What is asked of the keys. After the parsers nobody asks again whether a parameter makes sense.
#[derive(Debug, PartialEq)]
pub(crate) enum KeysRequest {
    /// Of this member's store, as it is.
    Read { path: Vec<u8>, recursive: bool, sorted: bool },
    /// The event with index `since`, or the next one if that is 0.
    Watch { path: Vec<u8>, recursive: bool, stream: bool, since: u64, progress: Progress },
    /// Through the log: a write, or a read that must not be stale.
    Write(v2::Request),
}

/// Which API a client of the keys speaks.
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
    /// Whether it has anything for this method.
    pub(crate) fn knows(self, method: &Method) -> bool {
        match *method {
            Method::GET | Method::HEAD | Method::POST => true,
            Method::PUT | Method::DELETE => self != Api::V1Watch,
            _ => false,
        }
    }

    /// Whether a request of this method takes the right to write.
    pub(crate) fn writes(self, method: &Method) -> bool {
        self != Api::V1Watch && !auth::only_reads(method)
    }
}

/// The path in the store of a key: with its prefix, without a slash at the end.
pub(crate) fn store_path(rest: &[u8]) -> Vec<u8> {
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    let mut path = Vec::with_capacity(2 + rest.len());
    path.extend_from_slice(b"/1");
    path.extend_from_slice(rest);
    path
}

/// When a key with this many seconds to live expires, as the log has it; 0 for never.
///
/// The log counts nanoseconds in 64 bits, until April 2262. A later time is never. The original wraps around: most such
/// times are never there too, and some are now.
pub(crate) fn expiration(now: UnixNanos, seconds: u64) -> i64 {
    let nanos = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(NANOS_PER_SECOND));
    nanos.and_then(|nanos| now.0.checked_add(nanos)).unwrap_or(NEVER)
}

/// An error of a request that the store never saw.
pub(crate) fn refusal(code: Code, cause: &str) -> ApiError {
    ApiError::new(code, cause, 0)
}
