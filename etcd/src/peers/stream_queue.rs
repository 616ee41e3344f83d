//! The queue of messages that leave on one stream to one peer.
//!
//! A message is encoded when it is queued, directly into the bytes of the next write. So the bound in bytes is exact,
//! and one write takes all messages that were queued during the last write. The bytes are stored as HTTP chunks, with
//! space for the chunk head in front.
//!
//! [`StreamQueue::flush`] writes directly to the socket as far as the socket accepts bytes; the stream's task writes
//! the rest.
//!
//! There are two lanes. Messages that elections depend on are sent before entries, and wait for one segment of
//! entries at most.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, BytesMut};
use node::member::{Kind, Message};
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::frames::{self, AppendWriter, FRAME_BYTES_MAX, StreamKind, write_message};

/// The most messages that are queued for one stream. Raft resends what is dropped.
const MESSAGES_MAX: usize = 4096;

/// The most bytes that are queued for one stream: 64 of the largest appends that a leader sends.
const BYTES_MAX: usize = 64 << 20;

/// The most bytes of entries that an urgent message may have to wait for, unless a single entry is larger.
const SEGMENT_BYTES: usize = 128 * 1024;

/// Space for the head of a chunk: eight digits, carriage return and line feed.
const CHUNK_HEAD: usize = 10;

/// Entries up to this size are copied behind urgent messages, so that one write takes both.
const JOINED_BYTES_MAX: usize = 16 * 1024;

/// Larger buffers are freed instead of being reused.
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// Identifies a connection of the stream. Never 0.
pub(super) type ConnectionNumber = u64;

/// Why a message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PushError {
    /// The stream has no connection: the message has to take another channel.
    Detached,
    /// The queue is full, or the message is larger than a peer accepts.
    Full,
}

/// The queue for one stream.
#[derive(Debug)]
pub(super) struct StreamQueue {
    kind: StreamKind,
    queue: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    /// The current connection, or 0 if there is none.
    attached: ConnectionNumber,
    last: ConnectionNumber,
    urgent: Segment,
    bulk: VecDeque<Segment>,
    messages: usize,
    bytes: usize,
    appends: AppendWriter,
    spare: Vec<BytesMut>,
    waker: Option<Waker>,
    closed: bool,
    /// The socket, if this queue may write to it directly.
    direct: Option<Arc<TcpStream>>,
    /// The stream's task is writing: nothing else may write.
    writing: bool,
    /// What the socket did not accept. It is written before anything else.
    unfinished: Option<WriteBatch>,
}

/// A chunk that is being filled.
#[derive(Debug, Default)]
struct Segment {
    /// Space for the chunk head, then messages.
    chunk: BytesMut,
    messages: usize,
}

/// Complete chunks that are written next.
#[derive(Debug, Default)]
pub(super) struct WriteBatch {
    /// Written first. May be empty.
    pub(super) urgent: BytesMut,
    /// Entries. May be empty.
    pub(super) bulk: BytesMut,
}

impl StreamQueue {
    /// A queue for a stream that has no connection yet.
    pub(super) fn new(kind: StreamKind) -> StreamQueue {
        StreamQueue { kind, queue: Mutex::default() }
    }

    /// The number of queued messages, and their bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let queue = self.queue.lock();
        (queue.messages, queue.bytes)
    }

    /// The stream of this queue.
    pub(super) fn kind(&self) -> StreamKind {
        self.kind
    }

    /// Queues a message and returns its size in bytes. Never waits. The next [`StreamQueue::flush`] sends it.
    pub(super) fn push(&self, message: &Message) -> Result<usize, PushError> {
        let mut queue = self.queue.lock();
        if queue.attached == 0 {
            return Err(PushError::Detached);
        }
        let length_max = message.encoded_len_max();
        let full = queue.messages == MESSAGES_MAX || queue.bytes + length_max > BYTES_MAX;
        if length_max > FRAME_BYTES_MAX || (full && queue.messages > 0) {
            return Err(PushError::Full);
        }
        let queue = &mut *queue;
        let is_bulk = matches!(message.kind(), Kind::Append | Kind::Propose);
        let segment = if !is_bulk {
            &mut queue.urgent
        } else {
            if queue.bulk.back().is_none_or(|segment| segment.chunk.len() >= SEGMENT_BYTES) {
                let chunk = queue.spare.pop().unwrap_or_default();
                queue.bulk.push_back(Segment { chunk, messages: 0 });
            }
            match queue.bulk.back_mut() {
                Some(segment) => segment,
                None => return Err(PushError::Full),
            }
        };
        segment.messages += 1;
        let buffer = &mut segment.chunk;
        if buffer.is_empty() {
            buffer.put_bytes(b'0', CHUNK_HEAD);
        }
        let before = buffer.len();
        match self.kind {
            StreamKind::Append => queue.appends.write(message, buffer),
            StreamKind::Message => write_message(message, buffer),
        }
        let length = buffer.len() - before;
        queue.messages += 1;
        queue.bytes += length;
        Ok(length)
    }

    /// Sends the queued messages: directly to the socket as far as possible, otherwise by the stream's task.
    pub(super) fn flush(&self) {
        let mut queue = self.queue.lock();
        if queue.messages == 0 {
            return;
        }
        if !queue.writing
            && queue.unfinished.is_none()
            && let Some(socket) = queue.direct.clone()
        {
            let mut batch = queue.take();
            // The stream's task gets the same error and handles it.
            if write_now(&socket, &mut batch.urgent) && write_now(&socket, &mut batch.bulk) {
                queue.recycle(batch);
                if queue.messages == 0 {
                    return;
                }
            } else {
                queue.unfinished = Some(batch);
            }
        }
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }

    /// Sets a new connection and ends the previous one. `direct` is its socket, if this queue may write to it
    /// directly. `None` when the queue is closed.
    pub(super) fn attach(&self, direct: Option<Arc<TcpStream>>) -> Option<ConnectionNumber> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return None;
        }
        queue.clear();
        queue.last += 1;
        queue.attached = queue.last;
        queue.direct = direct;
        Some(queue.last)
    }

    /// Removes a connection that has ended. Returns whether queued or half-written messages were lost.
    pub(super) fn detach(&self, number: ConnectionNumber) -> bool {
        let mut queue = self.queue.lock();
        if queue.attached != number {
            return false;
        }
        let lost = queue.messages > 0 || queue.unfinished.is_some();
        queue.clear();
        queue.attached = 0;
        lost
    }

    /// Closes the queue for ever.
    pub(super) fn close(&self) {
        let mut queue = self.queue.lock();
        queue.clear();
        queue.attached = 0;
        queue.closed = true;
    }

    /// Whether the stream has a connection.
    #[cfg(test)]
    pub(super) fn is_attached(&self) -> bool {
        self.queue.lock().attached != 0
    }

    /// The next batch. Only the caller may write until it calls again. `Ready(None)` when the connection has been
    /// replaced or closed.
    pub(super) fn poll_batch(
        &self,
        number: ConnectionNumber,
        cx: &mut Context<'_>,
    ) -> Poll<Option<WriteBatch>> {
        let mut queue = self.queue.lock();
        if queue.attached != number {
            return Poll::Ready(None);
        }
        queue.writing = false;
        let batch = match queue.unfinished.take() {
            Some(batch) => batch,
            None if queue.messages > 0 => queue.take(),
            None => {
                if queue.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
                    queue.waker = Some(cx.waker().clone());
                }
                return Poll::Pending;
            }
        };
        queue.writing = true;
        Poll::Ready(Some(batch))
    }

    /// Reserves the socket for the caller until its next [`StreamQueue::poll_batch`]. `false` while a batch is half
    /// written.
    pub(super) fn begin_write(&self, number: ConnectionNumber) -> bool {
        let mut queue = self.queue.lock();
        let free = queue.attached == number && queue.unfinished.is_none();
        if free {
            queue.writing = true;
        }
        free
    }

    /// Keeps the buffers of a written batch for reuse.
    pub(super) fn recycle(&self, batch: WriteBatch) {
        self.queue.lock().recycle(batch);
    }

    /// The chunk with a keep-alive frame.
    pub(super) fn link_heartbeat(&self) -> BytesMut {
        let frame: &[u8] = match self.kind {
            StreamKind::Append => &frames::APPEND_LINK_HEARTBEAT,
            StreamKind::Message => &frames::LINK_HEARTBEAT,
        };
        let mut chunk = BytesMut::with_capacity(CHUNK_HEAD + frame.len() + 2);
        chunk.put_bytes(b'0', CHUNK_HEAD);
        chunk.put_slice(frame);
        finish_chunk(&mut chunk);
        chunk
    }
}

impl QueueState {
    /// Drops the queued messages and the receiver's state, and wakes the stream's task.
    fn clear(&mut self) {
        let (last, closed) = (self.last, self.closed);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        *self = QueueState { last, closed, ..QueueState::default() };
    }

    /// Takes the next chunks off the queue.
    fn take(&mut self) -> WriteBatch {
        let urgent = std::mem::take(&mut self.urgent);
        let bulk = self.bulk.pop_front().unwrap_or_default();
        let [mut urgent, mut bulk] = [urgent, bulk].map(|Segment { mut chunk, messages }| {
            self.messages -= messages;
            self.bytes -= chunk.len().saturating_sub(CHUNK_HEAD);
            finish_chunk(&mut chunk);
            chunk
        });
        if !urgent.is_empty() && bulk.len() <= JOINED_BYTES_MAX {
            urgent.extend_from_slice(&bulk);
            bulk.clear();
        }
        // The next urgent messages reuse a buffer.
        self.urgent.chunk = self.spare.pop().unwrap_or_default();
        WriteBatch { urgent, bulk }
    }

    fn recycle(&mut self, batch: WriteBatch) {
        for mut buffer in [batch.urgent, batch.bulk] {
            if self.spare.len() < 2 && buffer.capacity() > 0 && buffer.capacity() <= SPARE_BYTES_MAX {
                buffer.clear();
                self.spare.push(buffer);
            }
        }
    }
}

/// Writes as many bytes as the socket accepts and removes them from `bytes`. Returns whether all were written.
fn write_now(socket: &TcpStream, bytes: &mut BytesMut) -> bool {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(written) if written > 0 => bytes.advance(written),
            _ => return false,
        }
    }
    true
}

/// Fills in the chunk head in front of the messages and ends the chunk.
fn finish_chunk(chunk: &mut BytesMut) {
    if chunk.is_empty() {
        return;
    }
    let mut length = chunk.len() - CHUNK_HEAD;
    for digit in chunk[..CHUNK_HEAD - 2].iter_mut().rev() {
        *digit = b"0123456789abcdef"[length % 16];
        length /= 16;
    }
    chunk[CHUNK_HEAD - 2..CHUNK_HEAD].copy_from_slice(b"\r\n");
    chunk.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use shared::id::MemberId;
    use shared::pb;
    use shared::v2;

    use super::*;

    fn append(index: u64, bytes: usize) -> Message {
        let request = v2::Request { val: vec![7; bytes].into(), ..v2::Request::default() };
        let data = request.encode_to_vec();
        let entry = pb::Entry { kind: 0, term: 1, index: index + 2, data: Some(data.into()) };
        Message::append(MemberId(1), MemberId(2), 1, index + 1, 0, vec![entry]).unwrap()
    }

    fn heartbeat() -> Message {
        Message::decode(bytes::Bytes::from_static(&[8, 8, 16, 2, 24, 1])).unwrap()
    }

    fn take(stream: &StreamQueue, number: ConnectionNumber) -> Poll<Option<WriteBatch>> {
        stream.poll_batch(number, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_chunk_has_its_length_in_front() {
        let stream = StreamQueue::new(StreamKind::Append);
        assert_eq!(stream.link_heartbeat(), b"00000001\r\n\0\r\n"[..]);
        let stream = StreamQueue::new(StreamKind::Message);
        assert_eq!(stream.link_heartbeat()[..10], b"00000024\r\n"[..]);
    }

    #[test]
    fn a_heartbeat_goes_ahead_of_entries() {
        let stream = StreamQueue::new(StreamKind::Message);
        assert_eq!(stream.push(&heartbeat()), Err(PushError::Detached));
        let number = stream.attach(None).unwrap();
        for index in 0..4 {
            stream.push(&append(index, SEGMENT_BYTES)).unwrap();
        }
        stream.push(&heartbeat()).unwrap();
        let Poll::Ready(Some(first)) = take(&stream, number) else { panic!("nothing to write") };
        assert!(!first.urgent.is_empty());
        assert!(first.bulk.len() < 2 * SEGMENT_BYTES, "one segment, then others have their turn");
        for _ in 0..3 {
            let Poll::Ready(Some(next)) = take(&stream, number) else { panic!("nothing to write") };
            assert!(next.urgent.is_empty() && !next.bulk.is_empty());
        }
        assert!(take(&stream, number).is_pending());
        assert_eq!(stream.queue.lock().bytes, 0);
    }

    #[test]
    fn a_peer_that_reads_nothing_costs_a_bounded_number_of_bytes() {
        let stream = StreamQueue::new(StreamKind::Append);
        let number = stream.attach(None).unwrap();
        let taken = (0..200).filter(|index| stream.push(&append(*index, 1 << 20)).is_ok()).count();
        assert!((60..64).contains(&taken), "{taken}");
        assert!(stream.detach(number));
        assert_eq!(stream.push(&append(1, 1)), Err(PushError::Detached));
        let number = stream.attach(None).unwrap();
        let taken = (0..9999).filter(|index| stream.push(&append(*index, 1)).is_ok()).count();
        assert_eq!(taken, MESSAGES_MAX);
        assert!(stream.detach(number));
    }

    #[test]
    fn a_new_connection_ends_the_old_one_and_begins_afresh() {
        let stream = StreamQueue::new(StreamKind::Append);
        let old = stream.attach(None).unwrap();
        stream.push(&append(4, 1)).unwrap();
        let new = stream.attach(None).unwrap();
        assert!(matches!(take(&stream, old), Poll::Ready(None)));
        assert!(!stream.detach(old), "the new one is not touched");
        stream.push(&append(5, 1)).unwrap();
        let Poll::Ready(Some(batch)) = take(&stream, new) else { panic!("nothing to write") };
        assert_eq!(batch.bulk[CHUNK_HEAD], 2, "a whole message: the other side knows nothing");
        stream.close();
        assert!(matches!(take(&stream, new), Poll::Ready(None)));
        assert_eq!(stream.attach(None), None);
    }
}
