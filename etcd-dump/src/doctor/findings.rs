//! Finds v2 data in a data directory.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;

use serde::Serialize;
use shared::disk::{Disk, Kind};
use shared::entry::{EntryContent, content};
use shared::log_replay::LogReplay;
use shared::pb;
use shared::snap::{self, Snapshots};
use shared::store::Store;
use shared::wal::{self, Frames, Inspected, SegmentEnd, Stream, WalError};

use super::DoctorError;
use super::members::{self, is_attributes, is_version};
use crate::paths::{MemberFiles, exists, headless_segment};
use crate::tree;

/// The v2 data in a directory.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Findings {
    pub(crate) dir: String,
    /// Which releases wrote the log: `2.x` or `3.x`.
    pub(crate) release: &'static str,
    /// Whether there is any v2 data, or a v2 request at which 3.6 would stop.
    pub(crate) found: bool,
    /// Whether 3.6 refuses to start on it.
    pub(crate) refused: bool,
    /// The snapshot that a server loads.
    pub(crate) snapshot: Option<SnapshotFindings>,
    /// The log after it.
    pub(crate) log: LogFindings,
    /// The lowest created index of all these keys and records.
    pub(crate) since: Option<u64>,
    /// All keys of clients, including hidden ones.
    pub(crate) keys: Vec<V2Node>,
    /// The records of users and roles, and whether authentication is on.
    pub(crate) auth: Vec<V2Node>,
    /// All other nodes of the store, except the members.
    pub(crate) other: Vec<V2Node>,
    /// Member records that 3.6 cannot read; it stops at them.
    pub(crate) members: Vec<String>,
    /// The files that could not be read, with the reasons.
    pub(crate) unreadable: Option<String>,
    /// Whether it is known which snapshot a server loads. If not, the keys are those of the newest readable one.
    #[serde(skip)]
    pub(crate) is_start_known: bool,
    pub(crate) notices: Vec<String>,
}

impl Findings {
    /// Adds something that cannot be read and may therefore hold v2 data.
    fn cannot_read(&mut self, what: impl Display) {
        match &mut self.unreadable {
            Some(text) => text.push_str(&format!("; {what}")),
            none => *none = Some(what.to_string()),
        }
    }
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotFindings {
    pub(crate) file: String,
    pub(crate) index: u64,
    pub(crate) term: u64,
    /// Whether its store holds data that 3.6 refuses.
    pub(crate) refused: bool,
}

/// The entries after the snapshot.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogFindings {
    pub(crate) entries: u64,
    pub(crate) last_index: u64,
    /// The number of v2 requests that 3.6 does not replay.
    pub(crate) v2_requests: u64,
    pub(crate) first_v2_request: Option<V2Request>,
    pub(crate) last_v2_request: Option<V2Request>,
    /// The number of v3 requests; 3.6 accepts these.
    pub(crate) v3_requests: u64,
}

/// A v2 request in the log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct V2Request {
    pub(crate) index: u64,
    pub(crate) method: String,
    pub(crate) path: String,
}

/// A node of the store, with the key that clients use.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct V2Node {
    pub(crate) key: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dir: bool,
    pub(crate) created_index: u64,
    pub(crate) modified_index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expiration: Option<String>,
}

/// Examines a member's files.
///
/// # Errors
/// If the folders cannot be read at all. A file that cannot be read is a finding.
pub(super) fn examine<D: Disk>(disk: &D, dir: &Path, member: &MemberFiles) -> Result<Findings, DoctorError> {
    let mut findings = Findings { dir: dir.display().to_string(), ..Findings::default() };
    let (replay, log) = choose_snapshot(disk, member, &mut findings)?;
    findings.is_start_known = log.is_some();
    let is_v3 = exists(disk, &member.snap.join("db"))?;
    let is_padded = log.as_ref().is_some_and(|log| log.padded);
    findings.release = if is_padded || (log.is_none() && is_v3) { "3.x" } else { "2.x" };
    if is_v3 {
        findings.notices.push("the database of the v3 API (member/snap/db) was not looked at".to_owned());
    }
    if let Some(snapshot) = &mut findings.snapshot {
        snapshot.refused = !is_members_only(replay.store());
        findings.members = members::faults(replay.store());
    }
    let replay = match &log {
        Some(log) => apply_log(replay, log, &mut findings),
        None => replay,
    };
    for fault in members::faults(replay.store()) {
        if !findings.members.contains(&fault) {
            findings.members.push(fault);
        }
    }
    list_nodes(replay.store(), &mut findings);
    let log = &findings.log;
    findings.refused = findings.snapshot.as_ref().is_some_and(|snapshot| snapshot.refused)
        || log.v2_requests > 0
        || !findings.members.is_empty();
    let any =
        !findings.keys.is_empty() || !findings.other.is_empty() || findings.auth.iter().any(is_user_or_role);
    findings.found = findings.refused || any;
    Ok(findings)
}

/// The newest good snapshot that the log has a record of, as 3.6 chooses it, and the log after it.
///
/// If no record of the log can be read, it is not known which snapshot a server loads: then the newest good one is
/// returned without a log.
fn choose_snapshot<D: Disk>(
    disk: &D,
    member: &MemberFiles,
    findings: &mut Findings,
) -> Result<(LogReplay, Option<Inspected>), DoctorError> {
    if let Some(error) = unreadable_log(disk, &member.wal)? {
        findings.cannot_read(error);
    }
    // The snapshot to return if no log matches any.
    let mut newest: Option<(LogReplay, SnapshotFindings)> = None;
    for name in snapshot_names(disk, member)?.into_iter().rev() {
        let file = member.snap.join(&name);
        let replay = snap::read(disk, &file).map_err(|error| error.to_string()).and_then(|snapshot| {
            let replay = LogReplay::from_snapshot(&snapshot, Frames::Any);
            replay.map_err(|error| format!("{}: {error}", file.display()))
        });
        let replay = match replay {
            Ok(replay) => replay,
            Err(error) => {
                findings.cannot_read(&error);
                findings.notices.push(format!("passed over: {error}"));
                continue;
            }
        };
        let at = replay.applied();
        let file_name = name.to_string_lossy().into_owned();
        let snapshot = SnapshotFindings { file: file_name, index: at.index, term: at.term, refused: false };
        let Some((log, damage)) = read_log(disk, &member.wal, at.index, findings) else {
            newest.get_or_insert((replay, snapshot));
            continue;
        };
        if damage.is_none() && !log.snapshots.contains(&at) {
            findings.notices.push(format!("passed over: {}: the log has no record of it", file.display()));
            if log.entries.is_empty() && log.state.commit < at.index {
                findings.cannot_read(format!(
                    "the log in {} does not reach entry {}, with which {} ends",
                    member.wal.display(),
                    at.index,
                    file.display()
                ));
            }
            newest.get_or_insert((replay, snapshot));
            continue;
        }
        findings.snapshot = Some(snapshot);
        if let Some(damage) = damage {
            findings.cannot_read(damage);
        }
        return Ok((replay, Some(log)));
    }
    if let Some((log, damage)) = read_log(disk, &member.wal, 0, findings) {
        if let Some(damage) = damage {
            findings.cannot_read(damage);
        }
        return Ok((LogReplay::new(Frames::Any), Some(log)));
    }
    let (replay, snapshot) =
        newest.map_or_else(|| (LogReplay::new(Frames::Any), None), |(replay, at)| (replay, Some(at)));
    findings.snapshot = snapshot;
    Ok((replay, None))
}

/// The log after an entry, with the damage at which it ends. `None` if no log continues there, or nothing of it can
/// be read; then the findings say why.
fn read_log<D: Disk>(
    disk: &D,
    dir: &Path,
    after: u64,
    findings: &mut Findings,
) -> Option<(Inspected, Option<WalError>)> {
    match wal::inspect_any(disk, dir, after) {
        Ok((log, damage)) if log.metadata.is_some() => Some((log, damage)),
        // Segments without a head are reported elsewhere; other damage is reported here.
        Ok((_, damage)) => {
            if let Some(damage) = damage {
                findings.cannot_read(damage);
            }
            None
        }
        Err(WalError::FileNotFound(_)) => {
            findings
                .cannot_read(format!("no segments in {} go on from entry {after} to the end", dir.display()));
            None
        }
        Err(error) => {
            findings.cannot_read(error);
            None
        }
    }
}

/// Why the log as a whole is unreadable: there is none, or one of its segments has no head.
fn unreadable_log<D: Disk>(disk: &D, dir: &Path) -> Result<Option<String>, DoctorError> {
    let names = wal::segments(disk, dir)?;
    if names.is_empty() {
        return Ok(Some(format!("there are no segments in {}", dir.display())));
    }
    for name in names {
        let mut stream = Stream::of(disk.clone(), dir, [name], Frames::Any);
        // Damage is reported when the records are used.
        while stream.offset() == 0 && matches!(stream.next_record(), Ok(Some(_))) {}
        if let Some(file) = stream.headless() {
            return Ok(Some(headless_segment(disk, file)));
        }
    }
    Ok(None)
}

/// The names of all snapshots, oldest first.
fn snapshot_names<D: Disk>(disk: &D, member: &MemberFiles) -> Result<Vec<OsString>, DoctorError> {
    if disk.kind(&member.snap)? != Some(Kind::Dir) {
        return Ok(Vec::new());
    }
    Ok(Snapshots::new(disk.clone(), &member.snap).names()?)
}

/// Applies the entries after the snapshot.
fn apply_log(mut replay: LogReplay, log: &Inspected, findings: &mut Findings) -> LogReplay {
    findings.log.last_index = replay.applied().index;
    let rest = match log.end {
        SegmentEnd::Torn => Some("a part of a record"),
        // Only 3.x fills its segments with zeros in advance.
        SegmentEnd::Zeros if !log.padded => Some("zero bytes"),
        _ => None,
    };
    if let Some(rest) = rest {
        findings.cannot_read(format!(
            "{} ends in {rest}, from byte {} on (a server cuts that off when it starts)",
            log.last_file.display(),
            log.end_offset
        ));
    }
    for entry in &log.entries {
        match content(entry, Frames::Any) {
            Ok(EntryContent::Request(request)) if !is_publication(&request) => {
                let request = V2Request {
                    index: entry.index,
                    method: String::from_utf8_lossy(&request.method).into_owned(),
                    path: String::from_utf8_lossy(&request.path).into_owned(),
                };
                findings.log.v2_requests += 1;
                findings.log.first_v2_request.get_or_insert_with(|| request.clone());
                findings.log.last_v2_request = Some(request);
            }
            Ok(EntryContent::Request(request)) if !is_valid_publication(&request) => {
                findings.members.push(format!(
                    "entry {}: PUT {}: the value is not one that a server writes",
                    entry.index,
                    String::from_utf8_lossy(&request.path)
                ))
            }
            Ok(EntryContent::V3(_)) => findings.log.v3_requests += 1,
            _ => {}
        }
        if let Err(error) = replay.apply(entry) {
            findings.unreadable.get_or_insert_with(|| error.to_string());
            break;
        }
        findings.log.entries += 1;
        findings.log.last_index = entry.index;
    }
    let (last, commit) = (findings.log.last_index, log.state.commit);
    if commit > last && findings.unreadable.is_none() {
        findings.cannot_read(format!(
            "{} says that entry {commit} is committed, but the log ends at {last}",
            log.last_file.display()
        ));
    }
    replay
}

/// Whether 3.6 replays a request: one that writes a member's attributes, or the version of the cluster.
fn is_publication(request: &pb::Request) -> bool {
    let path = &request.path[..];
    let is_attributes = || {
        let id = path.strip_prefix(b"/0/members/").and_then(|rest| rest.strip_suffix(b"/attributes"));
        id.is_some_and(|id| !id.is_empty() && id.iter().all(u8::is_ascii_hexdigit))
    };
    &request.method[..] == b"PUT" && (path == b"/0/version" || is_attributes())
}

/// Whether 3.6 can read the published value; otherwise it stops.
fn is_valid_publication(request: &pb::Request) -> bool {
    match &request.path[..] {
        b"/0/version" => is_version(&request.val),
        _ => is_attributes(&request.val),
    }
}

/// Whether a store holds nothing that 3.6 refuses: it accepts everything below `/0`, of `/2` what remains when all
/// users and roles are removed, and otherwise empty directories. It does not see hidden nodes.
fn is_members_only(store: &Store) -> bool {
    let Ok(root) = store.get(b"/", true, false) else { return true };
    let seen = |name: &[u8]| !name.starts_with(b"_");
    root.node().children().filter(|top| seen(top.name()) && top.name() != b"0").all(|top| {
        let mut children = top.children().filter(|child| seen(child.name()));
        match top.name() {
            b"2" => !children.any(|child| child.children().any(|grandchild| seen(grandchild.name()))),
            _ => children.next().is_none(),
        }
    })
}

/// Lists the nodes that do not belong to members.
fn list_nodes(store: &Store, findings: &mut Findings) {
    let Ok(listing) = store.get(b"/", true, false) else { return };
    // Collecting cannot fail.
    let _ = tree::walk(&listing, |path, node| {
        let below = |top: &[u8]| path.strip_prefix(top).filter(|rest| rest.is_empty() || rest[0] == b'/');
        let (list, key) = match (below(b"/0"), below(b"/1"), below(b"/2")) {
            (Some(_), _, _) | (_, Some(b""), _) | (_, _, Some(b"")) => return Ok(()),
            (_, Some(key), _) => (&mut findings.keys, key),
            (_, _, Some(_)) => (&mut findings.auth, path),
            _ => (&mut findings.other, path),
        };
        list.push(V2Node {
            key: String::from_utf8_lossy(key).into_owned(),
            dir: node.is_dir(),
            created_index: node.created_index(),
            modified_index: node.modified_index(),
            expiration: node.expiration().map(|time| time.to_string()),
        });
        Ok(())
    });
    let all = findings.keys.iter().chain(&findings.auth).chain(&findings.other);
    findings.since = all.map(|node| node.created_index).min();
}

/// Whether a node is a user or a role, and not one of the directories that enabling authentication creates.
pub(super) fn is_user_or_role(node: &V2Node) -> bool {
    let rest = node.key.strip_prefix("/2/users/").or_else(|| node.key.strip_prefix("/2/roles/"));
    rest.is_some_and(|name| !name.is_empty())
}
