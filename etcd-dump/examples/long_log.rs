//! Writes a data directory with a long log, to measure how fast it is shown and in how much memory.
//!
//! ```text
//! cargo run --release -p etcd-dump --example long_log -- DIR [ENTRIES]
//! /usr/bin/time -v etcd-dump DIR > log.txt
//! ```

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use shared::disk::{Disk as _, RealDisk};
use shared::pb;
use shared::wal::{EntryRef, Wal};

/// So many entries are written at a time.
const BATCH: u64 = 1000;
/// One entry in so many moves the clock, as leaders do while keys expire.
const SYNC_EVERY: u64 = 50;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (dir, entries) = match words.as_slice() {
        [dir] => (dir, 1_000_000),
        [dir, entries] => (dir, entries.parse().context("how many entries?")?),
        _ => bail!("usage: long_log DIR [ENTRIES]"),
    };
    let member = Path::new(dir).join("member");
    RealDisk.create_dir_all(&member.join("snap"))?;
    let metadata = pb::Metadata { node_id: 0x8e9e_05c5_2164_694d, cluster_id: 0xcdf8_181e_3a8c_1fd4 };
    let mut wal = Wal::create(RealDisk, &member.join("wal"), metadata)?;
    let mut index = 0;
    while index < entries {
        let to = entries.min(index + BATCH);
        let batch: Vec<pb::Entry> = (index + 1..=to).map(entry).collect();
        let state = pb::HardState { term: 2, vote: metadata.node_id, commit: to };
        wal.append(batch.iter().map(EntryRef::from), Some(state));
        wal.flush()?;
        index = to;
    }
    wal.close()?;
    Ok(())
}

fn entry(index: u64) -> pb::Entry {
    let request = if index.is_multiple_of(SYNC_EVERY) {
        let time = 1_795_247_009_960_384_720 + i64::try_from(index).unwrap_or_default() * 10_000_000;
        pb::Request { method: "SYNC".into(), time, ..pb::Request::default() }
    } else {
        let host = index % 1000;
        pb::Request {
            id: index,
            method: "PUT".into(),
            path: format!("/1/services/web/host-{host}").into(),
            val: format!("{{\"host\":\"10.0.{}.{}\",\"port\":8080}}", host / 256, host % 256).into(),
            ..pb::Request::default()
        }
    };
    let data = Some(request.encode_to_vec().into());
    pb::Entry { kind: pb::ENTRY_NORMAL, term: 2, index, data }
}
