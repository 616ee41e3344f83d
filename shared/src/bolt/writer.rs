//! Opens, makes and changes files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::changes::Changes;
use super::edit::{Edit, Edited, Editor, NewPage};
use super::error::{BoltError, Damage, MetaDamage};
use super::format;
use super::format::{
    BUCKET_FLAG, BucketHeader, FREE_LIST, HEADER_BYTES, META_BYTES, METAS_BYTES_MOST, Meta, NO_FREE_LIST,
    PAGE_BYTES, Page, size, u64_at,
};
use super::free::{Free, Run};
use super::node;
use super::pages::Pages;
use super::scan;
use super::view::{Live, Root, Snapshot, View};
use crate::disk::{Disk, DiskFile, Open, parent_of};

/// One write has no more than this, unless a single page with its overflow pages has.
const WRITE_BYTES: usize = 1024 * 1024;
/// Room is reserved in steps of an eighth of the file, but within these bounds.
const STEP_BYTES_LEAST: u64 = 64 * 1024;
const STEP_BYTES_MOST: u64 = 16 * 1024 * 1024;
/// The file is cut off when so much of its end is free, and at least an eighth of it: else it would be cut off and
/// grow again all the time.
const SURPLUS_BYTES_LEAST: u64 = 1024 * 1024;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The page size of a new file, in bytes: a power of two from 1024 to 65536. An existing one keeps its own.
    pub page_bytes: u32,
    /// The size of the page cache, in bytes.
    pub cache_bytes: usize,
    /// The file is cut off when at least so many bytes at its end are free, and an eighth of it.
    pub surplus_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { page_bytes: PAGE_BYTES, cache_bytes: 8 * 1024 * 1024, surplus_bytes: SURPLUS_BYTES_LEAST }
    }
}

/// The one writer of a file. It holds the lock that bbolt takes, so no other process writes to it.
///
/// A commit writes pages that neither the newest state, nor the one before it, nor a view uses, syncs, and then writes
/// the meta page that makes them count: after a crash the file has the state of the last commit, or of the one
/// that was under way.
#[derive(Debug)]
pub struct Bolt<D: Disk> {
    file: D::File,
    pages: Arc<Pages>,
    live: Live,
    current: Arc<Snapshot>,
    /// The meta page that has the current state, 0 or 1; the next commit goes to the other one.
    slot: u64,
    /// The high water mark of the other meta page; 0 if that one is not valid.
    other_high_water: u64,
    free: Free,
    /// The pages of a stored free list. The next commit stores none.
    free_list: Option<Run>,
    file_bytes: u64,
    reserved_bytes: u64,
    options: Options,
    failed: bool,
}

/// What a commit did.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The new state.
    pub view: View,
    /// The pages that were written, without the meta page; 0 if nothing was to be changed.
    pub pages_written: u64,
    /// The length of the file, in bytes.
    pub file_bytes: u64,
}

/// An open file: its metas and a reader of its pages.
pub(super) struct Opened {
    pub(super) pages: Pages,
    /// The meta page that counts, and what it says.
    pub(super) slot: u64,
    pub(super) meta: Meta,
    pub(super) both: [Result<Meta, MetaDamage>; 2],
    pub(super) file_bytes: u64,
}

pub(super) fn open_pages<D: Disk>(disk: &D, path: &Path, cache_bytes: usize) -> Result<Opened, BoltError> {
    let file = disk.open(path, Open::Read)?;
    let file_bytes = file.len()?;
    let mut start = vec![0; METAS_BYTES_MOST.min(usize::try_from(file_bytes).unwrap_or(usize::MAX))];
    let got = file.read_at(0, &mut start)?;
    start.truncate(got);
    let both = Meta::decode_both(&start);
    let (slot, meta) = Meta::newest(both).map_err(|[first, second]| BoltError::Metas {
        file: path.to_owned(),
        first,
        second,
    })?;
    let needed = meta.high_water.saturating_mul(u64::from(meta.page_size));
    if needed > file_bytes {
        return Err(BoltError::Short { file: path.to_owned(), len: file_bytes, needed });
    }
    let pages = Pages::new(Box::new(file), meta.page_size, cache_bytes);
    Ok(Opened { pages, slot, meta, both, file_bytes })
}

/// Opens a file for reading, without its lock: it may be used on a file that no process changes meanwhile. A file that
/// is written to should be read through the views of its [`Bolt`].
///
/// Reads all pages in use once, to know their number; `cache_bytes` is the size of the cache.
///
/// # Errors
/// Those of the disk, and damage.
pub fn read<D: Disk>(disk: &D, path: &Path, cache_bytes: usize) -> Result<View, BoltError> {
    let opened = open_pages(disk, path, cache_bytes)?;
    let (free, _) = free_pages(&opened.pages, &opened.meta)?;
    let free_pages = free_below(&free, &opened.meta);
    let snapshot = Snapshot::new(opened.meta, free_pages, &Live::default());
    Ok(View { pages: Arc::new(opened.pages), snapshot })
}

/// Free pages below the high water mark.
fn free_below(free: &Free, meta: &Meta) -> u64 {
    free.pages() + meta.high_water.saturating_sub(free.end())
}

/// The free pages, and those of the free list if it is stored.
///
/// The tree tells which pages are free, even if the list is stored: a wrong list would overwrite what is in use.
fn free_pages(pages: &Pages, meta: &Meta) -> Result<(Free, Option<Run>), BoltError> {
    let mut used = scan::used_pages(pages, meta)?;
    let list = if meta.free_list == NO_FREE_LIST { None } else { Some(free_list(pages, meta)?.1) };
    for id in list.iter().flat_map(|run| run.start..run.end()) {
        if !used.insert(id) {
            return Err(pages.damaged(id, Damage::Shared));
        }
    }
    let mut free = Free::new(meta.high_water);
    for run in used.gaps() {
        free.release(run);
    }
    Ok((free, list))
}

/// The stored free list, and its own pages.
pub(super) fn free_list(pages: &Pages, meta: &Meta) -> Result<(Vec<u64>, Run), BoltError> {
    let id = meta.free_list;
    let damaged = |damage| pages.damaged(id, damage);
    if !(2..meta.high_water).contains(&id) {
        return Err(damaged(Damage::OutOfBounds { high_water: meta.high_water }));
    }
    let first = pages.read(id, 1)?;
    let header = pages.header(id, &first, meta.high_water)?;
    if header.kind != FREE_LIST {
        return Err(damaged(Damage::Kind(header.kind)));
    }
    let bytes = pages.whole(id, first, meta.high_water)?;
    let mut ids = &bytes[HEADER_BYTES..];
    let mut count = u64::from(header.count);
    if header.count == u16::MAX {
        count = u64_at(ids, 0);
        ids = &ids[8..];
    }
    let len = usize::try_from(count).ok().and_then(|count| count.checked_mul(8));
    let ids = len.and_then(|len| ids.get(..len)).ok_or_else(|| damaged(Damage::Count(count)))?;
    let list = ids.chunks_exact(8).map(|id| u64_at(id, 0)).collect();
    Ok((list, Run { start: id, len: 1 + u64::from(header.overflow) }))
}

impl<D: Disk> Bolt<D> {
    /// Makes a new file without buckets and opens it. It gets its name only when it is complete and synced.
    ///
    /// # Errors
    /// [`BoltError::Exists`] if there is a file; those of the disk.
    ///
    /// # Panics
    /// If the page size of the options is not possible.
    pub fn create(disk: &D, path: &Path, options: Options) -> Result<Bolt<D>, BoltError> {
        if disk.kind(path)?.is_some() {
            return Err(BoltError::Exists(path.to_owned()));
        }
        let page_bytes = options.page_bytes;
        assert!(format::is_page_size(page_bytes), "pages of {page_bytes} bytes");
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let mut file = disk.open(&temporary, Open::Create)?;
        file.append(&empty_file(page_bytes))?;
        file.sync()?;
        drop(file);
        disk.rename(&temporary, path)?;
        disk.sync_dir(parent_of(path))?;
        Bolt::open(disk, path, options)
    }

    /// Opens a file and takes its lock.
    ///
    /// All pages in use are read once, level by level, to know which ones are free: also if the file stores a list of
    /// them, which etcd's do not.
    ///
    /// # Errors
    /// Those of the disk, [`BoltError::is_locked`] among them; damage.
    pub fn open(disk: &D, path: &Path, options: Options) -> Result<Bolt<D>, BoltError> {
        let mut file = disk.open(path, Open::Append)?;
        file.lock()?;
        let opened = open_pages(disk, path, options.cache_bytes)?;
        // Both handles are of the same file.
        file.check_in_place()?;
        opened.pages.check_in_place()?;
        let (free, free_list) = free_pages(&opened.pages, &opened.meta)?;
        let other = opened.both[usize::from(opened.slot == 0)];
        let live = Live::default();
        let current = Snapshot::new(opened.meta, free_below(&free, &opened.meta), &live);
        Ok(Bolt {
            file,
            pages: Arc::new(opened.pages),
            live,
            current,
            slot: opened.slot,
            other_high_water: other.map_or(0, |other| other.high_water),
            free,
            free_list,
            file_bytes: opened.file_bytes,
            reserved_bytes: opened.file_bytes,
            options,
            failed: false,
        })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        self.pages.path()
    }

    /// The length of the file, in bytes. [`View::size`] and [`View::size_in_use`] tell what etcd calls its size.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The state after the last commit.
    pub fn view(&self) -> View {
        View { pages: Arc::clone(&self.pages), snapshot: Arc::clone(&self.current) }
    }

    /// Carries out changes, durable on return. Costs as much as pages are touched; nothing is written if nothing is to
    /// be changed.
    ///
    /// # Errors
    /// After [`BoltError::KeyRequired`] and the like, damage, or a failed read nothing has been changed, and the next
    /// commit may succeed. After a failed write or sync all further commits fail with [`BoltError::Failed`]; the
    /// changes are in the file or not when it is opened again.
    pub fn commit(&mut self, changes: &Changes) -> Result<Committed, BoltError> {
        if self.failed {
            return Err(BoltError::Failed);
        }
        changes.check()?;
        self.file.check_in_place()?;
        let meta = self.current.meta;
        let txid = meta.txid.checked_add(1).ok_or(BoltError::Exhausted)?;
        let oldest = self.live.lock().first().copied().unwrap_or(meta.txid);
        self.free.release_before(oldest);
        let view = self.view();
        let pages = Arc::clone(&self.pages);
        let mut editor = Editor::new(&pages, meta.high_water, &mut self.free);
        let root = match edit(&mut editor, &view, changes) {
            Ok(root) if root != meta.root => root,
            outcome => {
                editor.roll_back();
                return outcome.map(|_| Committed { view, pages_written: 0, file_bytes: self.file_bytes });
            }
        };
        let (freed, mut written) = (std::mem::take(&mut editor.freed), std::mem::take(&mut editor.written));
        let meta = Meta { root, free_list: NO_FREE_LIST, high_water: self.free.end(), txid, ..meta };
        if let Err(error) = self.reserve() {
            for page in written {
                self.free.release(page.run);
            }
            return Err(error);
        }
        written.sort_unstable_by_key(|page| page.run.start);
        self.failed = true;
        self.write(&meta, &written)?;
        self.failed = false;
        Ok(self.publish(meta, freed, written))
    }

    /// Reserves room for the new pages.
    fn reserve(&mut self) -> Result<(), BoltError> {
        let needed = self.pages.offset(self.free.end());
        if needed <= self.reserved_bytes {
            return Ok(());
        }
        let step = (needed / 8).clamp(STEP_BYTES_LEAST, STEP_BYTES_MOST);
        let target = needed.checked_next_multiple_of(step).ok_or(BoltError::Exhausted)?;
        self.file.allocate(target)?;
        self.reserved_bytes = target;
        Ok(())
    }

    /// Writes pages, which are sorted, and then the meta page.
    fn write(&mut self, meta: &Meta, written: &[NewPage]) -> Result<(), BoltError> {
        let mut rest = written;
        while let Some(first) = rest.first() {
            let mut bytes = first.bytes.len();
            let joins = |two: &[NewPage]| two[0].run.end() == two[1].run.start;
            let fits = |two: &&[NewPage]| {
                bytes += two[1].bytes.len();
                joins(two) && bytes <= WRITE_BYTES
            };
            let count = 1 + rest.windows(2).take_while(fits).count();
            let (together, later) = rest.split_at(count);
            rest = later;
            let offset = self.pages.offset(first.run.start);
            if let [only] = together {
                self.file.write_at(offset, &only.bytes)?;
            } else {
                let joined: Vec<u8> = together.iter().flat_map(|page| &page.bytes).copied().collect();
                self.file.write_at(offset, &joined)?;
            }
        }
        self.file.sync()?;
        let slot = 1 - self.slot;
        self.file.write_at(self.pages.offset(slot), &meta.encode(slot))?;
        self.file.sync()?;
        Ok(())
    }

    /// Makes a state that is durable the current one.
    fn publish(&mut self, meta: Meta, mut freed: Vec<Run>, written: Vec<NewPage>) -> Committed {
        freed.extend(self.free_list.take());
        self.free.release_later(meta.txid, freed);
        let mut pages_written = 0;
        for page in written {
            pages_written += page.run.len;
            if let (1, Ok(decoded)) = (page.run.len, Page::new(page.bytes.into())) {
                self.pages.cache.add(page.run.start, decoded);
            }
        }
        self.other_high_water = self.current.meta.high_water;
        self.slot = 1 - self.slot;
        self.current = Snapshot::new(meta, self.free.pages(), &self.live);
        self.file_bytes = self.file_bytes.max(self.pages.offset(meta.high_water));
        self.shrink();
        Committed { view: self.view(), pages_written, file_bytes: self.file_bytes }
    }

    /// Cuts off the end of the file if much of it is free. Both metas stay complete: a crash may bring back the
    /// older one.
    fn shrink(&mut self) {
        let pages = self.current.meta.high_water.max(self.other_high_water);
        let needed = self.pages.offset(pages);
        let surplus = self.file_bytes.saturating_sub(needed);
        if surplus < self.options.surplus_bytes.max(self.file_bytes / 8) || surplus == 0 {
            return;
        }
        if let Err(error) = self.file.truncate(needed) {
            // The commit before it is durable. That the file is longer than needed does no harm, but a disk that
            // refuses this cannot be relied on.
            tracing::error!("cannot shrink the database: {error}");
            self.failed = true;
            return;
        }
        self.file_bytes = needed;
        self.reserved_bytes = needed;
    }
}

/// Changes all buckets; returns the new root of the file.
fn edit(editor: &mut Editor<'_>, view: &View, changes: &Changes) -> Result<u64, BoltError> {
    let mut headers = Vec::new();
    for (name, changes) in changes.buckets() {
        let old = match view.root().find(name)? {
            None => None,
            Some((page, _, at)) if !page.is_bucket(at) => {
                return Err(BoltError::Incompatible(name.to_vec()));
            }
            Some((page, id, at)) => {
                let damaged = |damage| view.pages.damaged(id, damage);
                let value = page.value(at).map_err(damaged)?;
                let header = BucketHeader::decode(&value).ok_or_else(|| damaged(Damage::BucketHeader(at)))?;
                let sequence = header.sequence;
                Some((sequence, Root::of(header, id).map_err(damaged)?))
            }
        };
        let edits: Vec<Edit> =
            changes.iter().map(|(key, value)| Edit { key: key.clone(), value: value.clone() }).collect();
        if edits.is_empty() && old.is_some() {
            continue;
        }
        let sequence = old.as_ref().map_or(0, |(sequence, _)| *sequence);
        let (root, inline) = match editor.edit_bucket(old.as_ref().map(|(_, root)| root), &edits)? {
            Edited::Unchanged => continue,
            Edited::Page(root) => (root, bytes::Bytes::new()),
            Edited::Inline(page) => (0, page),
        };
        let header = BucketHeader { root, sequence, inline };
        headers.push(Edit { key: name.clone(), value: Some(header.encode()) });
    }
    if headers.is_empty() {
        Ok(view.snapshot.meta.root)
    } else {
        editor.edit_root(view.snapshot.meta.root, &headers)
    }
}

/// The pages of a file without buckets: two metas and the root.
fn empty_file(page_size: u32) -> Vec<u8> {
    let meta =
        Meta { page_size, flags: 0, root: 2, sequence: 0, free_list: NO_FREE_LIST, high_water: 3, txid: 0 };
    let mut bytes = meta.encode(0);
    bytes.extend(Meta { txid: 1, ..meta }.encode(1));
    bytes.extend(node::encode_leaf(2, &[], size(page_size)));
    bytes.resize(3 * size(page_size), 0);
    bytes
}

const _: () = assert!(META_BYTES <= 1024 && BUCKET_FLAG == 1);
