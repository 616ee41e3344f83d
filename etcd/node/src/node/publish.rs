//! The node's own proposals, from the first attempt until they are applied.

use super::Node;
use crate::action::{Action, Notice, Unavailable};
use crate::machine::StateMachine;
use crate::member::RequestId;
use crate::time::Moment;
use crate::version::Version;

impl<M: StateMachine, C> Node<M, C> {
    /// The answer to [`Action::AskVersions`]: the lowest version of all members, `None` if one of them did not answer.
    pub fn versions_known(&mut self, lowest: Option<Version>, now: Moment) {
        let deadline = now + self.config.request_timeout;
        if let Some((from, to)) = self.cluster_version.decide(&self.member, lowest, deadline) {
            self.notify(Notice::RaisesVersion { from, to });
        }
    }

    pub(super) fn make_own_proposals(&mut self, now: Moment) {
        if self.ending.is_some() {
            return;
        }
        for own in self.attributes.iter_mut().chain(&mut self.cluster_version.proposal) {
            own.propose(&mut self.member);
        }
        if self.cluster_version.begin_check(&self.member, now) {
            self.actions.push_back(Action::AskVersions);
        }
    }

    /// Gives up attempts whose deadline has passed.
    pub(super) fn expire_own_proposals(&mut self, now: Moment) {
        let timeout = self.config.request_timeout;
        let why = self.timeout_reason(now - timeout);
        if let Some(own) = self.attributes.as_mut().filter(|own| own.is_overdue(now)) {
            own.restart(&mut self.member, now + timeout);
            self.notify(Notice::NotPublished(why));
        }
        if self.cluster_version.proposal.as_ref().is_some_and(|own| own.is_overdue(now)) {
            self.drop_version_proposal(why);
        }
    }

    /// The entry of an attempt may be lost.
    pub(super) fn restart_own_proposal(&mut self, id: RequestId, now: Moment) {
        let timeout = self.config.request_timeout;
        if let Some(own) = self.attributes.as_mut().filter(|own| own.is_proposed_as(id)) {
            own.restart(&mut self.member, now + timeout);
        } else if self.cluster_version.proposal.as_ref().is_some_and(|own| own.is_proposed_as(id)) {
            self.drop_version_proposal(self.timeout_reason(now - timeout));
        }
    }

    fn drop_version_proposal(&mut self, why: Unavailable) {
        if let Some(mut own) = self.cluster_version.proposal.take() {
            own.forget(&mut self.member);
            self.notify(Notice::VersionNotRaised(why));
        }
    }
}
