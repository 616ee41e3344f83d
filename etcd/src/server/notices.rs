//! Notices of a node as lines of the server's log.

use node::Notice;
use node::member::{ChangeKind, Membership, Status};
use node::slow::{SlowLine, millis};
use node::version::Version;
use shared::id::MemberId;

use super::handle::Inner;
use crate::log;

/// Writes the line of a notice of the member `id`.
pub(super) fn log_notice(id: MemberId, notice: &Notice) {
    match notice {
        Notice::Slow(line) => log_slow(line),
        Notice::Refused { refusal, others } => {
            let more = match others {
                0 => String::new(),
                others => format!(" ({others} others were refused since the last such line)"),
            };
            log::warning!("raft", "refused a message that no member sends: {refusal}{more}");
        }
        Notice::SnapshotRefused { index, from, why } => {
            log::error!("etcdserver", "the snapshot at index {index} from {from} is not taken: {why}");
        }
        Notice::Restoring { at, before, applied } => {
            log::info!(
                "raft",
                "{id} [commit: {}, lastindex: {}, lastterm: {}] starts to restore snapshot [index: {}, term: {}]",
                before.commit,
                before.last_index,
                before.last_term,
                at.index,
                at.term
            );
            log::info!("etcdserver", "applying snapshot at index {} over {applied}", at.index);
        }
        Notice::Restored { index } => {
            log::info!("etcdserver", "finished applying incoming snapshot at index {index}");
        }
        Notice::Snapshotting { applied, last } => {
            log::info!("etcdserver", "start to snapshot (applied: {applied}, lastsnap: {last})");
        }
        Notice::SnapshotSaved { index } => log::info!("etcdserver", "saved snapshot at index {index}"),
        Notice::RemovesDead { id, name, silent_for } => log::warning!(
            "etcdserver",
            "removing member {id} ({name}): nothing was heard of it for {} s (-remove-dead-members)",
            silent_for.as_secs()
        ),
        // Its line is written by `Publication::log`.
        Notice::Published => {}
        Notice::NotPublished(error) => log::error!("etcdserver", "publish error: {error}"),
        Notice::RaisesVersion { from: None, to } => {
            log::info!("etcdserver", "setting up the initial cluster version to {}", short(*to));
        }
        Notice::RaisesVersion { from: Some(from), to } => {
            log::info!("etcdserver", "updating the cluster version from {} to {}", short(*from), short(*to))
        }
        Notice::VersionNotRaised(error) => {
            log::error!("etcdserver", "error updating cluster version ({error})");
        }
        Notice::Extended(extended) => {
            let state =
                if *extended { "on: all members know them" } else { "off: not all members know them" };
            log::info!("raft", "pre-vote, check-quorum and read-index are {state}");
        }
        Notice::HandsOver { to } => {
            log::info!("etcdserver", "leadership goes to {to} before this member stops");
        }
    }
}

/// `2.3`, as in the log.
fn short(version: Version) -> String {
    format!("{}.{}", version.major, version.minor)
}

fn log_slow(line: &SlowLine) {
    match line {
        SlowLine::Request { label, stages, answered, obstacle } => log::warning!(
            "etcdserver",
            json_method = label.method(),
            json_key = %label.key(),
            json_answered = *answered,
            json_took_ms = millis(stages.sum()),
            json_queue_ms = millis(stages.queue),
            json_disk_ms = millis(stages.disk),
            json_peers_ms = millis(stages.peers),
            json_apply_ms = millis(stages.apply),
            json_obstacle = (!obstacle.is_empty()).then_some(&**obstacle),
            "{line}"
        ),
        SlowLine::More { count, longest } => {
            log::warning!("etcdserver", json_count = *count, json_longest_ms = millis(*longest), "{line}")
        }
    }
}

/// A member was added, removed, or has other peer URLs.
pub(super) fn log_member(inner: &Inner, kind: ChangeKind, id: MemberId, peer_urls: &[String]) {
    let (cluster, urls) = (inner.cluster_id, peer_urls.join(" "));
    let local = if id == inner.id { "local " } else { "" };
    match kind {
        ChangeKind::Add => {
            log::notice!("etcdserver", "added {local}member {id} [{urls}] to cluster {cluster}");
        }
        ChangeKind::Remove => log::notice!("etcdserver", "removed {local}member {id} from cluster {cluster}"),
        ChangeKind::Update => {
            log::notice!("etcdserver", "update {local}member {id} [{urls}] in cluster {cluster}")
        }
    }
}

/// Logs the cluster's version, if it has changed.
pub(super) fn log_version(before: &Membership, now: &Membership) {
    let (Some(version), before) = (now.version.as_deref(), before.version.as_deref()) else { return };
    let short = |version: &str| version.rsplit_once('.').map_or(version, |(short, _)| short).to_owned();
    match before {
        None => log::notice!("etcdserver", "set the initial cluster version to {}", short(version)),
        Some(before) if before != version => {
            log::notice!(
                "etcdserver",
                "updated the cluster version from {} to {}",
                short(before),
                short(version)
            );
        }
        Some(_) => {}
    }
}

/// Logs a change of the leader.
pub(super) fn log_leader(before: &Status, now: &Status) {
    let (id, term) = (now.id, now.term);
    match (before.leader.0, now.leader.0) {
        (0, _) => {
            log::info!("raft", "raft.node: {id} elected leader {} at term {term}", now.leader);
        }
        (_, 0) => {
            log::info!("raft", "raft.node: {id} lost leader {} at term {term}", before.leader);
        }
        _ => log::info!(
            "raft",
            "raft.node: {id} changed leader from {} to {} at term {term}",
            before.leader,
            now.leader
        ),
    }
}
