//! What several of these tests need.

use std::path::Path;

use bytes::Bytes;
use shared::disk::{Disk, SimDisk};
use shared::pb;
use shared::wal::{EntryRef, Frames, Reader, Record};

pub(crate) const DIR: &str = "/member/wal";
pub(crate) const FIRST: &str = "/member/wal/0000000000000000-0000000000000000.wal";
pub(crate) const METADATA: pb::Metadata = pb::Metadata { node_id: 0x1e03_c8d3_5c34_dbbd, cluster_id: 7 };
pub(crate) const START: pb::WalSnapshot = pb::WalSnapshot { index: 0, term: 0 };

/// A log that Go etcd 2.3.8 wrote.
pub(crate) const GO_2_3: &[u8] = include_bytes!("../data/go-2.3.8.wal");
/// The log of a member of 3.4, as far as there are records: keys of v2 and v3 and a snapshot.
pub(crate) const GO_3_4: &[u8] = include_bytes!("../data/go-3.4.23.wal");
/// The log of a member of 3.5, as far as there are records: keys, leases, users and two snapshots.
pub(crate) const GO_3_5: &[u8] = include_bytes!("../data/go-3.5.1.wal");
/// The same as the first, of a server that was stopped before its first write.
pub(crate) const GO_2_3_FRESH: &[u8] = include_bytes!("../data/go-2.3.8-fresh.wal");
/// A log that Go etcd 2.0.13 wrote, cut off inside its last entry.
pub(crate) const GO_2_0_TORN: &[u8] = include_bytes!("../data/go-2.0.13-torn.wal");

pub(crate) fn dir() -> &'static Path {
    Path::new(DIR)
}

pub(crate) fn entry(term: u64, index: u64, data: &'static str) -> pb::Entry {
    pb::Entry { kind: pb::ENTRY_NORMAL, term, index, data: Some(Bytes::from_static(data.as_bytes())) }
}

pub(crate) fn refs(entries: &[pb::Entry]) -> impl Iterator<Item = EntryRef<'_>> {
    entries.iter().map(EntryRef::from)
}

pub(crate) fn state(term: u64, vote: u64, commit: u64) -> Option<pb::HardState> {
    Some(pb::HardState { term, vote, commit })
}

/// All records of a segment that is good.
pub(crate) fn records(bytes: &'static [u8]) -> Vec<Record> {
    let mut reader = Reader::of(Bytes::from_static(bytes), 0, Frames::Any);
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record);
    }
    records
}

/// Names and contents of all files in a folder.
pub(crate) fn files(disk: &SimDisk, dir: &Path) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(dir).unwrap();
    names
        .iter()
        .map(|name| (name.to_string_lossy().into_owned(), disk.contents(&dir.join(name)).unwrap()))
        .collect()
}
