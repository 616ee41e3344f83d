//! Values that are loaded from files, and reloaded when the files change.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::files::TlsFileError;

/// A value that is loaded from files. The files are checked before each use, at the cost of a `stat` for each.
pub(super) struct Reloaded<T> {
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, TlsFileError> + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    stamps: Vec<Option<FileStamp>>,
    current: Arc<T>,
}

/// Identifies a version of a file. A replaced file has another inode, an overwritten one another time.
#[derive(Debug, PartialEq, Eq)]
struct FileStamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T> Reloaded<T> {
    /// Loads for the first time.
    pub(super) fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, TlsFileError> + Send + Sync + 'static,
    ) -> Result<Reloaded<T>, TlsFileError> {
        // Before the files are read: a change meanwhile is noticed the next time.
        let stamps = stamps(&files);
        let current = Arc::new(load()?);
        Ok(Reloaded { files, load: Box::new(load), state: Mutex::new(State { stamps, current }) })
    }

    /// The value from the present files; if they cannot be used, the last value.
    pub(super) fn current(&self) -> Arc<T> {
        let stamps = stamps(&self.files);
        let mut state = self.state.lock();
        if stamps != state.stamps {
            state.stamps = stamps;
            match (self.load)() {
                Ok(new) => {
                    state.current = Arc::new(new);
                    tracing::info!(target: "transport", "read changed certificates: {}", self.names());
                }
                Err(error) => {
                    if matches!(error, TlsFileError::NoDescriptor { .. }) {
                        // Forget the stamps, so that the files are read again before the next connection.
                        state.stamps.clear();
                    }
                    tracing::error!(
                        target: "transport",
                        "cannot use changed certificates, those from before stay in use: {error}"
                    );
                }
            }
        }
        state.current.clone()
    }

    fn names(&self) -> String {
        let names: Vec<String> = self.files.iter().map(|path| path.display().to_string()).collect();
        names.join(", ")
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<FileStamp>> {
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some(FileStamp { modified: metadata.modified().ok(), bytes: metadata.len(), inode: inode(&metadata) })
    };
    files.iter().map(stamp).collect()
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn what_is_broken_leaves_what_was_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
        let write = |text: &str| {
            let new = dir.path().join("new");
            fs::write(&new, text).unwrap();
            fs::rename(&new, &path).unwrap();
        };
        write("one");
        let file = path.clone();
        let full = std::sync::atomic::AtomicBool::new(false);
        let watched = Reloaded::new(vec![path.clone()], move || match fs::read_to_string(&file) {
            Ok(text) if text == "full" && !full.swap(true, Relaxed) => Err(TlsFileError::NoDescriptor {
                path: "f".to_owned(),
                reason: "too many open files".to_owned(),
            }),
            Ok(text) if text != "bad" => Ok(text),
            _ => Err(TlsFileError::Nothing { path: "f".to_owned(), wanted: "word" }),
        })
        .unwrap();
        assert_eq!(*watched.current(), "one");
        write("two");
        assert_eq!(*watched.current(), "two");
        write("bad");
        assert_eq!(*watched.current(), "two");
        fs::remove_file(&path).unwrap();
        assert_eq!(*watched.current(), "two");
        write("six");
        assert_eq!(*watched.current(), "six");
        // Without a change in between.
        write("full");
        assert_eq!(*watched.current(), "six");
        assert_eq!(*watched.current(), "full");
    }
}
