//! Quorum reads without an entry in the log. All reads of one turn share one request for a read index.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shared::planted::{Bug, is_planted};
use shared::v2;

use crate::command::Command;
use crate::member::{Member, RequestId};
use crate::slow::{Slow, Stages};
use crate::time::Moment;

/// What waits for a read index.
#[derive(Debug)]
pub(crate) enum ReadRequest {
    /// A quorum read of the v2 tree.
    V2(v2::Request),
    /// A read that the caller carries out itself.
    Point,
}

impl ReadRequest {
    /// The same as an entry of the log, where the cluster gives no read index.
    pub(crate) fn into_command(self) -> Command {
        match self {
            ReadRequest::V2(request) => request.into(),
            ReadRequest::Point => Command::read_point(),
        }
    }
}

/// A quorum read whose client waits.
#[derive(Debug)]
pub(crate) struct PendingRead<C> {
    pub(crate) request: ReadRequest,
    pub(crate) caller: C,
    pub(crate) deadline: Moment,
    /// When its read index was first requested.
    pub(crate) first_queried: Option<Moment>,
}

/// All pending reads, oldest first at each stage.
#[derive(Debug)]
pub(crate) struct Reads<C> {
    /// Reads whose index was not requested yet.
    queued: Vec<PendingRead<C>>,
    /// Reads whose index was requested, with the time of the request.
    in_flight: BTreeMap<RequestId, (Moment, Vec<PendingRead<C>>)>,
    /// Reads that wait until their index is applied.
    ready: VecDeque<ReadyReads<C>>,
}

/// Reads with an index.
#[derive(Debug)]
struct ReadyReads<C> {
    index: u64,
    queried: Moment,
    since: Moment,
    reads: Vec<PendingRead<C>>,
}

impl<C> Default for Reads<C> {
    fn default() -> Reads<C> {
        Reads { queued: Vec::new(), in_flight: BTreeMap::new(), ready: VecDeque::new() }
    }
}

impl<C> Reads<C> {
    pub(crate) fn push(&mut self, read: PendingRead<C>) {
        self.queued.push(read);
    }

    /// Requests an index for the queued reads. Without a leader they stay queued.
    pub(crate) fn request_index(&mut self, member: &mut Member, now: Moment) {
        if self.queued.is_empty() {
            return;
        }
        if let Ok(id) = member.read_index() {
            let mut reads = std::mem::take(&mut self.queued);
            reads.iter_mut().for_each(|read| read.first_queried = read.first_queried.or(Some(now)));
            self.in_flight.insert(id, (now, reads));
        }
    }

    /// The cluster has answered request `id`: the reads wait until `index` is applied.
    pub(crate) fn ready(&mut self, id: RequestId, index: u64, now: Moment) {
        if let Some((queried, reads)) = self.in_flight.remove(&id) {
            self.ready.push_back(ReadyReads { index, queried, since: now, reads });
        }
    }

    /// Takes out the reads whose index is applied: they must be answered now. A read arrived `timeout` before
    /// its deadline.
    pub(crate) fn take_applied(
        &mut self,
        applied: u64,
        now: Moment,
        timeout: Duration,
        slow: &mut Slow,
    ) -> Option<Vec<PendingRead<C>>> {
        let ReadyReads { queried, since, reads, .. } =
            self.ready.pop_front_if(|ready| ready.index <= applied || is_planted(Bug::ReadBeforeApply))?;
        if slow.threshold().is_some() {
            for read in &reads {
                let queried = read.first_queried.unwrap_or(queried);
                let queue = queried - (read.deadline - timeout);
                let stages =
                    Stages { queue, peers: since - queried, apply: now - since, ..Stages::default() };
                slow.report_read(&read.request, stages, true, now);
            }
        }
        Some(reads)
    }

    /// A request may be lost on the network, or with a leader: reads without an answer after `patience` are
    /// queued again.
    pub(crate) fn retry(&mut self, now: Moment, patience: Duration) {
        while let Some(first) = self.in_flight.first_entry()
            && first.get().0 + patience <= now
        {
            let (_, mut reads) = first.remove();
            reads.append(&mut self.queued);
            self.queued = reads;
        }
    }

    /// Takes out the reads whose deadline has passed. It is `timeout` after their arrival.
    pub(crate) fn expire(&mut self, now: Moment, timeout: Duration, slow: &mut Slow) -> Vec<PendingRead<C>> {
        let mut expired = Vec::new();
        let in_flight = self.in_flight.values_mut().map(|(queried, reads)| (*queried, now, reads));
        let ready = self.ready.iter_mut().map(|ready| (ready.queried, ready.since, &mut ready.reads));
        for (queried, ready, reads) in in_flight.chain(ready).chain([(now, now, &mut self.queued)]) {
            for read in reads.extract_if(.., |read| read.deadline <= now) {
                // Reads that were queued again had been requested before.
                let queried = read.first_queried.unwrap_or(queried);
                let queue = queried - (read.deadline - timeout);
                let stages =
                    Stages { queue, peers: ready - queried, apply: now - ready, ..Stages::default() };
                slow.report_read(&read.request, stages, false, now);
                expired.push(read);
            }
        }
        expired
    }

    /// Takes out all reads.
    pub(crate) fn take_all(&mut self) -> Vec<PendingRead<C>> {
        let in_flight = std::mem::take(&mut self.in_flight).into_values().flat_map(|(_, reads)| reads);
        let ready = std::mem::take(&mut self.ready).into_iter().flat_map(|ready| ready.reads);
        in_flight.chain(ready).chain(std::mem::take(&mut self.queued)).collect()
    }
}
