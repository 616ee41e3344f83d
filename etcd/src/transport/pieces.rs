//! Answers that are made while they are sent: listings of directories, of any length.
//!
//! What fits into one piece is sent whole and with its length, as most listings are. Of a longer one at most a few
//! pieces are in memory, whatever the store holds and however slowly the client reads; no lock is held meanwhile, and
//! a client that goes away ends the work.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use shared::event::Rendering;

use super::flow::Flow;

/// About how many bytes are made at once.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// The same for a client that takes each piece at once.
pub(super) const PIECE_BYTES_MAX: usize = 4 * PIECE_BYTES;

/// As much as most listings need.
const FIRST_BYTES: usize = 1024;

/// What makes an answer piece by piece.
pub(crate) trait Pieces: Send {
    /// Appends the next piece: until `out` has `bytes` bytes or more; what one key needs goes in whole. False once all
    /// is written.
    fn write(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool;
}

impl Pieces for Rendering {
    fn write(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        Rendering::write(self, out, bytes)
    }
}

/// An answer of which the first piece is made.
pub(crate) enum StartedAnswer {
    /// There is no more of it.
    Whole(Vec<u8>),
    /// The rest is made as it is sent.
    Partial(Vec<u8>, RemainingPieces),
}

/// What is still to be made of an answer.
pub(crate) struct RemainingPieces(Box<dyn Pieces>);

impl StartedAnswer {
    /// Makes the first piece.
    pub(crate) fn begin(mut pieces: impl Pieces + 'static) -> StartedAnswer {
        let mut first = Vec::with_capacity(FIRST_BYTES);
        if pieces.write(&mut first, PIECE_BYTES) {
            StartedAnswer::Partial(first, RemainingPieces(Box::new(pieces)))
        } else {
            StartedAnswer::Whole(first)
        }
    }
}

impl RemainingPieces {
    /// The next piece, of about so many bytes, and whether it is the last one.
    pub(super) fn next(&mut self, bytes: usize) -> (Vec<u8>, bool) {
        let mut piece = Vec::with_capacity(bytes + bytes / 8);
        let more = self.0.write(&mut piece, bytes);
        (piece, !more)
    }
}

/// A body that is made while it is sent.
pub(crate) struct PiecesBody {
    /// Made and not yet sent.
    next: Vec<u8>,
    /// `None` once all is made.
    rest: Option<RemainingPieces>,
    /// A piece has just been sent: others come first.
    yields: bool,
    /// The connection that is busy until the body is sent, or dropped with its client.
    flow: Option<Arc<Flow>>,
}

impl fmt::Debug for PiecesBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PiecesBody").field("ended", &self.rest.is_none()).finish_non_exhaustive()
    }
}

impl Drop for PiecesBody {
    fn drop(&mut self) {
        if let Some(flow) = &self.flow {
            flow.ends();
        }
    }
}

impl PiecesBody {
    /// A body of which `next` is made already.
    pub(super) fn new(next: Vec<u8>, rest: RemainingPieces) -> PiecesBody {
        PiecesBody { next, rest: Some(rest), yields: false, flow: None }
    }

    /// Ends the request for `flow` when the body is sent, or dropped with its client.
    pub(super) fn holds(&mut self, flow: &Arc<Flow>) {
        self.flow = Some(flow.clone());
    }

    /// Whether all is made and sent.
    pub(super) fn is_end(&self) -> bool {
        self.next.is_empty() && self.rest.is_none()
    }

    /// The next piece; `None` at the end.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        if self.next.is_empty() {
            let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
            if std::mem::take(&mut self.yields) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let (piece, is_last) = rest.next(PIECE_BYTES);
            self.next = piece;
            if is_last {
                self.rest = None;
            }
        }
        self.yields = true;
        Poll::Ready(Some(std::mem::take(&mut self.next)))
    }
}
