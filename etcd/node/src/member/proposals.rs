//! Proposals, until they are applied or known to be lost.
//!
//! A proposal that this member forwards names the term of the leader that it is for (a *bound* proposal). Only
//! that leader, in that term, appends it. Terms never fall along a log. So once an entry of a later term is
//! applied here, a bound proposal that was not applied before never will be: it can be proposed again, and is
//! still applied only once. The same holds for entries that this member appended itself while it led.
//!
//! Members of 2.3 append a proposal in any term, and forward it to the next leader. Where there are such
//! members, proposals are not bound and not proposed again; if the first entries of a new leader do not include
//! them, their clients get an answer soon.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::StateRole;
use raft::eraftpb::{self, Entry, EntryType, MessageType};

use super::{Member, MemberChange, RequestId, convert};
use crate::command::Command;

/// Forwarded entries that wait while this leader accepts no proposals. Further ones are dropped; their members
/// propose them again to the next leader.
const FORWARDED_MAX: usize = 16 * 1024;

/// All proposals of one member, see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    /// Proposals to pass to raft, in this order.
    queued: Vec<Proposal>,
    /// Proposals of other members, each with the term that it is bound to; 0 for none.
    forwarded: Vec<(u64, Entry)>,
    /// Proposals passed to raft, with ascending terms.
    in_flight: VecDeque<InFlight>,
    /// Proposals that may or may not be applied, with the ticks left until their clients are answered. The
    /// ticks are ascending.
    uncertain: VecDeque<(RequestId, usize)>,
    /// Uncertain proposals whose clients must be answered now.
    given_up: Vec<RequestId>,
}

#[derive(Debug)]
struct Proposal {
    /// The request that waits for it; `None` for a proposal that is not repeated.
    waiter: Option<RequestId>,
    /// It may be applied twice, as a read may.
    repeatable: bool,
    content: Encoded,
}

/// Kind and data of an entry, before raft gives it a term and an index.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    kind: EntryType,
    data: Bytes,
}

#[derive(Debug)]
struct InFlight {
    id: RequestId,
    repeatable: bool,
    /// The member's term when it was passed to raft.
    term: u64,
    route: Route,
    content: Encoded,
}

/// How a proposal reached a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// This member led, and appended it.
    Own,
    /// It was sent to the leader of that term, bound to it.
    Bound,
    /// It was sent, and any leader may append it.
    Open,
}

/// Proposals for raft, in one message.
pub(super) struct ProposalBatch {
    pub(super) entries: Vec<Entry>,
    /// For [`Proposals::requeue`].
    pub(super) before: usize,
}

impl Proposals {
    /// Adds a proposal for which a client waits. A `repeatable` one may be applied twice.
    pub(super) fn push(&mut self, id: RequestId, repeatable: bool, content: Encoded) {
        self.queued.push(Proposal { waiter: Some(id), repeatable, content });
    }

    /// Adds a proposal that is never proposed again.
    pub(super) fn push_once(&mut self, content: Encoded) {
        self.queued.push(Proposal { waiter: None, repeatable: false, content });
    }

    /// Adds proposals that another member forwarded, bound to `term` or to none (0).
    pub(super) fn forward(&mut self, term: u64, entries: impl IntoIterator<Item = Entry>) {
        let room = FORWARDED_MAX.saturating_sub(self.forwarded.len());
        self.forwarded.extend(entries.into_iter().take(room).map(|entry| (term, entry)));
    }

    /// Whether there are proposals to pass to raft.
    pub(super) fn is_waiting(&self) -> bool {
        !self.queued.is_empty() || !self.forwarded.is_empty()
    }

    /// Whether one of this member's proposals is a change of the members.
    pub(super) fn has_change(&self) -> bool {
        let queued = self.queued.iter().map(|proposal| &proposal.content);
        queued.chain(self.in_flight.iter().map(|in_flight| &in_flight.content)).any(Encoded::is_change)
    }

    /// Drops forwarded proposals that are bound to another term than `term`: they came too late.
    pub(super) fn keep_forwarded_of(&mut self, term: u64) {
        self.forwarded.retain(|(bound_to, _)| [0, term].contains(bound_to));
    }

    /// Drops forwarded proposals: this member does not lead.
    pub(super) fn drop_forwarded(&mut self) {
        self.forwarded.clear();
    }

    /// Takes the proposals to pass to raft now, in the member's `term`. At most one of them is a change of the
    /// members, and none unless `may_change`: raft would drop it.
    pub(super) fn take_ready(&mut self, term: u64, route: Route, may_change: bool) -> ProposalBatch {
        let has_new_change = self.queued.iter().any(|proposal| proposal.content.is_change())
            || self.forwarded.iter().any(|(_, entry)| is_change(entry.entry_type));
        let change_in_flight =
            has_new_change && self.in_flight.iter().any(|in_flight| in_flight.content.is_change());
        let mut may_change = may_change && !change_in_flight;
        let mut allowed = |kind: EntryType| !is_change(kind) || std::mem::replace(&mut may_change, false);
        let before = self.in_flight.len();
        let mut entries = Vec::with_capacity(self.queued.len() + self.forwarded.len());
        for Proposal { waiter, repeatable, content } in
            self.queued.extract_if(.., |proposal| allowed(proposal.content.kind))
        {
            entries.push(convert::proposal(content.kind, content.data.clone()));
            if let Some(id) = waiter {
                self.in_flight.push_back(InFlight { id, repeatable, term, route, content });
            }
        }
        let allowed = |(_, entry): &mut (u64, Entry)| allowed(entry.entry_type);
        entries.extend(self.forwarded.extract_if(.., allowed).map(|(_, entry)| entry));
        ProposalBatch { entries, before }
    }

    /// Raft refused the last batch: this member's proposals are queued again.
    pub(super) fn requeue(&mut self, before: usize) {
        self.queued.splice(0..0, self.in_flight.drain(before..).map(InFlight::into_proposal));
    }

    /// The proposal is applied, or no client waits any more: it is not proposed again.
    pub(super) fn forget(&mut self, id: RequestId) {
        if self.in_flight.front().is_some_and(|first| first.id == id) {
            self.in_flight.pop_front();
        } else if let Some(at) = self.in_flight.iter().position(|in_flight| in_flight.id == id) {
            self.in_flight.remove(at);
        } else if let Some(at) = self.uncertain.iter().position(|(uncertain, _)| *uncertain == id) {
            self.uncertain.remove(at);
        } else {
            self.queued.retain(|proposal| proposal.waiter != Some(id));
        }
    }

    /// An entry of this term is about to be applied. Proposals that are lost by that are proposed again; those
    /// that may be lost have `grace_ticks` ticks left. `all_bind`: all members respect the term of a bound
    /// proposal.
    pub(super) fn on_term(&mut self, term: u64, all_bind: bool, grace_ticks: usize) {
        if self.in_flight.front().is_none_or(|first| first.term >= term) {
            return;
        }
        let before = self.in_flight.partition_point(|in_flight| in_flight.term < term);
        let mut lost = Vec::new();
        for in_flight in self.in_flight.drain(..before) {
            let is_lost = match in_flight.route {
                Route::Own => true,
                Route::Bound => all_bind,
                Route::Open => false,
            };
            if is_lost || in_flight.repeatable {
                lost.push(in_flight.into_proposal());
            } else {
                self.uncertain.push_back((in_flight.id, grace_ticks));
            }
        }
        self.queued.splice(0..0, lost);
    }

    /// A snapshot of this term has replaced entries, and the proposals may be among them.
    pub(super) fn on_snapshot(&mut self, term: u64, grace_ticks: usize) {
        let covered = self.in_flight.partition_point(|in_flight| in_flight.term <= term);
        for in_flight in self.in_flight.drain(..covered) {
            if in_flight.repeatable {
                self.queued.push(in_flight.into_proposal());
            } else {
                self.uncertain.push_back((in_flight.id, grace_ticks));
            }
        }
    }

    /// One tick has passed.
    pub(super) fn tick(&mut self) {
        for (_, ticks) in &mut self.uncertain {
            *ticks = ticks.saturating_sub(1);
        }
        while let Some((id, _)) = self.uncertain.pop_front_if(|(_, ticks)| *ticks == 0) {
            self.given_up.push(id);
        }
    }

    /// Takes the uncertain proposals whose clients have waited long enough.
    pub(super) fn take_given_up(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.given_up)
    }
}

impl InFlight {
    fn into_proposal(self) -> Proposal {
        Proposal { waiter: Some(self.id), repeatable: self.repeatable, content: self.content }
    }
}

impl Encoded {
    fn is_change(&self) -> bool {
        is_change(self.kind)
    }
}

fn is_change(kind: EntryType) -> bool {
    kind == EntryType::EntryConfChange
}

impl Member {
    /// Proposes `command`. Its id is set here; it is returned and comes back in
    /// [`Applied::Command`](super::Applied::Command) once the entry is applied. Commands of one turn go in one
    /// message, with the next [`Member::poll`] that knows a leader. A command that is lost with a leader is
    /// proposed again, until it is applied or [forgotten](Member::forget).
    pub fn propose(&mut self, command: impl Into<Command>) -> RequestId {
        let command = command.into();
        let is_read = command.is_read();
        let (id, content) = self.encode_command(command);
        self.proposals.push(id, is_read, content);
        id
    }

    /// Proposes a command for which no client waits: it is not proposed again.
    pub fn propose_once(&mut self, command: impl Into<Command>) {
        let (_, content) = self.encode_command(command.into());
        self.proposals.push_once(content);
    }

    fn encode_command(&mut self, mut command: Command) -> (RequestId, Encoded) {
        let id = self.ids.next();
        command.set_id(id);
        command.encode(&mut self.encoded);
        (id, Encoded { kind: EntryType::EntryNormal, data: self.encoded.split().freeze() })
    }

    /// Proposes a change of the members, as [`Member::propose`] does. One change follows the other.
    pub fn configure(&mut self, change: MemberChange) -> RequestId {
        let (id, content) = self.encode_change(change);
        self.proposals.push(id, false, content);
        id
    }

    /// Proposes a change for which no client waits: it is not proposed again.
    pub fn configure_once(&mut self, change: MemberChange) {
        let (_, content) = self.encode_change(change);
        self.proposals.push_once(content);
    }

    fn encode_change(&mut self, mut change: MemberChange) -> (RequestId, Encoded) {
        change.id = self.ids.next();
        (change.id, Encoded { kind: EntryType::EntryConfChange, data: Bytes::from(change.encode_to_vec()) })
    }

    /// No client waits for the proposal any more: it is not proposed again. It may still be applied.
    pub fn forget(&mut self, id: RequestId) {
        self.proposals.forget(id);
    }

    /// Whether a change of the members is not applied yet. Raft would replace a second one by an empty entry,
    /// and its client would never get an answer.
    pub fn is_configuring(&self) -> bool {
        self.raft.raft.has_pending_conf() || self.proposals.has_change()
    }

    /// Passes all proposals to raft in one message, if it accepts them now.
    pub(super) fn step_proposals(&mut self) {
        if !self.proposals.is_waiting() {
            return;
        }
        let raft = &mut self.raft.raft;
        let leads = raft.state == StateRole::Leader;
        if leads {
            self.proposals.keep_forwarded_of(raft.term);
        } else {
            self.proposals.drop_forwarded();
        }
        // Raft accepts none while the leader hands over, or after it was removed.
        let accepts_proposals = match raft.state {
            StateRole::Leader => raft.lead_transferee.is_none() && !self.removed_self,
            StateRole::Follower => raft.leader_id != raft::INVALID_ID && !self.removed_self,
            StateRole::Candidate | StateRole::PreCandidate => false,
        };
        if !accepts_proposals {
            return;
        }
        let route = match (leads, self.extended) {
            (true, _) => Route::Own,
            (false, true) => Route::Bound,
            (false, false) => Route::Open,
        };
        let batch = self.proposals.take_ready(raft.term, route, !raft.has_pending_conf());
        if batch.entries.is_empty() {
            return;
        }
        let message = eraftpb::Message {
            msg_type: MessageType::MsgPropose,
            from: self.id.0,
            // The term that it is bound to; members of 2.3 ignore it.
            log_term: if route == Route::Bound { raft.term } else { 0 },
            entries: batch.entries.into(),
            ..eraftpb::Message::default()
        };
        if raft.step(message).is_err() {
            self.proposals.requeue(batch.before);
        } else if leads {
            self.announced_commit = raft.raft_log.committed;
        }
    }
}
