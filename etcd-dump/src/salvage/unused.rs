//! The readable writes that could not be used, for an operator who wants to repeat them by hand.

use serde::Serialize;
use shared::disk::Disk;
use shared::entry::{EntryContent, content};
use shared::pb;
use shared::wal::Frames;

use super::log::Log;
use super::plan::EntryReader;

/// The longest list of unused writes; a longer one would be of no use.
const UNUSED_MAX: usize = 10_000;

/// A write of a client.
#[derive(Debug, Serialize)]
pub(super) struct UnusedWrite {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) method: String,
    /// As clients see it.
    pub(super) key: String,
    /// Bytes that are not UTF-8 are replaced.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) value: String,
}

/// The writes to keys after an entry, and whether there are more than the list has.
pub(super) fn list<D: Disk>(disk: &D, log: &Log, last: u64) -> (Vec<UnusedWrite>, bool) {
    let mut reader = EntryReader::new(disk, &log.segments);
    let mut found = Vec::new();
    for run in log.runs.iter().filter(|run| run.last() > last) {
        for location in run.from(last + 1) {
            // Skip what cannot be read any more.
            let Ok(Some(entry)) = reader.read(location) else { continue };
            let Ok(EntryContent::Request(request)) = content(&entry, Frames::V2) else { continue };
            let Some(write) = write_of(&entry, &request) else { continue };
            if found.len() == UNUSED_MAX {
                return (found, true);
            }
            found.push(write);
        }
    }
    (found, false)
}

fn write_of(entry: &pb::Entry, request: &pb::Request) -> Option<UnusedWrite> {
    let key = request.path.strip_prefix(b"/1").filter(|key| key.starts_with(b"/"))?;
    let writes = matches!(&request.method[..], b"PUT" | b"POST" | b"DELETE");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    writes.then(|| UnusedWrite {
        index: entry.index,
        term: entry.term,
        method: text(&request.method),
        key: text(key),
        value: text(&request.val),
    })
}
