//! `proxy/cluster` in the data dir: the last known peer URLs of the members.

use std::path::{Path, PathBuf};

use serde::Serialize;
use shared::disk::{Disk, DiskError, DiskFile, Open, parent_of};
use shared::json;

use crate::go_json;

/// The file. Each write replaces it atomically: a crash leaves the old or the new content.
#[derive(Debug, Clone)]
pub(super) struct ClusterFile<D> {
    disk: D,
    path: PathBuf,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClusterFileError {
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// The content is invalid; `why` is the text of Go's parser.
    #[error("{why}: the cluster file {} cannot be used; remove it to use the flags again", .path.display())]
    Content { why: String, path: PathBuf },
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Serialize)]
struct Content<'a> {
    #[serde(rename = "PeerURLs")]
    peer_urls: &'a [String],
}

impl<D: Disk> ClusterFile<D> {
    /// The cluster file of a data dir. Creates the directory `proxy` if it is missing.
    pub(super) fn in_data_dir(disk: D, data_dir: &Path) -> Result<ClusterFile<D>, DiskError> {
        let dir = data_dir.join("proxy");
        disk.create_dir_all(&dir)?;
        Ok(ClusterFile { disk, path: dir.join("cluster") })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The URLs in the file; `None` if the file does not exist.
    pub(super) fn read(&self) -> Result<Option<Vec<String>>, ClusterFileError> {
        if self.disk.kind(&self.path)?.is_none() {
            return Ok(None);
        }
        let file = self.disk.open(&self.path, Open::Read)?;
        let mut content = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
        let read = file.read_at(0, &mut content)?;
        go_json::peer_urls(&content[..read])
            .map(Some)
            .map_err(|why| ClusterFileError::Content { why, path: self.path.clone() })
    }

    /// Replaces the file; durable on return.
    pub(super) fn write(&self, peer_urls: &[String]) -> Result<(), ClusterFileError> {
        let content = json::to_vec(&Content { peer_urls })?;
        let mut fresh = self.path.clone().into_os_string();
        fresh.push(".bak");
        let fresh = PathBuf::from(fresh);
        let mut file = self.disk.open(&fresh, Open::Create)?;
        file.append(&content)?;
        file.sync()?;
        drop(file);
        self.disk.rename(&fresh, &self.path)?;
        Ok(self.disk.sync_dir(parent_of(&self.path))?)
    }
}

#[cfg(test)]
mod tests {
    use shared::disk::SimDisk;

    use super::*;

    fn urls(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn holding(content: &[u8]) -> ClusterFile<SimDisk> {
        let file = ClusterFile::in_data_dir(SimDisk::new(1), Path::new("/d")).unwrap();
        file.disk.open(&file.path, Open::Create).unwrap().append(content).unwrap();
        file
    }

    #[test]
    fn what_was_written_is_read() {
        let file = ClusterFile::in_data_dir(SimDisk::new(1), Path::new("/d")).unwrap();
        assert_eq!(file.read().unwrap(), None);
        for list in [urls(&["http://h:1", "http://h:2"]), urls(&["http://h:3"])] {
            file.write(&list).unwrap();
            assert_eq!(file.read().unwrap(), Some(list));
        }
        assert_eq!(file.disk.list(Path::new("/d/proxy")).unwrap(), ["cluster"]);
        assert_eq!(file.disk.contents(&file.path).unwrap(), b"{\"PeerURLs\":[\"http://h:3\"]}");
    }

    #[test]
    fn a_broken_file_is_refused_in_the_words_of_go() {
        let error = holding(b"{broken").read().unwrap_err();
        let told = "invalid character 'b' looking for beginning of object key string: the cluster file \
                    /d/proxy/cluster cannot be used; remove it to use the flags again";
        assert_eq!(error.to_string(), told);
        let error = holding(b"").read().unwrap_err();
        assert!(error.to_string().starts_with("unexpected end of JSON input: "), "{error}");
        assert_eq!(holding(b"null").read().unwrap(), Some(Vec::new()));
    }

    #[test]
    fn a_crash_leaves_one_of_the_two() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let file = ClusterFile::in_data_dir(disk.clone(), Path::new("/d")).unwrap();
            file.write(&urls(&["http://h:1"])).unwrap();
            disk.fail_power_after(seed % 8);
            let wrote = file.write(&urls(&["http://h:2"]));
            disk.crash();
            let found = file.read().unwrap().unwrap();
            assert!(
                found == ["http://h:2"] || wrote.is_err() && found == ["http://h:1"],
                "{seed}: {found:?}"
            );
        }
    }
}
