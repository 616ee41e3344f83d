//! What the bodies of all requests take together while they come in and until they are understood.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Room is counted in these.
const UNIT_BYTES: usize = 1024;

/// The least room, in bytes. There is always enough for a few of the longest bodies.
const ROOM_BYTES_MIN: usize = 64 << 20;

/// How many bodies of the greatest length there is room for.
const LONGEST_BODIES: usize = 4;

/// How long a body may wait for room. One that is half in holds what it has, so it must not be long.
const ROOM_TIME_MAX: Duration = Duration::from_secs(5);

/// The room for bodies of all connections. A body that came in one piece lies in its connection's buffer, and takes none.
#[derive(Debug)]
pub(crate) struct Bodies {
    room: Arc<Semaphore>,
    /// How long a body waits for some.
    patience: Duration,
}

/// What one body has of it; dropped, it is given back.
pub(crate) type Room = OwnedSemaphorePermit;

impl Bodies {
    /// For bodies of up to `body_bytes_max` each.
    pub(super) fn new(body_bytes_max: usize) -> Bodies {
        let bytes = body_bytes_max.saturating_mul(LONGEST_BODIES).max(ROOM_BYTES_MIN);
        Bodies::of(bytes.div_ceil(UNIT_BYTES), ROOM_TIME_MAX)
    }

    fn of(units: usize, patience: Duration) -> Bodies {
        Bodies { room: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))), patience }
    }

    /// Makes `room` large enough for this many bytes; false if there is none for too long.
    pub(super) async fn take(&self, room: &mut Option<Room>, bytes: usize) -> bool {
        let has = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(more) = bytes.div_ceil(UNIT_BYTES).checked_sub(has).filter(|more| *more > 0) else {
            return true;
        };
        let Ok(more) = u32::try_from(more) else { return false };
        let Ok(Ok(more)) = timeout(self.patience, self.room.clone().acquire_many_owned(more)).await else {
            return false;
        };
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
        let bodies = Bodies::of(3, Duration::from_millis(20));
        let (mut first, mut second) = (None, None);
        assert!(bodies.take(&mut first, 1).await && bodies.take(&mut first, 2 * UNIT_BYTES).await);
        assert_eq!(first.as_ref().map(Room::num_permits), Some(2));
        assert!(bodies.take(&mut first, 5).await, "what it has is enough");
        assert!(bodies.take(&mut second, UNIT_BYTES).await);
        assert!(!bodies.take(&mut second, UNIT_BYTES + 1).await, "there is no more");
        drop(first);
        assert!(bodies.take(&mut second, 3 * UNIT_BYTES).await, "it was given back");
        assert!(!bodies.take(&mut None, 4 * UNIT_BYTES).await);
    }
}
