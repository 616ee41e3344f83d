//! The conversion of etcd-migrate 2.0.13, byte for byte, with its refusals.
//!
//! Members of which it converted some and ours the others would not agree; this way they do. What it loses is told
//! as warnings: creations that became updates of what is not there, times in seconds that are read as nanoseconds,
//! and a step of the index for each setting of the cluster.
//!
//! The log of 2.0 is one file: sum, metadata, mark {0, 0}, state, one entry of zeros, the entries, mark of the
//! snapshot or {0, 0}. Only the list of ids in its snapshot comes in random order there; ours is sorted.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use shared::disk::{Disk, Kind, Open};
use shared::id::MemberId;
use shared::legacy::log::{End, HEAD_BYTES, LogEntry, Reader, Rest};
use shared::legacy::{
    self, Command, FileError, LogError, SnapshotError, Time, conf_path, log_path, snapshot,
};
use shared::pb::{self, Request};
use shared::store::{Image, Store, clean_path};
use shared::url::Urls;

use crate::engine::{CLUSTER_ID, TERM_OFFSET};
use crate::error::MigrateError;
use crate::output::Output;
use crate::pace::Pace;
use crate::registry::{MACHINES, Machine, Registry};
use crate::report::{Report, ReportMember};
use crate::{Options, Progress};

/// See [`crate::migrate`].
pub(crate) fn migrate<D: Disk>(
    disk: &D,
    data_dir: &Path,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<Report, MigrateError> {
    let snapshot = Snapshot4::newest(disk, &legacy::snapshot_dir(data_dir))?;
    let conf = match legacy::conf(disk, data_dir) {
        Ok(Some(conf)) => conf,
        Ok(None) => {
            return refuse(format!("open {}: no such file or directory", conf_path(data_dir).display()));
        }
        Err(FileError::Disk(error)) => return Err(error.into()),
        Err(error) => return refuse(error.to_string()),
    };
    let mut log = Log4::survey(disk, data_dir)?;
    let others: Vec<&str> = conf.peers.iter().map(|peer| peer.name.as_str()).collect();
    let Some((name, id)) = guess(&log.names, snapshot.as_ref(), &others, options.name.as_deref()) else {
        return refuse("Couldn't figure out the node ID from the log or flags, cannot convert".to_owned());
    };
    if log.entries == 0 {
        return refuse("it has no answer to a log without entries".to_owned());
    }
    let commit = conf.commit_index.max(snapshot.as_ref().map_or(0, |snapshot| snapshot.at.index));
    let state = pb::HardState { term: log.last.1 + TERM_OFFSET, vote: 0, commit };
    let mut out = match options.dry_run {
        true => None,
        false => {
            let metadata = pb::Metadata { node_id: id.0, cluster_id: CLUSTER_ID };
            let mut out = Output::create(disk, data_dir, metadata)?;
            out.wal_mut().set_segment_bytes(u64::MAX);
            out.state(state);
            out.append(pb::ENTRY_NORMAL, 0, 0, Some(b""))?;
            out.wal_mut().skip_to(log.first - 1);
            Some(out)
        }
    };
    progress.begin(log.entries, log.bytes);
    log.convert(disk, data_dir, out.as_mut(), progress)?;
    if let Some(mut out) = out {
        match &snapshot {
            Some(Snapshot4 { at, ids, image, .. }) => out.snapshot_2_0(*at, ids.clone(), image)?,
            None => out.mark(pb::WalSnapshot::default())?,
        }
        out.finish()?;
    }
    Ok(report(data_dir, options, name, id, commit, &log, snapshot.as_ref()))
}

fn refuse<T>(words: String) -> Result<T, MigrateError> {
    Err(MigrateError::Original(words))
}

/// The newest snapshot, converted.
struct Snapshot4 {
    at: pb::WalSnapshot,
    ids: Vec<u64>,
    names: BTreeMap<String, MemberId>,
    image: Image,
}

impl Snapshot4 {
    fn newest<D: Disk>(disk: &D, dir: &Path) -> Result<Option<Snapshot4>, MigrateError> {
        if disk.kind(dir)? != Some(Kind::Dir) {
            return Ok(None);
        }
        for name in disk.list(dir)? {
            if snapshot::Name::parse(&name).is_none() {
                let name = name.to_string_lossy();
                return refuse(match name.strip_suffix(".ss") {
                    None => format!("file {name:?} does not have .ss extension"),
                    Some(_) => format!("unrecognized file name format {name:?}"),
                });
            }
        }
        let Some(file) = snapshot::newest(disk, dir)? else { return Ok(None) };
        let read = snapshot::read(disk, &file);
        let snapshot = match read {
            Ok(snapshot) => snapshot,
            Err(SnapshotError::Disk(error)) => return Err(error.into()),
            Err(error) => return refuse(error.to_string()),
        };
        let store = Store::recover_legacy(&snapshot.state, 1, false);
        let store = match store {
            Ok(store) => store,
            Err(error) => return refuse(format!("{}: {error}", file.display())),
        };
        let registry = Registry::from_store(&store);
        registry.check_urls()?;
        let names: BTreeMap<_, _> =
            registry.machines().iter().map(|(name, machine)| (name.clone(), machine.id())).collect();
        let mut ids: Vec<u64> = names.values().map(|id| id.0).collect();
        ids.sort_unstable();
        let image = members_below_0(store.image(), &registry)?;
        let at = pb::WalSnapshot { index: snapshot.last_index, term: snapshot.last_term + TERM_OFFSET };
        Ok(Some(Snapshot4 { at, ids, names, image }))
    }
}

/// Adds the members to the tree; where 0.x had them they stay.
fn members_below_0(mut image: Image, registry: &Registry) -> Result<Image, MigrateError> {
    let Some((created, modified)) = image.indexes(b"/1/_etcd") else {
        return refuse("it has no answer to a snapshot without members".to_owned());
    };
    let members = image.indexes(MACHINES.as_bytes());
    let machines: Vec<_> = registry
        .machines()
        .iter()
        .map(|(name, machine)| {
            (name, machine, image.indexes(format!("{MACHINES}/{name}").as_bytes()).unwrap_or_default())
        })
        .collect();
    let mut place = |path: &str, value: Option<&[u8]>, (created, modified)| {
        let placed = image.place(path.as_bytes(), value, created, modified);
        assert!(placed.is_ok(), "a key stands in the way of {path}");
    };
    place("/0", None, (created, modified));
    if let Some(indexes) = members {
        place("/0/members", None, indexes);
    }
    for (name, machine, indexes) in machines {
        let member = format!("/0/members/{}", machine.id());
        place(&member, None, indexes);
        place(&format!("{member}/attributes"), Some(&machine.attributes(name)), indexes);
        place(&format!("{member}/raftAttributes"), Some(&machine.raft_attributes()), indexes);
    }
    Ok(image)
}

/// What the log holds.
struct Log4 {
    first: u64,
    last: (u64, u64),
    entries: u64,
    bytes: u64,
    /// The members by name, as far as the log tells.
    names: BTreeMap<String, MemberId>,
    warnings: Vec<String>,
}

impl Log4 {
    fn survey<D: Disk>(disk: &D, data_dir: &Path) -> Result<Log4, MigrateError> {
        let path = log_path(data_dir);
        let mut log = Log4 {
            first: 0,
            last: (0, 0),
            entries: 0,
            bytes: 0,
            names: BTreeMap::new(),
            warnings: Vec::new(),
        };
        if disk.kind(&path)?.is_none() {
            return refuse(format!("open {}: no such file or directory", path.display()));
        }
        let mut reader = Reader::new(disk.open(&path, Open::Read)?)?;
        log.bytes = reader.len();
        while let Some(entry) = next(&mut reader)? {
            if log.entries == 0 {
                log.first = entry.index;
            }
            log.last = (entry.index, entry.term);
            match &*entry.name {
                b"etcd:join" => {
                    if let Command::Join(join) = decode(&entry, log.entries)? {
                        let id = machine(&join.raft_url, &join.etcd_url)?.id();
                        log.names.insert(join.name.into_owned(), id);
                    }
                }
                b"etcd:remove" => {
                    if let Command::Remove(remove) = decode(&entry, log.entries)? {
                        log.names.remove(&*remove.name);
                    }
                }
                _ => {}
            }
            log.entries += 1;
        }
        match reader.end() {
            // It takes an end before the first byte of a body for the end of the log.
            End::Torn { offset, rest: Rest::Length, .. }
            | End::Torn { offset, bytes: 9, rest: Rest::Body { .. } } => {
                const { assert!(HEAD_BYTES == 9) };
                log.warnings
                    .push(format!("{} ends with a part of an entry at byte {offset}", path.display()));
            }
            End::Torn { rest: Rest::Body { .. }, .. } => {
                return refuse("failed decoding next log entry: unexpected EOF".to_owned());
            }
            End::Torn { rest: Rest::Zeros, .. } => {
                return refuse("failed decoding next log entry: expected integer".to_owned());
            }
            End::Clean => {}
        }
        Ok(log)
    }

    /// Converts and writes all entries.
    fn convert<D: Disk>(
        &mut self,
        disk: &D,
        data_dir: &Path,
        mut out: Option<&mut Output<D>>,
        progress: &mut dyn Progress,
    ) -> Result<(), MigrateError> {
        let mut reader = Reader::new(disk.open(&log_path(data_dir), Open::Read)?)?;
        let mut ids = BTreeMap::new();
        let mut lossy = Lossy::default();
        let mut place = 0;
        let mut pace = Pace::new(progress);
        while let Some(entry) = next(&mut reader)? {
            let command = decode(&entry, place)?;
            lossy.count(&command);
            let (kind, data) = translate(&command, &mut ids)?;
            if let Some(out) = &mut out {
                out.append(kind, entry.term + TERM_OFFSET, entry.index, Some(&data))?;
            }
            place += 1;
            pace.entry(reader.offset());
        }
        pace.told(reader.offset());
        self.warnings.extend(lossy.warnings());
        Ok(())
    }
}

/// How much of the log the conversion gets wrong.
#[derive(Default)]
struct Lossy {
    creations: u64,
    expirations: u64,
    settings: u64,
}

impl Lossy {
    fn count(&mut self, command: &Command<'_>) {
        match command {
            Command::Create(create) => {
                self.creations += u64::from(!create.unique);
                self.time(create.expire_time);
            }
            Command::Set(set) => self.time(set.expire_time),
            Command::Update(update) => self.time(update.expire_time),
            Command::CompareAndSwap(swap) => self.time(swap.expire_time),
            Command::SetClusterConfig(_) => self.settings += 1,
            _ => {}
        }
    }

    fn time(&mut self, time: Time) {
        self.expirations += u64::from(time.unix_seconds() > 0);
    }

    fn warnings(&self) -> impl Iterator<Item = String> {
        [
            (self.creations, "creations became updates: a key that is made only by one is lost"),
            (self.expirations, "expirations are written in seconds: the keys become permanent or go at once"),
            (self.settings, "settings of the cluster take no index any more: comparisons by index may fail"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("as with etcd-migrate 2.0.13, {count} {what}"))
    }
}

fn next<F: shared::disk::DiskFile>(reader: &mut Reader<F>) -> Result<Option<LogEntry>, MigrateError> {
    match reader.next_entry() {
        Err(LogError::Disk(error)) => Err(error.into()),
        Err(error) => refuse(format!("failed decoding next log entry: {error}")),
        Ok(entry) => Ok(entry),
    }
}

/// Decodes the command of the entry at a place, which it counts from 0.
fn decode(entry: &LogEntry, place: u64) -> Result<Command<'_>, MigrateError> {
    let refused = |words: String| MigrateError::Original(format!("Error converting entry {place}, {words}"));
    match Command::decode(&entry.name, &entry.command) {
        Ok(Command::TestAndSet(_) | Command::Get(_) | Command::Watch(_)) => {
            Err(refused(format!("unregistered command type {}", String::from_utf8_lossy(&entry.name))))
        }
        Ok(command) => Ok(command),
        Err(error) => Err(refused(error.to_string())),
    }
}

fn machine(peer_url: &str, client_url: &str) -> Result<Machine, MigrateError> {
    if Urls::parse(peer_url).is_err() {
        return refuse(format!("Invalid Raft URL {peer_url} -- this log could never have worked"));
    }
    Ok(Machine { peer_url: peer_url.to_owned(), client_url: client_url.to_owned() })
}

/// Kind and data of what a command becomes.
fn translate(
    command: &Command<'_>,
    ids: &mut BTreeMap<String, MemberId>,
) -> Result<(i32, Vec<u8>), MigrateError> {
    let request = match command {
        Command::Nop | Command::SetClusterConfig(_) => return Ok((pb::ENTRY_NORMAL, Vec::new())),
        Command::Join(join) => {
            let machine = machine(&join.raft_url, &join.etcd_url)?;
            let id = machine.id();
            ids.insert(join.name.clone().into_owned(), id);
            let context = Some(machine.context(id, &join.name).into());
            let change = pb::ConfChange { id: 0, kind: pb::ADD_NODE, node_id: id.0, context };
            return Ok((pb::ENTRY_CONF_CHANGE, change.encode_to_vec()));
        }
        Command::Remove(remove) => {
            let Some(id) = ids.remove(&*remove.name) else {
                return refuse(format!("removing a node named {} before it joined", remove.name));
            };
            // 2.0 writes an empty context where there is none.
            let context = Some(bytes(""));
            let change = pb::ConfChange { id: 0, kind: pb::REMOVE_NODE, node_id: id.0, context };
            return Ok((pb::ENTRY_CONF_CHANGE, change.encode_to_vec()));
        }
        Command::Set(set) => Request {
            val: bytes(&set.value),
            dir: set.dir == Some(true),
            expiration: seconds(set.expire_time),
            ..request("PUT", &set.key)
        },
        Command::Create(create) => Request {
            val: bytes(&create.value),
            dir: create.dir,
            expiration: seconds(create.expire_time),
            // It should be false.
            prev_exist: (!create.unique).then_some(true),
            ..request(if create.unique { "POST" } else { "PUT" }, &create.key)
        },
        Command::Update(update) => Request {
            val: bytes(&update.value),
            prev_exist: Some(true),
            expiration: seconds(update.expire_time),
            ..request("PUT", &update.key)
        },
        Command::Delete(delete) => {
            Request { dir: delete.dir, recursive: delete.recursive, ..request("DELETE", &delete.key) }
        }
        Command::CompareAndSwap(swap) => Request {
            val: bytes(&swap.value),
            prev_value: bytes(&swap.prev_value),
            prev_index: swap.prev_index,
            expiration: seconds(swap.expire_time),
            ..request("PUT", &swap.key)
        },
        Command::CompareAndDelete(delete) => Request {
            prev_value: bytes(&delete.prev_value),
            prev_index: delete.prev_index,
            ..request("DELETE", &delete.key)
        },
        Command::Sync(sync) => {
            Request { method: "SYNC".into(), time: sync.time.unix_nanos().0, ..Request::default() }
        }
        Command::TestAndSet(_) | Command::Get(_) | Command::Watch(_) => {
            return refuse(format!("unregistered command type {}", command.name()));
        }
    };
    Ok((pb::ENTRY_NORMAL, request.encode_to_vec()))
}

fn request(method: &'static str, key: &str) -> Request {
    let path = clean_path(format!("/1/{key}").as_bytes()).into_owned();
    Request { method: method.into(), path: path.into(), ..Request::default() }
}

fn bytes(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}

/// Seconds, where 2.0 reads nanoseconds; 0 for none.
fn seconds(time: Time) -> i64 {
    if time.is_zero() { 0 } else { time.unix_seconds() }
}

/// Which member it is: the one with the given name, else who is left when the others are taken out.
fn guess(
    names: &BTreeMap<String, MemberId>,
    snapshot: Option<&Snapshot4>,
    others: &[&str],
    given: Option<&str>,
) -> Option<(String, MemberId)> {
    let pair = |(name, id): (&String, &MemberId)| (name.clone(), *id);
    if let Some(given) = given {
        let in_snapshot = || snapshot.and_then(|snapshot| snapshot.names.get_key_value(given));
        if let Some(found) = names.get_key_value(given).or_else(in_snapshot) {
            return Some(pair(found));
        }
    }
    if let Some(snapshot) = snapshot {
        let mut left = snapshot.names.iter().filter(|(name, _)| !others.contains(&name.as_str()));
        if let (Some((only, _)), None) = (left.next(), left.next()) {
            // It takes any member of the log; who is left is as good as any if it is there.
            let found = names.get_key_value(only).or_else(|| names.iter().next());
            if let Some(found) = found {
                return Some(pair(found));
            }
        }
    }
    let mut left = names.iter().filter(|(name, _)| !others.contains(&name.as_str()));
    let found = left.next().filter(|_| left.next().is_none())?;
    Some(pair(found))
}

fn report(
    data_dir: &Path,
    options: &Options,
    name: String,
    id: MemberId,
    commit: u64,
    log: &Log4,
    snapshot: Option<&Snapshot4>,
) -> Report {
    let mut names = log.names.clone();
    names.extend(snapshot.iter().flat_map(|snapshot| snapshot.names.clone()));
    let member = |(name, id): (String, MemberId)| ReportMember { name, id, peer_url: String::new() };
    Report {
        data_dir: data_dir.to_owned(),
        dry_run: options.dry_run,
        original: true,
        name,
        member_id: id,
        members: names.into_iter().map(member).collect(),
        entries: log.entries,
        first_index: log.first,
        last_index: log.last.0,
        commit_index: commit,
        warnings: log.warnings.clone(),
        ..Report::default()
    }
}
