//! Quorum reads that need no entry: all that come in one turn of the loop share one question to the cluster.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use node::member::{Member, RequestId};
use shared::event::Event;
use shared::store::Store;
use shared::v2;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::slow::{Slow, Stages};
use crate::backend::{SubmitError, Unavailable};

/// A client that waits for what is read.
pub(super) struct Read {
    pub(super) request: v2::Request,
    pub(super) reply: oneshot::Sender<Result<Event, SubmitError>>,
    pub(super) deadline: Instant,
    /// When the cluster was first asked for it.
    pub(super) asked: Option<Instant>,
}

/// Reads on their way, oldest first at each stage.
#[derive(Default)]
pub(super) struct Reads {
    /// The cluster was not asked yet.
    fresh: Vec<Read>,
    /// The cluster was asked, and when.
    asked: BTreeMap<RequestId, (Instant, Vec<Read>)>,
    /// So much must be applied first.
    ready: VecDeque<Ready>,
}

/// Reads for which the cluster has answered.
struct Ready {
    index: u64,
    asked: Instant,
    since: Instant,
    reads: Vec<Read>,
}

impl Reads {
    pub(super) fn push(&mut self, read: Read) {
        self.fresh.push(read);
    }

    /// Asks the cluster for all reads that came since the last time; they wait on while there is no leader.
    pub(super) fn ask(&mut self, member: &mut Member, now: Instant) {
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
    pub(super) fn ready(&mut self, id: RequestId, index: u64, now: Instant) {
        if let Some((asked, reads)) = self.asked.remove(&id) {
            self.ready.push_back(Ready { index, asked, since: now, reads });
        }
    }

    /// Answers those whose index is applied. `timeout` is how long before its deadline a read came.
    pub(super) fn answer(
        &mut self,
        applied: u64,
        timeout: Duration,
        slow: &mut Slow,
        store: impl Fn(&v2::Request) -> Result<Event, SubmitError>,
    ) {
        while self.ready.front().is_some_and(|ready| ready.index <= applied) {
            let Some(Ready { asked, since, reads, .. }) = self.ready.pop_front() else { break };
            let now = slow.threshold().map(|_| Instant::now());
            for mut read in reads {
                // A client that has gone is not told.
                let _ = read.reply.send(store(&read.request));
                if let Some(now) = now {
                    let asked = read.asked.unwrap_or(asked);
                    let queue = asked.saturating_duration_since(read.deadline - timeout);
                    let stages =
                        Stages { queue, peers: since - asked, apply: now - since, ..Stages::default() };
                    slow.tell_read(&mut read.request, stages, true, now);
                }
            }
        }
    }

    /// Questions may be lost on their way, or with a leader: those without an answer for so long are asked again.
    pub(super) fn retry(&mut self, now: Instant, patience: Duration) {
        while let Some(first) = self.asked.first_entry()
            && first.get().0 + patience <= now
        {
            let (_, mut reads) = first.remove();
            reads.append(&mut self.fresh);
            self.fresh = reads;
        }
    }

    /// Gives up on those whose deadline has passed, which is `timeout` after they came.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        timeout: Duration,
        slow: &mut Slow,
        why: impl Fn(Instant) -> Unavailable,
    ) {
        let asked = self.asked.values_mut().map(|(asked, reads)| (*asked, now, reads));
        let ready = self.ready.iter_mut().map(|ready| (ready.asked, ready.since, &mut ready.reads));
        for (asked, ready, reads) in asked.chain(ready).chain([(now, now, &mut self.fresh)]) {
            for mut read in reads.extract_if(.., |read| read.deadline <= now) {
                let _ = read.reply.send(Err(why(read.deadline).into()));
                // Those that are to be asked for once more were on their way, too.
                let asked = read.asked.unwrap_or(asked);
                let queue = asked.saturating_duration_since(read.deadline - timeout);
                let stages = Stages { queue, peers: ready - asked, apply: now - ready, ..Stages::default() };
                slow.tell_read(&mut read.request, stages, false, now);
            }
        }
    }

    /// All that were not answered yet.
    pub(super) fn take_all(&mut self) -> Vec<Read> {
        let asked = std::mem::take(&mut self.asked).into_values().flat_map(|(_, reads)| reads);
        let ready = std::mem::take(&mut self.ready).into_iter().flat_map(|ready| ready.reads);
        asked.chain(ready).chain(std::mem::take(&mut self.fresh)).collect()
    }
}

/// What a read finds.
pub(super) fn read(store: &Store, request: &v2::Request) -> Result<Event, SubmitError> {
    Ok(store.get(&request.path, request.recursive, request.sorted)?)
}
