//! Saves snapshots of the store beside the running member, one at a time.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use node::member::Received;
use shared::disk::Disk;
use shared::pb;
use shared::snap::{SnapError, Snapshots};
use shared::store::Image;
use tokio::sync::mpsc::UnboundedSender;

use crate::log;
use crate::metrics::Metrics;

/// What a finished snapshot stands for, or why there is none.
pub(super) struct Saved(pub(super) Result<pb::SnapshotMetadata, SnapError>);

/// After a snapshot the disk and the processor belong to the clients for so many times as long as it took: under
/// a load that fills `-snapshot-count` many times a second, snapshots would otherwise follow each other.
const REST_FACTOR: u32 = 20;

/// But no longer than this: a large store's log is not to grow without end beside its snapshots.
const REST_MAX: Duration = Duration::from_secs(2);

/// How often the newest snapshot is looked for.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A snapshot's file, as this server knows it.
#[derive(Debug, Clone, Copy)]
struct Newest {
    term: u64,
    index: u64,
    /// Its bytes when it was first looked for.
    len: Option<u64>,
}

/// Where the server stands with its snapshots.
pub(super) struct Snapshotter<D: Disk> {
    files: Arc<Snapshots<D>>,
    done: UnboundedSender<Saved>,
    last: u64,
    /// The newest one that was saved or loaded, if there is one.
    newest: Option<Newest>,
    next_check: Instant,
    /// Taken, but not saved before the log holds its mark.
    prepared: Option<(pb::SnapshotMetadata, Image)>,
    saving: Option<JoinHandle<()>>,
    /// When the saving of the last one began, and until when there is no other.
    began: Instant,
    rest_until: Instant,
    metrics: Arc<Metrics>,
}

impl<D: Disk> Snapshotter<D> {
    /// `from` is the snapshot that the member started from, all zero for none.
    pub(super) fn new(
        files: Snapshots<D>,
        from: pb::WalSnapshot,
        done: UnboundedSender<Saved>,
        metrics: Arc<Metrics>,
    ) -> Snapshotter<D> {
        let now = Instant::now();
        Snapshotter {
            files: Arc::new(files),
            done,
            last: from.index,
            newest: (from.index > 0).then_some(Newest { term: from.term, index: from.index, len: None }),
            next_check: now,
            prepared: None,
            saving: None,
            began: now,
            rest_until: now,
            metrics,
        }
    }

    /// Whether more than `count` entries were applied since the last one, and none is under way or just done.
    pub(super) fn is_due(&self, applied: u64, count: u64) -> bool {
        applied - self.last > count
            && self.prepared.is_none()
            && self.saving.is_none()
            && Instant::now() >= self.rest_until
    }

    /// Looks now and then whether the newest snapshot is still there. If it was removed, the log alone does not hold
    /// what the member knows: true once, and another snapshot is due with the next entry, or at once.
    pub(super) fn has_lost_newest(&mut self) -> bool {
        let now = Instant::now();
        let Some(newest) = self.newest.as_mut().filter(|_| now >= self.next_check) else { return false };
        self.next_check = now + CHECK_INTERVAL;
        // A disk that cannot be asked is one that the next write fails on.
        let Ok(found) = self.files.file_len(newest.term, newest.index) else { return false };
        let (index, dir) = (newest.index, self.files.dir().display());
        match (found, *newest.len.get_or_insert(found.unwrap_or_default())) {
            (None, _) => {
                log::error!(
                    "etcdserver",
                    "the snapshot at index {index} is no longer in {dir}; another one is saved"
                );
            }
            (Some(is), was) if is != was => log::error!(
                "etcdserver",
                "the snapshot at index {index} in {dir} has {is} bytes, and had {was}: another program has changed it; \
                 another one is saved"
            ),
            (Some(_), _) => return false,
        }
        (self.newest, self.last, self.rest_until) = (None, 0, now);
        true
    }

    pub(super) fn last_index(&self) -> u64 {
        self.last
    }

    /// Keeps an image until the log holds its mark.
    pub(super) fn prepare(&mut self, at: pb::SnapshotMetadata, image: Image) {
        self.prepared = Some((at, image));
    }

    /// The log holds the mark: saves the prepared image on a thread of its own.
    pub(super) fn save(&mut self, mark: pb::WalSnapshot) {
        let Some((at, image)) = self.prepared.take() else { return };
        assert!(at.index == mark.index, "prepared {}, marked {}", at.index, mark.index);
        let (files, done, metrics) = (self.files.clone(), self.done.clone(), self.metrics.clone());
        self.began = Instant::now();
        let spawned = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            let started = Instant::now();
            let result = files.save(at.term, at.index, &at.conf_state, |out| {
                image.write_json(out)?;
                metrics.snapshot_encoded(started.elapsed());
                Ok(())
            });
            metrics.snapshot_saved(started.elapsed());
            drop(image);
            // Nobody listens once the server stops.
            let _ = done.send(Saved(result.map(|()| at)));
        });
        match spawned {
            Ok(thread) => self.saving = Some(thread),
            Err(error) => {
                // The next entry tries again; the log keeps all that is needed meanwhile.
                log::error!("etcdserver", "cannot start a thread to save a snapshot: {error}");
            }
        }
    }

    /// Saves one that another member sent. The log holds its mark.
    ///
    /// # Errors
    /// What the disk refused.
    pub(super) async fn install(&mut self, received: Received) -> Result<(), String> {
        // One of our own that is under way uses the same temporary files; it is older than this one.
        self.prepared = None;
        let (files, saving, index) = (self.files.clone(), self.saving.take(), received.metadata.index);
        let name = (received.metadata.term, index);
        let saved = tokio::task::spawn_blocking(move || {
            join(saving);
            let Received { metadata: at, data } = received;
            files.save(at.term, at.index, &at.conf_state, |out| out.write_all(&data))
        });
        match saved.await {
            Ok(saved) => saved.map_err(|error| error.to_string())?,
            Err(error) => return Err(error.to_string()),
        }
        self.last = self.last.max(index);
        self.newest = Some(Newest { term: name.0, index: name.1, len: None });
        Ok(())
    }

    /// The snapshot of an entry is safe.
    pub(super) fn saved(&mut self, term: u64, index: u64) {
        if index >= self.last {
            (self.last, self.newest) = (index, Some(Newest { term, index, len: None }));
        }
        let now = Instant::now();
        self.rest_until = now + REST_MAX.min(REST_FACTOR * now.duration_since(self.began));
        join(self.saving.take());
    }

    /// Waits for one that is under way.
    pub(super) fn close(self) {
        join(self.saving);
    }
}

fn join(saving: Option<JoinHandle<()>>) {
    if let Some(thread) = saving
        && thread.join().is_err()
    {
        log::error!("etcdserver", "the snapshot's thread panicked");
    }
}
