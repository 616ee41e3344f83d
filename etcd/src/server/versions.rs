//! The versions of the members of a cluster.

use std::time::Duration;

use node::member::Membership;
use node::version::{Level, Version};
use shared::id::MemberId;
use shared::net::Dialer;

use crate::log;
use crate::peers::info::version_of;

/// How long one member may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// The lowest version among all members, `own` included, which is of `level`; `None` if one of them does not answer.
pub(super) async fn lowest(
    own: MemberId,
    level: Level,
    dialer: &Dialer,
    members: &Membership,
) -> Option<Version> {
    let mut lowest = level.cluster_version();
    for peer in members.members.values().filter(|peer| peer.id != own) {
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
