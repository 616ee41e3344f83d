//! The database below the store: buckets of a committed state, and layers of changes on top of it.
//!
//! A change goes into the newest layer. A thread of its own takes that layer ([`Database::take_batch`]) and commits
//! it; until it is done ([`Database::committed`]) the layer stays readable below a new one. A [`View`] is a clone of
//! all three and never changes.

use std::ops::ControlFlow;
use std::{error, fmt, mem};

use bytes::Bytes;
use triomphe::Arc;

use super::tree::{Iter, Tree, Weighed, Weight};

/// A bucket of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// Every version of every key, by revision.
    Key,
    /// The leases, by id.
    Lease,
    /// The consistent index, marks of compactions and the like.
    Meta,
    /// The members of the cluster.
    Members,
    /// The ids of former members.
    MembersRemoved,
    /// The version of the cluster.
    Cluster,
    /// The alarms.
    Alarm,
    /// Whether authentication is on.
    Auth,
    /// The users.
    AuthUsers,
    /// The roles.
    AuthRoles,
}

impl Bucket {
    /// All buckets.
    pub const ALL: [Bucket; 10] = [
        Bucket::Key,
        Bucket::Lease,
        Bucket::Meta,
        Bucket::Members,
        Bucket::MembersRemoved,
        Bucket::Cluster,
        Bucket::Alarm,
        Bucket::Auth,
        Bucket::AuthUsers,
        Bucket::AuthRoles,
    ];

    /// The name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Bucket::Key => "key",
            Bucket::Lease => "lease",
            Bucket::Meta => "meta",
            Bucket::Members => "members",
            Bucket::MembersRemoved => "members_removed",
            Bucket::Cluster => "cluster",
            Bucket::Alarm => "alarm",
            Bucket::Auth => "auth",
            Bucket::AuthUsers => "authUsers",
            Bucket::AuthRoles => "authRoles",
        }
    }
}

/// Takes the entries of a scan, until it says `Break`.
pub type Visit<'a> = dyn FnMut(&[u8], &Bytes) -> ControlFlow<()> + 'a;

/// A committed state of the database. It never changes; a clone is cheap.
pub trait Committed: Clone + Send + Sync + 'static {
    /// Why the state could not be read.
    type Error: error::Error + Send + Sync + 'static;

    /// The value of a key. A missing bucket is an empty one.
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Self::Error>;

    /// Shows the entries of `[from, to)` in order of their keys, or all from `from` on.
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Self::Error>;
}

/// A new value, or `None` for a removed key.
type Change = Option<Bytes>;

impl Weighed for Change {
    fn weight(&self) -> Weight {
        Weight::default()
    }
}

/// The changes of one batch, by bucket.
#[derive(Clone, Default)]
struct Changes {
    buckets: [Tree<Change>; Bucket::ALL.len()],
    operations: usize,
    bytes: usize,
}

/// Changes that are to be committed together, in one transaction.
#[derive(Clone, Default)]
pub struct Batch(Arc<Changes>);

impl Batch {
    /// The changes of a bucket in order of the keys: the new value, or `None` if the key is to be removed, whether
    /// it is there or not.
    pub fn changes(&self, bucket: Bucket) -> impl Iterator<Item = (&[u8], Option<&Bytes>)> {
        self.0.buckets[bucket as usize].range(b"", None).map(|(key, change)| (key, change.as_ref()))
    }

    /// The number of keys that change.
    pub fn len(&self) -> usize {
        self.0.buckets.iter().map(Tree::len).sum()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.buckets.iter().all(Tree::is_empty)
    }

    fn get(&self, bucket: Bucket, key: &[u8]) -> Option<&Change> {
        self.0.buckets[bucket as usize].get(key)
    }

    fn range<'a>(&'a self, bucket: Bucket, from: &[u8], to: Option<&'a [u8]>) -> Iter<'a, Change> {
        self.0.buckets[bucket as usize].range(from, to)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} changes)", self.len())
    }
}

/// A state of the database with the changes that are not committed yet. It never changes; a clone is cheap.
#[derive(Clone)]
pub struct View<C> {
    newest: Batch,
    committing: Option<Batch>,
    committed: C,
}

impl<C: Committed> View<C> {
    /// The value of a key.
    ///
    /// # Errors
    /// If the committed state cannot be read.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, C::Error> {
        if let Some(change) = self.newest.get(bucket, key) {
            return Ok(change.clone());
        }
        if let Some(change) = self.committing.as_ref().and_then(|layer| layer.get(bucket, key)) {
            return Ok(change.clone());
        }
        self.committed.get(bucket, key)
    }

    /// Shows the entries of `[from, to)` in order of their keys, or all from `from` on.
    ///
    /// # Errors
    /// If the committed state cannot be read.
    pub fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), C::Error> {
        let empty = Batch::default();
        let older = self.committing.as_ref().unwrap_or(&empty);
        let mut layers = Layers {
            newest: Peeked::new(self.newest.range(bucket, from, to)),
            older: Peeked::new(older.range(bucket, from, to)),
        };
        let mut stopped = false;
        self.committed.scan(bucket, from, to, &mut |key, value| {
            let flow = layers.visit_before(key, visit).and_then(|passed_over| match passed_over {
                true => ControlFlow::Continue(()),
                false => visit(key, value),
            });
            stopped = flow.is_break();
            flow
        })?;
        if !stopped {
            let _ = layers.visit_rest(visit);
        }
        Ok(())
    }

    /// The committed state below.
    pub fn committed(&self) -> &C {
        &self.committed
    }
}

/// The entries of both layers above the committed state.
struct Layers<'a> {
    newest: Peeked<'a>,
    older: Peeked<'a>,
}

struct Peeked<'a> {
    next: Option<(&'a [u8], &'a Change)>,
    rest: Iter<'a, Change>,
}

impl<'a> Peeked<'a> {
    fn new(mut rest: Iter<'a, Change>) -> Peeked<'a> {
        Peeked { next: rest.next(), rest }
    }

    fn take(&mut self) {
        self.next = self.rest.next();
    }
}

impl<'a> Layers<'a> {
    /// The next key and its change in the newest layer that has it.
    fn next(&self) -> Option<(&'a [u8], &'a Change)> {
        match (self.newest.next, self.older.next) {
            (Some(newest), Some(older)) => Some(if newest.0 <= older.0 { newest } else { older }),
            (newest, older) => newest.or(older),
        }
    }

    fn take(&mut self, key: &[u8]) {
        for layer in [&mut self.newest, &mut self.older] {
            if layer.next.is_some_and(|next| next.0 == key) {
                layer.take();
            }
        }
    }

    /// Shows what comes before a key of the committed state and what replaces it. True if that key is replaced.
    fn visit_before(&mut self, key: &[u8], visit: &mut Visit<'_>) -> ControlFlow<(), bool> {
        while let Some((next, change)) = self.next() {
            if next > key {
                break;
            }
            self.take(next);
            if let Some(value) = change {
                visit(next, value)?;
            }
            if next == key {
                return ControlFlow::Continue(true);
            }
        }
        ControlFlow::Continue(false)
    }

    fn visit_rest(&mut self, visit: &mut Visit<'_>) -> ControlFlow<()> {
        while let Some((next, change)) = self.next() {
            self.take(next);
            if let Some(value) = change {
                visit(next, value)?;
            }
        }
        ControlFlow::Continue(())
    }
}

trait FlowExt<B, T> {
    fn and_then<U>(self, next: impl FnOnce(T) -> ControlFlow<B, U>) -> ControlFlow<B, U>;
}

impl<B, T> FlowExt<B, T> for ControlFlow<B, T> {
    fn and_then<U>(self, next: impl FnOnce(T) -> ControlFlow<B, U>) -> ControlFlow<B, U> {
        match self {
            ControlFlow::Continue(value) => next(value),
            ControlFlow::Break(value) => ControlFlow::Break(value),
        }
    }
}

/// A database that takes changes; see the module.
#[derive(Clone)]
pub struct Database<C> {
    view: View<C>,
}

impl<C: Committed> Database<C> {
    /// On top of a committed state.
    pub fn new(committed: C) -> Database<C> {
        Database { view: View { newest: Batch::default(), committing: None, committed } }
    }

    /// The present state. O(1), and [`View::clone`] of it too.
    pub fn view(&self) -> &View<C> {
        &self.view
    }

    /// Sets the value of a key.
    pub fn put(&mut self, bucket: Bucket, key: &[u8], value: Bytes) {
        self.change(bucket, key, Some(value));
    }

    /// Removes a key, whether it is there or not.
    pub fn delete(&mut self, bucket: Bucket, key: &[u8]) {
        self.change(bucket, key, None);
    }

    fn change(&mut self, bucket: Bucket, key: &[u8], change: Change) {
        let changes = Arc::make_mut(&mut self.view.newest.0);
        changes.operations += 1;
        changes.bytes += key.len() + change.as_ref().map_or(0, Bytes::len);
        changes.buckets[bucket as usize].insert(key, change);
    }

    /// How many operations wait for the next batch.
    pub fn pending_operations(&self) -> usize {
        self.view.newest.0.operations
    }

    /// How many bytes of keys and values wait for the next batch or are being committed.
    pub fn pending_bytes(&self) -> usize {
        self.view.newest.0.bytes + self.view.committing.as_ref().map_or(0, |layer| layer.0.bytes)
    }

    /// Takes the pending changes for a commit. `None` if there are none, or the last batch is not committed yet.
    pub fn take_batch(&mut self) -> Option<Batch> {
        if self.view.committing.is_some() || self.view.newest.is_empty() {
            return None;
        }
        let batch = mem::take(&mut self.view.newest);
        self.view.committing = Some(batch.clone());
        Some(batch)
    }

    /// The batch that was taken last is committed, with this state. Returns that batch, so that its memory can be
    /// freed elsewhere.
    pub fn committed(&mut self, state: C) -> Option<Batch> {
        self.view.committed = state;
        self.view.committing.take()
    }
}
