//! Calls of clients, from the first attempt to the answer or the timeout.

use shared::planted::{Bug, is_planted};
use shared::v2;

use super::Node;
use crate::action::{Action, Call, Notice, Unavailable};
use crate::command::Command;
use crate::machine::StateMachine;
use crate::member::{RequestId, Role};
use crate::reads::{PendingRead, ReadRequest};
use crate::slow::{Label, Stages, Times};
use crate::time::Moment;

/// A call that waits for its entry.
#[derive(Debug)]
pub(super) struct PendingCall<C> {
    pub(super) since: Moment,
    pub(super) caller: C,
    pub(super) times: Times,
    pub(super) label: Label,
}

impl<M: StateMachine, C> Node<M, C> {
    pub(super) fn accept(&mut self, call: Call<C>, deadline: Moment, now: Moment) {
        if let Some(call) = self.try_accept(call, deadline, now) {
            self.held.push_back((deadline, call));
        }
    }

    /// Passes a call to the member. Returns it if it must wait: there is no leader, or another change of the
    /// members is pending.
    pub(super) fn try_accept(&mut self, call: Call<C>, deadline: Moment, now: Moment) -> Option<Call<C>> {
        let call = match call {
            Call::Propose { command: Command::V2(request), caller, .. }
                if request.verb == v2::Verb::QuorumGet
                    && is_planted(Bug::StaleRead)
                    && self.member.status().role == Role::Leader =>
            {
                self.actions.push_back(Action::Read(request, caller));
                return None;
            }
            Call::Propose { command: Command::V2(request), caller, .. }
                if request.verb == v2::Verb::QuorumGet && self.member.offers_read_index() =>
            {
                let request = ReadRequest::V2(request);
                self.reads.push(PendingRead { request, caller, deadline, first_queried: None });
                return None;
            }
            Call::ReadPoint { caller } if self.member.offers_read_index() => {
                let request = ReadRequest::Point;
                self.reads.push(PendingRead { request, caller, deadline, first_queried: None });
                return None;
            }
            Call::ReadPoint { caller } => {
                Call::Propose { command: Command::read_point(), began: None, caller }
            }
            call => call,
        };
        if !self.member.takes_proposals() || self.ending.is_some() {
            return Some(call);
        }
        let since = deadline - self.config.request_timeout;
        let times = |arrived: Option<Moment>| Times { arrived: arrived.unwrap_or(since), proposed: now };
        let (id, waiting) = match call {
            Call::Propose { command, began, caller } => {
                let label = self.slow.threshold().map(|_| Label::of(&command)).unwrap_or_default();
                (self.member.propose(command), PendingCall { since, caller, times: times(began), label })
            }
            // Turned into a proposal above.
            call @ Call::ReadPoint { .. } => return Some(call),
            // Raft would drop a second change: it waits for the first one.
            Call::Configure { .. } if self.member.is_configuring() => return Some(call),
            Call::Configure { change, caller } => {
                let label = Label::members();
                (self.member.configure(change), PendingCall { since, caller, times: times(None), label })
            }
        };
        self.waiting.insert(id, waiting);
        self.deadlines.push_back((deadline, id));
        None
    }

    pub(super) fn retry_held(&mut self, now: Moment) {
        for _ in 0..self.held.len() {
            let Some((deadline, call)) = self.held.pop_front() else { break };
            if let Some(call) = self.try_accept(call, deadline, now) {
                self.held.push_back((deadline, call));
            }
        }
    }

    /// Requests a read index for the new reads. Where the cluster cannot give one, the reads become entries of
    /// the log.
    pub(super) fn request_read_index(&mut self, now: Moment) {
        if self.member.offers_read_index() {
            self.reads.request_index(&mut self.member, now);
            return;
        }
        for PendingRead { request, caller, deadline, .. } in self.reads.take_all() {
            let command = request.into_command();
            self.accept(Call::Propose { command, began: None, caller }, deadline, now);
        }
    }

    pub(super) fn answer_reads(&mut self, now: Moment) {
        let (applied, timeout) = (self.member.status().applied, self.config.request_timeout);
        while let Some(reads) = self.reads.take_applied(applied, now, timeout, &mut self.slow) {
            self.actions.extend(reads.into_iter().map(|read| match read.request {
                ReadRequest::V2(request) => Action::Read(request, read.caller),
                ReadRequest::Point => Action::ReadPoint(read.caller),
            }));
        }
        self.take_slow_lines();
    }

    /// Answers calls whose deadline has passed.
    pub(super) fn expire_calls(&mut self, now: Moment) {
        while let Some((deadline, id)) = self.deadlines.pop_front_if(|(deadline, _)| *deadline <= now) {
            self.expire_waiting(id, deadline, now);
        }
        while let Some((deadline, call)) = self.held.pop_front_if(|(deadline, _)| *deadline <= now) {
            if let Call::Propose { command, began, .. } = &call {
                let arrived = began.unwrap_or(deadline - self.config.request_timeout);
                let stages = Stages { queue: now - arrived, ..Stages::default() };
                self.slow.report(&Label::of(command), stages, false, now);
            }
            let (caller, why) = (call.into_caller(), Unavailable::Timeout);
            self.actions.push_back(Action::Unanswered { caller, why, proposed: false });
        }
        let timeout = self.config.request_timeout;
        self.reads.retry(now, self.config.election);
        for read in self.reads.expire(now, timeout, &mut self.slow) {
            let why = self.timeout_reason(read.deadline - timeout);
            self.actions.push_back(Action::Unanswered { caller: read.caller, why, proposed: false });
        }
    }

    pub(super) fn expire_waiting(&mut self, id: RequestId, deadline: Moment, now: Moment) {
        let Some(waiting) = self.waiting.remove(&id) else { return };
        self.member.forget(id);
        let stages = self.slow.stages_so_far(waiting.times, now);
        self.slow.report(&waiting.label, stages, false, now);
        let why = self.timeout_reason(deadline - self.config.request_timeout);
        self.actions.push_back(Action::Unanswered { caller: waiting.caller, why, proposed: true });
    }

    /// Answers a call whose entry may have been lost with a leader, or may be covered by a snapshot.
    pub(super) fn give_up(&mut self, id: RequestId, now: Moment) {
        if let Some(waiting) = self.waiting.get(&id) {
            let deadline = waiting.since + self.config.request_timeout;
            self.expire_waiting(id, deadline, now);
        } else {
            self.restart_own_proposal(id, now);
        }
    }

    /// Why a request that arrived at `arrived` has no answer.
    pub(super) fn timeout_reason(&self, arrived: Moment) -> Unavailable {
        // A leader change within two election timeouts after the arrival may be the cause.
        let before = self.leader_changed - 2 * self.config.election;
        if before < arrived && arrived < self.leader_changed {
            Unavailable::LeaderLost
        } else {
            Unavailable::Timeout
        }
    }

    /// Reports the slow requests among those of the last applied entries.
    pub(super) fn report_slow(&mut self, now: Moment) {
        if self.slow.threshold().is_none() {
            return;
        }
        let index = self.member.status().applied;
        for (times, label) in std::mem::take(&mut self.maybe_slow) {
            let stages = self.slow.stages(times, index, self.applied_at, now);
            self.slow.report(&label, stages, true, now);
        }
        self.slow.applied(index);
        self.take_slow_lines();
    }

    pub(super) fn take_slow_lines(&mut self) {
        let lines = self.slow.take_lines();
        self.actions.extend(lines.map(|line| Action::Notify(Notice::Slow(line))));
    }
}
