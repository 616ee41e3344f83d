//! Quorum reads that need no entry: all that come in one turn share one question to the cluster.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shared::planted::{Bug, is_planted};
use shared::v2;

use crate::member::{Member, RequestId};
use crate::slow::{Slow, Stages};
use crate::time::Moment;

/// A client that waits for what is read.
#[derive(Debug)]
pub(crate) struct PendingRead<C> {
    pub(crate) request: v2::Request,
    pub(crate) caller: C,
    pub(crate) deadline: Moment,
    /// When the cluster was first asked for it.
    pub(crate) first_queried: Option<Moment>,
}

/// Reads on their way, oldest first at each stage.
#[derive(Debug)]
pub(crate) struct Reads<C> {
    /// The cluster was not asked yet.
    queued: Vec<PendingRead<C>>,
    /// The cluster was asked, and when.
    in_flight: BTreeMap<RequestId, (Moment, Vec<PendingRead<C>>)>,
    /// So much must be applied first.
    ready: VecDeque<ReadyReads<C>>,
}

/// Reads for which the cluster has answered.
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

    /// Asks the cluster for all reads that came since the last time; they wait on while there is no leader.
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

    /// The cluster has answered: so much must be applied.
    pub(crate) fn ready(&mut self, id: RequestId, index: u64, now: Moment) {
        if let Some((queried, reads)) = self.in_flight.remove(&id) {
            self.ready.push_back(ReadyReads { index, queried, since: now, reads });
        }
    }

    /// Those whose index is applied: they are to be read now. `timeout` is how long before its deadline a read came.
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

    /// Questions may be lost on their way, or with a leader: those without an answer for so long are asked again.
    pub(crate) fn retry(&mut self, now: Moment, patience: Duration) {
        while let Some(first) = self.in_flight.first_entry()
            && first.get().0 + patience <= now
        {
            let (_, mut reads) = first.remove();
            reads.append(&mut self.queued);
            self.queued = reads;
        }
    }

    /// Takes out those whose deadline has passed, which is `timeout` after they came.
    pub(crate) fn expire(&mut self, now: Moment, timeout: Duration, slow: &mut Slow) -> Vec<PendingRead<C>> {
        let mut expired = Vec::new();
        let in_flight = self.in_flight.values_mut().map(|(queried, reads)| (*queried, now, reads));
        let ready = self.ready.iter_mut().map(|ready| (ready.queried, ready.since, &mut ready.reads));
        for (queried, ready, reads) in in_flight.chain(ready).chain([(now, now, &mut self.queued)]) {
            for read in reads.extract_if(.., |read| read.deadline <= now) {
                // Those that are to be asked for once more were on their way, too.
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

    /// All that were not answered yet.
    pub(crate) fn take_all(&mut self) -> Vec<PendingRead<C>> {
        let in_flight = std::mem::take(&mut self.in_flight).into_values().flat_map(|(_, reads)| reads);
        let ready = std::mem::take(&mut self.ready).into_iter().flat_map(|ready| ready.reads);
        in_flight.chain(ready).chain(std::mem::take(&mut self.queued)).collect()
    }
}
