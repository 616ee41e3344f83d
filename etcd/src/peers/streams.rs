//! The streams between this member and a peer. This member dials one half and reads it; the peer dials the other
//! half, and this member writes it.
//!
//! For the second half the socket is taken over from the HTTP library once the response is decided.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use node::version::SPOKEN;
use shared::net::{Stream, io_reason};
use shared::time::UnixNanos;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::client::{BodyDecoder, PeerConnection, READ_BYTES, STALL_TIME_MAX, within, write_all};
use super::compatibility::{self, FEATURES_HEADER, Features};
use super::frames::{AppendReader, Frame, FrameReader, StreamKind};
use super::local::Inbound;
use super::peer::{RemotePeer, TransportContext};
use super::pipeline::{REMOVED, is_of_own_cluster, precondition_failed};
use super::stream_queue::{ConnectionNumber, StreamQueue, WriteBatch};

/// The pause before a stream is dialled again.
const REDIAL_PAUSE: Duration = Duration::from_millis(100);

/// If at least this much of a chunk is missing, it is read directly into the body buffer.
const DIRECT_BYTES: usize = 32 * 1024;

/// The most space that is reserved for such a chunk before its bytes arrive.
const DIRECT_BYTES_MAX: usize = 1 << 20;

/// Three keep-alive frames are sent before the peer would consider the link dead.
const LINK_HEARTBEAT_INTERVAL: Duration = Duration::from_nanos(5_000_000_000 / 3);

/// Keeps a stream from a peer open and delivers its messages, until the member is gone.
pub(super) async fn read(context: Arc<TransportContext>, from: Arc<RemotePeer>, kind: StreamKind) {
    let mut was_connected = false;
    loop {
        match dial(&context, &from, kind).await {
            Ok((connection, body)) => {
                was_connected = true;
                from.status.activate();
                match read_frames(&context, &from, kind, connection, body).await {
                    Ok(ReadEnd::Stream) => {}
                    Ok(ReadEnd::MemberGone) => return,
                    Err(error) => from.status.deactivate("read", kind.name(), &io_reason(&error)),
                }
            }
            Err(DialError::Silent) => {}
            Err(DialError::Refused(reason)) => {
                from.status.deactivate("dial", kind.name(), &reason);
                if std::mem::take(&mut was_connected) {
                    context.mailbox.notify(Inbound::PeerGone(from.id));
                }
            }
            Err(DialError::Failed(reason)) => from.status.deactivate("dial", kind.name(), &reason),
        }
        tokio::time::sleep(REDIAL_PAUSE).await;
    }
}

enum ReadEnd {
    /// The peer ended the stream in order.
    Stream,
    /// The member that the messages are for is gone.
    MemberGone,
}

/// Why there is no stream.
enum DialError {
    /// No program listens at the peer's URL.
    Refused(String),
    /// Another failure, which is logged.
    Failed(String),
    /// A failure that is not logged.
    Silent,
}

/// Dials the peer and requests the stream.
async fn dial(
    context: &TransportContext,
    from: &RemotePeer,
    kind: StreamKind,
) -> Result<(PeerConnection, BodyDecoder), DialError> {
    let url = from.picker.pick().ok_or_else(|| DialError::Failed("no valid URLs given".to_owned()))?;
    let result = async {
        let text = |error: io::Error| DialError::Failed(io_reason(&error));
        let dialled = PeerConnection::dial(&context.dialer, &url, context.dial_time_max).await;
        let mut connection = dialled.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => DialError::Refused(io_reason(&error)),
            _ => text(error),
        })?;
        let request = context.sender_headers.stream_request(kind.path(), context.local.id, from.id, &url);
        write_all(&mut connection.stream, request.as_bytes()).await.map_err(text)?;
        let mut response = connection.read_response(STALL_TIME_MAX).await.map_err(text)?;
        let version = compatibility::parse_version(response.header("x-server-version"))
            .map_err(|_| DialError::Failed("the peer's version header is invalid".to_owned()))?;
        if !compatibility::serves_streams(version) {
            return Err(DialError::Silent);
        }
        match response.status {
            200 => {
                from.status.set_features(Features::parse(response.header("x-etcd-features")));
                Ok((connection, response.body))
            }
            410 if is_of_own_cluster(context, &response) => {
                context.mailbox.notify(Inbound::RemovedAccordingTo(from.id));
                Err(DialError::Failed(REMOVED.to_owned()))
            }
            404 => {
                Err(DialError::Failed(format!("remote member {} could not recognize local member", from.id)))
            }
            412 => {
                let (text, _) = connection.read_body(&mut response).await.map_err(text)?;
                Err(DialError::Failed(precondition_failed(context, from, &response, &text)))
            }
            status => Err(DialError::Failed(format!("unhandled http status {status}"))),
        }
    }
    .await;
    if result.is_err() {
        from.picker.failed(&url);
    }
    result
}

async fn read_frames(
    context: &TransportContext,
    from: &RemotePeer,
    kind: StreamKind,
    connection: PeerConnection,
    mut decoder: BodyDecoder,
) -> io::Result<ReadEnd> {
    let PeerConnection { mut stream, mut raw, .. } = connection;
    let mut frames = match kind {
        StreamKind::Append => FrameReader::Append(AppendReader::new(from.id, context.local.id)),
        StreamKind::Message => FrameReader::Message,
    };
    let mut body = BytesMut::new();
    let mut deadline = pin!(StallTimer::new());
    let invalid = |error: &dyn ToString| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    loop {
        decoder.decode(&mut raw, &mut body).map_err(|error| invalid(&error))?;
        let now = deadline.as_mut().restart();
        while let Some(received) = frames.next(&mut body).map_err(|error| invalid(&error))? {
            if let Frame::Message(message, bytes) = received
                && !context.deliver(Some(from), message, bytes, now).await
            {
                return Ok(ReadEnd::MemberGone);
            }
        }
        // If the member was slow to accept messages, the peer is not to blame.
        deadline.as_mut().restart();
        let read = match decoder {
            BodyDecoder::End => return Ok(ReadEnd::Stream),
            // A large message: this saves a copy.
            BodyDecoder::Chunk(rest) if rest >= DIRECT_BYTES as u64 => {
                let room = usize::try_from(rest).unwrap_or(usize::MAX).min(DIRECT_BYTES_MAX);
                body.reserve(room);
                let read = read_within(&mut stream, &mut (&mut body).limit(room), deadline.as_mut()).await?;
                decoder = BodyDecoder::Chunk(rest - read as u64);
                read
            }
            _ => {
                if raw.capacity() - raw.len() < READ_BYTES / 8 {
                    raw.reserve(READ_BYTES);
                }
                read_within(&mut stream, &mut raw, deadline.as_mut()).await?
            }
        };
        if read == 0 {
            return Ok(ReadEnd::Stream);
        }
    }
}

/// Reads the available bytes. Fails when no byte arrives for [`STALL_TIME_MAX`].
async fn read_within(
    stream: &mut Stream,
    buffer: &mut impl BufMut,
    mut deadline: Pin<&mut StallTimer>,
) -> io::Result<usize> {
    let mut read = pin!(stream.read_buf(buffer));
    poll_fn(|cx| match read.as_mut().poll(cx) {
        Poll::Ready(read) => Poll::Ready(read),
        Poll::Pending => {
            deadline.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")))
        }
    })
    .await
}

/// Elapses [`STALL_TIME_MAX`] after the last restart. A restart does not touch the timer itself: that is set once in
/// this time.
struct StallTimer {
    timer: Pin<Box<Sleep>>,
    last: Instant,
}

impl StallTimer {
    fn new() -> StallTimer {
        let last = Instant::now();
        StallTimer { timer: Box::pin(sleep_until(last + STALL_TIME_MAX)), last }
    }

    /// Restarts the time and returns the current moment.
    fn restart(mut self: Pin<&mut Self>) -> Instant {
        self.last = Instant::now();
        self.last
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        loop {
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let due = self.last + STALL_TIME_MAX;
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }
}

/// A request of a peer for a stream, which is granted.
pub(super) struct StreamStart {
    pub(super) to: Arc<RemotePeer>,
    pub(super) kind: StreamKind,
}

enum NextStep {
    Write(WriteBatch),
    KeepAlive,
    /// The peer has a new connection for this stream, or was removed.
    Replaced,
    /// The peer closed the connection.
    Closed,
}

/// Sends the response to a stream request and then writes all messages for that peer, until either side ends the
/// stream.
pub(super) async fn write(context: &TransportContext, start: StreamStart, mut stream: Stream) {
    let StreamStart { to, kind } = start;
    let queue = to.queue(kind);
    let response_head = response_head(context, (context.local.clock)());
    if let Err(error) = write_all(&mut stream, &response_head).await {
        to.status.deactivate("write", kind.name(), &io_reason(&error));
        return;
    }
    let mut socket = match stream {
        Stream::Plain(socket) => StreamSocket::Plain(Arc::new(socket)),
        stream @ Stream::Tls(_) => StreamSocket::Tls(stream),
    };
    let Some(number) = queue.attach(socket.direct()) else { return };
    let attached = AttachedStream { context, to: &to, queue, number };
    to.status.activate();
    match write_frames(&mut socket, &to, queue, number).await {
        Ok(NextStep::Replaced) => {
            drop(attached);
            // A regular end of the body; it does not matter if it does not arrive.
            let _ = socket.write_all(b"0\r\n\r\n").await;
        }
        Ok(_) => {}
        Err((action, error)) => to.status.deactivate(action, kind.name(), &io_reason(&error)),
    }
}

/// Detaches the connection from the queue when the task ends for any reason.
struct AttachedStream<'a> {
    context: &'a TransportContext,
    to: &'a RemotePeer,
    queue: &'a StreamQueue,
    number: ConnectionNumber,
}

impl Drop for AttachedStream<'_> {
    fn drop(&mut self) {
        if self.queue.detach(self.number) {
            self.context.mailbox.notify_unreachable(self.to.id);
        }
    }
}

async fn write_frames(
    socket: &mut StreamSocket,
    to: &RemotePeer,
    queue: &StreamQueue,
    number: ConnectionNumber,
) -> Result<NextStep, (&'static str, io::Error)> {
    let mut alive = Box::pin(sleep(LINK_HEARTBEAT_INTERVAL));
    loop {
        let next = poll_fn(|cx| {
            match queue.poll_batch(number, cx) {
                Poll::Ready(Some(batch)) => return Poll::Ready(NextStep::Write(batch)),
                Poll::Ready(None) => return Poll::Ready(NextStep::Replaced),
                Poll::Pending => {}
            }
            // If a batch is half written, this task is woken soon.
            if alive.as_mut().poll(cx).is_ready() && queue.begin_write(number) {
                return Poll::Ready(NextStep::KeepAlive);
            }
            socket.poll_closed(cx).map(|()| NextStep::Closed)
        })
        .await;
        match next {
            NextStep::Write(batch) => {
                for bytes in [&batch.urgent, &batch.bulk] {
                    socket.write_all(bytes).await.map_err(|error| ("write", error))?;
                }
                queue.recycle(batch);
            }
            NextStep::KeepAlive => {
                let (began, chunk) = (Instant::now(), queue.link_heartbeat());
                socket.write_all(&chunk).await.map_err(|error| ("heartbeat", error))?;
                let now = Instant::now();
                to.measures.sent_keep_alive(queue.kind().into(), now.duration_since(began));
                alive.as_mut().reset(now + LINK_HEARTBEAT_INTERVAL);
            }
            NextStep::Replaced | NextStep::Closed => return Ok(next),
        }
    }
}

/// The socket. A plain one is shared with the queue, see [`StreamQueue::flush`].
enum StreamSocket {
    Plain(Arc<TcpStream>),
    Tls(Stream),
}

impl StreamSocket {
    fn direct(&self) -> Option<Arc<TcpStream>> {
        match self {
            StreamSocket::Plain(socket) => Some(socket.clone()),
            StreamSocket::Tls(_) => None,
        }
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let socket = match self {
            StreamSocket::Plain(socket) => socket,
            StreamSocket::Tls(stream) => return write_all(stream, bytes).await,
        };
        while !bytes.is_empty() {
            match socket.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    within(STALL_TIME_MAX, socket.writable()).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ready when the peer has closed the connection. Bytes from the peer are ignored.
    fn poll_closed(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
        let mut space = [0; 64];
        loop {
            let read = match self {
                StreamSocket::Plain(socket) => match socket.poll_read_ready(cx) {
                    Poll::Ready(Ok(())) => socket.try_read(&mut space),
                    Poll::Ready(Err(error)) => Err(error),
                    Poll::Pending => return Poll::Pending,
                },
                StreamSocket::Tls(stream) => {
                    let mut buffer = ReadBuf::new(&mut space);
                    match Pin::new(stream).poll_read(cx, &mut buffer) {
                        Poll::Ready(read) => read.map(|()| buffer.filled().len()),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            };
            match read {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

fn response_head(context: &TransportContext, now: UnixNanos) -> Vec<u8> {
    let second = now.0.div_euclid(1_000_000_000);
    let date = jiff::Timestamp::from_second(second)
        .map(|time| time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string())
        .unwrap_or_default();
    let cluster_id = context.local.cluster_id;
    let features = Features::OURS;
    format!(
        "HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: {cluster_id}\r\n{FEATURES_HEADER}: {features}\r\n\
         X-Server-Version: {SPOKEN}\r\n{date}Content-Type: text/plain; charset=utf-8\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    )
    .into_bytes()
}
