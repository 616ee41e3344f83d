//! Sees everything: compares the members with each other, and finds violations.

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

/// A broken invariant, as text.
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

/// The hashes of the entries in a member's log, after an index.
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

    /// Appends entries; an entry replaces the one at its index and all later ones.
    pub(super) fn append<'a>(&mut self, entries: impl Iterator<Item = EntryRef<'a>>) {
        for entry in entries {
            let position = usize::try_from(entry.index - self.before - 1).unwrap_or(usize::MAX);
            self.hashes.truncate(position);
            let data = entry.data.map_or(0, hash_bytes);
            self.hashes.push(mix(mix(entry.term, u64::from(entry.kind.unsigned_abs())), data));
        }
    }

    /// A snapshot has replaced all entries up to an index.
    pub(super) fn restart_after(&mut self, index: u64) {
        *self = Entries { before: index, hashes: Vec::new() };
    }

    fn at(&self, index: u64) -> Option<u64> {
        let position = index.checked_sub(self.before + 1)?;
        self.hashes.get(usize::try_from(position).ok()?).copied()
    }
}

/// The first hash, and the member where it was seen.
type FirstSeen = (u64, MemberId);

/// Everything seen in a run.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// The entry that was applied at each index.
    committed: BTreeMap<u64, FirstSeen>,
    /// The hash of the effects of all entries up to an index.
    chains: BTreeMap<u64, FirstSeen>,
    /// The same hash with the voters and the store's index.
    states: BTreeMap<u64, FirstSeen>,
    /// Hashes of whole stores, by index.
    stores: BTreeMap<u64, FirstSeen>,
    /// The event at each index of the store.
    events: BTreeMap<u64, FirstSeen>,
    /// The index at which each value was written: clients write each only once.
    written: BTreeMap<Vec<u8>, u64>,
    leaders: BTreeMap<u64, MemberId>,
    /// The highest applied index of a member that answered a client.
    acknowledged: u64,
    /// The members as of the highest index at which they changed.
    members: (u64, BTreeSet<MemberId>),
}

impl Oracle {
    /// For a cluster founded by these members.
    pub(super) fn new(founders: &[MemberId]) -> Oracle {
        Oracle { members: (0, founders.iter().copied().collect()), ..Oracle::default() }
    }

    /// A member has applied the entries after `before` up to `to`.
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

    /// Checks the state of a member after its entries up to `tail`.
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

    /// Compares a whole store with those of others at the same index.
    pub(super) fn compare(&mut self, id: MemberId, index: u64, store: &Store) -> Result<(), Violation> {
        agree(&mut self.stores, index, (hash_store(store), id), "stores differ after entry")
    }

    /// A store has sent an event to its watchers.
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

    /// Checks that there is no event between these two indexes, which a watcher did not get.
    pub(super) fn silent(&self, id: MemberId, after: u64, before: u64) -> Result<(), Violation> {
        match self.events.range(after + 1..before.max(after + 1)).next() {
            None => Ok(()),
            Some((index, _)) => Err(Violation::new(format!(
                "a watcher of {} was not told of the event at store index {index}, but of others",
                name(id)
            ))),
        }
    }

    /// A member leads in this term.
    pub(super) fn leads(&mut self, id: MemberId, term: u64) -> Result<(), Violation> {
        let first = *self.leaders.entry(term).or_insert(id);
        if first == id {
            return Ok(());
        }
        Err(Violation::new(format!("two leaders: {} and {} in term {term}", name(first), name(id))))
    }

    /// The leader of the highest term with a leader.
    pub(super) fn newest_leader(&self) -> Option<MemberId> {
        self.leaders.values().next_back().copied()
    }

    /// A member that has applied this index has answered a client.
    pub(super) fn acknowledge(&mut self, applied: u64) {
        self.acknowledged = self.acknowledged.max(applied);
    }

    /// The index up to which no entry may be lost.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The members have changed by what was applied up to `index`.
    pub(super) fn members_are(&mut self, index: u64, members: impl Iterator<Item = MemberId>) {
        if index >= self.members.0 {
            self.members = (index, members.collect());
        }
    }

    /// The latest known members.
    pub(super) fn members(&self) -> &BTreeSet<MemberId> {
        &self.members.1
    }

    /// The hash of the effects of all entries up to the index of a snapshot.
    pub(super) fn chain_at(&self, index: u64) -> u64 {
        self.chains.get(&index).map_or(0, |(chain, _)| *chain)
    }

    /// The number of entries that any member applied.
    pub(super) fn entries(&self) -> u64 {
        self.committed.len() as u64
    }
}

/// Records the first hash at `at`; all later ones must be equal.
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
