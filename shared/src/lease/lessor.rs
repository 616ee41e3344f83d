//! All leases of a member, and the keys attached to them.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

use super::expiry::{CHECK_INTERVAL, CHECKPOINTS_MAX, Queue, RETRY_INTERVAL, REVOKES_PER_CHECK_MAX, Spread};
use super::{LeaseError, LeaseId, NO_LEASE, TTL_MAX};
use crate::time::Moment;
use crate::v3::pb::etcdserverpb::LeaseCheckpoint;
use crate::v3::pb::leasepb;

/// What is configured about leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The least time to live, in seconds; see [`minimum_ttl`].
    pub ttl_min: i64,
    /// Whether the remaining time to live of long leases is put into the log every now and then.
    pub checkpoints: Option<Checkpointing>,
}

/// The settings of checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpointing {
    /// The time between two checkpoints of a lease, 5 min by default. Leases with less left have none.
    pub interval: Duration,
    /// Whether the database keeps them, so that they outlive a restart.
    pub persist: bool,
}

/// The least time to live at this election timeout, in seconds: a lease must outlive an election.
pub fn minimum_ttl(election_timeout: Duration) -> i64 {
    let nanos = election_timeout.as_nanos() * 3 / 2;
    i64::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(TTL_MAX).clamp(1, TTL_MAX)
}

/// A new lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The time to live in force, in seconds.
    pub ttl: i64,
    /// What the database keeps of it.
    pub record: leasepb::Lease,
}

/// The outcome of a keep-alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAlive {
    /// The full time to live in seconds, which begins anew.
    pub ttl: i64,
    /// To be proposed: the log has a checkpoint that is no longer true, and that would cut the lease short after the
    /// next change of the leader.
    pub checkpoint: Option<LeaseCheckpoint>,
}

/// What a primary lessor knows of the time of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeToLive {
    /// The time to live that it was granted with, in seconds.
    pub granted: i64,
    /// Whole seconds that are left; 0 after the expiry, until the lease is revoked.
    pub remaining: i64,
}

/// A lessor as the database has it.
#[derive(Debug)]
pub struct Restored {
    /// A secondary lessor with all leases and keys.
    pub lessor: Lessor,
    /// Keys whose lease does not exist. They were left as they are: no lease removes them.
    pub orphans: Vec<(Bytes, LeaseId)>,
}

/// All leases of a member.
///
/// - *Applied entries*: [`grant`](Lessor::grant), [`revoke`](Lessor::revoke), [`attach`](Lessor::attach),
///   [`detach`](Lessor::detach), [`checkpoint`](Lessor::checkpoint): the same on every member.
/// - *Leadership*: [`promote`](Lessor::promote), [`demote`](Lessor::demote).
/// - *Questions to the primary lessor*: [`keep_alive`](Lessor::keep_alive), [`time_to_live`](Lessor::time_to_live).
/// - *What it wants to be proposed*: [`expired`](Lessor::expired), [`checkpoints`](Lessor::checkpoints), at the
///   latest at [`next_deadline`](Lessor::next_deadline).
///
/// Every operation costs O(log n) of the leases or attached keys, apart from promotion and the lists.
#[derive(Debug)]
pub struct Lessor {
    settings: Settings,
    leases: HashMap<LeaseId, Lease>,
    /// By lease, then by key: what a revocation removes, in its order.
    attached: BTreeSet<(LeaseId, Bytes)>,
    /// The lease of each key. It shares the bytes with `attached`.
    of_key: HashMap<Bytes, LeaseId>,
    granted: u64,
    primary: Option<Primary>,
}

#[derive(Debug)]
struct Lease {
    granted_ttl: i64,
    /// Seconds that were left at the last checkpoint, 0 for none.
    remaining_ttl: i64,
    /// The number of leases before it, for the order of leases that expire together.
    order: u64,
    /// `None` on a secondary lessor.
    clock: Option<Clock>,
}

/// What the primary lessor keeps of a lease.
#[derive(Debug, Clone, Copy)]
struct Clock {
    expiry: Moment,
    /// Its place in the queue: the expiry, later the next try of its revocation.
    due: Moment,
    /// Its place in the queue of checkpoints.
    checkpoint: Option<Moment>,
}

/// The state of a primary lessor.
#[derive(Debug, Default)]
struct Primary {
    expiries: Queue,
    checkpoints: Queue,
    /// No lease expires, and no checkpoint is made, before.
    next_expiries: Moment,
    next_checkpoints: Moment,
}

impl Lease {
    fn new(record: &leasepb::Lease, ttl_min: i64, order: u64) -> Lease {
        let granted_ttl = record.ttl.clamp(ttl_min, TTL_MAX.max(ttl_min));
        let remaining_ttl = record.remaining_ttl.clamp(0, granted_ttl);
        Lease { granted_ttl, remaining_ttl, order, clock: None }
    }

    fn record(&self, id: LeaseId) -> leasepb::Lease {
        leasepb::Lease { id, ttl: self.granted_ttl, remaining_ttl: self.remaining_ttl }
    }

    /// The time to live after a change of the leader.
    fn ttl_left(&self) -> i64 {
        if self.remaining_ttl > 0 { self.remaining_ttl } else { self.granted_ttl }
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

/// Whole seconds, a started one counts if `round_up`.
fn whole_seconds(time: Duration, round_up: bool) -> i64 {
    let started = u64::from(round_up && time.subsec_nanos() > 0);
    i64::try_from(time.as_secs().saturating_add(started)).unwrap_or(i64::MAX)
}

impl Lessor {
    /// A secondary lessor without leases.
    pub fn new(settings: Settings) -> Lessor {
        Lessor {
            settings,
            leases: HashMap::new(),
            attached: BTreeSet::new(),
            of_key: HashMap::new(),
            granted: 0,
            primary: None,
        }
    }

    /// The lessor of a database: its records, and the keys whose present version has a lease. A record whose time to
    /// live is below the minimum is raised to it.
    pub fn restore(
        settings: Settings,
        records: impl IntoIterator<Item = leasepb::Lease>,
        keys: impl IntoIterator<Item = (Bytes, LeaseId)>,
    ) -> Restored {
        let mut lessor = Lessor::new(settings);
        for record in records {
            let order = lessor.granted;
            lessor.granted += 1;
            lessor.leases.insert(record.id, Lease::new(&record, settings.ttl_min, order));
        }
        let mut orphans = Vec::new();
        for (key, id) in keys {
            if lessor.attach(key.clone(), id).is_err() {
                orphans.push((key, id));
            }
        }
        Restored { lessor, orphans }
    }

    /// The number of leases.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there are no leases.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Whether there is a lease with this id.
    pub fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Whether this is the lessor of the leader.
    pub fn is_primary(&self) -> bool {
        self.primary.is_some()
    }

    /// What the database keeps of a lease.
    pub fn record(&self, id: LeaseId) -> Option<leasepb::Lease> {
        self.leases.get(&id).map(|lease| lease.record(id))
    }

    /// The keys of a lease, in their order.
    pub fn keys(&self, id: LeaseId) -> impl Iterator<Item = &Bytes> {
        let from = (Bound::Included((id, Bytes::new())), Bound::Unbounded);
        self.attached.range(from).take_while(move |(lease, _)| *lease == id).map(|(_, key)| key)
    }

    /// The lease that a key is attached to, [`NO_LEASE`] for none.
    pub fn lease_of(&self, key: &[u8]) -> LeaseId {
        self.of_key.get(key).copied().unwrap_or(NO_LEASE)
    }

    /// The number of keys that are attached to a lease.
    pub fn attached_keys(&self) -> usize {
        self.of_key.len()
    }

    /// All leases, by their expiry; those of a secondary lessor, which does not know it, by their id. O(n log n).
    pub fn leases(&self) -> Vec<LeaseId> {
        let place = |(id, lease): (&LeaseId, &Lease)| match lease.clock {
            Some(clock) => (Some(clock.expiry), lease.order, *id),
            None => (None, 0, *id),
        };
        let mut leases: Vec<_> = self.leases.iter().map(place).collect();
        leases.sort_unstable();
        leases.into_iter().map(|(_, _, id)| id).collect()
    }

    /// Applies a grant. The id was chosen before it was proposed; a time to live below the minimum is raised to it.
    /// `now` matters on the primary lessor alone.
    ///
    /// # Errors
    /// [`NotFound`](LeaseError::NotFound) for id 0, [`TtlTooLarge`](LeaseError::TtlTooLarge),
    /// [`Exists`](LeaseError::Exists).
    pub fn grant(&mut self, id: LeaseId, ttl: i64, now: Moment) -> Result<Grant, LeaseError> {
        if id == NO_LEASE {
            return Err(LeaseError::NotFound);
        }
        if ttl > TTL_MAX {
            return Err(LeaseError::TtlTooLarge);
        }
        if self.contains(id) {
            return Err(LeaseError::Exists);
        }
        let asked = leasepb::Lease { id, ttl, remaining_ttl: 0 };
        let lease = Lease::new(&asked, self.settings.ttl_min, self.granted);
        self.granted += 1;
        let grant = Grant { ttl: lease.granted_ttl, record: lease.record(id) };
        let expiry = now + seconds(lease.granted_ttl);
        self.leases.insert(id, lease);
        self.set_expiry(id, expiry, now);
        Ok(grant)
    }

    /// Applies a revocation: removes the lease and detaches its keys, which the caller removes from the store in this
    /// order, in one revision. O(keys · log n).
    ///
    /// # Errors
    /// [`NotFound`](LeaseError::NotFound).
    pub fn revoke(&mut self, id: LeaseId) -> Result<Vec<Bytes>, LeaseError> {
        let lease = self.leases.remove(&id).ok_or(LeaseError::NotFound)?;
        if let (Some(primary), Some(clock)) = (&mut self.primary, lease.clock) {
            primary.remove(id, clock);
        }
        let keys: Vec<Bytes> = self.keys(id).cloned().collect();
        for key in &keys {
            self.of_key.remove(key);
            self.attached.remove(&(id, key.clone()));
        }
        if self.of_key.len() * 4 < self.of_key.capacity() {
            self.of_key.shrink_to(self.of_key.len() * 2);
        }
        if self.leases.len() * 4 < self.leases.capacity() {
            self.leases.shrink_to(self.leases.len() * 2);
        }
        Ok(keys)
    }

    /// Attaches a key to this lease instead of the one that it had; [`NO_LEASE`] detaches it. The bytes are kept:
    /// pass those of the key index, not a slice of a large request.
    ///
    /// # Errors
    /// [`NotFound`](LeaseError::NotFound) if there is no such lease; the key is as before then.
    pub fn attach(&mut self, key: Bytes, id: LeaseId) -> Result<(), LeaseError> {
        if id == NO_LEASE {
            self.detach(&key);
            return Ok(());
        }
        if !self.contains(id) {
            return Err(LeaseError::NotFound);
        }
        let previous = self.of_key.insert(key.clone(), id);
        if previous == Some(id) {
            return Ok(());
        }
        if let Some(previous) = previous {
            self.attached.remove(&(previous, key.clone()));
        }
        self.attached.insert((id, key));
        Ok(())
    }

    /// Detaches a key that was put without a lease, or removed. Returns its lease, [`NO_LEASE`] for none.
    pub fn detach(&mut self, key: &[u8]) -> LeaseId {
        let Some((key, id)) = self.of_key.remove_entry(key) else { return NO_LEASE };
        self.attached.remove(&(id, key));
        id
    }

    /// Applies a checkpoint: what is left of a lease counts after the next change of the leader instead of its full time
    /// to live; 0 for the full one. Returns the record if the database is to keep it.
    ///
    /// # Errors
    /// [`NotFound`](LeaseError::NotFound): the lease was revoked in the meantime.
    pub fn checkpoint(&mut self, checkpoint: &LeaseCheckpoint) -> Result<Option<leasepb::Lease>, LeaseError> {
        let id = checkpoint.id;
        let lease = self.leases.get_mut(&id).ok_or(LeaseError::NotFound)?;
        lease.remaining_ttl = checkpoint.remaining_ttl.clamp(0, lease.granted_ttl);
        let persist = self.settings.checkpoints.is_some_and(|settings| settings.persist);
        Ok(persist.then(|| lease.record(id)))
    }

    /// Makes it the primary lessor: each lease has its full (or checkpointed) time to live again, and `extend_by`, an
    /// election timeout, for the time without a leader. If many would expire together they are spread, never to
    /// earlier. O(n log n).
    pub fn promote(&mut self, now: Moment, extend_by: Duration) {
        self.demote();
        self.primary = Some(Primary::default());
        let mut expiries: Vec<(Moment, u64, LeaseId)> = self
            .leases
            .iter()
            .map(|(id, lease)| (now + seconds(lease.ttl_left()) + extend_by, lease.order, *id))
            .collect();
        expiries.sort_unstable();
        let mut spread = Spread::default();
        for (expiry, _, id) in expiries {
            self.set_expiry(id, spread.next(expiry), now);
        }
    }

    /// Makes it a secondary lessor, which does not know how much time is left.
    pub fn demote(&mut self) {
        if self.primary.take().is_some() {
            self.leases.values_mut().for_each(|lease| lease.clock = None);
        }
    }

    /// Begins the time to live anew.
    ///
    /// # Errors
    /// [`NotPrimary`](LeaseError::NotPrimary): ask the leader. [`NotFound`](LeaseError::NotFound).
    /// [`Expired`](LeaseError::Expired): too late, the revocation may be in the log.
    pub fn keep_alive(&mut self, id: LeaseId, now: Moment) -> Result<KeepAlive, LeaseError> {
        if self.primary.is_none() {
            return Err(LeaseError::NotPrimary);
        }
        let lease = self.leases.get(&id).ok_or(LeaseError::NotFound)?;
        if lease.clock.is_some_and(|clock| clock.expiry <= now) {
            return Err(LeaseError::Expired);
        }
        let ttl = lease.granted_ttl;
        let outdated = self.settings.checkpoints.is_some() && lease.remaining_ttl > 0;
        self.set_expiry(id, now + seconds(ttl), now);
        Ok(KeepAlive { ttl, checkpoint: outdated.then_some(LeaseCheckpoint { id, remaining_ttl: 0 }) })
    }

    /// How much time a lease has.
    ///
    /// # Errors
    /// [`NotPrimary`](LeaseError::NotPrimary): ask the leader. [`NotFound`](LeaseError::NotFound).
    pub fn time_to_live(&self, id: LeaseId, now: Moment) -> Result<TimeToLive, LeaseError> {
        if self.primary.is_none() {
            return Err(LeaseError::NotPrimary);
        }
        let lease = self.leases.get(&id).ok_or(LeaseError::NotFound)?;
        let left = lease.clock.map_or(Duration::ZERO, |clock| clock.expiry - now);
        Ok(TimeToLive { granted: lease.granted_ttl, remaining: whole_seconds(left, false) })
    }

    /// Leases to revoke, at most `max`, those that expired first first. They are looked through every 500 ms, and at
    /// most 500 are returned then: before, nothing is returned. A lease that was not revoked is returned again after
    /// 3 s.
    pub fn expired(&mut self, now: Moment, max: usize) -> Vec<LeaseId> {
        let Some(primary) = &mut self.primary else { return Vec::new() };
        if now < primary.next_expiries || primary.expiries.first().is_none_or(|due| due > now) {
            return Vec::new();
        }
        primary.next_expiries = now + CHECK_INTERVAL;
        let mut expired = Vec::new();
        while expired.len() < max.min(REVOKES_PER_CHECK_MAX) {
            let Some(id) = primary.expiries.pop_due(now) else { break };
            let retry = now + RETRY_INTERVAL;
            primary.expiries.insert(retry, id);
            if let Some(clock) = self.leases.get_mut(&id).and_then(|lease| lease.clock.as_mut()) {
                clock.due = retry;
            }
            expired.push(id);
        }
        expired
    }

    /// Checkpoints to propose, in one entry: what is left of leases with a long time to live. There are none unless
    /// they are configured. At most 1000 every 500 ms.
    pub fn checkpoints(&mut self, now: Moment) -> Vec<LeaseCheckpoint> {
        let (Some(settings), Some(primary)) = (self.settings.checkpoints, &mut self.primary) else {
            return Vec::new();
        };
        if now < primary.next_checkpoints || primary.checkpoints.first().is_none_or(|due| due > now) {
            return Vec::new();
        }
        primary.next_checkpoints = now + CHECK_INTERVAL;
        let mut checkpoints = Vec::new();
        while checkpoints.len() < CHECKPOINTS_MAX {
            let Some(id) = primary.checkpoints.pop_due(now) else { break };
            let Some(lease) = self.leases.get_mut(&id) else { continue };
            let Some(clock) = &mut lease.clock else { continue };
            let left = clock.expiry - now;
            // The next one is due also if this one never gets into the log.
            clock.checkpoint = (left > settings.interval).then_some(now + settings.interval);
            if let Some(due) = clock.checkpoint {
                primary.checkpoints.insert(due, id);
            }
            let remaining_ttl = whole_seconds(left, true);
            if remaining_ttl > 0 && remaining_ttl < lease.granted_ttl {
                checkpoints.push(LeaseCheckpoint { id, remaining_ttl });
            }
        }
        checkpoints
    }

    /// When [`expired`](Lessor::expired) or [`checkpoints`](Lessor::checkpoints) has something to return, unless
    /// something changes before.
    pub fn next_deadline(&self) -> Option<Moment> {
        let primary = self.primary.as_ref()?;
        let expiries = primary.expiries.first().map(|due| due.max(primary.next_expiries));
        let checkpoints = primary.checkpoints.first().map(|due| due.max(primary.next_checkpoints));
        expiries.into_iter().chain(checkpoints).min()
    }

    /// Moves a lease in the queues of a primary lessor.
    fn set_expiry(&mut self, id: LeaseId, expiry: Moment, now: Moment) {
        let (Some(primary), Some(lease)) = (&mut self.primary, self.leases.get_mut(&id)) else { return };
        if let Some(clock) = lease.clock {
            primary.remove(id, clock);
        }
        let interval = self.settings.checkpoints.map(|settings| settings.interval);
        let checkpoint = interval.filter(|interval| expiry - now > *interval).map(|interval| now + interval);
        lease.clock = Some(Clock { expiry, due: expiry, checkpoint });
        primary.expiries.insert(expiry, id);
        if let Some(due) = checkpoint {
            primary.checkpoints.insert(due, id);
        }
    }

    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.attached.len(), self.of_key.len());
        for (id, key) in &self.attached {
            assert_eq!(self.of_key.get(key), Some(id));
            assert!(self.contains(*id));
        }
        let clocks = self.leases.values().filter(|lease| lease.clock.is_some()).count();
        match &self.primary {
            None => assert_eq!(clocks, 0),
            Some(primary) => {
                assert_eq!(clocks, self.leases.len());
                assert_eq!(primary.expiries.len(), clocks);
                let due = self.leases.values().filter_map(|lease| lease.clock?.checkpoint).count();
                assert_eq!(primary.checkpoints.len(), due);
            }
        }
    }
}

impl Primary {
    fn remove(&mut self, id: LeaseId, clock: Clock) {
        self.expiries.remove(clock.due, id);
        if let Some(due) = clock.checkpoint {
            self.checkpoints.remove(due, id);
        }
    }
}
