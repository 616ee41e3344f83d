//! What does it cost to append to the log: encoding alone, and with the write and the sync of one batch?
#![expect(clippy::unwrap_used, reason = "a benchmark that fails shall end")]

use std::ffi::OsString;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shared::disk::{Disk, DiskError, DiskFile, Kind, Open, RealDisk};
use shared::pb;
use shared::wal::{EntryRef, Wal};

const METADATA: pb::Metadata = pb::Metadata { node_id: 1, cluster_id: 2 };

/// A batch of entries with values of 256 bytes, beginning at `first`.
fn batch(first: u64, count: u64, value: &[u8]) -> impl Iterator<Item = EntryRef<'_>> {
    (first..first + count).map(|index| EntryRef { kind: 0, term: 1, index, data: Some(value) })
}

fn state(commit: u64) -> Option<pb::HardState> {
    Some(pb::HardState { term: 1, vote: 1, commit })
}

fn append(c: &mut Criterion) {
    let value = [7u8; 350];
    let mut group = c.benchmark_group("wal");
    group.sample_size(20);
    for count in [1u64, 64, 1000] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new("encode", count), |b| {
            let mut wal = Wal::create(NoDisk, Path::new("/wal"), METADATA).unwrap();
            wal.set_segment_bytes(u64::MAX);
            let mut next = 1;
            b.iter(|| {
                wal.append(batch(next, count, black_box(&value)), state(next));
                wal.sync().unwrap();
                next += count;
            });
        });
        group.bench_function(BenchmarkId::new("append+sync", count), |b| {
            let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let mut wal = Wal::create(RealDisk, &dir.path().join("wal"), METADATA).unwrap();
            let mut next = 1;
            b.iter(|| {
                wal.append(batch(next, count, black_box(&value)), state(next));
                wal.sync().unwrap();
                next += count;
            });
        });
    }
    group.finish();
}

/// A disk that takes everything and keeps nothing, in no time.
#[derive(Clone)]
struct NoDisk;

struct NoFile;

impl Disk for NoDisk {
    type File = NoFile;

    fn open(&self, _path: &Path, _how: Open) -> Result<NoFile, DiskError> {
        Ok(NoFile)
    }

    fn kind(&self, _path: &Path) -> Result<Option<Kind>, DiskError> {
        Ok(Some(Kind::Dir))
    }

    fn file_len(&self, _: &Path) -> Result<Option<u64>, DiskError> {
        Ok(None)
    }

    fn canonical(&self, path: &Path) -> Result<PathBuf, DiskError> {
        Ok(path.to_owned())
    }

    fn list(&self, _dir: &Path) -> Result<Vec<OsString>, DiskError> {
        Ok(Vec::new())
    }

    fn create_dir(&self, _dir: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn remove(&self, _path: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn remove_dir(&self, _dir: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> Result<(), DiskError> {
        Ok(())
    }
}

impl DiskFile for NoFile {
    fn path(&self) -> &Path {
        Path::new("/wal/none")
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(0)
    }

    fn read_at(&self, _offset: u64, _buf: &mut [u8]) -> Result<usize, DiskError> {
        Ok(0)
    }

    fn append(&mut self, _bytes: &[u8]) -> Result<(), DiskError> {
        Ok(())
    }

    fn write_at(&mut self, _offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        black_box(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), DiskError> {
        Ok(())
    }

    fn truncate(&mut self, _len: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn extend(&mut self, _: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn allocate(&mut self, _len: u64) -> Result<(), DiskError> {
        Ok(())
    }

    fn check_in_place(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn lock(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}

criterion_group!(benches, append);
criterion_main!(benches);
