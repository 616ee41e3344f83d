//! Messages that come by requests of their own: while streams are not up, and snapshots always.

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use node::member::{Message, MessageError, MessageHead};
use shared::id::MemberId;
use tokio::time::Instant;

use super::body::PacedBody;
use super::compatibility::{FEATURES_HEADER, Features};
use super::frames::{self, FRAME_BYTES_MAX, LENGTH};
use super::pages::{self, Answer, Roster};
use super::serve::{Abort, Refusal, Shared, compatible, is_removed, text};
use crate::connections::Activity;
use crate::log;

/// `POST /raft`.
pub(super) async fn message<R: Roster>(
    shared: &Shared<R>,
    request: Request<Incoming>,
    activity: &Activity,
) -> Result<Answer, Abort> {
    match compatible(shared, request.headers()) {
        Ok(()) => {}
        Err(Refusal::Aborted) => return Err(Abort),
        Err(Refusal::Answered(status, text)) => return Ok(pages::error(status, text)),
    }
    let named = text(request.headers(), "x-server-from").unwrap_or("nobody").escape_debug().to_string();
    let sender = text(request.headers(), "x-server-from").and_then(|id| id.parse::<MemberId>().ok());
    let sender = sender.and_then(|id| shared.transport.peer(id));
    if let Some(sender) = &sender {
        sender.status.set_features(Features::parse(text(request.headers(), FEATURES_HEADER)));
    }
    let (_room, body) = match shared.room.read(request.into_body(), activity).await {
        Ok(read) => read,
        Err(reason) => {
            log::error!("rafthttp", "failed to read raft message ({reason})");
            return Ok(pages::error(StatusCode::BAD_REQUEST, "error reading raft message"));
        }
    };
    let bytes = body.len();
    let message = match Message::decode(body) {
        Ok(message) => message,
        // Of a later time than ours; the sender need not know.
        Err(MessageError::UnknownKind(_)) => return Ok(no_content()),
        Err(reason) => {
            log::error!("rafthttp", "failed to unmarshal raft message from {named} ({reason})");
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
    activity: &Activity,
) -> Result<Answer, Abort> {
    match compatible(shared, request.headers()) {
        Ok(()) => {}
        Err(Refusal::Aborted) => return Err(Abort),
        Err(Refusal::Answered(status, text)) => return Ok(pages::error(status, text)),
    }
    let head = match read_head(PacedBody::new(request.into_body(), activity)).await {
        Ok(head) => head,
        Err(reason) => {
            let text = format!("failed to decode raft message ({reason})");
            log::error!("rafthttp", "{text}");
            return Ok(pages::error(StatusCode::BAD_REQUEST, &text));
        }
    };
    let Some(index) = head.snapshot_index else {
        log::error!("rafthttp", "unexpected raft message type {} on snapshot path", head.kind);
        return Ok(pages::error(StatusCode::BAD_REQUEST, "wrong raft message type"));
    };
    log::error!(
        "rafthttp",
        "refused a database snapshot of index {index}: this member keeps no v3 data; start the sender without its v3 experiment"
    );
    Ok(pages::error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "failed to save KV snapshot (this member keeps no v3 data)",
    ))
}

/// Reads the message at the front of a body.
async fn read_head(mut body: PacedBody<'_>) -> Result<MessageHead, String> {
    let mut head = BytesMut::new();
    loop {
        match frames::next_head(&mut head) {
            Ok(Some(message)) => return Ok(message),
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
        match body.next().await? {
            Some(piece) => head.extend_from_slice(&piece),
            None if head.is_empty() => return Err("EOF".to_owned()),
            None => return Err("unexpected EOF".to_owned()),
        }
        if head.len() > FRAME_BYTES_MAX + 2 * LENGTH + (1 << 20) {
            return Err("the message is too long".to_owned());
        }
    }
}

fn no_content() -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}
