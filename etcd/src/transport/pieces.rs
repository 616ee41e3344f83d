//! Responses that are produced while they are sent: directory listings of any length, and long values.
//!
//! A response that fits into one piece is sent as a whole, with its length; most listings do. Of a longer one at most
//! a few pieces are in memory, however large the store is and however slowly the client reads. No lock is held
//! meanwhile, and the work ends when the client leaves.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use shared::event::Rendering;

use super::flow::Flow;

/// The size of a piece, approximately.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

/// The largest piece, for a client that takes each piece at once.
pub(super) const PIECE_BYTES_MAX: usize = 4 * PIECE_BYTES;

/// The size of most listings.
const FIRST_BYTES: usize = 1024;

/// Produces a response in pieces.
pub(crate) trait Pieces: Send {
    /// Appends the next piece until `out` has at least `bytes` bytes. `false` when everything
    /// is written.
    fn write(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool;
}

impl Pieces for Rendering {
    fn write(&mut self, out: &mut Vec<u8>, bytes: usize) -> bool {
        Rendering::write(self, out, bytes)
    }
}

/// A response whose first piece is produced.
pub(crate) enum StartedAnswer {
    /// This is the whole response.
    Whole(Vec<u8>),
    /// The rest is produced while it is sent.
    Partial(Vec<u8>, RemainingPieces),
}

/// The part of a response that is not produced yet.
pub(crate) struct RemainingPieces(Box<dyn Pieces>);

impl StartedAnswer {
    /// Produces the first piece.
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
    /// The next piece, of about `bytes` bytes, and whether it is the last one.
    pub(super) fn next(&mut self, bytes: usize) -> (Vec<u8>, bool) {
        let mut piece = Vec::with_capacity(bytes + bytes / 8);
        let more = self.0.write(&mut piece, bytes);
        (piece, !more)
    }
}

/// A body that is produced while it is sent.
pub(crate) struct PiecesBody {
    /// Produced but not sent yet.
    next: Vec<u8>,
    /// `None` when everything is produced.
    rest: Option<RemainingPieces>,
    /// A piece has just been sent: other tasks run first.
    yields: bool,
    /// The connection, whose request ends when the body is sent or dropped.
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
    /// A body that starts with `next`.
    pub(super) fn new(next: Vec<u8>, rest: RemainingPieces) -> PiecesBody {
        PiecesBody { next, rest: Some(rest), yields: false, flow: None }
    }

    /// Ends the request in `flow` when the body is sent or dropped.
    pub(super) fn holds(&mut self, flow: &Arc<Flow>) {
        self.flow = Some(flow.clone());
    }

    /// Whether everything is produced and sent.
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
