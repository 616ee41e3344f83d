//! A file that a tool writes at a path that the user gave, such as an export or a bookmark.
//!
//! A regular file appears under its name only when it is complete and durable; an existing file stays until then.
//! Anything else (a device, a FIFO, an open descriptor such as `/dev/stdout`) cannot be replaced: the bytes are
//! written into it. A symbolic link is followed: its target is replaced, not the link.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, Access, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::{Disk as _, DiskError, RealDisk, parent_of};

/// The most links that are followed; the system follows fewer.
const LINKS_MAX: usize = 40;
/// The mode of a new file: only its owner may read it.
const NEW_FILE_MODE: u32 = 0o600;

/// A file that is being written. Without [`OutputFile::finish`] it is removed, unless it is a device or a pipe.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: File,
    /// For a regular file: its temporary path, and its final one.
    draft: Option<Draft>,
}

#[derive(Debug)]
struct Draft {
    temporary: PathBuf,
    target: PathBuf,
}

impl OutputFile {
    /// Opens what is at `path`, or begins a file that will be there.
    ///
    /// Opening a FIFO waits for its reader, as it does for any program.
    ///
    /// # Errors
    /// Those of the system, about `path`: a folder that is missing or not writable, a directory instead of a file, a
    /// file that this user may not write.
    pub fn create(path: &Path) -> Result<OutputFile, DiskError> {
        let failed = |errno: Errno| DiskError::new("create", path, errno.into());
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Err(failed(Errno::ISDIR));
        }
        let place = follow(path).map_err(failed)?;
        let into = |file: OwnedFd| OutputFile { path: path.to_owned(), file: file.into(), draft: None };
        let target = match place {
            PathTarget::Descriptor(Some(1)) => {
                return io::stdout().as_fd().try_clone_to_owned().map(into).map_err(|e| error(path, e));
            }
            PathTarget::Descriptor(Some(2)) => {
                return io::stderr().as_fd().try_clone_to_owned().map(into).map_err(|e| error(path, e));
            }
            // Append: what was written to the descriptor so far stays.
            PathTarget::Descriptor(_) => return open_into(path, OFlags::APPEND).map(into).map_err(failed),
            PathTarget::Path(target) => target,
        };
        let old = match fs::stat(&target) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(failed(errno)),
        };
        match old.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            None => {}
            Some(FileType::RegularFile) => fs::access(&target, Access::WRITE_OK).map_err(failed)?,
            Some(FileType::Directory) => return Err(failed(Errno::ISDIR)),
            Some(_) => return open_into(&target, OFlags::empty()).map(into).map_err(failed),
        }
        let (temporary, file) = begin(parent_of(&target)).map_err(failed)?;
        let made =
            OutputFile { path: path.to_owned(), file: file.into(), draft: Some(Draft { temporary, target }) };
        if let Some(old) = old {
            take_over(&made.file, &old).map_err(failed)?;
        }
        Ok(made)
    }

    /// Gives a regular file its name, durably.
    ///
    /// # Errors
    /// Those of the system; then an existing file at the path is unchanged.
    pub fn finish(mut self) -> Result<(), DiskError> {
        self.file.flush().map_err(|source| error(&self.path, source))?;
        let Some(draft) = &self.draft else { return Ok(()) };
        self.file.sync_all().map_err(|source| DiskError::new("fsync", &self.path, source))?;
        RealDisk
            .rename(&draft.temporary, &draft.target)
            .map_err(|source| DiskError::new("create", &self.path, source.into_source()))?;
        let folder = parent_of(&draft.target).to_owned();
        self.draft = None;
        RealDisk.sync_dir(&folder)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The kind stays: a reader that has closed its pipe is told apart by it.
        self.file.write(bytes).map_err(|source| io::Error::new(source.kind(), error(&self.path, source)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(draft) = &self.draft {
            // The error that led here is the one to report.
            drop(RealDisk.remove(&draft.temporary));
        }
    }
}

fn error(path: &Path, source: io::Error) -> DiskError {
    DiskError::new("write", path, source)
}

/// The node at a path.
#[derive(Debug, PartialEq, Eq)]
enum PathTarget {
    /// A path whose last part is not a link; there may be nothing.
    Path(PathBuf),
    /// An open descriptor, with its number if it is one of this process.
    Descriptor(Option<u32>),
}

/// Follows the links at a path, including dangling ones.
fn follow(path: &Path) -> Result<PathTarget, Errno> {
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        if let Some(number) = descriptor(&at) {
            return Ok(PathTarget::Descriptor(number));
        }
        match fs::readlink(&at, Vec::new()) {
            Ok(link) => {
                at = parent_of(&at).join(OsStr::from_bytes(link.as_bytes()));
            }
            // Not a link, or nothing.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(PathTarget::Path(at)),
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::LOOP)
}

/// The open descriptor that a path such as `/dev/fd/3` names. Its file cannot be opened by a path: it may be a pipe,
/// or a removed file.
fn descriptor(path: &Path) -> Option<Option<u32>> {
    let folder = std::fs::canonicalize(parent_of(path)).ok()?;
    let mut parts = folder.components().rev();
    if parts.next()? != Component::Normal("fd".as_ref()) || !folder.starts_with("/proc") {
        return None;
    }
    let Component::Normal(process) = parts.next()? else { return None };
    let is_own = process.to_str()?.parse() == Ok(std::process::id());
    let number: u32 = path.file_name()?.to_str()?.parse().ok()?;
    Some(is_own.then_some(number))
}

/// Opens an existing file, to write into it.
fn open_into(path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    loop {
        match fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY | flags, Mode::empty()) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Makes a new file in a folder, under a name that no other run uses.
fn begin(folder: &Path) -> Result<(PathBuf, OwnedFd), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut number = 0;
    loop {
        let temporary = folder.join(format!(".etcd-{}-{number}.tmp", std::process::id()));
        match fs::open(&temporary, flags, Mode::from_raw_mode(NEW_FILE_MODE)) {
            Ok(file) => return Ok((temporary, file)),
            Err(Errno::INTR) => {}
            // Left by a killed process with the same process id.
            Err(Errno::EXIST) if number < LINKS_MAX => number += 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// Gives a file the owner and the permissions of the one that it will replace. If the owner cannot be kept, only this
/// user may read it.
fn take_over(file: &File, old: &Stat) -> Result<(), Errno> {
    let new = fs::fstat(file)?;
    let mut mode = old.st_mode & 0o777;
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid) {
        let owner = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
        if fs::fchown(file, Some(owner.0), Some(owner.1)).is_err() {
            mode &= 0o700;
        }
    }
    fs::fchmod(file, Mode::from_raw_mode(mode))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test makes its files as it likes")]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn write(path: &Path, text: &str) -> Result<(), DiskError> {
        let mut file = OutputFile::create(path)?;
        file.write_all(text.as_bytes()).unwrap();
        file.finish()
    }

    /// How many names are in a folder.
    fn count(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_was_there_stays_until_the_new_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        file.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(count(dir.path()), 1);
        let fresh = dir.path().join("fresh");
        write(&fresh, "x").unwrap();
        assert_eq!(std::fs::metadata(&fresh).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn links_are_followed_and_stay() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("elsewhere");
        std::fs::create_dir(&folder).unwrap();
        let link = dir.path().join("link");
        symlink("second", &link).unwrap();
        symlink("elsewhere/target", dir.path().join("second")).unwrap();
        // The link leads to nothing at first, then to a file.
        for text in ["one", "two"] {
            write(&link, text).unwrap();
            assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(std::fs::read_to_string(folder.join("target")).unwrap(), text);
            assert_eq!((count(&folder), count(dir.path())), (1, 3));
        }
        let circle = dir.path().join("circle");
        symlink("circle", &circle).unwrap();
        assert!(write(&circle, "x").unwrap_err().to_string().contains("symbolic links"));
    }

    #[test]
    fn what_is_no_regular_file_is_written_into() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let reader = {
            let fifo = fifo.clone();
            std::thread::spawn(move || std::fs::read_to_string(fifo).unwrap())
        };
        write(&fifo, "through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(std::fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        let null = dir.path().join("null");
        symlink("/dev/null", &null).unwrap();
        write(&null, "gone").unwrap();
        assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        // A device that is full says so.
        let mut full = OutputFile::create(Path::new("/dev/full")).unwrap();
        let error = full.write_all(b"x").unwrap_err();
        assert!(error.to_string().contains("/dev/full: no space left"), "{error}");
        // A file that this process has open by a number.
        let open = File::create(dir.path().join("open")).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&open);
        write(Path::new(&format!("/dev/fd/{number}")), "by number").unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("open")).unwrap(), "by number");
        assert_eq!(count(dir.path()), 3);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let said = |path: &Path| write(path, "x").unwrap_err().to_string();
        assert!(said(dir.path()).ends_with("is a directory"), "{}", said(dir.path()));
        let slash = PathBuf::from(format!("{}/new/", dir.path().display()));
        assert!(said(&slash).ends_with("is a directory"), "{}", said(&slash));
        let nowhere = dir.path().join("none/file");
        assert_eq!(said(&nowhere), format!("create {}: no such file or directory", nowhere.display()));
        assert_eq!(count(dir.path()), 0);
    }
}
