//! The world of one run: hosts, the network between them, clients, and a queue of what happens when.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::{Bytes, BytesMut};
use etcd::member::{Kind, Message, Role};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::disk::SimDisk;
use shared::id::MemberId;
use shared::pb;
use shared::time::UnixNanos;

use super::clients::{Clients, Wish};
use super::network::Network;
use super::oracle::{Oracle, Violation};
use super::plan::{Bug, MILLISECOND, Micros, Plan, SECOND, TICK};
use super::process::{self, Begin, Effect, Halt, Process, Stopped, Ticket};
use super::trace::Trace;

/// The time at which all runs begin.
const EPOCH: i64 = 1_700_000_000_000_000_000;
/// How long a client waits for an answer.
const PATIENCE: (Micros, Micros) = (1500 * MILLISECOND, 5 * SECOND);
/// How long a client asks the same member.
const FIDELITY: Micros = 8 * SECOND;
/// How long a healthy cluster may take until it has a leader, takes writes and all members are equal.
const RECOVERY_MAX: Micros = 60 * SECOND;
/// Ticks between two looks for keys that have expired.
const EXPIRY_TICKS: u64 = 3;

/// A machine: what stays when the process on it ends.
pub(super) struct Host {
    pub(super) disk: SimDisk,
    pub(super) process: Option<Process>,
    /// Numbers the processes.
    pub(super) life: u64,
    /// Its member is no longer one of the cluster.
    pub(super) gone: bool,
    /// Nothing happens on it before this time.
    pub(super) paused_until: Micros,
    /// Until when its disk is slow, and how long a sync takes then.
    pub(super) slow: (Micros, Micros),
    /// Added to the right time.
    pub(super) clock_offset: i64,
    /// How much faster its clock runs, in parts of a million.
    drift: i64,
    ticks: u64,
    /// An operation of its disk is going to fail, or has failed.
    pub(super) disk_fails: bool,
}

/// What can happen.
enum What {
    Tick(MemberId, u64),
    Deliver(Box<Message>),
    /// The disk has done what it was at work on.
    Written(MemberId, u64),
    Saved(MemberId, u64),
    Start(MemberId),
    /// A host loses its power for so long.
    Crash(MemberId, Micros),
    /// A member stands for election.
    Campaign(MemberId),
    /// A client asks for the next thing.
    Client(usize),
    /// A request reaches a host that was paused.
    Arrive(MemberId, u64, Ticket, Wish),
    /// A client gives up waiting.
    Deadline(Ticket),
    /// A member is told by others that it is none.
    Expelled(MemberId),
    /// A member hears that a snapshot for another one did, or did not, arrive.
    SnapshotSent(MemberId, u64, MemberId, bool),
    /// A member hears that messages to another one do not arrive.
    Unreachable(MemberId, u64, MemberId),
    Fault,
    /// Faults end.
    Heal,
    /// Whether all is well again.
    Inspect,
}

struct Event {
    at: Micros,
    number: u64,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.number == other.number
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    /// The earliest is the greatest.
    fn cmp(&self, other: &Event) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// Everything.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: StdRng,
    pub(super) now: Micros,
    queue: BinaryHeap<Event>,
    events: u64,
    pub(super) hosts: BTreeMap<MemberId, Host>,
    founders: Vec<MemberId>,
    pub(super) network: Network,
    pub(super) clients: Clients,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    bug: Option<Bug>,
    pub(super) healed_at: Option<Micros>,
    done: bool,
    pub(super) faults: u64,
    /// The next member to vote loses its power soon after.
    pub(super) voter_crashes: bool,
    /// Snapshots that were taken over from a leader.
    pub(super) installed: u64,
    /// Numbers the peer URLs that members are given.
    pub(super) urls: u64,
    effects: Vec<Effect>,
}

impl World {
    pub(super) fn new(seed: u64, bug: Option<Bug>, print: bool) -> World {
        let plan = Plan::of(seed);
        let founders = process::founders(&plan);
        let trace = Trace::new(seed, print);
        trace.say(0, || format!("seed {seed}: {plan:?}"));
        let mut world = World {
            rng: StdRng::seed_from_u64(seed),
            now: 0,
            queue: BinaryHeap::new(),
            events: 0,
            hosts: BTreeMap::new(),
            network: Network::new(plan.weather),
            clients: Clients::new(plan.clients, plan.keys),
            oracle: Oracle::new(&founders),
            trace,
            founders: founders.clone(),
            bug,
            healed_at: None,
            done: false,
            faults: 0,
            voter_crashes: false,
            installed: 0,
            urls: 1,
            effects: Vec::new(),
            plan,
        };
        for id in founders {
            world.add_host(id);
            world.after(0, What::Start(id));
        }
        for client in 0..world.clients.len() {
            world.after(SECOND, What::Client(client));
        }
        world.next_fault();
        world.after(world.plan.faults_for, What::Heal);
        world
    }

    /// Lets everything happen, until all is well at the end or something is not as it must be.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        while !self.done {
            let Some(event) = self.queue.pop() else { break };
            self.now = event.at;
            self.trace.note(&[event.at, event.number]);
            self.happen(event.what)?;
        }
        Ok(())
    }

    /// A point in time that differs from all before: what ends at one has ended before what begins at the next.
    fn moment(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    /// How many events have happened.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    fn at(&mut self, at: Micros, what: What) {
        self.events += 1;
        self.queue.push(Event { at, number: self.events, what });
    }

    fn after(&mut self, delay: Micros, what: What) {
        self.at(self.now + delay, what);
    }

    pub(super) fn between(&mut self, (least, most): (Micros, Micros)) -> Micros {
        self.rng.random_range(least..=most)
    }

    /// A time whose mean is given; short ones are frequent.
    fn around(&mut self, mean: Micros) -> Micros {
        let a = self.rng.random_range(0..=mean);
        let b = self.rng.random_range(0..=mean);
        a + b
    }

    pub(super) fn say(&self, text: impl FnOnce() -> String) {
        self.trace.say(self.now, text);
    }

    pub(super) fn next_fault(&mut self) {
        let delay = self.around(self.plan.fault_every);
        self.after(delay, What::Fault);
    }

    pub(super) fn add_host(&mut self, id: MemberId) {
        let drift = self.rng.random_range(-self.plan.drift..=self.plan.drift);
        let host = Host {
            disk: SimDisk::new(self.rng.random()),
            process: None,
            life: 0,
            gone: false,
            paused_until: 0,
            slow: (0, 0),
            clock_offset: self.rng.random_range(-500_000_000..500_000_000),
            drift,
            ticks: 0,
            disk_fails: false,
        };
        self.hosts.insert(id, host);
    }

    /// What time a host takes it to be.
    pub(super) fn clock(&self, id: MemberId) -> UnixNanos {
        let (offset, drift) = self.hosts.get(&id).map_or((0, 0), |host| (host.clock_offset, host.drift));
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        UnixNanos(EPOCH + now * 1000 + now * drift / 1000 + offset)
    }

    /// The hosts on which a process runs.
    pub(super) fn running(&self) -> Vec<MemberId> {
        self.hosts.iter().filter(|(_, host)| host.process.is_some()).map(|(id, _)| *id).collect()
    }

    /// The process that an event is for, if it is still the one of that life.
    fn is_current(&self, id: MemberId, life: u64) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.life == life && host.process.is_some())
    }

    /// Puts off what happens on a host that is paused.
    fn is_paused(&self, id: MemberId) -> Option<Micros> {
        let until = self.hosts.get(&id)?.paused_until;
        (until > self.now).then_some(until)
    }

    fn happen(&mut self, what: What) -> Result<(), Violation> {
        let place = match &what {
            What::Tick(id, _) | What::Written(id, _) | What::Saved(id, _) => Some(*id),
            What::Arrive(id, ..) | What::SnapshotSent(id, ..) | What::Unreachable(id, ..) => Some(*id),
            What::Deliver(message) => Some(message.to()),
            _ => None,
        };
        if let Some(until) = place.and_then(|id| self.is_paused(id)) {
            self.at(until, what);
            return Ok(());
        }
        match what {
            What::Tick(id, life) => self.tick(id, life),
            What::Deliver(message) => self.deliver(*message),
            What::Written(id, life) => self.written(id, life),
            What::Saved(id, life) => self.saved(id, life),
            What::Start(id) => self.start(id),
            What::Campaign(id) => {
                let life = self.hosts.get(&id).map_or(0, |host| host.life);
                self.tell(id, life, |process| process.member.campaign())
            }
            What::Crash(id, down) => {
                if self.healed_at.is_none() && self.process(id).is_some() {
                    self.crash(id, true);
                    self.start_after(id, down);
                }
                Ok(())
            }
            What::Client(client) => self.client(client),
            What::Arrive(id, life, ticket, wish) => {
                if !self.is_current(id, life) || !self.submit(id, ticket, wish)? {
                    self.give_up(ticket);
                }
                Ok(())
            }
            What::Deadline(ticket) => {
                self.give_up(ticket);
                Ok(())
            }
            What::Expelled(id) => {
                self.expel(id);
                Ok(())
            }
            What::SnapshotSent(id, life, to, arrived) => {
                self.tell(id, life, |process| process.member.snapshot_sent(to, arrived))
            }
            What::Unreachable(id, life, to) => self.tell(id, life, |process| process.member.unreachable(to)),
            What::Fault if self.healed_at.is_some() => Ok(()),
            What::Fault => self.fault(),
            What::Heal => {
                self.heal();
                self.after(SECOND, What::Inspect);
                Ok(())
            }
            What::Inspect => self.inspect(),
        }
    }

    fn tick(&mut self, id: MemberId, life: u64) -> Result<(), Violation> {
        if !self.is_current(id, life) {
            return Ok(());
        }
        let clock = self.clock(id);
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        host.ticks += 1;
        let expires = host.ticks.is_multiple_of(EXPIRY_TICKS);
        let faster = i64::try_from(TICK).unwrap_or(0) * host.drift / 1_000_000;
        if let Some(process) = &mut host.process {
            process.member.tick();
            if expires {
                process.expire(clock);
            }
        }
        self.after(TICK.saturating_add_signed(-faster), What::Tick(id, life));
        self.turn(id)
    }

    /// Something that a process hears, if it is still the one of that life.
    fn tell(&mut self, id: MemberId, life: u64, what: impl FnOnce(&mut Process)) -> Result<(), Violation> {
        if !self.is_current(id, life) {
            return Ok(());
        }
        if let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) {
            what(process);
        }
        self.turn(id)
    }

    fn deliver(&mut self, mut message: Message) -> Result<(), Violation> {
        let (from, to) = (message.from(), message.to());
        let bug = self.bug;
        // The power may fail amid the installation of a snapshot.
        let is_snapshot = message.kind() == Kind::Snapshot;
        let fails = is_snapshot && self.healed_at.is_none() && self.rng.random_bool(0.15);
        let operations = self.rng.random_range(0..10);
        if is_snapshot {
            let life = self.hosts.get(&from).map_or(0, |host| host.life);
            self.after(MILLISECOND, What::SnapshotSent(from, life, to, true));
        }
        let Some(process) = self.hosts.get_mut(&to).and_then(|host| host.process.as_mut()) else {
            return Ok(());
        };
        if process.member.membership().removed.contains(&from) {
            if !self.network.is_cut((to, from)) {
                self.after(MILLISECOND, What::Expelled(from));
            }
            return Ok(());
        }
        if bug == Some(Bug::NoCommitCheck) && message.kind() == Kind::Append {
            message = all_committed(&message)?;
        }
        self.trace.say(self.now, || told(&message));
        process.member.step(message);
        if !fails {
            return self.turn(to);
        }
        if let Some(host) = self.hosts.get(&to) {
            host.disk.fail_power_after(operations);
        }
        self.turn(to)?;
        self.say(|| format!("{} loses its power", name(to)));
        self.stop(to);
        if let Some(host) = self.hosts.get(&to) {
            host.disk.crash();
        }
        self.start_after(to, 10 * MILLISECOND);
        Ok(())
    }

    fn written(&mut self, id: MemberId, life: u64) -> Result<(), Violation> {
        if !self.is_current(id, life) {
            return Ok(());
        }
        let flush = self.rng.random_bool(0.3);
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else {
            return Ok(());
        };
        self.trace.say(self.now, || format!("{}: the disk has done what it was to", name(id)));
        let mut result = process.end_write(&mut self.effects);
        if flush && result.is_ok() {
            result = process.flush();
        }
        match result {
            Ok(()) => self.turn(id),
            Err(Stopped) => {
                self.disk_failed(id);
                Ok(())
            }
        }
    }

    fn saved(&mut self, id: MemberId, life: u64) -> Result<(), Violation> {
        if !self.is_current(id, life) {
            return Ok(());
        }
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else {
            return Ok(());
        };
        match process.save(&mut self.effects) {
            Ok(()) => self.turn(id),
            Err(Stopped) => {
                self.disk_failed(id);
                Ok(())
            }
        }
    }

    fn start(&mut self, id: MemberId) -> Result<(), Violation> {
        let clock = self.clock(id);
        let seed = self.rng.random();
        let (bug, plan) = (self.bug, self.plan.clone());
        // The power may fail once more, in the middle of the start.
        let fails = self.healed_at.is_none() && self.now > 0 && self.rng.random_bool(0.05);
        let operations = self.rng.random_range(0..12);
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.process.is_none() && !host.gone) else {
            return Ok(());
        };
        if fails {
            host.disk.fail_power_after(operations);
        }
        let begin = Begin { id, founders: &self.founders, plan: &plan, seed, now: clock, bug };
        let started = Process::start(&host.disk, &begin, &self.oracle);
        if fails {
            drop(started);
            host.disk.crash();
            self.say(|| format!("{} starts, and the power fails", name(id)));
            self.after(MILLISECOND, What::Start(id));
            return Ok(());
        }
        if started.is_err() && host.disk_fails {
            self.disk_failed(id);
            return Ok(());
        }
        host.process = Some(started?);
        host.life += 1;
        let life = host.life;
        self.say(|| format!("{} starts", name(id)));
        let first = self.rng.random_range(0..TICK);
        self.after(first, What::Tick(id, life));
        self.turn(id)
    }

    /// Starts a member again after a while.
    pub(super) fn start_after(&mut self, id: MemberId, delay: Micros) {
        self.after(delay, What::Start(id));
    }

    /// Lets a host lose its power after a while.
    pub(super) fn crash_after(&mut self, id: MemberId, delay: Micros, down: Micros) {
        self.after(delay, What::Crash(id, down));
    }

    /// Lets a member stand for election after a while.
    pub(super) fn campaign_after(&mut self, id: MemberId, delay: Micros) {
        self.after(delay, What::Campaign(id));
    }

    /// How long a host is down: hardly, or for a while.
    pub(super) fn restart_delay(&mut self) -> Micros {
        let most = if self.rng.random_bool(0.4) { 30 * MILLISECOND } else { 4 * SECOND };
        self.between((MILLISECOND, most))
    }

    /// Does what a process says, until it has nothing more to say.
    pub(super) fn turn(&mut self, id: MemberId) -> Result<(), Violation> {
        let clock = self.clock(id);
        let mut effects = std::mem::take(&mut self.effects);
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else {
            return Ok(());
        };
        match process.turn(clock, &mut self.oracle, &mut effects) {
            Ok(()) => {}
            Err(Halt::Violated(violation)) => return Err(violation),
            Err(Halt::Stopped) => {
                self.disk_failed(id);
                return Ok(());
            }
        }
        let status = process.member.status();
        if status.role == Role::Leader {
            self.oracle.leads(id, status.term)?;
        }
        self.trace.note(&[id.0, status.term, status.commit, status.applied, status.leader.0, status.vote.0]);
        for effect in effects.drain(..) {
            self.effect(id, effect)?;
        }
        self.effects = effects;
        Ok(())
    }

    fn effect(&mut self, id: MemberId, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Send(message) => self.send(message)?,
            Effect::WriteDue => {
                let sync = self.plan.sync;
                let mut delay = self.between(sync);
                let now = self.now;
                let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
                if host.slow.0 > now {
                    delay += host.slow.1;
                }
                let (life, begun) = (host.life, host.process.as_mut().is_some_and(Process::begin_write));
                if begun {
                    self.after(delay, What::Written(id, life));
                }
            }
            Effect::SaveDue => {
                let delay = self.between((MILLISECOND, 300 * MILLISECOND));
                let life = self.hosts.get(&id).map_or(0, |host| host.life);
                self.after(delay, What::Saved(id, life));
            }
            Effect::Answer(ticket, answer) => {
                let event = self.moment();
                self.say(|| format!("{} answers client {}: {}", name(id), ticket.0, shown(&answer)));
                if self.clients.answered(ticket, event, &answer)? {
                    let applied = self.process(id).map_or(0, |process| process.member.status().applied);
                    self.oracle.acknowledge(applied);
                    self.think(ticket.0);
                }
            }
            Effect::Changed { kind, id: changed } => self.members_changed(id, kind, changed),
            Effect::Removed => self.expel(id),
            Effect::Installed(index) => {
                self.installed += 1;
                self.say(|| format!("{} has taken over a snapshot at {index}", name(id)));
                let Some(member) = self.process(id).map(|process| &process.member) else { return Ok(()) };
                let members = member.membership().members.clone();
                self.oracle.members_are(index, members.into_keys());
            }
        }
        Ok(())
    }

    pub(super) fn process(&self, id: MemberId) -> Option<&Process> {
        self.hosts.get(&id)?.process.as_ref()
    }

    fn send(&mut self, message: Message) -> Result<(), Violation> {
        let way = (message.from(), message.to());
        let life = self.hosts.get(&way.0).map_or(0, |host| host.life);
        // A proposal that came twice would be two entries: connections never repeat what they carry.
        let repeatable = message.kind() != Kind::Propose;
        let is_snapshot = message.kind() == Kind::Snapshot;
        if self.voter_crashes && message.kind() == Kind::VoteResponse {
            self.voter_crashes = false;
            let quick = 5 * MILLISECOND;
            let (soon, down) = (self.between((0, quick)), self.between((0, quick)));
            self.crash_after(way.0, soon, down);
        }
        let message = match (is_snapshot, self.plan.wire) {
            (true, _) => self.process(way.0).and_then(|process| process.with_snapshot(&message)),
            (false, true) => Some(through_bytes(&message)?),
            (false, false) => Some(message),
        };
        let arrivals = self.network.arrivals(way, self.now, repeatable, &mut self.rng);
        let Some(message) = message.filter(|_| arrivals[0].is_some()) else {
            // Connections break sooner or later, and the sender hears of that; mostly.
            let delay = self.between((MILLISECOND, SECOND));
            if is_snapshot {
                self.after(delay, What::SnapshotSent(way.0, life, way.1, false));
            } else if self.rng.random_bool(0.3) {
                self.after(delay, What::Unreachable(way.0, life, way.1));
            }
            return Ok(());
        };
        for at in arrivals.into_iter().flatten() {
            self.at(at, What::Deliver(Box::new(message.clone())));
        }
        Ok(())
    }

    fn members_changed(&mut self, here: MemberId, kind: i32, id: MemberId) {
        let Some(member) = self.process(here).map(|process| &process.member) else { return };
        let (applied, members) = (member.status().applied, member.membership().members.clone());
        self.say(|| format!("{} has applied a change of kind {kind} of {}", name(here), name(id)));
        self.oracle.members_are(applied, members.into_keys());
        if kind == pb::ADD_NODE && !self.hosts.contains_key(&id) {
            self.add_host(id);
            let delay = self.between((0, 2 * SECOND));
            self.after(delay, What::Start(id));
        }
    }

    /// A member learns that it is none any more, and stops for good.
    pub(super) fn expel(&mut self, id: MemberId) {
        if self.hosts.get(&id).is_some_and(|host| !host.gone) {
            self.say(|| format!("{} is no longer a member", name(id)));
            self.stop(id);
            if let Some(host) = self.hosts.get_mut(&id) {
                host.gone = true;
            }
        }
    }

    /// Ends a process. What it was told to do, but has not begun, never happens.
    pub(super) fn stop(&mut self, id: MemberId) -> Option<Process> {
        let process = self.hosts.get_mut(&id)?.process.take()?;
        for ticket in process.forsaken() {
            self.give_up(ticket);
        }
        Some(process)
    }

    fn disk_failed(&mut self, id: MemberId) {
        self.say(|| format!("{} stops: its disk failed", name(id)));
        self.effects.clear();
        self.stop(id);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.disk.forget_faults();
            host.disk_fails = false;
            // After a failed sync the system's cache shows what the disk has not got: only a reboot makes that true.
            host.disk.crash();
        }
        let delay = self.between((100 * MILLISECOND, 2 * SECOND));
        self.start_after(id, delay);
    }

    fn think(&mut self, client: usize) {
        let delay = 1 + self.around(self.plan.think);
        self.after(delay, What::Client(client));
    }

    /// A client stops waiting for an answer.
    fn give_up(&mut self, ticket: Ticket) {
        if self.clients.waits_for(ticket) {
            self.say(|| format!("client {} is not answered", ticket.0));
            self.clients.unanswered(ticket);
            self.think(ticket.0);
        }
    }

    fn client(&mut self, client: usize) -> Result<(), Violation> {
        let running = self.running();
        if running.is_empty() {
            self.think(client);
            return Ok(());
        }
        let mut id = running[self.rng.random_range(0..running.len())];
        // Most ask whom they asked before, or the leader.
        match (self.rng.random_range(0..10), self.oracle.newest_leader()) {
            (0..3, Some(leader)) if running.contains(&leader) => id = leader,
            (3..8, _) => {
                let turn = usize::try_from(self.now / FIDELITY).unwrap_or(0);
                id = running[(client + turn) % running.len()];
            }
            _ => {}
        }
        let (clock, event) = (self.clock(id), self.moment());
        let Some((ticket, wish, told)) = self.clients.call(client, event, clock, &mut self.rng) else {
            return Ok(());
        };
        self.say(|| format!("client {client} asks {}: {told}", name(id)));
        if let Some(until) = self.is_paused(id) {
            let life = self.hosts.get(&id).map_or(0, |host| host.life);
            self.at(until, What::Arrive(id, life, ticket, wish));
        } else if !self.submit(id, ticket, wish)? {
            self.say(|| format!("{} cannot take it", name(id)));
            self.clients.refused(ticket);
            self.think(client);
            return Ok(());
        }
        let delay = self.between(PATIENCE);
        self.after(delay, What::Deadline(ticket));
        Ok(())
    }

    fn submit(&mut self, id: MemberId, ticket: Ticket, wish: Wish) -> Result<bool, Violation> {
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else {
            return Ok(false);
        };
        let taken = match wish {
            Wish::Entry(request) => process.submit(request, ticket),
            Wish::Read(path) => {
                // Who cannot ask without an entry asks with one.
                process.read(path.clone(), ticket, &mut self.effects)
                    || process
                        .submit(pb::Request { method: "QGET".into(), path, ..pb::Request::default() }, ticket)
            }
        };
        self.turn(id)?;
        Ok(taken)
    }

    /// Looks whether the cluster is well again; if so, everything is compared for the last time.
    fn inspect(&mut self) -> Result<(), Violation> {
        let since = self.now - self.healed_at.unwrap_or(self.now);
        let Some(applied) = self.all_equal() else {
            if since > RECOVERY_MAX {
                return Err(Violation::new(format!("no progress after faults have ended: {}", self.shown())));
            }
            self.after(200 * MILLISECOND, What::Inspect);
            return Ok(());
        };
        if applied < self.oracle.acknowledged() {
            return Err(Violation::new(format!(
                "acknowledged writes are lost: entry {} was applied, and all members end at {applied}",
                self.oracle.acknowledged()
            )));
        }
        // One that was removed may not have heard of it yet.
        for (id, host) in &self.hosts {
            if let Some(process) = &host.process
                && process.member.status().applied == applied
            {
                self.oracle.compare(*id, applied, &process.store)?;
            }
        }
        self.say(|| format!("all is well: {}", self.shown()));
        self.done = true;
        Ok(())
    }

    /// The index that all members have applied, if it is one, there is a leader, and clients are done.
    fn all_equal(&self) -> Option<u64> {
        if !self.clients.is_finished() {
            return None;
        }
        let mut found = None;
        for id in self.oracle.members() {
            let status = self.process(*id)?.member.status();
            if status.leader.0 == 0 || *found.get_or_insert(status.applied) != status.applied {
                return None;
            }
        }
        found
    }

    fn shown(&self) -> String {
        let mut text = String::new();
        for (id, host) in &self.hosts {
            text.push_str(&format!("\n  {}: ", name(*id)));
            match &host.process {
                Some(process) => {
                    let s = process.member.status();
                    text.push_str(&format!(
                        "{:?}, term {}, leader {}, committed {}, applied {}",
                        s.role,
                        s.term,
                        name(s.leader),
                        s.commit,
                        s.applied
                    ));
                }
                None if host.gone => text.push_str("removed"),
                None => text.push_str("does not run"),
            }
        }
        text
    }
}

/// How traces call a member.
pub(super) fn name(id: MemberId) -> String {
    if id.0 == 0 { "nobody".to_owned() } else { format!("m{}", id.0) }
}

fn shown(answer: &process::Answer) -> String {
    match answer {
        Ok(event) => format!("{event:?}"),
        Err(error) => error.to_string(),
    }
}

/// What arrives.
fn told(message: &Message) -> String {
    let (from, to) = (name(message.from()), name(message.to()));
    format!(
        "{from} → {to}: {:?} of term {}, index {} of term {}, commit {}, {} entries",
        message.kind(),
        message.term(),
        message.index(),
        message.log_term(),
        message.commit(),
        message.entries().len(),
    )
}

/// A message as it is after its way through bytes.
fn through_bytes(message: &Message) -> Result<Message, Violation> {
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes);
    let read = Message::decode(bytes.freeze())
        .map_err(|error| Violation::new(format!("a message cannot be read again: {error}: {message:?}")))?;
    if read != *message {
        return Err(Violation::new(format!("a message is another one after its way: {message:?}, {read:?}")));
    }
    Ok(read)
}

/// The message with a commit index that covers all its entries.
fn all_committed(message: &Message) -> Result<Message, Violation> {
    let broken =
        |what: &dyn std::fmt::Display| Violation::new(format!("a message cannot be changed: {what}"));
    let mut bytes = BytesMut::new();
    message.encode(&mut bytes);
    let mut plain = pb::Message::decode(bytes.freeze()).map_err(|error| broken(&error))?;
    plain.commit = plain.entries.last().map_or(plain.commit, |last| last.index.max(plain.commit));
    Message::decode(Bytes::from(plain.encode_to_vec())).map_err(|error| broken(&error))
}
