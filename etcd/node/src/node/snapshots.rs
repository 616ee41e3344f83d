//! Snapshots: the steps of taking one, and of installing one that the leader sent.

use shared::pb;
use shared::planted::{Bug, is_planted};

use super::Node;
use crate::action::{Action, Notice};
use crate::machine::StateMachine;
use crate::member::{LogEnd, Membership, Message, ReceivedSnapshot};
use crate::time::Moment;

/// The state of the snapshot that was passed to raft last. It is installed when raft asks for that.
#[derive(Debug)]
pub(super) struct OfferedSnapshot<M> {
    index: u64,
    machine: M,
    /// The end of the log before the snapshot.
    before: LogEnd,
}

/// A snapshot that is being installed. Each step waits for the previous one.
#[derive(Debug)]
pub(super) enum Installing<M> {
    Marking { received: ReceivedSnapshot, machine: Box<M> },
    Saving { metadata: pb::SnapshotMetadata, machine: Box<M> },
    Replacing { metadata: pb::SnapshotMetadata },
}

impl<M: StateMachine, C> Node<M, C> {
    /// The result of [`Action::ReadSnapshot`]: the state, or why the bytes are not a valid state.
    pub fn snapshot_read(&mut self, message: Message, machine: Result<M, String>, now: Moment) {
        self.reading_snapshot = false;
        let Some(metadata) = message.snapshot() else { return };
        let cluster_id = self.membership().cluster_id;
        let checked = machine.and_then(|machine| {
            let members = Membership::from_store(cluster_id, machine.tree());
            let checked = members.check_voters(&metadata.conf_state.nodes, self.member.level());
            checked.map(|()| machine).map_err(|error| error.to_string())
        });
        let index = metadata.index;
        match checked {
            Ok(machine) => {
                let before = self.member.log_end();
                let earlier = self.offered.replace(OfferedSnapshot { index, machine, before });
                if !self.step(message, now) {
                    self.offered = earlier;
                }
            }
            Err(why) => self.notify(Notice::SnapshotRefused { index, from: message.from(), why }),
        }
    }

    /// The log holds the record of the received snapshot.
    pub fn received_marked(&mut self) {
        if let Some(Installing::Marking { received, machine }) = self.installing.take() {
            if is_planted(Bug::InstallBeforeSync) {
                self.installing = Some(Installing::Replacing { metadata: received.metadata.clone() });
                self.actions.extend([Action::Install(machine), Action::SaveReceived(received)]);
                return;
            }
            self.installing = Some(Installing::Saving { metadata: received.metadata.clone(), machine });
            self.actions.push_back(Action::SaveReceived(received));
        }
    }

    /// The file of the received snapshot is synced.
    pub fn received_saved(&mut self) {
        if let Some(Installing::Saving { metadata, machine }) = self.installing.take() {
            self.snapshots.installed(metadata.index);
            self.installing = Some(Installing::Replacing { metadata });
            self.actions.push_back(Action::Install(machine));
        }
    }

    /// The received state has replaced the state machine. [`Node::membership`] is new.
    pub fn installed(&mut self, machine: &M, now: Moment) {
        if let Some(Installing::Replacing { metadata }) = self.installing.take() {
            self.member.installed(&metadata, machine.tree());
            self.check_version();
            self.note_leader(now);
            self.notify(Notice::Restored { index: metadata.index });
        }
    }

    pub(super) fn begin_install(&mut self, received: ReceivedSnapshot) {
        let metadata = &received.metadata;
        let at = pb::WalSnapshot { index: metadata.index, term: metadata.term };
        let Some(OfferedSnapshot { machine, before, .. }) =
            self.offered.take_if(|offered| offered.index == metadata.index)
        else {
            // Raft installs the snapshot that it received last, and receives none without its state.
            unreachable!("raft installs a snapshot at {} that nobody sent", metadata.index);
        };
        let applied = self.member.status().applied;
        self.notify(Notice::Restoring { at, before, applied });
        self.installing = Some(Installing::Marking { received, machine: Box::new(machine) });
        self.actions.push_back(Action::MarkReceived(at));
    }

    /// The log holds the record of the snapshot that this node took.
    pub fn snapshot_marked(&mut self, mark: pb::WalSnapshot, now: Moment) {
        if is_planted(Bug::LogCutEarly) {
            self.actions.push_back(Action::ReleaseLog(mark.index));
        }
        if self.snapshots.marked(mark.index, now) {
            self.actions.push_back(Action::SaveSnapshot);
        }
    }

    /// The file of the snapshot that this node took is synced.
    pub fn snapshot_saved(&mut self, metadata: pb::SnapshotMetadata, now: Moment) {
        let index = metadata.index;
        self.snapshots.saved(index, now);
        self.member.snapshot_saved(metadata);
        self.actions.push_back(Action::ReleaseLog(index));
        self.notify(Notice::SnapshotSaved { index });
    }

    /// Saving the snapshot could not begin. The next entry takes another one.
    pub fn snapshot_given_up(&mut self) {
        self.snapshots.given_up();
    }

    /// Another program has removed or changed the newest snapshot. The log alone does not contain the whole
    /// state, so another snapshot is taken, at once unless one is in progress.
    pub fn snapshot_lost(&mut self, now: Moment) {
        self.snapshots.lost(now);
        let tail = self.member.tail();
        if self.snapshots.can_replace(tail.index) {
            self.take_snapshot(tail);
        }
    }

    pub(super) fn take_snapshot(&mut self, tail: pb::SnapshotMetadata) {
        self.notify(Notice::Snapshotting { applied: tail.index, last: self.snapshots.last_index() });
        self.snapshots.taken(tail.index);
        // Before any other action: no entry may be applied in between.
        self.actions.push_front(Action::TakeSnapshot(tail));
    }
}
