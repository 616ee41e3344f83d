//! The version that all members speak: the leader looks at all of them, and raises it when it can.

use std::time::Duration;

use node::member::{Membership, Role, VERSION_PATH};
use shared::net::Dialer;
use shared::v2;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval};

use super::handle::Handle;
use super::node_loop::Notice;
use crate::backend::{Backend, SubmitError, Unavailable};
use crate::log;
use crate::peers::info::{Version, version_of};

/// How often a leader looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(4);

/// How long one member may take to tell its version.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// Our own, as a member of the cluster; the patch number says nothing about what members say to each other.
const OWN: Version = Version { major: 2, minor: 3, patch: 0 };

/// What a new cluster begins with while some of its members do not answer.
const LOWEST: Version = Version { major: 2, minor: 2, patch: 0 };

/// Looks at once when this member has become the leader, and from time to time.
pub(super) async fn keep(handle: Handle, dialer: Dialer, mut notices: UnboundedReceiver<Notice>) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Some(Notice::NewTerm { leads: true }) => {}
                Some(Notice::NewTerm { leads: false }) => continue,
                None => return,
            },
            _ = looks.tick() => {}
        }
        if handle.status().role != Role::Leader {
            continue;
        }
        let members = handle.members();
        let present = members.version.as_deref().and_then(|version| version.parse().ok());
        // Nothing is higher than what we speak ourselves.
        if present.is_some_and(|present: Version| (present.major, present.minor) >= (OWN.major, OWN.minor)) {
            continue;
        }
        let lowest = lowest(&handle, &dialer, &members).await;
        let Some(wanted) = decide(present, lowest) else { continue };
        match present {
            None => log::info!("etcdserver", "setting up the initial cluster version to {}", short(wanted)),
            Some(present) => log::info!(
                "etcdserver",
                "updating the cluster version from {} to {}",
                short(present),
                short(wanted)
            ),
        }
        let request = v2::Request {
            verb: v2::Verb::Put,
            path: VERSION_PATH.into(),
            val: format!("{}.{}.0", wanted.major, wanted.minor).into(),
            ..v2::Request::default()
        };
        match handle.submit(request).await {
            Ok(_) => {}
            Err(SubmitError::Unavailable(Unavailable::Stopped)) => return,
            Err(error) => log::error!("etcdserver", "error updating cluster version ({error})"),
        }
    }
}

/// The lowest version among all members; none if one of them does not answer.
async fn lowest(handle: &Handle, dialer: &Dialer, members: &Membership) -> Option<Version> {
    let mut lowest = OWN;
    for peer in members.members.values().filter(|peer| peer.id != handle.id()) {
        match version_of(dialer, &peer.peer_urls, ANSWER_TIME_MAX).await {
            Ok(version) => lowest = lowest.min(version.server),
            Err(error) => {
                log::warning!("etcdserver", "cannot get the version of member {} ({error})", peer.id);
                return None;
            }
        }
    }
    Some(lowest)
}

/// What the version is to become, if another than now: it never goes down.
fn decide(present: Option<Version>, lowest: Option<Version>) -> Option<Version> {
    let minor = |version: Version| Version { patch: 0, ..version };
    match (present, lowest.map(minor)) {
        (None, lowest) => Some(lowest.unwrap_or(LOWEST)),
        (Some(present), Some(lowest)) => (minor(present) < lowest).then_some(lowest),
        (Some(_), None) => None,
    }
}

/// `2.3`, as in the log.
fn short(version: Version) -> String {
    format!("{}.{}", version.major, version.minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_only_rises_and_waits_for_all() {
        let version = |text: &str| text.parse::<Version>().unwrap();
        assert_eq!(decide(None, Some(version("2.3.8"))), Some(OWN));
        assert_eq!(decide(None, Some(version("2.2.5"))), Some(LOWEST));
        assert_eq!(decide(None, None), Some(LOWEST));
        assert_eq!(decide(Some(LOWEST), Some(version("2.3.1"))), Some(OWN));
        assert_eq!(decide(Some(LOWEST), None), None);
        assert_eq!(decide(Some(OWN), Some(version("2.2.0"))), None);
    }
}
