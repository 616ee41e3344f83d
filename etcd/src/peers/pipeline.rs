//! Messages to a peer by `POST`: all messages while the streams are down, and snapshots always.
//!
//! A few connections are used, each with one request at a time. A snapshot is copied from its file to the socket in
//! pieces; the other connections carry the messages meanwhile.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use node::member::{Kind, Message};
use parking_lot::Mutex;
use shared::net::io_reason;
use shared::url::Url;
use tokio::sync::Notify;

use super::client::{PeerConnection, ResponseHead, write_all};
use super::local::{Inbound, SnapshotBytes};
use super::measures::Channel;
use super::peer::{RemotePeer, TransportContext};
use crate::log;

/// The requests to one peer that run at the same time.
pub(super) const WORKERS: usize = 4;

/// The most messages that wait for a connection.
const MESSAGES_MAX: usize = 64;

/// The most bytes of these messages, unless a single one is larger.
const BYTES_MAX: usize = 64 << 20;

/// How long a peer may take to respond.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(10);

/// The bytes that are read from a snapshot file at once.
const PIECE_BYTES: usize = 256 * 1024;

/// The name in log lines.
const NAME: &str = "pipeline";

/// The reason for a 403 or 410: this member has been removed.
pub(super) const REMOVED: &str = "the member has been permanently removed from the cluster";

/// The messages that wait for a post.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    waiting: Mutex<PipelineQueue>,
    more: Notify,
}

#[derive(Debug, Default)]
struct PipelineQueue {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Pipeline {
    /// Queues a message, unless too many wait. Never waits.
    pub(super) fn push(&self, message: Message) -> bool {
        let mut waiting = self.waiting.lock();
        let bytes = waiting.bytes + message.encoded_len_max();
        let full = waiting.messages.len() == MESSAGES_MAX || bytes > BYTES_MAX;
        if full && !waiting.messages.is_empty() {
            return false;
        }
        waiting.bytes = bytes;
        waiting.messages.push_back(message);
        drop(waiting);
        self.more.notify_one();
        true
    }

    /// The number of queued messages, and their bytes.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let waiting = self.waiting.lock();
        (waiting.messages.len(), waiting.bytes)
    }

    async fn next(&self) -> Message {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if let Some(message) = waiting.messages.pop_front() {
                    waiting.bytes -= message.encoded_len_max();
                    if !waiting.messages.is_empty() {
                        self.more.notify_one();
                    }
                    return message;
                }
            }
            self.more.notified().await;
        }
    }
}

/// Why a message was not delivered.
#[derive(Debug, thiserror::Error)]
enum PostError {
    #[error("{}", io_reason(.0))]
    Io(#[from] io::Error),
    #[error("the snapshot cannot be read: {0}")]
    Snapshot(io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("{REMOVED}")]
    Removed,
}

/// Sends the queued messages, one after the other, for ever.
pub(super) async fn send_all(context: Arc<TransportContext>, to: Arc<RemotePeer>) {
    let mut connection = None;
    loop {
        let message = to.pipeline.next().await;
        let (kind, id) = (message.kind(), message.to());
        let began = Instant::now();
        let posted = post(&context, &to, &mut connection, &message).await;
        let bytes = message.encoded_len_max() as u64;
        drop(message);
        match &posted {
            Ok(()) => {
                to.measures.posted(kind, bytes, began.elapsed());
                to.status.activate();
            }
            Err(error) => {
                connection = None;
                to.measures.failed(Channel::Pipeline, kind);
                to.status.deactivate("write", NAME, &error.to_string());
                if kind == Kind::Append {
                    to.follower.failed();
                }
                if matches!(error, PostError::Removed) {
                    context.mailbox.notify(Inbound::RemovedAccordingTo(id));
                }
                context.mailbox.notify_unreachable(id);
            }
        }
        if kind == Kind::Snapshot {
            context.mailbox.notify(Inbound::SnapshotSent { to: id, ok: posted.is_ok() });
        }
    }
}

async fn post(
    context: &Arc<TransportContext>,
    to: &RemotePeer,
    connection: &mut Option<PeerConnection>,
    message: &Message,
) -> Result<(), PostError> {
    let url = to.picker.pick().ok_or_else(|| PostError::Refused("no valid URLs given".to_owned()))?;
    let reused = connection.take().filter(PeerConnection::is_fresh);
    let may_be_stale = reused.is_some();
    let mut result = post_once(context, to, &url, reused, message).await;
    // The peer may have closed an idle connection a moment ago.
    if may_be_stale && matches!(result, Err(PostError::Io(_))) {
        result = post_once(context, to, &url, None, message).await;
    }
    match result {
        Ok(kept) => {
            *connection = kept;
            Ok(())
        }
        Err(error) => {
            if !matches!(error, PostError::Snapshot(_)) {
                to.picker.failed(&url);
            }
            Err(error)
        }
    }
}

/// Sends one request and reads the response. Returns the connection if it can be used again.
async fn post_once(
    context: &Arc<TransportContext>,
    to: &RemotePeer,
    url: &Url,
    connection: Option<PeerConnection>,
    message: &Message,
) -> Result<Option<PeerConnection>, PostError> {
    let body = MessageBody::of(context, message).await?;
    let mut connection = match connection {
        Some(connection) => connection,
        None => PeerConnection::dial(&context.dialer, url, context.dial_time_max).await?,
    };
    let head = context.sender_headers.post_head(url, body.length());
    // A peer that refuses may respond and close before it has read the whole body.
    let (response, sent) = match body.send(&head, &mut connection).await {
        Ok(()) => (connection.read_response(RESPONSE_TIME_MAX).await?, true),
        Err(PostError::Io(error)) => match connection.read_response(Duration::from_millis(100)).await {
            Ok(response) => (response, false),
            Err(_) => return Err(error.into()),
        },
        Err(error) => return Err(error),
    };
    let mut response = response;
    let (text, reusable) = connection.read_body(&mut response).await?;
    check_response(context, to, url, &response, &text)?;
    Ok((reusable && sent).then_some(connection))
}

fn check_response(
    context: &TransportContext,
    to: &RemotePeer,
    url: &Url,
    response: &ResponseHead,
    text: &[u8],
) -> Result<(), PostError> {
    match response.status {
        204 => Ok(()),
        403 if is_of_own_cluster(context, response) => Err(PostError::Removed),
        412 => Err(PostError::Refused(precondition_failed(context, to, response, text))),
        status => {
            let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
            let reason = reason.unwrap_or_default();
            Err(PostError::Refused(format!(
                "unexpected http status {reason} while posting to \"{url}/raft\""
            )))
        }
    }
}

/// Whether the response comes from a member of this cluster. A web server at a wrong URL, or a filter on the way, answers
/// 403 and 410 too.
pub(super) fn is_of_own_cluster(context: &TransportContext, response: &ResponseHead) -> bool {
    response.header("x-etcd-cluster-id").is_some_and(|id| id == context.local.cluster_id.to_string())
}

/// The reason for a 412. Also logs what the operator needs to know.
pub(super) fn precondition_failed(
    context: &TransportContext,
    to: &RemotePeer,
    response: &ResponseHead,
    text: &[u8],
) -> String {
    let text = String::from_utf8_lossy(text);
    let id = to.id;
    match text.strip_suffix('\n').unwrap_or(&text) {
        text @ "incompatible version" => {
            log::error!("rafthttp", "request sent was ignored by peer {id} (server version incompatible)");
            text.to_owned()
        }
        text @ "cluster ID mismatch" => {
            let (theirs, ours) =
                (response.header("x-etcd-cluster-id").unwrap_or_default(), context.local.cluster_id);
            log::error!(
                "rafthttp",
                "request sent was ignored (cluster ID mismatch: remote[{id}]={theirs}, local={ours})"
            );
            text.to_owned()
        }
        _ => format!("unhandled error {text:?} when precondition failed"),
    }
}

/// The bytes of a message.
enum MessageBody {
    Whole(BytesMut),
    /// The bytes before and after those of a snapshot file.
    Around {
        before: bytes::Bytes,
        file: Box<dyn SnapshotBytes>,
        after: bytes::Bytes,
    },
}

impl MessageBody {
    async fn of(context: &Arc<TransportContext>, message: &Message) -> Result<MessageBody, PostError> {
        let Some(snapshot) = message.snapshot() else {
            let mut bytes = BytesMut::new();
            message.encode(&mut bytes);
            return Ok(MessageBody::Whole(bytes));
        };
        let source = context.snapshots.clone();
        let opened = tokio::task::spawn_blocking(move || source.open(snapshot.term, snapshot.index)).await;
        let file = opened.map_err(io::Error::other).and_then(|opened| opened).map_err(PostError::Snapshot)?;
        let (before, after) = message.encode_around_snapshot(file.length());
        Ok(MessageBody::Around { before, file, after })
    }

    fn length(&self) -> u64 {
        match self {
            MessageBody::Whole(bytes) => bytes.len() as u64,
            MessageBody::Around { before, file, after } => {
                before.len() as u64 + file.length() + after.len() as u64
            }
        }
    }

    async fn send(self, head: &str, connection: &mut PeerConnection) -> Result<(), PostError> {
        let mut first = BytesMut::from(head.as_bytes());
        match self {
            MessageBody::Whole(bytes) => {
                first.extend_from_slice(&bytes);
                write_all(&mut connection.stream, &first).await?;
            }
            MessageBody::Around { before, file, after } => {
                first.extend_from_slice(&before);
                write_all(&mut connection.stream, &first).await?;
                send_file(file, connection).await?;
                write_all(&mut connection.stream, &after).await?;
            }
        }
        Ok(())
    }
}

/// Sends a snapshot file. Reads it on a thread that may wait for the disk.
async fn send_file(file: Box<dyn SnapshotBytes>, connection: &mut PeerConnection) -> Result<(), PostError> {
    let (mut file, mut piece, mut at) = (file, Vec::new(), 0);
    let length = file.length();
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let read = tokio::task::spawn_blocking(move || {
            piece.resize(wanted, 0);
            file.read_at(at, &mut piece).map(|()| (file, piece))
        });
        (file, piece) =
            read.await.map_err(io::Error::other).and_then(|read| read).map_err(PostError::Snapshot)?;
        write_all(&mut connection.stream, &piece).await?;
        at += wanted as u64;
    }
    Ok(())
}
