//! What the index knows of a key: where the records of its versions are.

use super::history::History;
use super::revision::{Revision, Version};
use super::tree::{Weighed, Weight};

/// The versions of a key. The newest one is here, older ones elsewhere; most keys have none.
///
/// A deletion ends a generation: the next version is number 1 again. The generations of older versions are not kept;
/// their records know them.
#[derive(Clone)]
pub(crate) struct Versions {
    newest: i64,
    /// When the present generation began. 0 after a deletion.
    created: i64,
    /// The number of the newest version in its generation. 0 after a deletion.
    number: i64,
    older: Option<History>,
    sub: u32,
    /// Whether the newest version is attached to a lease.
    leased: bool,
}

impl Versions {
    /// A key of which one version is known.
    pub(crate) fn put(revision: Revision, created: i64, number: i64, leased: bool) -> Versions {
        Versions { newest: revision.main, created, number, older: None, sub: revision.sub, leased }
    }

    /// A key of which a deletion is known.
    pub(crate) fn deleted(revision: Revision) -> Versions {
        Versions::put(revision, 0, 0, false)
    }

    /// Replaces the newest version by one that follows it.
    pub(crate) fn succeed(&mut self, next: Versions) {
        let present = self.newest();
        let older = match self.older.take() {
            None => History::of(present),
            Some(mut older) => {
                older.push(present);
                older
            }
        };
        *self = Versions { older: Some(older), ..next };
    }

    /// The newest version.
    pub(crate) fn newest(&self) -> Version {
        Version { revision: Revision { main: self.newest, sub: self.sub }, tombstone: self.number == 0 }
    }

    /// The newest version, if the key is there.
    pub(crate) fn live(&self) -> Option<Version> {
        Some(self.newest()).filter(|newest| !newest.tombstone)
    }

    /// When the key was created last; 0 if it is deleted.
    pub(crate) fn created(&self) -> i64 {
        self.created
    }

    /// The number of the newest version; 0 if the key is deleted.
    pub(crate) fn number(&self) -> i64 {
        self.number
    }

    /// Whether the key is attached to a lease.
    pub(crate) fn leased(&self) -> bool {
        self.leased
    }

    /// The newest version, deletions included, whose main revision is at most this. O(log n).
    pub(crate) fn at(&self, main: i64) -> Option<Version> {
        if self.newest <= main {
            return Some(self.newest());
        }
        self.older.as_ref()?.at(main)
    }

    /// The version of the key at a revision, if the key was there. O(log n).
    pub(crate) fn live_at(&self, main: i64) -> Option<Version> {
        self.at(main).filter(|version| !version.tombstone)
    }

    /// The oldest version that a compaction removes: older than the newest one at its revision, or that one if it is
    /// an older deletion.
    pub(crate) fn removable(&self, compaction: i64) -> Option<Version> {
        let kept = self.at(compaction)?;
        let oldest = self.older.as_ref().map_or(self.newest(), History::oldest);
        (oldest < kept || kept.tombstone && kept.revision.main < compaction).then_some(oldest)
    }

    /// Removes the oldest version. False if none is left.
    pub(crate) fn remove_oldest(&mut self) -> bool {
        match self.older.take() {
            None => false,
            Some(older) => {
                self.older = older.without_oldest();
                true
            }
        }
    }
}

impl Weighed for Versions {
    fn weight(&self) -> Weight {
        Weight {
            live: u64::from(self.number != 0),
            spare: u64::from(self.older.is_some() || self.number == 0),
            newest: self.newest.unsigned_abs(),
        }
    }
}
