//! Compaction: removes versions that no read may see any more, in small steps.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::db::{Bucket, Committed};
use super::error::Error;
use super::revision::{Revision, Version};
use super::store::{FINISHED, SCHEDULED, Store};
use super::tree::{Keep, Visitor, Weight};
use super::versions::Versions;

/// A compaction in progress.
pub(super) struct Compaction {
    revision: i64,
    /// All keys before this one are done.
    next: Vec<u8>,
}

impl Compaction {
    pub(super) fn new(revision: i64) -> Compaction {
        Compaction { revision, next: Vec::new() }
    }
}

/// How far a compaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to remove.
    Unfinished,
    /// Nothing is left to do.
    Finished,
}

impl<C: Committed> Store<C> {
    /// Begins a compaction: from now on nothing older than `revision` can be read. [`Store::compact_step`] does the
    /// work; one that is in progress is taken over. O(1).
    ///
    /// # Errors
    /// [`Error::Compacted`] or [`Error::FutureRevision`].
    pub fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.state.compacted {
            return Err(Error::Compacted(self.state.compacted));
        }
        if revision > self.state.current {
            return Err(Error::FutureRevision(self.state.current));
        }
        let mark = Bytes::copy_from_slice(&Revision::of(revision).to_bytes());
        self.state.db.put(Bucket::Meta, SCHEDULED, mark);
        self.state.compacted = revision;
        self.compaction = Some(Compaction::new(revision));
        Ok(())
    }

    /// Whether a compaction is in progress.
    pub fn is_compacting(&self) -> bool {
        self.compaction.is_some()
    }

    /// Removes at most `budget` versions, or looks at as many keys. With the last step the database knows that the
    /// compaction is finished. A step of 1,000 takes well below a millisecond.
    pub fn compact_step(&mut self, budget: usize) -> Progress {
        let Some(mut compaction) = self.compaction.take() else { return Progress::Finished };
        let mut search = Search {
            compaction: compaction.revision,
            budget: budget.max(1),
            found: Vec::new(),
            stopped: None,
        };
        let _ = self.state.index.visit(&compaction.next, None, &mut search);
        let mut left = budget.max(1);
        for key in &search.found {
            if !self.trim(key, compaction.revision, &mut left) {
                compaction.next.clone_from(key);
                self.compaction = Some(compaction);
                return Progress::Unfinished;
            }
        }
        if let Some(key) = search.stopped {
            compaction.next = key;
            self.compaction = Some(compaction);
            return Progress::Unfinished;
        }
        let mark = Bytes::copy_from_slice(&Revision::of(compaction.revision).to_bytes());
        self.state.db.put(Bucket::Meta, FINISHED, mark);
        Progress::Finished
    }

    /// Removes versions of a key. False if the budget did not suffice.
    fn trim(&mut self, key: &[u8], compaction: i64, left: &mut usize) -> bool {
        let mut removed: Vec<Version> = Vec::new();
        let mut done = true;
        self.state.index.update(key, |versions| {
            while let Some(version) = versions.removable(compaction) {
                if *left == 0 {
                    done = false;
                    return Keep::Yes;
                }
                *left -= 1;
                removed.push(version);
                if !versions.remove_oldest() {
                    return Keep::No;
                }
            }
            Keep::Yes
        });
        for version in removed {
            self.state.db.delete(Bucket::Key, version.record_key().as_ref());
        }
        done
    }
}

/// Looks for keys with something to remove.
struct Search {
    compaction: i64,
    budget: usize,
    found: Vec<Vec<u8>>,
    /// The key at which the budget was used up.
    stopped: Option<Vec<u8>>,
}

impl Visitor<Versions> for Search {
    fn pass_over(&mut self, weight: Weight, _: bool) -> bool {
        weight.spare == 0
    }

    fn entry(&mut self, key: &[u8], versions: &Versions) -> ControlFlow<()> {
        if self.budget == 0 {
            self.stopped = Some(key.to_vec());
            return ControlFlow::Break(());
        }
        self.budget -= 1;
        if versions.removable(self.compaction).is_some() {
            self.found.push(key.to_vec());
        }
        ControlFlow::Continue(())
    }
}
