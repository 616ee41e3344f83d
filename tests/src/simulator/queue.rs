//! The events of a simulation, and their order.

use std::cmp::Ordering;

use node::member::Message;
use shared::id::MemberId;

use super::clients::Request;
use super::plan::Micros;
use super::process::Ticket;

/// An event. A number after the member is that of its process.
pub(super) enum SimEvent {
    Tick(MemberId, u64),
    Deliver(Box<Message>),
    /// The disk has finished its jobs.
    Written(MemberId, u64),
    Saved(MemberId, u64),
    Start(MemberId),
    /// A host loses its power for this time.
    Crash(MemberId, Micros),
    /// A member starts an election.
    Campaign(MemberId),
    /// A client sends its next request.
    Client(usize),
    /// A request reaches a host that was paused.
    Arrive(MemberId, u64, Ticket, Request),
    /// A client stops waiting.
    Deadline(Ticket),
    /// A member learns from others that it was removed.
    Expelled(MemberId),
    /// The state of a received snapshot is read.
    SnapshotRead(MemberId, u64, Box<Message>),
    /// The members have answered the leader's request for versions; whether all of them did.
    VersionsKnown(MemberId, u64, bool),
    /// A member learns whether a snapshot reached another one.
    SnapshotSent(MemberId, u64, MemberId, bool),
    /// A member learns that messages to another one do not arrive.
    Unreachable(MemberId, u64, MemberId),
    /// A member learns that the process of another one has ended.
    Gone(MemberId, u64, MemberId),
    Fault,
    /// Faults end.
    Heal,
    /// Checks whether the cluster has recovered.
    Inspect,
}

pub(super) struct ScheduledEvent {
    pub(super) at: Micros,
    pub(super) number: u64,
    pub(super) event: SimEvent,
}

impl PartialEq for ScheduledEvent {
    fn eq(&self, other: &ScheduledEvent) -> bool {
        self.number == other.number
    }
}

impl Eq for ScheduledEvent {}

impl PartialOrd for ScheduledEvent {
    fn partial_cmp(&self, other: &ScheduledEvent) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ScheduledEvent {
    /// The earliest is the greatest.
    fn cmp(&self, other: &ScheduledEvent) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}
