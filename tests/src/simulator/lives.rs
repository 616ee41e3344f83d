//! Starts and stops of processes, and removed members.

use node::member::ChangeKind;
use rand::RngExt;
use shared::id::MemberId;

use super::oracle::Violation;
use super::plan::{MILLISECOND, Micros, SECOND, TICK};
use super::process::{Process, ProcessStart};
use super::queue::SimEvent;
use super::world::{World, name};

impl World {
    pub(super) fn start(&mut self, id: MemberId) -> Result<(), Violation> {
        let now = self.clocks(id);
        let seed = self.rng.random();
        let plan = self.plan.clone();
        // The power may fail again, during the start.
        let fails = self.healed_at.is_none() && self.now > 0 && self.rng.random_bool(0.05);
        let operations = self.rng.random_range(0..12);
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.process.is_none() && !host.removed)
        else {
            return Ok(());
        };
        if fails {
            host.disk.fail_power_after(operations);
        }
        let setup = ProcessStart { id, founders: &self.founders, plan: &plan, seed, now };
        let started = Process::start(&host.disk, &setup, &self.oracle);
        if fails {
            drop(started);
            host.disk.crash();
            self.trace_line(|| format!("{} starts, and the power fails", name(id)));
            self.after(MILLISECOND, SimEvent::Start(id));
            return Ok(());
        }
        if started.is_err() && host.disk_fails {
            self.disk_failed(id);
            return Ok(());
        }
        host.process = Some(started?);
        host.life += 1;
        let life = host.life;
        self.trace_line(|| format!("{} starts", name(id)));
        let first = self.rng.random_range(0..TICK);
        self.after(first, SimEvent::Tick(id, life));
        self.turn(id)
    }

    /// Starts a member after a delay.
    pub(super) fn start_after(&mut self, id: MemberId, delay: Micros) {
        self.after(delay, SimEvent::Start(id));
    }

    /// Fails the power of a host after a delay.
    pub(super) fn crash_after(&mut self, id: MemberId, delay: Micros, down: Micros) {
        self.after(delay, SimEvent::Crash(id, down));
    }

    /// A member notices after a delay that the process of another one has ended.
    pub(super) fn gone_after(&mut self, id: MemberId, gone: MemberId, delay: Micros) {
        let Some(life) = self.hosts.get(&id).map(|host| host.life) else { return };
        self.after(delay, SimEvent::Gone(id, life, gone));
    }

    /// A member starts an election after a delay.
    pub(super) fn campaign_after(&mut self, id: MemberId, delay: Micros) {
        self.after(delay, SimEvent::Campaign(id));
    }

    /// How long a host is down: a moment, or seconds.
    pub(super) fn restart_delay(&mut self) -> Micros {
        let most = if self.rng.random_bool(0.4) { 30 * MILLISECOND } else { 4 * SECOND };
        self.random_between((MILLISECOND, most))
    }

    pub(super) fn members_changed(&mut self, here: MemberId, kind: ChangeKind, id: MemberId) {
        let Some(member) = self.process(here).map(|process| process.node.member()) else { return };
        let (applied, members) = (member.status().applied, member.membership().members.clone());
        self.trace_line(|| format!("{} has applied the change {kind:?} of {}", name(here), name(id)));
        self.oracle.members_are(applied, members.into_keys());
        if kind == ChangeKind::Add && !self.hosts.contains_key(&id) {
            self.add_host(id);
            let delay = self.random_between((0, 2 * SECOND));
            self.after(delay, SimEvent::Start(id));
        }
    }

    /// A member learns of its removal, and stops for good.
    pub(super) fn expel(&mut self, id: MemberId) {
        if self.hosts.get(&id).is_some_and(|host| !host.removed) {
            self.trace_line(|| format!("{} is no longer a member", name(id)));
            self.stop(id);
            if let Some(host) = self.hosts.get_mut(&id) {
                host.removed = true;
            }
        }
    }

    /// Ends a process. Its waiting requests get no answer.
    pub(super) fn stop(&mut self, id: MemberId) -> Option<Process> {
        let mut process = self.hosts.get_mut(&id)?.process.take()?;
        for ticket in process.node.take_callers().into_iter().flatten() {
            self.give_up(ticket);
        }
        Some(process)
    }

    pub(super) fn disk_failed(&mut self, id: MemberId) {
        self.trace_line(|| format!("{} stops: its disk failed", name(id)));
        self.effects.clear();
        self.stop(id);
        if let Some(host) = self.hosts.get_mut(&id) {
            host.disk.forget_faults();
            host.disk_fails = false;
            // After a failed sync the system's cache differs from the disk: only a reboot makes them equal.
            host.disk.crash();
        }
        let delay = self.random_between((100 * MILLISECOND, 2 * SECOND));
        self.start_after(id, delay);
    }
}
