//! Writes a snapshot whose body is produced piece by piece.
//!
//! The head of the file (checksum and lengths, all varints) is known only when the body is complete. Its size is the
//! same for almost all bodies of 2 to 256 MiB, so a gap of that size is left for it. A smaller body is kept in
//! memory; for the few bodies whose head has another size the file is written once more.

use std::io;
use std::path::{Path, PathBuf};

use super::{SnapError, Snapshots, file_name};
use crate::disk::{Disk, DiskError, DiskFile, Open, remove_ends_with};
use crate::pb;
use crate::planted::{Bug, is_planted};

/// Bytes between two syncs, which bound how long a log on the same disk waits.
const STEP_BYTES: usize = 1024 * 1024;
/// Bodies below this are kept in memory; from here on (and up to 2^28) their length takes four bytes.
const HELD_BYTES: usize = 2 * 1024 * 1024;
/// 1 + 5 bytes sum, 1 + 4 length of the data, 1 + 4 length of the body.
const GAP_BYTES: usize = 16;

impl<D: Disk> Snapshots<D> {
    /// Stores a snapshot durably. `write_body` writes the store's JSON, which is never in memory as a whole.
    ///
    /// After an error there is no file with the snapshot's name, unless there was one before.
    pub fn save(
        &self,
        term: u64,
        index: u64,
        conf_state: &pb::ConfState,
        write_body: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<(), SnapError> {
        // Files of a save that a crash interrupted; nothing else saves here.
        remove_ends_with(&self.disk, &self.dir, &[".snap.tmp", ".snap.tmp2"])?;
        let path = self.dir.join(file_name(term, index));
        let metadata = pb::SnapshotMetadata { conf_state: conf_state.clone(), index, term };
        let saved = Draft::create(&self.disk, &path).and_then(|mut draft| {
            match write_body(&mut draft) {
                Ok(()) => {}
                Err(error) => {
                    return Err(draft.failure.take().map_or(SnapError::Body(error), SnapError::Disk));
                }
            }
            Ok(draft.finish(&self.disk, &metadata)?)
        });
        let result = saved.and_then(|temporary| {
            self.disk.rename(&temporary, &path)?;
            if is_planted(Bug::NoFolderSync) {
                return Ok(());
            }
            Ok(self.disk.sync_dir(&self.dir)?)
        });
        if result.is_err() {
            for temporary in [temporary_name(&path, 1), temporary_name(&path, 2)] {
                // The first error is the one to report; by its name, a remaining file is not a snapshot.
                let _ = self.disk.remove(&temporary);
            }
        }
        result
    }
}

fn temporary_name(path: &Path, number: u8) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(if number == 1 { ".tmp" } else { ".tmp2" });
    PathBuf::from(name)
}

/// A file that is being written in synced steps.
struct Draft<F> {
    file: F,
    /// Where the file will be.
    path: PathBuf,
    /// Not yet written; before the first write it begins with the gap.
    buffer: Vec<u8>,
    written: u64,
    body_len: u64,
    body_crc: u32,
    failure: Option<DiskError>,
}

impl<F: DiskFile> Draft<F> {
    fn create<D: Disk<File = F>>(disk: &D, path: &Path) -> Result<Draft<F>, SnapError> {
        let file = disk.open(&temporary_name(path, 1), Open::Create)?;
        let buffer = vec![0; GAP_BYTES];
        let path = path.to_owned();
        Ok(Draft { file, path, buffer, written: 0, body_len: 0, body_crc: 0, failure: None })
    }

    /// Writes and syncs the buffer.
    fn step(&mut self) -> Result<(), DiskError> {
        self.file.write_at(self.written, &self.buffer)?;
        self.file.sync()?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Adds head and tail; returns the name of the finished temporary file.
    fn finish<D: Disk<File = F>>(
        mut self,
        disk: &D,
        metadata: &pb::SnapshotMetadata,
    ) -> Result<PathBuf, DiskError> {
        let mut tail = Vec::new();
        prost::encoding::message::encode(2, metadata, &mut tail);
        let head = self.head(&tail);
        self.buffer.extend_from_slice(&tail);
        let temporary = temporary_name(&self.path, 1);
        if self.written == 0 && head.len() <= GAP_BYTES {
            let from = GAP_BYTES - head.len();
            self.buffer[from..GAP_BYTES].copy_from_slice(&head);
            self.file.write_at(0, &self.buffer[from..])?;
            self.file.sync()?;
            return Ok(temporary);
        }
        self.step()?;
        if head.len() == GAP_BYTES {
            self.file.write_at(0, &head)?;
            self.file.sync()?;
            return Ok(temporary);
        }
        let second = self.rewrite(disk, &head)?;
        drop(self);
        disk.remove(&temporary)?;
        Ok(second)
    }

    /// The bytes before the body.
    fn head(&self, tail: &[u8]) -> Vec<u8> {
        let mut data_head = vec![0x0a];
        prost::encoding::encode_varint(self.body_len, &mut data_head);
        let body_len = usize::try_from(self.body_len).unwrap_or(usize::MAX);
        let crc = crc32c::crc32c_combine(crc32c::crc32c(&data_head), self.body_crc, body_len);
        let crc = crc32c::crc32c_append(crc, tail);
        let mut head = vec![0x08];
        prost::encoding::encode_varint(u64::from(crc), &mut head);
        head.push(0x12);
        let data_len = (data_head.len() + tail.len()) as u64 + self.body_len;
        prost::encoding::encode_varint(data_len, &mut head);
        head.extend_from_slice(&data_head);
        head
    }

    /// Copies the file into a second one whose head has another size.
    fn rewrite<D: Disk<File = F>>(&mut self, disk: &D, head: &[u8]) -> Result<PathBuf, DiskError> {
        let path = temporary_name(&self.path, 2);
        let mut copy = disk.open(&path, Open::Create)?;
        copy.append(head)?;
        let mut to = head.len() as u64;
        let mut from = GAP_BYTES as u64;
        let mut buffer = vec![0; STEP_BYTES];
        while from < self.written {
            let got = self.file.read_at(from, &mut buffer)?;
            copy.write_at(to, &buffer[..got])?;
            copy.sync()?;
            from += got as u64;
            to += got as u64;
        }
        Ok(path)
    }
}

impl<F: DiskFile> io::Write for Draft<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let limit = if self.written == 0 { HELD_BYTES } else { STEP_BYTES };
        let part = &bytes[..bytes.len().min(STEP_BYTES)];
        self.body_crc = crc32c::crc32c_append(self.body_crc, part);
        self.body_len += part.len() as u64;
        self.buffer.extend_from_slice(part);
        if self.buffer.len() >= limit + GAP_BYTES
            && let Err(error) = self.step()
        {
            let kind = error.kind();
            self.failure = Some(error);
            return Err(kind.into());
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn tail_is_encoded_as_a_field() {
        let metadata = pb::SnapshotMetadata::default();
        let mut tail = Vec::new();
        prost::encoding::message::encode(2, &metadata, &mut tail);
        assert_eq!(tail, [0x12, 6, 0x0a, 0, 0x10, 0, 0x18, 0]);
        assert_eq!(metadata.encoded_len(), 6);
    }
}
