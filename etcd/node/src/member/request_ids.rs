//! Request ids, unique across members and restarts.

use shared::id::MemberId;
use shared::planted::{Bug, is_planted};
use shared::time::UnixNanos;

/// Generates request ids as etcd 2.3 does: the low 16 bits of the member's id, 40 bits of the start's
/// milliseconds, and a counter that runs through the low 48 bits.
#[derive(Debug)]
pub(super) struct RequestIds {
    prefix: u64,
    next: u64,
}

impl RequestIds {
    pub(super) fn new(member: MemberId, now: UnixNanos) -> Self {
        let now = if is_planted(Bug::RequestIdReused) { UnixNanos(0) } else { now };
        let millis = u64::try_from(now.0 / 1_000_000).unwrap_or(0);
        RequestIds { prefix: member.0 << 48, next: (millis << 8) & LOW_48_BITS }
    }

    pub(super) fn next(&mut self) -> u64 {
        self.next = (self.next + 1) & LOW_48_BITS;
        self.prefix | self.next
    }

    /// Whether an id may be of this member; the low bits of two members' ids can be equal.
    pub(super) fn may_be_own(&self, id: u64) -> bool {
        id & !LOW_48_BITS == self.prefix
    }
}

const LOW_48_BITS: u64 = (1 << 48) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_formed_as_recorded() {
        let mut ids =
            RequestIds::new(MemberId(0x1e03_c8d3_5c34_dbbd), UnixNanos(0x01a1_fd0d_e0ed * 1_000_000));
        assert_eq!(ids.next(), 0xdbbd_a1fd_0de0_ed01);
        assert_eq!(ids.next(), 0xdbbd_a1fd_0de0_ed02);
        assert!(ids.may_be_own(0xdbbd_0000_0000_0001) && !ids.may_be_own(0xdbbc_a1fd_0de0_ed02));
    }
}
