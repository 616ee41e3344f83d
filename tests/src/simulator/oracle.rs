//! Who sees everything: compares what the members do with what the others have done, and finds what must not be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use shared::event::Event;
use shared::id::MemberId;
use shared::pb;
use shared::store::Store;
use shared::time::UnixNanos;
use shared::wal::EntryRef;

use super::process::hash_event;
use super::trace::{hash_bytes, mix};
use super::world::name;

/// Stores are compared in full whenever the applied index is a multiple of this.
const COMPARED_EVERY: u64 = 8;

/// What must not be, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(String);

impl Violation {
    pub(super) fn new(text: impl Into<String>) -> Violation {
        Violation(text.into())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hashes of what a member's log holds, after some index.
#[derive(Debug)]
pub(super) struct Entries {
    before: u64,
    hashes: Vec<u64>,
}

impl Entries {
    pub(super) fn new<'a>(before: u64, entries: impl Iterator<Item = EntryRef<'a>>) -> Entries {
        let mut log = Entries { before, hashes: Vec::new() };
        log.append(entries);
        log
    }

    /// Takes entries over; one replaces that of its index and all after it.
    pub(super) fn append<'a>(&mut self, entries: impl Iterator<Item = EntryRef<'a>>) {
        for entry in entries {
            let position = usize::try_from(entry.index - self.before - 1).unwrap_or(usize::MAX);
            self.hashes.truncate(position);
            let data = entry.data.map_or(0, hash_bytes);
            self.hashes.push(mix(mix(entry.term, u64::from(entry.kind.unsigned_abs())), data));
        }
    }

    /// A snapshot stands for all up to an index.
    pub(super) fn restart_after(&mut self, index: u64) {
        *self = Entries { before: index, hashes: Vec::new() };
    }

    fn at(&self, index: u64) -> Option<u64> {
        let position = index.checked_sub(self.before + 1)?;
        self.hashes.get(usize::try_from(position).ok()?).copied()
    }
}

/// What was seen first, and where.
type FirstSeen = (u64, MemberId);

/// All that was ever seen.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The entry that was applied at each index.
    committed: BTreeMap<u64, FirstSeen>,
    /// What all entries up to an index came to.
    chains: BTreeMap<u64, FirstSeen>,
    /// The same with the voters and the index of the store.
    states: BTreeMap<u64, FirstSeen>,
    /// Hashes of whole stores, by index.
    stores: BTreeMap<u64, FirstSeen>,
    /// The event at each index of the store.
    events: BTreeMap<u64, FirstSeen>,
    /// The index at which each value was written: clients ask for each once.
    written: BTreeMap<Vec<u8>, u64>,
    leaders: BTreeMap<u64, MemberId>,
    /// Everything up to this index was applied where somebody was told so.
    acknowledged: u64,
    /// The members as of the highest index at which they changed.
    members: (u64, BTreeSet<MemberId>),
}

impl Oracle {
    /// A cluster that begins with these members.
    pub(super) fn new(founders: &[MemberId]) -> Oracle {
        Oracle { members: (0, founders.iter().copied().collect()), ..Oracle::default() }
    }

    /// A member has applied its entries after `before` up to `to`.
    pub(super) fn applied(
        &mut self,
        id: MemberId,
        log: &Entries,
        before: u64,
        to: u64,
    ) -> Result<(), Violation> {
        for index in before + 1..=to {
            let Some(hash) = log.at(index) else {
                return Err(Violation::new(format!(
                    "{} applied entry {index}, which its log does not hold",
                    name(id)
                )));
            };
            agree(&mut self.committed, index, (hash, id), "logs differ: entry")?;
        }
        Ok(())
    }

    /// What a member has become by its entries up to `tail`.
    pub(super) fn state(
        &mut self,
        id: MemberId,
        tail: &pb::SnapshotMetadata,
        chain: u64,
        store: &Store,
    ) -> Result<(), Violation> {
        let index = tail.index;
        let voters = tail.conf_state.nodes.iter().fold(tail.term, |hash, id| mix(hash, *id));
        let chain_here = (mix(chain, mix(voters, store.index())), id);
        agree(&mut self.states, index, chain_here, "answers, voters or expiries differ: all up to entry")?;
        self.chains.insert(index, (chain, id));
        if index.is_multiple_of(COMPARED_EVERY) { self.compare(id, index, store) } else { Ok(()) }
    }

    /// Compares a whole store with what others were at the same index.
    pub(super) fn compare(&mut self, id: MemberId, index: u64, store: &Store) -> Result<(), Violation> {
        agree(&mut self.stores, index, (hash_store(store), id), "stores differ after entry")
    }

    /// A store has told its watchers of a change.
    pub(super) fn event(&mut self, id: MemberId, event: &Event) -> Result<(), Violation> {
        agree(&mut self.events, event.index, (hash_event(event), id), "events differ: store index")?;
        let Some(value) = event.node().value() else { return Ok(()) };
        let first = *self.written.entry(value.to_vec()).or_insert(event.index);
        if first == event.index {
            return Ok(());
        }
        let value = String::from_utf8_lossy(value);
        Err(Violation::new(format!("a request happened twice: {value} at index {first} and {}", event.index)))
    }

    /// A watcher has got no event between these two, or after the first one.
    pub(super) fn silent(&self, id: MemberId, after: u64, before: u64) -> Result<(), Violation> {
        match self.events.range(after + 1..before.max(after + 1)).next() {
            None => Ok(()),
            Some((index, _)) => Err(Violation::new(format!(
                "a watcher of {} was not told of the event at store index {index}, but of others",
                name(id)
            ))),
        }
    }

    /// A member leads.
    pub(super) fn leads(&mut self, id: MemberId, term: u64) -> Result<(), Violation> {
        let first = *self.leaders.entry(term).or_insert(id);
        if first == id {
            return Ok(());
        }
        Err(Violation::new(format!("two leaders: {} and {} in term {term}", name(first), name(id))))
    }

    /// Who leads the highest term that has had a leader.
    pub(super) fn newest_leader(&self) -> Option<MemberId> {
        self.leaders.values().next_back().copied()
    }

    /// A client was answered by a member that has applied so much.
    pub(super) fn acknowledge(&mut self, applied: u64) {
        self.acknowledged = self.acknowledged.max(applied);
    }

    /// Everything up to here must never be lost.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The members have changed by what was applied up to `index`.
    pub(super) fn members_are(&mut self, index: u64, members: impl Iterator<Item = MemberId>) {
        if index >= self.members.0 {
            self.members = (index, members.collect());
        }
    }

    /// The members as far as anybody knows.
    pub(super) fn members(&self) -> &BTreeSet<MemberId> {
        &self.members.1
    }

    /// What all entries up to the index of a snapshot came to.
    pub(super) fn chain_at(&self, index: u64) -> u64 {
        self.chains.get(&index).map_or(0, |(chain, _)| *chain)
    }

    /// How many entries were applied by anybody.
    pub(super) fn entries(&self) -> u64 {
        self.committed.len() as u64
    }
}

/// The first to come somewhere says what is there; all others must find the same.
fn agree(
    known: &mut BTreeMap<u64, FirstSeen>,
    at: u64,
    found: FirstSeen,
    what: &str,
) -> Result<(), Violation> {
    let first = *known.entry(at).or_insert(found);
    if first.0 == found.0 {
        return Ok(());
    }
    Err(Violation::new(format!("{what} {at} is another one at {} than at {}", name(found.1), name(first.1))))
}

/// The tree of a store, with all indexes and times.
fn hash_store(store: &Store) -> u64 {
    let mut json = Vec::new();
    match store.get(b"/", true, true) {
        Ok(event) => event.write_json(&mut json, UnixNanos::ZERO),
        Err(error) => unreachable!("there is always a root: {error}"),
    }
    mix(store.index(), hash_bytes(&json))
}
