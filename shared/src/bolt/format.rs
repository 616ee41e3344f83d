//! The bytes of pages.
//!
//! All numbers are little endian. A page has a size of its file (the operating system's, 4096 as a rule) and begins
//! with 16 bytes: its number u64, kind u16 (1 branch, 2 leaf, 4 meta, 16 free list), count u16, overflow u32: the
//! number of pages that follow and belong to it.
//!
//! - Meta (pages 0 and 1): magic u32, version u32, page size u32, flags u32, root bucket {page u64, sequence u64},
//!   page of the free list u64 (2^64-1: not stored), high water u64 (the number of pages), transaction id u64,
//!   checksum u64: FNV-1a-64 of the 56 bytes before it.
//! - Branch: `count` times {position u32, key size u32, page u64}, then keys.
//! - Leaf: `count` times {flags u32 (1: a bucket), position u32, key size u32, value size u32}, then keys and values,
//!   each value right after its key. A position counts from the start of its element.
//! - The value of a bucket: root page u64, sequence u64. Root page 0: a leaf page follows right there (inline).
//! - Free list: `count` page numbers u64; if `count` is 0xffff, the first u64 is the real count.

use std::cmp::Ordering;

use bytes::Bytes;

use super::error::{Damage, MetaDamage};

pub(super) const HEADER_BYTES: usize = 16;
pub(super) const ELEMENT_BYTES: usize = 16;
pub(super) const BUCKET_HEADER_BYTES: usize = 16;
pub(super) const BRANCH: u16 = 1;
pub(super) const LEAF: u16 = 2;
pub(super) const META: u16 = 4;
pub(super) const FREE_LIST: u16 = 16;
/// The flag of an element that is a bucket.
pub(super) const BUCKET_FLAG: u32 = 1;
/// The page number of a free list that is not stored.
pub(super) const NO_FREE_LIST: u64 = u64::MAX;
/// The page size of new files.
pub(super) const PAGE_BYTES: u32 = 4096;
/// Deeper trees are damaged: 64 levels of two children each would need more pages than there are.
pub(super) const DEPTH_MAX: usize = 64;

const PAGE_BYTES_LEAST: u32 = 1024;
const PAGE_BYTES_MOST: u32 = 65536;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// The meta without its checksum.
const SUMMED_BYTES: usize = 56;
pub(super) const META_BYTES: usize = HEADER_BYTES + SUMMED_BYTES + 8;
/// Where a second meta page can begin at the latest, and its length.
pub(super) const METAS_BYTES_MOST: usize = PAGE_BYTES_MOST as usize + META_BYTES;

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// A u32 of the format as a length. It always fits: the server runs on 64 bits only.
pub(super) fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The first 16 bytes of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) kind: u16,
    pub(super) count: u16,
    pub(super) overflow: u32,
}

impl Header {
    /// Of at least 16 bytes.
    pub(super) fn decode(bytes: &[u8]) -> Header {
        Header {
            id: u64_at(bytes, 0),
            kind: u16_at(bytes, 8),
            count: u16_at(bytes, 10),
            overflow: u32_at(bytes, 12),
        }
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.overflow.to_le_bytes());
    }
}

/// A state of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_size: u32,
    pub(super) flags: u32,
    pub(super) root: u64,
    pub(super) sequence: u64,
    pub(super) free_list: u64,
    pub(super) high_water: u64,
    pub(super) txid: u64,
}

impl Meta {
    /// Decodes the page that begins with `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Meta, MetaDamage> {
        let meta = bytes.get(HEADER_BYTES..META_BYTES).ok_or(MetaDamage::Missing)?;
        if u32_at(meta, 0) != MAGIC {
            return Err(MetaDamage::Magic);
        }
        let version = u32_at(meta, 4);
        if version != VERSION {
            return Err(MetaDamage::Version(version));
        }
        if u64_at(meta, SUMMED_BYTES) != fnv_1a(&meta[..SUMMED_BYTES]) {
            return Err(MetaDamage::Checksum);
        }
        let page_size = u32_at(meta, 8);
        if !is_page_size(page_size) {
            return Err(MetaDamage::PageSize(page_size));
        }
        Ok(Meta {
            page_size,
            flags: u32_at(meta, 12),
            root: u64_at(meta, 16),
            sequence: u64_at(meta, 24),
            free_list: u64_at(meta, 32),
            high_water: u64_at(meta, 40),
            txid: u64_at(meta, 48),
        })
    }

    /// The whole page, with which number 0 or 1.
    pub(super) fn encode(&self, slot: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(size(self.page_size));
        Header { id: slot, kind: META, count: 0, overflow: 0 }.encode(&mut out);
        for number in [MAGIC, VERSION, self.page_size, self.flags] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.root, self.sequence, self.free_list, self.high_water, self.txid] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let sum = fnv_1a(&out[HEADER_BYTES..]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.resize(size(self.page_size), 0);
        out
    }

    /// The two metas at the start of a file.
    ///
    /// Where the second one begins depends on the page size: if the first does not tell, all sizes are tried.
    pub(super) fn decode_both(start: &[u8]) -> [Result<Meta, MetaDamage>; 2] {
        let first = Meta::decode(start);
        if let Ok(meta) = first {
            let second = Meta::decode(start.get(size(meta.page_size)..).unwrap_or_default());
            let second = second.and_then(|second| match second.page_size {
                other if other == meta.page_size => Ok(second),
                other => Err(MetaDamage::PageSize(other)),
            });
            return [first, second];
        }
        let mut told = Err(MetaDamage::Missing);
        let mut page_size = PAGE_BYTES_LEAST;
        while page_size <= PAGE_BYTES_MOST {
            let found = Meta::decode(start.get(size(page_size)..).unwrap_or_default());
            match found {
                Ok(meta) if meta.page_size == page_size => return [first, Ok(meta)],
                Err(damage) if page_size == PAGE_BYTES => told = Err(damage),
                _ => {}
            }
            page_size *= 2;
        }
        [first, told]
    }

    /// The valid meta with the larger transaction id, and its page.
    pub(super) fn newest(both: [Result<Meta, MetaDamage>; 2]) -> Result<(u64, Meta), [MetaDamage; 2]> {
        match both {
            [Ok(first), Ok(second)] if second.txid > first.txid => Ok((1, second)),
            [Ok(first), _] => Ok((0, first)),
            [_, Ok(second)] => Ok((1, second)),
            [Err(first), Err(second)] => Err([first, second]),
        }
    }
}

/// Whether a file can have pages of so many bytes.
pub(super) fn is_page_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (PAGE_BYTES_LEAST..=PAGE_BYTES_MOST).contains(&bytes)
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The value of a bucket.
#[derive(Debug, Clone)]
pub(super) struct BucketHeader {
    /// The root page; 0 if the bucket is inline.
    pub(super) root: u64,
    pub(super) sequence: u64,
    /// What follows: the page of an inline bucket.
    pub(super) inline: Bytes,
}

impl BucketHeader {
    pub(super) fn decode(value: &Bytes) -> Option<BucketHeader> {
        (value.len() >= BUCKET_HEADER_BYTES).then(|| BucketHeader {
            root: u64_at(value, 0),
            sequence: u64_at(value, 8),
            inline: value.slice(BUCKET_HEADER_BYTES..),
        })
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(BUCKET_HEADER_BYTES + self.inline.len());
        out.extend_from_slice(&self.root.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.inline);
        out.into()
    }
}

/// A branch or leaf page with its overflow pages. The element table is within it; each element is checked when it is
/// used.
#[derive(Debug, Clone)]
pub(super) struct Page {
    bytes: Bytes,
    leaf: bool,
    count: usize,
}

impl Page {
    /// Of at least a header; the page of an inline bucket too.
    pub(super) fn new(bytes: Bytes) -> Result<Page, Damage> {
        if bytes.len() < HEADER_BYTES {
            return Err(Damage::Truncated);
        }
        let header = Header::decode(&bytes);
        let leaf = match header.kind {
            LEAF => true,
            BRANCH => false,
            other => return Err(Damage::Kind(other)),
        };
        let count = usize::from(header.count);
        if HEADER_BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err(Damage::Count(u64::from(header.count)));
        }
        Ok(Page { bytes, leaf, count })
    }

    pub(super) fn is_leaf(&self) -> bool {
        self.leaf
    }

    /// The number of elements.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The length with overflow pages.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where key and value of element `i` begin, and where the value ends.
    fn element(&self, i: usize) -> Result<(usize, usize, usize), Damage> {
        let at = HEADER_BYTES + i * ELEMENT_BYTES;
        let (position, key, value) = if self.leaf {
            (u32_at(&self.bytes, at + 4), u32_at(&self.bytes, at + 8), u32_at(&self.bytes, at + 12))
        } else {
            (u32_at(&self.bytes, at), u32_at(&self.bytes, at + 4), 0)
        };
        let start = at + size(position);
        let middle = start + size(key);
        let end = middle + size(value);
        // A position inside the table of elements is nonsense, but harmless.
        if end > self.bytes.len() { Err(Damage::Element(i)) } else { Ok((start, middle, end)) }
    }

    /// Checks that keys and values lie one after another behind the element table, as every writer puts them. Where they
    /// overlap, a small page could claim to hold any number of buckets.
    pub(super) fn check_layout(&self) -> Result<(), Damage> {
        let mut at = HEADER_BYTES + self.count * ELEMENT_BYTES;
        for i in 0..self.count {
            let (start, _, end) = self.element(i)?;
            if start < at {
                return Err(Damage::Element(i));
            }
            at = end;
        }
        Ok(())
    }

    pub(super) fn key(&self, i: usize) -> Result<&[u8], Damage> {
        let (start, end, _) = self.element(i)?;
        Ok(&self.bytes[start..end])
    }

    pub(super) fn key_bytes(&self, i: usize) -> Result<Bytes, Damage> {
        let (start, end, _) = self.element(i)?;
        Ok(self.bytes.slice(start..end))
    }

    /// Of a leaf.
    pub(super) fn key_and_value(&self, i: usize) -> Result<(Bytes, Bytes), Damage> {
        let (start, middle, end) = self.element(i)?;
        Ok((self.bytes.slice(start..middle), self.bytes.slice(middle..end)))
    }

    /// Of a leaf.
    pub(super) fn value(&self, i: usize) -> Result<Bytes, Damage> {
        let (_, middle, end) = self.element(i)?;
        Ok(self.bytes.slice(middle..end))
    }

    /// Of a leaf: 1 for a bucket.
    pub(super) fn flags(&self, i: usize) -> u32 {
        u32_at(&self.bytes, HEADER_BYTES + i * ELEMENT_BYTES)
    }

    pub(super) fn is_bucket(&self, i: usize) -> bool {
        self.flags(i) & BUCKET_FLAG != 0
    }

    /// Of a branch.
    pub(super) fn child(&self, i: usize) -> u64 {
        u64_at(&self.bytes, HEADER_BYTES + i * ELEMENT_BYTES + 8)
    }

    /// The index of `key`, or of the first greater one.
    pub(super) fn search(&self, key: &[u8]) -> Result<Result<usize, usize>, Damage> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle)?.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok(Ok(middle)),
                Ordering::Greater => high = middle,
            }
        }
        Ok(Err(low))
    }

    /// Of a branch that is not empty: the index of the child that has or would have `key`.
    pub(super) fn child_for(&self, key: &[u8]) -> Result<usize, Damage> {
        Ok(match self.search(key)? {
            Ok(found) => found,
            Err(next) => next.saturating_sub(1),
        })
    }
}
