//! The interface of the replicated state for consensus.

use shared::store::{Image, Store};
use shared::time::UnixNanos;

use crate::command::{Command, Outcome};
use crate::time::Now;

/// An entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Its index.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
}

/// The state that the commands of the log change. The machines of all members are equal at equal indexes.
///
/// Today it is the v2 store alone.
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

    /// An image of the current state, in constant time.
    fn image(&self) -> Self::Image;

    /// Replaces the state by `later`, a later state of the same machine, and keeps the watchers. Returns how
    /// many watches end because the history of `later` does not contain the events that they missed.
    fn install(&mut self, later: Self) -> u64;

    /// The v2 tree, in which the members and the cluster's version are kept.
    fn tree(&self) -> &Store;

    /// The v2 tree, for a change of the members.
    fn tree_mut(&mut self) -> &mut Store;

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
