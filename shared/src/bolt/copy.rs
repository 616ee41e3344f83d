//! The whole file of a view, in pieces.

use std::io;

use bytes::Bytes;

use super::error::BoltError;
use super::format::{Meta, NO_FREE_LIST};
use super::view::View;

/// The pieces of a copy have at most so many bytes, or a page.
const CHUNK_BYTES: usize = 256 * 1024;

/// The bytes of a file with the state of a view, from front to back; see [`View::chunks`].
#[derive(Debug)]
pub struct Chunks {
    view: View,
    /// The next page.
    at: u64,
}

impl View {
    /// A file with this state, in pieces of up to 256 KiB, [`View::size`] bytes in all, while commits go on. Only one
    /// piece is in memory.
    ///
    /// Both meta pages have this state, the second one as the commit before it, and no free list is stored. Pages that
    /// the state does not use are copied as they are, or as zeros where the file has ended since.
    #[must_use]
    pub fn chunks(&self) -> Chunks {
        Chunks { view: self.clone(), at: 0 }
    }

    /// Writes that file to `out`; returns its length.
    ///
    /// # Errors
    /// Those of the disk, and of `out` as [`BoltError::Copy`].
    pub fn copy_to(&self, out: &mut dyn io::Write) -> Result<u64, BoltError> {
        let mut copied = 0;
        for chunk in self.chunks() {
            let chunk = chunk?;
            out.write_all(&chunk).map_err(BoltError::Copy)?;
            copied += chunk.len() as u64;
        }
        Ok(copied)
    }

    fn metas(&self) -> Bytes {
        let meta = Meta { free_list: NO_FREE_LIST, ..self.snapshot.meta };
        let older = Meta { txid: meta.txid.saturating_sub(1), ..meta };
        // bbolt writes the next commit to the page with the parity of its number.
        let (first, second) = if meta.txid.is_multiple_of(2) { (meta, older) } else { (older, meta) };
        let mut bytes = first.encode(0);
        bytes.extend(second.encode(1));
        bytes.into()
    }
}

impl Iterator for Chunks {
    type Item = Result<Bytes, BoltError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == 0 {
            self.at = 2;
            return Some(Ok(self.view.metas()));
        }
        let pages = &self.view.pages;
        let left = self.view.high_water().saturating_sub(self.at);
        let most = CHUNK_BYTES.div_ceil(pages.page_size());
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(most);
        if count == 0 {
            return None;
        }
        let chunk = pages.read(self.at, count).map(|mut bytes| {
            bytes.resize(count * pages.page_size(), 0);
            bytes.into()
        });
        self.at = if chunk.is_ok() { self.at + count as u64 } else { self.view.high_water() };
        Some(chunk)
    }
}
