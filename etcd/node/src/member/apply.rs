//! Applies committed entries to the store, to the list of members and to consensus.
//!
//! All members do the same at the same entry. An invalid entry, which only another program or an earlier
//! version can have written to the log, is skipped by all of them.

use raft::eraftpb;
use raft::{INVALID_ID, StateRole};
use shared::planted::{Bug, is_planted};
use shared::v2;

use super::content::{ChangeKind, Content, InvalidEntry, MemberChange, is_forgery};
use super::membership::{self, Membership, attributes_id};
use super::{Applied, Committed, ConfigureError, Member};
use crate::command::Command;
use crate::machine::{Position, StateMachine};
use crate::time::Now;

impl Member {
    /// Applies committed entries in order, and calls `done` with the effects of each.
    ///
    /// `now` is only shown (the remaining TTL in answers): the effects depend on the entries alone.
    pub fn apply(
        &mut self,
        committed: Committed,
        machine: &mut impl StateMachine,
        now: Now,
        mut done: impl FnMut(Applied),
    ) {
        for entry in committed.0 {
            assert!(
                entry.index == self.applied + 1,
                "gap in the log: applied {}, got {}",
                self.applied,
                entry.index
            );
            (self.applied, self.applied_term) = (entry.index, entry.term);
            self.proposals.on_term(entry.term, self.extended, self.election_ticks);
            let content = Content::of(&entry).and_then(|content| {
                content.check_level(self.level)?;
                Ok(content)
            });
            let applied = match content {
                Ok(Content::Command(Command::Nothing)) => {
                    done(Applied::NewTerm);
                    Ok(())
                }
                Ok(Content::Command(command)) => self.apply_command(&command, machine, now, &mut done),
                Ok(Content::Change(change)) => self.apply_change(&change, machine, now, &mut done),
                Err(why) => Err(why),
            };
            machine.passed(self.position());
            if let Err(why) = applied {
                done(Applied::Skipped { index: entry.index, why });
            }
        }
        self.raft.advance_apply_to(self.applied);
        if let Some(message) = self.deferred_takeover.take() {
            self.take_over(message);
        }
    }

    /// The last entry that is applied.
    fn position(&self) -> Position {
        Position { index: self.applied, term: self.applied_term }
    }

    fn apply_command(
        &mut self,
        command: &Command,
        machine: &mut impl StateMachine,
        now: Now,
        done: &mut impl FnMut(Applied),
    ) -> Result<(), InvalidEntry> {
        match command {
            Command::Nothing => Ok(()),
            Command::V2(request) => self.apply_request(request, command, machine, now, done),
            Command::V3(request) => {
                if self.ids.may_be_own(request.id) {
                    self.proposals.forget(request.id);
                }
                if let Some(outcome) = machine.apply(self.position(), command, now) {
                    done(Applied::Command(request.id, outcome));
                }
                Ok(())
            }
        }
    }

    fn apply_request(
        &mut self,
        request: &v2::Request,
        command: &Command,
        machine: &mut impl StateMachine,
        now: Now,
        done: &mut impl FnMut(Applied),
    ) -> Result<(), InvalidEntry> {
        if self.ids.may_be_own(request.id) {
            self.proposals.forget(request.id);
        }
        if is_forgery(request) {
            return Err(InvalidEntry::Path(request.path.escape_ascii().to_string()));
        }
        let of_cluster = request.path.starts_with(b"/0/") && request.verb == v2::Verb::Put;
        if let Some(member) = attributes_id(&request.path).filter(|_| of_cluster) {
            if self.membership.removed.contains(&member) {
                return Ok(());
            }
            if !self.membership.members.contains_key(&member) {
                // Attributes alone would make it a member.
                return Err(InvalidEntry::Path(request.path.escape_ascii().to_string()));
            }
        }
        let outcome = machine.apply(self.position(), command, now);
        if is_planted(Bug::AppliedTwice) && std::mem::take(&mut self.is_first_entry) {
            machine.apply(self.position(), command, now);
        }
        if !request.path.starts_with(b"/1/") {
            done(Applied::OutsideKeys { auth: concerns_auth(&request.path) });
        }
        if of_cluster {
            self.membership = Membership::from_store(self.membership.cluster_id, machine.tree());
            machine.members_changed(&self.membership, &self.conf_state);
            done(Applied::AttributesChanged);
        }
        if let Some(outcome) = outcome {
            done(Applied::Command(request.id, outcome));
        }
        Ok(())
    }

    fn apply_change(
        &mut self,
        change: &MemberChange,
        machine: &mut impl StateMachine,
        now: Now,
        done: &mut impl FnMut(Applied),
    ) -> Result<(), InvalidEntry> {
        self.proposals.forget(change.id);
        let peer_urls = change.peer_urls();
        let checked = self.membership.check(change, &peer_urls);
        if checked.is_err() {
            done(Applied::Configured(change.id, checked));
            return Ok(());
        }
        if let Err(error) = membership::write_change(machine.tree_mut(), change, &peer_urls, now.wall) {
            done(Applied::Configured(change.id, Err(ConfigureError::Impossible)));
            return Err(InvalidEntry::Store(error));
        }
        let counted = self.change_voters(change);
        self.membership = Membership::from_store(self.membership.cluster_id, machine.tree());
        machine.members_changed(&self.membership, &self.conf_state);
        done(Applied::MemberChanged { kind: change.kind, id: change.member, peer_urls });
        done(Applied::Configured(change.id, Ok(())));
        if change.kind == ChangeKind::Remove && change.member == self.id {
            self.removed_self = true;
            self.step_down();
            done(Applied::RemovedSelf);
        }
        counted
    }

    /// A removed leader sends the new commit index to the others, lets one of them take over, and becomes a
    /// follower: the raft crate does not support a leader outside its own group.
    fn step_down(&mut self) {
        if self.raft.raft.state != StateRole::Leader || self.conf_state.contains(&self.id.0) {
            return;
        }
        if self.conf_state.iter().any(|voter| *voter != self.id.0) {
            self.broadcast_commit();
            if self.extended {
                self.transfer(|_| true);
            }
        }
        let term = self.raft.raft.term;
        self.raft.raft.become_follower(term, INVALID_ID);
    }

    /// Adds or removes a voter in raft. Raft does not get changes of peer URLs: it would take their kind number
    /// for that of a learner.
    pub(super) fn change_voters(&mut self, change: &MemberChange) -> Result<(), InvalidEntry> {
        let voter = change.member.0;
        match change.kind {
            ChangeKind::Add => {
                self.change_voter(eraftpb::ConfChangeType::AddNode, voter)?;
                // A forced start removes all voters before it adds the one that continues.
                if let Some(last) = self.last_voter_removed.take().filter(|last| *last != voter) {
                    self.change_voter(eraftpb::ConfChangeType::RemoveNode, last)?;
                }
            }
            // Raft refuses to remove its last voter.
            ChangeKind::Remove if self.raft.raft.prs().conf().to_conf_state().voters == [voter] => {
                self.conf_state.clear();
                self.last_voter_removed = Some(voter);
            }
            ChangeKind::Remove => self.change_voter(eraftpb::ConfChangeType::RemoveNode, voter)?,
            ChangeKind::Update => {}
        }
        Ok(())
    }

    fn change_voter(
        &mut self,
        change_type: eraftpb::ConfChangeType,
        node_id: u64,
    ) -> Result<(), InvalidEntry> {
        let change = eraftpb::ConfChange { change_type, node_id, ..eraftpb::ConfChange::default() };
        let state = self.raft.apply_conf_change(&change);
        let state = state.map_err(|error| InvalidEntry::Consensus(error.to_string()))?;
        let removes = change_type == eraftpb::ConfChangeType::RemoveNode;
        if removes && is_planted(Bug::LostRemoval) {
            return Ok(());
        }
        self.conf_state = state.voters;
        self.conf_state.sort_unstable();
        Ok(())
    }
}

/// Whether this path is above, at or below users, roles and the auth switch.
fn concerns_auth(path: &[u8]) -> bool {
    // The request that expires keys has no path.
    let clean = shared::store::clean_path(path);
    !path.is_empty() && (*clean == *b"/" || *clean == *b"/2" || clean.starts_with(b"/2/"))
}
