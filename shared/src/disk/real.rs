//! Files of the operating system.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{self, FallocateFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{Disk, DiskError, DiskFile, Kind, Open};

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// A file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    fd: OwnedFd,
    path: PathBuf,
    /// Device and inode, which no other file has while this one is open.
    identity: (u64, u64),
    /// The known length: that at the opening, or where later writes ended.
    end: u64,
    sync_failed: bool,
}

/// Adds the operation and the path to an error number.
fn failed(verb: &'static str, path: &Path) -> impl FnOnce(Errno) -> DiskError {
    move |errno| DiskError::new(verb, path, io::Error::from(errno))
}

fn identity(stat: &fs::Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

fn size(stat: &fs::Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The error for something that is not a regular file.
fn not_regular(path: &Path, stat: Option<&fs::Stat>) -> DiskError {
    let what = match stat.map(|stat| fs::FileType::from_raw_mode(stat.st_mode)) {
        Some(fs::FileType::Directory) => return failed("open", path)(Errno::ISDIR),
        Some(fs::FileType::Fifo) => "a FIFO",
        Some(fs::FileType::Socket) => "a socket",
        Some(fs::FileType::CharacterDevice | fs::FileType::BlockDevice) => "a device",
        _ => "something else",
    };
    let reason = format!("it is {what}, not a regular file");
    DiskError::new("open", path, io::Error::new(io::ErrorKind::InvalidInput, reason))
}

impl Disk for RealDisk {
    type File = RealFile;

    fn open(&self, path: &Path, how: Open) -> Result<RealFile, DiskError> {
        let flags = match how {
            Open::Read => OFlags::RDONLY,
            Open::Append => OFlags::RDWR,
            Open::Create => OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC,
        };
        let mode = Mode::RUSR | Mode::WUSR;
        // Without NONBLOCK, opening a FIFO would wait for its other end.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = retry(|| fs::open(path, flags, mode)).map_err(|errno| match errno {
            // The errors of sockets and some devices.
            Errno::NXIO | Errno::NODEV => not_regular(path, fs::stat(path).ok().as_ref()),
            errno => failed("open", path)(errno),
        })?;
        let stat = fs::fstat(&fd).map_err(failed("stat", path))?;
        if fs::FileType::from_raw_mode(stat.st_mode) != fs::FileType::RegularFile {
            return Err(not_regular(path, Some(&stat)));
        }
        let (identity, end) = (identity(&stat), size(&stat));
        Ok(RealFile { fd, path: path.to_owned(), identity, end, sync_failed: false })
    }

    fn kind(&self, path: &Path) -> Result<Option<Kind>, DiskError> {
        match fs::stat(path) {
            Ok(stat) => Ok(Some(match fs::FileType::from_raw_mode(stat.st_mode) {
                fs::FileType::RegularFile => Kind::File,
                fs::FileType::Directory => Kind::Dir,
                _ => Kind::Other,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("stat", path)(errno)),
        }
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        match fs::stat(path) {
            Ok(stat) if fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::RegularFile => {
                Ok(Some(u64::try_from(stat.st_size).unwrap_or(0)))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("stat", path)(errno)),
        }
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, DiskError> {
        std::fs::canonicalize(path).map_err(|error| DiskError::new("stat", path, error))
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>, DiskError> {
        let failed = |verb| move |error| DiskError::new(verb, dir, error);
        let mut names = std::fs::read_dir(dir)
            .map_err(failed("open"))?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed("readdir"))?;
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        fs::mkdir(dir, Mode::RWXU).map_err(failed("mkdir", dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        fs::rename(from, to).map_err(failed("rename", from))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        fs::unlink(path).map_err(failed("remove", path))
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), DiskError> {
        fs::rmdir(dir).map_err(failed("remove", dir))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry(|| fs::open(dir, flags, Mode::empty())).map_err(failed("open", dir))?;
        retry(|| fs::fsync(&fd)).map_err(failed("fsync", dir))
    }
}

impl RealFile {
    fn failed(&self, verb: &'static str) -> impl FnOnce(Errno) -> DiskError {
        failed(verb, &self.path)
    }

    /// Checks that the file is not shorter than known.
    fn check_length(&self, stat: &fs::Stat) -> Result<(), DiskError> {
        let (is, was) = (size(stat), self.end);
        if is >= was {
            return Ok(());
        }
        let reason = format!("it has {is} bytes, and had {was}: another program has cut it off");
        Err(DiskError::new("check", &self.path, io::Error::new(io::ErrorKind::InvalidData, reason)))
    }

    fn check_writable(&self, verb: &'static str) -> Result<(), DiskError> {
        if self.sync_failed { Err(DiskError::after_failed_sync(verb, &self.path)) } else { Ok(()) }
    }
}

impl DiskFile for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn len(&self) -> Result<u64, DiskError> {
        let stat = fs::fstat(&self.fd).map_err(self.failed("stat"))?;
        Ok(size(&stat))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, DiskError> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            match retry(|| rustix::io::pread(&self.fd, &mut buf[done..], at)).map_err(self.failed("read"))? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        let len = self.len()?;
        self.write_at(len, bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.check_writable("write")?;
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            match retry(|| rustix::io::pwrite(&self.fd, &bytes[done..], at)).map_err(self.failed("write"))? {
                0 => return Err(DiskError::new("write", &self.path, io::ErrorKind::WriteZero.into())),
                n => done += n,
            }
        }
        self.end = self.end.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        self.check_writable("fdatasync")?;
        let result = retry(|| fs::fdatasync(&self.fd)).map_err(self.failed("fdatasync"));
        self.sync_failed = result.is_err();
        result
    }

    fn truncate(&mut self, len: u64) -> Result<(), DiskError> {
        self.check_writable("truncate")?;
        retry(|| fs::ftruncate(&self.fd, len)).map_err(self.failed("truncate"))?;
        self.end = len;
        Ok(())
    }

    fn allocate(&mut self, len: u64) -> Result<(), DiskError> {
        match retry(|| fs::fallocate(&self.fd, FallocateFlags::KEEP_SIZE, 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => result.map_err(self.failed("fallocate")),
        }
    }

    fn extend(&mut self, len: u64) -> Result<(), DiskError> {
        self.check_writable("fallocate")?;
        match retry(|| fs::fallocate(&self.fd, FallocateFlags::empty(), 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if self.len()? < len => {
                retry(|| fs::ftruncate(&self.fd, len)).map_err(self.failed("truncate"))?;
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            result => result.map_err(self.failed("fallocate"))?,
        }
        self.end = self.end.max(len);
        Ok(())
    }

    fn check_in_place(&self) -> Result<(), DiskError> {
        match fs::stat(&self.path) {
            Ok(stat) if identity(&stat) == self.identity => self.check_length(&stat),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Err(DiskError::displaced(&self.path)),
            Err(errno) => Err(self.failed("stat")(errno)),
        }
    }

    fn lock(&mut self) -> Result<(), DiskError> {
        let operation = FlockOperation::NonBlockingLockExclusive;
        retry(|| fs::flock(&self.fd, operation)).map_err(self.failed("flock"))
    }
}

/// Repeats a call that a signal interrupted.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_another_program_cuts_off_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = RealDisk.open(&path, Open::Create).unwrap();
        file.append(b"0123456789").unwrap();
        file.check_in_place().unwrap();
        file.truncate(8).unwrap();
        file.check_in_place().unwrap();
        let other = RealDisk.open(&path, Open::Append).unwrap();
        fs::ftruncate(&other.fd, 5).unwrap();
        for checked in [&file, &other] {
            let error = checked.check_in_place().unwrap_err();
            assert!(error.to_string().contains("it has 5 bytes, and had 8"), "{error}");
            assert!(!error.is_displaced());
        }
        // One has to look before the next write, which would hide it.
        assert!(file.check_in_place().is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        fs::mknodat(fs::CWD, &fifo, fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for how in [Open::Read, Open::Append, Open::Create] {
            for (path, what) in [
                (fifo.as_path(), "it is a FIFO, not a regular file"),
                (&socket, "it is a socket, not a regular file"),
                (Path::new("/dev/null"), "it is a device, not a regular file"),
                (dir.path(), "is a directory"),
            ] {
                let error = RealDisk.open(path, how).map(drop).unwrap_err().to_string();
                assert!(error.ends_with(what), "{how:?}: {error}");
            }
        }
        // A link to a regular file is one.
        drop(RealDisk.open(&dir.path().join("file"), Open::Create).unwrap());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("file", &link).unwrap();
        drop(RealDisk.open(&link, Open::Append).unwrap());
    }
}
