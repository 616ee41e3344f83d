//! Checks a whole file.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;

use super::error::{BoltError, Damage, MetaDamage};
use super::format::{BucketHeader, DEPTH_MAX, Meta, NO_FREE_LIST, Page};
use super::free::{PageSet, Run};
use super::node::CHILDREN_LEAST;
use super::pages::Pages;
use super::view::Root;
use super::writer::{Opened, free_list, open_pages};
use crate::disk::Disk;

/// More findings are counted only.
const FINDINGS_MAX: usize = 1000;
/// Buckets that are nested deeper are not visited.
const NESTING_MAX: usize = 64;

/// Something that is wrong with a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("page {page}: {damage}")]
pub struct Finding {
    /// The page; for an inline bucket the one that holds it.
    pub page: u64,
    /// What is wrong with it.
    pub damage: Damage,
}

/// A bucket and its pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketStats {
    /// Its name, after the names of the buckets that it is nested in.
    pub path: Vec<Bytes>,
    /// The number that a client of bbolt may count up. etcd does not use it.
    pub sequence: u64,
    /// The number of keys.
    pub keys: u64,
    /// The bytes of all keys and values.
    pub bytes: u64,
    /// The number of buckets directly in it.
    pub nested: u64,
    /// Whether it stands in the page of its parent and has no pages of its own.
    pub inline: bool,
    /// The number of levels of pages.
    pub depth: usize,
    /// Its pages.
    pub pages: PageCounts,
}

/// Numbers of pages by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageCounts {
    /// Pages with references to others.
    pub branch: u64,
    /// Pages with keys and values.
    pub leaf: u64,
    /// Pages that continue the one before them.
    pub overflow: u64,
}

/// What a check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The page size, in bytes.
    pub page_size: u32,
    /// The length of the file, in bytes.
    pub file_bytes: u64,
    /// The transaction id in each meta page. That one of them does not count is no damage, if a crash is the reason.
    pub metas: [Result<u64, MetaDamage>; 2],
    /// The transaction id of the state that was checked.
    pub txid: u64,
    /// The number of pages of that state.
    pub high_water: u64,
    /// The buckets, outer ones first.
    pub buckets: Vec<BucketStats>,
    /// The pages of the tree of buckets.
    pub root_pages: PageCounts,
    /// Keys outside of buckets. etcd has none.
    pub root_keys: u64,
    /// The pages of the stored free list; 0 if it is not stored.
    pub free_list_pages: u64,
    /// Pages below the high water mark that are not in use.
    pub free_pages: u64,
    /// What is wrong, in the order of the tree.
    pub findings: Vec<Finding>,
    /// How many more findings there are.
    pub more_findings: u64,
}

/// Reads and checks all pages in use: kinds, bounds, counts, the order of keys, that no page is referred to twice or
/// free and in use, and that a stored free list has the others. Takes no lock; the file must not change meanwhile.
///
/// Memory: a bit for each page, one page for each level, and the names of the buckets.
///
/// # Errors
/// Those of the disk; if no meta page counts, or the file is too short for it. Other damage is in the report.
pub fn check<D: Disk>(disk: &D, path: &Path) -> Result<Report, BoltError> {
    let Opened { pages, meta, both, file_bytes, .. } = open_pages(disk, path, 0)?;
    let report = Report {
        page_size: meta.page_size,
        file_bytes,
        metas: both.map(|meta| meta.map(|meta| meta.txid)),
        txid: meta.txid,
        high_water: meta.high_water,
        buckets: Vec::new(),
        root_pages: PageCounts::default(),
        root_keys: 0,
        free_list_pages: 0,
        free_pages: 0,
        findings: Vec::new(),
        more_findings: 0,
    };
    let mut used = PageSet::new(meta.high_water);
    used.insert(0);
    used.insert(1);
    let mut check = Check { pages: &pages, meta, used, waiting: VecDeque::new(), report };
    check.all()?;
    Ok(check.report)
}

struct Check<'a> {
    pages: &'a Pages,
    meta: Meta,
    used: PageSet,
    /// Buckets that were found, outer ones first.
    waiting: VecDeque<(BucketStats, Root)>,
    report: Report,
}

/// A branch of which some children are still to be visited.
struct Level {
    id: u64,
    page: Page,
    next: usize,
    /// All its keys are before this one.
    end: Option<Bytes>,
}

impl Check<'_> {
    fn find(&mut self, page: u64, damage: Damage) {
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(Finding { page, damage });
        } else {
            self.report.more_findings += 1;
        }
    }

    fn all(&mut self) -> Result<(), BoltError> {
        let mut root = BucketStats::default();
        self.tree(&mut root, &Root::Page(self.meta.root))?;
        self.report.root_pages = root.pages;
        self.report.root_keys = root.keys;
        while let Some((mut bucket, root)) = self.waiting.pop_front() {
            self.tree(&mut bucket, &root)?;
            self.report.buckets.push(bucket);
        }
        self.free_list()
    }

    /// Visits a tree in the order of its keys.
    fn tree(&mut self, bucket: &mut BucketStats, root: &Root) -> Result<(), BoltError> {
        let mut last = None;
        let mut path: Vec<Level> = Vec::new();
        let (id, page) = match root {
            Root::Page(id) => (*id, self.page(*id, bucket)?),
            Root::Inline(page, id) => {
                bucket.inline = true;
                (*id, Some(page.clone()))
            }
        };
        let mut arrived = page.map(|page| (id, page, None, None));
        loop {
            if let Some((id, page, from, end)) = arrived.take() {
                bucket.depth = bucket.depth.max(path.len() + 1);
                if page.count() == 0 && !(path.is_empty() && page.is_leaf()) {
                    self.find(id, Damage::Empty);
                } else if let Err(damage) = page.check_layout() {
                    self.find(id, damage);
                } else if page.is_leaf() {
                    self.leaf(bucket, id, &page, from, end, &mut last);
                } else if path.len() == DEPTH_MAX {
                    self.find(id, Damage::Depth(DEPTH_MAX));
                } else if self.is_ordered(id, &page, from.as_ref(), end.as_ref()) {
                    if page.count() < CHILDREN_LEAST && !path.is_empty() {
                        self.find(id, Damage::OneChild);
                    }
                    path.push(Level { id, page, next: 0, end });
                }
            }
            let Some(level) = path.last_mut() else { return Ok(()) };
            if level.next == level.page.count() {
                path.pop();
                continue;
            }
            let at = level.next;
            level.next += 1;
            let child = level.page.child(at);
            let parent = level.id;
            let from = level.page.key_bytes(at);
            let end = if level.next < level.page.count() {
                level.page.key_bytes(level.next).map(Some)
            } else {
                Ok(level.end.clone())
            };
            match (from, end) {
                (Ok(from), Ok(end)) => {
                    arrived = self.page(child, bucket)?.map(|page| (child, page, Some(from), end));
                }
                (Err(damage), _) | (_, Err(damage)) => self.find(parent, damage),
            }
        }
    }

    /// Reads and counts a page; `None` if it is damaged or was there before.
    fn page(&mut self, id: u64, bucket: &mut BucketStats) -> Result<Option<Page>, BoltError> {
        if self.used.contains(id) {
            self.find(id, if id < 2 { self.out_of_bounds() } else { Damage::Shared });
            return Ok(None);
        }
        let page = match self.pages.page_uncached(id, self.meta.high_water) {
            Ok(page) => page,
            Err(BoltError::Damaged { page, damage, .. }) => {
                self.find(page, damage);
                // It is in use, even if it cannot be read.
                self.used.insert(id);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let overflow = (page.len() / self.pages.page_size() - 1) as u64;
        for part in id..=id + overflow {
            if !self.used.insert(part) {
                self.find(part, Damage::Shared);
                return Ok(None);
            }
        }
        let kind = if page.is_leaf() { &mut bucket.pages.leaf } else { &mut bucket.pages.branch };
        *kind += 1;
        bucket.pages.overflow += overflow;
        Ok(Some(page))
    }

    fn out_of_bounds(&self) -> Damage {
        Damage::OutOfBounds { high_water: self.meta.high_water }
    }

    /// Whether the keys of a branch ascend within its bounds.
    fn is_ordered(&mut self, id: u64, page: &Page, from: Option<&Bytes>, end: Option<&Bytes>) -> bool {
        let mut last: Option<&[u8]> = None;
        for i in 0..page.count() {
            let damage = match page.key(i) {
                Ok(key) if last.is_some_and(|last| last >= key) || !is_within(key, from, end) => {
                    Damage::KeyOrder(i)
                }
                Ok(key) => {
                    last = Some(key);
                    continue;
                }
                Err(damage) => damage,
            };
            self.find(id, damage);
            return false;
        }
        true
    }

    /// Visits the elements of a leaf; `last` is the last key before them.
    fn leaf(
        &mut self,
        bucket: &mut BucketStats,
        id: u64,
        page: &Page,
        from: Option<Bytes>,
        end: Option<Bytes>,
        last: &mut Option<Bytes>,
    ) {
        for i in 0..page.count() {
            let (key, value) = match page.key_and_value(i) {
                Ok(pair) => pair,
                Err(damage) => {
                    self.find(id, damage);
                    continue;
                }
            };
            let ascends = last.as_ref().is_none_or(|last| *last < key);
            if !ascends || !is_within(&key, from.as_ref(), end.as_ref()) {
                self.find(id, Damage::KeyOrder(i));
            }
            if page.is_bucket(i) {
                bucket.nested += 1;
                self.bucket(bucket, id, i, &key, &value);
            } else {
                bucket.keys += 1;
                bucket.bytes += (key.len() + value.len()) as u64;
            }
            *last = Some(key);
        }
    }

    fn bucket(&mut self, outer: &BucketStats, id: u64, at: usize, name: &Bytes, value: &Bytes) {
        let Some(header) = BucketHeader::decode(value) else {
            return self.find(id, Damage::BucketHeader(at));
        };
        if outer.path.len() == NESTING_MAX {
            return self.find(id, Damage::Nesting(NESTING_MAX));
        }
        let sequence = header.sequence;
        match Root::of(header, id) {
            Ok(root) => {
                let mut path = outer.path.clone();
                path.push(name.clone());
                self.waiting.push_back((BucketStats { path, sequence, ..BucketStats::default() }, root));
            }
            Err(damage) => self.find(id, damage),
        }
    }

    /// Compares the stored free list with the pages that were not reached.
    fn free_list(&mut self) -> Result<(), BoltError> {
        if self.meta.free_list == NO_FREE_LIST {
            self.report.free_pages = self.used.gaps().map(|run| run.len).sum();
            return Ok(());
        }
        let (list, run) = match free_list(self.pages, &self.meta) {
            Ok(found) => found,
            Err(BoltError::Damaged { page, damage, .. }) => {
                self.find(page, damage);
                (Vec::new(), Run { start: self.meta.free_list, len: 0 })
            }
            Err(error) => return Err(error),
        };
        self.report.free_list_pages = run.len;
        for part in run.start..run.end() {
            if !self.used.insert(part) {
                self.find(part, Damage::Shared);
            }
        }
        self.report.free_pages = self.used.gaps().map(|run| run.len).sum();
        let mut listed = PageSet::new(self.meta.high_water);
        for id in list {
            if self.used.contains(id) {
                self.find(id, Damage::FreeAndUsed);
            } else if !listed.insert(id) {
                self.find(run.start, Damage::FreeList(id));
            }
        }
        if run.len == 0 {
            return Ok(());
        }
        let lost = self.used.gaps().flat_map(|run| run.start..run.end()).filter(|id| !listed.contains(*id));
        for id in lost.collect::<Vec<u64>>() {
            self.find(id, Damage::Lost);
        }
        Ok(())
    }
}

fn is_within(key: &[u8], from: Option<&Bytes>, end: Option<&Bytes>) -> bool {
    from.is_none_or(|from| **from <= *key) && end.is_none_or(|end| *key < **end)
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}
