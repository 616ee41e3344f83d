//! The database file of version 3 and the thread that commits to it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use node::Position;
use parking_lot::RwLock;
use shared::bolt::{self, Bolt, BoltError};
use shared::disk::{Disk, DiskError, Kind};
use shared::mvcc::db::Batch;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::node_loop::ServerMachine;
use crate::log;

/// A committed state of the database.
pub(super) type DatabaseView = bolt::View;

/// The state of version 3 on it.
pub(super) type V3State = node::v3::V3<DatabaseView>;

/// How long changes wait for others, as in the original. The log has them meanwhile.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);

/// So many changes do not wait.
const COMMIT_OPERATIONS: usize = 10_000;

/// The path of the database in the folder of snapshots.
pub(super) fn path_in(snap: &Path) -> PathBuf {
    snap.join("db")
}

/// Whether there is a database.
///
/// # Errors
/// Those of the disk.
pub(super) fn is_there<D: Disk>(disk: &D, snap: &Path) -> Result<bool, DiskError> {
    Ok(disk.kind(&path_in(snap))? == Some(Kind::File))
}

/// Whether a database has the effects of no entry: a first start was cut off after it was made. A damaged one is not new.
pub(super) fn is_new<D: Disk>(disk: &D, path: &Path) -> bool {
    let position = bolt::read(disk, path, 0).map(|view| node::v3::position(&view));
    matches!(position, Ok(Ok(Position { index: 0, .. })))
}

/// Opens the database, or makes a new one.
///
/// # Errors
/// If it is damaged, in use by another process, or the disk fails.
pub(super) fn open<D: Disk>(disk: &D, snap: &Path) -> Result<Bolt<D>, BoltError> {
    let path = path_in(snap);
    let mut bolt = match disk.kind(&path)? {
        None => Bolt::create(disk, &path, bolt::Options::default())?,
        Some(_) => Bolt::open(disk, &path, bolt::Options::default())?,
    };
    // New, or made by a start that was cut off right here.
    if bolt.view().buckets()?.is_empty() {
        bolt.commit(&shared::mvcc::new_buckets())?;
    }
    Ok(bolt)
}

/// Opens the database of a member that starts from a snapshot at this index. If the database is older, and the one that
/// the leader sent with the snapshot is still waiting, that one takes its place: a crash came in between.
///
/// # Errors
/// As [`open`].
pub(super) fn open_for<D: Disk>(disk: &D, snap: &Path, index: u64) -> Result<Bolt<D>, OpenForError> {
    let bolt = open(disk, snap)?;
    let waiting = snap.join(format!("{index:016x}.snap.db"));
    if index == 0
        || node::v3::position(&bolt.view())?.index >= index
        || disk.kind(&waiting)? != Some(Kind::File)
    {
        return Ok(bolt);
    }
    // The waiting one must be whole before it replaces anything.
    let received = Bolt::open(disk, &waiting, bolt::Options::default())?;
    if node::v3::position(&received.view())?.index < index {
        return Ok(bolt);
    }
    drop((received, bolt));
    log::info!(
        "etcdserver",
        "the database that came with the snapshot at index {index} takes the place of the older one"
    );
    disk.rename(&waiting, &path_in(snap)).map_err(BoltError::from)?;
    disk.sync_dir(snap).map_err(BoltError::from)?;
    Ok(open(disk, snap)?)
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenForError {
    /// The file is damaged, in use, or the disk fails.
    #[error(transparent)]
    File(#[from] BoltError),
    /// The disk fails.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It holds what this version cannot continue.
    #[error(transparent)]
    Content(#[from] node::v3::OpenError),
}

/// The outcome of a commit: the new state.
pub(super) type CommitOutcome = Result<DatabaseView, BoltError>;

/// The database and the thread that commits to it.
pub(super) struct DatabaseThread {
    batches: Option<Sender<Batch>>,
    thread: Option<JoinHandle<()>>,
    /// A batch has been sent, and its outcome has not come.
    is_committing: bool,
}

impl DatabaseThread {
    /// Starts the thread. Each batch has one outcome; after an error there is no further one.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn spawn<D: Disk>(
        bolt: Bolt<D>,
        outcomes: UnboundedSender<CommitOutcome>,
    ) -> std::io::Result<DatabaseThread> {
        let (batches, waiting) = channel();
        let thread = std::thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || run(bolt, &waiting, &outcomes))?;
        Ok(DatabaseThread { batches: Some(batches), thread: Some(thread), is_committing: false })
    }

    /// Commits a batch. None may be under way.
    fn commit(&mut self, batch: Batch) {
        self.is_committing = true;
        if let Some(batches) = &self.batches {
            let _ = batches.send(batch);
        }
    }

    /// Waits until what was sent is committed, and closes the file.
    fn close(mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("etcdserver", "the database's thread panicked");
        }
    }
}

/// When changes are committed, and what waits for it.
pub(super) struct Commits {
    thread: DatabaseThread,
    pub(super) outcomes: UnboundedReceiver<CommitOutcome>,
    /// When the pending changes are committed; `None` if there are none.
    pub(super) due: Option<Instant>,
    /// The last entry of the batch that is under way.
    under_way: Position,
    /// The last entry whose effects the file has.
    committed: Position,
    /// The database has to reach this index soon: a snapshot at it is to be saved.
    wanted: u64,
    /// Who waits until the database has an entry, and which.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
    /// The snapshot may be saved as soon as the database has reached its index.
    save_waits: bool,
}

impl Commits {
    /// The commits to an open database with this last entry.
    pub(super) fn new(
        thread: DatabaseThread,
        outcomes: UnboundedReceiver<CommitOutcome>,
        committed: Position,
    ) -> Commits {
        Commits {
            thread,
            outcomes,
            due: None,
            under_way: committed,
            committed,
            wanted: 0,
            waiting: Vec::new(),
            save_waits: false,
        }
    }

    /// Entries have been applied, or versions removed: there may be changes.
    pub(super) fn changed(&mut self, v3: &mut V3State) {
        let pending = v3.pending_operations();
        if pending >= COMMIT_OPERATIONS {
            self.commit(v3);
        } else if pending > 0 && self.due.is_none() {
            self.due = Some(Instant::now() + COMMIT_INTERVAL);
        }
    }

    /// Commits what is pending, unless a commit is under way: then that is followed by another one.
    pub(super) fn commit(&mut self, v3: &mut V3State) {
        if self.thread.is_committing {
            return;
        }
        self.due = None;
        if let Some(batch) = v3.take_batch(self.wanted > self.committed.index) {
            self.under_way = v3.marked();
            self.thread.commit(batch);
        }
    }

    /// Commits everything that is applied, and answers when it is done.
    pub(super) fn commit_all(&mut self, v3: &mut V3State, done: oneshot::Sender<()>) {
        let index = v3.position().index;
        self.waiting.push((index, done));
        self.wanted = index;
        self.commit(v3);
        self.answer();
    }

    /// Answers those whose entries are committed. Later changes do not hold them up.
    fn answer(&mut self) {
        let committed = self.committed.index;
        for (_, done) in self.waiting.extract_if(.., |(index, _)| *index <= committed) {
            // Whoever has left gets no answer.
            let _ = done.send(());
        }
    }

    /// A snapshot of the v2 tree is taken at an index that is applied: the database has to have it before the snapshot
    /// counts.
    pub(super) fn prepare_snapshot(&mut self, index: u64, v3: &mut V3State) {
        self.wanted = index;
        self.commit(v3);
    }

    /// Whether the snapshot that was prepared may be saved now. If not, [`Commits::committed`] says so later.
    pub(super) fn may_save(&mut self) -> bool {
        self.save_waits = self.committed.index < self.wanted;
        !self.save_waits
    }

    /// A commit is done. Returns the old batch, to be freed, and whether the snapshot that waited may be saved.
    pub(super) fn committed(&mut self, view: DatabaseView, v3: &mut V3State) -> (Option<Batch>, bool) {
        self.thread.is_committing = false;
        self.committed = self.under_way;
        let batch = v3.committed(view);
        if self.wanted > self.committed.index
            || v3.pending_operations() >= COMMIT_OPERATIONS
            || !self.waiting.is_empty()
        {
            self.commit(v3);
        }
        self.answer();
        let saves = self.save_waits && self.committed.index >= self.wanted;
        self.save_waits &= !saves;
        (batch, saves)
    }

    /// Commits everything that is applied, and closes the file. What cannot be committed comes from the log again.
    pub(super) async fn finish(mut self, machine: &RwLock<ServerMachine>) {
        loop {
            if !self.thread.is_committing {
                let mut machine = machine.write();
                let Some(v3) = &mut machine.v3 else { break };
                self.wanted = v3.position().index;
                self.commit(v3);
            }
            if !self.thread.is_committing {
                break;
            }
            let view = match self.outcomes.recv().await {
                Some(Ok(view)) => view,
                Some(Err(error)) => {
                    log::error!("etcdserver", "the database is not complete, the log has the rest: {error}");
                    break;
                }
                None => break,
            };
            if let Some(v3) = &mut machine.write().v3 {
                self.committed(view, v3);
            }
        }
        self.thread.close();
    }
}

fn run<D: Disk>(mut bolt: Bolt<D>, batches: &Receiver<Batch>, outcomes: &UnboundedSender<CommitOutcome>) {
    while let Ok(batch) = batches.recv() {
        let outcome = bolt.commit(&batch.to_changes()).map(|committed| committed.view);
        let has_failed = outcome.is_err();
        // The receiver is gone once the server stops.
        let _ = outcomes.send(outcome);
        if has_failed {
            return;
        }
    }
}
