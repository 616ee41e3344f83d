//! What can happen, and when it does.

use std::cmp::Ordering;

use node::member::Message;
use shared::id::MemberId;

use super::clients::Request;
use super::plan::Micros;
use super::process::Ticket;

/// What can happen.
pub(super) enum SimEvent {
    Tick(MemberId, u64),
    Deliver(Box<Message>),
    /// The disk has finished its work.
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
    Arrive(MemberId, u64, Ticket, Request),
    /// A client gives up waiting.
    Deadline(Ticket),
    /// A member is told by others that it is none.
    Expelled(MemberId),
    /// The state in a snapshot's message is read.
    SnapshotRead(MemberId, u64, Box<Message>),
    /// The members have answered the leader that asks for their versions; whether all of them did.
    VersionsKnown(MemberId, u64, bool),
    /// A member hears that a snapshot for another one did, or did not, arrive.
    SnapshotSent(MemberId, u64, MemberId, bool),
    /// A member hears that messages to another one do not arrive.
    Unreachable(MemberId, u64, MemberId),
    /// A member hears that nobody listens any more where another one was.
    Gone(MemberId, u64, MemberId),
    Fault,
    /// Faults end.
    Heal,
    /// Whether all is well again.
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
