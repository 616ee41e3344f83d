//! Errors of bolt files. Where bbolt has a text for it, the text is bbolt's.

use std::path::{Path, PathBuf};

use crate::disk::DiskError;

/// Why a meta page does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetaDamage {
    /// The file ends before it, or inside it.
    #[error("missing")]
    Missing,
    /// The magic number is another one.
    #[error("invalid database")]
    Magic,
    /// The format has a version other than 2.
    #[error("version mismatch: {0}")]
    Version(u32),
    /// The checksum does not match.
    #[error("checksum error")]
    Checksum,
    /// The page size is not a power of two from 1024 to 65536, or not that of the other meta page.
    #[error("page size {0}")]
    PageSize(u32),
}

/// What is wrong with a page. The checker reports the same findings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// A reference leads to a page that cannot be: a meta page, or one at or beyond the high water mark.
    #[error("out of bounds, the file has {high_water} pages")]
    OutOfBounds {
        /// The number of pages.
        high_water: u64,
    },
    /// The file ends inside the page.
    #[error("the file ends inside it")]
    Truncated,
    /// The header has the number of another page.
    #[error("its header says page {0}")]
    Id(u64),
    /// The page has another kind than the reference to it requires.
    #[error("unexpected page type: {0:#x}")]
    Kind(u16),
    /// The page continues beyond the high water mark.
    #[error("{0} overflow pages reach beyond the end")]
    Overflow(u32),
    /// The element table does not fit into the page.
    #[error("{0} elements do not fit")]
    Count(u64),
    /// The bytes of an element are not within the page, or not behind those of the element before it.
    #[error("element {0} is out of bounds")]
    Element(usize),
    /// Keys are not in ascending order, or outside the range that the parent gives.
    #[error("key {0} is out of order")]
    KeyOrder(usize),
    /// A page below the root of a bucket has no elements.
    #[error("no elements")]
    Empty,
    /// A branch below the root of a bucket has one child only: bbolt stops when it changes such a tree.
    #[error("a branch with one child")]
    OneChild,
    /// The tree is deeper than any real one.
    #[error("more than {0} levels")]
    Depth(usize),
    /// Buckets are nested deeper than any program does it.
    #[error("buckets are nested more than {0} deep")]
    Nesting(usize),
    /// Two references lead to the page.
    #[error("multiple references")]
    Shared,
    /// The page is in the stored free list and in use.
    #[error("reachable freed")]
    FreeAndUsed,
    /// The page is neither in the stored free list nor in use.
    #[error("unreachable unfreed")]
    Lost,
    /// The free list has a page twice, or not in ascending order, or one that cannot be.
    #[error("bad free list entry: page {0}")]
    FreeList(u64),
    /// A bucket's header is cut short.
    #[error("element {0} is a bucket with a bad header")]
    BucketHeader(usize),
    /// An inline bucket has a bucket in it, which nobody writes.
    #[error("element {0} of an inline bucket is a bucket")]
    InlineBucket(usize),
}

/// A failure of a bolt file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoltError {
    /// The disk refused an operation; a file that another process has locked is one of these, see
    /// [`DiskError::is_locked`].
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is a file already.
    #[error("bolt: {0} exists")]
    Exists(PathBuf),
    /// Neither meta page is valid.
    #[error("bolt: {file}: {first}", file = file.display(), first = metas_words(*first, *second))]
    Metas {
        /// The file.
        file: PathBuf,
        /// What is wrong with page 0.
        first: MetaDamage,
        /// What is wrong with page 1.
        second: MetaDamage,
    },
    /// The file is shorter than its meta page says.
    #[error("bolt: {file}: file size too small: {len} bytes, its pages need {needed}", file = file.display())]
    Short {
        /// The file.
        file: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// The length that the meta page requires, in bytes.
        needed: u64,
    },
    /// A page is damaged. Nothing was changed.
    #[error("bolt: {file}: page {page}: {damage}", file = file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The page.
        page: u64,
        /// What is wrong with it.
        damage: Damage,
    },
    /// A key or the name of a bucket is empty.
    #[error("key required")]
    KeyRequired,
    /// A key or the name of a bucket is longer than [`super::KEY_BYTES_MAX`].
    #[error("key too large: {0} bytes")]
    KeyTooLarge(usize),
    /// A value is longer than [`super::VALUE_BYTES_MAX`].
    #[error("value too large: {0} bytes")]
    ValueTooLarge(usize),
    /// A bucket has the name of a plain key, or a key that of a nested bucket.
    #[error("incompatible value: {}", String::from_utf8_lossy(.0))]
    Incompatible(Vec<u8>),
    /// The transaction id or the page number has reached the largest number.
    #[error("bolt: the numbers of the format are used up")]
    Exhausted,
    /// An earlier write or sync failed: what is on disk is no longer known, so nothing more is written.
    #[error("bolt: closed after a failed write")]
    Failed,
    /// The target of a copy refused the bytes.
    #[error("bolt: copy: {0}")]
    Copy(std::io::Error),
}

impl BoltError {
    pub(super) fn damaged(file: &Path, page: u64, damage: Damage) -> BoltError {
        BoltError::Damaged { file: file.to_owned(), page, damage }
    }

    /// Whether another process holds the file.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        matches!(self, BoltError::Disk(error) if error.is_locked())
    }

    /// Whether the file's contents, not the disk or the request, are the reason.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, BoltError::Metas { .. } | BoltError::Short { .. } | BoltError::Damaged { .. })
    }
}

fn metas_words(first: MetaDamage, second: MetaDamage) -> String {
    if first == second { first.to_string() } else { format!("{first} in page 0, {second} in page 1") }
}
