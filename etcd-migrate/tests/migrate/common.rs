//! Directories on a simulated disk, and what a migration made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etcd_migrate::{MigrateError, Options, Report};
use shared::disk::{Disk, Kind, SimDisk};
use shared::legacy::log;
use shared::pb;
use shared::snap::Snapshots;
use shared::store::{Expiry, Store};
use shared::time::UnixNanos;

use prost::Message as _;

/// Where directories are planted.
pub(crate) const DIR: &str = "/d";

/// The folders below a recorded cluster, or single member.
pub(crate) fn recorded(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The files of a folder with all below it, by their paths in it.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in at.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    assert!(!found.is_empty(), "an empty directory proves nothing: {}", dir.display());
    found
}

/// A disk with these files in [`DIR`].
pub(crate) fn planted(seed: u64, files: &BTreeMap<PathBuf, Vec<u8>>) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    for (path, bytes) in files {
        disk.plant(&Path::new(DIR).join(path), bytes).unwrap();
    }
    disk
}

/// Migrates [`DIR`].
pub(crate) fn migrate(disk: &SimDisk, options: &Options) -> Result<Report, MigrateError> {
    etcd_migrate::migrate(disk, Path::new(DIR), options, &mut ())
}

/// All files below a folder of a simulated disk.
pub(crate) fn contents(disk: &SimDisk, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(at) = waiting.pop() {
        for name in disk.list(&at).unwrap() {
            let path = at.join(name);
            match disk.kind(&path).unwrap() {
                Some(Kind::Dir) => waiting.push(path),
                _ => drop(found.insert(path.clone(), disk.contents(&path).unwrap())),
            }
        }
    }
    found
}

/// A migrated member as a 2.x server would find it.
pub(crate) struct Member {
    pub(crate) metadata: pb::Metadata,
    pub(crate) state: pb::HardState,
    pub(crate) snapshot: pb::SnapshotMetadata,
    /// By index: those after the snapshot, and with a log from the start those before it.
    pub(crate) entries: BTreeMap<u64, pb::Entry>,
    pub(crate) store: Store,
    /// The entry up to which `store` is.
    pub(crate) applied: u64,
}

impl Member {
    /// Reads what a migration wrote.
    pub(crate) fn read(disk: &SimDisk) -> Member {
        let member = Path::new(DIR).join("member");
        let (snapshot, _) =
            Snapshots::new(disk.clone(), &member.join("snap")).load_newest().unwrap().unwrap();
        let at = pb::WalSnapshot { index: snapshot.metadata.index, term: snapshot.metadata.term };
        let wal = member.join("wal");
        let (_, recovered) = shared::wal::Wal::open(disk.clone(), &wal, at).unwrap();
        assert!(recovered.repaired.is_none());
        // A log that begins behind its snapshot has a gap after 0.
        let from_start = shared::wal::inspect(disk, &wal, 0);
        let entries = from_start.map_or(recovered.entries, |inspected| inspected.entries);
        let store = Store::recover(&snapshot.data.unwrap(), 1).unwrap();
        Member {
            metadata: recovered.metadata,
            state: recovered.state,
            applied: at.index,
            snapshot: snapshot.metadata,
            entries: entries.into_iter().map(|entry| (entry.index, entry)).collect(),
            store,
        }
    }

    /// Applies the next entries up to an index, as a 2.x server does.
    pub(crate) fn apply_to(&mut self, index: u64) {
        while self.applied < index {
            self.applied += 1;
            let entry = self.entries[&self.applied].clone();
            let data = entry.data.unwrap_or_default();
            if entry.kind == pb::ENTRY_CONF_CHANGE {
                self.change(&pb::ConfChange::decode(data).unwrap());
            } else if !data.is_empty() {
                let request = pb::Request::decode(data).unwrap().try_into().unwrap();
                let _ = self.store.apply(&request, UnixNanos(0));
            }
        }
    }

    fn change(&mut self, change: &pb::ConfChange) {
        let (now, expiry) = (UnixNanos(0), Expiry::default());
        let member = format!("/0/members/{:x}", change.node_id);
        let attributes = format!("{member}/raftAttributes");
        match change.kind {
            pb::ADD_NODE => self.store.create(attributes.as_bytes(), false, b"", false, expiry, now).unwrap(),
            pb::UPDATE_NODE => self.store.update(attributes.as_bytes(), b"", expiry, now).unwrap(),
            _ => {
                self.store.delete(member.as_bytes(), true, true, now).unwrap();
                let gone = format!("/0/removed_members/{:x}", change.node_id);
                self.store.create(gone.as_bytes(), false, b"", false, expiry, now).unwrap()
            }
        };
    }

    /// The last entry.
    pub(crate) fn last(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(0).max(self.snapshot.index)
    }

    /// The clients' keys with all that is known of them, and the store's index.
    pub(crate) fn keys(&self) -> (serde_json::Value, u64) {
        let mut json = Vec::new();
        self.store.image().write_json(&mut json).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        (json["Root"]["Children"]["1"].take(), self.store.index())
    }

    /// A key's value.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        let event = self.store.get(format!("/1{key}").as_bytes(), false, false).ok()?;
        event.node().value().map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    /// A key's created and modified index.
    pub(crate) fn indexes(&self, key: &str) -> (u64, u64) {
        self.store.image().indexes(format!("/1{key}").as_bytes()).unwrap()
    }
}

/// A log in the form of 0.x that is written entry by entry.
pub(crate) struct OldLog {
    pub(crate) bytes: Vec<u8>,
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// Where each entry ends.
    pub(crate) ends: Vec<usize>,
}

impl OldLog {
    /// The log of a member that began a cluster.
    pub(crate) fn new(name: &str, url: &str) -> OldLog {
        let mut log = OldLog::after(0);
        log.join(name, url).nop();
        log.entry(
            "etcd:setClusterConfig",
            r#"{"config":{"activeSize":9,"removeDelay":1800,"syncInterval":5}}"#,
        );
        log
    }

    /// A log that begins after an entry.
    pub(crate) fn after(index: u64) -> OldLog {
        OldLog { bytes: Vec::new(), index, term: 0, ends: Vec::new() }
    }

    pub(crate) fn entry(&mut self, name: &str, text: &str) -> &mut OldLog {
        self.index += 1;
        let text = format!("{text}\n");
        let text = (text != "\n").then_some(text.as_bytes());
        log::encode(self.index, self.term, name, text, &mut self.bytes);
        self.ends.push(self.bytes.len());
        self
    }

    pub(crate) fn nop(&mut self) -> &mut OldLog {
        self.entry("raft:nop", "")
    }

    pub(crate) fn join(&mut self, name: &str, url: &str) -> &mut OldLog {
        let text = format!(
            r#"{{"minVersion":2,"maxVersion":2,"name":"{name}","raftURL":"{url}","etcdURL":"http://c-{name}:1"}}"#
        );
        self.entry("etcd:join", &text)
    }

    pub(crate) fn remove(&mut self, name: &str) -> &mut OldLog {
        self.entry("etcd:remove", &format!(r#"{{"name":"{name}"}}"#))
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) -> &mut OldLog {
        self.write("set", key, value, r#","dir":false"#)
    }

    /// A command with a key, a value, no expiration, and more fields.
    pub(crate) fn write(&mut self, command: &str, key: &str, value: &str, more: &str) -> &mut OldLog {
        let text =
            format!(r#"{{"key":"{key}","value":"{value}","expireTime":"0001-01-01T00:00:00Z"{more}}}"#);
        self.entry(&format!("etcd:{command}"), &text)
    }
}

/// The files of a member with this log.
pub(crate) fn member_files(log: &[u8], commit: u64, others: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let peers: Vec<String> =
        others.iter().map(|name| format!(r#"{{"name":"{name}","connectionString":""}}"#)).collect();
    let conf = format!(r#"{{"commitIndex":{commit},"peers":[{}]}}"#, peers.join(","));
    BTreeMap::from([(PathBuf::from("log"), log.to_vec()), (PathBuf::from("conf"), conf.into_bytes())])
}

/// Migrates files and reads the result.
pub(crate) fn migrated(files: &BTreeMap<PathBuf, Vec<u8>>) -> (Report, Member) {
    let disk = planted(0, files);
    let report = migrate(&disk, &Options::default()).unwrap();
    for (path, bytes) in files {
        assert!(disk.contents(&Path::new(DIR).join(path)).unwrap() == *bytes, "{} changed", path.display());
    }
    let member = Member::read(&disk);
    (report, member)
}
