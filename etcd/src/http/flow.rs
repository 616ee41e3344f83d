//! Where a connection stands: what its socket's side and its answering side know of each other.
//!
//! Both sides live in one task, so the atomics are never contended; they only let the two share.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::waiting::Waiting;
use super::watch::Watch;

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
    takeover_waits: AtomicBool,
    takeover: Mutex<Option<Takeover>>,
}

impl Flow {
    /// At the first byte of a connection.
    pub(super) fn new() -> Flow {
        let flow = Flow::default();
        flow.at_head.store(true, Relaxed);
        flow
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
            0
        } else {
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

    // The answering side.

    /// A request's head is read.
    pub(crate) fn begins(&self, has_body: bool) {
        self.moves();
        self.answering.store(true, Relaxed);
        // What was read last ends with an empty line, and this request is over: either nothing is left to
        // parse, or whole requests are. A part of a head cannot be left.
        if !has_body && self.ends_blank.load(Relaxed) {
            self.at_head.store(true, Relaxed);
        }
    }

    pub(super) fn reads_body(&self, reads: bool) {
        self.reading_body.store(reads, Relaxed);
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
        let flow = Flow::new();
        assert!(flow.is_at_head());
        flow.delivers(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(!flow.is_at_head());
        flow.begins(false);
        assert!(flow.is_at_head());
    }

    #[test]
    fn a_body_leads_to_the_next_head_if_nothing_follows_it() {
        let flow = Flow::new();
        flow.delivers(b"PUT / HTTP/1.1\r\nContent-Length: 7\r\n\r\nval");
        flow.begins(true);
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
        let flow = Flow::new();
        flow.delivers(b"GET / HTTP/1.1\r\n\r\nGET /");
        flow.begins(false);
        assert!(!flow.is_at_head());
    }
}
