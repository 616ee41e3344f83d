//! The history of changes, for watches that begin in the past or have fallen behind.

use std::ops::ControlFlow;

use super::db::{Bucket, Committed};
use super::error::{Error, Failure};
use super::reader::Reader;
use super::record;
use super::revision::{Revision, Version};
use super::store::{Event, EventKind};
use crate::v3::pb::mvccpb::KeyValue;

/// Changes of whole revisions, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct EventBatch {
    /// The changes.
    pub events: Vec<Event>,
    /// The first revision that is not in here. One above the current revision when nothing is left.
    pub next_revision: i64,
}

impl<C: Committed> Reader<C> {
    /// The changes from a revision on: at least one revision if there is any, and no more once there are
    /// `revisions_max` or `bytes_max` bytes of records. Revisions are never cut. Reads what it returns.
    ///
    /// # Errors
    /// [`Error::Compacted`] if `from` is below the compact revision; or the database fails.
    pub fn events(
        &self,
        from: i64,
        revisions_max: usize,
        bytes_max: usize,
    ) -> Result<EventBatch, Failure<C::Error>> {
        if from < self.compacted {
            return Err(Error::Compacted(self.compacted).into());
        }
        let mut events: Vec<Event> = Vec::new();
        let (mut revisions, mut bytes) = (0, 0);
        let mut bad = None;
        let mut next_revision = self.current.max(from.saturating_sub(1)).saturating_add(1);
        let first = Revision::of(from.max(0)).to_bytes();
        self.view()
            .scan(Bucket::Key, &first, None, &mut |key, value| {
                let Some((revision, tombstone)) = Revision::parse(key) else {
                    bad = Some(Failure::NotARevision { bucket: Bucket::Key.name(), key: key.to_vec() });
                    return ControlFlow::Break(());
                };
                let is_next = events.last().is_none_or(|last| last.kv.mod_revision != revision.main);
                if is_next && revisions > 0 && (revisions >= revisions_max || bytes >= bytes_max) {
                    next_revision = revision.main;
                    return ControlFlow::Break(());
                }
                let Some(kv) = record::decode(value.clone()) else {
                    bad = Some(Failure::Corrupt(revision));
                    return ControlFlow::Break(());
                };
                revisions += usize::from(is_next);
                bytes += value.len();
                let kind = if tombstone { EventKind::Delete } else { EventKind::Put };
                events.push(Event { kind, kv: KeyValue { mod_revision: revision.main, ..kv } });
                ControlFlow::Continue(())
            })
            .map_err(Failure::Database)?;
        match bad {
            Some(failure) => Err(failure),
            None => Ok(EventBatch { events, next_revision }),
        }
    }

    /// The key before a change: none if it was not there, or if that has been compacted.
    ///
    /// # Errors
    /// If the database fails.
    pub fn prev_kv(&self, event: &Event) -> Result<Option<KeyValue>, Failure<C::Error>> {
        self.version_before(event).map(|version| self.record(version)).transpose()
    }

    /// The same for many changes, in their order; the records are read together.
    ///
    /// # Errors
    /// If the database fails.
    pub fn prev_kvs(&self, events: &[Event]) -> Result<Vec<Option<KeyValue>>, Failure<C::Error>> {
        let versions: Vec<Option<Version>> = events.iter().map(|event| self.version_before(event)).collect();
        let found: Vec<Version> = versions.iter().copied().flatten().collect();
        let mut records = self.records(&found)?.into_iter();
        Ok(versions.into_iter().map(|version| version.and_then(|_| records.next())).collect())
    }

    fn version_before(&self, event: &Event) -> Option<Version> {
        let before = event.kv.mod_revision - 1;
        if before < self.compacted {
            return None;
        }
        self.index.get(&event.kv.key)?.live_at(before)
    }
}
