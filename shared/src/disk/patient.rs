//! A disk that waits for descriptors.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::{Disk, DiskError, Kind, Open};

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the log repeats that files still cannot be opened.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// A wrapper of another disk that retries calls that need a descriptor while there is none (EMFILE, ENFILE).
///
/// A lack of descriptors is not an error of the disk: when connections end, the call succeeds. Every other error is
/// returned at once. Open files need no further descriptors, so they are those of the other disk.
///
/// A call may block for long: do not make it on a thread whose other work frees descriptors.
#[derive(Debug, Clone)]
pub struct PatientDisk<D> {
    disk: D,
    /// Whether calls no longer wait.
    stopping: Arc<AtomicBool>,
}

impl<D: Disk> PatientDisk<D> {
    /// The same files.
    pub fn new(disk: D) -> PatientDisk<D> {
        PatientDisk { disk, stopping: Arc::default() }
    }

    /// From now on a lack of descriptors is returned as an error, also by all clones: for a shutdown.
    pub fn stop_waiting(&self) {
        self.stopping.store(true, Relaxed);
    }

    fn patiently<T>(&self, mut call: impl FnMut() -> Result<T, DiskError>) -> Result<T, DiskError> {
        let mut complained: Option<Instant> = None;
        loop {
            match call() {
                Err(error) if error.is_out_of_descriptors() && !self.stopping.load(Relaxed) => {
                    if complained.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
                        complained = Some(Instant::now());
                        tracing::error!(
                            target: "etcdserver",
                            "{error}: trying again until descriptors are free; raise the limit with 'ulimit -n', or \
                             LimitNOFILE= in a systemd unit"
                        );
                    }
                    thread::sleep(PAUSE);
                }
                result => {
                    if complained.is_some() && result.is_ok() {
                        tracing::info!(target: "etcdserver", "files can be opened again");
                    }
                    return result;
                }
            }
        }
    }
}

impl<D: Disk> Disk for PatientDisk<D> {
    type File = D::File;

    fn open(&self, path: &Path, how: Open) -> Result<D::File, DiskError> {
        self.patiently(|| self.disk.open(path, how))
    }

    fn kind(&self, path: &Path) -> Result<Option<Kind>, DiskError> {
        self.disk.kind(path)
    }

    fn file_len(&self, path: &Path) -> Result<Option<u64>, DiskError> {
        self.disk.file_len(path)
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, DiskError> {
        self.disk.canonical(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>, DiskError> {
        self.patiently(|| self.disk.list(dir))
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.disk.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.disk.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.patiently(|| self.disk.sync_dir(dir))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::disk::{DiskOperation, Fault, SimDisk};

    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;

    #[test]
    fn a_lack_of_descriptors_is_waited_for_and_nothing_else() {
        let disk = PatientDisk::new(SimDisk::new(1));
        for errno in [EMFILE, ENFILE] {
            let tries = AtomicUsize::new(0);
            let got = disk.patiently(|| match tries.fetch_add(1, Relaxed) {
                0 | 1 => Err(DiskError::new("open", Path::new("/f"), io::Error::from_raw_os_error(errno))),
                _ => Ok(7),
            });
            assert_eq!((got.unwrap(), tries.into_inner()), (7, 3));
        }
        // No space, an I/O error.
        for errno in [28, 5] {
            let tries = AtomicUsize::new(0);
            let got: Result<(), _> = disk.patiently(|| {
                tries.fetch_add(1, Relaxed);
                Err(DiskError::new("open", Path::new("/f"), io::Error::from_raw_os_error(errno)))
            });
            assert_eq!((got.is_err(), tries.into_inner()), (true, 1));
        }
        disk.disk.inject(Fault {
            operation: DiskOperation::Create,
            after: 0,
            kind: io::ErrorKind::StorageFull,
        });
        assert!(disk.open(Path::new("/f"), Open::Create).is_err());
    }

    #[test]
    fn whoever_stops_waits_no_longer() {
        let disk = PatientDisk::new(SimDisk::new(1));
        let there = disk.clone();
        let waiting = thread::spawn(move || {
            there.patiently::<()>(|| {
                Err(DiskError::new("open", Path::new("/f"), io::Error::from_raw_os_error(EMFILE)))
            })
        });
        disk.stop_waiting();
        assert!(waiting.join().unwrap().unwrap_err().is_out_of_descriptors());
    }
}
