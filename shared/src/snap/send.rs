//! A snapshot's file as another member is to get it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

use super::file_name;

/// More than the head of any snapshot file takes: two keys, a sum, a length.
const HEAD_BYTES_MAX: usize = 32;

/// Opens the snapshot of an entry at the bytes of its `raftpb.Snapshot`, and tells how many they are. They are
/// read once to compare their sum: a flaw of the disk must not spread to another member.
///
/// # Errors
/// When there is no such file, it cannot be read, or its sum is wrong.
pub fn open_data(dir: &Path, term: u64, index: u64) -> io::Result<(u64, File)> {
    // A FIFO of that name would be waited for.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut file =
        OpenOptions::new().read(true).custom_flags(flags).open(dir.join(file_name(term, index)))?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(broken());
    }
    let size = metadata.len();
    let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
    file.by_ref().take(HEAD_BYTES_MAX as u64).read_to_end(&mut head)?;
    let (crc, len, start) = read_head(&head).ok_or_else(broken)?;
    if start.checked_add(len) != Some(size) {
        return Err(broken());
    }
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::with_capacity(1 << 20, &mut file);
    let mut sum = 0;
    loop {
        let bytes = io::BufRead::fill_buf(&mut reader)?;
        if bytes.is_empty() {
            break;
        }
        sum = crc32c::crc32c_append(sum, bytes);
        let read = bytes.len();
        io::BufRead::consume(&mut reader, read);
    }
    drop(reader);
    if sum != crc {
        return Err(broken());
    }
    file.seek(SeekFrom::Start(start))?;
    Ok((len, file))
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
    use std::io::Write as _;

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
        let (len, mut file) = open_data(dir.path(), 2, 7).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, len);
        let snapshot = pb::Snapshot::decode(&bytes[..]).unwrap();
        assert_eq!(snapshot.data.as_deref(), Some(&b"{\"a\":1}"[..]));
        assert_eq!(snapshot.metadata.index, 7);
        assert_eq!(open_data(dir.path(), 2, 8).unwrap_err().kind(), io::ErrorKind::NotFound);

        let path = dir.path().join(file_name(2, 7));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flawed = whole.clone();
            flawed[at] ^= 1;
            std::fs::write(&path, &flawed).unwrap();
            assert!(open_data(dir.path(), 2, 7).is_err(), "a flaw at byte {at} was not seen");
        }
        File::create(&path).unwrap().write_all(&whole[..5]).unwrap();
        assert!(open_data(dir.path(), 2, 7).is_err());
    }
}
