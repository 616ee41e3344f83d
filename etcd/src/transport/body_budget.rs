//! Limits the memory that the bodies of all requests take while they arrive and are parsed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout, timeout_at};

/// The unit of the budget.
const UNIT_BYTES: usize = 1024;

/// The least budget, in bytes. It has room for a few bodies of the greatest length.
const ROOM_BYTES_MIN: usize = 64 << 20;

/// The number of bodies of the greatest length that the budget has room for.
const LONGEST_BODIES: usize = 4;

/// How long a body may wait for its share in total. A body that has arrived half keeps its share meanwhile, so this
/// must be short.
const ROOM_TIME_MAX: Duration = Duration::from_secs(5);

/// How often the pace of a body with a share is checked while other bodies wait. Shorter than their wait.
const PACE_INTERVAL: Duration = Duration::from_secs(1);

/// The bytes that must arrive in that time: 8 KiB a second. A slower body loses its share.
const PACE_BYTES_MIN: usize = 8 * 1024;

/// Decoding a longer body may take a millisecond.
pub(super) const LONG_BYTES_MIN: usize = 256 * 1024;

/// The budget of all connections. A body that arrives in one piece stays in its connection's buffer and needs no
/// share.
#[derive(Debug)]
pub(crate) struct BodyBudget {
    room: Arc<Semaphore>,
    /// The number of bodies that wait for a share.
    waiting: AtomicUsize,
    /// How long a body waits for a share.
    patience: Duration,
    /// Held by the body that is decoded next.
    decoding: Semaphore,
}

/// The share of one body. It is returned on drop.
pub(crate) type BodyShare = OwnedSemaphorePermit;

/// A body that is being read and takes a share of the budget.
pub(super) struct IncomingBody<'b> {
    budget: &'b BodyBudget,
    /// How long it may still wait.
    patience: Duration,
    /// When the current measurement of its pace began, and the bytes that arrived since.
    since: Option<Instant>,
    bytes: usize,
}

impl BodyBudget {
    /// A budget for bodies of up to `body_bytes_max` each.
    pub(crate) fn new(body_bytes_max: usize) -> BodyBudget {
        let bytes = body_bytes_max.saturating_mul(LONGEST_BODIES).max(ROOM_BYTES_MIN);
        BodyBudget::of(bytes.div_ceil(UNIT_BYTES), ROOM_TIME_MAX)
    }

    fn of(units: usize, patience: Duration) -> BodyBudget {
        let room = Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS)));
        BodyBudget { room, waiting: AtomicUsize::new(0), patience, decoding: Semaphore::new(1) }
    }

    /// Starts to read a body.
    pub(super) fn incoming_body(&self) -> IncomingBody<'_> {
        IncomingBody { budget: self, patience: self.patience, since: None, bytes: 0 }
    }

    /// Waits until a long body may be decoded; the caller then decodes it before it waits for anything else. Decoding a
    /// long body keeps its thread busy for milliseconds, so long bodies are decoded one at a time, and other tasks of the
    /// thread, such as the member's loop, run before each.
    pub(super) async fn turn_to_decode(&self) {
        if let Ok(turn) = self.decoding.acquire().await {
            yield_now().await;
            drop(turn);
        }
    }

    /// Waits for a share, and is counted meanwhile.
    async fn acquire(&self, units: u32, patience: Duration) -> Option<BodyShare> {
        struct CountGuard<'c>(&'c AtomicUsize);
        impl Drop for CountGuard<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        self.waiting.fetch_add(1, Relaxed);
        let _guard = CountGuard(&self.waiting);
        timeout(patience, self.room.clone().acquire_many_owned(units)).await.ok()?.ok()
    }
}

impl IncomingBody<'_> {
    /// The next part of the body. `None` if the body is too slow to keep its share while others wait.
    pub(super) async fn next<B: Body + Unpin>(
        &mut self,
        body: &mut B,
        room: Option<&BodyShare>,
    ) -> Option<Option<Result<Frame<B::Data>, B::Error>>> {
        if room.is_none() {
            return Some(body.frame().await);
        }
        loop {
            let since = *self.since.get_or_insert_with(Instant::now);
            if let Ok(frame) = timeout_at(since + PACE_INTERVAL, body.frame()).await {
                return Some(frame);
            }
            if self.bytes < PACE_BYTES_MIN && self.budget.waiting.load(Relaxed) > 0 {
                return None;
            }
            (self.since, self.bytes) = (Some(Instant::now()), 0);
        }
    }

    /// Makes the share large enough for `bytes` in total, of which `new` have just arrived. `false` if that takes too
    /// long.
    pub(super) async fn take(&mut self, room: &mut Option<BodyShare>, bytes: usize, new: usize) -> bool {
        self.bytes += new;
        let has = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(more) = bytes.div_ceil(UNIT_BYTES).checked_sub(has).filter(|more| *more > 0) else {
            return true;
        };
        let Ok(more) = u32::try_from(more) else { return false };
        let started = Instant::now();
        let Some(more) = self.budget.acquire(more, self.patience).await else { return false };
        self.patience = self.patience.saturating_sub(started.elapsed());
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_bodies_share_one_room() {
        let budget = BodyBudget::of(3, Duration::from_millis(20));
        let take =
            async |room: &mut Option<BodyShare>, bytes| budget.incoming_body().take(room, bytes, 0).await;
        let (mut first, mut second) = (None, None);
        assert!(take(&mut first, 1).await && take(&mut first, 2 * UNIT_BYTES).await);
        assert_eq!(first.as_ref().map(BodyShare::num_permits), Some(2));
        assert!(take(&mut first, 5).await, "what it has is enough");
        assert!(take(&mut second, UNIT_BYTES).await);
        assert!(!take(&mut second, UNIT_BYTES + 1).await, "there is no more");
        drop(first);
        assert!(take(&mut second, 3 * UNIT_BYTES).await, "it was given back");
        assert!(!take(&mut None, 4 * UNIT_BYTES).await);
    }

    #[tokio::test]
    async fn others_have_a_turn_between_two_long_bodies() {
        let (budget, turns) = (Arc::new(BodyBudget::of(3, ROOM_TIME_MAX)), Arc::new(AtomicUsize::new(0)));
        let counted = turns.clone();
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Relaxed);
                yield_now().await;
            }
        });
        let decode = || {
            let (budget, turns) = (budget.clone(), turns.clone());
            tokio::spawn(async move {
                budget.turn_to_decode().await;
                turns.load(Relaxed)
            })
        };
        let long: Vec<_> = (0..8).map(|_| decode()).collect();
        let mut at = Vec::new();
        for decoded in long {
            at.push(decoded.await.unwrap());
        }
        other.abort();
        assert!(at.is_sorted_by(|one, next| one < next), "{at:?}");
    }

    /// A body of which no byte arrives.
    struct Stalled;

    impl Body for Stalled {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<bytes::Bytes>, Self::Error>>> {
            std::task::Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_stalled_body_keeps_its_room_until_another_one_waits() {
        let budget = Arc::new(BodyBudget::of(3, ROOM_TIME_MAX));
        let (mut stalled, mut room) = (budget.incoming_body(), None);
        assert!(stalled.take(&mut room, 3 * UNIT_BYTES, 3 * UNIT_BYTES).await);
        let mut body = Stalled;
        let waits = timeout(2 * PACE_INTERVAL, stalled.next(&mut body, room.as_ref()));
        assert!(waits.await.is_err(), "nobody wants its room");
        let others = budget.clone();
        let other = tokio::spawn(async move { others.incoming_body().take(&mut None, UNIT_BYTES, 0).await });
        assert!(stalled.next(&mut Stalled, room.as_ref()).await.is_none());
        drop(room);
        assert!(other.await.unwrap());
    }
}
