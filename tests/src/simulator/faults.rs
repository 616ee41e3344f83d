//! Faults, and their end.

use node::Call;
use node::member::{ChangeKind, Role};
use rand::RngExt;
use shared::disk::{DiskOperation, Fault};
use shared::id::MemberId;

use super::oracle::Violation;
use super::plan::{MILLISECOND, SECOND};
use super::process;
use super::world::{World, name};

/// The smallest and largest number of members.
const MEMBERS: (usize, usize) = (3, 7);

/// Causes one fault.
type FaultAction = fn(&mut World) -> Result<(), Violation>;

impl World {
    /// Causes one fault, or repairs the network.
    pub(super) fn inject_fault(&mut self) -> Result<(), Violation> {
        self.faults += 1;
        self.next_fault();
        let weights = self.plan.weights;
        let kinds: [(u32, FaultAction); 13] = [
            (weights.crash, World::crash_one),
            (weights.blackout, World::blackout),
            (weights.disk, World::fail_disk),
            (weights.partition, World::partition),
            (weights.one_way, World::cut_one_way),
            (weights.calm, World::repair_network),
            (weights.slow_disk, World::slow_disk),
            (weights.pause, World::pause),
            (weights.clock, World::turn_clock),
            (weights.membership, World::change_members),
            (weights.election, World::compete_for_lead),
            (weights.handover, World::hand_over),
            (weights.features, World::switch_features),
        ];
        let mut choice = self.rng.random_range(0..kinds.iter().map(|(weight, _)| weight).sum());
        for (weight, kind) in kinds {
            if choice < weight {
                return kind(self);
            }
            choice -= weight;
        }
        Ok(())
    }

    /// A random host; the leader's more often than others.
    fn victim(&mut self) -> Option<MemberId> {
        let running = self.running();
        let leads = |id: &&MemberId| {
            self.process(**id).is_some_and(|process| process.node.member().status().role == Role::Leader)
        };
        let leader = running.iter().find(leads).copied();
        if running.is_empty() {
            return None;
        }
        let any = running[self.rng.random_range(0..running.len())];
        if self.rng.random_bool(0.4) { leader.or(Some(any)) } else { Some(any) }
    }

    /// Kills a process, or fails the power of its host, at any moment.
    fn crash_one(&mut self) -> Result<(), Violation> {
        let Some(id) = self.victim() else { return Ok(()) };
        let power = self.rng.random_bool(0.6);
        self.crash(id, power);
        let delay = self.restart_delay();
        self.start_after(id, delay);
        // Unsynced writes of a killed process are not on the disk yet, though the next process reads them.
        if self.rng.random_bool(0.3) {
            let soon = self.random_between((0, 400 * MILLISECOND));
            let down = self.restart_delay();
            self.crash_after(id, delay + soon, down);
        }
        Ok(())
    }

    pub(super) fn crash(&mut self, id: MemberId, power: bool) {
        self.trace_line(|| format!("{} {}", name(id), if power { "loses its power" } else { "is killed" }));
        let amid = self.rng.random_bool(0.6);
        let operations = self.rng.random_range(0..4);
        let verbs = [
            DiskOperation::Sync,
            DiskOperation::Sync,
            DiskOperation::Sync,
            DiskOperation::SyncDir,
            DiskOperation::Rename,
            DiskOperation::Write,
        ];
        let operation = verbs[self.rng.random_range(0..verbs.len())];
        let Some(process) = self.stop(id) else { return };
        let Some(host) = self.hosts.get_mut(&id) else { return };
        host.paused_until = 0;
        host.disk.forget_faults();
        host.disk_fails = false;
        let power = power || host.disk.is_without_power();
        match (power, amid) {
            (true, true) => process.lose_power(&host.disk, operations),
            (true, false) => {
                drop(process);
                host.disk.crash();
            }
            (false, true) => process.die_writing(&host.disk, operation),
            (false, false) => drop(process),
        }
        self.report_process_end(id);
    }

    /// Some of the others notice that a process has ended; sometimes wrongly.
    fn report_process_end(&mut self, of: MemberId) {
        for id in self.running() {
            if id != of && self.rng.random_bool(0.5) {
                let delay = self.random_between((0, 300 * MILLISECOND));
                self.gone_after(id, of, delay);
            }
        }
    }

    /// Fails the power of all hosts, or of most.
    fn blackout(&mut self) -> Result<(), Violation> {
        self.trace_line(|| "a blackout".to_owned());
        let all = self.rng.random_bool(0.7);
        for id in self.running() {
            if all || self.rng.random_bool(0.7) {
                self.crash(id, true);
                let delay = self.restart_delay();
                self.start_after(id, delay);
            }
        }
        Ok(())
    }

    /// Makes an operation of a disk fail: its process stops.
    fn fail_disk(&mut self) -> Result<(), Violation> {
        let Some(id) = self.victim() else { return Ok(()) };
        let verbs = [
            DiskOperation::Sync,
            DiskOperation::Sync,
            DiskOperation::Write,
            DiskOperation::Rename,
            DiskOperation::SyncDir,
            DiskOperation::Create,
        ];
        let operation = verbs[self.rng.random_range(0..verbs.len())];
        let kind = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other][self.rng.random_range(0..2)];
        let after = self.rng.random_range(0..4);
        self.trace_line(|| format!("{}: a {operation:?} is going to fail", name(id)));
        if let Some(host) = self.hosts.get_mut(&id) {
            host.disk_fails = true;
            host.disk.inject(Fault { operation, after, kind });
        }
        Ok(())
    }

    /// Splits the hosts into two groups; often the leader is alone, or with a minority.
    fn partition(&mut self) -> Result<(), Violation> {
        let ids: Vec<MemberId> = self.hosts.keys().copied().collect();
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let lonely = if self.rng.random_bool(0.5) { self.victim() } else { None };
        for id in ids {
            let apart = match lonely {
                Some(lonely) => id == lonely,
                None => self.rng.random_bool(0.4),
            };
            if apart { one.push(id) } else { other.push(id) }
        }
        if self.rng.random_bool(0.7) {
            self.network.join();
        }
        self.trace_line(|| format!("{} and {} are apart", names(&one), names(&other)));
        self.network.split(&one, &other);
        Ok(())
    }

    /// Cuts all links to a host, or all links from it, or one link.
    fn cut_one_way(&mut self) -> Result<(), Violation> {
        let Some(id) = self.victim() else { return Ok(()) };
        let others: Vec<MemberId> = self.hosts.keys().copied().filter(|other| *other != id).collect();
        match self.rng.random_range(0..3) {
            0 => {
                self.trace_line(|| format!("{} hears nobody", name(id)));
                others.iter().for_each(|other| self.network.cut((*other, id)));
            }
            1 => {
                self.trace_line(|| format!("nobody hears {}", name(id)));
                others.iter().for_each(|other| self.network.cut((id, *other)));
                self.report_process_end(id);
            }
            _ => {
                let other = others[self.rng.random_range(0..others.len())];
                self.trace_line(|| format!("{} does not hear {}", name(other), name(id)));
                self.network.cut((id, other));
            }
        }
        Ok(())
    }

    fn repair_network(&mut self) -> Result<(), Violation> {
        self.trace_line(|| "all ways are open".to_owned());
        self.network.join();
        Ok(())
    }

    fn slow_disk(&mut self) -> Result<(), Violation> {
        let Some(id) = self.victim() else { return Ok(()) };
        let until = self.now + self.random_between((500 * MILLISECOND, 5 * SECOND));
        let takes = self.random_between((50 * MILLISECOND, 900 * MILLISECOND));
        self.trace_line(|| format!("{}: a sync takes {} ms now", name(id), takes / MILLISECOND));
        if let Some(host) = self.hosts.get_mut(&id) {
            host.slow = (until, takes);
        }
        Ok(())
    }

    /// Pauses a host for a while; then it continues.
    fn pause(&mut self) -> Result<(), Violation> {
        let Some(id) = self.victim() else { return Ok(()) };
        let until = self.now + self.random_between((100 * MILLISECOND, 4 * SECOND));
        self.trace_line(|| format!("{} pauses until {} ms", name(id), until / MILLISECOND));
        if let Some(host) = self.hosts.get_mut(&id) {
            host.paused_until = until;
        }
        Ok(())
    }

    fn turn_clock(&mut self) -> Result<(), Violation> {
        let Some(id) = self.victim() else { return Ok(()) };
        let by = self.rng.random_range(-8_000_000_000..8_000_000_000);
        self.trace_line(|| format!("{}: the clock is turned by {} ms", name(id), by / 1_000_000));
        if let Some(host) = self.hosts.get_mut(&id) {
            host.clock_offset += by;
        }
        Ok(())
    }

    /// Requests to add a member, remove one, or change the peer URLs of one.
    fn change_members(&mut self) -> Result<(), Violation> {
        let Some(target) = self.victim() else { return Ok(()) };
        if self.hosts.get(&target).is_some_and(|host| host.paused_until > self.now) {
            return Ok(());
        }
        let Some(process) = self.process(target).filter(|process| !process.is_installing()) else {
            return Ok(());
        };
        let members: Vec<MemberId> = process.node.membership().members.keys().copied().collect();
        if members.is_empty() {
            return Ok(());
        }
        let any = members[self.rng.random_range(0..members.len())];
        self.urls += 1;
        let change = match self.rng.random_range(0..5) {
            0..2 if members.len() < MEMBERS.1 => {
                let newest = self.hosts.keys().next_back().map_or(0, |id| id.0);
                process::change(ChangeKind::Add, MemberId(newest + 1), self.urls)
            }
            2..4 if members.len() > MEMBERS.0 => process::change(ChangeKind::Remove, any, self.urls),
            _ => process::change(ChangeKind::Update, any, self.urls),
        };
        self.trace_line(|| {
            let word = match change.kind {
                ChangeKind::Add => "add",
                ChangeKind::Remove => "remove",
                ChangeKind::Update => "update",
            };
            format!("{} is asked to {word} {}", name(target), name(change.member))
        });
        let now = self.clocks(target).moment;
        if let Some(process) = self.hosts.get_mut(&target).and_then(|host| host.process.as_mut()) {
            process.node.call(Call::Configure { change, caller: None }, now);
        }
        self.turn(target)
    }

    /// Two members start an election at about the same time. Often they are disconnected, and the first voter
    /// loses its power and restarts before the other one requests its vote.
    fn compete_for_lead(&mut self) -> Result<(), Violation> {
        let mut rivals = self.running();
        while rivals.len() > 2 {
            let position = self.rng.random_range(0..rivals.len());
            rivals.remove(position);
        }
        self.voter_crashes = self.rng.random_bool(0.7);
        self.trace_line(|| format!("{} lose patience", names(&rivals)));
        if self.rng.random_bool(0.6) {
            self.network.split(&rivals[..1.min(rivals.len())], &rivals);
        }
        for id in rivals {
            let soon = self.random_between((0, 40 * MILLISECOND));
            self.campaign_after(id, soon);
        }
        Ok(())
    }

    /// The leader hands over to another member, as before a planned stop.
    fn hand_over(&mut self) -> Result<(), Violation> {
        for id in self.running() {
            let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) else {
                continue;
            };
            if let Some(to) = process.node.transfer(|_| true) {
                self.trace_line(|| format!("{} hands over to {}", name(id), name(to)));
                self.turn(id)?;
            }
        }
        Ok(())
    }

    /// A member switches the extensions on or off.
    fn switch_features(&mut self) -> Result<(), Violation> {
        let Some(id) = self.victim() else { return Ok(()) };
        if let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) {
            let extended = !process.node.member().is_extended();
            process.node.set_extended(extended);
            self.trace_line(|| format!("{} takes all for its kind: {extended}", name(id)));
        }
        self.turn(id)
    }

    /// Repairs everything: all members run, and all links work.
    pub(super) fn heal(&mut self) {
        self.trace_line(|| "faults end".to_owned());
        self.healed_at = Some(self.now);
        self.network.clear_up();
        self.clients.finish();
        let members = self.oracle.members().clone();
        for id in self.hosts.keys().copied().collect::<Vec<_>>() {
            if let Some(host) = self.hosts.get_mut(&id) {
                if let Some(process) = &mut host.process {
                    process.node.set_extended(self.plan.extended);
                }
                host.disk.forget_faults();
                host.disk_fails = host.disk.is_without_power();
                host.slow = (0, 0);
                host.paused_until = host.paused_until.min(self.now);
            }
            if members.contains(&id) {
                self.start_after(id, 0);
            } else {
                self.expel(id);
            }
        }
    }
}

fn names(ids: &[MemberId]) -> String {
    ids.iter().map(|id| name(*id)).collect::<Vec<_>>().join(" ")
}
