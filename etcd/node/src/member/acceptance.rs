//! What other members say: which of it reaches the `raft` crate, and in what form.
//!
//! The crate trusts its peers. It treats a message without a term as its own, takes a term that is far ahead for its
//! own, and ends the process where an index does not fit its log. So each kind of message is compared with this
//! member's log and state first, in [`Member::acceptable`].

use raft::eraftpb::{self, MessageType};
use raft::{INVALID_ID, StateRole};
use shared::id::MemberId;
use shared::planted::{Bug, is_planted};

use super::content::Content;
use super::message::Message;
use super::{Kind, Member};
use crate::command::Command;

/// Reads of followers that a leader keeps until it knows that it still leads. Followers ask again.
const READS_PENDING_MAX: usize = 16 * 1024;

/// A message that no member sends. It has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No cluster can have held that many elections.
    #[error("{from} sent {kind:?} of term {term}, and no cluster can be beyond term {max} today")]
    Term {
        /// Who says that it sent it.
        from: MemberId,
        /// What it is.
        kind: Kind,
        /// Its term.
        term: u64,
        /// The highest term there can be.
        max: u64,
    },
    /// The sender is no member and asks for a change.
    #[error("{from} sent {kind:?} and is not a member")]
    Stranger {
        /// Who says that it sent it.
        from: MemberId,
        /// What it is.
        kind: Kind,
    },
    /// It contradicts the log of this member, or what such a message can say at all.
    #[error("{from} sent {kind:?} {what}")]
    Nonsense {
        /// Who says that it sent it.
        from: MemberId,
        /// What it is.
        kind: Kind,
        /// What is wrong.
        what: &'static str,
    },
}

impl Member {
    /// A message from another member. Those that have come too late, or are for another member, are dropped.
    ///
    /// # Errors
    /// If no member sends such a message. It is dropped too.
    pub fn step(&mut self, message: Message) -> Result<(), Refusal> {
        let Some(mut message) = self.acceptable(message.0)? else { return Ok(()) };
        self.plant_message_bugs(&mut message);
        if !self.extended && self.is_of_lower_leader(&message) {
            self.send_own_term(message.from);
        }
        match message.msg_type {
            MessageType::MsgPropose if self.raft.raft.state == StateRole::Leader => {
                // With those of this member's own clients, in one message to all followers. One that is bound to
                // another term came too late.
                let bound_to = if is_planted(Bug::LateProposals) { 0 } else { message.log_term };
                if [0, self.raft.raft.term].contains(&bound_to) {
                    self.proposals.forward(bound_to, message.take_entries());
                }
                return Ok(());
            }
            // Its member proposes it again, if it is lost by that: see `proposals`.
            MessageType::MsgPropose if message.log_term != 0 => return Ok(()),
            MessageType::MsgSnapshot => self.list_self_as_learner(&mut message),
            MessageType::MsgTimeoutNow => {
                self.take_over(message);
                return Ok(());
            }
            _ => {}
        }
        // What raft refuses has come too late, or from a member that is none any more.
        let _ = self.raft.step(message);
        Ok(())
    }

    /// Makes the mistakes that concern messages, where one is planted.
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

    /// The leader hands over to this member.
    pub(super) fn take_over(&mut self, message: eraftpb::Message) {
        let raft = &self.raft.raft;
        let is_leaders = message.from == raft.leader_id && message.term == raft.term;
        if !is_leaders || raft.state != StateRole::Follower || !self.may_campaign() {
            return;
        }
        // Raft refuses while a change of the members waits to be applied, such as the one that took the old leader
        // out.
        if self.applied < raft.raft_log.committed {
            self.deferred_takeover = Some(message);
            return;
        }
        let _ = self.raft.step(message);
    }

    /// Whether a proposal could make a key of more levels than are taken.
    fn is_too_deep(&self, entry: &eraftpb::Entry) -> bool {
        let max = self.key_levels_max;
        // Nearly all have fewer slashes in all.
        memchr::memchr_iter(b'/', &entry.data).count() > max
            && matches!(Content::of(entry), Ok(Content::Command(Command::V2(request))) if request.levels_beyond(max).is_some())
    }

    /// Whether somebody leads in a term that is over for this member.
    fn is_of_lower_leader(&self, message: &eraftpb::Message) -> bool {
        let leads = matches!(message.msg_type, MessageType::MsgAppend | MessageType::MsgHeartbeat);
        leads && message.term < self.raft.raft.term
    }

    /// Tells a leader that its term is over. The raft crate does so only while it checks the quorum itself, and
    /// the others may do that while this member does not know yet that it may: they would not hear its
    /// candidature, nor it their leader.
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

    /// The message in a form that cannot upset raft; none if it is to be dropped.
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
        // Raft takes a message without a term for the member's own, and these two have none for that reason.
        let asks = matches!(message.msg_type, MessageType::MsgPropose | MessageType::MsgReadIndex);
        if asks != (message.term == 0) {
            return nonsense(if asks { "with a term" } else { "without a term" });
        }
        let raft = &self.raft.raft;
        let log = &raft.raft_log;
        let is_known = self.membership.members.contains_key(&from) || raft.prs().get(from.0).is_some();
        // No other member can lead, or stand for election, without the vote of the only one.
        if self.is_alone() && !is_known {
            return Err(Refusal::Stranger { from, kind });
        }
        // What came too late may contradict what was decided since. Raft passes over it.
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
            // A leader says what this member has told it to have. What is in a log that has lost entries since is
            // not known to be the leader's.
            MessageType::MsgHeartbeat if message.commit > log.last_index() => message.commit = 0,
            // An answer to what a candidate asked cannot be there before its log was on the disk, nor be for one
            // that has no vote itself.
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
                let asked = raft.promotable() && self.is_on_disk() && !self.is_installing();
                if !message.reject && !asked {
                    return Ok(None);
                }
            }
            // Leaders are asked by their own program only.
            MessageType::MsgTransferLeader => return nonsense("by the network"),
            _ => {}
        }
        Ok(Some(message))
    }

    /// Whether it brings other entries than those that this member knows to be decided.
    fn replaces_committed(&self, append: &eraftpb::Message) -> bool {
        let log = &self.raft.raft.raft_log;
        let decided = append.entries.iter().take_while(|entry| entry.index <= log.committed);
        // Of entries that the log no longer has the term is 0: the answer says how far it is.
        decided
            .into_iter()
            .any(|entry| log.term(entry.index).is_ok_and(|term| term != 0 && term != entry.term))
    }

    /// Names this member in a snapshot's list of members, without a vote, if that is older than the member:
    /// the raft crate would refuse the snapshot, which Go sends all the same. The entry that adds it follows.
    fn list_self_as_learner(&self, message: &mut eraftpb::Message) {
        let state = message.mut_snapshot().mut_metadata().mut_conf_state();
        if !state.voters.contains(&self.id.0) {
            state.learners.push(self.id.0);
        }
    }
}
