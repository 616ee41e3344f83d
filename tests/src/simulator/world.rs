//! The world of one run: hosts, the network between them, clients, and a queue of what happens when.

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
use super::process::{self, Effect, Halt, Process, Stopped};
use super::queue::{Event, What};
use super::trace::Trace;

/// The time at which all runs begin.
const EPOCH: i64 = 1_700_000_000_000_000_000;

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
    pub(super) drift: i64,
    /// An operation of its disk is going to fail, or has failed.
    pub(super) disk_fails: bool,
}

/// Everything.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: StdRng,
    pub(super) now: Micros,
    pub(super) queue: BinaryHeap<Event>,
    pub(super) events: u64,
    pub(super) hosts: BTreeMap<MemberId, Host>,
    pub(super) founders: Vec<MemberId>,
    pub(super) network: Network,
    pub(super) clients: Clients,
    pub(super) oracle: Oracle,
    pub(super) trace: Trace,
    /// A mistake is made on purpose.
    is_spoiled: bool,
    pub(super) healed_at: Option<Micros>,
    pub(super) done: bool,
    pub(super) faults: u64,
    /// The next member to vote loses its power soon after.
    pub(super) voter_crashes: bool,
    /// Snapshots that were taken over from a leader.
    pub(super) installed: u64,
    /// Numbers the peer URLs that members are given.
    pub(super) urls: u64,
    pub(super) effects: Vec<Effect>,
}

impl World {
    pub(super) fn new(seed: u64, is_spoiled: bool, print: bool) -> World {
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
            is_spoiled,
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
    pub(super) fn moment(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    /// How many events have happened.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn at(&mut self, at: Micros, what: What) {
        self.events += 1;
        self.queue.push(Event { at, number: self.events, what });
    }

    pub(super) fn after(&mut self, delay: Micros, what: What) {
        self.at(self.now + delay, what);
    }

    pub(super) fn between(&mut self, (least, most): (Micros, Micros)) -> Micros {
        self.rng.random_range(least..=most)
    }

    /// A time whose mean is given; short ones are frequent.
    pub(super) fn around(&mut self, mean: Micros) -> Micros {
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

    /// Both of its clocks. One is turned now and then, the other one only runs fast or slow.
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

    /// The process that an event is for, if it is still the one of that life.
    pub(super) fn is_current(&self, id: MemberId, life: u64) -> bool {
        self.hosts.get(&id).is_some_and(|host| host.life == life && host.process.is_some())
    }

    /// Puts off what happens on a host that is paused, or whose process does nothing but install a snapshot.
    pub(super) fn is_paused(&self, id: MemberId) -> Option<Micros> {
        if self.process(id).is_some_and(Process::is_installing) {
            return Some(self.now.max(self.hosts.get(&id)?.paused_until) + MILLISECOND);
        }
        self.is_asleep(id)
    }

    /// The same, for what the disk does.
    fn is_asleep(&self, id: MemberId) -> Option<Micros> {
        let until = self.hosts.get(&id)?.paused_until;
        (until > self.now).then_some(until)
    }

    pub(super) fn happen(&mut self, what: What) -> Result<(), Violation> {
        let until = match &what {
            What::Written(id, _) | What::Saved(id, _) => self.is_asleep(*id),
            What::Tick(id, _)
            | What::Arrive(id, ..)
            | What::SnapshotRead(id, ..)
            | What::VersionsKnown(id, ..)
            | What::SnapshotSent(id, ..)
            | What::Unreachable(id, ..)
            | What::Gone(id, ..) => self.is_paused(*id),
            What::Deliver(message) => self.is_paused(message.to()),
            _ => None,
        };
        if let Some(until) = until {
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
                self.tell(id, life, |process, _| process.node.campaign())
            }
            What::Crash(id, down) => {
                if self.healed_at.is_none() && self.process(id).is_some() {
                    self.crash(id, true);
                    self.start_after(id, down);
                }
                Ok(())
            }
            What::Client(client) => self.client(client),
            What::Arrive(id, life, ticket, request) => {
                if self.is_current(id, life) {
                    self.submit(id, ticket, request)
                } else {
                    self.give_up(ticket);
                    Ok(())
                }
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
                self.tell(id, life, |process, _| process.node.snapshot_sent(to, arrived))
            }
            What::SnapshotRead(id, life, message) => {
                self.tell(id, life, |process, now| process.read_snapshot(*message, now.moment))
            }
            What::VersionsKnown(id, life, all) => self.tell(id, life, |process, now| {
                process.node.versions_known(all.then_some(CLUSTER_MAX), now.moment);
            }),
            What::Unreachable(id, life, to) => self.tell(id, life, |process, _| process.node.unreachable(to)),
            What::Gone(id, life, from) => self.tell(id, life, |process, _| process.node.peer_is_gone(from)),
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
        self.after(TICK.saturating_add_signed(-faster), What::Tick(id, life));
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
        self.trace.say(self.now, || format!("{}: the disk has done what it was to", name(id)));
        let mut result = process.end_write(now, &mut self.effects);
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
            Err(Stopped) => {
                self.disk_failed(id);
                Ok(())
            }
        }
    }

    /// Does what a process says, until it has nothing more to say.
    pub(super) fn turn(&mut self, id: MemberId) -> Result<(), Violation> {
        let now = self.clocks(id);
        let mut effects = std::mem::take(&mut self.effects);
        let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else {
            return Ok(());
        };
        match process.turn(now, &mut self.oracle, &mut effects) {
            Ok(()) => {}
            Err(Halt::Violated(violation)) => return Err(violation),
            Err(Halt::Stopped) => {
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
            self.effect(id, effect)?;
        }
        self.effects = effects;
        Ok(())
    }

    pub(super) fn effect(&mut self, id: MemberId, effect: Effect) -> Result<(), Violation> {
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
                    let applied =
                        self.process(id).map_or(0, |process| process.node.member().status().applied);
                    self.oracle.acknowledge(applied);
                    self.think(ticket.0);
                }
            }
            Effect::GivenUp(ticket) => self.give_up(ticket),
            Effect::Changed { kind, id: changed } => self.members_changed(id, kind, changed),
            // A new leader may not know a new member yet; and with a planted mistake it is not the messages' fault.
            Effect::Refused(Refusal::Stranger { .. }) => {}
            Effect::Refused(_) if self.is_spoiled => {}
            Effect::Refused(refusal) => {
                return Err(Violation::new(format!("what a member sends is refused: {refusal}")));
            }
            Effect::Ended(End::Removed) => self.expel(id),
            Effect::Ended(end) => {
                return Err(Violation::new(format!("{} ends by itself: {end:?}", name(id))));
            }
            Effect::ReadDue(message) => {
                let delay = self.between((0, 50 * MILLISECOND));
                let life = self.hosts.get(&id).map_or(0, |host| host.life);
                self.after(delay, What::SnapshotRead(id, life, Box::new(message)));
            }
            Effect::VersionsDue => {
                let (delay, all) = (self.between((0, 200 * MILLISECOND)), self.rng.random_bool(0.5));
                let life = self.hosts.get(&id).map_or(0, |host| host.life);
                self.after(delay, What::VersionsKnown(id, life, all));
            }
            Effect::Installed(index) => {
                self.installed += 1;
                self.say(|| format!("{} has taken over a snapshot at {index}", name(id)));
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
