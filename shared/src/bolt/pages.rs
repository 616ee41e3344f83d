//! Reads pages of a file.

use std::path::Path;

use bytes::Bytes;

use super::cache::Cache;
use super::error::{BoltError, Damage};
use super::format::{HEADER_BYTES, Header, Page, size};
use crate::disk::DiskFile;

/// How many pages a scan reads at once, at most.
pub(super) const AHEAD_PAGES_MAX: usize = 64;

/// An open file and its cache.
pub(super) struct Pages {
    file: Box<dyn DiskFile>,
    page_size: usize,
    pub(super) cache: Cache,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Pages {
    pub(super) fn new(file: Box<dyn DiskFile>, page_size: u32, cache_bytes: usize) -> Pages {
        Pages { file, page_size: size(page_size), cache: Cache::new(cache_bytes) }
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    pub(super) fn page_size(&self) -> usize {
        self.page_size
    }

    pub(super) fn damaged(&self, page: u64, damage: Damage) -> BoltError {
        BoltError::damaged(self.path(), page, damage)
    }

    /// Where a page begins in the file.
    pub(super) fn offset(&self, id: u64) -> u64 {
        id.saturating_mul(self.page_size as u64)
    }

    /// Reads `count` pages from `id` on; fewer if the file ends.
    pub(super) fn read(&self, id: u64, count: usize) -> Result<Vec<u8>, BoltError> {
        let mut bytes = vec![0; count * self.page_size];
        let got = self.file.read_at(self.offset(id), &mut bytes)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// A branch or leaf page of a state with `high_water` pages, from the cache if it is there.
    pub(super) fn page(&self, id: u64, high_water: u64) -> Result<Page, BoltError> {
        match self.cache.get(id) {
            Some(page) => Ok(page),
            None => {
                let page = self.page_uncached(id, high_water)?;
                self.cache.add(id, page.clone());
                Ok(page)
            }
        }
    }

    /// The same, when it will hardly be needed again soon.
    pub(super) fn page_uncached(&self, id: u64, high_water: u64) -> Result<Page, BoltError> {
        self.check_bounds(id, high_water)?;
        let first = self.read(id, 1)?;
        self.complete(id, first, high_water)
    }

    fn check_bounds(&self, id: u64, high_water: u64) -> Result<(), BoltError> {
        if (2..high_water).contains(&id) {
            return Ok(());
        }
        Err(self.damaged(id, Damage::OutOfBounds { high_water }))
    }

    /// Checks the header of page `id`, which `bytes` begin with, and returns it.
    pub(super) fn header(&self, id: u64, bytes: &[u8], high_water: u64) -> Result<Header, BoltError> {
        if bytes.len() < self.page_size {
            return Err(self.damaged(id, Damage::Truncated));
        }
        let header = Header::decode(&bytes[..HEADER_BYTES]);
        if header.id != id {
            return Err(self.damaged(id, Damage::Id(header.id)));
        }
        if u64::from(header.overflow) >= high_water.saturating_sub(id) {
            return Err(self.damaged(id, Damage::Overflow(header.overflow)));
        }
        Ok(header)
    }

    /// All bytes of page `id` with its overflow pages, of which `bytes` are the first.
    pub(super) fn whole(&self, id: u64, mut bytes: Vec<u8>, high_water: u64) -> Result<Bytes, BoltError> {
        let header = self.header(id, &bytes, high_water)?;
        // The high water mark is within the file, so this is no more than the file has.
        let len = (1 + size(header.overflow)) * self.page_size;
        if let Some(rest) = len.checked_sub(bytes.len()).filter(|rest| *rest > 0) {
            let have = bytes.len();
            bytes.resize(len, 0);
            let got = self.file.read_at(self.offset(id) + have as u64, &mut bytes[have..])?;
            if got < rest {
                return Err(self.damaged(id, Damage::Truncated));
            }
        }
        bytes.truncate(len);
        Ok(bytes.into())
    }

    fn complete(&self, id: u64, bytes: Vec<u8>, high_water: u64) -> Result<Page, BoltError> {
        let bytes = self.whole(id, bytes, high_water)?;
        Page::new(bytes).map_err(|damage| self.damaged(id, damage))
    }

    /// Reads the first of `ids` and, if they lie close after it, some of the next ones, at most `ahead_max` in all.
    ///
    /// The ids are in the order in which a scan needs them.
    pub(super) fn read_ahead(
        &self,
        ids: &[u64],
        ahead_max: usize,
        high_water: u64,
    ) -> Result<Vec<Page>, BoltError> {
        let Some(first) = ids.first().copied() else { return Ok(Vec::new()) };
        self.check_bounds(first, high_water)?;
        // Small gaps are read over; that is cheaper than another call.
        let reach = first.saturating_add(2 * ahead_max as u64).min(high_water);
        let mut count = 1;
        while count < ids.len().min(ahead_max) && (ids[count - 1] + 1..reach).contains(&ids[count]) {
            count += 1;
        }
        let span = usize::try_from(ids[count - 1] - first).unwrap_or(0) + 1;
        let bytes = self.read(first, span)?;
        let mut pages = Vec::with_capacity(count);
        for id in &ids[..count] {
            let at = usize::try_from(id - first).unwrap_or(0) * self.page_size;
            let end = bytes.len().min(at + self.page_size);
            // A copy of each: one value that is kept must not keep the whole stretch in memory.
            let own = bytes.get(at..end).unwrap_or_default().to_vec();
            match self.complete(*id, own, high_water) {
                Ok(page) => pages.push(page),
                // It is reported when the scan gets there.
                Err(_) if !pages.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(pages)
    }

    /// Checks that the file is still at its path.
    pub(super) fn check_in_place(&self) -> Result<(), BoltError> {
        Ok(self.file.check_in_place()?)
    }
}
