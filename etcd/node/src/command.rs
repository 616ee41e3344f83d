//! The commands that entries of the log hold, and their outcomes.

use bytes::BytesMut;
use shared::error::ApiError;
use shared::event::Event;
use shared::v2::{self, Verb};
use shared::v3::internal::InternalRequest;

use crate::member::RequestId;
use crate::v3;

/// A command: an API proposes it, an entry holds it, and the state machine applies it.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A new leader's first entry. It changes nothing.
    Nothing,
    /// A request of the v2 API.
    V2(v2::Request),
    /// A request of the v3 API.
    V3(Box<InternalRequest>),
}

impl Command {
    /// The command that removes the keys that expired before `time` (Unix nanoseconds of the leader's clock).
    #[must_use]
    pub fn expire(time: i64) -> Command {
        Command::V2(v2::Request { verb: Verb::Sync, time, ..v2::Request::default() })
    }

    /// A command that changes nothing and takes its place in the log: a read of the version of the cluster.
    pub(crate) fn read_point() -> Command {
        let path = crate::member::VERSION_PATH.into();
        Command::V2(v2::Request { verb: Verb::QuorumGet, path, ..v2::Request::default() })
    }

    /// Whether it only reads: then it may be applied twice.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Command::Nothing => true,
            Command::V2(request) => request.verb == Verb::QuorumGet,
            // What only reads in v3 waits for its read index, and takes no entry.
            Command::V3(_) => false,
        }
    }

    /// Sets the id that identifies the waiting client.
    pub(crate) fn set_id(&mut self, id: RequestId) {
        match self {
            Command::Nothing => {}
            Command::V2(request) => request.id = id,
            Command::V3(request) => request.id = id,
        }
    }

    /// Appends its bytes in the log to `out`.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Command::Nothing => {}
            Command::V2(request) => {
                out.reserve(request.encoded_len_max());
                request.encode(out);
            }
            Command::V3(request) => out.extend_from_slice(&request.encode_to_vec()),
        }
    }
}

impl From<v2::Request> for Command {
    fn from(request: v2::Request) -> Command {
        Command::V2(request)
    }
}

/// The outcome of a command, equal on every member.
#[derive(Debug)]
pub enum Outcome {
    /// The event of a v2 request, or its error.
    V2(Result<Event, ApiError>),
    /// The answer to a v3 request, or its error.
    V3(Box<Result<v3::Response, v3::Error>>),
}
