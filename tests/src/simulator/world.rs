//! The world of one run: hosts, the network between them, clients, and a queue of events.

use std::collections::{BTreeMap, BinaryHeap};

use node::End;
use node::member::{Refusal, Role};
use node::time::{Moment, Now};
use node::version::CLUSTER_MAX;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use shared::disk::SimDisk;
use shared::id::MemberId;
use shared::time::UnixNanos;

use super::clients::Clients;
use super::network::Network;
use super::oracle::{Oracle, Violation};
use super::plan::{MILLISECOND, Micros, Plan, SECOND, TICK};
use super::process::{self, DiskFailed, Effect, Process, ProcessError};
use super::queue::{ScheduledEvent, SimEvent};
use super::trace::Trace;

/// The start of all runs, in Unix nanoseconds.
const EPOCH: i64 = 1_700_000_000_000_000_000;

/// A machine: what outlives the process on it.
pub(super) struct Host {
    pub(super) disk: SimDisk,
    pub(super) process: Option<Process>,
    /// The number of its process, counted from its first.
    pub(super) life: u64,
    /// Its member was removed from the cluster.
    pub(super) removed: bool,
    /// Nothing happens on it before this time.
    pub(super) paused_until: Micros,
    /// Until when its disk is slow, and how much longer a sync takes then.
    pub(super) slow: (Micros, Micros),
    /// Added to the exact time.
    pub(super) clock_offset: i64,
    /// How much faster its clock runs, in parts per million.
    pub(super) drift: i64,
    /// An operation of its disk will fail, or has failed.
    pub(super) disk_fails: bool,
}

/// The state of one run.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: StdRng,
    pub(super) now: Micros,
    pub(super) queue: BinaryHeap<ScheduledEvent>,
    pub(super) events: u64,
    pub(super) hosts: BTreeMap<MemberId, Host>,
    pub(super) founders: Vec<MemberId>,
    pub(super) network: Network,
    pub(super) clients: Clients,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    /// A bug is planted.
    has_planted_bug: bool,
    pub(super) healed_at: Option<Micros>,
    pub(super) done: bool,
    pub(super) faults: u64,
    /// The next voter loses its power soon after its vote.
    pub(super) voter_crashes: bool,
    /// Received snapshots that were installed.
    pub(super) installed: u64,
    /// Numbers the peer URLs that members are given.
    pub(super) urls: u64,
    pub(super) effects: Vec<Effect>,
}

impl World {
    pub(super) fn new(seed: u64, has_planted_bug: bool, print: bool) -> World {
        let plan = Plan::of(seed);
        let founders = process::founders(&plan);
        let trace = Trace::new(seed, print);
        trace.trace_line(0, || format!("seed {seed}: {plan:?}"));
        let mut world = World {
            rng: StdRng::seed_from_u64(seed),
            now: 0,
            queue: BinaryHeap::new(),
            events: 0,
            hosts: BTreeMap::new(),
            network: Network::new(plan.conditions),
            clients: Clients::new(plan.clients, plan.keys),
            oracle: Oracle::new(&founders),
            trace,
            founders: founders.clone(),
            has_planted_bug,
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
            world.after(0, SimEvent::Start(id));
        }
        for client in 0..world.clients.len() {
            world.after(SECOND, SimEvent::Client(client));
        }
        world.next_fault();
        world.after(world.plan.faults_for, SimEvent::Heal);
        world
    }

    /// Handles events until the cluster has recovered at the end, or an invariant is broken.
    pub(super) fn run(&mut self) -> Result<(), Violation> {
        while !self.done {
            let Some(event) = self.queue.pop() else { break };
            self.now = event.at;
            self.trace.note(&[event.at, event.number]);
            self.handle_event(event.event)?;
        }
        Ok(())
    }

    /// A new point in time: what ends at one has ended before what begins at the next.
    pub(super) fn moment(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    /// The number of events.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn at(&mut self, at: Micros, event: SimEvent) {
        self.events += 1;
        self.queue.push(ScheduledEvent { at, number: self.events, event });
    }

    pub(super) fn after(&mut self, delay: Micros, event: SimEvent) {
        self.at(self.now + delay, event);
    }

    pub(super) fn random_between(&mut self, (least, most): (Micros, Micros)) -> Micros {
        self.rng.random_range(least..=most)
    }

    /// A random time around `mean`.
    pub(super) fn random_around(&mut self, mean: Micros) -> Micros {
        let a = self.rng.random_range(0..=mean);
        let b = self.rng.random_range(0..=mean);
        a + b
    }

    pub(super) fn trace_line(&self, text: impl FnOnce() -> String) {
        self.trace.trace_line(self.now, text);
    }

    pub(super) fn next_fault(&mut self) {
        let delay = self.random_around(self.plan.fault_every);
        self.after(delay, SimEvent::Fault);
    }

    pub(super) fn add_host(&mut self, id: MemberId) {
        let drift = self.rng.random_range(-self.plan.drift..=self.plan.drift);
        let host = Host {
            disk: SimDisk::new(self.rng.random()),
            process: None,
            life: 0,
            removed: false,
            paused_until: 0,
            slow: (0, 0),
            clock_offset: self.rng.random_range(-500_000_000..500_000_000),
            drift,
            disk_fails: false,
        };
        self.hosts.insert(id, host);
    }

    /// The time of a host's clock.
    pub(super) fn clock(&self, id: MemberId) -> UnixNanos {
        let (offset, drift) = self.hosts.get(&id).map_or((0, 0), |host| (host.clock_offset, host.drift));
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        UnixNanos(EPOCH + now * 1000 + now * drift / 1000 + offset)
    }

    /// Both clocks of a host. One is set now and then, the other one only runs fast or slow.
    pub(super) fn clocks(&self, id: MemberId) -> Now {
        let drift = self.hosts.get(&id).map_or(0, |host| host.drift);
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        let passed = u64::try_from(now + now / 1_000_000 * drift).unwrap_or(0);
        Now { moment: Moment::after(process::micros(passed)), wall: self.clock(id) }
    }

    /// The hosts on which a process runs.
    pub(super) fn running(&self) -> Vec<MemberId> {
        self.hosts.iter().filter(|(_, host)| host.process.is_some()).map(|(id, _)| *id).collect()
    }

    /// Whether the process of an event still runs.
    pub(super) fn is_current(&self, id: MemberId, life: u64) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.life == life && host.process.is_some())
    }

    /// Until when events of a host are deferred: it is paused, or its process installs a snapshot.
    pub(super) fn is_paused(&self, id: MemberId) -> Option<Micros> {
        if self.process(id).is_some_and(Process::is_installing) {
            return Some(self.now.max(self.hosts.get(&id)?.paused_until) + MILLISECOND);
        }
        self.is_asleep(id)
    }

    /// Until when the work of a host's disk is deferred.
    fn is_asleep(&self, id: MemberId) -> Option<Micros> {
        let until = self.hosts.get(&id)?.paused_until;
        (until > self.now).then_some(until)
    }

    pub(super) fn handle_event(&mut self, event: SimEvent) -> Result<(), Violation> {
        let until = match &event {
            SimEvent::Written(id, _) | SimEvent::Saved(id, _) => self.is_asleep(*id),
            SimEvent::Tick(id, _)
            | SimEvent::Arrive(id, ..)
            | SimEvent::SnapshotRead(id, ..)
            | SimEvent::VersionsKnown(id, ..)
            | SimEvent::SnapshotSent(id, ..)
            | SimEvent::Unreachable(id, ..)
            | SimEvent::Gone(id, ..) => self.is_paused(*id),
            SimEvent::Deliver(message) => self.is_paused(message.to()),
            _ => None,
        };
        if let Some(until) = until {
            self.at(until, event);
            return Ok(());
        }
        match event {
            SimEvent::Tick(id, life) => self.tick(id, life),
            SimEvent::Deliver(message) => self.deliver(*message),
            SimEvent::Written(id, life) => self.written(id, life),
            SimEvent::Saved(id, life) => self.saved(id, life),
            SimEvent::Start(id) => self.start(id),
            SimEvent::Campaign(id) => {
                let life = self.hosts.get(&id).map_or(0, |host| host.life);
                self.with_process(id, life, |process, _| process.node.campaign())
            }
            SimEvent::Crash(id, down) => {
                if self.healed_at.is_none() && self.process(id).is_some() {
                    self.crash(id, true);
                    self.start_after(id, down);
                }
                Ok(())
            }
            SimEvent::Client(client) => self.client(client),
            SimEvent::Arrive(id, life, ticket, request) => {
                if self.is_current(id, life) {
                    self.submit(id, ticket, request)
                } else {
                    self.give_up(ticket);
                    Ok(())
                }
            }
            SimEvent::Deadline(ticket) => {
                self.give_up(ticket);
                Ok(())
            }
            SimEvent::Expelled(id) => {
                self.expel(id);
                Ok(())
            }
            SimEvent::SnapshotSent(id, life, to, arrived) => {
                self.with_process(id, life, |process, _| process.node.snapshot_sent(to, arrived))
            }
            SimEvent::SnapshotRead(id, life, message) => {
                self.with_process(id, life, |process, now| process.read_snapshot(*message, now.moment))
            }
            SimEvent::VersionsKnown(id, life, all) => self.with_process(id, life, |process, now| {
                process.node.versions_known(all.then_some(CLUSTER_MAX), now.moment);
            }),
            SimEvent::Unreachable(id, life, to) => {
                self.with_process(id, life, |process, _| process.node.unreachable(to))
            }
            SimEvent::Gone(id, life, from) => {
                self.with_process(id, life, |process, _| process.node.peer_is_gone(from))
            }
            SimEvent::Fault if self.healed_at.is_some() => Ok(()),
            SimEvent::Fault => self.inject_fault(),
            SimEvent::Heal => {
                self.heal();
                self.after(SECOND, SimEvent::Inspect);
                Ok(())
            }
            SimEvent::Inspect => self.inspect(),
        }
    }

    pub(super) fn tick(&mut self, id: MemberId, life: u64) -> Result<(), Violation> {
        if !self.is_current(id, life) {
            return Ok(());
        }
        let now = self.clocks(id);
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        let faster = i64::try_from(TICK).unwrap_or(0) * host.drift / 1_000_000;
        if let Some(process) = &mut host.process {
            process.tick(now);
        }
        self.after(TICK.saturating_add_signed(-faster), SimEvent::Tick(id, life));
        self.turn(id)
    }

    pub(super) fn written(&mut self, id: MemberId, life: u64) -> Result<(), Violation> {
        if !self.is_current(id, life) {
            return Ok(());
        }
        let flush = self.rng.random_bool(0.3);
        let now = self.clocks(id).moment;
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else {
            return Ok(());
        };
        self.trace.trace_line(self.now, || format!("{}: the disk has done what it was to", name(id)));
        let mut result = process.end_write(now, &mut self.effects);
        if flush && result.is_ok() {
            result = process.flush();
        }
        match result {
            Ok(()) => self.turn(id),
            Err(DiskFailed) => {
                self.disk_failed(id);
                Ok(())
            }
        }
    }

    pub(super) fn saved(&mut self, id: MemberId, life: u64) -> Result<(), Violation> {
        if !self.is_current(id, life) {
            return Ok(());
        }
        let now = self.clocks(id).moment;
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else {
            return Ok(());
        };
        match process.save(now) {
            Ok(()) => self.turn(id),
            Err(DiskFailed) => {
                self.disk_failed(id);
                Ok(())
            }
        }
    }

    /// Carries out the effects of a process until there are none.
    pub(super) fn turn(&mut self, id: MemberId) -> Result<(), Violation> {
        let now = self.clocks(id);
        let mut effects = std::mem::take(&mut self.effects);
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else {
            return Ok(());
        };
        match process.turn(now, &mut self.oracle, &mut effects) {
            Ok(()) => {}
            Err(ProcessError::Violation(violation)) => return Err(violation),
            Err(ProcessError::DiskFailed) => {
                self.disk_failed(id);
                return Ok(());
            }
        }
        let status = process.node.member().status();
        if status.role == Role::Leader {
            self.oracle.leads(id, status.term)?;
        }
        self.trace.note(&[id.0, status.term, status.commit, status.applied, status.leader.0, status.vote.0]);
        for effect in effects.drain(..) {
            self.apply_effect(id, effect)?;
        }
        self.effects = effects;
        Ok(())
    }

    pub(super) fn apply_effect(&mut self, id: MemberId, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Send(message) => self.send(message)?,
            Effect::WriteDue => {
                let sync = self.plan.sync;
                let mut delay = self.random_between(sync);
                let now = self.now;
                let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
                if host.slow.0 > now {
                    delay += host.slow.1;
                }
                let (life, begun) = (host.life, host.process.as_mut().is_some_and(Process::begin_write));
                if begun {
                    self.after(delay, SimEvent::Written(id, life));
                }
            }
            Effect::SaveDue => {
                let delay = self.random_between((MILLISECOND, 300 * MILLISECOND));
                let life = self.hosts.get(&id).map_or(0, |host| host.life);
                self.after(delay, SimEvent::Saved(id, life));
            }
            Effect::Answer(ticket, answer) => {
                let event = self.moment();
                self.trace_line(|| {
                    format!("{} answers client {}: {}", name(id), ticket.0, describe(&answer))
                });
                if self.clients.answered(ticket, event, &answer)? {
                    let applied =
                        self.process(id).map_or(0, |process| process.node.member().status().applied);
                    self.oracle.acknowledge(applied);
                    self.think(ticket.0);
                }
            }
            Effect::GivenUp(ticket) => self.give_up(ticket),
            Effect::Changed { kind, id: changed } => self.members_changed(id, kind, changed),
            // A new leader may not know a new member yet; and a planted bug may cause refusals.
            Effect::Refused(Refusal::Stranger { .. }) => {}
            Effect::Refused(_) if self.has_planted_bug => {}
            Effect::Refused(refusal) => {
                return Err(Violation::new(format!("what a member sends is refused: {refusal}")));
            }
            Effect::Ended(End::Removed) => self.expel(id),
            Effect::Ended(end) => {
                return Err(Violation::new(format!("{} ends by itself: {end:?}", name(id))));
            }
            Effect::ReadDue(message) => {
                let delay = self.random_between((0, 50 * MILLISECOND));
                let life = self.hosts.get(&id).map_or(0, |host| host.life);
                self.after(delay, SimEvent::SnapshotRead(id, life, Box::new(message)));
            }
            Effect::VersionsDue => {
                let (delay, all) = (self.random_between((0, 200 * MILLISECOND)), self.rng.random_bool(0.5));
                let life = self.hosts.get(&id).map_or(0, |host| host.life);
                self.after(delay, SimEvent::VersionsKnown(id, life, all));
            }
            Effect::Installed(index) => {
                self.installed += 1;
                self.trace_line(|| format!("{} has taken over a snapshot at {index}", name(id)));
                let Some(member) = self.process(id).map(|process| process.node.member()) else {
                    return Ok(());
                };
                let members = member.membership().members.clone();
                self.oracle.members_are(index, members.into_keys());
            }
        }
        Ok(())
    }

    pub(super) fn process(&self, id: MemberId) -> Option<&Process> {
        self.hosts.get(&id)?.process.as_ref()
    }
}

/// The name of a member in traces.
pub(super) fn name(id: MemberId) -> String {
    if id.0 == 0 { "nobody".to_owned() } else { format!("m{}", id.0) }
}

fn describe(answer: &process::Answer) -> String {
    match answer {
        Ok(event) => format!("{event:?}"),
        Err(error) => error.to_string(),
    }
}
