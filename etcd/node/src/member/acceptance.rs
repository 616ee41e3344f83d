//! Checks messages of other members against this member's state, before the `raft` crate gets them.
//!
//! The crate trusts its peers. It treats a message without a term as local, adopts a term that is far ahead,
//! and panics where an index does not fit its log. So each kind of message is compared with this member's log
//! and state first, in [`Member::acceptable`].

use raft::eraftpb::{self, MessageType};
use raft::{INVALID_ID, StateRole};
use shared::id::MemberId;
use shared::planted::{Bug, is_planted};

use super::content::{Content, check_levels};
use super::message::Message;
use super::{Kind, Member};
use crate::command::Command;

/// Read requests of followers that a leader keeps until it has confirmed that it still leads. Followers repeat
/// them.
const READS_PENDING_MAX: usize = 16 * 1024;

/// A message was refused as invalid. It has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The term is higher than any cluster can have reached.
    #[error("{from} sent {kind:?} of term {term}, and no cluster can be beyond term {max} today")]
    Term {
        /// The sender that the message names.
        from: MemberId,
        /// The kind of message.
        kind: Kind,
        /// Its term.
        term: u64,
        /// The highest possible term.
        max: u64,
    },
    /// The sender is not a member, and proposes something or writes to the only member.
    #[error("{from} sent {kind:?} and is not a member")]
    Stranger {
        /// The sender that the message names.
        from: MemberId,
        /// The kind of message.
        kind: Kind,
    },
    /// The message contradicts the log of this member, or is invalid for its kind.
    #[error("{from} sent {kind:?} {what}")]
    Nonsense {
        /// The sender that the message names.
        from: MemberId,
        /// The kind of message.
        kind: Kind,
        /// What is wrong.
        what: &'static str,
    },
}

impl Member {
    /// Handles a message from another member. Outdated messages, and messages to another member, are dropped.
    ///
    /// # Errors
    /// If the message is invalid. It is dropped.
    pub fn step(&mut self, message: Message) -> Result<(), Refusal> {
        let Some(mut message) = self.acceptable(message.0)? else { return Ok(()) };
        self.plant_message_bugs(&mut message);
        if !self.extended && self.is_of_lower_leader(&message) {
            self.send_own_term(message.from);
        }
        match message.msg_type {
            MessageType::MsgPropose if self.raft.raft.state == StateRole::Leader => {
                // They go to raft together with the proposals of this member's clients. A proposal that is
                // bound to another term came too late.
                let bound_to = if is_planted(Bug::LateProposals) { 0 } else { message.log_term };
                if [0, self.raft.raft.term].contains(&bound_to) {
                    self.proposals.forward(bound_to, message.take_entries());
                }
                return Ok(());
            }
            // If it is lost, the member that sent it proposes it again: see `proposals`.
            MessageType::MsgPropose if message.log_term != 0 => return Ok(()),
            MessageType::MsgSnapshot => self.list_self_as_learner(&mut message),
            MessageType::MsgTimeoutNow => {
                self.take_over(message);
                return Ok(());
            }
            _ => {}
        }
        // Raft refuses outdated messages, and messages of removed members.
        let _ = self.raft.step(message);
        Ok(())
    }

    /// Applies the planted bug, if it concerns messages.
    fn plant_message_bugs(&mut self, message: &mut eraftpb::Message) {
        let term = self.raft.raft.term;
        match message.msg_type {
            MessageType::MsgAppend if is_planted(Bug::CommitOffByOne) => message.commit += 1,
            MessageType::MsgAppend if is_planted(Bug::NoTermCheck) && message.term < term => {
                message.term = term;
            }
            MessageType::MsgAppendResponse if is_planted(Bug::CountedTwice) && !message.reject => {
                let other = self.conf_state.iter().find(|id| ![message.from, self.id.0].contains(*id));
                if let Some(other) = other {
                    let _ = self.raft.step(eraftpb::Message { from: *other, ..message.clone() });
                }
            }
            _ => {}
        }
    }

    /// The leader asks this member to take over.
    pub(super) fn take_over(&mut self, message: eraftpb::Message) {
        let raft = &self.raft.raft;
        let is_leaders = message.from == raft.leader_id && message.term == raft.term;
        if !is_leaders || raft.state != StateRole::Follower || !self.may_campaign() {
            return;
        }
        // Raft refuses while a change of the members is not applied yet, such as the removal of the old leader.
        if self.applied < raft.raft_log.committed {
            self.deferred_takeover = Some(message);
            return;
        }
        let _ = self.raft.step(message);
    }

    /// Whether a proposal could create a key with too many levels.
    fn is_too_deep(&self, entry: &eraftpb::Entry) -> bool {
        let max = self.key_levels_max;
        // The quick check: nearly all proposals have fewer slashes.
        memchr::memchr_iter(b'/', &entry.data).count() > max
            && matches!(Content::of(entry), Ok(Content::Command(Command::V2(request))) if request.levels_beyond(max).is_some())
    }

    /// Whether the message is of a leader of a lower term than this member's.
    fn is_of_lower_leader(&self, message: &eraftpb::Message) -> bool {
        let leads = matches!(message.msg_type, MessageType::MsgAppend | MessageType::MsgHeartbeat);
        leads && message.term < self.raft.raft.term
    }

    /// Tells a leader that its term is over. The raft crate does so only while this member checks the quorum.
    /// The others may check it before this member knows that all support it; then they would ignore its
    /// candidature, and it would ignore their leader.
    fn send_own_term(&mut self, leader: u64) {
        let term = self.raft.raft.term;
        self.raft.raft.msgs.push(eraftpb::Message {
            msg_type: MessageType::MsgAppendResponse,
            to: leader,
            from: self.id.0,
            term,
            ..eraftpb::Message::default()
        });
    }

    /// The message in a form that raft can handle; `None` if it must be dropped.
    fn acceptable(&self, mut message: eraftpb::Message) -> Result<Option<eraftpb::Message>, Refusal> {
        let (from, kind) = (MemberId(message.from), Kind::of(message.msg_type));
        let others = message.from != self.id.0 && message.from != INVALID_ID && message.to == self.id.0;
        if kind == Kind::Local || !others {
            return Ok(None);
        }
        let max = self.terms.max();
        if message.term > max {
            return Err(Refusal::Term { from, kind, term: message.term, max });
        }
        let nonsense = |what| Err(Refusal::Nonsense { from, kind, what });
        // Raft treats a message without a term as local. These two kinds have none for that reason.
        let asks = matches!(message.msg_type, MessageType::MsgPropose | MessageType::MsgReadIndex);
        if asks != (message.term == 0) {
            return nonsense(if asks { "with a term" } else { "without a term" });
        }
        let raft = &self.raft.raft;
        let log = &raft.raft_log;
        // The leader that has just been removed may still hand over.
        let is_known = self.membership.members.contains_key(&from)
            || raft.prs().get(from.0).is_some()
            || raft.leader_id == from.0;
        // No other member can lead, or stand for election, without the vote of the only one.
        if self.is_alone() && !is_known {
            if self.membership.removed.contains(&from) {
                return Ok(None);
            }
            return Err(Refusal::Stranger { from, kind });
        }
        // An outdated message may contradict later decisions. Raft ignores it.
        if !asks && message.term < raft.term {
            return Ok(Some(message));
        }
        let leads = raft.state == StateRole::Leader && message.term == raft.term;
        match message.msg_type {
            MessageType::MsgPropose if message.entries.is_empty() => return nonsense("without an entry"),
            MessageType::MsgPropose => {
                if !is_known {
                    return Err(Refusal::Stranger { from, kind });
                }
                if message.entries.iter().any(|entry| self.is_too_deep(entry)) {
                    return nonsense("of a key with more levels than this member takes (-max-key-depth)");
                }
                if check_levels(&message.entries, self.level).is_err() {
                    return nonsense("of a request that this cluster's level does not have");
                }
            }
            MessageType::MsgReadIndex if raft.pending_read_count() >= READS_PENDING_MAX => return Ok(None),
            MessageType::MsgAppendResponse
                if leads && !message.reject && message.index > log.last_index() =>
            {
                return nonsense("of entries that this member does not have");
            }
            MessageType::MsgAppend if self.replaces_committed(&message) => {
                return nonsense("in the place of committed entries");
            }
            MessageType::MsgAppend if check_levels(&message.entries, self.level).is_err() => {
                return nonsense("of a request that this cluster's level does not have");
            }
            // A leader's heartbeat holds the index that this member has acknowledged. If the log has lost
            // entries since, its entries may differ from the leader's.
            MessageType::MsgHeartbeat if message.commit > log.last_index() => message.commit = 0,
            // A candidate asks for votes only when its log is durable and it has a vote itself; there is no
            // genuine answer before.
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
                let may_be_candidate = raft.promotable() && self.is_on_disk() && !self.is_installing();
                if !message.reject && !may_be_candidate {
                    return Ok(None);
                }
            }
            // Only a leader's own process sends it.
            MessageType::MsgTransferLeader => return nonsense("by the network"),
            _ => {}
        }
        Ok(Some(message))
    }

    /// Whether an append message would replace committed entries.
    fn replaces_committed(&self, append: &eraftpb::Message) -> bool {
        let log = &self.raft.raft.raft_log;
        let decided = append.entries.iter().take_while(|entry| entry.index <= log.committed);
        // The term of entries that the log no longer has is 0: the answer to the leader says how far the log
        // is.
        decided
            .into_iter()
            .any(|entry| log.term(entry.index).is_ok_and(|term| term != 0 && term != entry.term))
    }

    /// Adds this member to the snapshot's members as a learner, if the snapshot is older than the member: the
    /// raft crate would refuse it, but Go leaders send such snapshots. The entry that adds the member follows.
    fn list_self_as_learner(&self, message: &mut eraftpb::Message) {
        let state = message.mut_snapshot().mut_metadata().mut_conf_state();
        if !state.voters.contains(&self.id.0) {
            state.learners.push(self.id.0);
        }
    }
}
