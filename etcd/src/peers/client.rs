//! An HTTP client for the ports of other members: connections, request heads, responses and their bodies.
//!
//! Peers send only one form of HTTP, and a stream lives longer than any buffer of an HTTP library. This client hands
//! the socket to the caller, who goes on reading.

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

/// The longest head of a response.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The longest body of a response that is read as a whole.
pub(super) const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// A peer of 2.3 closes a connection after five seconds of silence.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4);

/// How long a connection may make no progress in the middle of a request, a response or a frame.
pub(super) const STALL_TIME_MAX: Duration = Duration::from_secs(5);

/// Buffer space that is reserved for a read.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// The longest line before a chunk or after the last chunk.
const LINE_BYTES_MAX: usize = 1024;

/// The most bytes of lines after the last chunk.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// The headers of every request that tell about its sender. They follow the request line and `Host`.
#[derive(Debug)]
pub(super) struct SenderHeaders(String);

impl SenderHeaders {
    pub(super) fn new(id: MemberId, cluster_id: ClusterId, peer_urls: &[String]) -> SenderHeaders {
        let mut text = format!(
            "X-Server-From: {id}\r\nX-Server-Version: {SPOKEN}\r\nX-Min-Cluster-Version: {MIN_CLUSTER_VERSION}\r\n\
             X-Etcd-Cluster-Id: {cluster_id}\r\n{FEATURES_HEADER}: {}\r\n",
            Features::OURS
        );
        if !peer_urls.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "X-Peerurls: {}\r\n", peer_urls.join(","));
        }
        SenderHeaders(text)
    }

    /// A request to `to` for a stream.
    pub(super) fn stream_request(&self, path: &str, from: MemberId, to: MemberId, url: &Url) -> String {
        let (host, own) = (url.address(), &self.0);
        format!("GET {path}/{from} HTTP/1.1\r\nHost: {host}\r\n{own}X-Raft-To: {to}\r\n\r\n")
    }

    /// The head of a post whose message has `length` bytes.
    pub(super) fn post_head(&self, url: &Url, length: u64) -> String {
        let (host, own) = (url.address(), &self.0);
        format!(
            "POST /raft HTTP/1.1\r\nHost: {host}\r\n{own}Content-Type: application/protobuf\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    }
}

/// The head of a response, and the decoder of its body.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: u16,
    /// Names are in lower case.
    headers: Vec<(String, String)>,
    pub(super) body: BodyDecoder,
    keep_alive: bool,
}

impl ResponseHead {
    /// The value of the first header with this name, given in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Takes a head off the front of `raw`; `None` while it is incomplete.
    fn parse(raw: &mut BytesMut) -> io::Result<Option<ResponseHead>> {
        let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
        let Some(end) = memmem::find(raw, b"\r\n\r\n") else {
            return if raw.len() < HEAD_BYTES_MAX {
                Ok(None)
            } else {
                Err(invalid("the head of the response is too long"))
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
        let mut response = ResponseHead {
            status,
            headers,
            body: BodyDecoder::UntilClose,
            keep_alive: first.starts_with("HTTP/1.1"),
        };
        if response.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            response.keep_alive = false;
        }
        let chunked =
            response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        response.body = match response.header("content-length") {
            _ if status == 204 || status == 304 || status < 200 => BodyDecoder::Length(0),
            _ if chunked => BodyDecoder::ChunkHead,
            Some(length) => {
                BodyDecoder::Length(length.parse().map_err(|_| invalid("malformed Content-Length"))?)
            }
            None => {
                response.keep_alive = false;
                BodyDecoder::UntilClose
            }
        };
        Ok(Some(response))
    }
}

/// A connection to a peer, with the bytes that were read and not used yet.
#[derive(Debug)]
pub(super) struct PeerConnection {
    pub(super) stream: Stream,
    pub(super) raw: BytesMut,
    last_used: Instant,
}

impl PeerConnection {
    /// Connects.
    pub(super) async fn dial(dialer: &Dialer, url: &Url, time_max: Duration) -> io::Result<PeerConnection> {
        let stream = dialer.dial(url, time_max).await.map_err(|error| {
            let refused = error.is_refused();
            let kind = if refused { io::ErrorKind::ConnectionRefused } else { io::ErrorKind::Other };
            io::Error::new(kind, error.to_string())
        })?;
        let _ = stream.set_nodelay(true);
        Ok(PeerConnection { stream, raw: BytesMut::new(), last_used: Instant::now() })
    }

    /// Whether the peer has probably not closed the connection for being idle.
    pub(super) fn is_fresh(&self) -> bool {
        self.last_used.elapsed() < IDLE_TIME_MAX
    }

    /// Reads the head of a response.
    pub(super) async fn read_response(&mut self, time_max: Duration) -> io::Result<ResponseHead> {
        let until = Instant::now() + time_max;
        loop {
            match ResponseHead::parse(&mut self.raw)? {
                // `100 Continue`, which we never request.
                Some(response) if response.status < 200 => {}
                Some(response) => return Ok(response),
                None => {
                    let left = until.saturating_duration_since(Instant::now());
                    read_some(&mut self.stream, &mut self.raw, left).await?;
                }
            }
        }
    }

    /// Reads the rest of a response. Returns whether the connection can be used again.
    pub(super) async fn read_body(&mut self, response: &mut ResponseHead) -> io::Result<(BytesMut, bool)> {
        let mut body = BytesMut::new();
        loop {
            let malformed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
            response.body.decode(&mut self.raw, &mut body).map_err(malformed)?;
            if body.len() > RESPONSE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the response is too long"));
            }
            if response.body == BodyDecoder::End {
                self.last_used = Instant::now();
                return Ok((body, response.keep_alive && self.raw.is_empty()));
            }
            match read_some(&mut self.stream, &mut self.raw, STALL_TIME_MAX).await {
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof
                        && response.body == BodyDecoder::UntilClose =>
                {
                    return Ok((body, false));
                }
                result => result?,
            }
        }
    }
}

/// Why a body cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkError {
    /// A chunk length is missing or too large.
    #[error("malformed chunked encoding")]
    Malformed,
    /// A line is too long.
    #[error("header line too long")]
    Line,
}

/// The state of a body that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyDecoder {
    /// The body ends with the connection.
    UntilClose,
    /// This number of bytes is left.
    Length(u64),
    /// Chunked: the line before the next chunk is expected.
    ChunkHead,
    /// Chunked: this number of bytes is left of the chunk, then the end of its line.
    Chunk(u64),
    /// Chunked: the end of the line after a chunk is expected.
    ChunkEnd,
    /// Chunked: the last chunk has been read; trailer lines follow, of which this number of bytes has been read.
    Trailer(usize),
    /// The body is complete.
    End,
}

impl BodyDecoder {
    /// Moves the part of the body that is in `raw` to the end of `body`. Copies nothing if `body` is empty.
    pub(super) fn decode(&mut self, raw: &mut BytesMut, body: &mut BytesMut) -> Result<(), ChunkError> {
        loop {
            match *self {
                BodyDecoder::UntilClose => {
                    move_bytes(raw, body, usize::MAX);
                    return Ok(());
                }
                BodyDecoder::Length(0) => *self = BodyDecoder::End,
                BodyDecoder::Length(rest) => {
                    let moved = move_bytes(raw, body, usize::try_from(rest).unwrap_or(usize::MAX));
                    if moved == 0 {
                        return Ok(());
                    }
                    *self = BodyDecoder::Length(rest - moved as u64);
                }
                BodyDecoder::ChunkHead => {
                    let Some(line) = line_length(raw)? else { return Ok(()) };
                    let length = chunk_length(&raw[..line])?;
                    raw.advance(line);
                    *self = if length == 0 { BodyDecoder::Trailer(0) } else { BodyDecoder::Chunk(length) };
                }
                BodyDecoder::Chunk(0) => *self = BodyDecoder::ChunkEnd,
                BodyDecoder::Chunk(rest) => {
                    let moved = move_bytes(raw, body, usize::try_from(rest).unwrap_or(usize::MAX));
                    if moved == 0 {
                        return Ok(());
                    }
                    *self = BodyDecoder::Chunk(rest - moved as u64);
                }
                BodyDecoder::ChunkEnd => {
                    if raw.len() < 2 {
                        return Ok(());
                    }
                    if raw[..2] != *b"\r\n" {
                        return Err(ChunkError::Malformed);
                    }
                    raw.advance(2);
                    *self = BodyDecoder::ChunkHead;
                }
                BodyDecoder::Trailer(seen) => {
                    let Some(line) = line_length(raw)? else { return Ok(()) };
                    let blank = raw[..line].iter().all(|byte| matches!(byte, b'\r' | b'\n'));
                    raw.advance(line);
                    if seen + line > TRAILER_BYTES_MAX {
                        return Err(ChunkError::Line);
                    }
                    *self = if blank { BodyDecoder::End } else { BodyDecoder::Trailer(seen + line) };
                }
                BodyDecoder::End => return Ok(()),
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

/// The length of the first line of `raw` including its end; `None` if the line is incomplete.
fn line_length(raw: &[u8]) -> Result<Option<usize>, ChunkError> {
    match memchr::memchr(b'\n', raw) {
        Some(at) if at < LINE_BYTES_MAX => Ok(Some(at + 1)),
        None if raw.len() < LINE_BYTES_MAX => Ok(None),
        _ => Err(ChunkError::Line),
    }
}

/// The number at the beginning of a chunk. Extensions after a semicolon are ignored.
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

/// Writes all bytes. Fails when nothing can be written for [`STALL_TIME_MAX`].
pub(super) async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // Nearly always the socket has room, so no timer is needed.
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

/// Reads the available bytes and appends them to `buffer`; the end of the stream is an error.
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

/// Fails with a timeout when `what` takes longer than `time_max`.
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
        let own = SenderHeaders::new(MemberId(0xa), ClusterId(0xb), &urls);
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
        let read = |text: &str| ResponseHead::parse(&mut BytesMut::from(text));
        let response = read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Some:  thing \r\n\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(
            (response.status, response.body, response.header("x-some")),
            (200, BodyDecoder::ChunkHead, Some("thing"))
        );
        assert!(response.keep_alive);
        let response = read("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap().unwrap();
        assert_eq!((response.body, response.keep_alive), (BodyDecoder::Length(0), false));
        let response =
            read("HTTP/1.0 412 Precondition Failed\r\nContent-Length: 5\r\n\r\nabcde").unwrap().unwrap();
        assert_eq!((response.body, response.keep_alive), (BodyDecoder::Length(5), false));
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
            let _ = ResponseHead::parse(&mut raw);
        }
    }

    fn read(text: &[u8], piece: usize, mut state: BodyDecoder) -> (Vec<u8>, BodyDecoder) {
        let (mut raw, mut body, mut all) = (BytesMut::new(), BytesMut::new(), Vec::new());
        for part in text.chunks(piece) {
            raw.extend_from_slice(part);
            state.decode(&mut raw, &mut body).unwrap();
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
            assert_eq!(
                read(text, piece, BodyDecoder::ChunkHead),
                (b"hello 0123456789".to_vec(), BodyDecoder::End),
                "{piece}"
            );
        }
        assert_eq!(
            read(b"hello, too much", 4, BodyDecoder::Length(5)),
            (b"hello".to_vec(), BodyDecoder::End)
        );
        assert_eq!(read(b"hello", 4, BodyDecoder::UntilClose), (b"hello".to_vec(), BodyDecoder::UntilClose));
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |text: &[u8]| {
            let (mut raw, mut body) = (BytesMut::from(text), BytesMut::new());
            BodyDecoder::ChunkHead.decode(&mut raw, &mut body).unwrap_err()
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
            let (mut raw, mut body, mut state) = (BytesMut::from(&text[..]), BytesMut::new(), BodyDecoder::ChunkHead);
            let _ = state.decode(&mut raw, &mut body);
        }
    }
}
