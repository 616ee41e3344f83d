//! An HTTP client for the ports of other members: connections, heads of requests, answers and their bodies.
//!
//! A peer speaks HTTP to us in one form only, and a stream outlives every buffer of an HTTP library; these few
//! lines leave the socket to whoever reads on.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use memchr::memmem;
use node::version::SPOKEN;
use shared::id::{ClusterId, MemberId};
use shared::net::{Dialer, Stream};
use shared::url::Url;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::compatibility::{FEATURES_HEADER, Features, MIN_CLUSTER_VERSION};

/// The longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// An answer's body that is read whole.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A peer of 2.3 closes a connection after five seconds of silence.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4);

/// How long a connection may stand still in the middle of something.
pub(super) const STALL_TIME_MAX: Duration = Duration::from_secs(5);

/// Room that is made for a read.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// A line that begins a chunk, or one after the last chunk, is not longer than this.
const LINE_BYTES_MAX: usize = 1024;

/// Bytes of lines after the last chunk.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// The headers of every request, after the line and the host.
#[derive(Debug)]
pub(super) struct Credentials(String);

impl Credentials {
    pub(super) fn new(id: MemberId, cluster_id: ClusterId, peer_urls: &[String]) -> Credentials {
        let mut text = format!(
            "X-Server-From: {id}\r\nX-Server-Version: {SPOKEN}\r\nX-Min-Cluster-Version: {MIN_CLUSTER_VERSION}\r\n\
             X-Etcd-Cluster-Id: {cluster_id}\r\n{FEATURES_HEADER}: {}\r\n",
            Features::OURS
        );
        if !peer_urls.is_empty() {
            // Writing into a string cannot fail.
            let _ = write!(text, "X-Peerurls: {}\r\n", peer_urls.join(","));
        }
        Credentials(text)
    }

    /// Asks `to` for a stream.
    pub(super) fn stream_request(&self, path: &str, from: MemberId, to: MemberId, url: &Url) -> String {
        let (host, own) = (url.address(), &self.0);
        format!("GET {path}/{from} HTTP/1.1\r\nHost: {host}\r\n{own}X-Raft-To: {to}\r\n\r\n")
    }

    /// The head of a message that follows in `length` bytes.
    pub(super) fn post_head(&self, url: &Url, length: u64) -> String {
        let (host, own) = (url.address(), &self.0);
        format!(
            "POST /raft HTTP/1.1\r\nHost: {host}\r\n{own}Content-Type: application/protobuf\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    }
}

/// The head of an answer, and how its body ends.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(super) body: Body,
    keep_alive: bool,
}

impl Answer {
    /// The value of the first header of that name, which is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Takes a head off the front of `raw`, if it is all there.
    fn parse(raw: &mut BytesMut) -> io::Result<Option<Answer>> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
        let Some(end) = memmem::find(raw, b"\r\n\r\n") else {
            return if raw.len() < HEAD_BYTES_MAX {
                Ok(None)
            } else {
                Err(invalid("the answer's head is too long"))
            };
        };
        let head = raw.split_to(end);
        raw.advance(4);
        let text = std::str::from_utf8(&head).map_err(|_| invalid("malformed HTTP response"))?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
        let status = status
            .filter(|status| status.len() == 3)
            .and_then(|status| status.parse::<u16>().ok())
            .ok_or_else(|| invalid(&format!("malformed HTTP response \"{}\"", first.escape_debug())))?;
        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| invalid("malformed HTTP header"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut answer =
            Answer { status, headers, body: Body::Plain, keep_alive: first.starts_with("HTTP/1.1") };
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            answer.keep_alive = false;
        }
        let chunked =
            answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        answer.body = match answer.header("content-length") {
            _ if status == 204 || status == 304 || status < 200 => Body::Length(0),
            _ if chunked => Body::Head,
            Some(length) => Body::Length(length.parse().map_err(|_| invalid("malformed Content-Length"))?),
            None => {
                answer.keep_alive = false;
                Body::Plain
            }
        };
        Ok(Some(answer))
    }
}

/// A connection to a peer, with what was read from it and not used.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) stream: Stream,
    pub(super) raw: BytesMut,
    used: Instant,
}

impl Link {
    /// Connects.
    pub(super) async fn dial(dialer: &Dialer, url: &Url, time_max: Duration) -> io::Result<Link> {
        let stream = dialer.dial(url, time_max).await.map_err(|error| {
            let refused = error.is_refused();
            let kind = if refused { io::ErrorKind::ConnectionRefused } else { io::ErrorKind::Other };
            io::Error::new(kind, error.to_string())
        })?;
        let _ = stream.set_nodelay(true);
        Ok(Link { stream, raw: BytesMut::new(), used: Instant::now() })
    }

    /// Whether the other side still keeps it open, as far as one can know.
    pub(super) fn is_fresh(&self) -> bool {
        self.used.elapsed() < IDLE_TIME_MAX
    }

    /// Reads the head of an answer.
    pub(super) async fn answer(&mut self, time_max: Duration) -> io::Result<Answer> {
        let until = Instant::now() + time_max;
        loop {
            match Answer::parse(&mut self.raw)? {
                // "Go on", which nobody asked for.
                Some(answer) if answer.status < 200 => {}
                Some(answer) => return Ok(answer),
                None => {
                    let left = until.saturating_duration_since(Instant::now());
                    read_some(&mut self.stream, &mut self.raw, left).await?;
                }
            }
        }
    }

    /// Reads the rest of an answer, and tells whether the connection may be used again.
    pub(super) async fn rest(&mut self, answer: &mut Answer) -> io::Result<(BytesMut, bool)> {
        let mut body = BytesMut::new();
        loop {
            let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            answer.body.take(&mut self.raw, &mut body).map_err(malformed)?;
            if body.len() > ANSWER_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
            }
            if answer.body == Body::End {
                self.used = Instant::now();
                return Ok((body, answer.keep_alive && self.raw.is_empty()));
            }
            match read_some(&mut self.stream, &mut self.raw, STALL_TIME_MAX).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && answer.body == Body::Plain => {
                    return Ok((body, false));
                }
                result => result?,
            }
        }
    }
}

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

/// Writes all of it. Fails when nothing can be written for [`STALL_TIME_MAX`].
pub(super) async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // Nearly always there is room, and no need for a timer.
        let now = poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_write(cx, bytes))).await;
        let written = match now {
            Poll::Ready(written) => written?,
            Poll::Pending => {
                within(STALL_TIME_MAX, poll_fn(|cx| Pin::new(&mut *stream).poll_write(cx, bytes))).await?
            }
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
    }
    if stream.is_tls() {
        within(STALL_TIME_MAX, poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx))).await?;
    }
    Ok(())
}

/// Reads what is there to the end of `buffer`; an end of the stream is an error.
pub(super) async fn read_some(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    time_max: Duration,
) -> io::Result<()> {
    buffer.reserve(READ_BYTES / 16);
    match within(time_max, stream.read_buf(buffer)).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "EOF")),
        _ => Ok(()),
    }
}

/// Bounds the time of something that may fail by itself.
pub(super) async fn within<T>(
    time_max: Duration,
    what: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(time_max, what)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_those_of_the_original() {
        let urls = ["http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned()];
        let own = Credentials::new(MemberId(0xa), ClusterId(0xb), &urls);
        let url = "http://127.0.0.1:22380".parse().unwrap();
        let text = own.stream_request("/raft/stream/msgapp", MemberId(0xa), MemberId(0xc), &url);
        assert_eq!(
            text,
            "GET /raft/stream/msgapp/a HTTP/1.1\r\nHost: 127.0.0.1:22380\r\nX-Server-From: a\r\n\
             X-Server-Version: 2.3.8\r\nX-Min-Cluster-Version: 2.2.0\r\nX-Etcd-Cluster-Id: b\r\n\
             X-Etcd-Features: pre-vote,check-quorum,read-index,transfer,bound-proposals\r\n\
             X-Peerurls: http://127.0.0.1:1,http://127.0.0.1:2\r\nX-Raft-To: c\r\n\r\n"
        );
    }

    #[test]
    fn answers_are_read_with_the_length_of_their_body() {
        let read = |text: &str| Answer::parse(&mut BytesMut::from(text));
        let answer = read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Some:  thing \r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!((answer.status, answer.body, answer.header("x-some")), (200, Body::Head, Some("thing")));
        assert!(answer.keep_alive);
        let answer = read("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap().unwrap();
        assert_eq!((answer.body, answer.keep_alive), (Body::Length(0), false));
        let answer =
            read("HTTP/1.0 412 Precondition Failed\r\nContent-Length: 5\r\n\r\nabcde").unwrap().unwrap();
        assert_eq!((answer.body, answer.keep_alive), (Body::Length(5), false));
        assert!(read("HTTP/1.1 200 OK\r\n").unwrap().is_none());
        for bad in
            ["SSH-2.0\r\n\r\n", "HTTP/1.1 2\r\n\r\n", "HTTP/1.1 200 OK\r\nx\r\n\r\n", &"x".repeat(20_000)]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_head_ends(text in proptest::collection::vec(proptest::sample::select(b"HTP/1. 20:\r\nc\xff".to_vec()), 0..120)) {
            let mut raw = BytesMut::from(&b"HTTP/1.1 200 OK\r\n"[..]);
            raw.extend_from_slice(&text);
            raw.extend_from_slice(b"\r\n\r\n");
            let _ = Answer::parse(&mut raw);
        }
    }

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
