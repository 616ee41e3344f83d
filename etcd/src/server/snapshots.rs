//! Saves snapshots of the store while the member runs, one at a time.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use node::member::ReceivedSnapshot;
use shared::disk::Disk;
use shared::pb;
use shared::snap::{SnapError, Snapshots};
use shared::store::Image;
use tokio::sync::mpsc::UnboundedSender;

use super::fatal::Fatal;
use crate::log;
use crate::metrics::Metrics;

/// The metadata of a saved snapshot, or the error.
pub(super) struct SavedSnapshot(pub(super) Result<pb::SnapshotMetadata, SnapError>);

/// How often the newest snapshot is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The newest snapshot file that this server knows.
#[derive(Debug, Clone, Copy)]
struct NewestSnapshot {
    term: u64,
    index: u64,
    /// Its length when it was first checked.
    len: Option<u64>,
}

/// Writes snapshots when the node asks for them, and checks the newest file.
pub(super) struct Snapshotter<D: Disk> {
    files: Arc<Snapshots<D>>,
    done: UnboundedSender<SavedSnapshot>,
    /// The newest snapshot that was saved or loaded.
    newest: Option<NewestSnapshot>,
    next_check: Instant,
    /// A taken snapshot, to save once the log holds its record.
    prepared: Option<(pb::SnapshotMetadata, Image)>,
    /// The index of the snapshot that is being saved, and the thread that does it.
    saving: Option<(u64, JoinHandle<()>)>,
    metrics: Arc<Metrics>,
}

impl<D: Disk> Snapshotter<D> {
    /// `from` is the snapshot that the member started from, all zero for none.
    pub(super) fn new(
        files: Snapshots<D>,
        from: pb::WalSnapshot,
        done: UnboundedSender<SavedSnapshot>,
        metrics: Arc<Metrics>,
    ) -> Snapshotter<D> {
        Snapshotter {
            files: Arc::new(files),
            done,
            newest: (from.index > 0).then_some(NewestSnapshot {
                term: from.term,
                index: from.index,
                len: None,
            }),
            next_check: Instant::now(),
            prepared: None,
            saving: None,
            metrics,
        }
    }

    /// Checks once a second whether the newest snapshot file exists with its length. Returns true once if not.
    pub(super) fn has_lost_newest(&mut self) -> bool {
        let now = Instant::now();
        let Some(newest) = self.newest.as_mut().filter(|_| now >= self.next_check) else { return false };
        self.next_check = now + CHECK_INTERVAL;
        // If the disk fails here, the next write fails too.
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
        self.newest = None;
        true
    }

    /// Keeps an image until the log holds its record.
    pub(super) fn prepare(&mut self, at: pb::SnapshotMetadata, image: Image) {
        self.prepared = Some((at, image));
    }

    /// Saves the prepared image on a thread of its own. Returns false if the thread cannot be started.
    pub(super) fn save(&mut self) -> bool {
        let Some((at, image)) = self.prepared.take() else { return false };
        let index = at.index;
        let (files, done, metrics) = (self.files.clone(), self.done.clone(), self.metrics.clone());
        let spawned = std::thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            let started = Instant::now();
            let result = files.save(at.term, at.index, &at.conf_state, |out| {
                image.write_json(out)?;
                metrics.snapshot_encoded(started.elapsed());
                Ok(())
            });
            metrics.snapshot_saved(started.elapsed());
            drop(image);
            // The receiver is gone once the server stops.
            let _ = done.send(SavedSnapshot(result.map(|()| at)));
        });
        match spawned {
            Ok(thread) => {
                self.saving = Some((index, thread));
                true
            }
            Err(error) => {
                log::error!("etcdserver", "cannot start a thread to save a snapshot: {error}");
                false
            }
        }
    }

    /// Saves a received snapshot. The log holds its record.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) async fn save_received(&mut self, received: ReceivedSnapshot) -> Result<(), Fatal> {
        // A snapshot of our own in progress uses the same temporary files; it is older than this one.
        self.prepared = None;
        let (files, saving) = (self.files.clone(), self.saving.take().map(|(_, thread)| thread));
        let (term, index) = (received.metadata.term, received.metadata.index);
        let saved = tokio::task::spawn_blocking(move || {
            join(saving);
            let ReceivedSnapshot { metadata: at, data } = received;
            files.save(at.term, at.index, &at.conf_state, |out| out.write_all(&data))
        });
        saved.await.map_err(|_| Fatal::Panicked("the task that saves a received snapshot"))??;
        self.newest = Some(NewestSnapshot { term, index, len: None });
        Ok(())
    }

    /// The snapshot at an index is saved.
    pub(super) fn saved(&mut self, term: u64, index: u64) {
        if self.newest.is_none_or(|newest| index >= newest.index) {
            self.newest = Some(NewestSnapshot { term, index, len: None });
        }
        join(self.saving.take_if(|(saving, _)| *saving == index).map(|(_, thread)| thread));
    }

    /// Waits for a snapshot in progress.
    pub(super) fn close(self) {
        join(self.saving.map(|(_, thread)| thread));
    }
}

fn join(saving: Option<JoinHandle<()>>) {
    if let Some(thread) = saving
        && thread.join().is_err()
    {
        log::error!("etcdserver", "the snapshot's thread panicked");
    }
}
