//! The order in which password checks are computed.
//!
//! A check takes tens of milliseconds of CPU time, and any client can cause one. So the queue is bounded, and turns are
//! shared: first among sources, then among the users that a source names; the one whose last turn is longest ago comes
//! first. Among those that never had a turn, turns alternate between the oldest and the newest check: a flood neither
//! starves waiting checks nor delays later ones.
//!
//! **Invariant:** nothing here depends on whether a user exists.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;

/// The most waiting checks of all sources. The last of so many would wait a minute on one processor, longer than
/// clients wait.
pub(super) const WAITING_MAX: usize = 1024;

/// The most waiting checks of one source. A proxy is one source for all of its clients.
pub(super) const SOURCE_WAITING_MAX: usize = 256;

/// The most waiting checks of one user from one source. Equal passwords wait as one check.
pub(super) const USER_WAITING_MAX: usize = 16;

/// The most users whose last turn is remembered; beyond it all are forgotten.
const TURNS_MAX: usize = 4096;

/// Where requests come from: an IPv4 address, or an IPv6 network (/64), since one host has many IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Source(u128);

impl Source {
    /// The source of a client with this address; clients without a known address share one source.
    pub(super) fn of(address: Option<IpAddr>) -> Source {
        const HOSTS_OF_A_NETWORK: u128 = u64::MAX as u128;
        match address.map(|address| address.to_canonical()) {
            None => Source(0),
            Some(IpAddr::V4(address)) => Source(address.to_ipv6_mapped().to_bits()),
            Some(IpAddr::V6(address)) => Source(address.to_bits() & !HOSTS_OF_A_NETWORK),
        }
    }
}

/// The source of a check and the user that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Requester {
    pub(super) source: Source,
    /// A hash of the user name in the request.
    pub(super) user: u64,
}

/// Identifies a check that waits or runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// The waiting checks, and the number of running ones.
#[derive(Debug)]
pub(super) struct Queue {
    /// The most checks that run at the same time.
    slots: usize,
    running: usize,
    /// In the order of arrival.
    waiting: Vec<(Ticket, Requester)>,
    last_ticket: u64,
    turn: u64,
    turns_of_sources: HashMap<Source, u64>,
    turns_of_users: HashMap<Requester, u64>,
}

impl Queue {
    /// A queue for `slots` checks at a time.
    pub(super) fn new(slots: usize) -> Queue {
        Queue {
            slots,
            running: 0,
            waiting: Vec::new(),
            last_ticket: 0,
            turn: 0,
            turns_of_sources: HashMap::new(),
            turns_of_users: HashMap::new(),
        }
    }

    /// Adds a check. If the queue is full, displaces another one: the oldest check of the user, or of the source, with the
    /// most waiting checks. That client is the most likely to have given up. Returns the new and the displaced ticket.
    pub(super) fn enqueue(&mut self, requester: Requester) -> (Ticket, Option<Ticket>) {
        let of_source = self.count(|other| other.source == requester.source);
        let displaced = if self.count(|other| other == requester) >= USER_WAITING_MAX {
            self.oldest(|other| other == requester)
        } else if of_source >= SOURCE_WAITING_MAX {
            self.oldest_of_busiest_user(requester.source)
        } else if self.waiting.len() >= WAITING_MAX {
            let source = busiest(self.waiting.iter().map(|(_, requester)| requester.source));
            source.and_then(|source| self.oldest_of_busiest_user(source))
        } else {
            None
        };
        if let Some(displaced) = displaced {
            self.remove(displaced);
        }
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.waiting.push((ticket, requester));
        (ticket, displaced)
    }

    /// The check whose turn it is, if one waits and a slot is free.
    /// [`finish_turn`](Queue::finish_turn) ends the turn.
    pub(super) fn next(&mut self) -> Option<Ticket> {
        if self.running >= self.slots || self.waiting.is_empty() {
            return None;
        }
        self.turn += 1;
        let newest = self.turn.is_multiple_of(2);
        let candidates = || self.waiting.iter().map(|(_, requester)| *requester);
        let source = least_recently_served(
            candidates().map(|requester| requester.source),
            &self.turns_of_sources,
            newest,
        )?;
        let requester = least_recently_served(
            candidates().filter(|requester| requester.source == source),
            &self.turns_of_users,
            newest,
        )?;
        let mut of_user = (0..self.waiting.len()).filter(|at| self.waiting[*at].1 == requester);
        let at = if newest { of_user.next_back() } else { of_user.next() }?;
        let (ticket, _) = self.waiting.remove(at);
        if self.turns_of_users.len() >= TURNS_MAX {
            self.forget_turns();
        }
        self.turns_of_sources.insert(source, self.turn);
        self.turns_of_users.insert(requester, self.turn);
        self.running += 1;
        Some(ticket)
    }

    /// Removes a waiting check.
    pub(super) fn remove(&mut self, ticket: Ticket) {
        if let Ok(at) = self.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket) {
            self.waiting.remove(at);
        }
    }

    /// Ends a turn: the slot is free again.
    pub(super) fn finish_turn(&mut self) {
        assert!(self.running > 0, "a turn ends that never began");
        self.running -= 1;
        if self.running == 0 && self.waiting.is_empty() {
            self.forget_turns();
        }
    }

    fn forget_turns(&mut self) {
        self.turns_of_sources.clear();
        self.turns_of_users.clear();
    }

    fn count(&self, matches: impl Fn(Requester) -> bool) -> usize {
        self.waiting.iter().filter(|(_, requester)| matches(*requester)).count()
    }

    fn oldest(&self, matches: impl Fn(Requester) -> bool) -> Option<Ticket> {
        self.waiting.iter().find(|(_, requester)| matches(*requester)).map(|(ticket, _)| *ticket)
    }

    fn oldest_of_busiest_user(&self, source: Source) -> Option<Ticket> {
        let of_source = self
            .waiting
            .iter()
            .map(|(_, requester)| *requester)
            .filter(|requester| requester.source == source);
        let requester = busiest(of_source)?;
        self.oldest(|other| other == requester)
    }
}

/// The key whose last turn is longest ago. Of several such keys: the last one if `newest`, else the first.
fn least_recently_served<K: Hash + Eq + Copy>(
    keys: impl DoubleEndedIterator<Item = K>,
    turns: &HashMap<K, u64>,
    newest: bool,
) -> Option<K> {
    let last_turn = |key: &K| turns.get(key).copied().unwrap_or(0);
    // Of equal keys, min_by_key returns the first.
    if newest { keys.rev().min_by_key(last_turn) } else { keys.min_by_key(last_turn) }
}

/// The most frequent key; of several, the one that came first.
fn busiest<K: Hash + Eq + Copy>(keys: impl Iterator<Item = K>) -> Option<K> {
    let (mut counts, mut order, mut known) = (HashMap::new(), Vec::new(), HashSet::new());
    for key in keys {
        *counts.entry(key).or_insert(0_usize) += 1;
        if known.insert(key) {
            order.push(key);
        }
    }
    // Of equal keys, max_by_key returns the last: in reverse order, that is the one that came first.
    order.into_iter().rev().max_by_key(|key| counts[key])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u8) -> Source {
        Source::of(Some(IpAddr::from([10, 0, 0, number])))
    }

    fn requester(from: u8, user: u64) -> Requester {
        Requester { source: source(from), user }
    }

    /// Adds a check for `requester`; the queue must have room.
    fn enqueue(queue: &mut Queue, requester: Requester) -> Ticket {
        let (ticket, displaced) = queue.enqueue(requester);
        assert_eq!(displaced, None, "there is room");
        ticket
    }

    /// The number of turns until this check has its turn, in a queue with one slot.
    fn turns_until(queue: &mut Queue, wanted: Ticket) -> usize {
        for turns in 1..=WAITING_MAX {
            let ticket = queue.next().expect("somebody waits");
            queue.finish_turn();
            if ticket == wanted {
                return turns;
            }
        }
        panic!("{wanted:?} has no turn");
    }

    #[test]
    fn networks_of_ipv6_are_one_source() {
        let of = |text: &str| Source::of(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.2"), of("10.0.0.1"));
    }

    #[test]
    fn no_more_run_than_there_are_slots() {
        let mut queue = Queue::new(2);
        for user in 0..3 {
            enqueue(&mut queue, requester(1, user));
        }
        assert!(queue.next().is_some() && queue.next().is_some());
        assert_eq!(queue.next(), None);
        queue.finish_turn();
        assert!(queue.next().is_some());
    }

    #[test]
    fn a_flood_for_one_user_holds_up_no_other() {
        let mut queue = Queue::new(1);
        let mut displaced = 0;
        for _ in 0..600 {
            displaced += usize::from(queue.enqueue(requester(1, 7)).1.is_some());
        }
        assert_eq!(displaced, 600 - USER_WAITING_MAX);
        let other = enqueue(&mut queue, requester(1, 8));
        assert!(turns_until(&mut queue, other) <= 2);
    }

    #[test]
    fn a_flood_of_names_holds_up_neither_another_source_nor_who_comes_last() {
        let mut queue = Queue::new(1);
        for user in 0..600 {
            queue.enqueue(requester(1, user));
        }
        let last = queue.enqueue(requester(1, 1000)).0;
        let elsewhere = enqueue(&mut queue, requester(2, 0));
        assert!(turns_until(&mut queue, elsewhere) <= 2);
        assert!(turns_until(&mut queue, last) <= 3);
    }

    #[test]
    fn names_that_had_their_turn_come_after_those_that_did_not() {
        let mut queue = Queue::new(1);
        // Each name comes again as soon as it is answered.
        for user in 0..50 {
            enqueue(&mut queue, requester(1, user));
        }
        let answered: Vec<Ticket> =
            (0..50).filter_map(|_| queue.next().inspect(|_| queue.running -= 1)).collect();
        assert_eq!(answered.len(), 50);
        for user in 0..50 {
            enqueue(&mut queue, requester(1, user));
        }
        let new = enqueue(&mut queue, requester(1, 99));
        for user in 0..50 {
            enqueue(&mut queue, requester(1, user));
        }
        assert_eq!(turns_until(&mut queue, new), 1);
    }

    #[test]
    fn who_waits_has_a_turn_while_others_keep_coming() {
        let mut queue = Queue::new(1);
        let first = enqueue(&mut queue, requester(1, 0));
        for user in 1..100 {
            queue.enqueue(requester(1, user));
            let ticket = queue.next().unwrap();
            queue.running -= 1;
            if ticket == first {
                return;
            }
        }
        panic!("the first one starves");
    }

    #[test]
    fn what_waits_is_bounded_and_the_busiest_pays() {
        let mut queue = Queue::new(1);
        let rare = enqueue(&mut queue, requester(9, 1));
        for from in 0..8 {
            for user in 0..1000 {
                queue.enqueue(requester(from, user));
            }
        }
        assert_eq!(queue.waiting.len(), WAITING_MAX);
        for from in 0..8 {
            assert!(queue.count(|requester| requester.source == source(from)) <= SOURCE_WAITING_MAX);
        }
        assert!(queue.count(|other| other == requester(9, 1)) == 1, "a source with one check keeps it");
        assert!(turns_until(&mut queue, rare) <= 9);
        for _ in 0..10_000 {
            let Some(_) = queue.next() else { break };
            queue.finish_turn();
        }
        assert!(queue.waiting.is_empty() && queue.turns_of_users.is_empty(), "nothing is left of it");
    }

    #[test]
    fn who_leaves_has_no_turn() {
        let mut queue = Queue::new(1);
        let (first, second) = (enqueue(&mut queue, requester(1, 1)), enqueue(&mut queue, requester(1, 1)));
        queue.remove(first);
        queue.remove(first);
        assert_eq!(queue.next(), Some(second));
        queue.remove(second);
        queue.finish_turn();
        assert_eq!(queue.next(), None);
    }
}
