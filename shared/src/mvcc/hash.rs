//! The hash over all versions of all keys up to a revision, by which members find out whether they differ.
//!
//! It is the CRC-32C of the name `key` and then of each record: its key in the bucket and its value. Of the records
//! at or below the compact revision only those count that a key has at the hashed revision, so the hash does not
//! depend on how far a compaction has got. A deletion at exactly the compact revision does not count: versions of the
//! original differ in whether they keep it.

use std::ops::ControlFlow;

use triomphe::Arc;

use super::db::{Bucket, Committed};
use super::error::{Error, Failure};
use super::reader::Reader;
use super::revision::{Revision, Version};
use super::store::Store;

/// How many hashes of compactions are kept.
const HASHES_MAX: usize = 10;

/// A hash over the versions of all keys up to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash {
    /// The revision up to which versions count.
    pub revision: i64,
    /// The compact revision at that time, −1 for none.
    pub compact_revision: i64,
    /// CRC-32C.
    pub hash: u32,
}

impl<C: Committed> Reader<C> {
    /// The hash up to a revision, 0 for the current one. If a hash of a compaction at that revision was kept, that
    /// one. O(n) in all records, read in order; 16 bytes of memory a key.
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::FutureRevision`]; or the database fails.
    pub fn hash_kv(&self, revision: i64) -> Result<KeyHash, Failure<C::Error>> {
        if let Some(kept) = self.hashes.iter().find(|kept| kept.revision == revision) {
            return Ok(*kept);
        }
        if revision > 0 && revision < self.compacted {
            return Err(Error::Compacted(self.compacted).into());
        }
        if revision > self.current {
            return Err(Error::FutureRevision(self.current).into());
        }
        self.hash_at(if revision <= 0 { self.current } else { revision })
    }

    fn hash_at(&self, revision: i64) -> Result<KeyHash, Failure<C::Error>> {
        let kept = self.kept(revision);
        let mut kept = kept.iter().peekable();
        let mut hash = crc32c::crc32c(Bucket::Key.name().as_bytes());
        let mut bad = None;
        let end = Revision::of(revision.saturating_add(1)).to_bytes();
        self.view()
            .scan(Bucket::Key, b"", Some(&end), &mut |key, record| {
                let Some((at, tombstone)) = Revision::parse(key) else {
                    bad = Some(key.to_vec());
                    return ControlFlow::Break(());
                };
                let counts = if at.main <= self.compacted {
                    while kept.next_if(|version| version.revision < at).is_some() {}
                    kept.peek().is_some_and(|version| version.revision == at && !tombstone)
                } else {
                    true
                };
                if counts {
                    hash = crc32c::crc32c_append(hash, key);
                    hash = crc32c::crc32c_append(hash, record);
                }
                ControlFlow::Continue(())
            })
            .map_err(Failure::Database)?;
        match bad {
            Some(key) => Err(Failure::NotARevision { bucket: Bucket::Key.name(), key }),
            None => Ok(KeyHash { revision, compact_revision: self.compacted, hash }),
        }
    }

    /// The versions at or below the compact revision that count, in order.
    fn kept(&self, revision: i64) -> Vec<Version> {
        let mut kept = Vec::new();
        let mut any = false;
        for (_, versions) in self.index.range(b"", None) {
            let Some(version) = versions.live_at(revision) else { continue };
            any = true;
            if version.revision.main <= self.compacted {
                kept.push(version);
            }
        }
        if !any {
            // Without any key at that revision, the original hashes what the compaction has left.
            let left =
                self.index.range(b"", None).filter_map(|(_, versions)| versions.live_at(self.compacted));
            kept.extend(left);
        }
        kept.sort_unstable();
        kept
    }
}

impl<C: Committed> Store<C> {
    /// Keeps the hash of a compaction, which [`Reader::hash_kv`] gives from now on. The last ten are kept.
    ///
    /// It is that of a [`Store::reader`] taken before [`Store::compact`], at the revision of the compaction; it may be
    /// computed elsewhere while the compaction runs.
    pub fn keep_hash(&mut self, hash: KeyHash) {
        let hashes = Arc::make_mut(&mut self.state.hashes);
        hashes.retain(|kept| kept.revision != hash.revision);
        hashes.push(hash);
        hashes.sort_unstable_by_key(|kept| kept.revision);
        let surplus = hashes.len().saturating_sub(HASHES_MAX);
        hashes.drain(..surplus);
    }
}
