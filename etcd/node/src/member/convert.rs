//! Conversions between our protobuf types, which decode all bytes from outside, and those of the `raft` crate.

use bytes::Bytes;
use raft::eraftpb;
use shared::pb;
use shared::wal::EntryRef;

use super::content::check_entry;

/// Converts an entry of this member's log. An invalid entry, in a log of an earlier version, becomes empty: it
/// is skipped when it is applied, and other members get nothing that they would refuse.
pub(super) fn entry_from_disk(entry: pb::Entry) -> eraftpb::Entry {
    let fine = check_entry(&entry).is_ok();
    let (kind, data) = if fine { (entry.kind, entry.data) } else { (pb::ENTRY_NORMAL, None) };
    entry_to_raft(pb::Entry { kind, data, ..entry })
}

/// Converts an entry with a valid kind.
pub(super) fn entry_to_raft(entry: pb::Entry) -> eraftpb::Entry {
    let entry_type = match entry.kind {
        pb::ENTRY_CONF_CHANGE => eraftpb::EntryType::EntryConfChange,
        _ => eraftpb::EntryType::EntryNormal,
    };
    eraftpb::Entry {
        entry_type,
        term: entry.term,
        index: entry.index,
        data: entry.data.unwrap_or_default(),
        ..eraftpb::Entry::default()
    }
}

/// Converts an entry for the log. A new leader's empty entry has no data field, as in 2.3.
pub(super) fn entry_from_raft(entry: &eraftpb::Entry) -> EntryRef<'_> {
    let kind = match entry.entry_type {
        eraftpb::EntryType::EntryNormal => pb::ENTRY_NORMAL,
        eraftpb::EntryType::EntryConfChange => pb::ENTRY_CONF_CHANGE,
        eraftpb::EntryType::EntryConfChangeV2 => {
            unreachable!("entry {} is of a kind that etcd 2.x does not know", entry.index)
        }
    };
    // A change of the members always has data in the log: without any, its reader takes the record for damage.
    let has_data = !entry.data.is_empty() || kind == pb::ENTRY_CONF_CHANGE;
    let data = has_data.then_some(&entry.data[..]);
    EntryRef { kind, term: entry.term, index: entry.index, data }
}

pub(super) fn state_to_raft(state: pb::HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: state.term,
        vote: state.vote,
        commit: state.commit,
        ..eraftpb::HardState::default()
    }
}

pub(super) fn state_from_raft(state: &eraftpb::HardState) -> pb::HardState {
    pb::HardState { term: state.term, vote: state.vote, commit: state.commit }
}

pub(super) fn snapshot_to_raft(snapshot: pb::Snapshot) -> eraftpb::Snapshot {
    let mut raft = eraftpb::Snapshot { data: snapshot.data.unwrap_or_default(), ..Default::default() };
    raft.set_metadata(metadata_to_raft(snapshot.metadata));
    raft
}

pub(super) fn metadata_to_raft(metadata: pb::SnapshotMetadata) -> eraftpb::SnapshotMetadata {
    let conf_state = eraftpb::ConfState { voters: metadata.conf_state.nodes, ..Default::default() };
    let mut raft =
        eraftpb::SnapshotMetadata { index: metadata.index, term: metadata.term, ..Default::default() };
    raft.set_conf_state(conf_state);
    raft
}

/// Without learners, which etcd 2.x does not have.
pub(super) fn snapshot_from_raft(snapshot: &eraftpb::Snapshot) -> pb::Snapshot {
    let metadata = snapshot.get_metadata();
    pb::Snapshot {
        data: (!snapshot.data.is_empty()).then(|| snapshot.data.clone()),
        metadata: pb::SnapshotMetadata {
            conf_state: pb::ConfState { nodes: metadata.get_conf_state().voters.clone() },
            index: metadata.index,
            term: metadata.term,
        },
    }
}

/// A normal entry to propose; raft fills in term and index.
pub(super) fn proposal(kind: eraftpb::EntryType, data: Bytes) -> eraftpb::Entry {
    eraftpb::Entry { entry_type: kind, data, ..eraftpb::Entry::default() }
}
