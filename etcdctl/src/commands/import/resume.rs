//! `--resume`: a file beside the source with the progress of the import.
//!
//! It exists while an import runs or was interrupted, and is removed when all is done.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shared::disk::{Disk as _, DiskError, OutputFile, RealDisk, read_file};

use super::ledger::ImportProgress;
use super::source::Source;

/// The suffix that is added to the name of the source.
const ENDING: &str = ".import";

/// The largest bookmark; real ones are shorter.
const BOOKMARK_BYTES_MAX: u64 = 64 * 1024;

/// The file with the progress of an import.
#[derive(Debug)]
pub(super) struct Bookmark {
    path: PathBuf,
    source: SourceFingerprint,
}

/// Distinguishes one source from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SourceFingerprint {
    bytes: u64,
    /// The CRC-32C of its beginning.
    head_crc: u32,
}

#[derive(Serialize, Deserialize)]
struct BookmarkContent {
    source: SourceFingerprint,
    done: ImportProgress,
}

impl Bookmark {
    /// The bookmark of a source. Nothing is read or written yet.
    ///
    /// # Errors
    /// If the source can be read only once.
    pub(super) fn of(path: &Path, source: &Source) -> Result<Bookmark, String> {
        let Some(bytes) = source.len() else {
            return Err(
                "--resume needs a file: standard input, a FIFO or a device cannot be read a second time"
                    .to_owned(),
            );
        };
        let mut name = OsString::from(path);
        name.push(ENDING);
        let source = SourceFingerprint { bytes, head_crc: crc32c::crc32c(source.head()) };
        Ok(Bookmark { path: PathBuf::from(name), source })
    }

    /// The progress of the earlier run.
    ///
    /// # Errors
    /// If the bookmark is of another source, or cannot be read.
    pub(super) fn read(&self) -> Result<ImportProgress, String> {
        let path = self.path.display();
        if RealDisk.kind(&self.path).map_err(|error| error.to_string())?.is_none() {
            return Ok(ImportProgress::default());
        }
        let text = read_file(&RealDisk, &self.path, BOOKMARK_BYTES_MAX).map_err(|error| error.to_string())?;
        let BookmarkContent { source, done } = serde_json::from_slice(&text).map_err(|error| {
            format!("{path} does not say how far an import has come ({error}): remove it to begin anew")
        })?;
        if source != self.source {
            return Err(format!(
                "{path} is of another file, or the file has changed since: remove it to begin anew"
            ));
        }
        Ok(done)
    }

    /// Stores the progress.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn write(&self, done: ImportProgress) -> Result<(), DiskError> {
        // It has only numbers, so this cannot fail.
        let text = serde_json::to_vec(&BookmarkContent { source: self.source, done }).unwrap_or_default();
        let mut file = OutputFile::create(&self.path)?;
        file.write_all(&text).map_err(|error| DiskError::new("write", &self.path, error))?;
        file.finish()
    }

    /// Removes the bookmark, when all is done.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn remove(&self) -> Result<(), DiskError> {
        match RealDisk.kind(&self.path)? {
            Some(_) => RealDisk.remove(&self.path),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::disk::{DiskFile as _, Open};

    use super::*;

    fn source(path: &Path, content: &[u8]) -> Bookmark {
        RealDisk.open(path, Open::Create).unwrap().append(content).unwrap();
        Bookmark::of(path, &Source::open(path).unwrap()).unwrap()
    }

    #[test]
    fn a_bookmark_is_of_one_source() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.jsonl");
        let bookmark = source(&path, b"one\n");
        assert_eq!(bookmark.read().unwrap(), ImportProgress::default());
        let done = ImportProgress { lines: 7, offset: 90, keys: 6, failed: 1, ..ImportProgress::default() };
        bookmark.write(ImportProgress::default()).unwrap();
        bookmark.write(done).unwrap();
        assert_eq!(bookmark.read().unwrap(), done);
        assert!(source(&path, b"two\n").read().unwrap_err().contains("another file"));
        assert!(source(&path, b"one\nmore\n").read().unwrap_err().contains("dump.jsonl.import"));
        let bookmark = source(&path, b"one\n");
        assert_eq!(bookmark.read().unwrap(), done);
        bookmark.remove().unwrap();
        bookmark.remove().unwrap();
        assert_eq!(bookmark.read().unwrap(), ImportProgress::default());
        assert_eq!(RealDisk.list(folder.path()).unwrap(), ["dump.jsonl"]);
    }

    #[test]
    fn what_is_no_bookmark_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let bookmark = source(&path, b"");
        RealDisk
            .open(&folder.path().join("f.import"), Open::Create)
            .unwrap()
            .append(b"{\"source\":1}")
            .unwrap();
        assert!(bookmark.read().unwrap_err().contains("remove it to begin anew"));
    }
}
