//! The numbered errors of the v2 API: code, text, HTTP status and JSON form, as etcd 2.3.8 has them.
//!
//! An [`ApiError`] is caused by the client's request. It is a part of the answer and equal on every member, so the
//! store may return it from `apply`.

use std::borrow::Cow;
use std::fmt;

use crate::json;

/// The prefix under which the store keeps the client's keys; clients never see it.
pub const KEYS_PREFIX: &[u8] = b"/1";

/// `path` as clients see it: without [`KEYS_PREFIX`].
pub fn client_path(path: &[u8]) -> &[u8] {
    path.strip_prefix(KEYS_PREFIX).unwrap_or(path)
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $status:literal, $text:literal;)*) => {
        /// What kind of error it is; the number is `errorCode` in the answer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [Code] = &[$(Code::$name),*];

            /// The text in the field `message` of the answer.
            pub fn message(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)*
                }
            }

            /// The HTTP status of an answer with this error.
            pub fn http_status(self) -> u16 {
                match self {
                    $(Code::$name => $status,)*
                }
            }

            /// The kind with this number.
            pub fn from_number(number: u16) -> Option<Code> {
                match number {
                    $($number => Some(Code::$name),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    /// No such key; the cause is the first element of the path that is missing.
    KeyNotFound = 100, 404, "Key not found";
    /// `prevValue` or `prevIndex` did not match; the cause says `[wanted != found]`.
    CompareFailed = 101, 412, "Compare failed";
    /// A directory where a key is needed.
    NotFile = 102, 403, "Not a file";
    /// Of 0.4.
    NoMorePeer = 103, 400, "Reached the max number of peers in the cluster";
    /// A key where a directory is needed.
    NotDir = 104, 400, "Not a directory";
    /// A creation of what exists.
    NodeExist = 105, 412, "Key already exists";
    /// Of 0.4.
    KeyIsPreserved = 106, 400, "The prefix of given key is a keyword in etcd";
    /// A write to `/`, `/0` or `/1` of the store.
    RootReadOnly = 107, 400, "Root is read only";
    /// A plain delete of a directory that has children.
    DirNotEmpty = 108, 403, "Directory not empty";
    /// Of 0.4.
    ExistingPeerAddr = 109, 400, "Peer address has existed";
    /// Not allowed by auth.
    Unauthorized = 110, 401, "The request requires user authentication";

    /// Of 0.4.
    ValueRequired = 200, 400, "Value is Required in POST form";
    /// `prevValue` was given and empty.
    PrevValueRequired = 201, 400, "PrevValue is Required in POST form";
    /// `ttl` is no number.
    TtlNaN = 202, 400, "The given TTL in POST form is not a number";
    /// `prevIndex` or `waitIndex` is no number.
    IndexNaN = 203, 400, "The given index in POST form is not a number";
    /// Of 0.4.
    ValueOrTtlRequired = 204, 400, "Value or TTL is required in POST form";
    /// Of 0.4.
    TimeoutNaN = 205, 400, "The given timeout in POST form is not a number";
    /// Of 0.4.
    NameRequired = 206, 400, "Name is required in POST form";
    /// Of 0.4.
    IndexOrValueRequired = 207, 400, "Index or value is required";
    /// Of 0.4.
    IndexValueMutex = 208, 400, "Index and value cannot both be specified";
    /// A parameter has a value that it cannot have.
    InvalidField = 209, 400, "Invalid field";
    /// The form cannot be parsed.
    InvalidForm = 210, 400, "Invalid POST form";
    /// `refresh` together with a value.
    RefreshValue = 211, 400, "Value provided on refresh";
    /// `refresh` without a `ttl`.
    RefreshTtlRequired = 212, 400, "A TTL must be provided on refresh";

    /// Consensus failed: a timeout or a missing leader.
    RaftInternal = 300, 500, "Raft Internal Error";
    /// There is no leader at present.
    LeaderElect = 301, 500, "During Leader Election";

    /// The watch ended because the store was replaced.
    WatcherCleared = 400, 400, "watcher is cleared due to etcd recovery";
    /// `waitIndex` is older than the history.
    EventIndexCleared = 401, 400, "The event in requested index is outdated and cleared";
    /// Of 0.4.
    StandbyInternal = 402, 400, "Standby Internal Error";
    /// Of 0.4.
    InvalidActiveSize = 403, 400, "Invalid active size";
    /// Of 0.4.
    InvalidRemoveDelay = 404, 400, "Standby remove delay";

    /// Of clients.
    ClientInternal = 500, 400, "Client Internal Error";
}

impl Code {
    /// The number in the field `errorCode` of the answer.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// An error of the API: its code, its cause, and the store's index at that time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Which error.
    pub code: Code,
    /// The cause: a path of the store, a comparison, a sentence; may be empty, and need not be UTF-8.
    pub cause: Vec<u8>,
    /// The store's index at that time, 0 if the store was not used. Also the `X-Etcd-Index` header.
    pub index: u64,
}

impl ApiError {
    /// An error about `cause` at the store's index `index`.
    pub fn new(code: Code, cause: impl Into<Vec<u8>>, index: u64) -> ApiError {
        ApiError { code, cause: cause.into(), index }
    }

    /// The number in the field `errorCode`.
    pub fn code(&self) -> u16 {
        self.code.number()
    }

    /// The text in the field `message`.
    pub fn message(&self) -> &'static str {
        self.code.message()
    }

    /// The status of the answer.
    pub fn http_status(&self) -> u16 {
        self.code.http_status()
    }

    /// The cause as clients see it: a path without the store's own prefix.
    pub fn client_cause(&self) -> &[u8] {
        client_path(&self.cause)
    }

    /// The body of the answer as clients see it, without the final newline.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96 + self.cause.len());
        self.write_json(&mut out);
        out
    }

    /// Appends what [`to_json`](Self::to_json) returns.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"errorCode\":");
        json::write_u64(out, u64::from(self.code()));
        out.extend_from_slice(b",\"message\":");
        json::write_string(out, self.message().as_bytes());
        let cause = self.client_cause();
        if !cause.is_empty() {
            out.extend_from_slice(b",\"cause\":");
            json::write_string(out, cause);
        }
        out.extend_from_slice(b",\"index\":");
        json::write_u64(out, self.index);
        out.push(b'}');
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause: Cow<'_, str> = String::from_utf8_lossy(&self.cause);
        write!(f, "{} ({cause})", self.message())
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_members_in_order_and_no_empty_cause() {
        let error = ApiError::new(Code::KeyNotFound, "/1/a", 5);
        let json = String::from_utf8(error.to_json()).unwrap();
        assert_eq!(json, r#"{"errorCode":100,"message":"Key not found","cause":"/a","index":5}"#);
        let error = ApiError::new(Code::NotFile, "/1", 7);
        let json = String::from_utf8(error.to_json()).unwrap();
        assert_eq!(json, r#"{"errorCode":102,"message":"Not a file","index":7}"#);
    }

    #[test]
    fn a_cause_may_hold_any_bytes() {
        let error = ApiError::new(Code::CompareFailed, *b"[<\xff> != \xef\xbf\xbd]", 1);
        let json = String::from_utf8(error.to_json()).unwrap();
        assert_eq!(
            json,
            "{\"errorCode\":101,\"message\":\"Compare failed\",\"cause\":\"[\\u003c\\ufffd\\u003e != \u{fffd}]\",\"index\":1}"
        );
        assert_eq!(error.to_string(), "Compare failed ([<\u{fffd}> != \u{fffd}])");
    }

    #[test]
    fn numbers_lead_back_to_codes() {
        for code in Code::ALL {
            assert_eq!(Code::from_number(code.number()), Some(*code));
        }
        assert_eq!(Code::ALL.len(), 32);
        assert_eq!(Code::from_number(111), None);
        assert!(Code::ALL.is_sorted_by_key(|code| code.number()));
    }

    #[test]
    fn most_codes_answer_400() {
        let others: Vec<_> = Code::ALL
            .iter()
            .filter(|code| code.http_status() != 400)
            .map(|code| (code.number(), code.http_status()))
            .collect();
        assert_eq!(
            others,
            [(100, 404), (101, 412), (102, 403), (105, 412), (108, 403), (110, 401), (300, 500), (301, 500)]
        );
    }
}
