//! The node's own proposals: its attributes, and as the leader the version of its cluster.
//!
//! The version of a cluster is the lowest version of its members. The leader asks all members for theirs when its term
//! begins and every [`CHECK_INTERVAL`], and raises the cluster's version when all of them allow it; it never goes down.

use std::time::Duration;

use shared::id::MemberId;
use shared::v2;

use crate::command::Command;
use crate::member::{Member, RequestId, Role, VERSION_PATH, attributes_path};
use crate::time::Moment;
use crate::version::{Level, Version};

/// How often a leader asks the members for their versions while the cluster's version is below the highest.
const CHECK_INTERVAL: Duration = Duration::from_secs(4);

/// A proposal of the node's own.
#[derive(Debug)]
pub(crate) struct OwnProposal {
    command: Command,
    /// The current attempt.
    proposed: Option<RequestId>,
    /// When the attempt has failed.
    deadline: Moment,
}

impl OwnProposal {
    /// Puts `value` at `path`. The first attempt has until `deadline`.
    pub(crate) fn put(path: Vec<u8>, value: Vec<u8>, deadline: Moment) -> OwnProposal {
        let request = v2::Request {
            verb: v2::Verb::Put,
            path: path.into(),
            val: value.into(),
            ..v2::Request::default()
        };
        OwnProposal { command: request.into(), proposed: None, deadline }
    }

    /// The attributes of the member `id`.
    pub(crate) fn attributes(id: MemberId, value: Vec<u8>, deadline: Moment) -> OwnProposal {
        OwnProposal::put(attributes_path(id).into_bytes(), value, deadline)
    }

    /// Proposes the command, unless it is proposed already or there is no leader.
    pub(crate) fn propose(&mut self, member: &mut Member) {
        if self.proposed.is_none() && member.takes_proposals() {
            self.proposed = Some(member.propose(self.command.clone()));
        }
    }

    /// Whether the entry with this id is the current attempt.
    pub(crate) fn is_proposed_as(&self, id: RequestId) -> bool {
        self.proposed == Some(id)
    }

    /// Whether the deadline of the attempt has passed.
    pub(crate) fn is_overdue(&self, now: Moment) -> bool {
        self.deadline <= now
    }

    /// Gives the attempt up. The next one has until `deadline`.
    pub(crate) fn restart(&mut self, member: &mut Member, deadline: Moment) {
        self.forget(member);
        self.deadline = deadline;
    }

    /// Gives the attempt up: the member does not propose it again.
    pub(crate) fn forget(&mut self, member: &mut Member) {
        if let Some(id) = self.proposed.take() {
            member.forget(id);
        }
    }
}

/// The leader's checks of the cluster's version.
#[derive(Debug)]
pub(crate) struct ClusterVersion {
    next_check: Moment,
    /// The members are being asked for their versions.
    asking: bool,
    pub(crate) proposal: Option<OwnProposal>,
}

impl ClusterVersion {
    pub(crate) fn new(now: Moment) -> ClusterVersion {
        ClusterVersion { next_check: now, asking: false, proposal: None }
    }

    /// A new leader's first entry is applied: if this member is that leader, it checks at once.
    pub(crate) fn check_now(&mut self, now: Moment) {
        self.next_check = now;
    }

    /// Whether the members must be asked for their versions now.
    pub(crate) fn begin_check(&mut self, member: &Member, now: Moment) -> bool {
        if now < self.next_check || self.asking || self.proposal.is_some() {
            return false;
        }
        self.next_check = now + CHECK_INTERVAL;
        // The version is never raised above this member's own.
        // A leader that has not applied all of its log may see an older version.
        self.asking = member.status().current
            && present(member).is_none_or(|present| present.of_cluster() < member.level().cluster_version());
        self.asking
    }

    /// Handles the members' answer: `lowest` is their lowest version, `None` if one of them did not answer.
    /// Returns the cluster's current version and the version that is proposed, which has until `deadline`.
    pub(crate) fn decide(
        &mut self,
        member: &Member,
        lowest: Option<Version>,
        deadline: Moment,
    ) -> Option<(Option<Version>, Version)> {
        self.asking = false;
        if member.status().role != Role::Leader {
            return None;
        }
        let present = present(member);
        let version = decide(member.level(), present, lowest)?;
        let value = version.to_string().into_bytes();
        self.proposal = Some(OwnProposal::put(VERSION_PATH.to_vec(), value, deadline));
        Some((present, version))
    }
}

/// The cluster's version as of the last applied entry.
fn present(member: &Member) -> Option<Version> {
    member.membership().version.as_deref()?.parse().ok()
}

/// The version to propose, if it differs from the present one.
fn decide(level: Level, present: Option<Version>, lowest: Option<Version>) -> Option<Version> {
    // A newer member speaks this member's version too.
    let lowest = lowest.map(|lowest| lowest.of_cluster().min(level.cluster_version()));
    match (present, lowest) {
        (None, lowest) => Some(lowest.unwrap_or(level.lowest_cluster_version())),
        (Some(present), Some(lowest)) => (present.of_cluster() < lowest).then_some(lowest),
        (Some(_), None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_only_rises_and_waits_for_all() {
        use crate::version::{CLUSTER_MAX, CLUSTER_MIN};
        let version = |text: &str| text.parse::<Version>().unwrap();
        let decide = |present, lowest| decide(Level::V2_3, present, lowest);
        assert_eq!(decide(None, Some(version("2.3.8"))), Some(CLUSTER_MAX));
        assert_eq!(decide(None, Some(version("2.2.5"))), Some(CLUSTER_MIN));
        assert_eq!(decide(None, None), Some(CLUSTER_MIN));
        assert_eq!(decide(Some(CLUSTER_MIN), Some(version("2.3.1"))), Some(CLUSTER_MAX));
        assert_eq!(decide(Some(CLUSTER_MIN), Some(version("3.0.0"))), Some(CLUSTER_MAX));
        assert_eq!(decide(Some(CLUSTER_MIN), None), None);
        assert_eq!(decide(Some(CLUSTER_MAX), Some(version("2.2.0"))), None);
    }
}
