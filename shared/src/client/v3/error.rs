//! The error of a call, in the words of the original's client.

use std::error::Error as _;

use tonic::Status;

use super::channel::ChannelError;

pub use tonic::Code;

/// What etcd's own errors begin with.
const ETCD: &str = "etcdserver: ";

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// The server refused the call or could not carry it out.
    ///
    /// An error that is etcd's own is its text alone; of others the code is shown too.
    #[error("{}", text(*.code, .message))]
    Server {
        /// The gRPC status.
        code: Code,
        /// Its text.
        message: String,
    },
    /// The connection broke after the request was sent: it may have been carried out.
    #[error("rpc error: code = Unavailable desc = {0}")]
    Broken(String),
    /// The caller's time was over.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    /// The server ended a stream that goes on.
    #[error("the server ended the stream")]
    Ended,
}

fn text(code: Code, message: &str) -> String {
    // The original's client does not know some errors that have no code of their own.
    if code != Code::Unknown && message.starts_with(ETCD) {
        return message.to_owned();
    }
    format!("rpc error: code = {code:?} desc = {message}")
}

impl RpcError {
    /// Whether it is the server's answer and has exactly this text.
    pub fn is(&self, text: &str) -> bool {
        matches!(self, RpcError::Server { message, .. } if message == text)
    }

    /// Whether the call can be made again, if making it twice does no harm.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self, RpcError::Broken(_) | RpcError::Server { code: Code::Unavailable, .. })
    }
}

impl From<Status> for RpcError {
    fn from(status: Status) -> RpcError {
        let mut source = status.source();
        while let Some(error) = source {
            if let Some(ChannelError::Broken(reason)) = error.downcast_ref::<ChannelError>() {
                return RpcError::Broken(reason.clone());
            }
            // An answer that ends in the middle.
            if error.is::<hyper::Error>() {
                return RpcError::Broken(error.to_string());
            }
            source = error.source();
        }
        RpcError::Server { code: status.code(), message: status.message().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_etcd_are_their_text_alone() {
        for (code, message, text) in [
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                "etcdserver: requested lease not found",
            ),
            (
                Code::Unknown,
                "auth: permission denied",
                "rpc error: code = Unknown desc = auth: permission denied",
            ),
            (
                Code::Unknown,
                "etcdserver: too many requests",
                "rpc error: code = Unknown desc = etcdserver: too many requests",
            ),
            (Code::Internal, "x", "rpc error: code = Internal desc = x"),
        ] {
            assert_eq!(RpcError::from(Status::new(code, message)).to_string(), text);
        }
    }

    #[test]
    fn a_broken_connection_is_told_from_an_answer() {
        let status = Status::from_error(Box::new(ChannelError::Broken("reset".to_owned())));
        let error = RpcError::from(status);
        assert_eq!(error, RpcError::Broken("reset".to_owned()));
        assert!(error.is_transient());
        assert!(!RpcError::from(Status::permission_denied("etcdserver: permission denied")).is_transient());
        assert!(RpcError::from(Status::unavailable("etcdserver: no leader")).is_transient());
    }
}
