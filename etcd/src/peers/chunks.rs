//! Takes the chunks of an HTTP body apart as they come, cut anywhere.

use bytes::{Buf, BytesMut};

/// A line that begins a chunk, or one after the last chunk, is not longer than this.
const LINE_BYTES_MAX: usize = 1024;

/// Bytes of lines after the last chunk.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Why a body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkError {
    /// No length where one is due, or one that is too large.
    #[error("malformed chunked encoding")]
    Malformed,
    /// A line without end.
    #[error("header line too long")]
    Line,
}

/// How far a body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Until the connection ends.
    Plain,
    /// So many bytes.
    Length(u64),
    /// In chunks; the line that begins the next one is due.
    Head,
    /// In chunks; so many bytes of this one are due, and the end of its line.
    Chunk(u64),
    /// The end of the line after a chunk is due.
    Tail,
    /// The last chunk is there; lines may follow, so many bytes of which have come.
    Trailer(usize),
    /// It is over.
    End,
}

impl Body {
    /// Moves what `raw` holds of the body to the end of `body`. Without a copy where `body` is empty.
    pub(super) fn take(&mut self, raw: &mut BytesMut, body: &mut BytesMut) -> Result<(), ChunkError> {
        loop {
            match *self {
                Body::Plain => {
                    move_bytes(raw, body, usize::MAX);
                    return Ok(());
                }
                Body::Length(0) => *self = Body::End,
                Body::Length(rest) => {
                    let moved = move_bytes(raw, body, usize::try_from(rest).unwrap_or(usize::MAX));
                    if moved == 0 {
                        return Ok(());
                    }
                    *self = Body::Length(rest - moved as u64);
                }
                Body::Head => {
                    let Some(line) = line_length(raw)? else { return Ok(()) };
                    let length = chunk_length(&raw[..line])?;
                    raw.advance(line);
                    *self = if length == 0 { Body::Trailer(0) } else { Body::Chunk(length) };
                }
                Body::Chunk(0) => *self = Body::Tail,
                Body::Chunk(rest) => {
                    let moved = move_bytes(raw, body, usize::try_from(rest).unwrap_or(usize::MAX));
                    if moved == 0 {
                        return Ok(());
                    }
                    *self = Body::Chunk(rest - moved as u64);
                }
                Body::Tail => {
                    if raw.len() < 2 {
                        return Ok(());
                    }
                    if raw[..2] != *b"\r\n" {
                        return Err(ChunkError::Malformed);
                    }
                    raw.advance(2);
                    *self = Body::Head;
                }
                Body::Trailer(seen) => {
                    let Some(line) = line_length(raw)? else { return Ok(()) };
                    let blank = raw[..line].iter().all(|byte| matches!(byte, b'\r' | b'\n'));
                    raw.advance(line);
                    if seen + line > TRAILER_BYTES_MAX {
                        return Err(ChunkError::Line);
                    }
                    *self = if blank { Body::End } else { Body::Trailer(seen + line) };
                }
                Body::End => return Ok(()),
            }
        }
    }
}

fn move_bytes(raw: &mut BytesMut, body: &mut BytesMut, at_most: usize) -> usize {
    let moved = at_most.min(raw.len());
    if moved > 0 {
        let part = raw.split_to(moved);
        if body.is_empty() {
            *body = part;
        } else {
            body.extend_from_slice(&part);
        }
    }
    moved
}

/// The length of the first line of `raw` with its end, if that is there.
fn line_length(raw: &[u8]) -> Result<Option<usize>, ChunkError> {
    match memchr::memchr(b'\n', raw) {
        Some(at) if at < LINE_BYTES_MAX => Ok(Some(at + 1)),
        None if raw.len() < LINE_BYTES_MAX => Ok(None),
        _ => Err(ChunkError::Line),
    }
}

/// The number that a chunk begins with; what follows after a semicolon is not for us.
fn chunk_length(line: &[u8]) -> Result<u64, ChunkError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if digits.is_empty() || digits.len() > 15 {
        return Err(ChunkError::Malformed);
    }
    digits.iter().try_fold(0, |length, byte| {
        let digit = char::from(*byte).to_digit(16).ok_or(ChunkError::Malformed)?;
        Ok(length * 16 + u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], piece: usize, mut state: Body) -> (Vec<u8>, Body) {
        let (mut raw, mut body, mut all) = (BytesMut::new(), BytesMut::new(), Vec::new());
        for part in text.chunks(piece) {
            raw.extend_from_slice(part);
            state.take(&mut raw, &mut body).unwrap();
            if body.len() > 3 {
                all.extend_from_slice(&body.split_to(3));
            }
        }
        all.extend_from_slice(&body);
        (all, state)
    }

    #[test]
    fn chunks_come_apart_however_they_are_cut() {
        let text = b"5\r\nhello\r\n0000001;name=x\r\n \r\nA\r\n0123456789\r\n0\r\nSome: line\r\n\r\n";
        for piece in 1..text.len() {
            assert_eq!(read(text, piece, Body::Head), (b"hello 0123456789".to_vec(), Body::End), "{piece}");
        }
        assert_eq!(read(b"hello, too much", 4, Body::Length(5)), (b"hello".to_vec(), Body::End));
        assert_eq!(read(b"hello", 4, Body::Plain), (b"hello".to_vec(), Body::Plain));
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |text: &[u8]| {
            let (mut raw, mut body) = (BytesMut::from(text), BytesMut::new());
            Body::Head.take(&mut raw, &mut body).unwrap_err()
        };
        assert_eq!(refused(b"x\r\n"), ChunkError::Malformed);
        assert_eq!(refused(b"\r\n"), ChunkError::Malformed);
        assert_eq!(refused(b"-1\r\n"), ChunkError::Malformed);
        assert_eq!(refused(b"ffffffffffffffff\r\n"), ChunkError::Malformed);
        assert_eq!(refused(b"1\r\nab\r\n"), ChunkError::Malformed);
        assert_eq!(refused(&[b'0'; 2000]), ChunkError::Line);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_end(text in proptest::collection::vec(proptest::sample::select(b"01f;\r\nx".to_vec()), 0..200)) {
            let (mut raw, mut body, mut state) = (BytesMut::from(&text[..]), BytesMut::new(), Body::Head);
            let _ = state.take(&mut raw, &mut body);
        }
    }
}
