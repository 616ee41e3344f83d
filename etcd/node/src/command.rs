//! What an entry of the log asks of the replicated state, and what came of it.

use bytes::BytesMut;
use shared::error::ApiError;
use shared::event::Event;
use shared::v2::{self, Verb};

use crate::member::RequestId;

/// A command: what an API proposes, what an entry holds and what the state machine applies.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A new leader's first entry. It changes nothing.
    Nothing,
    /// A request of the v2 API.
    V2(v2::Request),
}

impl Command {
    /// The command that lets time pass: keys that expired before `time` (Unix nanoseconds, the leader's clock) go.
    #[must_use]
    pub fn expire(time: i64) -> Command {
        Command::V2(v2::Request { verb: Verb::Sync, time, ..v2::Request::default() })
    }

    /// Whether it only reads, so that it may be applied twice.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Command::Nothing => true,
            Command::V2(request) => request.verb == Verb::QuorumGet,
        }
    }

    /// Gives it the id by which its client is found again.
    pub(crate) fn set_id(&mut self, id: RequestId) {
        match self {
            Command::Nothing => {}
            Command::V2(request) => request.id = id,
        }
    }

    /// Writes it as it stands in the log.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Command::Nothing => {}
            Command::V2(request) => {
                out.reserve(request.encoded_len_max());
                request.encode(out);
            }
        }
    }
}

impl From<v2::Request> for Command {
    fn from(request: v2::Request) -> Command {
        Command::V2(request)
    }
}

/// What a command came to; the same on every member.
#[derive(Debug)]
pub enum Outcome {
    /// The event of a v2 request, or why there is none.
    V2(Result<Event, ApiError>),
}
