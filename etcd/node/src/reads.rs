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
pub(crate) struct Read<C> {
    pub(crate) request: v2::Request,
    pub(crate) caller: C,
    pub(crate) deadline: Moment,
    /// When the cluster was first asked for it.
    pub(crate) asked: Option<Moment>,
}

/// Reads on their way, oldest first at each stage.
#[derive(Debug)]
pub(crate) struct Reads<C> {
    /// The cluster was not asked yet.
    fresh: Vec<Read<C>>,
    /// The cluster was asked, and when.
    asked: BTreeMap<RequestId, (Moment, Vec<Read<C>>)>,
    /// So much must be applied first.
    ready: VecDeque<Ready<C>>,
}

/// Reads for which the cluster has answered.
#[derive(Debug)]
struct Ready<C> {
    index: u64,
    asked: Moment,
    since: Moment,
    reads: Vec<Read<C>>,
}

impl<C> Default for Reads<C> {
    fn default() -> Reads<C> {
        Reads { fresh: Vec::new(), asked: BTreeMap::new(), ready: VecDeque::new() }
    }
}

impl<C> Reads<C> {
    pub(crate) fn push(&mut self, read: Read<C>) {
        self.fresh.push(read);
    }

    /// Asks the cluster for all reads that came since the last time; they wait on while there is no leader.
    pub(crate) fn ask(&mut self, member: &mut Member, now: Moment) {
        if self.fresh.is_empty() {
            return;
        }
        if let Ok(id) = member.read_index() {
            let mut reads = std::mem::take(&mut self.fresh);
            reads.iter_mut().for_each(|read| read.asked = read.asked.or(Some(now)));
            self.asked.insert(id, (now, reads));
        }
    }

    /// The cluster has answered: so much must be applied.
    pub(crate) fn ready(&mut self, id: RequestId, index: u64, now: Moment) {
        if let Some((asked, reads)) = self.asked.remove(&id) {
            self.ready.push_back(Ready { index, asked, since: now, reads });
        }
    }

    /// Those whose index is applied: they are to be read now. `timeout` is how long before its deadline a read came.
    pub(crate) fn take_applied(
        &mut self,
        applied: u64,
        now: Moment,
        timeout: Duration,
        slow: &mut Slow,
    ) -> Option<Vec<Read<C>>> {
        let Ready { asked, since, reads, .. } =
            self.ready.pop_front_if(|ready| ready.index <= applied || is_planted(Bug::ReadBeforeApply))?;
        if slow.threshold().is_some() {
            for read in &reads {
                let asked = read.asked.unwrap_or(asked);
                let queue = asked - (read.deadline - timeout);
                let stages = Stages { queue, peers: since - asked, apply: now - since, ..Stages::default() };
                slow.tell_read(&read.request, stages, true, now);
            }
        }
        Some(reads)
    }

    /// Questions may be lost on their way, or with a leader: those without an answer for so long are asked again.
    pub(crate) fn retry(&mut self, now: Moment, patience: Duration) {
        while let Some(first) = self.asked.first_entry()
            && first.get().0 + patience <= now
        {
            let (_, mut reads) = first.remove();
            reads.append(&mut self.fresh);
            self.fresh = reads;
        }
    }

    /// Takes out those whose deadline has passed, which is `timeout` after they came.
    pub(crate) fn expire(&mut self, now: Moment, timeout: Duration, slow: &mut Slow) -> Vec<Read<C>> {
        let mut expired = Vec::new();
        let asked = self.asked.values_mut().map(|(asked, reads)| (*asked, now, reads));
        let ready = self.ready.iter_mut().map(|ready| (ready.asked, ready.since, &mut ready.reads));
        for (asked, ready, reads) in asked.chain(ready).chain([(now, now, &mut self.fresh)]) {
            for read in reads.extract_if(.., |read| read.deadline <= now) {
                // Those that are to be asked for once more were on their way, too.
                let asked = read.asked.unwrap_or(asked);
                let queue = asked - (read.deadline - timeout);
                let stages = Stages { queue, peers: ready - asked, apply: now - ready, ..Stages::default() };
                slow.tell_read(&read.request, stages, false, now);
                expired.push(read);
            }
        }
        expired
    }

    /// All that were not answered yet.
    pub(crate) fn take_all(&mut self) -> Vec<Read<C>> {
        let asked = std::mem::take(&mut self.asked).into_values().flat_map(|(_, reads)| reads);
        let ready = std::mem::take(&mut self.ready).into_iter().flat_map(|ready| ready.reads);
        asked.chain(ready).chain(std::mem::take(&mut self.fresh)).collect()
    }
}
