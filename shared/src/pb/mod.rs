//! The protobuf messages of etcd 2.x: of its log, its snapshots, its requests and its peers.
//!
//! Go's generated code writes every scalar field, zero or not, in the order of its number, and never packs
//! repeated numbers; `required` and `packed = "false"` make `prost` write the same bytes. Only `bytes` that
//! are nil and the two nullable booleans of [`Request`] may be absent. Decoding accepts absent fields.
//! Strings of Go may hold any bytes, so they are [`Bytes`] here: decoding from [`Bytes`] copies nothing.

use bytes::Bytes;

/// `etcdserverpb.Request`: what a client asks of the replicated store, as it stands in the log.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// Identifies the waiting client; unique for each member and run.
    #[prost(uint64, required, tag = "1")]
    pub id: u64,
    /// `POST`, `PUT`, `DELETE`, `QGET` or `SYNC`.
    #[prost(bytes = "bytes", required, tag = "2")]
    pub method: Bytes,
    /// Path in the store: `/1` and the client's key, or `/0/…` (cluster), or `/2/…` (auth).
    #[prost(bytes = "bytes", required, tag = "3")]
    pub path: Bytes,
    /// The value to set.
    #[prost(bytes = "bytes", required, tag = "4")]
    pub val: Bytes,
    /// Whether the path is or becomes a directory.
    #[prost(bool, required, tag = "5")]
    pub dir: bool,
    /// The value that a compare wants, empty for none.
    #[prost(bytes = "bytes", required, tag = "6")]
    pub prev_value: Bytes,
    /// The modified index that a compare wants, 0 for none.
    #[prost(uint64, required, tag = "7")]
    pub prev_index: u64,
    /// Whether the key must, or must not, exist.
    #[prost(bool, optional, tag = "8")]
    pub prev_exist: Option<bool>,
    /// When the key expires: Unix nanoseconds, 0 for never.
    #[prost(int64, required, tag = "9")]
    pub expiration: i64,
    /// Of a watch; never in the log.
    #[prost(bool, required, tag = "10")]
    pub wait: bool,
    /// Of a watch; never in the log.
    #[prost(uint64, required, tag = "11")]
    pub since: u64,
    /// Of a read or a delete: with everything below.
    #[prost(bool, required, tag = "12")]
    pub recursive: bool,
    /// Of a read: children in the order of their names.
    #[prost(bool, required, tag = "13")]
    pub sorted: bool,
    /// Of a read: through the log.
    #[prost(bool, required, tag = "14")]
    pub quorum: bool,
    /// Of `SYNC`: the leader's clock, Unix nanoseconds.
    #[prost(int64, required, tag = "15")]
    pub time: i64,
    /// Of a watch; never in the log.
    #[prost(bool, required, tag = "16")]
    pub stream: bool,
    /// Keep the value and move the expiration only (2.3).
    #[prost(bool, optional, tag = "17")]
    pub refresh: Option<bool>,
}

/// `etcdserverpb.Metadata`: the ids of the member that wrote a log.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Metadata {
    /// The member's id.
    #[prost(uint64, required, tag = "1")]
    pub node_id: u64,
    /// The cluster's id.
    #[prost(uint64, required, tag = "2")]
    pub cluster_id: u64,
}

/// `raftpb.Entry`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// [`ENTRY_NORMAL`] or [`ENTRY_CONF_CHANGE`].
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    /// The term in which a leader made it.
    #[prost(uint64, required, tag = "2")]
    pub term: u64,
    /// Its index in the raft log.
    #[prost(uint64, required, tag = "3")]
    pub index: u64,
    /// A [`Request`] or a [`ConfChange`]; absent in a new leader's first entry.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub data: Option<Bytes>,
}

/// An [`Entry`] whose data are a [`Request`], or none.
pub const ENTRY_NORMAL: i32 = 0;
/// An [`Entry`] whose data are a [`ConfChange`].
pub const ENTRY_CONF_CHANGE: i32 = 1;
/// An [`Entry`] of raft in 3.4 and later that changes several members at once; etcd itself never makes one.
pub const ENTRY_CONF_CHANGE_V2: i32 = 2;

/// `raftpb.HardState`: what a member must keep over a restart.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct HardState {
    /// The highest term seen.
    #[prost(uint64, required, tag = "1")]
    pub term: u64,
    /// The member that it voted for in that term, 0 for none.
    #[prost(uint64, required, tag = "2")]
    pub vote: u64,
    /// The commit index known when it was written.
    #[prost(uint64, required, tag = "3")]
    pub commit: u64,
}

/// `raftpb.ConfState`: the voting members.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfState {
    /// Their ids.
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    pub nodes: Vec<u64>,
}

/// `raftpb.SnapshotMetadata`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SnapshotMetadata {
    /// The members at `index`.
    #[prost(message, required, tag = "1")]
    pub conf_state: ConfState,
    /// The last entry that the snapshot holds.
    #[prost(uint64, required, tag = "2")]
    pub index: u64,
    /// That entry's term.
    #[prost(uint64, required, tag = "3")]
    pub term: u64,
}

/// `raftpb.Snapshot`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Snapshot {
    /// The store as JSON.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub data: Option<Bytes>,
    /// What it stands for.
    #[prost(message, required, tag = "2")]
    pub metadata: SnapshotMetadata,
}

/// `raftpb.ConfChange`: a change of the members.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfChange {
    /// Identifies the waiting client.
    #[prost(uint64, required, tag = "1")]
    pub id: u64,
    /// [`ADD_NODE`], [`REMOVE_NODE`] or [`UPDATE_NODE`].
    #[prost(int32, required, tag = "2")]
    pub kind: i32,
    /// The member it is about.
    #[prost(uint64, required, tag = "3")]
    pub node_id: u64,
    /// The member as JSON, absent for a removal.
    #[prost(bytes = "bytes", optional, tag = "4")]
    pub context: Option<Bytes>,
}

/// `raftpb.Message`: what members say to each other. The numbers from 12 on are those of the `raft` crate; Go
/// passes over them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    /// What it is; numbers as in raft.
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    /// The receiver.
    #[prost(uint64, required, tag = "2")]
    pub to: u64,
    /// The sender.
    #[prost(uint64, required, tag = "3")]
    pub from: u64,
    /// The sender's term; 0 in a proposal that is passed on.
    #[prost(uint64, required, tag = "4")]
    pub term: u64,
    /// The term of the entry at `index`.
    #[prost(uint64, required, tag = "5")]
    pub log_term: u64,
    /// The entry before `entries`, or what an answer is about.
    #[prost(uint64, required, tag = "6")]
    pub index: u64,
    /// Entries to append or to propose.
    #[prost(message, repeated, tag = "7")]
    pub entries: Vec<Entry>,
    /// The sender's commit index.
    #[prost(uint64, required, tag = "8")]
    pub commit: u64,
    /// The store, for a follower that is too far behind.
    #[prost(message, required, tag = "9")]
    pub snapshot: Snapshot,
    /// Whether an answer is a refusal.
    #[prost(bool, required, tag = "10")]
    pub reject: bool,
    /// Where a refused sender is to try next.
    #[prost(uint64, required, tag = "11")]
    pub reject_hint: u64,
    /// Of a read, or of an election that was asked for.
    #[prost(bytes = "bytes", optional, tag = "12")]
    pub context: Option<Bytes>,
    /// The term of the entry at `commit`, in a request for votes.
    #[prost(uint64, tag = "15")]
    pub commit_term: u64,
}

/// A [`ConfChange`] that adds a member.
pub const ADD_NODE: i32 = 0;
/// A [`ConfChange`] that removes a member.
pub const REMOVE_NODE: i32 = 1;
/// A [`ConfChange`] that gives a member other peer URLs. (The number means a learner to `raft` 0.7.)
pub const UPDATE_NODE: i32 = 2;
/// A [`ConfChange`] of 3.4 and later that adds a member without a vote.
pub const ADD_LEARNER_NODE: i32 = 3;

/// `walpb.Snapshot`: marks in the log that a snapshot was taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct WalSnapshot {
    /// The last entry that the snapshot holds.
    #[prost(uint64, required, tag = "1")]
    pub index: u64,
    /// That entry's term.
    #[prost(uint64, required, tag = "2")]
    pub term: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn zero_fields_are_written_as_go_does() {
        assert_eq!(HardState { term: 1, vote: 0, commit: 1 }.encode_to_vec(), [8, 1, 16, 0, 24, 1]);
        let entry = Entry { kind: 0, term: 2, index: 2, data: None };
        assert_eq!(entry.encode_to_vec(), [8, 0, 16, 2, 24, 2]);
        let state = ConfState { nodes: vec![1, 2, 300] };
        assert_eq!(state.encode_to_vec(), [8, 1, 8, 2, 8, 0xac, 2]);
    }

    #[test]
    fn a_request_has_fourteen_fields_and_only_the_given_booleans() {
        let request = Request { method: "PUT".into(), path: "/1/a".into(), ..Default::default() };
        let bytes = request.encode_to_vec();
        assert_eq!(bytes.iter().filter(|b| **b == 0).count(), 13, "{bytes:02x?}");
        assert_eq!(Request::decode(bytes.as_slice()).unwrap(), request);
    }
}
