//! What goes into a node and comes out of it: calls, actions, notices.

use std::time::Duration;

use shared::id::MemberId;
use shared::pb;
use shared::v2;

use crate::command::Command;
use crate::member::{Batch, Committed, LogEnd, MemberChange, Message, ReceivedSnapshot, Refusal};
use crate::slow::SlowLine;
use crate::time::Moment;
use crate::version::Version;

/// The settings of a node.
#[derive(Debug, Clone)]
pub struct Config<M> {
    /// The election timeout.
    pub election: Duration,
    /// How long a client's request may take.
    pub request_timeout: Duration,
    /// Applied entries after which a snapshot is taken.
    pub snapshot_count: u64,
    /// A request that takes this long is reported as slow; zero turns the reports off.
    pub slow_request: Duration,
    /// The time after which a silent member is removed (`-remove-dead-members`), read from the state machine;
    /// `None` for never.
    pub dead_after: Option<fn(&M) -> Duration>,
    /// The attributes that this member publishes, see [`attributes_value`](crate::member::attributes_value);
    /// `None` to publish nothing.
    pub attributes: Option<Vec<u8>>,
}

/// A client's request to a node. `C` is the caller that waits for the answer.
#[derive(Debug)]
pub enum Call<C> {
    /// Apply a command. A [read](Command::is_read) takes no entry where the cluster can do without.
    Propose {
        /// The command.
        command: Command,
        /// When the request arrived, if it was before the call.
        began: Option<Moment>,
        /// The caller that waits for the answer.
        caller: C,
    },
    /// Wait until everything is applied that was committed when this was called: a read that follows is linearizable.
    ReadPoint {
        /// The caller that waits for the answer.
        caller: C,
    },
    /// Change the members.
    Configure {
        /// The change.
        change: MemberChange,
        /// The caller that waits for the answer.
        caller: C,
    },
}

/// What the driver of a node must do next.
#[derive(Debug)]
pub enum Action<M, C> {
    /// Send these messages now.
    Send(Vec<Message>),
    /// Write this to the log, in order; then call [`Node::written`](crate::Node::written).
    Persist(Batch),
    /// Call [`Node::apply`](crate::Node::apply) with these entries and the state machine.
    Apply(Committed),
    /// Answer this read from the state machine as it is now.
    Read(v2::Request, C),
    /// Answer this [`Call::ReadPoint`].
    ReadPoint(C),
    /// The call has no answer.
    Unanswered {
        /// The caller that waits for the answer.
        caller: C,
        /// Why.
        why: Unavailable,
        /// Whether the call was proposed: then it may have been applied, or may still be.
        proposed: bool,
    },
    /// Read the state of this snapshot message; then call [`Node::snapshot_read`](crate::Node::snapshot_read).
    /// Other actions may come meanwhile.
    ReadSnapshot(Message),
    /// Write the record of this snapshot to the log, behind all batches, and sync it; then call
    /// [`Node::received_marked`](crate::Node::received_marked). Until then no other action comes.
    MarkReceived(pb::WalSnapshot),
    /// Save this as a snapshot file and sync it; then call
    /// [`Node::received_saved`](crate::Node::received_saved). Until then no other action comes.
    SaveReceived(ReceivedSnapshot),
    /// [Install](crate::StateMachine::install) this state in the state machine; then call
    /// [`Node::installed`](crate::Node::installed).
    Install(Box<M>),
    /// Take an [image](crate::StateMachine::image) now, before any other action, and write its record to the
    /// log behind all batches; then call [`Node::snapshot_marked`](crate::Node::snapshot_marked).
    TakeSnapshot(pb::SnapshotMetadata),
    /// Save the image that was taken, and sync it; then call
    /// [`Node::snapshot_saved`](crate::Node::snapshot_saved).
    SaveSnapshot,
    /// Ask all members of [`Node::membership`](crate::Node::membership) for their versions; then call
    /// [`Node::versions_known`](crate::Node::versions_known). Other actions may come meanwhile.
    AskVersions,
    /// A snapshot is synced: the log no longer needs entries below this index.
    ReleaseLog(u64),
    /// Write this notice to the server's log.
    Notify(Notice),
    /// The node has ended. [`Node::take_callers`](crate::Node::take_callers) returns the callers that still
    /// wait.
    End(End),
}

/// An event for the server's log.
#[derive(Debug)]
pub enum Notice {
    /// A slow request.
    Slow(SlowLine),
    /// A member's message was refused as invalid.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The number of other refused messages since the last such notice.
        others: u64,
    },
    /// A received snapshot is invalid.
    SnapshotRefused {
        /// The index of the snapshot.
        index: u64,
        /// The sender.
        from: MemberId,
        /// Why.
        why: String,
    },
    /// The installation of a received snapshot begins.
    Restoring {
        /// Index and term of the snapshot.
        at: pb::WalSnapshot,
        /// The end of the log before the installation.
        before: LogEnd,
        /// The applied index before the installation.
        applied: u64,
    },
    /// A received snapshot is installed.
    Restored {
        /// The index of the snapshot.
        index: u64,
    },
    /// This node takes a snapshot.
    Snapshotting {
        /// The index of the snapshot.
        applied: u64,
        /// The index of the previous snapshot.
        last: u64,
    },
    /// A snapshot of this node is synced.
    SnapshotSaved {
        /// The index of the snapshot.
        index: u64,
    },
    /// The leader removes a silent member.
    RemovesDead {
        /// The member.
        id: MemberId,
        /// Its name, empty if it has none.
        name: String,
        /// How long it was silent.
        silent_for: Duration,
    },
    /// The proposal of this member's attributes is applied, so everything committed before its start is applied
    /// too.
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
    /// A leader hands the leadership over before it stops.
    HandsOver {
        /// The next leader.
        to: MemberId,
    },
}

/// Why a node has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The server asked it to stop.
    Stopped,
    /// This member was removed from the cluster.
    Removed,
    /// The cluster's version, this one, is too new for this server.
    TooOld(String),
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// No majority answered in time.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The leader was lost while the request was pending.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    LeaderLost,
    /// The member is stopping.
    #[error("etcdserver: server stopped")]
    Stopped,
}

/// A call whose entry is applied: the caller gets its answer now.
#[derive(Debug)]
pub struct AnsweredCall<C> {
    /// The caller that waited.
    pub caller: C,
    /// How long it waited.
    pub waited: Duration,
}

/// The combined effect of several applied entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Changes {
    /// Whether [`Node::membership`](crate::Node::membership) has changed.
    pub membership: bool,
}

impl<C> Call<C> {
    /// The caller that waits for the answer.
    pub fn into_caller(self) -> C {
        match self {
            Call::Propose { caller, .. } | Call::ReadPoint { caller } | Call::Configure { caller, .. } => {
                caller
            }
        }
    }
}
