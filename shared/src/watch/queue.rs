//! The responses of a stream that were not sent yet.

use std::collections::VecDeque;
use std::task::Waker;

use parking_lot::Mutex;

use super::response::Response;

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The member lost its leader, and the client asked to be told.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// The member stops.
    #[error("etcdserver: server stopped")]
    Stopped,
}

/// The queue of a stream, which the hub fills and the stream empties.
#[derive(Debug, Default)]
pub(super) struct Queue(pub(super) Mutex<QueueState>);

#[derive(Debug, Default)]
pub(super) struct QueueState {
    pub(super) responses: VecDeque<Response>,
    /// About the bytes of all events in it.
    pub(super) bytes: usize,
    /// Who waits for a response.
    pub(super) reader: Option<Waker>,
    /// Who waits until more requests may be read.
    pub(super) room: Option<Waker>,
    /// Whether a watch has fallen behind because of this queue, and has to be told when there is room again.
    pub(super) overflowed: bool,
    pub(super) ended: Option<Ended>,
}

/// How much a queue holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) responses: usize,
    pub(super) bytes: usize,
}

impl Queue {
    /// Adds events, unless there is no room. One response fits in any case.
    pub(super) fn push_events(
        &self,
        response: Response,
        capacity: Capacity,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let size = response.size();
        let mut state = self.0.lock();
        let fits =
            state.responses.len() < capacity.responses && state.bytes.saturating_add(size) <= capacity.bytes;
        if !fits && !state.responses.is_empty() {
            state.overflowed = true;
            return false;
        }
        state.bytes += size;
        state.responses.push_back(response);
        wakers.extend(state.reader.take());
        true
    }

    /// Adds an answer to a request. There is at most one for each, and a stream with a full queue reads no requests.
    pub(super) fn push_answer(&self, response: Response, wakers: &mut Vec<Waker>) {
        let mut state = self.0.lock();
        state.responses.push_back(response);
        wakers.extend(state.reader.take());
    }

    /// Whether there is room for something that is only sent if there is.
    pub(super) fn has_room(&self, capacity: Capacity) -> bool {
        let state = self.0.lock();
        state.responses.len() < capacity.responses && state.bytes < capacity.bytes
    }

    /// Ends the stream: what was not sent will not be.
    pub(super) fn end(&self, ended: Ended, wakers: &mut Vec<Waker>) {
        let mut state = self.0.lock();
        state.ended.get_or_insert(ended);
        state.responses = VecDeque::new();
        state.bytes = 0;
        let state = &mut *state;
        wakers.extend(state.reader.take());
        wakers.extend(state.room.take());
    }
}

impl QueueState {
    /// Takes the first response; and whether watches that fell behind because of this queue can go on.
    pub(super) fn pop(&mut self, capacity: Capacity) -> Option<(Response, bool)> {
        let response = self.responses.pop_front()?;
        self.bytes = self.bytes.saturating_sub(response.size());
        if self.responses.is_empty() && self.responses.capacity() > 2 * capacity.responses {
            // A stream that began with many watches does not keep the room for all their answers.
            self.responses.shrink_to(capacity.responses);
        }
        let roomy = self.responses.len() <= capacity.responses / 2 && self.bytes <= capacity.bytes / 2;
        let resume = self.overflowed && roomy;
        if resume {
            self.overflowed = false;
        }
        Some((response, resume))
    }
}
