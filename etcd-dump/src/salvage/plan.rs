//! Decides which parts of a damaged directory to use, and the identity of the new member.

use std::sync::Arc;

use shared::disk::{Disk, Open};
use shared::id::{ClusterId, MemberId};
use shared::log_replay::LogReplay;
use shared::pb;
use shared::snap;
use shared::wal::{self, FileSource, Frames};

use super::SalvageError;
use super::log::{EntryLocation, Log, Segment};
use super::snapshots::Snapshot;

/// The peer URLs of a member whose peer URLs are not known; the same as with `-force-new-cluster`.
const PEER_URLS: [&str; 2] = ["http://localhost:2380", "http://localhost:7001"];

/// The contents of the new directory.
pub(super) struct Plan {
    /// The number of the snapshot; `None` for the beginning of the log.
    pub(super) snapshot: Option<usize>,
    /// The entry that the snapshot ends with.
    pub(super) start: pb::WalSnapshot,
    /// The entries after it.
    pub(super) entries: Vec<EntryLocation>,
    /// Why the next entry is not used although it is readable.
    pub(super) stopped: Option<String>,
    /// The ids of the new member.
    pub(super) identity: Identity,
    /// The entries to add, which remove all other members.
    pub(super) added: Vec<pb::Entry>,
    /// The state after all entries.
    pub(super) state: pb::HardState,
    /// The state after all entries.
    pub(super) replay: LogReplay,
    /// Oddities that lose nothing.
    pub(super) notices: Vec<String>,
}

/// The ids of the new member and its cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) metadata: pb::Metadata,
    /// Whether it is a member of the old cluster.
    pub(super) is_old_member: bool,
}

impl Plan {
    /// The last old entry in the new directory.
    pub(super) fn last(&self) -> u64 {
        self.start.index + self.entries.len() as u64
    }
}

/// Finds the newest good snapshot with the entries that follow it, else the log from its start.
///
/// # Errors
/// If there is neither.
pub(super) fn plan<D: Disk>(disk: &D, log: &Log, snapshots: &mut [Snapshot]) -> Result<Plan, SalvageError> {
    let mut notices = Vec::new();
    let (snapshot, start, mut replay) = loop {
        match choose(log, snapshots) {
            None => return Err(SalvageError::Nothing),
            Some(None) => break (None, pb::WalSnapshot::default(), LogReplay::new(Frames::V2)),
            Some(Some(number)) => match recover(disk, &snapshots[number]) {
                Ok(replay) => break (Some(number), replay.applied(), replay),
                Err(reason) => snapshots[number].state = Err(reason),
            },
        }
    };
    let locations = continuing(log, start);
    if locations.is_empty() && log.run_with(start.index + 1).is_some() {
        notices.push(format!(
            "the log has an entry {}, but of another history than the snapshot: it is not used",
            start.index + 1
        ));
    }
    let (entries, stopped) = apply_entries(disk, &log.segments, locations, &mut replay)?;
    if snapshot.is_none() && entries.is_empty() {
        return Err(SalvageError::Nothing);
    }
    let last_term = entries.last().map_or(start.term, |entry: &EntryLocation| entry.term);
    let term = log.state.term.max(last_term).max(1);
    let identity = identify(log, &replay, &mut notices);
    let added = make_alone(&mut replay, identity, term)?;
    let state = pb::HardState { term, vote: 0, commit: replay.applied().index };
    Ok(Plan { snapshot, start, entries, stopped, identity, added, state, replay, notices })
}

/// The snapshot from which the most entries can be used; `Some(None)` for the log's start.
fn choose(log: &Log, snapshots: &[Snapshot]) -> Option<Option<usize>> {
    let good = snapshots.iter().enumerate().filter_map(|(number, snapshot)| {
        let metadata = snapshot.state.as_ref().ok()?;
        let at = pb::WalSnapshot { index: metadata.index, term: metadata.term };
        Some((at.index + continuing(log, at).len() as u64, at.index, Some(number)))
    });
    let start = continuing(log, pb::WalSnapshot::default()).len() as u64;
    let start = (start > 0).then_some((start, 0, None));
    good.chain(start).max_by_key(|(last, index, _)| (*last, *index)).map(|(_, _, base)| base)
}

/// The entries that follow a snapshot without a gap.
fn continuing(log: &Log, at: pb::WalSnapshot) -> &[EntryLocation] {
    let Some(run) = log.run_with(at.index + 1) else { return &[] };
    let entries = run.from(at.index + 1);
    let fits = match run.entry(at.index) {
        Some(entry) => entry.term == at.term,
        None => entries.first().is_some_and(|entry| entry.term >= at.term),
    };
    if fits { entries } else { &[] }
}

/// The state of a snapshot, or why it cannot be read.
fn recover<D: Disk>(disk: &D, snapshot: &Snapshot) -> Result<LogReplay, String> {
    let snapshot = snap::read(disk, &snapshot.path).map_err(|error| error.to_string())?;
    LogReplay::from_snapshot(&snapshot, Frames::V2).map_err(|error| error.to_string())
}

/// Applies entries up to the first one that cannot be decoded, at which a server would stop.
fn apply_entries<D: Disk>(
    disk: &D,
    segments: &[Segment],
    locations: &[EntryLocation],
    replay: &mut LogReplay,
) -> Result<(Vec<EntryLocation>, Option<String>), SalvageError> {
    let mut reader = EntryReader::new(disk, segments);
    for (done, location) in locations.iter().enumerate() {
        let index = replay.applied().index + 1;
        let stopped = match reader.read(location)?.filter(|entry| entry.index == index) {
            None => format!("entry {index} could not be read again"),
            Some(entry) => match replay.apply(&entry) {
                Ok(_) => continue,
                Err(error) => error.to_string(),
            },
        };
        return Ok((locations[..done].to_vec(), Some(stopped)));
    }
    Ok((locations.to_vec(), None))
}

/// Reads entries from their locations.
pub(super) struct EntryReader<'a, D: Disk> {
    disk: &'a D,
    segments: &'a [Segment],
    open: Option<(usize, FileSource<D::File>)>,
}

impl<'a, D: Disk> EntryReader<'a, D> {
    pub(super) fn new(disk: &'a D, segments: &'a [Segment]) -> EntryReader<'a, D> {
        EntryReader { disk, segments, open: None }
    }

    /// The entry at a location; `None` if the file has changed meanwhile.
    pub(super) fn read(&mut self, location: &EntryLocation) -> Result<Option<pb::Entry>, SalvageError> {
        let source = match &mut self.open {
            Some((segment, source)) if *segment == location.segment => source,
            open => {
                let file = self.disk.open(&self.segments[location.segment].path, Open::Read)?;
                &mut open.insert((location.segment, FileSource::new(Arc::new(file))?)).1
            }
        };
        Ok(wal::entry_at(source, location.offset, location.end, Frames::V2)?)
    }
}

/// The member keeps its id if that is known. The cluster gets a new id, so that members of the old cluster refuse the
/// new one, which may lack entries that they have.
fn identify(log: &Log, replay: &LogReplay, notices: &mut Vec<String>) -> Identity {
    let at = replay.applied();
    let voters = replay.voters();
    let known = log.metadata.map(|metadata| metadata.node_id);
    let kept = match known {
        Some(id) if voters.contains(&id) => Some(id),
        None if voters.len() == 1 => voters.first().copied(),
        _ => None,
    };
    let old_cluster = log.metadata.map_or(0, |metadata| metadata.cluster_id);
    let parts = [old_cluster, kept.unwrap_or_default(), at.index, at.term, u64::MAX].map(MemberId);
    let cluster = ClusterId::compute(&parts);
    let fresh = || MemberId::compute(&PEER_URLS.map(str::to_owned), &cluster.to_string(), None).0;
    match (known, kept) {
        (_, Some(_)) => {}
        (Some(id), None) => notices.push(format!(
            "the log is that of member {}, which its cluster does not have: the new member has a new id",
            MemberId(id)
        )),
        (None, None) => notices.push(
            "the log does not say which member's it is: the new member has a new id and the default peer URLs"
                .to_owned(),
        ),
    }
    let metadata = pb::Metadata { node_id: kept.unwrap_or_else(fresh), cluster_id: cluster.0 };
    Identity { metadata, is_old_member: kept.is_some() }
}

/// Makes and applies the entries that remove all other members, as `-force-new-cluster` does.
fn make_alone(replay: &mut LogReplay, identity: Identity, term: u64) -> Result<Vec<pb::Entry>, SalvageError> {
    let id = identity.metadata.node_id;
    let others: Vec<u64> = replay.voters().iter().copied().filter(|voter| *voter != id).collect();
    let mut changes: Vec<pb::ConfChange> = others
        .into_iter()
        .map(|node_id| pb::ConfChange { id: 0, kind: pb::REMOVE_NODE, node_id, context: None })
        .collect();
    if !identity.is_old_member {
        let urls = PEER_URLS.map(|url| format!("\"{url}\"")).join(",");
        let context = format!("{{\"id\":{id},\"peerURLs\":[{urls}]}}");
        changes.push(pb::ConfChange {
            id: 0,
            kind: pb::ADD_NODE,
            node_id: id,
            context: Some(context.into_bytes().into()),
        });
    }
    let mut added = Vec::with_capacity(changes.len());
    for change in changes {
        let index = replay.applied().index + 1;
        let data = Some(prost::Message::encode_to_vec(&change).into());
        let entry = pb::Entry { kind: pb::ENTRY_CONF_CHANGE, term, index, data };
        match replay.apply(&entry) {
            Ok(shared::log_replay::Applied::Change(_, true)) => added.push(entry),
            _ => return Err(SalvageError::Members { member: MemberId(change.node_id) }),
        }
    }
    Ok(added)
}
