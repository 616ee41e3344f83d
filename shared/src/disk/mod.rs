//! Access to files: the few operations that matter for crash safety.
//!
//! Code that stores something on disk is generic over [`Disk`], so that tests can run it on a [`SimDisk`] that
//! forgets, at a crash, what was not synced. Two rules hold for every implementation:
//!
//! - Contents are durable after [`DiskFile::sync`], names after [`Disk::sync_dir`] of their folder.
//! - After a failed `sync` a handle refuses all further writes: the kernel may have dropped the pages, and
//!   a second, successful `sync` would be a lie.

mod error;
mod limit;
mod output;
mod patient;
mod real;
mod sim;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[cfg(feature = "net")]
pub(crate) use error::is_out_of_descriptors;
pub use error::{DiskError, reason};
pub use limit::report_size_limit;
pub use output::OutputFile;
pub use patient::PatientDisk;
pub use real::{RealDisk, RealFile};
pub use sim::{DiskOperation, Fault, SimDisk, SimFile};

/// How [`Disk::open`] treats a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Open an existing file for reading.
    Read,
    /// Open an existing file for reading and appending.
    Append,
    /// Create a file of mode 0600; an existing file is emptied.
    Create,
}

/// The kind of file at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// Anything else.
    Other,
}

/// A file system, real or simulated. Cheap to clone; clones are the same disk.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file. Dropping it closes it and lets go of its lock.
    type File: DiskFile;

    /// Opens a regular file. Anything else (a folder, a FIFO, a device) is refused at once, never waited for.
    fn open(&self, path: &Path, how: Open) -> Result<Self::File, DiskError>;

    /// The kind of file at `path`; `None` if there is nothing.
    fn kind(&self, path: &Path) -> Result<Option<Kind>, DiskError>;

    /// The length of the regular file at `path`, in bytes, without opening it; `None` if there is none.
    fn file_len(&self, path: &Path) -> Result<Option<u64>, DiskError>;

    /// `path` without symbolic links: two paths with the same result are the same file.
    fn canonical(&self, path: &Path) -> Result<PathBuf, DiskError>;

    /// The names in a folder, sorted bytewise.
    fn list(&self, dir: &Path) -> Result<Vec<OsString>, DiskError>;

    /// Makes one folder of mode 0700. It is durable once its parent is synced.
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Gives a file or folder another name, replacing a file that has it. Durable once the folder is synced.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file. Durable once the folder is synced.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Removes an empty folder. Durable once its parent is synced.
    fn remove_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Makes a folder and those above it that are missing, all durable on return. No error if it is there.
    fn create_dir_all(&self, dir: &Path) -> Result<(), DiskError> {
        let mut missing = Vec::new();
        let mut at = Some(dir);
        while let Some(path) = at.filter(|p| !p.as_os_str().is_empty()) {
            match self.kind(path) {
                Ok(Some(Kind::Dir)) => break,
                // Something else is there: creating the folder gives the right error.
                Ok(Some(_)) => {
                    missing.push(path);
                    break;
                }
                Ok(None) => missing.push(path),
                Err(error) => return Err(error),
            }
            at = path.parent();
        }
        for path in missing.into_iter().rev() {
            match self.create_dir(path) {
                Err(error)
                    if error.kind() == std::io::ErrorKind::AlreadyExists
                        && self.kind(path)? == Some(Kind::Dir) => {}
                result => result?,
            }
            self.sync_dir(parent_of(path))?;
        }
        Ok(())
    }
}

/// An open file of a [`Disk`].
pub trait DiskFile: Send + Sync + 'static {
    /// The path at which it was opened.
    fn path(&self) -> &Path;

    /// Its length in bytes.
    fn len(&self) -> Result<u64, DiskError>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Reads into `buf` from `offset` on; fewer bytes than `buf` holds only at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError>;

    /// Adds all of `bytes` at the end, as a rule in one system call.
    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError>;

    /// Overwrites from `offset` on, within the file or right at its end.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes the contents and the length durable (fdatasync).
    fn sync(&mut self) -> Result<(), DiskError>;

    /// Cuts the file off after `len` bytes.
    fn truncate(&mut self, len: u64) -> Result<(), DiskError>;

    /// Reserves room for the first `len` bytes without changing the length. No error where it is unsupported.
    fn allocate(&mut self, len: u64) -> Result<(), DiskError>;

    /// Makes the file at least `len` bytes long, with zeros at its end and room for them. Durable after a sync.
    fn extend(&mut self, len: u64) -> Result<(), DiskError>;

    /// Checks that the path at which the file was opened still leads to this file. It does not if the file or a
    /// folder above it was removed or renamed, or another disk was mounted there: the next process would not find
    /// what is written now. Also checks that no other program has made the file shorter.
    ///
    /// # Errors
    /// An error with [`DiskError::is_displaced`], one that names the lengths, or the system's if the check fails.
    fn check_in_place(&self) -> Result<(), DiskError>;

    /// Takes the advisory lock against other processes, without waiting.
    ///
    /// Fails with [`DiskError::is_locked`] if another handle has it.
    fn lock(&mut self) -> Result<(), DiskError>;
}

/// The folder that holds `path`; `.` for a bare name.
#[must_use]
pub fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether a path is a symbolic link. Something must be there, and its folder too.
///
/// # Errors
/// Those of the disk.
pub fn is_link<D: Disk>(disk: &D, path: &Path) -> Result<bool, DiskError> {
    let Some(name) = path.file_name() else { return Ok(false) };
    Ok(disk.canonical(path)? != disk.canonical(parent_of(path))?.join(name))
}

/// Removes the files in `dir` whose names end in one of `suffixes`: what a crash left unfinished.
pub(crate) fn remove_ends_with<D: Disk>(disk: &D, dir: &Path, suffixes: &[&str]) -> Result<(), DiskError> {
    for name in disk.list(dir)? {
        if suffixes.iter().any(|suffix| name.as_encoded_bytes().ends_with(suffix.as_bytes())) {
            disk.remove(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Writes a file durably; replaces an existing one.
///
/// # Errors
/// Those of the disk; then an existing file is unchanged.
pub fn write_file<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = disk.open(&temporary, Open::Create)?;
    file.append(bytes)?;
    file.sync()?;
    drop(file);
    disk.rename(&temporary, path)?;
    disk.sync_dir(parent_of(path))
}

/// Bytes copied at once.
const COPY_BYTES: usize = 256 * 1024;

/// Copies what an open file holds from `offset` on into a new file at `to`, and syncs that. Its name is durable once
/// its folder is synced.
pub(crate) fn copy<D: Disk>(disk: &D, file: &D::File, offset: u64, to: &Path) -> Result<(), DiskError> {
    let mut copy = disk.open(to, Open::Create)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = offset;
    loop {
        let got = file.read_at(at, &mut buffer)?;
        if got == 0 {
            break;
        }
        copy.append(&buffer[..got])?;
        at += got as u64;
    }
    copy.sync()
}

/// Whether an error means that there is no space: on the disk, in the quota, or for a file of that size.
pub(crate) fn is_full(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind;
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// Reads a whole file that is no longer than `len_max` bytes.
pub fn read_file<D: Disk>(disk: &D, path: &Path, len_max: u64) -> Result<Vec<u8>, DiskError> {
    let file = disk.open(path, Open::Read)?;
    let len = file.len()?;
    let size = match usize::try_from(len) {
        Ok(size) if len <= len_max => size,
        _ => return Err(DiskError::new("read", path, std::io::ErrorKind::FileTooLarge.into())),
    };
    let mut bytes = vec![0; size];
    let got = file.read_at(0, &mut bytes)?;
    bytes.truncate(got);
    Ok(bytes)
}
