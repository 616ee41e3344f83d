//! Finds the pages in use: the others are free.

use super::error::{BoltError, Damage};
use super::format::{BRANCH, BucketHeader, ELEMENT_BYTES, HEADER_BYTES, LEAF, Meta, Page};
use super::free::PageSet;
use super::pages::Pages;
use super::view::Root;

/// How many pages are read at once, at most.
const STRETCH_PAGES: u64 = 256;
/// Gaps up to this are read over.
const GAP_PAGES: u64 = 16;

/// The pages that a state uses. Reads all of them once, level by level, each level from the front of the file.
pub(super) fn used_pages(pages: &Pages, meta: &Meta) -> Result<PageSet, BoltError> {
    let mut used = PageSet::new(meta.high_water);
    used.insert(0);
    used.insert(1);
    let mut scan = Scan { pages, high_water: meta.high_water, used, next: Vec::new() };
    let mut level = vec![meta.root];
    while !level.is_empty() {
        level.sort_unstable();
        scan.level(&level)?;
        level = std::mem::take(&mut scan.next);
    }
    Ok(scan.used)
}

struct Scan<'a> {
    pages: &'a Pages,
    high_water: u64,
    used: PageSet,
    /// The pages that those of this level refer to.
    next: Vec<u64>,
}

impl Scan<'_> {
    fn damaged(&self, id: u64, damage: Damage) -> BoltError {
        self.pages.damaged(id, damage)
    }

    /// Visits pages in ascending order.
    fn level(&mut self, mut level: &[u64]) -> Result<(), BoltError> {
        while let Some(first) = level.first().copied() {
            let is_close = |two: &[u64]| two[1] - two[0] <= GAP_PAGES && two[1] - first < STRETCH_PAGES;
            let count = 1 + level.windows(2).take_while(|two| is_close(two)).count();
            let (stretch, later) = level.split_at(count);
            level = later;
            // A stretch reaches into the file only as far as there are pages.
            let last = stretch[count - 1];
            if first < 2 || last >= self.high_water {
                let high_water = self.high_water;
                let id = if first < 2 { first } else { last };
                return Err(self.damaged(id, Damage::OutOfBounds { high_water }));
            }
            let span = usize::try_from(last - first).unwrap_or(0) + 1;
            let bytes = self.pages.read(first, span)?;
            let page_size = self.pages.page_size();
            for id in stretch {
                let at = usize::try_from(id - first).unwrap_or(0) * page_size;
                let end = bytes.len().min(at + page_size);
                self.page(*id, bytes.get(at..end).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// Visits a page of which the first part is there.
    fn page(&mut self, id: u64, first: &[u8]) -> Result<(), BoltError> {
        let header = self.pages.header(id, first, self.high_water)?;
        for part in id..=id + u64::from(header.overflow) {
            if !self.used.insert(part) {
                return Err(self.damaged(part, Damage::Shared));
            }
        }
        let table = HEADER_BYTES + usize::from(header.count) * ELEMENT_BYTES;
        let has_bucket = |table: &[u8]| table.chunks(ELEMENT_BYTES).any(|element| element[0] & 1 != 0);
        match header.kind {
            BRANCH => {}
            LEAF => match first.get(HEADER_BYTES..table) {
                // The rest of a large value is not needed.
                Some(table) if !has_bucket(table) => return Ok(()),
                _ => {}
            },
            other => return Err(self.damaged(id, Damage::Kind(other))),
        }
        let whole = self.pages.whole(id, first.to_vec(), self.high_water)?;
        let page = Page::new(whole).map_err(|damage| self.damaged(id, damage))?;
        if page.is_leaf() {
            return self.buckets(id, &page);
        }
        self.next.extend((0..page.count()).map(|i| page.child(i)));
        Ok(())
    }

    /// Finds the roots of the buckets on a leaf.
    fn buckets(&mut self, id: u64, page: &Page) -> Result<(), BoltError> {
        let damaged = |damage| self.pages.damaged(id, damage);
        page.check_layout().map_err(damaged)?;
        for i in (0..page.count()).filter(|i| page.is_bucket(*i)) {
            let value = page.value(i).map_err(damaged)?;
            let header = BucketHeader::decode(&value).ok_or_else(|| damaged(Damage::BucketHeader(i)))?;
            if let Root::Page(root) = Root::of(header, id).map_err(damaged)? {
                self.next.push(root);
            }
        }
        Ok(())
    }
}
