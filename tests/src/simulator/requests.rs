//! Requests of clients: to which member they go, and how long clients wait.

use rand::RngExt;
use shared::id::MemberId;

use super::clients::Request;
use super::oracle::Violation;
use super::plan::{MILLISECOND, Micros, SECOND};
use super::process::Ticket;
use super::queue::SimEvent;
use super::world::{World, name};

/// How long a client waits for an answer.
const PATIENCE: (Micros, Micros) = (1500 * MILLISECOND, 5 * SECOND);
/// How long a client uses the same member.
const FIDELITY: Micros = 8 * SECOND;

impl World {
    pub(super) fn client(&mut self, client: usize) -> Result<(), Violation> {
        let running = self.running();
        if running.is_empty() {
            self.think(client);
            return Ok(());
        }
        let mut id = running[self.rng.random_range(0..running.len())];
        // Most requests go to the same member as before, or to the leader.
        match (self.rng.random_range(0..10), self.oracle.newest_leader()) {
            (0..3, Some(leader)) if running.contains(&leader) => id = leader,
            (3..8, _) => {
                let turn = usize::try_from(self.now / FIDELITY).unwrap_or(0);
                id = running[(client + turn) % running.len()];
            }
            _ => {}
        }
        let (clock, event) = (self.clock(id), self.moment());
        let Some((ticket, request, text)) = self.clients.call(client, event, clock, &mut self.rng) else {
            return Ok(());
        };
        self.trace_line(|| format!("client {client} asks {}: {text}", name(id)));
        if let Some(until) = self.is_paused(id) {
            let life = self.hosts.get(&id).map_or(0, |host| host.life);
            self.at(until, SimEvent::Arrive(id, life, ticket, request));
        } else {
            self.submit(id, ticket, request)?;
        }
        let delay = self.random_between(PATIENCE);
        self.after(delay, SimEvent::Deadline(ticket));
        Ok(())
    }

    pub(super) fn submit(&mut self, id: MemberId, ticket: Ticket, request: Request) -> Result<(), Violation> {
        let now = self.clocks(id).moment;
        if let Some(process) = self.hosts.get_mut(&id).and_then(|host| host.process.as_mut()) {
            process.submit(request.0, ticket, now);
        }
        self.turn(id)
    }

    pub(super) fn think(&mut self, client: usize) {
        let delay = 1 + self.random_around(self.plan.think);
        self.after(delay, SimEvent::Client(client));
    }

    /// A client stops waiting for an answer.
    pub(super) fn give_up(&mut self, ticket: Ticket) {
        if self.clients.waits_for(ticket) {
            self.trace_line(|| format!("client {} is not answered", ticket.0));
            self.clients.unanswered(ticket);
            self.think(ticket.0);
        }
    }
}
