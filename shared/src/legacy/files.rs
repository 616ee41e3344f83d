//! The small files beside the log, all of them JSON.
//!
//! Unknown fields are ignored: a later patch release may have added some.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::disk::{Disk, DiskError, read_file};

/// No such file is longer; a cluster of 0.4 has at most some dozens of machines.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// `conf`: the commit index that this member knew, and the other members.
///
/// It is written when the members change and when the server is stopped in good order, so the commit index lags
/// behind the log.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Conf {
    /// Entries up to here are committed.
    #[serde(rename = "commitIndex")]
    pub commit_index: u64,
    /// The other members.
    #[serde(deserialize_with = "null_is_empty", default)]
    pub peers: Vec<ConfPeer>,
}

/// Another member in [`Conf`] or in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct ConfPeer {
    /// Its name.
    #[serde(alias = "Name")]
    pub name: String,
    /// Never used by etcd.
    #[serde(rename = "connectionString", default)]
    pub connection_string: String,
}

/// `standby_info`: written by a machine that is, or was, a standby, which only forwards requests.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
pub struct StandbyInfo {
    /// Whether it was a standby when it stopped.
    #[serde(rename = "Running")]
    pub running: bool,
    /// The members when it last looked.
    #[serde(rename = "Cluster", deserialize_with = "null_is_empty", default)]
    pub cluster: Vec<StandbyMember>,
    /// How often it looked, in seconds.
    #[serde(rename = "SyncInterval", default)]
    pub sync_interval: f64,
}

/// A member as a standby saw it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct StandbyMember {
    /// Its name.
    pub name: String,
    /// `leader` or `follower`.
    #[serde(default)]
    pub state: String,
    /// Where clients reach it.
    #[serde(rename = "clientURL", default)]
    pub client_url: String,
    /// Where other members reach it.
    #[serde(rename = "peerURL", default)]
    pub peer_url: String,
}

/// `info`: the own name and addresses of a member of 0.1 or 0.2. 0.4 ignores it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Info {
    /// The member's own name.
    pub name: String,
    /// Where other members reach it.
    #[serde(rename = "raftURL", default)]
    pub raft_url: String,
    /// Where clients reach it.
    #[serde(rename = "etcdURL", default)]
    pub etcd_url: String,
}

/// Go writes an empty list that was never filled as null.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Why one of the small files cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// etcd did not write it.
    #[error("{} is damaged: expected {expected}: {problem}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What the JSON reader says, with line and column.
        problem: String,
    },
}

macro_rules! decoder {
    ($type:ty, $expected:literal) => {
        impl $type {
            /// Decodes the file's text.
            ///
            /// # Errors
            /// What the JSON reader says, with line and column.
            pub fn decode(text: &[u8]) -> Result<$type, String> {
                serde_json::from_slice(text).map_err(|error| error.to_string())
            }

            /// Reads the file; `None` if there is none.
            ///
            /// # Errors
            /// If it cannot be read, or etcd did not write it.
            pub fn read<D: Disk>(disk: &D, file: &Path) -> Result<Option<$type>, FileError> {
                let Some(text) = read_if_there(disk, file)? else { return Ok(None) };
                let damaged =
                    |problem| FileError::Damaged { file: file.to_owned(), expected: $expected, problem };
                <$type>::decode(&text).map(Some).map_err(damaged)
            }
        }
    };
}

decoder!(Conf, "JSON with a commitIndex and peers");
decoder!(StandbyInfo, "JSON with Running, Cluster and SyncInterval");
decoder!(Info, "JSON with a name, a raftURL and an etcdURL");

fn read_if_there<D: Disk>(disk: &D, file: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    match read_file(disk, file, FILE_BYTES_MAX) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_as_recorded() {
        let conf =
            Conf::decode(br#"{"commitIndex":33,"peers":[{"name":"o2","connectionString":""}]}"#).unwrap();
        assert_eq!((conf.commit_index, conf.peers.len(), &*conf.peers[0].name), (33, 1, "o2"));
        assert!(Conf::decode(br#"{"commitIndex":1,"peers":null}"#).unwrap().peers.is_empty());
        for bad in [&b""[..], b"{", b"{\"commitIndex\":-1,\"peers\":[]}", b"{\"peers\":[]}", b"[]"] {
            assert!(Conf::decode(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn standby_info_as_recorded() {
        let text = br#"{"Running":true,"Cluster":[{"name":"a0","state":"leader","clientURL":"http://a:1","peerURL":"http://a:2"}],"SyncInterval":1}
"#;
        let standby = StandbyInfo::decode(text).unwrap();
        assert!(standby.running);
        assert_eq!(
            (&*standby.cluster[0].client_url, &*standby.cluster[0].peer_url),
            ("http://a:1", "http://a:2")
        );
        let never = StandbyInfo::decode(b"{\"Running\":true,\"Cluster\":null,\"SyncInterval\":5}\n").unwrap();
        assert!(never.cluster.is_empty());
    }

    #[test]
    fn info_as_recorded() {
        let text = "{\n \"name\": \"old\",\n \"raftURL\": \"http://a:2\",\n \"etcdURL\": \"http://a:1\",\n \"webURL\": \"\"\n}\n";
        assert_eq!(Info::decode(text.as_bytes()).unwrap().name, "old");
    }
}
