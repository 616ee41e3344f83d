//! Data directories of 2.x, made as a server makes them.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use shared::disk::RealDisk;
use shared::pb;
use shared::snap::{Snapshots, file_name};
use shared::wal::{EntryRef, Reader, Wal};

/// Who writes.
pub(crate) const METADATA: pb::Metadata = pb::Metadata { node_id: 0xff, cluster_id: 0xc1 };

/// A data directory that goes away with this value.
pub(crate) struct Directory {
    dir: tempfile::TempDir,
    wal: Option<Wal<RealDisk>>,
}

impl Directory {
    /// An empty log.
    pub(crate) fn new() -> Directory {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("member/snap")).unwrap();
        let wal = Wal::create(RealDisk, &dir.path().join("member/wal"), METADATA).unwrap();
        Directory { dir, wal: Some(wal) }
    }

    /// One member, and some keys: entries 1 to 8, of terms 1 and 2.
    pub(crate) fn with_keys() -> Directory {
        let mut made = Directory::new();
        made.append(&[join(1, 1, 0xff), empty(2, 2)], state(2, 2));
        let value = "v".repeat(200);
        made.append(
            &[
                put(2, 3, "/0/members/ff/attributes", r#"{"name":"one","clientURLs":["http://c:1"]}"#),
                put(2, 4, "/1/a", "1"),
                put(2, 5, "/1/long", &value),
                request(2, 6, pb::Request { val: vec![0xff, 0].into(), ..of("PUT", "/1/_hidden/b") }),
                request(2, 7, pb::Request { expiration: 4_000_000_000_120_000_000, ..of("PUT", "/1/ttl") }),
                request(2, 8, pb::Request { prev_exist: Some(true), val: "2".into(), ..of("PUT", "/1/a") }),
            ],
            state(2, 8),
        );
        made
    }

    pub(crate) fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub(crate) fn wal(&mut self) -> &mut Wal<RealDisk> {
        self.wal.as_mut().unwrap()
    }

    pub(crate) fn append(&mut self, entries: &[pb::Entry], state: pb::HardState) {
        let wal = self.wal();
        wal.append(entries.iter().map(EntryRef::from), Some(state));
        wal.sync().unwrap();
    }

    /// A snapshot with this body, and its mark. Gives the file's name.
    pub(crate) fn snapshot(&mut self, term: u64, index: u64, body: &str) -> String {
        let state = pb::ConfState { nodes: vec![0xff] };
        let snapshots = Snapshots::new(RealDisk, &self.dir.path().join("member/snap"));
        snapshots.save(term, index, &state, |out| out.write_all(body.as_bytes())).unwrap();
        self.wal().append_snapshot(pb::WalSnapshot { index, term }).unwrap();
        self.wal().sync().unwrap();
        file_name(term, index)
    }

    /// Entries behind the end of the log, with the right sums, whatever their order.
    pub(crate) fn append_raw(&mut self, entries: &[pb::Entry], state: pb::HardState) {
        let path = self.segments().pop().unwrap();
        let mut reader = Reader::new(Bytes::from(std::fs::read(&path).unwrap()), 0);
        while reader.next_record().unwrap().is_some() {}
        let mut crc = reader.crc();
        let entries = entries.iter().map(|entry| (2, entry.encode_to_vec()));
        damage(&path, |bytes| {
            for (kind, data) in entries.chain([(3, state.encode_to_vec())]) {
                crc = crc32c::crc32c_append(crc, &data);
                let record = RawRecord { kind, crc, data }.encode_to_vec();
                bytes.extend((record.len() as u64).to_le_bytes());
                bytes.extend(record);
            }
        });
    }

    /// The segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let names = std::fs::read_dir(self.dir.path().join("member/wal")).unwrap();
        let mut paths: Vec<PathBuf> = names.map(|name| name.unwrap().path()).collect();
        paths.sort();
        paths
    }

    pub(crate) fn snap_dir(&self) -> PathBuf {
        self.dir.path().join("member/snap")
    }
}

/// A record of the log.
#[derive(Clone, PartialEq, prost::Message)]
struct RawRecord {
    #[prost(int64, required, tag = "1")]
    kind: i64,
    #[prost(uint32, required, tag = "2")]
    crc: u32,
    #[prost(bytes = "vec", required, tag = "3")]
    data: Vec<u8>,
}

/// Changes a file.
pub(crate) fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    #[expect(clippy::disallowed_methods, reason = "a test breaks its files as it likes")]
    std::fs::write(path, bytes).unwrap();
}

/// Where some bytes are in a file.
pub(crate) fn find(path: &Path, wanted: &[u8]) -> usize {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

pub(crate) fn state(term: u64, commit: u64) -> pb::HardState {
    pb::HardState { term, vote: 0xff, commit }
}

pub(crate) fn empty(term: u64, index: u64) -> pb::Entry {
    pb::Entry { kind: pb::ENTRY_NORMAL, term, index, data: None }
}

pub(crate) fn join(term: u64, index: u64, id: u64) -> pb::Entry {
    let context = format!("{{\"id\":{id},\"peerURLs\":[\"http://p:{id}\"],\"name\":\"m{id}\"}}");
    let change = pb::ConfChange { id: 0, kind: pb::ADD_NODE, node_id: id, context: Some(context.into()) };
    pb::Entry { kind: pb::ENTRY_CONF_CHANGE, term, index, data: Some(change.encode_to_vec().into()) }
}

/// A request without anything else.
pub(crate) fn of(method: &'static str, path: &str) -> pb::Request {
    pb::Request { method: method.into(), path: path.to_owned().into(), ..pb::Request::default() }
}

pub(crate) fn request(term: u64, index: u64, request: pb::Request) -> pb::Entry {
    pb::Entry { kind: pb::ENTRY_NORMAL, term, index, data: Some(request.encode_to_vec().into()) }
}

pub(crate) fn put(term: u64, index: u64, path: &str, value: &str) -> pb::Entry {
    request(term, index, pb::Request { val: value.to_owned().into(), ..of("PUT", path) })
}
