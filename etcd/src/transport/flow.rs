//! The state of a connection, shared by the side that owns the socket and the side that answers requests.
//!
//! Both sides run in one task, so the atomics are never contended; they only make sharing possible.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::takeover::{PendingAnswer, Takeover};
use super::watch::Watch;
use crate::connections::{Activity, ClientPresence, Phase};

/// Used instead of a length for a chunked body.
const IN_CHUNKS: u64 = u64::MAX;

/// What the socket side waits for before it passes on more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// The library has parsed the head.
    Parsed = 1,
    /// No request is being answered, and all responses are sent.
    Idle = 2,
}

/// The state of a connection.
#[derive(Default)]
pub(crate) struct Flow {
    /// A part of a head was passed to the HTTP library, which has not parsed it yet.
    in_head: AtomicBool,
    /// Bytes passed to the library since the beginning of the last request.
    delivered: AtomicU64,
    /// Bytes of the body arrived together with the head.
    is_followed: AtomicBool,
    /// The length of the last request's body, or [`IN_CHUNKS`].
    body: AtomicU64,
    /// The [`Until`] that must happen before the library may have more bytes; 0 for none.
    postponed: AtomicU8,
    /// Bytes were written that the library has not flushed yet.
    unflushed: AtomicBool,
    /// Counts reads, writes and requests. Only changes of this number matter.
    activity: AtomicU32,
    /// A request is being answered.
    answering: AtomicBool,
    /// The request's body is being read.
    reading_body: AtomicBool,
    /// The response leaves input unread: before the socket closes, the client needs time to read the response.
    lingers: AtomicBool,
    /// A request line is incomplete, and not passed to the library.
    holding: AtomicBool,
    /// A head has more lines than the current parser has room for.
    crowded: AtomicBool,
    /// Counts requests whose heads were read.
    requests_begun: AtomicU32,
    /// Whether the client is still connected.
    client: ClientPresence,
    /// The response comes piece by piece as events do, so a client that leaves must be noticed between two of them.
    streaming: AtomicBool,
    takeover_waits: AtomicBool,
    takeover: Mutex<Option<Takeover>>,
    /// Reports the state to [`ConnectionSlots`](crate::connections::ConnectionSlots), which closes connections to
    /// make room.
    connection: Option<Arc<Activity>>,
}

impl Flow {
    /// The state at the first byte of a connection or of a later request.
    pub(super) fn new(connection: Arc<Activity>) -> Flow {
        connection.enter(Phase::Arriving);
        Flow { connection: Some(connection), ..Flow::default() }
    }

    fn enter(&self, phase: Phase) {
        if let Some(connection) = &self.connection {
            connection.enter(phase);
        }
    }

    // The socket side.

    /// Records that bytes are passed to the library. `is_first` if a request begins with them.
    pub(super) fn delivers(&self, bytes: usize, is_first: bool) {
        self.moves();
        if is_first {
            self.in_head.store(true, Relaxed);
            self.is_followed.store(false, Relaxed);
            self.delivered.store(0, Relaxed);
            if !self.answering.load(Relaxed) {
                self.enter(Phase::Arriving);
            }
        } else if self.reading_body.load(Relaxed) {
            self.enter(Phase::Receiving);
        }
        self.delivered.store(self.delivered.load(Relaxed) + bytes as u64, Relaxed);
    }

    /// Records that bytes follow the head that was passed on.
    pub(super) fn follows(&self) {
        self.is_followed.store(true, Relaxed);
    }

    /// Whether the library has a head that it has not parsed yet.
    pub(super) fn is_in_head(&self) -> bool {
        self.in_head.load(Relaxed)
    }

    /// The length of the last request's body; `None` if it is chunked.
    pub(super) fn body(&self) -> Option<u64> {
        Some(self.body.load(Relaxed)).filter(|bytes| *bytes != IN_CHUNKS)
    }

    /// Records that the library must be polled again after `until`, because bytes wait.
    pub(super) fn postpones(&self, until: Until) {
        self.postponed.store(until as u8, Relaxed);
    }

    /// Records whether an incomplete request line is held back.
    pub(super) fn holds(&self, holding: bool) {
        self.holding.store(holding, Relaxed);
        if holding {
            // Bytes that came before do not count for this request.
            self.delivered.store(0, Relaxed);
        }
    }

    /// Records that a head needs a parser with more room.
    pub(super) fn crowds(&self) {
        self.crowded.store(true, Relaxed);
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Relaxed)
    }

    /// Records that there are bytes to write.
    pub(super) fn writes(&self) {
        self.unflushed.store(true, Relaxed);
    }

    /// Records that bytes were written.
    pub(super) fn wrote(&self) {
        self.moves();
    }

    pub(super) fn flushed(&self) {
        self.unflushed.store(false, Relaxed);
    }

    /// Whether the client is still connected: the answering side requests it, the socket side finds out.
    pub(crate) fn client(&self) -> &ClientPresence {
        &self.client
    }

    // The answering side.

    /// Records that a head was parsed. `body` is the length of the body in bytes; `None` if it is chunked.
    pub(crate) fn begins(&self, body: Option<u64>) {
        self.moves();
        self.in_head.store(false, Relaxed);
        self.body.store(body.unwrap_or(IN_CHUNKS), Relaxed);
        self.answering.store(true, Relaxed);
        self.requests_begun.store(self.requests_begun.load(Relaxed).wrapping_add(1), Relaxed);
        self.enter(Phase::Busy);
    }

    pub(super) fn reads_body(&self, reads: bool) {
        self.reading_body.store(reads, Relaxed);
        self.enter(if reads { Phase::Receiving } else { Phase::Busy });
    }

    /// Whether some of the body arrived together with the head.
    pub(crate) fn has_body_begun(&self) -> bool {
        self.is_followed.load(Relaxed)
    }

    /// Records that the request is answered.
    pub(crate) fn ends(&self) {
        self.answering.store(false, Relaxed);
        self.enter(Phase::Idle);
    }

    /// Records whether the response is a stream of events.
    pub(super) fn streams(&self, streams: bool) {
        self.streaming.store(streams, Relaxed);
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.streaming.load(Relaxed)
    }

    pub(crate) fn leaves_unread(&self) {
        self.lingers.store(true, Relaxed);
    }

    /// Lets a watch take the connection over.
    pub(crate) fn hand_over_to_watch(&self, watch: Watch) {
        self.takes_over(Takeover::Watch(Box::new(watch)));
    }

    /// Lets a pending answer take the connection over.
    pub(crate) fn hand_over_to_answer(&self, pending: PendingAnswer) {
        self.takes_over(Takeover::Wait(Box::new(pending)));
    }

    fn takes_over(&self, takeover: Takeover) {
        *self.takeover.lock() = Some(takeover);
        self.takeover_waits.store(true, Relaxed);
    }

    // The owner of the connection.

    /// Whether there is a takeover and all earlier responses are written.
    pub(super) fn is_taken_over(&self) -> bool {
        self.takeover_waits.load(Relaxed) && !self.unflushed.load(Relaxed)
    }

    pub(super) fn take_over(&self) -> Option<Takeover> {
        self.takeover.lock().take()
    }

    /// Whether the library has to be polled again, because what it had to wait for has happened.
    pub(super) fn resumes(&self) -> bool {
        let postponed = self.postponed.load(Relaxed);
        let resumes = (postponed == Until::Parsed as u8 && !self.in_head.load(Relaxed))
            || (postponed == Until::Idle as u8 && self.is_idle());
        if resumes {
            self.postponed.store(0, Relaxed);
        }
        resumes
    }

    pub(super) fn activity(&self) -> u32 {
        self.activity.load(Relaxed)
    }

    /// Whether no request is being answered and all responses are sent.
    pub(super) fn is_idle(&self) -> bool {
        !self.answering.load(Relaxed) && !self.unflushed.load(Relaxed)
    }

    /// Whether the connection can be closed for another one without losing a response.
    pub(super) fn can_be_spared(&self) -> bool {
        self.is_idle() || self.reading_body.load(Relaxed)
    }

    /// Whether only a part of a request has arrived.
    pub(super) fn is_arriving(&self) -> bool {
        self.in_head.load(Relaxed) || self.holding.load(Relaxed) || self.reading_body.load(Relaxed)
    }

    /// The number of requests so far; it tells one request from the next.
    pub(super) fn requests_begun(&self) -> u32 {
        self.requests_begun.load(Relaxed)
    }

    /// Bytes that arrived since the beginning of the last request.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }

    /// Whether progress depends on the client.
    pub(super) fn waits_for_client(&self) -> bool {
        self.unflushed.load(Relaxed) || self.reading_body.load(Relaxed)
    }

    pub(super) fn lingers(&self) -> bool {
        self.lingers.load(Relaxed)
    }

    fn moves(&self) {
        // No read-modify-write: there is only one task.
        self.activity.store(self.activity.load(Relaxed).wrapping_add(1), Relaxed);
    }
}
