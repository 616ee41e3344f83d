//! `-remove-dead-members`: the leader removes members that have been silent for longer than the cluster's
//! setting.

use std::time::Duration;

use shared::id::MemberId;

use crate::member::{DeadMember, Member, Observation, Role, Silence};
use crate::time::Moment;

/// How often a leader checks for silent members.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Finds the members to remove.
#[derive(Debug)]
pub(crate) struct DeadMembers {
    silence: Silence,
    next_check: Moment,
    alive_within: Duration,
}

impl DeadMembers {
    /// A member that is alive sends a message at least once in an election timeout.
    pub(crate) fn new(election: Duration, now: Moment) -> DeadMembers {
        DeadMembers { silence: Silence::default(), next_check: now, alive_within: election }
    }

    /// Records a message from this member.
    pub(crate) fn heard(&mut self, id: MemberId, now: Moment) {
        self.silence.heard(id, now);
    }

    /// The member to remove now, if any. `delay` returns how long a dead member was silent.
    pub(crate) fn find_dead(
        &mut self,
        now: Moment,
        member: &Member,
        delay: impl FnOnce() -> Duration,
    ) -> Option<DeadMember> {
        let status = member.status();
        if status.role != Role::Leader {
            self.silence.forget();
            return None;
        }
        if now < self.next_check {
            return None;
        }
        self.next_check = now + CHECK_INTERVAL;
        let members = member.membership();
        let observation = Observation {
            own: status.id,
            term: status.term,
            members,
            alive_within: self.alive_within,
            dead_after: delay(),
        };
        let dead = self.silence.find_dead(observation, now)?;
        // One change at a time: while a change is pending the majority is not known.
        if member.is_configuring() || !member.takes_proposals() {
            return None;
        }
        Some(dead)
    }
}
