//! `-remove-dead-members`: the leader takes members out of the cluster that it has not heard of for as long as the
//! cluster's settings say.

use std::time::Duration;

use shared::id::MemberId;

use crate::member::{DeadMember, Member, Observation, Role, Silence};
use crate::time::Moment;

/// How often a leader looks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a node keeps for it.
#[derive(Debug)]
pub(crate) struct DeadMembers {
    silence: Silence,
    next_check: Moment,
    alive_within: Duration,
}

impl DeadMembers {
    /// Begins to listen. Members that live are heard at least once in an election timeout.
    pub(crate) fn new(election: Duration, now: Moment) -> DeadMembers {
        DeadMembers { silence: Silence::default(), next_check: now, alive_within: election }
    }

    /// A message came from this member.
    pub(crate) fn heard(&mut self, id: MemberId, now: Moment) {
        self.silence.heard(id, now);
    }

    /// The member to remove now, if any; `delay` tells for how long a dead one was silent.
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
        // One change at a time: while one is on its way nobody knows who counts.
        if member.is_configuring() || !member.takes_proposals() {
            return None;
        }
        Some(dead)
    }
}
