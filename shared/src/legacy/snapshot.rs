//! Snapshots: the store at an entry, in a file `snapshot/TERM_INDEX.ss` (decimal, not padded).
//!
//! ```text
//! 6bb05c88\n                                      CRC-32 (IEEE) of all that follows, 8 hexadecimal digits
//! {"lastIndex":389,"lastTerm":0,"peers":[…],      peers: all members, the one that took the snapshot last
//!  "state":"<base64>","path":"…/0_389.ss"}        state: the store as JSON; path: as that server saw it
//! ```

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

use super::files::ConfPeer;
use super::log::NUMBER_MAX;
use crate::disk::{Disk, DiskError, Kind, read_file};

/// A snapshot of 0.x is read as a whole; base64 in JSON does not get larger than this.
const FILE_BYTES_MAX: u64 = 1 << 36;
/// Digits of the sum and a newline.
const HEAD_BYTES: usize = 9;

/// A snapshot.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry that it holds.
    pub last_index: u64,
    /// That entry's term.
    pub last_term: u64,
    /// The members then; the one that took it stands last.
    pub peers: Vec<ConfPeer>,
    /// The store as JSON.
    pub state: Vec<u8>,
}

/// The name of a snapshot's file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotName {
    /// The term of its last entry.
    pub term: u64,
    /// The index of its last entry.
    pub index: u64,
    /// The name itself.
    pub file_name: String,
}

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is damaged.
    #[error("{} is damaged: {damage}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        damage: SnapshotDamage,
    },
}

/// What is wrong with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotDamage {
    /// The file does not begin with a sum.
    #[error("at byte 0 expected 8 hexadecimal digits (the checksum) and a newline, found \"{found}\"")]
    NoChecksum {
        /// What stands there.
        found: String,
    },
    /// The sum is that of other bytes.
    #[error(
        "the checksum of bytes {HEAD_BYTES} to the end ({bytes}) is {found:08x}, expected {wanted:08x} as byte 0 says"
    )]
    Checksum {
        /// The sum in the file.
        wanted: u32,
        /// The sum of the bytes.
        found: u32,
        /// How long the file is.
        bytes: usize,
    },
    /// It is not the JSON of a snapshot.
    #[error("expected JSON with lastIndex, lastTerm, peers and state: {0}")]
    Json(String),
    /// The state is not base64.
    #[error("expected base64 as the state: {0}")]
    State(String),
    /// The name and the content have different entries.
    #[error(
        "its name tells of entry {index} of term {term}, its content of entry {last_index} of term {last_term}"
    )]
    SnapshotName {
        /// The index in the name.
        index: u64,
        /// The term in the name.
        term: u64,
        /// The index in the content.
        last_index: u64,
        /// The term in the content.
        last_term: u64,
    },
}

impl SnapshotName {
    /// Parses a file's name; `None` if it is not that of a snapshot.
    #[must_use]
    pub fn parse(name: &OsStr) -> Option<SnapshotName> {
        let text = name.to_str()?;
        let (term, index) = text.strip_suffix(".ss")?.split_once('_')?;
        let number = |digits: &str| -> Option<u64> {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok())?
        };
        Some(SnapshotName { term: number(term)?, index: number(index)?, file_name: text.to_owned() })
    }
}

/// The snapshots in a folder, oldest first: by term and index, not (as 0.4 has it) as texts, by which `0_9` comes
/// after `0_100`. Other files are passed over. None if the folder is not there.
///
/// # Errors
/// Those of the disk.
pub fn names<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<SnapshotName>, DiskError> {
    if disk.kind(dir)? != Some(Kind::Dir) {
        return Ok(Vec::new());
    }
    let mut names: Vec<SnapshotName> =
        disk.list(dir)?.iter().filter_map(|name| SnapshotName::parse(name)).collect();
    names.sort_unstable();
    Ok(names)
}

/// The path of the newest snapshot in a folder, `None` if there is none.
///
/// # Errors
/// Those of the disk.
pub fn newest<D: Disk>(disk: &D, dir: &Path) -> Result<Option<PathBuf>, DiskError> {
    Ok(names(disk, dir)?.pop().map(|name| dir.join(name.file_name)))
}

/// Reads a snapshot. Takes as much memory as the file.
///
/// # Errors
/// If it cannot be read or is damaged.
pub fn read<D: Disk>(disk: &D, file: &Path) -> Result<Snapshot, SnapshotError> {
    let damaged = |damage| SnapshotError::Damaged { file: file.to_owned(), damage };
    let snapshot = decode(read_file(disk, file, FILE_BYTES_MAX)?).map_err(damaged)?;
    if let Some(SnapshotName { term, index, .. }) = file.file_name().and_then(SnapshotName::parse)
        && (index, term) != (snapshot.last_index, snapshot.last_term)
    {
        let Snapshot { last_index, last_term, .. } = snapshot;
        return Err(damaged(SnapshotDamage::SnapshotName { index, term, last_index, last_term }));
    }
    Ok(snapshot)
}

/// Decodes the bytes of a file, in place.
///
/// # Errors
/// What is wrong with them.
pub fn decode(mut bytes: Vec<u8>) -> Result<Snapshot, SnapshotDamage> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(rename = "lastIndex")]
        last_index: u64,
        #[serde(rename = "lastTerm")]
        last_term: u64,
        // 0.1's declaration has a typing error, so the names have capitals.
        #[serde(alias = "Peers", default)]
        peers: Option<Vec<ConfPeer>>,
        #[serde(alias = "State", borrow)]
        state: &'a str,
    }

    let no_checksum = || {
        let found = &bytes[..bytes.len().min(HEAD_BYTES)];
        SnapshotDamage::NoChecksum { found: found.escape_ascii().to_string() }
    };
    let (head, content) = bytes.split_at_checked(HEAD_BYTES).ok_or_else(no_checksum)?;
    let digits = head.strip_suffix(b"\n").filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let wanted = digits
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or_else(no_checksum)?;
    let found = crc32fast::hash(content);
    if found != wanted {
        return Err(SnapshotDamage::Checksum { wanted, found, bytes: bytes.len() });
    }
    let content: Content<'_> =
        serde_json::from_slice(content).map_err(|error| SnapshotDamage::Json(error.to_string()))?;
    let (last_index, last_term) = (content.last_index, content.last_term);
    if last_index.max(last_term) > NUMBER_MAX {
        return Err(SnapshotDamage::Json(format!(
            "lastIndex {last_index} and lastTerm {last_term} are out of range"
        )));
    }
    let peers = content.peers.unwrap_or_default();
    let start = content.state.as_ptr().addr() - bytes.as_ptr().addr();
    let end = start + content.state.len();
    let length = decode_base64(&mut bytes, start, end)?;
    bytes.truncate(length);
    Ok(Snapshot { last_index, last_term, peers, state: bytes })
}

/// Decodes the base64 in `bytes[start..end]` to the start of `bytes`; returns how long it is.
fn decode_base64(bytes: &mut [u8], start: usize, end: usize) -> Result<usize, SnapshotDamage> {
    /// Digits decoded at once, a multiple of 4.
    const DIGITS: usize = 16 * 1024;
    let mut to = 0;
    let mut from = start;
    let mut part = vec![0; DIGITS / 4 * 3];
    while from < end {
        let until = end.min(from + DIGITS);
        let decoded =
            base64::engine::general_purpose::STANDARD.decode_slice(&bytes[from..until], &mut part).map_err(
                |error| SnapshotDamage::State(format!("{error}, counted from digit {}", from - start)),
            )?;
        if until < end && decoded < part.len() {
            return Err(SnapshotDamage::State(format!(
                "it ends at digit {}, but more follows",
                until - start
            )));
        }
        // The output is never longer than the input so far, so it does not overwrite unread input.
        bytes[to..to + decoded].copy_from_slice(&part[..decoded]);
        to += decoded;
        from = until;
    }
    Ok(to)
}

/// The bytes of a file with this snapshot; for tests and generators of old directories.
#[must_use]
pub fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let peer =
        |peer: &ConfPeer| serde_json::json!({"name": peer.name, "connectionString": peer.connection_string});
    let content = serde_json::json!({
        "lastIndex": snapshot.last_index,
        "lastTerm": snapshot.last_term,
        "peers": snapshot.peers.iter().map(peer).collect::<Vec<_>>(),
        "state": base64::engine::general_purpose::STANDARD.encode(&snapshot.state),
        "path": format!("{}_{}.ss", snapshot.last_term, snapshot.last_index),
    })
    .to_string();
    format!("{:08x}\n{content}", crc32fast::hash(content.as_bytes())).into_bytes()
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Snapshot { last_index, last_term, peers, state } = self;
        write!(
            f,
            "snapshot of entry {last_index}, term {last_term}, {} peers, {} bytes",
            peers.len(),
            state.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    fn sample(state: &[u8]) -> Snapshot {
        let peers = vec![ConfPeer { name: "o1".to_owned(), connection_string: String::new() }];
        Snapshot { last_index: 27, last_term: 1, peers, state: state.to_vec() }
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 2, 3, 4, 12_287, 12_288, 12_289, 100_000] {
            let state: Vec<u8> = (0..length).map(|at: u32| at.to_le_bytes()[0] ^ 0x5a).collect();
            let snapshot = sample(&state);
            assert!(decode(encode(&snapshot)).unwrap() == snapshot, "{length} bytes");
        }
    }

    #[test]
    fn every_flip_and_every_cut_is_seen() {
        let good = encode(&sample(b"{\"Root\":{}}"));
        for at in 0..good.len() {
            assert!(decode(good[..at].to_vec()).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                // A digit of the sum may be written as a capital.
                let same = bad.eq_ignore_ascii_case(&good) && at < 8;
                assert!(decode(bad).is_err() || same, "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn names_count_as_numbers() {
        let disk = SimDisk::new(0);
        for name in ["0_9.ss", "0_100.ss", "readme", "x_1.ss", "1_.ss", "1_+2.ss"] {
            disk.plant(&Path::new("/s").join(name), b"").unwrap();
        }
        let found = newest(&disk, Path::new("/s")).unwrap().unwrap();
        assert_eq!(found, Path::new("/s/0_100.ss"));
        assert_eq!(names(&disk, Path::new("/s")).unwrap().len(), 2);
        assert_eq!(newest(&disk, Path::new("/nowhere")).unwrap(), None);
    }

    #[test]
    fn the_name_must_fit() {
        let disk = SimDisk::new(0);
        let file = Path::new("/s/1_28.ss");
        disk.plant(file, &encode(&sample(b"x"))).unwrap();
        let error = read(&disk, file).unwrap_err().to_string();
        assert!(error.contains("entry 28 of term 1, its content of entry 27 of term 1"), "{error}");
    }
}
