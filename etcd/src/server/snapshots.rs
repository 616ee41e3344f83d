//! Saves snapshots of the store beside the running member, one at a time.

use std::sync::Arc;
use std::thread::JoinHandle;

use shared::disk::Disk;
use shared::pb;
use shared::snap::{SnapError, Snapshots};
use shared::store::Image;
use tokio::sync::mpsc::UnboundedSender;

use crate::log;
use crate::metrics::Metrics;

/// A finished snapshot's index, or why there is none.
pub(super) struct Saved(pub(super) Result<u64, SnapError>);

/// Where the server stands with its snapshots.
pub(super) struct Snapshotter<D: Disk> {
    files: Arc<Snapshots<D>>,
    done: UnboundedSender<Saved>,
    last: u64,
    /// Taken, but not saved before the log holds its mark.
    prepared: Option<(pb::SnapshotMetadata, Image)>,
    saving: Option<JoinHandle<()>>,
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
        Snapshotter { files: Arc::new(files), done, last, prepared: None, saving: None, metrics }
    }

    /// Whether more than `count` entries were applied since the last one, and none is under way.
    pub(super) fn is_due(&self, applied: u64, count: u64) -> bool {
        applied - self.last > count && self.prepared.is_none() && self.saving.is_none()
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
        let spawned = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            let started = std::time::Instant::now();
            let result = files.save(at.term, at.index, &at.conf_state, |out| {
                image.write_json(out)?;
                metrics.snapshot_encoded(started.elapsed());
                Ok(())
            });
            metrics.snapshot_saved(started.elapsed());
            drop(image);
            // Nobody listens once the server stops.
            let _ = done.send(Saved(result.map(|_| at.index)));
        });
        match spawned {
            Ok(thread) => self.saving = Some(thread),
            Err(error) => {
                // The next entry tries again; the log keeps all that is needed meanwhile.
                log::error!("etcdserver", "cannot start a thread to save a snapshot: {error}");
            }
        }
    }

    /// The snapshot at `index` is safe.
    pub(super) fn saved(&mut self, index: u64) {
        self.last = index;
        self.join();
    }

    /// Waits for one that is under way.
    pub(super) fn close(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.saving.take()
            && thread.join().is_err()
        {
            log::error!("etcdserver", "the snapshot's thread panicked");
        }
    }
}
