//! Recently read pages, bounded in bytes.
//!
//! Page numbers are reused, and yet the number alone is the key. That is right because of two rules. A reader looks up
//! or adds a page only while it holds a view that can reach it, and the writer gives a page to new contents only when
//! no such view lives; when it does, it first removes the page here ([`Cache::forget`]). So an old page can neither
//! stay nor come back.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::format::Page;

/// Readers of different pages rarely wait for each other.
const SHARDS: usize = 8;
/// What an entry needs beside its page, roughly.
const ENTRY_BYTES: usize = 128;

#[derive(Debug)]
pub(super) struct Cache {
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes_max: usize,
}

/// A clock: a full circle of entries, of which those that were used since the hand's last pass stay.
#[derive(Debug, Default)]
struct Shard {
    pages: HashMap<u64, usize>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    id: u64,
    page: Page,
    used: bool,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Cache {
        Cache { shards: Default::default(), shard_bytes_max: bytes_max / SHARDS }
    }

    fn shard(&self, id: u64) -> &Mutex<Shard> {
        let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.shards[usize::try_from(mixed).unwrap_or(0) % SHARDS]
    }

    pub(super) fn get(&self, id: u64) -> Option<Page> {
        let mut shard = self.shard(id).lock();
        let slot = *shard.pages.get(&id)?;
        let slot = &mut shard.slots[slot];
        slot.used = true;
        Some(slot.page.clone())
    }

    /// Adds a page; others go for it. A page that would take most of the room is not kept.
    pub(super) fn add(&self, id: u64, page: Page) {
        let bytes = page.len() + ENTRY_BYTES;
        if bytes > self.shard_bytes_max / 2 {
            return;
        }
        let mut shard = self.shard(id).lock();
        if shard.pages.contains_key(&id) {
            return;
        }
        while shard.bytes + bytes > self.shard_bytes_max {
            shard.evict();
        }
        let slot = shard.slots.len();
        shard.pages.insert(id, slot);
        shard.slots.push(Slot { id, page, used: false });
        shard.bytes += bytes;
    }

    /// Removes a page whose number gets new contents.
    pub(super) fn forget(&self, id: u64) {
        let mut shard = self.shard(id).lock();
        if let Some(slot) = shard.pages.get(&id).copied() {
            shard.remove(slot);
        }
    }

    /// The bytes in use.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().bytes).sum()
    }
}

impl Shard {
    fn evict(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let Some(slot) = self.slots.get_mut(self.hand) else {
                self.bytes = 0;
                return;
            };
            if !slot.used {
                return self.remove(self.hand);
            }
            slot.used = false;
            self.hand += 1;
        }
    }

    fn remove(&mut self, slot: usize) {
        let removed = self.slots.swap_remove(slot);
        self.pages.remove(&removed.id);
        self.bytes -= removed.page.len() + ENTRY_BYTES;
        if let Some(moved) = self.slots.get(slot) {
            self.pages.insert(moved.id, slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(mark: u8) -> Page {
        let mut bytes = vec![0; 4096];
        // A leaf with one key of one byte.
        (bytes[8], bytes[10], bytes[20], bytes[24], bytes[32]) = (2, 1, 16, 1, mark);
        Page::new(bytes.into()).unwrap()
    }

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let cache = Cache::new(64 * 8192);
        cache.add(1_000_000, page(7));
        for id in 0..10_000 {
            cache.add(id, page(1));
            assert!(cache.get(1_000_000).is_some_and(|page| page.key(0) == Ok(&[7])), "{id}");
        }
        assert!(cache.bytes() <= 64 * 8192 && cache.bytes() > 32 * 8192);
        for id in 0..10_000 {
            cache.forget(id);
        }
        cache.forget(1_000_000);
        assert_eq!(cache.bytes(), 0);
        assert!(cache.get(1_000_000).is_none());
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let cache = Cache::new(0);
        cache.add(1, page(1));
        assert!(cache.get(1).is_none());
    }
}
