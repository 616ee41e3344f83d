//! The thread that writes the log. It waits for the disk, so that the main thread does not.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use node::member::Batch;
use parking_lot::Mutex;
use shared::disk::Disk;
use shared::pb;
use shared::wal::{Wal, WalError};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::log;
use crate::metrics::Metrics;

/// After this time without work the last commit index is written too, though no request waits for it: a backup
/// or a forced start reads it.
const IDLE_TIME: Duration = Duration::from_millis(20);

/// How often the segments are checked while nothing is written.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The delay between noticing removed segments and writing them back: if the whole directory is being removed,
/// it is gone by then, and nothing is written.
const WRITE_BACK_DELAY: Duration = Duration::from_millis(500);

/// The longest sync that the main thread waits for; a slower disk is left to the log's thread.
const INLINE_SYNC_MAX: Duration = Duration::from_millis(1);

/// More than the bytes of a record beside the data of its entry.
const RECORD_BYTES: usize = 128;

/// A job for the log's thread. Jobs are done in order.
pub(super) enum Job {
    /// Write a batch; the outcome comes when it is durable.
    Write(Batch),
    /// Write the record of a snapshot that will be saved; the outcome comes when it is durable.
    MarkSnapshot(pb::WalSnapshot),
    /// Write the record of a received snapshot; the result goes to this sender.
    MarkReceived(pb::WalSnapshot, oneshot::Sender<Result<(), WalError>>),
    /// Release the segments that hold only entries below the index.
    Release(u64),
}

/// The outcome of a job.
pub(super) enum LogOutcome {
    /// This batch and all earlier ones are written; since this time, if it must be synced, also durable.
    Written(Batch, Instant),
    /// The record of the snapshot is durable.
    Marked(pb::WalSnapshot),
    /// The segments were released.
    Released,
    /// The disk failed; nothing more is written.
    Failed(WalError),
}

/// The log and the thread that writes it.
pub(super) struct LogThread<D: Disk> {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    writer: Arc<Mutex<Writer<D>>>,
    /// Jobs without an outcome yet.
    under_way: usize,
}

/// The log, and the times of its last sync.
struct Writer<D: Disk> {
    wal: Wal<D>,
    metrics: Arc<Metrics>,
    /// How long the last sync took.
    last_sync: Duration,
    /// When it ended.
    synced: Instant,
}

impl<D: Disk> LogThread<D> {
    /// Starts the thread.
    pub(super) fn spawn(
        wal: Wal<D>,
        outcomes: UnboundedSender<LogOutcome>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<LogThread<D>> {
        let (jobs, waiting) = channel();
        let writer =
            Arc::new(Mutex::new(Writer { wal, metrics, last_sync: Duration::ZERO, synced: Instant::now() }));
        let writing = writer.clone();
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            if let Err(error) = run(&writing, &waiting, &outcomes) {
                save_displaced(&writing.lock().wal, &error);
                let _ = outcomes.send(LogOutcome::Failed(error));
            }
        })?;
        Ok(LogThread { jobs: Some(jobs), thread: Some(thread), writer, under_way: 0 })
    }

    /// Sends a job to the thread. If the thread has ended, it has sent [`LogOutcome::Failed`].
    pub(super) fn send(&mut self, job: Job) {
        if let Some(jobs) = &self.jobs {
            self.under_way += 1;
            let _ = jobs.send(job);
        }
    }

    /// Sends a job that has no [`LogOutcome`].
    pub(super) fn send_uncounted(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    /// Jobs without an outcome yet.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// The loop has received the outcome of a job.
    pub(super) fn answered(&mut self) {
        self.under_way -= 1;
    }

    /// Writes and syncs a batch on the calling thread, which saves two thread switches when there is no other
    /// work. Returns the time since which it is durable, or `None` if the thread is busy or the last sync was
    /// slow: then the batch must be sent.
    pub(super) fn write_now(&self, batch: &Batch) -> Option<Result<Instant, WalError>> {
        if self.under_way > 0 {
            return None;
        }
        let mut writer = self.writer.try_lock()?;
        if writer.last_sync > INLINE_SYNC_MAX {
            return None;
        }
        // A new segment may have to wait for a descriptor, which only the calling thread can free.
        let bytes =
            batch.entries().map(|entry| entry.data.map_or(0, <[u8]>::len) + RECORD_BYTES).sum::<usize>();
        if writer.wal.ends_segment_after(bytes + RECORD_BYTES) {
            return None;
        }
        writer.wal.append(batch.entries(), batch.state);
        let result = writer.sync();
        if let Err(error) = &result {
            save_displaced(&writer.wal, error);
        }
        Some(result.map(|()| writer.synced))
    }

    /// Waits until everything is written and the log is closed.
    pub(super) fn close(mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("etcdserver", "the log's thread panicked");
        }
    }
}

impl<D: Disk> Writer<D> {
    fn sync(&mut self) -> Result<(), WalError> {
        let started = Instant::now();
        self.wal.sync()?;
        self.synced = Instant::now();
        self.last_sync = self.synced - started;
        self.metrics.wal_synced(self.last_sync);
        self.metrics.wal_holds(self.wal.last_index());
        Ok(())
    }
}

/// Writes removed segments back before the process ends: they hold acknowledged entries, and are readable only
/// while they are open here.
fn save_displaced<D: Disk>(wal: &Wal<D>, error: &WalError) {
    if !error.is_displaced() {
        return;
    }
    std::thread::sleep(WRITE_BACK_DELAY);
    match wal.write_back() {
        Ok(paths) => {
            for path in paths {
                log::warning!(
                    "etcdserver",
                    "{} was missing while in use, and is written back",
                    path.display()
                );
            }
        }
        Err(error) => log::error!("etcdserver", "cannot write back what was missing: {error}"),
    }
}

/// Takes all waiting jobs, writes them together, syncs once, and sends the outcomes. Ends when the sender is
/// dropped.
fn run<D: Disk>(
    writer: &Mutex<Writer<D>>,
    jobs: &Receiver<Job>,
    outcomes: &UnboundedSender<LogOutcome>,
) -> Result<(), WalError> {
    let mut batches = Vec::new();
    loop {
        let first = match jobs.recv_timeout(IDLE_TIME) {
            Ok(job) => job,
            Err(RecvTimeoutError::Timeout) => {
                writer.lock().wal.flush()?;
                match wait(writer, jobs)? {
                    Some(job) => job,
                    None => break,
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut writer = writer.lock();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Write(batch) => {
                    writer.wal.append(batch.entries(), batch.state);
                    batches.push(batch);
                }
                Job::MarkSnapshot(at) => {
                    sync(&mut writer, &mut batches, outcomes)?;
                    writer.wal.append_snapshot(at)?;
                    let _ = outcomes.send(LogOutcome::Marked(at));
                }
                Job::MarkReceived(at, marked) => {
                    let result = sync(&mut writer, &mut batches, outcomes)
                        .and_then(|()| writer.wal.append_snapshot(at));
                    if let Err(error) = &result {
                        save_displaced(&writer.wal, error);
                    }
                    let failed = result.is_err();
                    // The receiver is gone once the server stops.
                    let _ = marked.send(result);
                    if failed {
                        return Ok(());
                    }
                }
                Job::Release(index) => {
                    writer.wal.release_before(index);
                    let _ = outcomes.send(LogOutcome::Released);
                }
            }
            next = jobs.try_recv().ok();
        }
        sync(&mut writer, &mut batches, outcomes)?;
    }
    // Records that no request waits for, such as the last commit index.
    writer.lock().wal.flush()
}

/// Waits for a job, and checks the segments regularly. `None` when the sender is dropped.
fn wait<D: Disk>(writer: &Mutex<Writer<D>>, jobs: &Receiver<Job>) -> Result<Option<Job>, WalError> {
    loop {
        match jobs.recv_timeout(CHECK_INTERVAL) {
            Ok(job) => return Ok(Some(job)),
            Err(RecvTimeoutError::Timeout) => writer.lock().wal.check_in_place()?,
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
}

fn sync<D: Disk>(
    writer: &mut Writer<D>,
    batches: &mut Vec<Batch>,
    outcomes: &UnboundedSender<LogOutcome>,
) -> Result<(), WalError> {
    if batches.iter().any(|batch| batch.must_sync) {
        writer.sync()?;
    }
    for batch in batches.drain(..) {
        // The receiver is gone once the server stops.
        let _ = outcomes.send(LogOutcome::Written(batch, writer.synced));
    }
    Ok(())
}
