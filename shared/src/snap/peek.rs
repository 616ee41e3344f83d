//! The metadata of a snapshot file, without its store: the file is read in pieces and not kept.

use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::decode_varint;

use super::send::read_head;
use super::{SnapDamage, SnapError, read};
use crate::disk::{Disk, DiskError, DiskFile, Open};
use crate::pb;

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// The largest metadata.
const METADATA_BYTES_MAX: u64 = 1 << 20;

/// Reads the entry of a snapshot file and the members at it. Verifies the checksum, but does not decode the store.
///
/// # Errors
/// As [`read`].
pub fn peek<D: Disk>(disk: &D, file: &Path) -> Result<pb::SnapshotMetadata, SnapError> {
    match peek_usual(&disk.open(file, Open::Read)?)? {
        Some(Ok(metadata)) => Ok(metadata),
        Some(Err(damage)) => Err(SnapError::Broken { file: file.to_owned(), damage }),
        // Broken, or written by a program with another order of fields.
        None => read(disk, file).map(|snapshot| snapshot.metadata),
    }
}

/// `None` if the fields of the file are not in the order of Go and of this program.
fn peek_usual<F: DiskFile>(file: &F) -> Result<Option<Result<pb::SnapshotMetadata, SnapDamage>>, DiskError> {
    let mut head = [0; 32];
    let head = read_some(file, 0, &mut head)?;
    let Some((crc, len, start)) = read_head(head) else { return Ok(None) };
    let end = start.checked_add(len);
    if len == 0 || end != Some(file.len()?) {
        return Ok(None);
    }
    let mut sum = 0;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = start;
    loop {
        let bytes = read_some(file, at, &mut chunk)?;
        if bytes.is_empty() {
            break;
        }
        sum = crc32c::crc32c_append(sum, bytes);
        at += bytes.len() as u64;
    }
    if sum != crc {
        return Ok(Some(Err(SnapDamage::Crc)));
    }
    Ok(metadata(file, start, start + len)?.map(Ok))
}

/// The metadata behind the store in a `raftpb.Snapshot`.
fn metadata<F: DiskFile>(file: &F, start: u64, end: u64) -> Result<Option<pb::SnapshotMetadata>, DiskError> {
    let mut head = [0; 16];
    let mut rest = read_some(file, start, &mut head)?;
    let whole = rest.len();
    let mut place = start;
    if let Some((0x0a, tail)) = rest.split_first() {
        rest = tail;
        let Ok(store) = decode_varint(&mut rest) else { return Ok(None) };
        place = start.saturating_add((whole - rest.len()) as u64).saturating_add(store);
    }
    let left = end.saturating_sub(place);
    if left > METADATA_BYTES_MAX {
        return Ok(None);
    }
    let mut tail = vec![0; usize::try_from(left).unwrap_or_default()];
    let tail = read_some(file, place, &mut tail)?;
    let snapshot = pb::Snapshot::decode(Bytes::copy_from_slice(tail));
    Ok(snapshot.ok().filter(|snapshot| snapshot.data.is_none()).map(|snapshot| snapshot.metadata))
}

/// Reads as many bytes as there are and fit.
fn read_some<'a, F: DiskFile>(file: &F, offset: u64, buffer: &'a mut [u8]) -> Result<&'a [u8], DiskError> {
    let got = file.read_at(offset, buffer)?;
    Ok(&buffer[..got])
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes its files as it likes")]
mod tests {

    use super::*;
    use crate::disk::RealDisk;
    use crate::snap::{Snapshots, file_name};

    #[test]
    fn says_what_reading_the_whole_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let state = pb::ConfState { nodes: vec![1, u64::MAX] };
        Snapshots::new(RealDisk, dir.path()).save(2, 7, &state, |out| out.write_all(&[b'x'; 300])).unwrap();
        let path = dir.path().join(file_name(2, 7));
        let said = |path: &Path| {
            let whole = read(&RealDisk, path).map(|snapshot| snapshot.metadata).map_err(|e| e.to_string());
            assert_eq!(peek(&RealDisk, path).map_err(|e| e.to_string()), whole);
            whole
        };
        assert_eq!(said(&path).unwrap().conf_state, state);
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut flawed = good.clone();
            flawed[at] ^= 1;
            std::fs::write(&path, &flawed).unwrap();
            assert!(said(&path).is_err(), "a flaw at byte {at} was not seen");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(said(&path).is_err(), "a cut at byte {at} was not seen");
        }
    }

    #[test]
    fn a_store_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let metadata = pb::SnapshotMetadata { index: 3, term: 1, ..Default::default() };
        let data = pb::Snapshot { data: None, metadata: metadata.clone() }.encode_to_vec();
        let mut file = vec![8];
        prost::encoding::encode_varint(crc32c::crc32c(&data).into(), &mut file);
        file.push(0x12);
        prost::encoding::encode_varint(data.len() as u64, &mut file);
        file.extend(data);
        let path = dir.path().join("x.snap");
        std::fs::write(&path, &file).unwrap();
        assert_eq!(peek(&RealDisk, &path).unwrap(), metadata);
    }
}
