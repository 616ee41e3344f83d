//! The position of a connection's next byte within its requests, as the HTTP library sees them.
//!
//! The library receives a request's head, and no byte beyond its body: later bytes wait until it has parsed the head
//! and reported the length of the body. So it never has bytes of the next request while it works on this one, and the
//! first byte of the next request is known, however the bytes are split into reads.

/// The position of the next byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestPosition {
    /// At the start of a request: the library has consumed everything.
    Start,
    /// In the head of a request.
    Head(HeadPosition),
    /// After a head that the library has not parsed yet. `body` is the length that the head seems to announce;
    /// `ahead` bytes of that were passed on already.
    Parsed { ahead: u64, body: u64 },
    /// In a body of which this number of bytes is left.
    Body(u64),
    /// In a chunked body.
    Chunks(ChunkedBody),
    /// Unknown: the library found another end than this code. It receives all further bytes.
    Unknown,
}

/// The bytes that are passed on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portion {
    /// Their number.
    pub(super) bytes: usize,
    /// A head ends in them, and further bytes follow it.
    pub(super) is_followed: bool,
}

impl RequestPosition {
    /// Counts the next bytes as passed on to the library, and returns how many of `bytes` those are. `None` if they
    /// belong to a head that may have more lines than `lines_max`.
    pub(super) fn advance(&mut self, bytes: &[u8], lines_max: Option<usize>) -> Option<Portion> {
        let mut is_followed = false;
        let passed = match self {
            RequestPosition::Start | RequestPosition::Head(_) => {
                let is_whole = matches!(self, RequestPosition::Start);
                let mut head =
                    if let RequestPosition::Head(head) = self { *head } else { HeadPosition::default() };
                let end = head.end(bytes);
                if lines_max.is_some_and(|most| head.lines > most) {
                    return None;
                }
                match end {
                    None => {
                        *self = RequestPosition::Head(head);
                        bytes.len()
                    }
                    Some(end) => {
                        let (head, rest) = bytes.split_at(end);
                        is_followed = !rest.is_empty();
                        // Usually the body arrives with its head and is passed on with it.
                        let body = if is_whole && is_followed { announced(head).unwrap_or(0) } else { 0 };
                        let ahead = at_most(body, rest.len());
                        *self = RequestPosition::Parsed { ahead: ahead as u64, body };
                        end + ahead
                    }
                }
            }
            RequestPosition::Parsed { ahead, body } => {
                let more = at_most(*body - *ahead, bytes.len());
                *ahead += more as u64;
                more
            }
            RequestPosition::Body(left) => {
                let passed = at_most(*left, bytes.len());
                *left -= passed as u64;
                if *left == 0 {
                    *self = RequestPosition::Start;
                }
                passed
            }
            RequestPosition::Chunks(chunks) => match chunks.end(bytes) {
                Ok(None) => bytes.len(),
                Ok(Some(end)) => {
                    *self = RequestPosition::Start;
                    end
                }
                // The library refuses them as well.
                Err(MalformedChunk) => {
                    *self = RequestPosition::Unknown;
                    bytes.len()
                }
            },
            RequestPosition::Unknown => bytes.len(),
        };
        Some(Portion { bytes: passed, is_followed })
    }

    /// The library has parsed a head and reports the length of the body; `None` if it is chunked.
    pub(super) fn head_parsed(&mut self, body: Option<u64>) {
        *self = match (*self, body) {
            (RequestPosition::Parsed { ahead, .. }, Some(body)) => match body.checked_sub(ahead) {
                Some(0) => RequestPosition::Start,
                Some(left) => RequestPosition::Body(left),
                None => RequestPosition::Unknown,
            },
            (RequestPosition::Parsed { ahead: 0, .. }, None) => {
                RequestPosition::Chunks(ChunkedBody::default())
            }
            _ => RequestPosition::Unknown,
        };
    }

    /// Whether nothing can be passed on before the library has parsed the head.
    pub(super) fn awaits_parsing(&self) -> bool {
        matches!(self, RequestPosition::Parsed { ahead, body } if ahead == body)
    }

    /// Whether the next byte is in a head, or after one that is not known to be parsed.
    pub(super) fn is_in_head(&self) -> bool {
        matches!(self, RequestPosition::Head(_) | RequestPosition::Parsed { .. })
    }
}

fn at_most(most: u64, bytes: usize) -> usize {
    usize::try_from(most).map_or(bytes, |most| most.min(bytes))
}

/// The state of an incomplete head. Lines end with a newline, which may follow a carriage return; empty lines before
/// the first one are skipped. The library refuses other line ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HeadPosition {
    line: LineState,
    /// The number of complete lines, without the empty ones before the first.
    lines: usize,
    /// A line that is not empty has begun.
    has_begun: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LineState {
    /// No byte of the line is here.
    #[default]
    Start,
    /// Only a carriage return is here.
    Return,
    /// The line is not empty.
    Within,
}

impl HeadPosition {
    /// Where the head ends in `bytes`, which come next; `None` if it goes on.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match (self.line, byte) {
                (LineState::Start | LineState::Return, b'\n') => {
                    at += 1;
                    self.line = LineState::Start;
                    if self.has_begun {
                        return Some(at);
                    }
                }
                (LineState::Start, b'\r') => {
                    at += 1;
                    self.line = LineState::Return;
                }
                _ => {
                    self.has_begun = true;
                    self.line = LineState::Within;
                    at += memchr::memchr(b'\n', &bytes[at..])? + 1;
                    self.lines += 1;
                    self.line = LineState::Start;
                }
            }
        }
        None
    }
}

/// The length of the body that a complete head seems to announce. This guess lets more bytes be passed on at once;
/// the library's word decides.
fn announced(head: &[u8]) -> Option<u64> {
    let mut announced = None;
    let mut rest = head;
    while let Some(newline) = memchr::memchr(b'\n', rest) {
        let line = &rest[..newline];
        rest = &rest[newline + 1..];
        let is = |name: &[u8]| {
            line.len() > name.len()
                && line[name.len()] == b':'
                && line[..name.len()].eq_ignore_ascii_case(name)
        };
        match line.first() {
            Some(b'C' | b'c') if is(b"Content-Length") => {
                let value = line[b"Content-Length:".len()..].trim_ascii();
                announced = Some(std::str::from_utf8(value).ok()?.parse().ok()?);
            }
            Some(b'T' | b't') if is(b"Transfer-Encoding") => return None,
            _ => {}
        }
    }
    announced
}

/// The state of a chunked body, by the same rules as the library's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ChunkedBody {
    state: ChunkState,
    /// The size of the chunk, or what is left of it.
    size: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Start,
    Size,
    /// Blanks after the size.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// After the last chunk or a trailer line: another trailer line, or the end.
    Last,
    Trailer,
    TrailerLf,
    EndLf,
}

/// The chunks are malformed.
struct MalformedChunk;

impl ChunkedBody {
    /// Where the body ends in `bytes`, which come next; `None` if it goes on.
    fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, MalformedChunk> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            at += 1;
            self.state = match (self.state, byte) {
                (ChunkState::Start | ChunkState::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    let digit = (*byte as char).to_digit(16).ok_or(MalformedChunk)?;
                    let shifted = self.size.checked_mul(16).ok_or(MalformedChunk)?;
                    self.size = shifted + u64::from(digit);
                    ChunkState::Size
                }
                (ChunkState::Size | ChunkState::Blank, b' ' | b'\t') => ChunkState::Blank,
                (ChunkState::Size | ChunkState::Blank, b';') => ChunkState::Extension,
                (ChunkState::Size | ChunkState::Blank | ChunkState::Extension, b'\r') => ChunkState::SizeLf,
                (ChunkState::Extension, b'\n') => return Err(MalformedChunk),
                (ChunkState::Extension, _) => ChunkState::Extension,
                (ChunkState::SizeLf, b'\n') if self.size == 0 => ChunkState::Last,
                (ChunkState::SizeLf, b'\n') => ChunkState::Data,
                (ChunkState::Data, _) => {
                    let passed = at_most(self.size, bytes.len() - (at - 1));
                    at += passed - 1;
                    self.size -= passed as u64;
                    if self.size == 0 { ChunkState::DataCr } else { ChunkState::Data }
                }
                (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
                (ChunkState::DataLf, b'\n') => ChunkState::Start,
                (ChunkState::Last, b'\r') => ChunkState::EndLf,
                (ChunkState::Trailer, b'\r') => ChunkState::TrailerLf,
                (ChunkState::Last | ChunkState::Trailer, _) => ChunkState::Trailer,
                (ChunkState::TrailerLf, b'\n') => ChunkState::Last,
                (ChunkState::EndLf, b'\n') => return Ok(Some(at)),
                _ => return Err(MalformedChunk),
            };
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes `bytes` on in these pieces and lets the library parse each head, with these lengths of bodies. Returns
    /// where the requests end.
    fn ends(bytes: &[u8], pieces: &[usize], bodies: &[Option<u64>]) -> Vec<usize> {
        let (mut position, mut bodies) = (RequestPosition::Start, bodies.iter());
        let (mut ends, mut at) = (Vec::new(), 0);
        for piece in pieces {
            let mut piece = &bytes[at..at + piece];
            while !piece.is_empty() {
                if position.awaits_parsing() {
                    position.head_parsed(*bodies.next().unwrap());
                    if position == RequestPosition::Start {
                        ends.push(at);
                    }
                }
                let passed = position.advance(piece, None).unwrap().bytes;
                assert!(passed > 0, "{position:?}");
                at += passed;
                piece = &piece[passed..];
                if position == RequestPosition::Start {
                    ends.push(at);
                }
            }
        }
        if position.awaits_parsing() {
            position.head_parsed(*bodies.next().unwrap());
        }
        assert_eq!(position, RequestPosition::Start);
        if ends.last() != Some(&at) {
            ends.push(at);
        }
        ends
    }

    #[test]
    fn requests_end_at_the_same_bytes_however_they_come() {
        let requests = [
            ("\r\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", Some(0)),
            ("PUT / HTTP/1.1\nContent-Length: 6\n\n\n\n\r\n\r\n", Some(6)),
            (
                "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4;x\r\n\n\n\r\n\r\n0\r\nA: b\r\n\r\n",
                None,
            ),
            ("DELETE / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", Some(0)),
            ("PUT / HTTP/1.1\r\nCONTENT-LENGTH:\t1\r\nA: b\n\r\nx", Some(1)),
            ("PUT / HTTP/1.1\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n00\r\n\r\n", None),
        ];
        let bytes: Vec<u8> = requests.iter().flat_map(|(request, _)| request.bytes()).collect();
        let bodies = requests.map(|(_, body)| body);
        let mut end = 0;
        let wanted = requests.map(|(request, _)| {
            end += request.len();
            end
        });
        assert_eq!(ends(&bytes, &[bytes.len()], &bodies), wanted);
        assert_eq!(ends(&bytes, &vec![1; bytes.len()], &bodies), wanted);
        for first in 1..bytes.len() {
            assert_eq!(ends(&bytes, &[first, bytes.len() - first], &bodies), wanted, "{first}");
        }
    }

    #[test]
    fn the_library_s_word_counts() {
        let request = b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n";
        let parsed = |body| {
            let mut position = RequestPosition::Start;
            let portion = position.advance(request, None).unwrap();
            assert_eq!(&request[portion.bytes..], b"GET / HTTP/1.1\r\n\r\n");
            assert!(portion.is_followed && position.awaits_parsing());
            position.head_parsed(body);
            position
        };
        assert_eq!(parsed(Some(3)), RequestPosition::Start);
        assert_eq!(parsed(Some(5)), RequestPosition::Body(2));
        assert_eq!(parsed(Some(2)), RequestPosition::Unknown);
        assert_eq!(parsed(None), RequestPosition::Unknown);
        // The library has parsed a head that is incomplete for this code.
        let mut position = RequestPosition::Start;
        position.advance(b"GET / HTTP/1.1\r\n", None);
        position.head_parsed(Some(0));
        assert_eq!(position, RequestPosition::Unknown);
    }

    #[test]
    fn what_is_no_chunk_is_the_library_s_to_refuse() {
        for bytes in [
            "x",
            "\r\n",
            "1\n",
            "1;\n",
            "1\r\r",
            "1\r\nab",
            "1\r\na\rb",
            "0\r\nA\r\r",
            "0\r\n\rA",
            "1 2",
            "fffffffffffffffff",
        ] {
            let mut position = RequestPosition::Chunks(ChunkedBody::default());
            assert_eq!(position.advance(bytes.as_bytes(), None).unwrap().bytes, bytes.len());
            assert_eq!(position, RequestPosition::Unknown, "{bytes:?}");
        }
    }
}
