//! Saves snapshots of the store beside the running member, one at a time.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shared::disk::Disk;
use shared::pb;
use shared::snap::{SnapError, Snapshots};
use shared::store::Image;
use tokio::sync::mpsc::UnboundedSender;

use crate::log;
use crate::member::Received;
use crate::metrics::Metrics;

/// What a finished snapshot stands for, or why there is none.
pub(super) struct Saved(pub(super) Result<pb::SnapshotMetadata, SnapError>);

/// After a snapshot the disk and the processor belong to the clients for so many times as long as it took: under
/// a load that fills `-snapshot-count` many times a second, snapshots would otherwise follow each other.
const REST_FACTOR: u32 = 20;

/// But no longer than this: a large store's log is not to grow without end beside its snapshots.
const REST_MAX: Duration = Duration::from_secs(2);

/// Where the server stands with its snapshots.
pub(super) struct Snapshotter<D: Disk> {
    files: Arc<Snapshots<D>>,
    done: UnboundedSender<Saved>,
    last: u64,
    /// Taken, but not saved before the log holds its mark.
    prepared: Option<(pb::SnapshotMetadata, Image)>,
    saving: Option<JoinHandle<()>>,
    /// When the saving of the last one began, and until when there is no other.
    began: Instant,
    rest_until: Instant,
    metrics: Arc<Metrics>,
}

impl<D: Disk> Snapshotter<D> {
    /// `last` is the index of the snapshot that the member started from.
    pub(super) fn new(
        files: Snapshots<D>,
        last: u64,
        done: UnboundedSender<Saved>,
        metrics: Arc<Metrics>,
    ) -> Snapshotter<D> {
        let now = Instant::now();
        Snapshotter {
            files: Arc::new(files),
            done,
            last,
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
        Ok(())
    }

    /// The snapshot at `index` is safe.
    pub(super) fn saved(&mut self, index: u64) {
        self.last = self.last.max(index);
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
