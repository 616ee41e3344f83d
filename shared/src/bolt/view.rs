//! A state of the file, for readers.

use std::collections::BTreeSet;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::BoltError;
use super::Damage;
use super::cursor::{Direction, Range};
use super::format::{BRANCH, BucketHeader, DEPTH_MAX, Meta, Page};
use super::pages::Pages;

/// The transaction ids of the states that views need.
pub(super) type Live = Arc<Mutex<BTreeSet<u64>>>;

/// What all views of one state share. While it lives, no page of the state is given to new contents.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) meta: Meta,
    /// Pages below the high water mark that the state does not use.
    pub(super) free_pages: u64,
    live: Live,
}

impl Snapshot {
    pub(super) fn new(meta: Meta, free_pages: u64, live: &Live) -> Arc<Snapshot> {
        let is_new = live.lock().insert(meta.txid);
        assert!(is_new, "two states with the transaction id {}", meta.txid);
        Arc::new(Snapshot { meta, free_pages, live: Arc::clone(live) })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.live.lock().remove(&self.meta.txid);
    }
}

/// The file as it was after one commit. Cheap to clone; it may be used on any thread while commits go on.
///
/// The pages of its state are not reused while it lives, so a view that is kept for long makes the file grow.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) pages: Arc<Pages>,
    pub(super) snapshot: Arc<Snapshot>,
}

impl View {
    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.pages.path()
    }

    /// The number of the commit.
    #[must_use]
    pub fn txid(&self) -> u64 {
        self.snapshot.meta.txid
    }

    /// The page size, in bytes.
    #[must_use]
    pub fn page_size(&self) -> usize {
        self.pages.page_size()
    }

    /// The length in bytes of a copy: all pages below the high water mark.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pages.offset(self.snapshot.meta.high_water)
    }

    /// The bytes of the pages in use.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        self.pages.offset(self.snapshot.meta.high_water - self.snapshot.free_pages)
    }

    pub(super) fn root(&self) -> Bucket {
        Bucket { view: self.clone(), root: Root::Page(self.snapshot.meta.root) }
    }

    pub(super) fn high_water(&self) -> u64 {
        self.snapshot.meta.high_water
    }

    /// The bucket of that name; `None` if there is none. Reads the pages of the root tree, which has one as a rule.
    ///
    /// # Errors
    /// Those of the disk, and damage.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, BoltError> {
        let Some((page, id, at)) = self.root().find(name)? else { return Ok(None) };
        if !page.is_bucket(at) {
            return Ok(None);
        }
        let damaged = |damage| self.pages.damaged(id, damage);
        let value = page.value(at).map_err(damaged)?;
        let header = BucketHeader::decode(&value).ok_or_else(|| damaged(Damage::BucketHeader(at)))?;
        let root = Root::of(header, id).map_err(damaged)?;
        Ok(Some(Bucket { view: self.clone(), root }))
    }

    /// The names of all buckets, in order.
    ///
    /// # Errors
    /// Those of the disk, and damage.
    pub fn buckets(&self) -> Result<Vec<Bytes>, BoltError> {
        let elements = Range::new(&self.root(), Bound::Unbounded, Bound::Unbounded, Direction::Forward);
        elements
            .filter(|element| !matches!(element, Ok(element) if !element.is_bucket))
            .map(|element| element.map(|element| element.key))
            .collect()
    }
}

/// Where the tree of a bucket begins.
#[derive(Debug, Clone)]
pub(super) enum Root {
    Page(u64),
    /// A leaf page in the value of the bucket, which is on the page with this number.
    Inline(Page, u64),
}

impl Root {
    /// Of a bucket whose header is on page `id`.
    pub(super) fn of(header: BucketHeader, id: u64) -> Result<Root, Damage> {
        if header.root != 0 {
            return Ok(Root::Page(header.root));
        }
        let page = Page::new(header.inline)?;
        if !page.is_leaf() {
            return Err(Damage::Kind(BRANCH));
        }
        match (0..page.count()).find(|i| page.is_bucket(*i)) {
            Some(i) => Err(Damage::InlineBucket(i)),
            None => Ok(Root::Inline(page, id)),
        }
    }
}

/// A bucket of a [`View`], which it keeps alive. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bucket {
    pub(super) view: View,
    pub(super) root: Root,
}

impl Bucket {
    /// The view that it is part of.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The value of `key`; `None` if there is none, or if a nested bucket has that name. Reads one page a level, most
    /// of them from the cache.
    ///
    /// The value is a slice of its page: copy it if it is kept for long.
    ///
    /// # Errors
    /// Those of the disk, and damage.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BoltError> {
        match self.find(key)? {
            Some((page, id, at)) if !page.is_bucket(at) => {
                page.value(at).map(Some).map_err(|damage| self.view.pages.damaged(id, damage))
            }
            _ => Ok(None),
        }
    }

    /// All keys and values within bounds, in order: `range(from..to)`, `range(..)`.
    pub fn range<'k>(&self, bounds: impl RangeBounds<&'k [u8]>) -> Entries {
        self.entries(&bounds, Direction::Forward)
    }

    /// The same from the end on.
    pub fn range_back<'k>(&self, bounds: impl RangeBounds<&'k [u8]>) -> Entries {
        self.entries(&bounds, Direction::Backward)
    }

    fn entries<'k>(&self, bounds: &impl RangeBounds<&'k [u8]>, direction: Direction) -> Entries {
        let owned = |bound: Bound<&&[u8]>| bound.map(|key| Bytes::copy_from_slice(key));
        let range = Range::new(self, owned(bounds.start_bound()), owned(bounds.end_bound()), direction);
        Entries { range }
    }

    /// The root page, and the number under which damage in it is reported.
    pub(super) fn root_page(&self) -> Result<(Page, u64), BoltError> {
        match &self.root {
            Root::Page(id) => Ok((self.view.pages.page(*id, self.view.high_water())?, *id)),
            Root::Inline(page, id) => Ok((page.clone(), *id)),
        }
    }

    /// The leaf with `key`, its number, and the index of the element.
    pub(super) fn find(&self, key: &[u8]) -> Result<Option<(Page, u64, usize)>, BoltError> {
        let pages = &self.view.pages;
        let (mut page, mut id) = self.root_page()?;
        for _ in 0..DEPTH_MAX {
            let damaged = |damage| pages.damaged(id, damage);
            if page.is_leaf() {
                return Ok(page.search(key).map_err(damaged)?.ok().map(|at| (page, id, at)));
            }
            if page.count() == 0 {
                return Err(damaged(Damage::Empty));
            }
            id = page.child(page.child_for(key).map_err(damaged)?);
            page = pages.page(id, self.view.high_water())?;
        }
        Err(pages.damaged(id, Damage::Depth(DEPTH_MAX)))
    }
}

/// The keys and values of a [`Bucket`] within bounds; nested buckets are left out. After an error it ends.
///
/// Leaves that lie one after another are read together, more the longer it runs. Keys and values are slices of their
/// page: copy what is kept for long.
#[derive(Debug)]
pub struct Entries {
    range: Range,
}

impl Iterator for Entries {
    type Item = Result<(Bytes, Bytes), BoltError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.range.next()? {
                Ok(element) if element.is_bucket => {}
                element => return Some(element.map(|element| (element.key, element.value))),
            }
        }
    }
}

const _: fn() = || {
    fn shared_by_threads<T: Send + Sync + 'static>() {}
    shared_by_threads::<View>();
    shared_by_threads::<Bucket>();
    shared_by_threads::<Entries>();
};
