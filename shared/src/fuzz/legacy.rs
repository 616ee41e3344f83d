//! Bodies for the formats of etcd 0.x.

use std::path::Path;

use crate::disk::{Disk, DiskFile, Open, SimDisk};
use crate::legacy::log::{self, LogEnd, LogEntry, Reader};
use crate::legacy::{Command, Conf, Info, StandbyInfo, snapshot};
use crate::store::Store;

/// Reads a log. Entries must be in the bytes, must be equal after writing and reading them again, and a search after
/// damage must end.
///
/// # Panics
/// If that is not so.
#[expect(clippy::expect_used, reason = "a body panics when a promise is broken")]
pub fn legacy_log(bytes: &[u8]) {
    let disk = SimDisk::new(0);
    let file = Path::new("/log");
    disk.plant(file, bytes).expect("the simulated disk has room");
    let open = || Reader::new(disk.open(file, Open::Read).expect("it is there")).expect("it is there");
    let mut reader = open();
    let (entries, whole) = good(&mut reader);
    let length = bytes.len() as u64;
    assert!(reader.offset() <= length, "the good entries end at {} of {length}", reader.offset());
    if let (true, LogEnd::Torn { offset, bytes: rest, .. }) = (whole, reader.end()) {
        assert!(offset == reader.offset() && offset + rest == length, "a rest of another length");
    }
    let mut written = Vec::new();
    for LogEntry { index, term, name, command, .. } in &entries {
        let name = String::from_utf8_lossy(name);
        log::encode(*index, *term, &name, (!command.is_empty()).then_some(command), &mut written);
    }
    if std::str::from_utf8(bytes).is_ok() && whole {
        disk.plant(file, &written).expect("the simulated disk has room");
        let again = good(&mut open()).0;
        let same =
            |(a, b): (&LogEntry, &LogEntry)| (a.index, a.term, &a.command) == (b.index, b.term, &b.command);
        assert!(again.len() == entries.len() && again.iter().zip(&entries).all(same), "written otherwise");
    }
    while !whole && reader.offset() < length {
        let skipped = reader.skip_damage().expect("the simulated disk reads");
        assert!(skipped.from < skipped.to && skipped.to <= length, "{skipped:?} of {length}");
        if skipped.next.is_some() {
            assert!(matches!(reader.next_entry(), Ok(Some(_))), "the search ended at no entry");
        }
        if good(&mut reader).1 {
            break;
        }
    }
}

/// The good entries, and whether there is no damage.
fn good<F: DiskFile>(reader: &mut Reader<F>) -> (Vec<LogEntry>, bool) {
    let mut entries = Vec::new();
    loop {
        match reader.next_entry() {
            Ok(Some(entry)) => entries.push(entry),
            Ok(None) => return (entries, true),
            Err(_) => return (entries, false),
        }
    }
}

/// Decodes a command: the name up to the first newline, then the text.
pub fn legacy_command(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (name, text) = bytes.split_at(at);
    if let Ok(command) = Command::decode(name, text.get(1..).unwrap_or_default()) {
        assert_eq!(command.name().as_bytes(), name, "another command");
    }
}

/// Decodes a snapshot, and the store in it; what is accepted is the same when it is written and read again.
///
/// # Panics
/// If that is not so.
pub fn legacy_snapshot(bytes: &[u8]) {
    if let Ok(snapshot) = snapshot::decode(bytes.to_vec()) {
        let again = snapshot::decode(snapshot::encode(&snapshot));
        assert!(again.as_ref() == Ok(&snapshot), "written otherwise");
        legacy_state(&snapshot.state);
    }
    // Few mutations keep the sum.
    legacy_state(bytes);
}

fn legacy_state(json: &[u8]) {
    if let Ok(store) = Store::recover_legacy(json, 8, true) {
        let image = store.image();
        assert!(image.first_difference(&image, b"/").is_none(), "an image differs from itself");
        let _ = image.count_nodes(b"/1");
    }
}

/// Decodes `conf`, `standby_info` and `info`.
pub fn legacy_files(bytes: &[u8]) {
    let _ = (Conf::decode(bytes), StandbyInfo::decode(bytes), Info::decode(bytes));
}
