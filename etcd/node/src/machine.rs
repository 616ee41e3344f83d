//! The interface of the replicated state for consensus.

use std::time::Duration;

use shared::mvcc::db::Committed;
use shared::store::{Image, Store};
use shared::time::UnixNanos;

use crate::command::{Command, Outcome};
use crate::member::Membership;
use crate::time::{Moment, Now};
use crate::v3::V3;

/// An entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Its index.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
}

/// The state that the commands of the log change. The machines of all members are equal at equal indexes.
pub trait StateMachine {
    /// The state at one index: a snapshot is written from it while the machine continues.
    type Image: Send + 'static;

    /// Applies the command of the entry at `position`; `None` if the command changes nothing.
    ///
    /// `now` is only shown (the remaining TTL in answers), and counts the time that leases have left on this member: the
    /// effect depends on the command alone.
    fn apply(&mut self, position: Position, command: &Command, now: Now) -> Option<Outcome>;

    /// The entry at `position` has been applied, whatever it was.
    fn passed(&mut self, position: Position);

    /// An entry has changed the members, or what is known of them. `voters` are those of consensus.
    fn members_changed(&mut self, membership: &Membership, voters: &[u64]);

    /// An image of the current state, in constant time.
    fn image(&self) -> Self::Image;

    /// Replaces the state by `later`, a later state of the same machine, and keeps the watchers. Returns how
    /// many watches end because the history of `later` does not contain the events that they missed.
    fn install(&mut self, later: Self) -> u64;

    /// The v2 tree, in which the members and the cluster's version are kept.
    fn tree(&self) -> &Store;

    /// The v2 tree, for a change of the members.
    fn tree_mut(&mut self) -> &mut Store;

    /// This member leads from now on, or no longer (`None`). A new leader gives leases more time, by the election timeout.
    fn set_leading(&mut self, extend_by: Option<Duration>, now: Moment);

    /// What the leader is to propose now, for the passing of time.
    fn due_commands(&mut self, now: Moment) -> Vec<Command>;

    /// Whether keys have expired by the leader's clock, so that a command must remove them.
    fn has_expired(&self, now: UnixNanos) -> bool;
}

impl StateMachine for Store {
    type Image = Image;

    fn apply(&mut self, _: Position, command: &Command, now: Now) -> Option<Outcome> {
        match command {
            Command::V2(request) => Some(Outcome::V2(self.apply_quietly(request, now.wall))),
            Command::Nothing | Command::V3(_) => None,
        }
    }

    fn passed(&mut self, _: Position) {}

    fn members_changed(&mut self, _: &Membership, _: &[u64]) {}

    fn set_leading(&mut self, _: Option<Duration>, _: Moment) {}

    fn due_commands(&mut self, _: Moment) -> Vec<Command> {
        Vec::new()
    }

    fn image(&self) -> Image {
        Store::image(self)
    }

    fn install(&mut self, later: Store) -> u64 {
        self.adopt(later)
    }

    fn tree(&self) -> &Store {
        self
    }

    fn tree_mut(&mut self) -> &mut Store {
        self
    }

    fn has_expired(&self, now: UnixNanos) -> bool {
        Store::has_expired(self, now)
    }
}

/// The v2 tree, and from the level 3.4 on the state of version 3.
pub struct Machine<C: Committed> {
    /// The tree.
    pub tree: Store,
    /// The state of version 3.
    pub v3: Option<Box<V3<C>>>,
}

impl<C: Committed> StateMachine for Machine<C> {
    type Image = Image;

    fn apply(&mut self, position: Position, command: &Command, now: Now) -> Option<Outcome> {
        match command {
            Command::V3(request) => {
                let outcome = self.v3.as_mut()?.apply(position, request, now.moment)?;
                Some(Outcome::V3(Box::new(outcome)))
            }
            Command::Nothing | Command::V2(_) => StateMachine::apply(&mut self.tree, position, command, now),
        }
    }

    fn passed(&mut self, position: Position) {
        if let Some(v3) = &mut self.v3 {
            v3.passed(position);
        }
    }

    fn members_changed(&mut self, membership: &Membership, voters: &[u64]) {
        if let Some(v3) = &mut self.v3 {
            v3.follow_members(membership, voters);
        }
    }

    fn set_leading(&mut self, extend_by: Option<Duration>, now: Moment) {
        match (&mut self.v3, extend_by) {
            (Some(v3), Some(extend_by)) => v3.promote(now, extend_by),
            (Some(v3), None) => v3.demote(),
            (None, _) => {}
        }
    }

    fn due_commands(&mut self, now: Moment) -> Vec<Command> {
        self.v3.as_mut().map(|v3| v3.due_commands(now)).unwrap_or_default()
    }

    fn image(&self) -> Image {
        self.tree.image()
    }

    fn install(&mut self, later: Machine<C>) -> u64 {
        if let Some(v3) = later.v3 {
            self.v3 = Some(v3);
        }
        self.tree.adopt(later.tree)
    }

    fn tree(&self) -> &Store {
        &self.tree
    }

    fn tree_mut(&mut self) -> &mut Store {
        &mut self.tree
    }

    fn has_expired(&self, now: UnixNanos) -> bool {
        self.tree.has_expired(now)
    }
}
