//! A directory of etcd 0.4 with as many entries as one likes, always the same.

use std::io;
use std::path::Path;

use shared::disk::{Disk as _, DiskFile as _, Open, RealDisk};
use shared::legacy::log::encode;

/// Bytes written at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Makes the directory of a single member: sets of `keys` different keys with values of 64 bytes, and among them
/// creations, in-order keys, swaps, deletions, TTLs and the clock of the leader.
///
/// # Errors
/// Those of the disk.
pub(crate) fn directory(dir: &Path, entries: u64, keys: u64) -> io::Result<()> {
    let disk = RealDisk;
    let failed = |error: shared::disk::DiskError| io::Error::other(error.to_string());
    disk.create_dir_all(&dir.join("snapshot")).map_err(failed)?;
    let mut log = disk.open(&dir.join("log"), Open::Create).map_err(failed)?;
    let mut bytes = Vec::with_capacity(2 * CHUNK_BYTES);
    for index in 1..=entries {
        let (name, text) = command(index, keys.max(1));
        encode(index, 0, name, text.as_deref().map(str::as_bytes), &mut bytes);
        if bytes.len() >= CHUNK_BYTES || index == entries {
            log.append(&bytes).map_err(failed)?;
            bytes.clear();
        }
    }
    log.sync().map_err(failed)?;
    let mut conf = disk.open(&dir.join("conf"), Open::Create).map_err(failed)?;
    conf.append(br#"{"commitIndex":1,"peers":[]}"#).map_err(failed)
}

fn command(index: u64, keys: u64) -> (&'static str, Option<String>) {
    let never = r#""expireTime":"0001-01-01T00:00:00Z""#;
    // Scattered over the keys, always alike.
    let key = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) % keys;
    let (a, b) = (key % 97, key);
    let text = match index {
        1 => {
            let join = r#"{"minVersion":2,"maxVersion":2,"name":"big","raftURL":"http://127.0.0.1:7001","etcdURL":"http://127.0.0.1:4001"}"#;
            return ("etcd:join", Some(format!("{join}\n")));
        }
        2 => return ("raft:nop", None),
        3 => {
            let config = r#"{"config":{"activeSize":9,"removeDelay":1800,"syncInterval":5}}"#;
            return ("etcd:setClusterConfig", Some(format!("{config}\n")));
        }
        _ => match index % 20 {
            0 => ("etcd:sync", r#"{"time":"2014-06-01T12:00:00.5Z"}"#.to_owned()),
            1 => (
                "etcd:create",
                format!(
                    r#"{{"key":"/queue/{a}","value":"job","expireTime":"2100-01-01T00:00:00Z","unique":true,"dir":false}}"#
                ),
            ),
            2 => ("etcd:delete", format!(r#"{{"key":"/app/{a}/{b}","recursive":false,"dir":false}}"#)),
            3 => (
                "etcd:compareAndSwap",
                format!(
                    r#"{{"key":"/app/{a}/{b}","value":"swapped",{never},"prevValue":"{b:0>64}","prevIndex":0}}"#
                ),
            ),
            4 => ("etcd:delete", format!(r#"{{"key":"/queue/{a}","recursive":true,"dir":true}}"#)),
            _ => ("etcd:set", format!(r#"{{"key":"/app/{a}/{b}","value":"{b:0>64}",{never},"dir":false}}"#)),
        },
    };
    (text.0, Some(text.1 + "\n"))
}
