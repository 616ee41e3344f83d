//! Messages that come by requests of their own: while streams are not up, and snapshots always.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use shared::id::MemberId;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::features::{FEATURES_HEADER, Features};
use super::frames::{self, FRAME_BYTES_MAX, LENGTH};
use super::pages::{self, Answer, Roster};
use super::serve::{Abort, Refusal, Shared, compatible, is_removed, text};
use super::socket::STALL_TIME_MAX;
use crate::log;
use crate::member::{Kind, Message, MessageError};

/// The longest message: a snapshot is one, and holds the whole store.
const BODY_BYTES_MAX: u64 = 2 << 30;

/// Messages up to that length are taken without asking for room: they are frequent and short-lived.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// Room is counted in these.
const UNIT_BYTES: u64 = 1024;

/// How long a large message may wait for room.
const ROOM_TIME_MAX: Duration = Duration::from_secs(5);

/// Bounds what the bodies of all requests take at the same time, to one of the longest.
#[derive(Debug)]
pub(super) struct BodyRoom(Semaphore);

impl Default for BodyRoom {
    fn default() -> BodyRoom {
        BodyRoom(Semaphore::new(
            usize::try_from(BODY_BYTES_MAX / UNIT_BYTES).unwrap_or(Semaphore::MAX_PERMITS),
        ))
    }
}

impl BodyRoom {
    async fn enter(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        timeout(ROOM_TIME_MAX, self.0.acquire_many(units)).await.ok()?.ok()
    }
}

/// `POST /raft`.
pub(super) async fn message<R: Roster>(
    shared: &Shared<R>,
    request: Request<Incoming>,
) -> Result<Answer, Abort> {
    match compatible(shared, request.headers()) {
        Ok(()) => {}
        Err(Refusal::Aborted) => return Err(Abort),
        Err(Refusal::Answered(status, text)) => return Ok(pages::error(status, text)),
    }
    let sender = text(request.headers(), "x-server-from").and_then(|id| id.parse::<MemberId>().ok());
    let sender = sender.and_then(|id| shared.transport.peer(id));
    if let Some(sender) = &sender {
        sender.status.set_features(Features::parse(text(request.headers(), FEATURES_HEADER)));
    }
    let (_room, body) = match read_body(&shared.room, request.into_body()).await {
        Ok(read) => read,
        Err(reason) => {
            log::error!("rafthttp", "failed to read raft message ({reason})");
            return Ok(pages::error(StatusCode::BAD_REQUEST, "error reading raft message"));
        }
    };
    let bytes = body.len();
    let decoded = match Message::decode(body) {
        Ok(message) => frames::check(message).map_err(|error| error.to_string()),
        // Of a later time than ours; the sender need not know.
        Err(MessageError::UnknownKind(_)) => return Ok(no_content()),
        Err(error) => Err(error.to_string()),
    };
    let message = match decoded {
        Ok(message) => message,
        Err(reason) => {
            log::error!("rafthttp", "failed to unmarshal raft message ({reason})");
            return Ok(pages::error(StatusCode::BAD_REQUEST, "error unmarshaling raft message"));
        }
    };
    let refused = || Ok(pages::error(StatusCode::INTERNAL_SERVER_ERROR, "error processing raft message"));
    let from = message.from();
    if is_removed(shared, from) {
        log::warning!("rafthttp", "reject message from removed member {from}");
        return refused();
    }
    let context = shared.transport.context();
    if !context.deliver(sender.as_deref(), message, bytes, Instant::now()).await {
        return refused();
    }
    Ok(no_content())
}

/// `POST /raft/snapshot`, by which members send a store of version 3 along. There is none here to put it in.
pub(super) async fn snapshot<R: Roster>(
    shared: &Shared<R>,
    request: Request<Incoming>,
) -> Result<Answer, Abort> {
    match compatible(shared, request.headers()) {
        Ok(()) => {}
        Err(Refusal::Aborted) => return Err(Abort),
        Err(Refusal::Answered(status, text)) => return Ok(pages::error(status, text)),
    }
    let message = match read_head(request.into_body()).await {
        Ok(message) => message,
        Err(reason) => {
            let text = format!("failed to decode raft message ({reason})");
            log::error!("rafthttp", "{text}");
            return Ok(pages::error(StatusCode::BAD_REQUEST, &text));
        }
    };
    let Some(metadata) = message.as_ref().and_then(Message::snapshot) else {
        let kind = message.map_or(Kind::Extension, |message| message.kind());
        log::error!("rafthttp", "unexpected raft message type {kind:?} on snapshot path");
        return Ok(pages::error(StatusCode::BAD_REQUEST, "wrong raft message type"));
    };
    let index = metadata.index;
    log::error!(
        "rafthttp",
        "refused a database snapshot of index {index}: this member keeps no v3 data; start the sender without its v3 experiment"
    );
    Ok(pages::error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "failed to save KV snapshot (this member keeps no v3 data)",
    ))
}

/// Reads a body into one buffer. What it takes is counted until the permit goes.
async fn read_body(
    room: &BodyRoom,
    mut body: Incoming,
) -> Result<(Option<SemaphorePermit<'_>>, Bytes), String> {
    // A body that does not tell its length is no snapshot.
    let announced = body.size_hint().exact();
    let length_max = announced.unwrap_or(FRAME_BYTES_MAX as u64);
    if length_max > BODY_BYTES_MAX {
        return Err(format!("{length_max} bytes; at most {BODY_BYTES_MAX} are taken"));
    }
    let permit = if length_max > SMALL_BYTES_MAX {
        let permit = room.enter(length_max).await;
        Some(permit.ok_or("too many large messages at the same time")?)
    } else {
        None
    };
    // The system gives memory when it is written to, not before: an announcement alone costs nothing.
    let capacity = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let mut whole = BytesMut::with_capacity(capacity);
    while let Some(piece) = next_piece(&mut body).await? {
        if (whole.len() + piece.len()) as u64 > length_max {
            return Err(format!("more than {length_max} bytes"));
        }
        whole.extend_from_slice(&piece);
    }
    Ok((permit, whole.freeze()))
}

/// Reads the message at the front of a body. `None` if it is of an unknown kind.
async fn read_head(mut body: Incoming) -> Result<Option<Message>, String> {
    let mut head = BytesMut::new();
    loop {
        match frames::next_message(&mut head) {
            Ok(Some((message, _))) => return Ok(message),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        match next_piece(&mut body).await? {
            Some(piece) => head.extend_from_slice(&piece),
            None if head.is_empty() => return Err("EOF".to_owned()),
            None => return Err("unexpected EOF".to_owned()),
        }
        if head.len() > FRAME_BYTES_MAX + 2 * LENGTH + (1 << 20) {
            return Err("the message is too long".to_owned());
        }
    }
}

async fn next_piece(body: &mut Incoming) -> Result<Option<Bytes>, String> {
    loop {
        match timeout(STALL_TIME_MAX, body.frame()).await {
            Err(_) => return Err("i/o timeout".to_owned()),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(error.to_string()),
            Ok(Some(Ok(frame))) => {
                if let Ok(piece) = frame.into_data() {
                    return Ok(Some(piece));
                }
            }
        }
    }
}

fn no_content() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}
