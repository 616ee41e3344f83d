//! Messages on their way: sent, lost, reported, delivered.

use bytes::BytesMut;
use node::member::{Kind, Message};
use node::time::Now;
use rand::RngExt;
use shared::id::MemberId;

use super::oracle::Violation;
use super::plan::{MILLISECOND, SECOND};
use super::process::Process;
use super::queue::SimEvent;
use super::world::{World, name};

impl World {
    pub(super) fn send(&mut self, message: Message) -> Result<(), Violation> {
        let link = (message.from(), message.to());
        let life = self.hosts.get(&link.0).map_or(0, |host| host.life);
        // A repeated proposal would be two entries: connections never repeat messages.
        let repeatable = message.kind() != Kind::Propose;
        let is_snapshot = message.kind() == Kind::Snapshot;
        if self.voter_crashes && message.kind() == Kind::VoteResponse {
            self.voter_crashes = false;
            let quick = 5 * MILLISECOND;
            let (soon, down) = (self.random_between((0, quick)), self.random_between((0, quick)));
            self.crash_after(link.0, soon, down);
        }
        let message = match (is_snapshot, self.plan.wire) {
            (true, _) => self.process(link.0).and_then(|process| process.with_snapshot(&message)),
            (false, true) => Some(through_bytes(&message)?),
            (false, false) => Some(message),
        };
        let arrivals = self.network.arrivals(link, self.now, repeatable, &mut self.rng);
        let Some(message) = message.filter(|_| arrivals[0].is_some()) else {
            // Connections break sooner or later, and mostly the sender notices.
            let delay = self.random_between((MILLISECOND, SECOND));
            if is_snapshot {
                self.after(delay, SimEvent::SnapshotSent(link.0, life, link.1, false));
            } else if self.rng.random_bool(0.3) {
                self.after(delay, SimEvent::Unreachable(link.0, life, link.1));
            }
            return Ok(());
        };
        for at in arrivals.into_iter().flatten() {
            self.at(at, SimEvent::Deliver(Box::new(message.clone())));
        }
        Ok(())
    }

    pub(super) fn deliver(&mut self, message: Message) -> Result<(), Violation> {
        let (from, to) = (message.from(), message.to());
        let now = self.clocks(to).moment;
        // The power may fail during the installation of a snapshot.
        let is_snapshot = message.kind() == Kind::Snapshot;
        let fails = is_snapshot && self.healed_at.is_none() && self.rng.random_bool(0.15);
        let operations = self.rng.random_range(0..10);
        if is_snapshot {
            let life = self.hosts.get(&from).map_or(0, |host| host.life);
            self.after(MILLISECOND, SimEvent::SnapshotSent(from, life, to, true));
        }
        let Some(process) = self.hosts.get_mut(&to).and_then(|host| host.process.as_mut()) else {
            return Ok(());
        };
        if process.node.membership().removed.contains(&from) {
            if !self.network.is_cut((to, from)) {
                self.after(MILLISECOND, SimEvent::Expelled(from));
            }
            return Ok(());
        }
        self.trace.trace_line(self.now, || describe(&message));
        process.node.receive(message, now);
        if fails && let Some(host) = self.hosts.get_mut(&to) {
            // The next operation of the process fails.
            host.disk.fail_power_after(operations);
            host.disk_fails = true;
            self.trace_line(|| format!("{} is about to lose its power", name(to)));
        }
        self.turn(to)
    }

    /// Calls `act` with a process, if it is still the same one.
    pub(super) fn with_process(
        &mut self,
        id: MemberId,
        life: u64,
        act: impl FnOnce(&mut Process, Now),
    ) -> Result<(), Violation> {
        if !self.is_current(id, life) {
            return Ok(());
        }
        let now = self.clocks(id);
        if let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) {
            act(process, now);
        }
        self.turn(id)
    }
}

/// A message, as the trace shows it.
fn describe(message: &Message) -> String {
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

/// Encodes and decodes a message.
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
