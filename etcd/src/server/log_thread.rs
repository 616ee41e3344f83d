//! The thread that writes the log: the only one that waits for the disk on behalf of clients.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shared::disk::Disk;
use shared::pb;
use shared::wal::{Wal, WalError};
use tokio::sync::mpsc::UnboundedSender;

use crate::log;
use crate::member::Batch;
use crate::metrics::Metrics;

/// After so long without work, what nobody waits for is written too: the last commit index. A backup, or a start
/// that is forced, goes by it.
const IDLE_TIME: Duration = Duration::from_millis(20);

/// What the thread is asked to do, in this order.
pub(super) enum Job {
    /// Write a batch; tell when it is durable.
    Write(Batch),
    /// Mark in the log that a snapshot is about to be saved; tell when that is durable.
    MarkSnapshot(pb::WalSnapshot),
    /// Segments that hold only entries below the index may go.
    Release(u64),
}

/// What the thread has to say.
pub(super) enum Done {
    /// This batch and all before it are durable.
    Written(Batch),
    /// The mark is durable.
    Marked(pb::WalSnapshot),
    /// The disk refused; nothing more is written.
    Failed(WalError),
}

/// The running thread.
pub(super) struct LogThread {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl LogThread {
    /// Starts the thread; it owns the log from now on.
    pub(super) fn spawn<D: Disk>(
        wal: Wal<D>,
        done: UnboundedSender<Done>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<LogThread> {
        let (jobs, waiting) = channel();
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || run(wal, &waiting, &done, &metrics))?;
        Ok(LogThread { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Hands a job over. A thread that has ended said why by [`Done::Failed`].
    pub(super) fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
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

/// Takes all that waits, writes it in one piece, syncs once, answers all. When the senders are gone, ends.
fn run<D: Disk>(mut wal: Wal<D>, jobs: &Receiver<Job>, done: &UnboundedSender<Done>, metrics: &Metrics) {
    let mut batches = Vec::new();
    loop {
        let mut next = match jobs.recv_timeout(IDLE_TIME) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = wal.flush() {
                    let _ = done.send(Done::Failed(error));
                    return;
                }
                match jobs.recv() {
                    Ok(job) => Some(job),
                    Err(RecvError) => break,
                }
            }
        };
        let mut result = Ok(());
        while let Some(job) = next.take() {
            match job {
                Job::Write(batch) => {
                    wal.append(batch.entries(), batch.state);
                    batches.push(batch);
                    next = jobs.try_recv().ok();
                }
                other => {
                    result = sync(&mut wal, &mut batches, done, metrics);
                    if result.is_ok() {
                        result = carry_out(&mut wal, other, done);
                    }
                }
            }
        }
        if result.is_ok() {
            result = sync(&mut wal, &mut batches, done, metrics);
        }
        if let Err(error) = result {
            let _ = done.send(Done::Failed(error));
            return;
        }
    }
    // What nobody waited for, such as the last commit index.
    if let Err(error) = wal.close() {
        let _ = done.send(Done::Failed(error));
    }
}

fn sync<D: Disk>(
    wal: &mut Wal<D>,
    batches: &mut Vec<Batch>,
    done: &UnboundedSender<Done>,
    metrics: &Metrics,
) -> Result<(), WalError> {
    if batches.iter().any(|batch| batch.must_sync) {
        let started = Instant::now();
        wal.sync()?;
        metrics.wal_synced(started.elapsed());
        metrics.wal_holds(wal.last_index());
    }
    for batch in batches.drain(..) {
        if batch.must_sync {
            let _ = done.send(Done::Written(batch));
        }
    }
    Ok(())
}

fn carry_out<D: Disk>(wal: &mut Wal<D>, job: Job, done: &UnboundedSender<Done>) -> Result<(), WalError> {
    match job {
        Job::MarkSnapshot(at) => {
            wal.append_snapshot(at)?;
            let _ = done.send(Done::Marked(at));
        }
        Job::Release(index) => wal.release_before(index),
        Job::Write(_) => unreachable!("batches are written by the caller"),
    }
    Ok(())
}
