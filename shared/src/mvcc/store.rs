//! The store: writes, one revision each.

use std::ops::ControlFlow;

use bytes::Bytes;
use triomphe::Arc;

use super::compact::Compaction;
use super::db::{Bucket, Committed, Database};
use super::error::{Error, Failure};
use super::leases::Leases;
use super::reader::{Keys, Reader};
use super::record;
use super::revision::{Revision, Version};
use super::tree::Tree;
use super::versions::Versions;
use crate::v3::pb::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader,
};
use crate::v3::pb::mvccpb::KeyValue;

/// The keys and their versions, on top of a database.
///
/// Getters: [`Store::revision`], [`Store::reader`], [`Store::range`]. Writes: [`Store::put`],
/// [`Store::delete_range`], [`Store::txn`], [`Store::revoke`]; each makes one revision, or none if nothing changed.
/// Compactions: [`Store::compact`], then [`Store::compact_step`] until it is done.
pub struct Store<C> {
    pub(super) state: Reader<C>,
    pub(super) compaction: Option<Compaction>,
}

/// What kind of change an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A key was put.
    Put,
    /// A key was deleted.
    Delete,
}

/// A change of a key. After a deletion `kv` has the key and `mod_revision` only.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The key as it is now.
    pub kv: KeyValue,
}

/// The answer to a write, and the changes that it made, in order. All have the same revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied<R> {
    /// The answer. Its header has a revision only.
    pub response: R,
    /// Empty if nothing changed.
    pub events: Vec<Event>,
}

/// A write in progress.
pub(super) struct Write<'a, C, L: ?Sized> {
    pub(super) store: &'a mut Store<C>,
    leases: &'a mut L,
    pub(super) events: Vec<Event>,
    /// Keys that move from a lease to another one, 0 for none; leases learn of it when the write is done.
    moved: Vec<(Bytes, i64, i64)>,
}

impl<C: Committed> Store<C> {
    /// The current revision. 1 in an empty store.
    pub fn revision(&self) -> i64 {
        self.state.current
    }

    /// The revision of the last compaction, −1 if there was none.
    pub fn compact_revision(&self) -> i64 {
        self.state.compacted
    }

    /// The present state, for reads elsewhere. O(1).
    pub fn reader(&self) -> Reader<C> {
        self.state.clone()
    }

    /// The database below: for other buckets, and to commit.
    pub fn database(&self) -> &Database<C> {
        &self.state.db
    }

    /// The database below: for other buckets, and to commit. Bucket `key` and the marks of compactions belong to the
    /// store.
    pub fn database_mut(&mut self) -> &mut Database<C> {
        &mut self.state.db
    }

    /// Answers a range of the present state, see [`Reader::range`].
    ///
    /// # Errors
    /// As there.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Failure<C::Error>> {
        self.state.range(request)
    }

    /// Puts a key.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`], or [`Error::KeyNotFound`] if a missing key is to keep its value or lease; or the
    /// database fails.
    pub fn put<L: Leases + ?Sized>(
        &mut self,
        request: &PutRequest,
        leases: &mut L,
    ) -> Result<Applied<PutResponse>, Failure<C::Error>> {
        if request.lease != 0 && !leases.exists(request.lease) {
            return Err(Error::LeaseNotFound.into());
        }
        let mut write = Write::new(self, leases);
        let response = write.put(request)?;
        Ok(write.finish(response))
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// Only if the database fails.
    pub fn delete_range<L: Leases + ?Sized>(
        &mut self,
        request: &DeleteRangeRequest,
        leases: &mut L,
    ) -> Result<Applied<DeleteRangeResponse>, Failure<C::Error>> {
        let mut write = Write::new(self, leases);
        let response = write.delete_range(request)?;
        Ok(write.finish(response))
    }
}

impl<C: Committed> Store<C> {
    /// Deletes the keys of a lease that ends: in one revision, and in order of the keys. The lease is not told that
    /// they are detached.
    ///
    /// # Errors
    /// Only if the database fails.
    pub fn revoke(&mut self, keys: &[Bytes]) -> Vec<Event> {
        let mut keys: Vec<&Bytes> = keys.iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut no_leases = ();
        let mut write = Write::new(self, &mut no_leases);
        for key in keys {
            if write.store.state.index.get(key).is_some_and(|versions| versions.live().is_some()) {
                write.delete(key);
            }
        }
        write.events
    }

    /// Opens the store in a database: reads bucket `key` once, and keeps no values. Keys are attached to their leases
    /// if these exist. If a compaction had not finished, its revision counts as compacted, and
    /// [`Store::compact_step`] carries on with it.
    ///
    /// # Errors
    /// If the database cannot be read, or has what is not a revision.
    pub fn open<L: Leases + ?Sized>(
        database: Database<C>,
        leases: &mut L,
    ) -> Result<Store<C>, Failure<C::Error>> {
        let scheduled = mark(&database, SCHEDULED)?;
        let finished = mark(&database, FINISHED)?;
        let mut load = Load::default();
        let mut failed = None;
        database
            .view()
            .scan(Bucket::Key, b"", None, &mut |key, record| match load.record(key, record) {
                Ok(()) => ControlFlow::Continue(()),
                Err(failure) => {
                    failed = Some(failure);
                    ControlFlow::Break(())
                }
            })
            .map_err(Failure::Database)?;
        match failed {
            Some(LoadError::Key(key)) => {
                return Err(Failure::NotARevision { bucket: Bucket::Key.name(), key });
            }
            Some(LoadError::Record(revision)) => return Err(Failure::Corrupt(revision)),
            None => {}
        }
        for (key, lease) in load.leased {
            if leases.exists(lease) {
                leases.attach(lease, &key);
            }
        }
        let compacted = scheduled.max(finished);
        let state = Reader {
            index: load.index,
            db: database,
            // After a compaction of all that there was, its mark alone knows the revision.
            current: load.newest.max(compacted).max(1),
            compacted,
            hashes: Arc::default(),
        };
        let compaction = (scheduled > finished).then(|| Compaction::new(scheduled));
        Ok(Store { state, compaction })
    }
}

/// Where the bucket `meta` has the revision of the last compaction that was begun.
pub(super) const SCHEDULED: &[u8] = b"scheduledCompactRev";
/// The same of the last one that was finished.
pub(super) const FINISHED: &[u8] = b"finishedCompactRev";

/// The main revision of a mark, −1 if there is none.
fn mark<C: Committed>(database: &Database<C>, name: &[u8]) -> Result<i64, Failure<C::Error>> {
    let Some(mark) = database.view().get(Bucket::Meta, name).map_err(Failure::Database)? else {
        return Ok(-1);
    };
    match Revision::parse(&mark) {
        Some((revision, _)) => Ok(revision.main),
        None => Err(Failure::NotARevision { bucket: Bucket::Meta.name(), key: mark.to_vec() }),
    }
}

/// The index in the making.
#[derive(Default)]
struct Load {
    index: Tree<Versions>,
    leased: std::collections::BTreeMap<Bytes, i64>,
    newest: i64,
}

enum LoadError {
    Key(Vec<u8>),
    Record(Revision),
}

impl Load {
    fn record(&mut self, key: &[u8], record: &Bytes) -> Result<(), LoadError> {
        let (revision, tombstone) = Revision::parse(key).ok_or_else(|| LoadError::Key(key.to_vec()))?;
        let kv = record::decode(record.clone()).ok_or(LoadError::Record(revision))?;
        self.newest = revision.main;
        let next = if tombstone {
            Versions::deleted(revision)
        } else if kv.version < 1 || kv.mod_revision != revision.main {
            return Err(LoadError::Record(revision));
        } else {
            Versions::put(revision, kv.create_revision, kv.version, kv.lease != 0)
        };
        if next.leased() {
            self.leased.insert(Bytes::copy_from_slice(&kv.key), kv.lease);
        } else if !self.leased.is_empty() {
            self.leased.remove(&kv.key[..]);
        }
        self.index.upsert(&kv.key, next, Versions::succeed);
        Ok(())
    }
}

impl<'a, C: Committed, L: Leases + ?Sized> Write<'a, C, L> {
    pub(super) fn new(store: &'a mut Store<C>, leases: &'a mut L) -> Self {
        Write { store, leases, events: Vec::new(), moved: Vec::new() }
    }

    /// Tells the leases, and hands out the changes.
    pub(super) fn finish<R>(self, response: R) -> Applied<R> {
        for (key, from, to) in &self.moved {
            if *from != 0 {
                self.leases.detach(*from, key);
            }
            if *to != 0 {
                self.leases.attach(*to, key);
            }
        }
        Applied { response, events: self.events }
    }

    /// The revision of the next change.
    fn next_revision(&mut self) -> Revision {
        if self.events.is_empty() {
            self.store.state.current += 1;
        }
        // A transaction is far smaller than the log allows requests to be; its deletions are as many as there are keys.
        let sub = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        Revision { main: self.store.state.current, sub }
    }

    pub(super) fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.store.state.current, ..ResponseHeader::default() })
    }

    pub(super) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Failure<C::Error>> {
        let state = &self.store.state;
        let present = state.index.get(&request.key).filter(|versions| versions.live().is_some());
        let (created, number, leased) = present
            .map_or((0, 0, false), |versions| (versions.created(), versions.number(), versions.leased()));
        let ignores = request.ignore_value || request.ignore_lease;
        let previous = match present {
            Some(versions) if ignores || request.prev_kv || leased => Some(state.record(versions.newest())?),
            None if ignores => return Err(Error::KeyNotFound.into()),
            _ => None,
        };
        let old_lease = previous.as_ref().map_or(0, |previous| previous.lease);
        let lease = if request.ignore_lease { old_lease } else { request.lease };
        let value = match &previous {
            Some(previous) if request.ignore_value => previous.value.clone(),
            _ => request.value.clone(),
        };
        let revision = self.next_revision();
        let created = if number == 0 { revision.main } else { created };
        let version = number + 1;
        let (record, kv) = record::encode(KeyValue {
            key: request.key.clone(),
            create_revision: created,
            mod_revision: revision.main,
            version,
            value,
            lease,
        });
        self.write(Version { revision, tombstone: false }, record);
        let next = Versions::put(revision, created, version, lease != 0);
        self.store.state.index.upsert(&kv.key, next, Versions::succeed);
        if old_lease != lease {
            // A key of its own: that of the record would keep the value in memory.
            self.moved.push((Bytes::copy_from_slice(&kv.key), old_lease, lease));
        }
        self.events.push(Event { kind: EventKind::Put, kv });
        let prev_kv = previous.filter(|_| request.prev_kv);
        Ok(PutResponse { header: self.header(), prev_kv })
    }

    pub(super) fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Failure<C::Error>> {
        let state = &self.store.state;
        let keys = Keys::new(&request.key, &request.range_end);
        let mut found: Vec<(Bytes, Version, bool)> = Vec::new();
        match keys {
            Keys::One(key) => {
                if let Some(versions) = state.index.get(key)
                    && let Some(version) = versions.live()
                {
                    found.push((request.key.clone(), version, versions.leased()));
                }
            }
            Keys::Range(from, to) => {
                found.extend(state.index.range(from, to).filter_map(|(key, versions)| {
                    Some((Bytes::copy_from_slice(key), versions.live()?, versions.leased()))
                }))
            }
        }
        let wanted: Vec<Version> = found
            .iter()
            .filter(|(_, _, leased)| request.prev_kv || *leased)
            .map(|(_, version, _)| *version)
            .collect();
        let mut prev_kvs = state.records(&wanted)?;
        let leased = prev_kvs.iter().filter(|kv| kv.lease != 0);
        self.moved.extend(leased.map(|kv| (Bytes::copy_from_slice(&kv.key), kv.lease, 0)));
        for (key, _, _) in &found {
            self.delete(key);
        }
        if !request.prev_kv {
            prev_kvs = Vec::new();
        }
        let deleted = i64::try_from(found.len()).unwrap_or(i64::MAX);
        Ok(DeleteRangeResponse { header: self.header(), deleted, prev_kvs })
    }

    /// Deletes a key that is there.
    fn delete(&mut self, key: &Bytes) {
        let revision = self.next_revision();
        let (record, kv) = record::tombstone(key.clone());
        self.write(Version { revision, tombstone: true }, record);
        self.store.state.index.upsert(key, Versions::deleted(revision), Versions::succeed);
        let kv = KeyValue { mod_revision: revision.main, ..kv };
        self.events.push(Event { kind: EventKind::Delete, kv });
    }

    fn write(&mut self, version: Version, record: Bytes) {
        self.store.state.db.put(Bucket::Key, version.record_key().as_ref(), record);
    }
}
