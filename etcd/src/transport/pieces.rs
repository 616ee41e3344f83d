//! Answers that are made while they are sent: listings of directories, of any length.
//!
//! What fits into one piece is sent whole and with its length, as most listings are. Of a longer one at most a few
//! pieces are in memory, whatever the store holds and however slowly the client reads; no lock is held meanwhile, and
//! a client that goes away ends the work.

use shared::event::Rendering;

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
pub(crate) enum Made {
    /// There is no more of it.
    Whole(Vec<u8>),
    /// The rest is made as it is sent.
    Begun(Vec<u8>, Rest),
}

/// What is still to be made of an answer.
pub(crate) struct Rest(Box<dyn Pieces>);

impl Made {
    /// Makes the first piece.
    pub(crate) fn begin(mut pieces: impl Pieces + 'static) -> Made {
        let mut first = Vec::with_capacity(FIRST_BYTES);
        if pieces.write(&mut first, PIECE_BYTES) {
            Made::Begun(first, Rest(Box::new(pieces)))
        } else {
            Made::Whole(first)
        }
    }
}

impl Rest {
    /// The next piece, of about so many bytes, and whether it is the last one.
    pub(super) fn next(&mut self, bytes: usize) -> (Vec<u8>, bool) {
        let mut piece = Vec::with_capacity(bytes + bytes / 8);
        let more = self.0.write(&mut piece, bytes);
        (piece, !more)
    }
}
