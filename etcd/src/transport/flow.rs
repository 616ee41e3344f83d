//! Where a connection stands: what its socket's side and its answering side know of each other.
//!
//! Both sides live in one task, so the atomics are never contended; they only let the two share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::takeover::{PendingAnswer, Takeover};
use super::watch::Watch;
use crate::connections::{Activity, ClientPresence, Phase};

/// Instead of a length.
const IN_CHUNKS: u64 = u64::MAX;

/// What the socket's side waits for before it gives the HTTP library more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// A head is parsed.
    Parsed = 1,
    /// Nothing is being answered, and all answers have left.
    Idle = 2,
}

/// Where a connection stands.
#[derive(Default)]
pub(crate) struct Flow {
    /// Something of a head was handed to the HTTP library, which has not parsed it yet.
    in_head: AtomicBool,
    /// Bytes handed to the library since the last request's first one.
    delivered: AtomicU64,
    /// Something came along with the head, behind it.
    is_followed: AtomicBool,
    /// How long the body of the last request is; [`IN_CHUNKS`] if its end tells.
    body: AtomicU64,
    /// What must happen before the library can be given more, an [`Until`]; 0 for nothing.
    postponed: AtomicU8,
    /// Bytes were written that the library has not seen off yet.
    unflushed: AtomicBool,
    /// Counts reads, writes and requests; it only matters whether it moves.
    activity: AtomicU32,
    /// A request is being answered.
    answering: AtomicBool,
    /// The request's body is being read.
    reading_body: AtomicBool,
    /// The answer leaves input unread: the client must get a chance to read it before the socket closes.
    lingers: AtomicBool,
    /// The first line of a request is not whole yet, and not handed to the library.
    holding: AtomicBool,
    /// A head comes that the parser in use has no room for.
    crowded: AtomicBool,
    /// Counts requests whose head was read.
    begun: AtomicU32,
    /// Whether the client is still there.
    client: ClientPresence,
    takeover_waits: AtomicBool,
    takeover: Mutex<Option<Takeover>>,
    /// What the other connections' need for room is to know of this one.
    connection: Option<Arc<Activity>>,
}

impl Flow {
    /// At the first byte of a connection, or of a later request on it.
    pub(super) fn new(connection: Arc<Activity>) -> Flow {
        connection.enter(Phase::Arriving);
        Flow { connection: Some(connection), ..Flow::default() }
    }

    fn enter(&self, phase: Phase) {
        if let Some(connection) = &self.connection {
            connection.enter(phase);
        }
    }

    // The socket's side.

    /// So many bytes go to the library. `is_first` if a request begins with them.
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

    /// The head is handed over, and something behind it is here.
    pub(super) fn follows(&self) {
        self.is_followed.store(true, Relaxed);
    }

    /// Whether the library has not parsed yet what it has of a head.
    pub(super) fn is_in_head(&self) -> bool {
        self.in_head.load(Relaxed)
    }

    /// How long the last request's body is; `None` if it comes in chunks.
    pub(super) fn body(&self) -> Option<u64> {
        Some(self.body.load(Relaxed)).filter(|bytes| *bytes != IN_CHUNKS)
    }

    /// There is something that the library gets only later. It must be asked again then.
    pub(super) fn postpones(&self, until: Until) {
        self.postponed.store(until as u8, Relaxed);
    }

    /// Whether a part of a request's first line is held back.
    pub(super) fn holds(&self, holding: bool) {
        self.holding.store(holding, Relaxed);
        if holding {
            // What came before it is no merit of this request.
            self.delivered.store(0, Relaxed);
        }
    }

    /// A head waits for another parser.
    pub(super) fn crowds(&self) {
        self.crowded.store(true, Relaxed);
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Relaxed)
    }

    /// There is something to write.
    pub(super) fn writes(&self) {
        self.unflushed.store(true, Relaxed);
    }

    /// Some of it was written.
    pub(super) fn wrote(&self) {
        self.moves();
    }

    pub(super) fn flushed(&self) {
        self.unflushed.store(false, Relaxed);
    }

    /// Whether the client is still there: asked by the answering side, found out by this one.
    pub(crate) fn client(&self) -> &ClientPresence {
        &self.client
    }

    // The answering side.

    /// A request's head is read. Its body has this length in bytes; `None` if it comes in chunks.
    pub(crate) fn begins(&self, body: Option<u64>) {
        self.moves();
        self.in_head.store(false, Relaxed);
        self.body.store(body.unwrap_or(IN_CHUNKS), Relaxed);
        self.answering.store(true, Relaxed);
        self.begun.store(self.begun.load(Relaxed).wrapping_add(1), Relaxed);
        self.enter(Phase::Busy);
    }

    pub(super) fn reads_body(&self, reads: bool) {
        self.reading_body.store(reads, Relaxed);
        self.enter(if reads { Phase::Receiving } else { Phase::Busy });
    }

    /// Whether some of the request's body came along with its head.
    pub(crate) fn has_body_begun(&self) -> bool {
        self.is_followed.load(Relaxed)
    }

    /// The request is answered.
    pub(crate) fn ends(&self) {
        self.answering.store(false, Relaxed);
        self.enter(Phase::Idle);
    }

    pub(crate) fn leaves_unread(&self) {
        self.lingers.store(true, Relaxed);
    }

    /// The answer is a watch: it takes the connection over.
    pub(crate) fn hand_over_to_watch(&self, watch: Watch) {
        self.takes_over(Takeover::Watch(Box::new(watch)));
    }

    /// The answer is long in coming: it takes the connection over.
    pub(crate) fn hand_over_to_answer(&self, pending: PendingAnswer) {
        self.takes_over(Takeover::Wait(Box::new(pending)));
    }

    fn takes_over(&self, takeover: Takeover) {
        *self.takeover.lock() = Some(takeover);
        self.takeover_waits.store(true, Relaxed);
    }

    // The connection's owner.

    /// Whether a watch, or who waits, takes over and nothing of earlier answers is left to write.
    pub(super) fn is_taken_over(&self) -> bool {
        self.takeover_waits.load(Relaxed) && !self.unflushed.load(Relaxed)
    }

    pub(super) fn take_over(&self) -> Option<Takeover> {
        self.takeover.lock().take()
    }

    /// Whether the library is to be asked again for what it wants to read: what had to happen before has happened.
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

    /// Whether nothing is being answered, and all answers have left.
    pub(super) fn is_idle(&self) -> bool {
        !self.answering.load(Relaxed) && !self.unflushed.load(Relaxed)
    }

    /// Whether the connection can be closed for the sake of another one: nothing of an answer would be lost.
    pub(super) fn can_be_spared(&self) -> bool {
        self.is_idle() || self.reading_body.load(Relaxed)
    }

    /// Whether a part of a request is here and the rest is not.
    pub(super) fn is_arriving(&self) -> bool {
        self.in_head.load(Relaxed) || self.holding.load(Relaxed) || self.reading_body.load(Relaxed)
    }

    /// How many requests have begun, so that one can be told from the next.
    pub(super) fn begun(&self) -> u32 {
        self.begun.load(Relaxed)
    }

    /// Bytes that have come since the last request's first one.
    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }

    /// Whether it is the client that must move next for anything to happen.
    pub(super) fn waits_for_client(&self) -> bool {
        self.unflushed.load(Relaxed) || self.reading_body.load(Relaxed)
    }

    pub(super) fn lingers(&self) -> bool {
        self.lingers.load(Relaxed)
    }

    fn moves(&self) {
        // No read-modify-write: there is but one task.
        self.activity.store(self.activity.load(Relaxed).wrapping_add(1), Relaxed);
    }
}
