//! What can go wrong between a client and its cluster.
//!
//! The texts are those of the original client: scripts look for them.

use std::fmt::Write as _;

use serde::Deserialize;

use crate::net::{DialError, TlsFailure, TlsFileError};

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No endpoint gave a usable answer; the error of each.
    #[error("client: etcd cluster is unavailable or misconfigured")]
    Unavailable(Vec<RequestError>),
    /// There are no endpoints: the members publish no client URLs.
    #[error("client: no endpoints available")]
    NoEndpoints,
    /// The time for the whole call is over. Callers who set a limit report it so.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    /// The cluster refused the request.
    #[error(transparent)]
    Api(#[from] ApiFailure),
    /// The answer is not JSON, or not that of an etcd.
    #[error("client: response is invalid json. The endpoint is probably not valid etcd cluster endpoint.")]
    InvalidJson,
    /// The answer has no body where one is needed.
    #[error("client: response body is empty")]
    EmptyBody,
    /// A status that the call does not know.
    #[error("unexpected status code {0}")]
    UnexpectedStatus(u16),
    /// The text of a refused administrative call.
    #[error("{0}")]
    Refused(String),
    /// A text that is not a URL.
    #[error("{0}")]
    Url(String),
    /// Certificates or keys that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// The cluster's addresses are not in the DNS.
    #[error("{0}")]
    Discovery(String),
    /// One request outside of the cluster's usual calls failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl ClientError {
    /// One line for each endpoint that was tried, for [`ClientError::Unavailable`].
    pub fn detail(&self) -> Option<String> {
        let ClientError::Unavailable(errors) = self else { return None };
        let mut out = String::new();
        for (number, error) in errors.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "error #{number}: {error}");
        }
        Some(out)
    }

    /// Whether no endpoint could be reached at all.
    pub fn is_connection(&self) -> bool {
        match self {
            ClientError::Unavailable(errors) => errors.iter().all(RequestError::is_connection),
            ClientError::Request(error) => error.is_connection(),
            ClientError::DeadlineExceeded => true,
            _ => false,
        }
    }
}

/// A refusal of the keys API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{code}: {message} ({cause}) [{index}]")]
pub struct ApiFailure {
    /// The number of the error: 100 is a missing key.
    #[serde(rename = "errorCode", default)]
    pub code: u16,
    /// The error's own text.
    #[serde(default)]
    pub message: String,
    /// Its cause: a key, or the compared values.
    #[serde(default)]
    pub cause: String,
    /// The store's index when it answered.
    #[serde(default)]
    pub index: u64,
}

/// One request to one endpoint that failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The host's name has no address.
    #[error("dial tcp: lookup {host}: {reason}")]
    Lookup {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No connection.
    #[error("dial tcp {address}: {reason}")]
    Dial {
        /// The address tried.
        address: String,
        /// What the system said.
        reason: String,
        /// Its kind.
        kind: std::io::ErrorKind,
    },
    /// The connection broke.
    #[error("read tcp {address}: {reason}")]
    Read {
        /// The other side.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The other side hung up before its answer was complete.
    #[error("unexpected EOF from {address}")]
    Eof {
        /// The other side.
        address: String,
    },
    /// No head of an answer within the time for one request.
    #[error("client: endpoint {endpoint} exceeded header timeout")]
    HeaderTimeout {
        /// The endpoint.
        endpoint: String,
    },
    /// The member answers that it cannot serve (status 500 or 503).
    #[error("client: etcd member {endpoint} has no leader")]
    NoLeader {
        /// The endpoint.
        endpoint: String,
    },
    /// Another status from 500 on.
    #[error("client: etcd member {endpoint} returns server error [{status}]")]
    ServerError {
        /// The endpoint.
        endpoint: String,
        /// The status in words.
        status: String,
    },
    /// TLS could not be agreed on.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// The answer is not HTTP, or the request is not valid in HTTP.
    #[error("{0}")]
    Http(String),
    /// A URL with another scheme than `http` and `https`.
    #[error("unsupported protocol scheme \"{0}\"")]
    Scheme(String),
    /// More redirects than we follow.
    #[error("client: too many redirects")]
    TooManyRedirects,
    /// A redirect to nowhere.
    #[error("{0}")]
    Location(String),
    /// An answer larger than the limit.
    #[error("client: the answer of {endpoint} is larger than {limit} bytes")]
    TooLarge {
        /// The endpoint.
        endpoint: String,
        /// The limit.
        limit: usize,
    },
}

impl RequestError {
    /// Whether the other side could not be reached, or stopped to answer.
    pub fn is_connection(&self) -> bool {
        matches!(
            self,
            RequestError::Lookup { .. }
                | RequestError::Dial { .. }
                | RequestError::Read { .. }
                | RequestError::HeaderTimeout { .. }
        )
    }

    /// Whether the same request may succeed later.
    pub(super) fn may_pass(&self) -> bool {
        self.is_connection()
            || matches!(
                self,
                RequestError::Eof { .. } | RequestError::NoLeader { .. } | RequestError::ServerError { .. }
            )
    }
}

impl From<DialError> for RequestError {
    fn from(error: DialError) -> RequestError {
        match error {
            DialError::Lookup { host, reason } => RequestError::Lookup { host, reason },
            DialError::Connect { address, reason, kind } => RequestError::Dial { address, reason, kind },
            DialError::Broken { address, reason } => RequestError::Read { address, reason },
            DialError::Eof { address } => RequestError::Eof { address },
            DialError::Tls(failure) => RequestError::Tls(failure),
            error @ DialError::Port(_) => RequestError::Http(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::io_reason;

    #[test]
    fn a_failed_call_names_every_endpoint() {
        let refused = || RequestError::Dial {
            address: "127.0.0.1:1".into(),
            reason: io_reason(&std::io::Error::from_raw_os_error(111)),
            kind: std::io::ErrorKind::ConnectionRefused,
        };
        let error = ClientError::Unavailable(vec![
            refused(),
            RequestError::NoLeader { endpoint: "http://h:1".into() },
        ]);
        assert_eq!(
            error.detail().unwrap(),
            "error #0: dial tcp 127.0.0.1:1: connection refused\n\
             error #1: client: etcd member http://h:1 has no leader\n"
        );
        assert!(!error.is_connection());
        assert!(ClientError::Unavailable(vec![refused(), refused()]).is_connection());
        assert!(ClientError::InvalidJson.detail().is_none());
    }

    #[test]
    fn the_api_says_code_text_cause_and_index() {
        let failure: ApiFailure =
            serde_json::from_str(r#"{"errorCode":100,"message":"Key not found","cause":"/a","index":5}"#)
                .unwrap();
        assert_eq!(failure.to_string(), "100: Key not found (/a) [5]");
    }
}
