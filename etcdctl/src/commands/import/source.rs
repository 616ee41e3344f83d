//! Opens the source, and detects its kind by its first bytes.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use shared::disk::{Disk as _, DiskError, DiskFile as _, Open, RealDisk, RealFile};

/// How many bytes of the beginning decide the kind, and are compared when an import resumes.
const HEAD_BYTES: usize = 64 * 1024;

/// The fields of an export's lines.
const EXPORT_NAMES: [&str; 9] = [
    "key",
    "key_base64",
    "dir",
    "value",
    "value_base64",
    "expiration",
    "createdIndex",
    "modifiedIndex",
    "end",
];

/// The kind of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceKind {
    /// A snapshot file of etcd 0.4: a line with a checksum, then JSON.
    SnapshotFile,
    /// The store of etcd 0.4 as JSON, or anything else.
    Store,
    /// JSON lines.
    Export,
}

/// An open file, or standard input.
#[derive(Debug)]
pub(super) struct Source {
    input: SourceInput,
    /// The beginning, which was already read.
    head: Vec<u8>,
    /// The next byte to return.
    offset: u64,
}

#[derive(Debug)]
enum SourceInput {
    File(RealFile),
    /// A FIFO or a device.
    Stream(fs::File),
    Stdin,
}

impl Source {
    /// Opens a file, or standard input for `-`.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn open(path: &Path) -> io::Result<Source> {
        let input = match path.as_os_str().as_encoded_bytes() {
            b"-" => SourceInput::Stdin,
            _ if RealDisk.kind(path).map_err(io_error)? == Some(shared::disk::Kind::Other) => {
                // What a shell makes of `<(command)`, and /dev/stdin: read once, from its beginning to its end.
                SourceInput::Stream(
                    fs::File::open(path).map_err(|error| io_error(DiskError::new("open", path, error)))?,
                )
            }
            _ => SourceInput::File(RealDisk.open(path, Open::Read).map_err(io_error)?),
        };
        let mut source = Source { input, head: Vec::new(), offset: 0 };
        let mut head = Vec::new();
        source.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        source.head = head;
        source.offset = 0;
        Ok(source)
    }

    /// Its kind.
    pub(super) fn kind(&self) -> SourceKind {
        recognise(&self.head)
    }

    /// Its length, if known.
    pub(super) fn len(&self) -> Option<u64> {
        match &self.input {
            SourceInput::File(file) => file.len().ok(),
            SourceInput::Stream(_) | SourceInput::Stdin => None,
        }
    }

    /// The beginning.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let in_head = usize::try_from(self.offset).ok().and_then(|offset| self.head.get(offset..));
        let count = match (in_head, &mut self.input) {
            (Some(mut rest @ [_, ..]), _) => rest.read(buf)?,
            (_, SourceInput::File(file)) => file.read_at(self.offset, buf).map_err(io_error)?,
            (_, SourceInput::Stream(file)) => file.read(buf)?,
            (_, SourceInput::Stdin) => io::stdin().read(buf)?,
        };
        self.offset += count as u64;
        Ok(count)
    }
}

fn io_error(error: DiskError) -> io::Error {
    io::Error::new(error.kind(), error)
}

/// The kind of a source that begins with `head`.
fn recognise(head: &[u8]) -> SourceKind {
    if let Some((checksum, [b'\n', ..])) = head.split_first_chunk::<8>()
        && checksum.iter().all(u8::is_ascii_hexdigit)
    {
        return SourceKind::SnapshotFile;
    }
    let Some(name) = first_name(head) else { return SourceKind::Store };
    if EXPORT_NAMES.iter().any(|known| known.as_bytes() == name) {
        SourceKind::Export
    } else {
        SourceKind::Store
    }
}

/// The name of the first field, if the text begins with a JSON object.
fn first_name(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii_start().strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"")?;
    text.split(|byte| *byte == b'"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_tells_what_a_file_is() {
        for (head, kind) in [
            (&b"1a2b3c4d\n{\"lastIndex\":27"[..], SourceKind::SnapshotFile),
            (b"{\"Root\":{\"Path\":\"/\"", SourceKind::Store),
            (b"{\"key\":\"/a\",\"value\":\"1\"}\n", SourceKind::Export),
            (b"\n { \"value_base64\" : \"\"", SourceKind::Export),
            (b"{\"end\":{\"nodes\":0,\"index\":7}}\n", SourceKind::Export),
            (b"{\"keys\":1}", SourceKind::Store),
            (b"not json", SourceKind::Store),
            (b"", SourceKind::Store),
            (b"{}", SourceKind::Store),
            (b"1a2b3c4x\n", SourceKind::Store),
        ] {
            assert_eq!(recognise(head), kind, "{}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn what_was_looked_at_is_read_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        for length in [0, 10, HEAD_BYTES, HEAD_BYTES + 5000] {
            let content: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
            let mut file = RealDisk.open(&path, Open::Create).unwrap();
            file.append(&content).unwrap();
            let mut source = Source::open(&path).unwrap();
            assert_eq!((source.len(), source.head().len()), (Some(length as u64), length.min(HEAD_BYTES)));
            let mut all = Vec::new();
            source.read_to_end(&mut all).unwrap();
            assert!(all == content, "{length}");
        }
        assert!(Source::open(&folder.path().join("none")).is_err());
    }
}
