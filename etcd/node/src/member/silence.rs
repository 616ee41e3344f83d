//! Finds the member that a leader removes after a long silence: the remove delay of etcd 0.4.
//!
//! Pure: messages and time are arguments. The observations start again with each term in which this member
//! leads, so that a leader uses only its own.
//!
//! **Invariant** It returns no member unless a majority of all members, including this one, was heard a moment
//! ago: that majority agrees on the removal, and is a majority of the remaining members too.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::id::MemberId;

use super::{MemberInfo, Membership};
use crate::time::Moment;

/// A longer gap between two checks means that this process was suspended: it cannot know whether others were silent.
const OBSERVATION_GAP_MAX: Duration = Duration::from_secs(10);

/// When a leader heard the other members last.
#[derive(Debug, Default)]
pub struct Silence {
    /// The term in which it leads; 0 if it does not lead.
    term: u64,
    last_check: Option<Moment>,
    others: BTreeMap<MemberId, Contact>,
}

#[derive(Debug, Clone, Copy)]
struct Contact {
    /// The start of the observation.
    since: Moment,
    heard: Option<Moment>,
}

/// A member to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadMember {
    /// The member.
    pub id: MemberId,
    /// How long it has been silent.
    pub silent_for: Duration,
}

/// The inputs of a check.
#[derive(Debug, Clone, Copy)]
pub struct Observation<'a> {
    /// This member.
    pub own: MemberId,
    /// The term in which it leads.
    pub term: u64,
    /// All members.
    pub members: &'a Membership,
    /// A member that was heard within this time is alive.
    pub alive_within: Duration,
    /// A member that was silent for this long is dead.
    pub dead_after: Duration,
}

impl Silence {
    /// Records a message from `id`.
    pub fn heard(&mut self, id: MemberId, now: Moment) {
        if let Some(contact) = self.others.get_mut(&id) {
            contact.heard = Some(now);
        }
    }

    /// This member does not lead.
    pub fn forget(&mut self) {
        if self.term != 0 {
            *self = Silence::default();
        }
    }

    /// The member that has been silent for longest, if it is dead and the cluster keeps a majority without it.
    /// Must be called regularly while this member leads; the first call returns none.
    pub fn find_dead(&mut self, observation: Observation<'_>, now: Moment) -> Option<DeadMember> {
        let was_suspended = self.last_check.is_some_and(|last| now - last > OBSERVATION_GAP_MAX);
        if self.term != observation.term || was_suspended {
            *self = Silence { term: observation.term, ..Silence::default() };
        }
        self.last_check = Some(now);
        let Observation { own, members, .. } = observation;
        self.others.retain(|id, _| members.members.contains_key(id));
        for id in members.members.keys().filter(|id| **id != own) {
            self.others.entry(*id).or_insert(Contact { since: now, heard: None });
        }
        let is_alive =
            |contact: &Contact| contact.heard.is_some_and(|heard| now - heard < observation.alive_within);
        let alive = 1 + self.others.values().filter(|contact| is_alive(contact)).count();
        if !members.members.contains_key(&own) || alive <= members.members.len() / 2 {
            return None;
        }
        // A member that was added and has not started yet is never removed.
        let started = |id: &MemberId| members.members.get(id).is_some_and(MemberInfo::is_started);
        let dead = self.others.iter().filter(|(id, contact)| started(id) && !is_alive(contact));
        let silent = dead.map(|(id, contact)| {
            let last = contact.heard.map_or(contact.since, |heard| heard.max(contact.since));
            DeadMember { id: *id, silent_for: now - last }
        });
        silent
            .filter(|dead| dead.silent_for >= observation.dead_after)
            .max_by_key(|dead| (dead.silent_for, std::cmp::Reverse(dead.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: MemberId = MemberId(1);

    /// A leader of several members, the last of which may not have started.
    struct Case {
        silence: Silence,
        members: Membership,
        start: Moment,
        term: u64,
    }

    impl Case {
        fn new(started: u64, unstarted: u64) -> Case {
            let mut members = Membership::default();
            for n in 1..=started + unstarted {
                let name = if n <= started { format!("m{n}") } else { String::new() };
                let peer =
                    MemberInfo { id: MemberId(n), name, peer_urls: Vec::new(), client_urls: Vec::new() };
                members.members.insert(MemberId(n), peer);
            }
            Case { silence: Silence::default(), members, start: Moment::default(), term: 2 }
        }

        fn at(&self, seconds: u64) -> Moment {
            self.start + Duration::from_secs(seconds)
        }

        /// Checks each second from `from` to `to`, with messages of `heard`. Returns the first dead member and
        /// the second.
        fn run(&mut self, from: u64, to: u64, heard: &[u64]) -> Option<(u64, u64)> {
            for second in from..=to {
                let now = self.at(second);
                for id in heard {
                    self.silence.heard(MemberId(*id), now);
                }
                let observation = Observation {
                    own: OWN,
                    term: self.term,
                    members: &self.members,
                    alive_within: Duration::from_secs(1),
                    dead_after: Duration::from_secs(5),
                };
                if let Some(dead) = self.silence.find_dead(observation, now) {
                    return Some((dead.id.0, second));
                }
            }
            None
        }
    }

    #[test]
    fn who_is_silent_for_too_long_is_dead() {
        let mut case = Case::new(3, 0);
        assert_eq!(case.run(0, 3, &[2, 3]), None);
        assert_eq!(case.run(4, 20, &[2]), Some((3, 8)));
        // A member that is heard in time is not dead.
        let mut case = Case::new(3, 0);
        assert_eq!(case.run(0, 4, &[2]), None);
        assert_eq!(case.run(5, 5, &[2, 3]), None);
        assert_eq!(case.run(6, 30, &[2]), Some((3, 10)));
    }

    #[test]
    fn nobody_is_dead_without_a_majority_that_lives() {
        assert_eq!(Case::new(2, 0).run(0, 60, &[]), None);
        assert_eq!(Case::new(3, 0).run(0, 60, &[]), None);
        assert_eq!(Case::new(4, 0).run(0, 60, &[2]), None);
        assert_eq!(Case::new(5, 0).run(0, 60, &[2]), None);
        // Members that have not started count too.
        assert_eq!(Case::new(3, 1).run(0, 60, &[2]), None);
        assert_eq!(Case::new(1, 0).run(0, 60, &[]), None);
    }

    #[test]
    fn one_after_the_other_the_longest_silent_first() {
        let mut case = Case::new(5, 0);
        assert_eq!(case.run(0, 2, &[2, 3, 4, 5]), None);
        assert_eq!(case.run(3, 4, &[2, 3, 5]), None);
        assert_eq!(case.run(5, 20, &[2, 3]), Some((4, 7)));
        case.members.members.remove(&MemberId(4));
        assert_eq!(case.run(8, 20, &[2, 3]), Some((5, 9)));
        case.members.members.remove(&MemberId(5));
        // Of three living members one may still be removed, of the remaining two none.
        assert_eq!(case.run(10, 20, &[2]), Some((3, 14)));
        case.members.members.remove(&MemberId(3));
        assert_eq!(case.run(15, 60, &[]), None);
    }

    #[test]
    fn a_new_term_and_a_long_sleep_begin_anew() {
        let mut case = Case::new(3, 0);
        assert_eq!(case.run(0, 4, &[2]), None);
        case.term = 3;
        assert_eq!(case.run(5, 9, &[2]), None);
        case.silence.forget();
        assert_eq!(case.run(10, 14, &[2]), None);
        // The process was suspended; the first member that is heard again must not cause the removal of the
        // other.
        assert_eq!(case.run(100, 104, &[2]), None);
        assert_eq!(case.run(105, 110, &[2]), Some((3, 105)));
    }

    #[test]
    fn who_has_not_started_and_who_looks_are_not_removed() {
        assert_eq!(Case::new(3, 1).run(0, 60, &[2, 3]), None);
        let mut case = Case::new(3, 0);
        case.members.members.remove(&OWN);
        assert_eq!(case.run(0, 60, &[2]), None);
        // The observation of a member that is added while this one leads starts then.
        let mut case = Case::new(3, 0);
        assert_eq!(case.run(0, 20, &[2, 3]), None);
        let peer =
            MemberInfo { id: MemberId(4), name: "m4".into(), ..case.members.members[&MemberId(3)].clone() };
        case.members.members.insert(MemberId(4), peer);
        assert_eq!(case.run(21, 60, &[2, 3]), Some((4, 26)));
    }
}
