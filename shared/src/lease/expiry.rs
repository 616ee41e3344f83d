//! When leases are due, and the rates at which the primary lessor acts on it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::LeaseId;
use crate::time::Moment;

/// How often leases are looked through.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The most leases that expire at one look: 1000 a second.
pub(super) const REVOKES_PER_CHECK_MAX: usize = 500;

/// When a revocation that was not applied is tried again.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(3);

/// The most leases that may expire within a second after a promotion, a little less than can be revoked.
const EXPIRIES_PER_SECOND_MAX: usize = 750;

/// The most leases in one checkpoint entry.
pub(super) const CHECKPOINTS_MAX: usize = 1000;

/// Leases by the moment at which something is to be done about them. Each operation costs O(log n).
#[derive(Debug, Default)]
pub(super) struct Queue(BTreeSet<(Moment, LeaseId)>);

impl Queue {
    pub(super) fn insert(&mut self, due: Moment, id: LeaseId) {
        self.0.insert((due, id));
    }

    pub(super) fn remove(&mut self, due: Moment, id: LeaseId) {
        self.0.remove(&(due, id));
    }

    /// When the first one is due.
    pub(super) fn first(&self) -> Option<Moment> {
        self.0.first().map(|(due, _)| *due)
    }

    /// Takes the first one if it is due.
    pub(super) fn pop_due(&mut self, now: Moment) -> Option<LeaseId> {
        if self.first()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, id)| id)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Spreads the expiries after a promotion so that no second has more of them than can be revoked: an expiry is only
/// ever moved to later. They must come in their order.
#[derive(Debug, Default)]
pub(super) struct Spread {
    last: VecDeque<Moment>,
}

impl Spread {
    pub(super) fn next(&mut self, expiry: Moment) -> Moment {
        let mut spread = expiry;
        if self.last.len() == EXPIRIES_PER_SECOND_MAX
            && let Some(oldest) = self.last.pop_front()
        {
            spread = spread.max(oldest + Duration::from_secs(1));
        }
        self.last.push_back(spread);
        spread
    }
}
