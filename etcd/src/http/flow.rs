//! Where a connection stands: what its socket's side and its answering side know of each other.
//!
//! Both sides live in one task, so the atomics are never contended; they only let the two share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::waiting::Waiting;
use super::watch::Watch;
use crate::connections::{Activity, Phase};

/// What takes a connection over from the HTTP library.
pub(super) enum Takeover {
    /// A watch.
    Watch(Box<Watch>),
    /// A request whose answer may be long in coming.
    Wait(Box<Waiting>),
}

/// Where a connection stands.
#[derive(Default)]
pub(crate) struct Flow {
    /// The next byte to be read is certainly the first of a request.
    at_head: AtomicBool,
    /// Bytes handed to the HTTP library since the last request's first one.
    delivered: AtomicU64,
    /// How many of them were its head; 0 if that was not seen.
    head: AtomicU64,
    /// Whether what was handed over last ends with an empty line.
    ends_blank: AtomicBool,
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
    /// Somebody wants to know whether the client is still there.
    asks_for_client: AtomicBool,
    /// The client has closed its side, as far as was asked.
    client_left: AtomicBool,
    takeover_waits: AtomicBool,
    takeover: Mutex<Option<Takeover>>,
    /// What the other connections' need for room is to know of this one.
    connection: Option<Arc<Activity>>,
}

impl Flow {
    /// At the first byte of a connection, or of a later request on it.
    pub(super) fn new(connection: Arc<Activity>) -> Flow {
        connection.enter(Phase::Arriving);
        Flow { connection: Some(connection), ..Flow::at_head() }
    }

    pub(super) fn at_head() -> Flow {
        let flow = Flow::default();
        flow.at_head.store(true, Relaxed);
        flow
    }

    fn enter(&self, phase: Phase) {
        if let Some(connection) = &self.connection {
            connection.enter(phase);
        }
    }

    // The socket's side.

    pub(super) fn is_at_head(&self) -> bool {
        self.at_head.load(Relaxed)
    }

    /// These bytes go to the library.
    pub(super) fn delivers(&self, bytes: &[u8]) {
        self.moves();
        let before = if self.at_head.swap(false, Relaxed) {
            self.head.store(0, Relaxed);
            if !self.answering.load(Relaxed) {
                self.enter(Phase::Arriving);
            }
            0
        } else {
            if self.reading_body.load(Relaxed) {
                self.enter(Phase::Receiving);
            }
            self.delivered.load(Relaxed)
        };
        let after = before + bytes.len() as u64;
        self.delivered.store(after, Relaxed);
        let ends_blank = bytes.ends_with(b"\r\n\r\n") || bytes.ends_with(b"\n\n");
        self.ends_blank.store(ends_blank, Relaxed);
        if self.head.load(Relaxed) == 0 {
            let end = if ends_blank { Some(bytes.len()) } else { end_of_head(bytes) };
            if let Some(end) = end {
                self.head.store(before + end as u64, Relaxed);
            }
        }
    }

    /// Whether a part of a request's first line is held back.
    pub(super) fn holds(&self, holding: bool) {
        self.holding.store(holding, Relaxed);
    }

    /// Whether `bytes`, which come next, belong to a head that is longer than `limit`; no answer is under way.
    pub(super) fn outgrows(&self, bytes: &[u8], limit: usize) -> bool {
        let before = match (self.at_head.load(Relaxed), self.head.load(Relaxed)) {
            (true, _) => 0,
            (false, 0) => self.delivered.load(Relaxed),
            // Of what follows another request in the same piece it is not known where it begins.
            (false, _) => return false,
        };
        let limit = limit as u64;
        if bytes.is_empty() || self.answering.load(Relaxed) || before + bytes.len() as u64 <= limit {
            return false;
        }
        end_of_head(bytes).is_none_or(|end| before + end as u64 > limit)
    }

    /// Such a head waits for another parser.
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

    /// Whether the client is to be looked for.
    pub(super) fn asks_for_client(&self) -> bool {
        self.asks_for_client.load(Relaxed)
    }

    /// Whether the client has closed its side.
    pub(super) fn client_is_found(&self, left: bool) {
        self.client_left.store(left, Relaxed);
    }

    // The answering side.

    /// Whether the client has closed its side of the connection.
    pub(crate) async fn client_has_left(&self) -> bool {
        self.asks_for_client.store(true, Relaxed);
        // The socket's side looks whenever the connection's task has run, and this is a part of that task.
        tokio::task::yield_now().await;
        self.asks_for_client.store(false, Relaxed);
        self.client_left.load(Relaxed)
    }

    /// A request's head is read.
    pub(crate) fn begins(&self, has_body: bool) {
        self.moves();
        self.answering.store(true, Relaxed);
        self.begun.store(self.begun.load(Relaxed).wrapping_add(1), Relaxed);
        self.enter(Phase::Busy);
        // What was read last ends with an empty line, and this request is over: either nothing is left to
        // parse, or whole requests are. A part of a head cannot be left.
        if !has_body && self.ends_blank.load(Relaxed) {
            self.at_head.store(true, Relaxed);
        }
    }

    pub(super) fn reads_body(&self, reads: bool) {
        self.reading_body.store(reads, Relaxed);
        self.enter(if reads { Phase::Receiving } else { Phase::Busy });
    }

    /// Whether some of the request's body came along with its head.
    pub(super) fn has_body_begun(&self) -> bool {
        let head = self.head.load(Relaxed);
        head != 0 && self.delivered.load(Relaxed) > head
    }

    /// The request's body is read, all of its `bytes`.
    pub(super) fn body_ends(&self, bytes: u64) {
        let head = self.head.load(Relaxed);
        if head != 0 && self.delivered.load(Relaxed) == head + bytes {
            self.at_head.store(true, Relaxed);
        }
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
    pub(super) fn watches(&self, watch: Watch) {
        self.takes_over(Takeover::Watch(Box::new(watch)));
    }

    /// The answer is long in coming: it takes the connection over.
    pub(super) fn waits(&self, waiting: Waiting) {
        self.takes_over(Takeover::Wait(Box::new(waiting)));
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
        let in_head = !self.at_head.load(Relaxed) && !self.answering.load(Relaxed);
        in_head || self.holding.load(Relaxed) || self.reading_body.load(Relaxed)
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

/// Where the first head in `bytes` ends.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\n', &bytes[from..]) {
        from += at + 1;
        match &bytes[from..] {
            [b'\n', ..] => return Some(from + 1),
            [b'\r', b'\n', ..] => return Some(from + 2),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_body_leads_to_the_next_head() {
        let flow = Flow::at_head();
        assert!(flow.is_at_head());
        flow.delivers(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(!flow.is_at_head() && !flow.has_body_begun());
        flow.begins(false);
        assert!(flow.is_at_head());
    }

    #[test]
    fn a_body_leads_to_the_next_head_if_nothing_follows_it() {
        let flow = Flow::at_head();
        flow.delivers(b"PUT / HTTP/1.1\r\nContent-Length: 7\r\n\r\nval");
        flow.begins(true);
        assert!(flow.has_body_begun());
        flow.delivers(b"ue=1");
        flow.body_ends(7);
        assert!(flow.is_at_head());
        // A second request's head came along with the body.
        flow.delivers(b"PUT / HTTP/1.1\nContent-Length: 1\n\nxGET / HT");
        flow.begins(true);
        flow.body_ends(1);
        assert!(!flow.is_at_head());
        flow.delivers(b"TP/1.1\r\n\r\n");
        flow.begins(false);
        assert!(flow.is_at_head());
    }

    #[test]
    fn a_head_of_which_the_start_came_with_another_is_not_taken_for_one() {
        let flow = Flow::at_head();
        flow.delivers(b"GET / HTTP/1.1\r\n\r\nGET /");
        flow.begins(false);
        assert!(!flow.is_at_head());
    }
}
