//! Names of segments, and the choice of those that hold the needed entries.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use super::WalError;
use crate::disk::Disk;

/// The name of a segment: `SEQ-INDEX.wal`, both 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Counts the segments of a log from 0 on.
    pub seq: u64,
    /// The lowest index of an entry that the segment may hold; 0 for the first segment.
    pub index: u64,
}

impl SegmentName {
    /// Parses a file name; `None` if it is not that of a segment.
    #[must_use]
    pub fn parse(name: &OsStr) -> Option<SegmentName> {
        let (seq, index) = name.to_str()?.strip_suffix(".wal")?.split_once('-')?;
        Some(SegmentName { seq: hex16(seq)?, index: hex16(index)? })
    }
}

impl SegmentName {
    /// Whether a segment with this name was begun when the log ended with the entry or mark at `last_index`.
    pub(crate) fn is_after(self, last_index: u64) -> bool {
        last_index.checked_add(1) == Some(self.index)
    }
}

/// Exactly 16 hexadecimal digits.
pub(crate) fn hex16(digits: &str) -> Option<u64> {
    let good = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    if good { u64::from_str_radix(digits, 16).ok() } else { None }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.seq, self.index)
    }
}

/// The segments of a folder in order. Other names are ignored, with a warning.
pub(crate) fn list<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<SegmentName>, WalError> {
    let mut names = Vec::new();
    for name in disk.list(dir)? {
        match SegmentName::parse(&name) {
            Some(name) => names.push(name),
            None => tracing::warn!(target: "wal", "ignored file {} in wal", name.to_string_lossy()),
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The segments that hold the entries after `index`: the last that may hold it, and all that follow.
///
/// Reading does not start with a segment whose index is lower than that of an earlier one, if there is another
/// choice. A log is hardly ever written so; it is usually a copied or renamed file, which only the checksums of the
/// segments before it reveal.
///
/// # Errors
/// If one of them is missing.
pub(crate) fn select(names: &[SegmentName], dir: &Path, index: u64) -> Result<Vec<SegmentName>, WalError> {
    let missing = || WalError::FileNotFound(PathBuf::from(dir));
    let mut highest = 0;
    let in_order = names.iter().map(|name| {
        highest = highest.max(name.index);
        name.index == highest
    });
    let in_order: Vec<bool> = in_order.collect();
    let may_hold = |place: &usize| names[*place].index <= index;
    let first = (0..names.len()).rev().filter(may_hold).find(|place| in_order[*place]);
    let first = first.or_else(|| (0..names.len()).rev().find(may_hold)).ok_or_else(missing)?;
    let selected = &names[first..];
    let joined = selected.windows(2).all(|pair| pair[0].seq.checked_add(1) == Some(pair[1].seq));
    if joined { Ok(selected.to_vec()) } else { Err(missing()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(seq: u64, index: u64) -> SegmentName {
        SegmentName { seq, index }
    }

    #[test]
    fn names_go_both_ways() {
        let text = "0000000000000001-00000000000000ab.wal";
        assert_eq!(SegmentName::parse(OsStr::new(text)), Some(name(1, 0xab)));
        assert_eq!(name(1, 0xab).to_string(), text);
        for bad in [
            "0000000000000001-00000000000000ab.wal.tmp",
            "0000000000000001-00000000000000ab.wal.broken",
            "1-ab.wal",
            "+000000000000001-00000000000000ab.wal",
            "0000000000000001.wal",
            "",
        ] {
            assert_eq!(SegmentName::parse(OsStr::new(bad)), None, "{bad}");
        }
    }

    #[test]
    fn selects_from_the_segment_that_may_hold_the_index() {
        let dir = Path::new("/w");
        let all = [name(0, 0), name(1, 10), name(2, 20)];
        assert_eq!(select(&all, dir, 0).unwrap(), all);
        assert_eq!(select(&all, dir, 9).unwrap(), all);
        assert_eq!(select(&all, dir, 10).unwrap(), all[1..]);
        assert_eq!(select(&all, dir, 99).unwrap(), all[2..]);
        assert!(matches!(select(&all[1..], dir, 9), Err(WalError::FileNotFound(_))));
        // The last one may be a copy of another one: the checksums show it if the segments before it are read too.
        let copied = [name(0, 0), name(1, 10), name(2, 20), name(3, 10)];
        assert_eq!(select(&copied, dir, 15).unwrap(), copied[1..]);
        assert_eq!(select(&copied, dir, 25).unwrap(), copied[2..]);
        // Nothing is left before it.
        assert_eq!(select(&copied[2..], dir, 15).unwrap(), copied[3..]);
        let renamed = [name(0, 0), name(2, 20), name(3, 10)];
        assert!(matches!(select(&renamed, dir, 15), Err(WalError::FileNotFound(_))));
        let gap = [name(0, 0), name(2, 20)];
        assert!(matches!(select(&gap, dir, 0), Err(WalError::FileNotFound(_))));
        assert_eq!(select(&gap, dir, 20).unwrap(), gap[1..]);
    }
}
