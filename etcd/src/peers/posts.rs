//! Messages that arrive by `POST`: all messages while the streams are down, and snapshots always. Also the limits on
//! request bodies: how slowly they may arrive, and how many bytes of them are held at the same time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use node::member::{Message, MessageError, MessageHead};
use shared::id::MemberId;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use super::client::STALL_TIME_MAX;
use super::compatibility::{FEATURES_HEADER, Features};
use super::frames::{self, FRAME_BYTES_MAX, LENGTH_BYTES};
use super::local::Roster;
use super::server::{
    Abort, PeerResponse, PeerServer, RequestRefusal, check_compatible, error_answer, header_text, is_removed,
};
use crate::connections::{Activity, Phase};
use crate::log;

/// The longest message: a snapshot, which contains the whole store.
pub(super) const BODY_BYTES_MAX: u64 = 2 << 30;

/// Messages up to this size need no permit: they are frequent and short-lived.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// The unit of the permits.
const UNIT_BYTES: u64 = 1024;

/// Permits for a large message are acquired in steps of this size as its bytes arrive. An announced length needs
/// none.
const STEP_BYTES: u64 = 1 << 20;

/// How long a large message may wait for permits.
const ROOM_TIME_MAX: Duration = Duration::from_secs(5);

/// A body has to bring [`PACE_BYTES_MIN`] bytes, or its end, in each period of this length.
const PACE_TIME: Duration = Duration::from_secs(10);

/// 8 KiB a second. Documentation/peer_protocol.md names the number.
const PACE_BYTES_MIN: usize = 80 * 1024;

/// `POST /raft`.
pub(super) async fn answer_message<R: Roster>(
    shared: &PeerServer<R>,
    request: Request<Incoming>,
    activity: &Activity,
) -> Result<PeerResponse, Abort> {
    match check_compatible(shared, request.headers()) {
        Ok(()) => {}
        Err(RequestRefusal::Aborted) => return Err(Abort),
        Err(RequestRefusal::Answered(status, text)) => return Ok(error_answer(status, text)),
    }
    let named =
        header_text(request.headers(), "x-server-from").unwrap_or("nobody").escape_debug().to_string();
    let sender = header_text(request.headers(), "x-server-from").and_then(|id| id.parse::<MemberId>().ok());
    let sender = sender.and_then(|id| shared.transport.peer(id));
    if let Some(sender) = &sender {
        sender.status.set_features(Features::parse(header_text(request.headers(), FEATURES_HEADER)));
    }
    let (_room, body) = match shared.room.read(request.into_body(), activity).await {
        Ok(read) => read,
        Err(reason) => {
            log::error!("rafthttp", "failed to read raft message ({reason})");
            return Ok(error_answer(StatusCode::BAD_REQUEST, "error reading raft message"));
        }
    };
    let bytes = body.len();
    let level = shared.transport.context().local.level;
    let message = match Message::decode(body).and_then(|message| message.check_level(level).map(|()| message))
    {
        Ok(message) => message,
        // A kind of a later version. The sender does not need to know.
        Err(MessageError::UnknownKind(_)) => return Ok(no_content()),
        Err(reason) => {
            log::error!("rafthttp", "failed to unmarshal raft message from {named} ({reason})");
            return Ok(error_answer(StatusCode::BAD_REQUEST, "error unmarshaling raft message"));
        }
    };
    let refused = || Ok(error_answer(StatusCode::INTERNAL_SERVER_ERROR, "error processing raft message"));
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

/// `POST /raft/snapshot`, which carries a store of version 3. This member has no such store.
pub(super) async fn answer_snapshot<R: Roster>(
    shared: &PeerServer<R>,
    request: Request<Incoming>,
    activity: &Activity,
) -> Result<PeerResponse, Abort> {
    match check_compatible(shared, request.headers()) {
        Ok(()) => {}
        Err(RequestRefusal::Aborted) => return Err(Abort),
        Err(RequestRefusal::Answered(status, text)) => return Ok(error_answer(status, text)),
    }
    let head = match read_head(PacedBody::new(request.into_body(), activity)).await {
        Ok(head) => head,
        Err(reason) => {
            let text = format!("failed to decode raft message ({reason})");
            log::error!("rafthttp", "{text}");
            return Ok(error_answer(StatusCode::BAD_REQUEST, &text));
        }
    };
    let Some(index) = head.snapshot_index else {
        log::error!("rafthttp", "unexpected raft message type {} on snapshot path", head.kind);
        return Ok(error_answer(StatusCode::BAD_REQUEST, "wrong raft message type"));
    };
    log::error!(
        "rafthttp",
        "refused a database snapshot of index {index}: this member keeps no v3 data; start the sender without its v3 experiment"
    );
    Ok(error_answer(
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
        if head.len() > FRAME_BYTES_MAX + 2 * LENGTH_BYTES + (1 << 20) {
            return Err("the message is too long".to_owned());
        }
    }
}

fn no_content() -> PeerResponse {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// Limits the bytes of all request bodies together to those of one body of the greatest length.
#[derive(Debug)]
pub(super) struct BodyRoom {
    /// Permits for bytes that have arrived.
    held: Semaphore,
    /// Permits for announced bytes, for which memory is reserved in one piece. Without a permit the buffer grows
    /// instead.
    announced: Semaphore,
}

/// The permits of one body. They are returned on drop.
#[derive(Debug, Default)]
pub(super) struct HeldRoom<'r> {
    held: Option<SemaphorePermit<'r>>,
    _announced: Option<SemaphorePermit<'r>>,
}

impl Default for BodyRoom {
    fn default() -> BodyRoom {
        BodyRoom::of(BODY_BYTES_MAX)
    }
}

impl BodyRoom {
    fn of(bytes: u64) -> BodyRoom {
        let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(Semaphore::MAX_PERMITS);
        BodyRoom { held: Semaphore::new(units), announced: Semaphore::new(units) }
    }

    async fn acquire(&self, bytes: u64) -> Result<SemaphorePermit<'_>, String> {
        let entered = match units(bytes) {
            Some(units) => timeout(ROOM_TIME_MAX, self.held.acquire_many(units)).await.ok(),
            None => None,
        };
        entered.and_then(Result::ok).ok_or_else(|| "too many large messages at the same time".to_owned())
    }

    /// Reads a whole body into one buffer.
    ///
    /// # Errors
    /// A text, if the body is too long, arrives too slowly, ends early, or gets no permits.
    pub(super) async fn read(
        &self,
        body: Incoming,
        activity: &Activity,
    ) -> Result<(HeldRoom<'_>, Bytes), String> {
        // A body without a length is not a snapshot.
        let announced = body.size_hint().exact();
        let length_max = announced.unwrap_or(FRAME_BYTES_MAX as u64);
        if length_max > BODY_BYTES_MAX {
            return Err(format!("{length_max} bytes; at most {BODY_BYTES_MAX} are taken"));
        }
        let mut taken = HeldRoom::default();
        let (mut whole, mut body) = (BytesMut::new(), PacedBody::new(body, activity));
        // The bytes for which the body has permits.
        let mut room = SMALL_BYTES_MAX;
        loop {
            let Some(piece) = body.next().await? else { break };
            let length = (whole.len() + piece.len()) as u64;
            if length > length_max {
                return Err(format!("more than {length_max} bytes"));
            }
            if whole.is_empty() {
                taken._announced = self.reserve_buffer(&mut whole, announced.unwrap_or_default());
            }
            if length > room {
                let more = (length - room).max(STEP_BYTES.min(length_max - room));
                let permit = self.acquire(more).await?;
                match &mut taken.held {
                    Some(held) => held.merge(permit),
                    none => *none = Some(permit),
                }
                room += more;
            }
            whole.extend_from_slice(&piece);
        }
        Ok((taken, whole.freeze()))
    }

    /// Reserves memory for a body with an announced length. The system provides the memory when it is written to.
    fn reserve_buffer(&self, whole: &mut BytesMut, length: u64) -> Option<SemaphorePermit<'_>> {
        let permit = self.announced.try_acquire_many(units(length)?).ok()?;
        whole.reserve(usize::try_from(length).ok()?);
        Some(permit)
    }
}

fn units(bytes: u64) -> Option<u32> {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()
}

/// A body with a minimum pace, so that a sender that stops cannot keep a connection.
pub(super) struct PacedBody<'s> {
    body: Incoming,
    activity: &'s Activity,
    pace: Pace,
}

impl<'s> PacedBody<'s> {
    pub(super) fn new(body: Incoming, activity: &'s Activity) -> PacedBody<'s> {
        PacedBody { body, activity, pace: Pace::new(Instant::now()) }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// A text, if the body ends early or is too slow.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, String> {
        loop {
            self.activity.enter(Phase::Receiving);
            let frame = timeout(self.pace.time_left(Instant::now()), self.body.frame()).await;
            self.activity.enter(Phase::Busy);
            match frame {
                Err(_) => return Err("i/o timeout".to_owned()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(Some(Ok(frame))) => {
                    if let Ok(piece) = frame.into_data() {
                        self.pace.received(piece.len(), Instant::now());
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }

    /// Reads a whole body of at most `length_max` bytes.
    ///
    /// # Errors
    /// As [`PacedBody::next`], and if it is longer.
    pub(super) async fn read_all(mut self, length_max: usize) -> Result<Bytes, String> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > length_max {
                return Err(format!("more than {length_max} bytes"));
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// The bytes that arrived since a moment.
#[derive(Debug)]
struct Pace {
    since: Instant,
    bytes: usize,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace { since: now, bytes: 0 }
    }

    /// How long the next bytes may take.
    fn time_left(&self, now: Instant) -> Duration {
        STALL_TIME_MAX.min((self.since + PACE_TIME).saturating_duration_since(now))
    }

    fn received(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes;
        // A faster body gets no credit: it could use it to stand still.
        if self.bytes >= PACE_BYTES_MIN {
            *self = Pace::new(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_link_keeps_the_pace_and_a_trickle_does_not() {
        let began = Instant::now();
        // One kilobyte a second more than the minimum.
        let mut pace = Pace::new(began);
        for second in 1..100 {
            let now = began + Duration::from_secs(second);
            assert!(pace.time_left(now) > Duration::ZERO, "{second}");
            pace.received(9 * 1024, now);
        }
        // A megabyte at once, and then single bytes.
        let mut pace = Pace::new(began);
        pace.received(1 << 20, began);
        for second in 1..10 {
            pace.received(1, began + Duration::from_secs(second));
        }
        assert_eq!(pace.time_left(began + Duration::from_secs(10)), Duration::ZERO);
        assert_eq!(pace.time_left(began + Duration::from_secs(8)), Duration::from_secs(2));
        assert_eq!(Pace::new(began).time_left(began), STALL_TIME_MAX);
    }

    #[tokio::test]
    async fn announcements_take_no_room_and_bytes_do() {
        let room = BodyRoom::of(4 << 20);
        let mut whole = BytesMut::new();
        let first = room.reserve_buffer(&mut whole, 3 << 20);
        assert!(first.is_some() && whole.capacity() >= 3 << 20);
        assert!(room.reserve_buffer(&mut BytesMut::new(), 3 << 20).is_none());
        let held = room.acquire(3 << 20).await.unwrap();
        assert_eq!(room.held.available_permits(), 1024);
        drop(held);
        assert_eq!(room.held.available_permits(), 4096);
    }
}
