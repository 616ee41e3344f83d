//! Messages to a peer by requests of their own: while streams are not up, and snapshots always.
//!
//! A few connections stay open for it, each with one request at a time. A snapshot goes from its file to the
//! socket piece by piece; the others carry on meanwhile.

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

use super::client::{Answer, Link, write_all};
use super::local::{Inbound, SnapshotBytes};
use super::measures::Way;
use super::peer::{Context, Destination};
use crate::log;

/// Requests under way to one peer.
pub(super) const WORKERS: usize = 4;

/// Messages that wait for one of them.
const MESSAGES_MAX: usize = 64;

/// Bytes of these messages, but for a single larger one.
const BYTES_MAX: usize = 64 << 20;

/// How long a peer may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// What is read from a snapshot's file at once.
const PIECE_BYTES: usize = 256 * 1024;

/// As the log calls it.
const NAME: &str = "pipeline";

/// A 403 or 410: this member is no member any more.
pub(super) const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Messages that wait for a request of their own.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Pipeline {
    /// Takes a message, unless too many wait. Never waits itself.
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

    /// Messages that wait, and their bytes.
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

/// Why a message did not get there.
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

/// Sends what waits, one message after the other, for ever.
pub(super) async fn work(context: Arc<Context>, to: Arc<Destination>) {
    let mut link = None;
    loop {
        let message = to.pipeline.next().await;
        let (kind, id) = (message.kind(), message.to());
        let began = Instant::now();
        let posted = post(&context, &to, &mut link, &message).await;
        let bytes = message.encoded_len_max() as u64;
        drop(message);
        match &posted {
            Ok(()) => {
                to.measures.posted(kind, bytes, began.elapsed());
                to.status.activate();
            }
            Err(error) => {
                link = None;
                to.measures.failed(Way::Pipeline, kind);
                to.status.deactivate("write", NAME, &error.to_string());
                if kind == Kind::Append {
                    to.follower.failed();
                }
                if matches!(error, PostError::Removed) {
                    context.mailbox.tell(Inbound::Fatal(REMOVED.to_owned()));
                }
                context.mailbox.tell_unreachable(id);
            }
        }
        if kind == Kind::Snapshot {
            context.mailbox.tell(Inbound::SnapshotSent { to: id, ok: posted.is_ok() });
        }
    }
}

async fn post(
    context: &Arc<Context>,
    to: &Destination,
    link: &mut Option<Link>,
    message: &Message,
) -> Result<(), PostError> {
    let url = to.picker.pick().ok_or_else(|| PostError::Refused("no valid URLs given".to_owned()))?;
    let reused = link.take().filter(Link::is_fresh);
    let may_be_stale = reused.is_some();
    let mut result = exchange(context, to, &url, reused, message).await;
    // A connection that was idle may have been closed at the other end a moment ago.
    if may_be_stale && matches!(result, Err(PostError::Io(_))) {
        result = exchange(context, to, &url, None, message).await;
    }
    match result {
        Ok(kept) => {
            *link = kept;
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

/// One request and its answer. The connection comes back if it can be used again.
async fn exchange(
    context: &Arc<Context>,
    to: &Destination,
    url: &Url,
    link: Option<Link>,
    message: &Message,
) -> Result<Option<Link>, PostError> {
    let body = Body::of(context, message).await?;
    let mut link = match link {
        Some(link) => link,
        None => Link::dial(&context.dialer, url, context.dial_time_max).await?,
    };
    let head = context.credentials.post_head(url, body.length());
    // A peer that refuses may answer and close before it has read everything.
    let (answer, sent) = match body.send(&head, &mut link).await {
        Ok(()) => (link.answer(ANSWER_TIME_MAX).await?, true),
        Err(PostError::Io(error)) => match link.answer(Duration::from_millis(100)).await {
            Ok(answer) => (answer, false),
            Err(_) => return Err(error.into()),
        },
        Err(error) => return Err(error),
    };
    let mut answer = answer;
    let (text, reusable) = link.rest(&mut answer).await?;
    check(context, to, url, &answer, &text)?;
    Ok((reusable && sent).then_some(link))
}

fn check(
    context: &Context,
    to: &Destination,
    url: &Url,
    answer: &Answer,
    text: &[u8],
) -> Result<(), PostError> {
    match answer.status {
        204 => Ok(()),
        403 => Err(PostError::Removed),
        412 => Err(PostError::Refused(precondition_failed(context, to, answer, text))),
        status => {
            let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
            let reason = reason.unwrap_or_default();
            Err(PostError::Refused(format!(
                "unexpected http status {reason} while posting to \"{url}/raft\""
            )))
        }
    }
}

/// What a 412 means; logs what the operator should know.
pub(super) fn precondition_failed(
    context: &Context,
    to: &Destination,
    answer: &Answer,
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
                (answer.header("x-etcd-cluster-id").unwrap_or_default(), context.local.cluster_id);
            log::error!(
                "rafthttp",
                "request sent was ignored (cluster ID mismatch: remote[{id}]={theirs}, local={ours})"
            );
            text.to_owned()
        }
        _ => format!("unhandled error {text:?} when precondition failed"),
    }
}

/// A message's bytes.
enum Body {
    Whole(BytesMut),
    /// Bytes before and after those of a file.
    Around {
        before: bytes::Bytes,
        file: Box<dyn SnapshotBytes>,
        after: bytes::Bytes,
    },
}

impl Body {
    async fn of(context: &Arc<Context>, message: &Message) -> Result<Body, PostError> {
        let Some(snapshot) = message.snapshot() else {
            let mut bytes = BytesMut::new();
            message.encode(&mut bytes);
            return Ok(Body::Whole(bytes));
        };
        let source = context.snapshots.clone();
        let opened = tokio::task::spawn_blocking(move || source.open(snapshot.term, snapshot.index)).await;
        let file = opened.map_err(io::Error::other).and_then(|opened| opened).map_err(PostError::Snapshot)?;
        let (before, after) = message.encode_around_snapshot(file.length());
        Ok(Body::Around { before, file, after })
    }

    fn length(&self) -> u64 {
        match self {
            Body::Whole(bytes) => bytes.len() as u64,
            Body::Around { before, file, after } => before.len() as u64 + file.length() + after.len() as u64,
        }
    }

    async fn send(self, head: &str, link: &mut Link) -> Result<(), PostError> {
        let mut first = BytesMut::from(head.as_bytes());
        match self {
            Body::Whole(bytes) => {
                first.extend_from_slice(&bytes);
                write_all(&mut link.stream, &first).await?;
            }
            Body::Around { before, file, after } => {
                first.extend_from_slice(&before);
                write_all(&mut link.stream, &first).await?;
                send_file(file, link).await?;
                write_all(&mut link.stream, &after).await?;
            }
        }
        Ok(())
    }
}

/// Sends a snapshot's bytes, read by a thread that may wait for the disk.
async fn send_file(file: Box<dyn SnapshotBytes>, link: &mut Link) -> Result<(), PostError> {
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
        write_all(&mut link.stream, &piece).await?;
        at += wanted as u64;
    }
    Ok(())
}
