//! The thread that writes the log: the only one that waits for the disk on behalf of clients.

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

/// After so long without work, what nobody waits for is written too: the last commit index. A backup, or a start
/// that is forced, goes by it.
const IDLE_TIME: Duration = Duration::from_millis(20);

/// While nothing is written, the segments are looked for as often as this.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Segments that were removed are written back so long after that was noticed: whoever removes the whole directory is
/// done by then, and nothing is written.
const WRITE_BACK_DELAY: Duration = Duration::from_millis(500);

/// A sync that takes longer is better waited for on the thread.
const INLINE_SYNC_MAX: Duration = Duration::from_millis(1);

/// More than a record of the log takes beside the data of its entry.
const RECORD_BYTES: usize = 128;

/// What the thread is asked to do, in this order.
pub(super) enum Job {
    /// Write a batch; tell when it is durable.
    Write(Batch),
    /// Mark in the log that a snapshot is about to be saved; tell when that is durable.
    MarkSnapshot(pb::WalSnapshot),
    /// The same for one that another member sent; who waits for it is told directly, also what the disk refused.
    MarkReceived(pb::WalSnapshot, oneshot::Sender<Result<(), WalError>>),
    /// Segments that hold only entries below the index may go.
    Release(u64),
}

/// What the thread has to say.
pub(super) enum LogOutcome {
    /// This batch and all before it are in the log, and durable if it asked for that, since then.
    Written(Batch, Instant),
    /// The mark is durable.
    Marked(pb::WalSnapshot),
    /// Segments were let go.
    Released,
    /// The disk refused; nothing more is written.
    Failed(WalError),
}

/// The log and the thread that writes it.
pub(super) struct LogThread<D: Disk> {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    writer: Arc<Mutex<Writer<D>>>,
    /// Jobs that the thread has not answered yet.
    under_way: usize,
}

/// The log with what is appended to it but not synced.
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
        done: UnboundedSender<LogOutcome>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<LogThread<D>> {
        let (jobs, waiting) = channel();
        let writer =
            Arc::new(Mutex::new(Writer { wal, metrics, last_sync: Duration::ZERO, synced: Instant::now() }));
        let writing = writer.clone();
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            if let Err(error) = run(&writing, &waiting, &done) {
                save_displaced(&writing.lock().wal, &error);
                let _ = done.send(LogOutcome::Failed(error));
            }
        })?;
        Ok(LogThread { jobs: Some(jobs), thread: Some(thread), writer, under_way: 0 })
    }

    /// Hands a job over. A thread that has ended said why by [`LogOutcome::Failed`].
    pub(super) fn send(&mut self, job: Job) {
        if let Some(jobs) = &self.jobs {
            self.under_way += 1;
            let _ = jobs.send(job);
        }
    }

    /// Hands over a job that is not answered by a [`LogOutcome`].
    pub(super) fn send_uncounted(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    /// Jobs that the thread has not answered yet.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// A job was answered.
    pub(super) fn answered(&mut self) {
        self.under_way -= 1;
    }

    /// Writes and syncs a batch here and now, which saves two changes of thread: for a caller that has nothing
    /// else to do. None if the thread is at work or the disk was slow the last time; then it is to be sent.
    /// Tells when the batch was durable.
    pub(super) fn write_now(&self, batch: &Batch) -> Option<Result<Instant, WalError>> {
        if self.under_way > 0 {
            return None;
        }
        let mut writer = self.writer.try_lock()?;
        if writer.last_sync > INLINE_SYNC_MAX {
            return None;
        }
        // A new segment may have to wait for a descriptor, which the caller's thread frees.
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

    /// Waits until all is written and the log closed.
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

/// Before the process ends because segments were removed under it: what was acknowledged is in them, and is readable
/// only as long as they are open here.
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

/// Takes all that waits, writes it in one piece, syncs once, answers all. Ends when the sender is gone.
fn run<D: Disk>(
    writer: &Mutex<Writer<D>>,
    jobs: &Receiver<Job>,
    done: &UnboundedSender<LogOutcome>,
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
                    sync(&mut writer, &mut batches, done)?;
                    writer.wal.append_snapshot(at)?;
                    let _ = done.send(LogOutcome::Marked(at));
                }
                Job::MarkReceived(at, marked) => {
                    let result =
                        sync(&mut writer, &mut batches, done).and_then(|()| writer.wal.append_snapshot(at));
                    if let Err(error) = &result {
                        save_displaced(&writer.wal, error);
                    }
                    let failed = result.is_err();
                    // Nobody listens once the server stops.
                    let _ = marked.send(result);
                    if failed {
                        return Ok(());
                    }
                }
                Job::Release(index) => {
                    writer.wal.release_before(index);
                    let _ = done.send(LogOutcome::Released);
                }
            }
            next = jobs.try_recv().ok();
        }
        sync(&mut writer, &mut batches, done)?;
    }
    // What nobody waited for, such as the last commit index.
    writer.lock().wal.flush()
}

/// Waits for a job, and looks for the segments now and then. `None` when the sender is gone.
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
    done: &UnboundedSender<LogOutcome>,
) -> Result<(), WalError> {
    if batches.iter().any(|batch| batch.must_sync) {
        writer.sync()?;
    }
    for batch in batches.drain(..) {
        // Nobody listens once the server stops.
        let _ = done.send(LogOutcome::Written(batch, writer.synced));
    }
    Ok(())
}
