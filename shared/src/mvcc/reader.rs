//! Reads: ranges at any kept revision, without a lock while writes go on.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;
use triomphe::Arc;

use super::db::{Bucket, Committed, Database, View};
use super::error::{Error, Failure};
use super::hash::KeyHash;
use super::record;
use super::revision::Version;
use super::tree::{Tree, Visitor, Weight};
use super::versions::Versions;
use crate::v3::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::v3::pb::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::v3::pb::mvccpb::KeyValue;

/// A state of the store, which never changes: what was written after it was taken is not in it. A clone is O(1).
///
/// It keeps alive the nodes, layers and pages that it needs; so it should not be kept for long.
#[derive(Clone)]
pub struct Reader<C> {
    pub(super) index: Tree<Versions>,
    pub(super) db: Database<C>,
    pub(super) current: i64,
    pub(super) compacted: i64,
    /// The hashes that were stored at compactions, oldest first.
    pub(super) hashes: Arc<Vec<KeyHash>>,
}

/// The keys of a request: one, those of `[key, end)`, or all from a key on.
#[derive(Clone, Copy)]
pub(super) enum Keys<'a> {
    One(&'a [u8]),
    Range(&'a [u8], Option<&'a [u8]>),
}

impl<'a> Keys<'a> {
    pub(super) fn new(key: &'a [u8], end: &'a [u8]) -> Keys<'a> {
        match end {
            b"" => Keys::One(key),
            b"\0" => Keys::Range(key, None),
            end => Keys::Range(key, Some(end)),
        }
    }
}

impl<C: Committed> Reader<C> {
    /// The current revision.
    pub fn revision(&self) -> i64 {
        self.current
    }

    /// The revision of the last compaction, −1 if there was none. Older ones cannot be read.
    pub fn compact_revision(&self) -> i64 {
        self.compacted
    }

    /// The database below.
    pub fn view(&self) -> &View<C> {
        self.db.view()
    }

    /// Answers a range. The header has the current revision only. O(log n), and the keys that are returned or sorted;
    /// for the count of an old revision also what has changed since.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`] or [`Error::InvalidSortOption`]; or the database fails.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Failure<C::Error>> {
        let revision = self.readable(request.revision)?;
        let target = SortTarget::try_from(request.sort_target).map_err(|_| Error::InvalidSortOption)?;
        let header = Some(ResponseHeader { revision: self.current, ..ResponseHeader::default() });
        let keys = Keys::new(&request.key, &request.range_end);
        if request.count_only {
            let count = self.count(keys, revision);
            return Ok(RangeResponse { header, count, ..RangeResponse::default() });
        }
        let limit = usize::try_from(request.limit).ok().filter(|&limit| limit > 0);
        let all = request.sort_order != SortOrder::None as i32 || has_filters(request);
        // One more than the limit tells whether there are more.
        let wanted = limit.filter(|_| !all).map_or(usize::MAX, |limit| limit.saturating_add(1));
        let versions = self.versions(keys, revision, wanted);
        let count = if versions.len() < wanted {
            i64::try_from(versions.len()).unwrap_or(i64::MAX)
        } else {
            self.count(keys, revision)
        };
        let mut kvs = self.records(&versions)?;
        filter(&mut kvs, request);
        sort(&mut kvs, request.sort_order, target);
        let more = limit.is_some_and(|limit| kvs.len() > limit);
        if let Some(limit) = limit {
            kvs.truncate(limit);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(RangeResponse { header, kvs, more, count })
    }

    /// The revision that a request means, 0 or less for the current one.
    pub(super) fn readable(&self, revision: i64) -> Result<i64, Error> {
        if revision > self.current {
            return Err(Error::FutureRevision(self.current));
        }
        let revision = if revision <= 0 { self.current } else { revision };
        if revision < self.compacted {
            return Err(Error::Compacted(self.compacted));
        }
        Ok(revision)
    }

    /// The keys that are there, in order, and at most that many.
    pub(super) fn versions(&self, keys: Keys<'_>, revision: i64, most: usize) -> Vec<Version> {
        match keys {
            Keys::One(key) => {
                self.index.get(key).and_then(|versions| versions.live_at(revision)).into_iter().collect()
            }
            Keys::Range(from, to) => self
                .index
                .range(from, to)
                .filter_map(|(_, versions)| versions.live_at(revision))
                .take(most)
                .collect(),
        }
    }

    fn count(&self, keys: Keys<'_>, revision: i64) -> i64 {
        let mut count = Count { revision, found: 0 };
        match keys {
            Keys::One(key) => {
                return i64::from(self.index.get(key).and_then(|v| v.live_at(revision)).is_some());
            }
            Keys::Range(from, to) => {
                let _ = self.index.visit(from, to, &mut count);
            }
        }
        i64::try_from(count.found).unwrap_or(i64::MAX)
    }

    /// The record of a version.
    pub(super) fn record(&self, version: Version) -> Result<KeyValue, Failure<C::Error>> {
        let record =
            self.view().get(Bucket::Key, version.record_key().as_ref()).map_err(Failure::Database)?;
        record.and_then(record::decode).ok_or(Failure::Corrupt(version.revision))
    }

    /// The records of versions, in the same order. Neighbours in the database are read together.
    pub(super) fn records(&self, versions: &[Version]) -> Result<Vec<KeyValue>, Failure<C::Error>> {
        if versions.len() <= RUN_MIN {
            return versions.iter().map(|&version| self.record(version)).collect();
        }
        let mut order: Vec<(Version, usize)> = versions.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let mut kvs = vec![KeyValue::default(); versions.len()];
        let mut rest = &order[..];
        while let Some(&(first, slot)) = rest.first() {
            let mut length = 1;
            while rest.get(length).is_some_and(|next| near(rest[length - 1].0, next.0)) {
                length += 1;
            }
            let (run, after) = rest.split_at(length);
            rest = after;
            if length < RUN_MIN {
                kvs[slot] = self.record(first)?;
                for &(version, slot) in &run[1..] {
                    kvs[slot] = self.record(version)?;
                }
            } else {
                self.run(run, &mut kvs)?;
            }
        }
        Ok(kvs)
    }

    /// Reads versions that are near each other in one scan.
    fn run(&self, run: &[(Version, usize)], kvs: &mut [KeyValue]) -> Result<(), Failure<C::Error>> {
        let (Some((first, _)), Some((last, _))) = (run.first(), run.last()) else { return Ok(()) };
        // The mark of a deletion at the last revision is the first key behind it.
        let end = Version { tombstone: true, ..*last }.record_key();
        let mut wanted = run.iter().peekable();
        let mut bad = None;
        self.view()
            .scan(Bucket::Key, first.record_key().as_ref(), Some(end.as_ref()), &mut |key, record| {
                let Some((version, _)) = wanted.peek() else { return ControlFlow::Break(()) };
                match key.cmp(version.record_key().as_ref()) {
                    Ordering::Less => return ControlFlow::Continue(()),
                    Ordering::Greater => return ControlFlow::Break(()),
                    Ordering::Equal => {}
                }
                let Some(kv) = record::decode(record.clone()) else {
                    bad = Some(*version);
                    return ControlFlow::Break(());
                };
                // Two changes of a key in one transaction have the same predecessor.
                let version = *version;
                while let Some((_, slot)) = wanted.next_if(|(same, _)| *same == version) {
                    kvs[*slot] = kv.clone();
                }
                ControlFlow::Continue(())
            })
            .map_err(Failure::Database)?;
        match bad.or(wanted.peek().map(|(version, _)| *version)) {
            Some(version) => Err(Failure::Corrupt(version.revision)),
            None => Ok(()),
        }
    }
}

/// Fewer records are read one by one.
const RUN_MIN: usize = 4;
/// Records that are further apart than this, in revisions, are not read together.
const GAP_MAX: i64 = 4;

fn near(version: Version, next: Version) -> bool {
    next.revision.main - version.revision.main <= GAP_MAX
}

/// Counts the keys that are there at a revision. Where nothing has changed since, the weight tells.
struct Count {
    revision: i64,
    found: u64,
}

impl Visitor<Versions> for Count {
    fn pass_over(&mut self, weight: Weight, whole: bool) -> bool {
        let unchanged = whole && weight.newest <= self.revision.unsigned_abs();
        if unchanged {
            self.found += weight.live;
        }
        unchanged
    }

    fn entry(&mut self, _: &[u8], versions: &Versions) -> ControlFlow<()> {
        self.found += u64::from(versions.live_at(self.revision).is_some());
        ControlFlow::Continue(())
    }
}

fn has_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn filter(kvs: &mut Vec<KeyValue>, request: &RangeRequest) {
    if !has_filters(request) {
        return;
    }
    let within =
        |revision: i64, min: i64, max: i64| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    kvs.retain(|kv| {
        within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
            && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
    });
}

/// Sorts what is in order of the keys. A target without an order is sorted upwards, and an order of unknown number
/// leaves all as it is.
fn sort(kvs: &mut [KeyValue], order: i32, target: SortTarget) {
    let upwards = match SortOrder::try_from(order) {
        Ok(SortOrder::None | SortOrder::Ascend) => true,
        Ok(SortOrder::Descend) => false,
        Err(_) => return,
    };
    let compare = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match (upwards, target) {
        (true, SortTarget::Key) => {}
        (false, SortTarget::Key) => kvs.reverse(),
        (true, _) => kvs.sort_by(compare),
        (false, _) => kvs.sort_by(|a, b| compare(b, a)),
    }
}
