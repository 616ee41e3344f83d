//! The replicated state, as consensus deals with it.

use shared::store::{Image, Store};
use shared::time::UnixNanos;

use crate::command::{Command, Outcome};

/// What the log's commands are applied to. All members' machines are equal at equal indexes.
///
/// Today it is the v2 store alone.
pub trait StateMachine {
    /// The state at one index, from which a snapshot is written while the machine goes on.
    type Image: Send + 'static;

    /// Applies the command of the entry at `index`; `None` if it asks for nothing.
    ///
    /// `now` is only shown (the remaining TTL in answers); what happens depends on the command alone.
    fn apply(&mut self, index: u64, command: &Command, now: UnixNanos) -> Option<Outcome>;

    /// The state as it is now. Costs nothing that grows with the state.
    fn image(&self) -> Self::Image;

    /// Becomes `later`, a later state of the same machine, and keeps those who watch. Returns how many watches end
    /// because `later` does not know what they missed.
    fn install(&mut self, later: Self) -> u64;

    /// The v2 tree, in which the members and the cluster's version are kept.
    fn tree(&self) -> &Store;

    /// The same, for a change of the members.
    fn tree_mut(&mut self) -> &mut Store;

    /// Whether a command is needed to let go of what has expired by the leader's clock.
    fn has_expired(&self, now: UnixNanos) -> bool;
}

impl StateMachine for Store {
    type Image = Image;

    fn apply(&mut self, _: u64, command: &Command, now: UnixNanos) -> Option<Outcome> {
        match command {
            Command::Nothing => None,
            Command::V2(request) => Some(Outcome::V2(self.apply_quietly(request, now))),
        }
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
