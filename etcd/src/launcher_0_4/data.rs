//! Determines what a data directory contains, and whether its 0.4 cluster has been upgraded by `etcdctl upgrade`.

use std::path::Path;

use memchr::memmem;
use shared::disk::{Disk, DiskError, Kind, Open};
use shared::legacy::{self, Command, CommandError, LegacyDir, LogError};
use shared::legacy::{FileError, SnapshotError, log::Reader, snapshot};
use shared::store::{RecoverError, Store};

use super::decide::DataDirContent;
use crate::log;

/// The key with the next protocol version. 0.4.7 writes it on `etcdctl upgrade`.
const NEXT_VERSION_KEY: &str = "/_etcd/next-internal-version";

/// The key's directory: a recursive delete of it removes the key.
const PARENT_DIR: &str = "/_etcd";

/// Why the content of a data directory cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system reports an error.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The path is not a directory.
    #[error("{0} is not a directory")]
    NotADirectory(String),
    /// A small 0.4 file is damaged.
    #[error(transparent)]
    File(#[from] FileError),
    /// The 0.4 log is damaged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A command in the log is not a valid 0.4 command.
    #[error("{file}: the entry at byte {offset}: {error}")]
    Command {
        /// The log file.
        file: String,
        /// The byte offset of the entry.
        offset: u64,
        /// What is wrong with it.
        error: CommandError,
    },
    /// The newest 0.4 snapshot is damaged, and the log does not mention the key.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The newest snapshot does not contain a valid store.
    #[error("{file}: {error}")]
    Store {
        /// The snapshot file.
        file: String,
        /// What is wrong with it.
        error: RecoverError,
    },
}

/// Determines what a data directory contains.
///
/// # Errors
/// If that cannot be determined.
pub(super) fn inspect<D: Disk>(disk: &D, dir: &Path) -> Result<DataDirContent, DataError> {
    match disk.kind(dir)? {
        None => return Ok(DataDirContent::Nothing),
        Some(Kind::Dir) => {}
        Some(_) => return Err(DataError::NotADirectory(dir.display().to_string())),
    }
    let names = disk.list(dir)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    if has("member") {
        return Ok(DataDirContent::Member);
    }
    let wal = dir.join("wal");
    if has("snap") && disk.kind(&wal)? == Some(Kind::Dir) && !disk.list(&wal)?.is_empty() {
        return Ok(DataDirContent::Member);
    }
    if has("proxy") {
        return Ok(DataDirContent::Proxy);
    }
    Ok(match legacy::detect(disk, dir)? {
        LegacyDir::Nothing => DataDirContent::Nothing,
        LegacyDir::Standby(info) => DataDirContent::Standby(info),
        LegacyDir::Member => DataDirContent::Old { next: next_version(disk, dir)? },
    })
}

/// The next protocol version of a 0.4 member's cluster: from the snapshot, and from the log entries after it.
///
/// Uncommitted entries count too, as in the original: a member cannot distinguish them, and 0.4 stops for the upgrade
/// only after its entry has been committed.
fn next_version<D: Disk>(disk: &D, dir: &Path) -> Result<Option<String>, DataError> {
    let in_snapshot = match snapshot::newest(disk, &legacy::snapshot_dir(dir))? {
        Some(file) => in_snapshot(disk, &file),
        None => Ok(None),
    };
    let mut next = match &in_snapshot {
        Ok(next) => next.clone(),
        Err(error) => {
            log::warning!("starter", "{error}; reading only the log");
            None
        }
    };
    let log_told = in_log(disk, &legacy::log_path(dir), &mut next)?;
    match in_snapshot {
        Err(error) if !log_told => Err(error),
        _ => Ok(next),
    }
}

fn in_snapshot<D: Disk>(disk: &D, file: &Path) -> Result<Option<String>, DataError> {
    let state = snapshot::read(disk, file)?.state;
    let store = Store::recover(&state, 1)
        .map_err(|error| DataError::Store { file: file.display().to_string(), error })?;
    let Ok(mut walk) = store.walk(NEXT_VERSION_KEY.as_bytes(), false) else { return Ok(None) };
    let value =
        walk.step().and_then(|node| node.value).map(|value| String::from_utf8_lossy(value).into_owned());
    Ok(value)
}

/// Follows the key through the log. Returns whether any entry sets or deletes it.
fn in_log<D: Disk>(disk: &D, file: &Path, next: &mut Option<String>) -> Result<bool, DataError> {
    if disk.kind(file)?.is_none() {
        return Ok(false);
    }
    let mut found = false;
    let mut entries = Reader::new(disk.open(file, Open::Read)?)?;
    while let Some(entry) = entries.next_entry()? {
        // Entries that do not mention the directory are skipped without decoding.
        if memmem::find(&entry.command, PARENT_DIR.as_bytes()).is_none() {
            continue;
        }
        let command = Command::decode(&entry.name, &entry.command).map_err(|error| DataError::Command {
            file: file.display().to_string(),
            offset: entry.offset,
            error,
        })?;
        if let Some(now) = value_after(&command) {
            *next = now;
            found = true;
        }
    }
    Ok(found)
}

/// The key's value after a command; `None` if the command does not touch the key.
fn value_after(command: &Command<'_>) -> Option<Option<String>> {
    let is_it = |key: &str| key.trim_matches('/') == NEXT_VERSION_KEY.trim_matches('/');
    let (key, value) = match command {
        Command::Set(set) => (&set.key, &set.value),
        Command::Create(create) => (&create.key, &create.value),
        Command::Update(update) => (&update.key, &update.value),
        Command::TestAndSet(swap) => (&swap.key, &swap.value),
        Command::CompareAndSwap(swap) => (&swap.key, &swap.value),
        Command::Delete(delete) => {
            let above = delete.recursive && delete.key.trim_matches('/') == PARENT_DIR.trim_matches('/');
            return (above || is_it(&delete.key)).then_some(None);
        }
        Command::CompareAndDelete(delete) => return is_it(&delete.key).then_some(None),
        _ => return None,
    };
    is_it(key).then(|| Some(value.to_string()))
}

#[cfg(test)]
mod tests {
    use shared::disk::SimDisk;

    use super::*;

    const NEVER: &str = "0001-01-01T00:00:00Z";

    fn set(key: &str, value: &str) -> (&'static str, String) {
        let json =
            format!("{{\"key\":\"{key}\",\"value\":\"{value}\",\"expireTime\":\"{NEVER}\",\"dir\":false}}\n");
        ("etcd:set", json)
    }

    fn delete(key: &str, recursive: bool) -> (&'static str, String) {
        ("etcd:delete", format!("{{\"key\":\"{key}\",\"recursive\":{recursive},\"dir\":{recursive}}}\n"))
    }

    fn log(commands: &[(&'static str, String)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, (name, command)) in (1..).zip(commands) {
            legacy::log::encode(index, 0, name, Some(command.as_bytes()), &mut bytes);
        }
        bytes
    }

    fn snapshot(state: &str) -> Vec<u8> {
        snapshot::encode(&legacy::Snapshot {
            last_index: 9,
            last_term: 0,
            peers: Vec::new(),
            state: state.as_bytes().to_vec(),
        })
    }

    fn data(files: &[(&str, &[u8])]) -> Result<DataDirContent, DataError> {
        let disk = SimDisk::new(0);
        disk.create_dir_all(Path::new("/d")).unwrap();
        for (name, content) in files {
            disk.plant(&Path::new("/d").join(name), content).unwrap();
        }
        inspect(&disk, Path::new("/d"))
    }

    fn next(files: &[(&str, &[u8])]) -> Option<String> {
        match data(files) {
            Ok(DataDirContent::Old { next }) => next,
            other => panic!("{other:?}"),
        }
    }

    fn snapshot_state(value: &str) -> String {
        format!(
            "{{\"Root\":{{\"Path\":\"/\",\"Children\":{{\"_etcd\":{{\"Path\":\"/_etcd\",\"Children\":{{\
             \"next-internal-version\":{{\"Path\":\"{NEXT_VERSION_KEY}\",\"Value\":\"{value}\",\"Children\":null}}}}}}}}}},\
             \"CurrentIndex\":9,\"CurrentVersion\":2}}"
        )
    }

    #[test]
    fn newer_data_go_before_older() {
        let old = log(&[set("/a", "1")]);
        let standby = br#"{"Running":true,"Cluster":null,"SyncInterval":5}"#;
        assert_eq!(data(&[]).unwrap(), DataDirContent::Nothing);
        assert_eq!(data(&[("lost+found/x", b"")]).unwrap(), DataDirContent::Nothing);
        assert_eq!(data(&[("log", &old), ("member/wal/0.wal", b"")]).unwrap(), DataDirContent::Member);
        assert_eq!(
            data(&[("log", &old), ("snap/x", b""), ("wal/0.wal", b"")]).unwrap(),
            DataDirContent::Member
        );
        assert_eq!(
            data(&[("standby_info", standby), ("proxy/cluster", b"")]).unwrap(),
            DataDirContent::Proxy
        );
        assert!(matches!(
            data(&[("log", &old), ("standby_info", standby)]).unwrap(),
            DataDirContent::Standby(_)
        ));
        assert_eq!(inspect(&SimDisk::new(0), Path::new("/none")).unwrap(), DataDirContent::Nothing);
    }

    #[test]
    fn the_last_word_of_the_log_counts() {
        let key = NEXT_VERSION_KEY;
        let after = |commands: &[(&'static str, String)]| next(&[("log", &log(commands))]);
        assert_eq!(after(&[set("/a", "1"), set("/_etcd/machines/x", "2")]), None);
        assert_eq!(after(&[set("/a", "1"), set(key, "2"), set("/b", "2")]).as_deref(), Some("2"));
        assert_eq!(after(&[set(key, "2"), set(key, "1")]).as_deref(), Some("1"));
        assert_eq!(after(&[set(key, "2"), delete(key, false)]), None);
        assert_eq!(after(&[set(key, "2"), delete("/_etcd", true)]), None);
        assert_eq!(after(&[set(key, "2"), delete("/_etcd", false)]).as_deref(), Some("2"));
        // A torn last entry is ignored.
        let mut torn = log(&[set("/a", "1"), set(key, "2")]);
        torn.truncate(torn.len() - 5);
        assert_eq!(next(&[("log", &torn)]), None);
    }

    #[test]
    fn the_snapshot_counts_and_what_the_log_says_behind_it() {
        let (yes, no) = (snapshot(&snapshot_state("2")), snapshot(&snapshot_state("1")));
        assert_eq!(next(&[("snapshot/0_9.ss", &yes)]).as_deref(), Some("2"));
        assert_eq!(next(&[("snapshot/0_9.ss", &no)]).as_deref(), Some("1"));
        let log = log(&[set(NEXT_VERSION_KEY, "2")]);
        assert_eq!(next(&[("snapshot/0_9.ss", &no), ("log", &log)]).as_deref(), Some("2"));
        let empty = snapshot("{\"Root\":{\"Path\":\"/\",\"Children\":{}},\"CurrentIndex\":9}");
        assert_eq!(next(&[("snapshot/0_9.ss", &empty)]), None);
    }

    #[test]
    fn damage_is_an_error_unless_it_does_not_matter() {
        let log = log(&[set(NEXT_VERSION_KEY, "2")]);
        let mut bad = snapshot(&snapshot_state("1"));
        let last = bad.len() - 5;
        bad[last] ^= 1;
        assert_eq!(next(&[("snapshot/0_9.ss", &bad), ("log", &log)]).as_deref(), Some("2"));
        assert!(matches!(data(&[("snapshot/0_9.ss", &bad)]), Err(DataError::Snapshot(_))));
        let no_store = snapshot("[]");
        assert!(matches!(data(&[("snapshot/0_9.ss", &no_store)]), Err(DataError::Store { .. })));
        let unknown = self::log(&[("etcd:nope", "{\"key\":\"/_etcd\"}".to_owned())]);
        assert!(matches!(data(&[("log", &unknown)]), Err(DataError::Command { offset: 0, .. })));
        assert!(data(&[("standby_info", b"{")]).is_err());
    }
}
