//! Proposals on their way into the log, until they are applied or known to be lost.
//!
//! A proposal that this member forwards names the term of the leader that it is for (a *bound* proposal), and only that
//! leader, in that term, appends it. Terms never fall along a log. So once an entry of a later term is applied here, a
//! bound proposal that was not applied before never will be: it can be proposed again, and still happens once. The same
//! holds for what this member appended itself while it led.
//!
//! Members of 2.3 append a proposal in whatever term it reaches them, and pass it on to the next leader. Where there
//! are such members, proposals are not bound and not proposed again; their clients get an answer as soon as a new
//! leader's first entries do not bring them.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::StateRole;
use raft::eraftpb::{self, Entry, EntryType, MessageType};

use super::{Member, MemberChange, RequestId, convert};
use crate::command::Command;

/// Entries of other members that wait here while this leader takes no proposals. Beyond it they are dropped; their
/// member proposes them again to the next leader.
const FORWARDED_MAX: usize = 16 * 1024;

/// All proposals of one member, see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    /// To be handed to raft, in this order.
    fresh: Vec<Proposal>,
    /// The same of other members, each with the term that it is bound to; 0 for none.
    forwarded: Vec<(u64, Entry)>,
    /// Handed to raft, with terms that never fall.
    under_way: VecDeque<UnderWay>,
    /// Nobody can say whether they will be applied. With the ticks that are left until their clients are told so, which
    /// never fall.
    doubtful: VecDeque<(RequestId, usize)>,
    /// Their clients are to be told so now.
    given_up: Vec<RequestId>,
}

#[derive(Debug)]
struct Proposal {
    /// Who waits for it; `None` for what is proposed once only.
    waits: Option<RequestId>,
    /// It may happen twice, as a read may.
    repeatable: bool,
    content: Encoded,
}

/// The kind of an entry and its data: what of it is known before raft gives it a term and an index.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    kind: EntryType,
    data: Bytes,
}

#[derive(Debug)]
struct UnderWay {
    id: RequestId,
    repeatable: bool,
    /// The member's term when it was handed to raft.
    term: u64,
    route: Route,
    content: Encoded,
}

/// How a proposal came to a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// This member led, and appended it.
    Own,
    /// It was sent to the leader of that term, bound to it.
    Bound,
    /// It was sent, and whoever leads when it arrives may append it.
    Open,
}

/// What is handed to raft in one message.
pub(super) struct Taken {
    pub(super) entries: Vec<Entry>,
    /// For [`Proposals::refused`].
    pub(super) before: usize,
}

impl Proposals {
    /// Adds one for which a client waits. A `repeatable` one may happen twice.
    pub(super) fn push(&mut self, id: RequestId, repeatable: bool, content: Encoded) {
        self.fresh.push(Proposal { waits: Some(id), repeatable, content });
    }

    /// Adds one that is not proposed again, whatever becomes of it.
    pub(super) fn push_once(&mut self, content: Encoded) {
        self.fresh.push(Proposal { waits: None, repeatable: false, content });
    }

    /// Adds those that another member sent to this leader, bound to a term or to none (0).
    pub(super) fn forward(&mut self, term: u64, entries: impl IntoIterator<Item = Entry>) {
        let room = FORWARDED_MAX.saturating_sub(self.forwarded.len());
        self.forwarded.extend(entries.into_iter().take(room).map(|entry| (term, entry)));
    }

    /// Whether any wait to be handed to raft.
    pub(super) fn is_waiting(&self) -> bool {
        !self.fresh.is_empty() || !self.forwarded.is_empty()
    }

    /// Whether a change of the members is among those of this member.
    pub(super) fn has_change(&self) -> bool {
        let fresh = self.fresh.iter().map(|proposal| &proposal.content);
        fresh.chain(self.under_way.iter().map(|under_way| &under_way.content)).any(Encoded::is_change)
    }

    /// Forgets those of other members but for such as are bound to `term`, or to none: they would come too late.
    pub(super) fn keep_forwarded_of(&mut self, term: u64) {
        self.forwarded.retain(|(bound_to, _)| [0, term].contains(bound_to));
    }

    /// Forgets those of other members: this one does not lead.
    pub(super) fn drop_forwarded(&mut self) {
        self.forwarded.clear();
    }

    /// Takes what is to be handed to raft now, in the member's `term`. Of changes of the members at most one, and none
    /// unless `may_change`: raft would swallow it.
    pub(super) fn take(&mut self, term: u64, route: Route, may_change: bool) -> Taken {
        let changes = self.fresh.iter().any(|proposal| proposal.content.is_change())
            || self.forwarded.iter().any(|(_, entry)| is_change(entry.entry_type));
        let changing = changes && self.under_way.iter().any(|under_way| under_way.content.is_change());
        let mut may_change = may_change && !changing;
        let mut goes = |kind: EntryType| !is_change(kind) || std::mem::replace(&mut may_change, false);
        let before = self.under_way.len();
        let mut entries = Vec::with_capacity(self.fresh.len() + self.forwarded.len());
        for Proposal { waits, repeatable, content } in
            self.fresh.extract_if(.., |proposal| goes(proposal.content.kind))
        {
            entries.push(convert::proposal(content.kind, content.data.clone()));
            if let Some(id) = waits {
                self.under_way.push_back(UnderWay { id, repeatable, term, route, content });
            }
        }
        let goes = |(_, entry): &mut (u64, Entry)| goes(entry.entry_type);
        entries.extend(self.forwarded.extract_if(.., goes).map(|(_, entry)| entry));
        Taken { entries, before }
    }

    /// Raft refused all that was taken last: those of this member are handed over again later.
    pub(super) fn refused(&mut self, before: usize) {
        self.fresh.splice(0..0, self.under_way.drain(before..).map(UnderWay::again));
    }

    /// It is applied, or nobody waits for it any more: it is not proposed again.
    pub(super) fn forget(&mut self, id: RequestId) {
        if self.under_way.front().is_some_and(|first| first.id == id) {
            self.under_way.pop_front();
        } else if let Some(at) = self.under_way.iter().position(|under_way| under_way.id == id) {
            self.under_way.remove(at);
        } else if let Some(at) = self.doubtful.iter().position(|(doubtful, _)| *doubtful == id) {
            self.doubtful.remove(at);
        } else {
            self.fresh.retain(|proposal| proposal.waits != Some(id));
        }
    }

    /// An entry of this term is about to be applied. What is lost by that is proposed again; what may be lost has
    /// `patience` ticks left. `all_bind`: all members keep to the term that a proposal is bound to.
    pub(super) fn reached(&mut self, term: u64, all_bind: bool, patience: usize) {
        if self.under_way.front().is_none_or(|first| first.term >= term) {
            return;
        }
        let before = self.under_way.partition_point(|under_way| under_way.term < term);
        let mut lost = Vec::new();
        for under_way in self.under_way.drain(..before) {
            let is_lost = match under_way.route {
                Route::Own => true,
                Route::Bound => all_bind,
                Route::Open => false,
            };
            if is_lost || under_way.repeatable {
                lost.push(under_way.again());
            } else {
                self.doubtful.push_back((under_way.id, patience));
            }
        }
        self.fresh.splice(0..0, lost);
    }

    /// A snapshot of this term has taken the place of entries: they may be among those.
    pub(super) fn covered(&mut self, term: u64, patience: usize) {
        let covered = self.under_way.partition_point(|under_way| under_way.term <= term);
        for under_way in self.under_way.drain(..covered) {
            if under_way.repeatable {
                self.fresh.push(under_way.again());
            } else {
                self.doubtful.push_back((under_way.id, patience));
            }
        }
    }

    /// One tick has passed.
    pub(super) fn tick(&mut self) {
        for (_, ticks) in &mut self.doubtful {
            *ticks = ticks.saturating_sub(1);
        }
        while let Some((id, _)) = self.doubtful.pop_front_if(|(_, ticks)| *ticks == 0) {
            self.given_up.push(id);
        }
    }

    /// Those of which nobody can say whether they will ever be applied, and whose clients have waited long enough.
    pub(super) fn take_given_up(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.given_up)
    }
}

impl UnderWay {
    fn again(self) -> Proposal {
        Proposal { waits: Some(self.id), repeatable: self.repeatable, content: self.content }
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
    /// Asks for `command` to become an entry. Its id is set here and comes back in [`Applied::Command`](super::Applied::Command), if it ever
    /// commits. Commands of one turn travel together; they leave with the next [`Member::poll`] that knows a leader.
    /// One that was lost with a leader is proposed again, until it is applied or [forgotten](Member::forget).
    pub fn propose(&mut self, command: impl Into<Command>) -> RequestId {
        let command = command.into();
        let is_read = command.is_read();
        let (id, content) = self.encode_command(command);
        self.proposals.push(id, is_read, content);
        id
    }

    /// The same for a command that nobody waits for: it is not proposed again.
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

    /// Asks for a change of the members; like [`Member::propose`]. One follows the other.
    pub fn configure(&mut self, change: MemberChange) -> RequestId {
        let (id, content) = self.encode_change(change);
        self.proposals.push(id, false, content);
        id
    }

    /// The same for a change that nobody waits for: it is not proposed again.
    pub fn configure_once(&mut self, change: MemberChange) {
        let (_, content) = self.encode_change(change);
        self.proposals.push_once(content);
    }

    fn encode_change(&mut self, mut change: MemberChange) -> (RequestId, Encoded) {
        change.id = self.ids.next();
        (change.id, Encoded { kind: EntryType::EntryConfChange, data: Bytes::from(change.encode_to_vec()) })
    }

    /// Nobody waits for the proposal any more: it is not proposed again. It may still be applied.
    pub fn forget(&mut self, id: RequestId) {
        self.proposals.forget(id);
    }

    /// Whether a change of the members waits to be applied. Raft would replace a second one by an empty
    /// entry, and nobody would ever be answered.
    pub fn is_configuring(&self) -> bool {
        self.raft.raft.has_pending_conf() || self.proposals.has_change()
    }

    /// Hands all proposals to raft in one message, if it would take them now.
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
        // Of a leader that hands over, or has just removed itself, raft takes none.
        let takes = match raft.state {
            StateRole::Leader => raft.lead_transferee.is_none() && !self.removed_self,
            StateRole::Follower => raft.leader_id != raft::INVALID_ID && !self.removed_self,
            StateRole::Candidate | StateRole::PreCandidate => false,
        };
        if !takes {
            return;
        }
        let route = match (leads, self.extended) {
            (true, _) => Route::Own,
            (false, true) => Route::Bound,
            (false, false) => Route::Open,
        };
        let taken = self.proposals.take(raft.term, route, !raft.has_pending_conf());
        if taken.entries.is_empty() {
            return;
        }
        let message = eraftpb::Message {
            msg_type: MessageType::MsgPropose,
            from: self.id.0,
            // The term that it is bound to; members of 2.3 do not look at it.
            log_term: if route == Route::Bound { raft.term } else { 0 },
            entries: taken.entries.into(),
            ..eraftpb::Message::default()
        };
        if raft.step(message).is_err() {
            self.proposals.refused(taken.before);
        } else if leads {
            self.told_commit = raft.raft_log.committed;
        }
    }
}
