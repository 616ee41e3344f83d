//! Files that tests write and read: scratch folders, copied trees, listings.
#![expect(clippy::disallowed_methods, reason = "the tests' own files need not survive a crash")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Check, Context};

/// A folder that goes when it is dropped.
///
/// # Errors
/// The system's, where it cannot be made.
pub fn scratch(prefix: &str) -> Check<tempfile::TempDir> {
    tempfile::Builder::new().prefix(prefix).tempdir().context("make a scratch folder")
}

/// Writes a whole file.
///
/// # Errors
/// The system's, with the path.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Check {
    fs::write(path, bytes).context(path.display())
}

/// Reads a whole file as text; bytes that are not UTF-8 become U+FFFD.
///
/// # Errors
/// The system's, with the path.
pub fn read(path: &Path) -> Check<String> {
    Ok(String::from_utf8_lossy(&fs::read(path).context(path.display())?).into_owned())
}

/// Sets the permission bits of a file.
///
/// # Errors
/// The system's, with the path.
pub fn set_mode(path: &Path, mode: u32) -> Check {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context(path.display())
}

/// Every file and folder below `root` as `MODE path`, folders with a final slash, in the order of the lines.
///
/// # Errors
/// The system's, with the path.
pub fn listing(root: &Path) -> Check<Vec<String>> {
    let mut lines = Vec::new();
    for path in walk(root, &|_| true)? {
        let meta = fs::symlink_metadata(&path).context(path.display())?;
        let slash = if meta.is_dir() { "/" } else { "" };
        let shown = path.strip_prefix(root).unwrap_or(&path);
        lines.push(format!("{:03o} {}{slash}", meta.permissions().mode() & 0o777, shown.display()));
    }
    lines.sort();
    Ok(lines)
}

/// Everything below `root`, not going into folders that `enter` refuses. A `root` that is not there is empty.
///
/// # Errors
/// The system's, with the path.
pub fn walk(root: &Path, enter: &dyn Fn(&Path) -> bool) -> Check<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder).context(folder.display())? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() && enter(&path) {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The folder of this crate's recorded data.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

/// The top of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}
