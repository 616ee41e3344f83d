//! What a node is asked for, and what it has to say.

use std::time::Duration;

use shared::id::MemberId;
use shared::pb;
use shared::v2;

use crate::command::Command;
use crate::member::{Batch, Committed, LogEnd, MemberChange, Message, ReceivedSnapshot, Refusal};
use crate::slow::SlowLine;
use crate::time::Moment;
use crate::version::Version;

/// How a node behaves.
#[derive(Debug, Clone)]
pub struct Config<M> {
    /// The election timeout.
    pub election: Duration,
    /// How long a client's request may take.
    pub request_timeout: Duration,
    /// Applied entries after which a snapshot is taken.
    pub snapshot_count: u64,
    /// From here on a request is slow; zero for never.
    pub slow_request: Duration,
    /// Members that were silent for as long as this tells are removed (`-remove-dead-members`); `None` for never.
    pub dead_after: Option<fn(&M) -> Duration>,
    /// What this member publishes about itself, see [`attributes_value`](crate::member::attributes_value); `None` for
    /// nothing.
    pub attributes: Option<Vec<u8>>,
}

/// What a client asks of a node. `C` is whoever waits for the answer.
#[derive(Debug)]
pub enum Call<C> {
    /// That a command is applied. A [read](Command::is_read) takes no entry where the cluster can do without.
    Propose {
        /// The command.
        command: Command,
        /// When the request came, if that is known; else it came with the call.
        began: Option<Moment>,
        /// Who waits.
        caller: C,
    },
    /// That the members are changed.
    Configure {
        /// How.
        change: MemberChange,
        /// Who waits.
        caller: C,
    },
}

/// What is to be done next.
#[derive(Debug)]
pub enum Action<M, C> {
    /// May leave at once.
    Send(Vec<Message>),
    /// To be written to the log, in this order; then [`Node::written`](crate::Node::written).
    Persist(Batch),
    /// To be handed to [`Node::apply`](crate::Node::apply), with the state machine.
    Apply(Committed),
    /// To be answered from the state machine as it is now.
    Read(v2::Request, C),
    /// There is no answer.
    Unanswered {
        /// Who waits for it.
        caller: C,
        /// Why.
        why: Unavailable,
        /// Whether it was proposed: then it may still happen, or may have happened.
        proposed: bool,
    },
    /// The state in a snapshot's message is to be read; then [`Node::snapshot_read`](crate::Node::snapshot_read). Other things may happen meanwhile.
    ReadSnapshot(Message),
    /// To be marked in the log behind all batches, and synced; then [`Node::received_marked`](crate::Node::received_marked), and nothing before.
    MarkReceived(pb::WalSnapshot),
    /// To be saved as a snapshot's file, and synced; then [`Node::received_saved`](crate::Node::received_saved), and nothing before.
    SaveReceived(ReceivedSnapshot),
    /// To be [installed](crate::StateMachine::install) in the place of the state machine; then [`Node::installed`](crate::Node::installed).
    Install(Box<M>),
    /// An [image](crate::StateMachine::image) is to be taken now, before anything else, and to be marked in the log behind all
    /// batches; then [`Node::snapshot_marked`](crate::Node::snapshot_marked).
    TakeSnapshot(pb::SnapshotMetadata),
    /// The image that was taken is to be saved, and synced; then [`Node::snapshot_saved`](crate::Node::snapshot_saved).
    SaveSnapshot,
    /// All members of [`Node::membership`](crate::Node::membership) are to be asked for their versions; then
    /// [`Node::versions_known`](crate::Node::versions_known). Other things may happen meanwhile.
    AskVersions,
    /// A snapshot is safe: what the log holds below this index is no longer needed.
    ReleaseLog(u64),
    /// Somebody should know.
    Notify(Notice),
    /// The node has come to its end. Clients that wait are in [`Node::take_callers`](crate::Node::take_callers).
    End(End),
}

/// What is worth a line in the server's log.
#[derive(Debug)]
pub enum Notice {
    /// A request took long.
    Slow(SlowLine),
    /// A message that no member sends.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Others since the last such notice.
        others: u64,
    },
    /// A snapshot that cannot be taken over.
    SnapshotRefused {
        /// Its index.
        index: u64,
        /// Who sent it.
        from: MemberId,
        /// Why.
        why: String,
    },
    /// A snapshot is taken over.
    Restoring {
        /// What it stands for.
        at: pb::WalSnapshot,
        /// Where the log ended before.
        before: LogEnd,
        /// What was applied before.
        applied: u64,
    },
    /// It has been.
    Restored {
        /// Its index.
        index: u64,
    },
    /// A snapshot is begun.
    Snapshotting {
        /// Its index.
        applied: u64,
        /// The index of the one before.
        last: u64,
    },
    /// It is safe.
    SnapshotSaved {
        /// Its index.
        index: u64,
    },
    /// A member is removed because nothing is heard of it.
    RemovesDead {
        /// The member.
        id: MemberId,
        /// Its name, empty if it has none.
        name: String,
        /// For how long it was silent.
        silent_for: Duration,
    },
    /// The cluster has this member's attributes. So this member has applied all that came before its start.
    Published,
    /// The cluster did not take this member's attributes. They are proposed again.
    NotPublished(Unavailable),
    /// The leader proposes a version for its cluster.
    RaisesVersion {
        /// The version that the cluster has.
        from: Option<Version>,
        /// The version that it is to have.
        to: Version,
    },
    /// The cluster did not take the version. The leader checks again later.
    VersionNotRaised(Unavailable),
    /// Pre-votes, check-quorum and read-index are used from now on, or no longer.
    Extended(bool),
    /// A leader hands over before it stops.
    HandsOver {
        /// To whom.
        to: MemberId,
    },
}

/// How a node ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was told to stop.
    Stopped,
    /// A change of the members took this one out.
    Removed,
    /// The cluster has moved on to this version, which this server does not speak.
    TooOld(String),
}

/// Why the cluster did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// No majority answered in time.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The leader was lost while the request was on its way.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    LeaderLost,
    /// The member is stopping.
    #[error("etcdserver: server stopped")]
    Stopped,
}

/// A client that is answered as its entry is applied.
#[derive(Debug)]
pub struct AnsweredCall<C> {
    /// Who waited.
    pub caller: C,
    /// For how long.
    pub waited: Duration,
}

/// What became of committed entries, beside what each of them did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Changes {
    /// [`Node::membership`](crate::Node::membership) is another one than before.
    pub membership: bool,
}

impl<C> Call<C> {
    /// Who waits.
    pub fn into_caller(self) -> C {
        match self {
            Call::Propose { caller, .. } | Call::Configure { caller, .. } => caller,
        }
    }
}
