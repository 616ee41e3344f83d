//! Errors of files, in Go's form: verb, path, reason.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// An operation on a path failed. Prints as `open /var/etcd/member: no such file or directory`.
#[derive(Debug)]
pub struct DiskError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

impl DiskError {
    /// An error of `verb` (a word such as `open` or `fsync`) on `path`.
    #[must_use]
    pub fn new(verb: &'static str, path: &Path, source: io::Error) -> DiskError {
        DiskError { verb, path: path.to_owned(), source }
    }

    /// The operation: `open`, `write`, `fsync`, `rename` and so on.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        self.verb
    }

    /// The path of the operation.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The system's reason.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The system's error.
    pub(crate) fn into_source(self) -> io::Error {
        self.source
    }

    /// Whether another handle holds the lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.verb == "flock" && self.kind() == io::ErrorKind::WouldBlock
    }

    /// Whether there is nothing at the path.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind() == io::ErrorKind::NotFound
    }

    /// Whether the process, or the whole machine, has as many files and connections open as it may (EMFILE, ENFILE).
    #[must_use]
    pub fn is_out_of_descriptors(&self) -> bool {
        is_out_of_descriptors(&self.source)
    }

    /// Whether an earlier failed sync is the reason, see the module's rules.
    #[must_use]
    pub fn is_after_failed_sync(&self) -> bool {
        self.source.get_ref().is_some_and(|inner| inner.is::<AfterFailedSync>())
    }

    /// Whether the file is no longer at its path, see [`super::DiskFile::check_in_place`].
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        self.source.get_ref().is_some_and(|inner| inner.is::<Displaced>())
    }

    pub(crate) fn displaced(path: &Path) -> DiskError {
        DiskError::new("check", path, io::Error::other(Displaced))
    }

    pub(crate) fn after_failed_sync(verb: &'static str, path: &Path) -> DiskError {
        DiskError::new(verb, path, io::Error::other(AfterFailedSync))
    }
}

/// Whether an error is the lack of a descriptor, in the process or on the machine (EMFILE, ENFILE).
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::MFILE | Errno::NFILE))
}

#[derive(Debug, thiserror::Error)]
#[error("an earlier sync of this file failed")]
struct AfterFailedSync;

#[derive(Debug, thiserror::Error)]
#[error(
    "the open file is no longer at this path: it was removed, renamed or replaced, or its disk was unmounted"
)]
struct Displaced;

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_locked() {
            return write!(f, "file already locked: {}", self.path.display());
        }
        write!(f, "{} {}: {}", self.verb, self.path.display(), reason(&self.source))
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The system's text as Go prints it: in lower case and without the number that Rust adds.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    if error.raw_os_error().is_none() {
        return text;
    }
    let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        // "Input/output error" loses its capital; an acronym would keep it.
        (Some(first), Some(second)) if !second.is_uppercase() => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_verb_path_and_reason_as_go_does() {
        let error = DiskError::new("open", Path::new("/a/b"), io::Error::from_raw_os_error(2));
        assert_eq!(error.to_string(), "open /a/b: no such file or directory");
        assert!(error.is_not_found() && !error.is_locked());
        let error = DiskError::new("flock", Path::new("/a"), io::ErrorKind::WouldBlock.into());
        assert_eq!(error.to_string(), "file already locked: /a");
        let error = DiskError::after_failed_sync("write", Path::new("/a"));
        assert!(error.is_after_failed_sync() && !error.is_displaced());
        let error = DiskError::displaced(Path::new("/a"));
        assert!(
            error.is_displaced() && error.to_string().starts_with("check /a: the open file is no longer")
        );
    }
}
