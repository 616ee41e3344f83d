//! A file that appears under its name only when it is complete and on the disk.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use shared::disk::{Disk, DiskError, DiskFile, Open, RealDisk, RealFile, parent_of};

/// A file that is being written beside its place.
pub(crate) struct Target {
    path: PathBuf,
    beside: PathBuf,
    file: RealFile,
}

impl Target {
    /// Begins a file that is to stand at `path`, where another one may be.
    pub(crate) fn new(path: &Path) -> Result<Target> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".tmp");
        let beside = PathBuf::from(beside);
        let file = RealDisk.open(&beside, Open::Create)?;
        Ok(Target { path: path.to_owned(), beside, file })
    }

    /// Puts it at its place.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.file.sync()?;
        RealDisk.rename(&self.beside, &self.path)?;
        RealDisk.sync_dir(parent_of(&self.path))?;
        Ok(())
    }

    /// Removes what was written.
    pub(crate) fn give_up(self) {
        // The error that led here is the one to tell.
        drop(RealDisk.remove(&self.beside));
    }
}

impl Write for &mut Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes).map_err(|error: DiskError| io::Error::other(error))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes its files as it likes")]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_until_the_new_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, "old").unwrap();
        let mut target = Target::new(&path).unwrap();
        (&mut target).write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        target.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let target = Target::new(&path).unwrap();
        target.give_up();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
