//! Reads a snapshot file to send it to another member.

use std::io;

use super::{Snapshots, file_name};
use crate::disk::{Disk, DiskError, DiskFile, Open};

/// The largest head of a snapshot file: two keys, a checksum, a length.
const HEAD_BYTES_MAX: usize = 32;

/// Bytes read from the disk at once while the sum is compared.
const PIECE_BYTES: usize = 1 << 20;

/// The bytes of a `raftpb.Snapshot`, in the file that holds them.
#[derive(Debug)]
pub struct SnapshotData<F> {
    file: F,
    /// Where it begins.
    start: u64,
    len: u64,
}

impl<D: Disk> Snapshots<D> {
    /// Opens the snapshot of an entry at the bytes of its `raftpb.Snapshot`. They are read once to verify their
    /// checksum: damage on this disk must not spread to another member.
    ///
    /// # Errors
    /// When there is no such file, it cannot be read, or its sum is wrong.
    pub fn open_data(&self, term: u64, index: u64) -> io::Result<SnapshotData<D::File>> {
        let file = self.disk.open(&self.dir.join(file_name(term, index)), Open::Read)?;
        let mut head = [0; HEAD_BYTES_MAX];
        let read = file.read_at(0, &mut head)?;
        let (crc, len, start) = read_head(&head[..read]).ok_or_else(broken)?;
        if start.checked_add(len) != Some(file.len()?) {
            return Err(broken());
        }
        let data = SnapshotData { file, start, len };
        if data.sum()? == crc { Ok(data) } else { Err(broken()) }
    }
}

impl<F: DiskFile> SnapshotData<F> {
    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// When they cannot be read, or are fewer.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let read = self.file.read_at(self.start + offset, buf)?;
        if read == buf.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn sum(&self) -> Result<u32, DiskError> {
        let (mut sum, mut at) = (0, self.start);
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let read = self.file.read_at(at, &mut piece)?;
            if read == 0 {
                return Ok(sum);
            }
            sum = crc32c::crc32c_append(sum, &piece[..read]);
            at += read as u64;
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the snapshot's file is broken")
}

/// The sum, the length of the data and where they begin.
pub(super) fn read_head(mut head: &[u8]) -> Option<(u32, u64, u64)> {
    let whole = head.len();
    let mut key = |wanted: u8| {
        let (first, rest) = head.split_first()?;
        head = rest;
        let value = prost::encoding::decode_varint(&mut head).ok()?;
        (*first == wanted).then_some(value)
    };
    let crc = u32::try_from(key(0x08)?).ok()?;
    let len = key(0x12)?;
    Some((crc, len, (whole - head.len()) as u64))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes its files as it likes")]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::disk::RealDisk;
    use crate::pb;
    use crate::snap::Snapshots;

    #[test]
    fn the_bytes_are_those_of_the_message_or_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let state = pb::ConfState { nodes: vec![1, 2] };
        let snapshots = Snapshots::new(RealDisk, dir.path());
        snapshots.save(2, 7, &state, |out| out.write_all(b"{\"a\":1}")).unwrap();
        let data = snapshots.open_data(2, 7).unwrap();
        let mut bytes = vec![0; usize::try_from(data.len()).unwrap()];
        data.read_at(0, &mut bytes).unwrap();
        assert!(data.read_at(1, &mut bytes.clone()).is_err(), "there are no more");
        let snapshot = pb::Snapshot::decode(&bytes[..]).unwrap();
        assert_eq!(snapshot.data.as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(snapshot.metadata.index, 7);
        assert_eq!(snapshots.open_data(2, 8).unwrap_err().kind(), io::ErrorKind::NotFound);

        let path = dir.path().join(file_name(2, 7));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flawed = whole.clone();
            flawed[at] ^= 1;
            std::fs::write(&path, &flawed).unwrap();
            assert!(snapshots.open_data(2, 7).is_err(), "a flaw at byte {at} was not seen");
        }
        std::fs::write(&path, &whole[..5]).unwrap();
        assert!(snapshots.open_data(2, 7).is_err());
    }
}
