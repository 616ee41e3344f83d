//! Runs the scripts in `tests/scripts`: what several nodes do in one thread, one command after the other, and what came
//! of each. To change one, run `UPDATE_GOLDENFILES=1 cargo test -p node --test scripts` and read the difference.
//!
//! | command | |
//! |---|---|
//! | `cluster members=3 [extended=true] [leader=1] [snapshot-count=N] [catch-up=N]` | new members; one of them leads if `leader` is given |
//! | `publishing [members=3] [extended=true]` | new members without a leader that publish their attributes, and whose leader asks for versions |
//! | `versions AT LOWEST\|unknown` | the members have answered a leader's question for their versions |
//! | `put AT KEY=VALUE… [prev-index=N]`, `get AT KEY…` | a client's call; its answer is printed when it comes |
//! | `add AT ID`, `remove AT ID`, `update AT ID URL` | a change of the members |
//! | `deliver [from=A] [to=B] [kind=K] [count=N] [quiet=true]` | messages arrive, those of such a kind only, until there are none |
//! | `drop [from=A] [to=B] [kind=K]` | messages are lost |
//! | `tick [AT…] [count=N]` | heartbeat intervals pass, at these members or at all |
//! | `pass [count=N]` | heartbeat intervals pass at all members, and all messages arrive after each |
//! | `campaign AT`, `transfer AT`, `stop AT`, `kill AT`, `start AT`, `gone AT PEER`, `extend AT on|off` | |
//! | `hold AT`, `sync AT` | the disk does nothing for a while; it has done all |
//! | `expire` | a minute passes on all clocks of the day |
//! | `state` | what every member is, and whether their stores are equal |
#![expect(clippy::unwrap_used, reason = "a script that cannot be run fails")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use goldenscript::{Argument, Command, Context, Runner};
use node::member::{Applied, Batch, Member, MemberChange, Message, Role, Start, attributes_value};
use node::time::{Moment, Now};
use node::version::Level;
use node::{Action, AnsweredCall, Call, Config, Node, Notice, Outcome, StateMachine as _};
use shared::event::Event;
use shared::id::{ClusterId, MemberId};
use shared::pb;
use shared::store::{Image, Store};
use shared::time::UnixNanos;
use shared::v2::{self, Verb};
use shared::wal::EntryRef;

const HISTORY: usize = 100;
const TICK: Duration = Duration::from_millis(100);
const ELECTION_TICKS: usize = 10;
/// The start of every script, in Unix nanoseconds.
const EPOCH: i64 = 1_700_000_000_000_000_000;

type Failure = Box<dyn Error>;

/// What stays when a member stops.
#[derive(Default)]
struct Files {
    entries: Vec<pb::Entry>,
    state: pb::HardState,
    snapshot: Option<(pb::SnapshotMetadata, Bytes)>,
}

/// A running member.
struct Process {
    node: Node<Store, u64>,
    store: Store,
    /// Batches that wait while the disk is held.
    unwritten: Vec<Batch>,
    is_held: bool,
    image: Option<(pb::SnapshotMetadata, Image)>,
}

#[derive(Default)]
struct Host {
    files: Files,
    process: Option<Process>,
}

#[derive(Default)]
struct Cluster {
    hosts: BTreeMap<u64, Host>,
    wire: Vec<Message>,
    ticks: u32,
    /// Seconds by which all clocks of the day were set forward.
    turned: i64,
    calls: u64,
    starts: u64,
    is_extended: bool,
    snapshot_count: u64,
    catch_up: u64,
    is_publishing: bool,
    out: String,
}

fn change_entry(index: u64, change: &MemberChange) -> pb::Entry {
    let data = Some(Bytes::from(change.encode_to_vec()));
    pb::Entry { kind: pb::ENTRY_CONF_CHANGE, term: 1, index, data }
}

fn url(id: u64) -> Vec<String> {
    vec![format!("http://m{id}:1")]
}

impl Files {
    fn append<'a>(&mut self, entries: impl Iterator<Item = EntryRef<'a>>) {
        for entry in entries {
            self.entries.retain(|old| old.index < entry.index);
            self.entries.push(pb::Entry {
                kind: entry.kind,
                term: entry.term,
                index: entry.index,
                data: entry.data.map(Bytes::copy_from_slice),
            });
        }
    }

    fn save(&mut self, metadata: pb::SnapshotMetadata, data: Bytes) {
        self.state.commit = self.state.commit.max(metadata.index);
        self.snapshot = Some((metadata, data));
    }
}

impl Cluster {
    fn now(&self) -> Now {
        let passed = TICK * self.ticks;
        let wall = EPOCH + i64::try_from(passed.as_nanos()).unwrap() + self.turned * 1_000_000_000;
        Now { moment: Moment::after(passed), wall: UnixNanos(wall) }
    }

    fn print(&mut self, line: impl AsRef<str>) {
        writeln!(self.out, "{}", line.as_ref()).unwrap();
    }

    fn process(&mut self, id: u64) -> Result<&mut Process, Failure> {
        let host = self.hosts.get_mut(&id).ok_or_else(|| format!("there is no member {id}"))?;
        host.process.as_mut().ok_or_else(|| format!("member {id} does not run").into())
    }

    fn start(&mut self, id: u64) -> Result<(), Failure> {
        let (now, mut config) = (self.now(), self.config());
        config.attributes =
            self.is_publishing.then(|| attributes_value(&format!("m{id}"), &url(id), String::new()));
        self.starts += 1;
        let host = self.hosts.entry(id).or_default();
        if host.process.is_some() {
            return Err(format!("member {id} runs").into());
        }
        let (snapshot, store) = match &host.files.snapshot {
            Some((metadata, data)) => (metadata.clone(), Store::recover(data, HISTORY)?),
            None => (pb::SnapshotMetadata::default(), Store::new(HISTORY)),
        };
        let start = Start {
            id: MemberId(id),
            cluster_id: ClusterId(9),
            entries: host
                .files
                .entries
                .iter()
                .filter(|entry| entry.index > snapshot.index)
                .cloned()
                .collect(),
            snapshot,
            state: host.files.state,
            election_ticks: ELECTION_TICKS,
            seed: id + self.starts,
            now: now.wall,
            level: Level::V2_3,
        };
        let mut member = Member::new(start, &store, &slog::Logger::root(slog::Discard, slog::o!()));
        member.set_catch_up_entries(self.catch_up);
        member.set_extended(self.is_extended);
        let node = Node::new(member, config, now.moment);
        host.process = Some(Process { node, store, unwritten: Vec::new(), is_held: false, image: None });
        self.turn(id)
    }

    fn config(&self) -> Config<Store> {
        Config {
            election: TICK * u32::try_from(ELECTION_TICKS).unwrap(),
            request_timeout: Duration::from_secs(7),
            snapshot_count: self.snapshot_count,
            slow_request: Duration::ZERO,
            dead_after: None,
            attributes: None,
        }
    }

    /// Carries out the actions of a member's node until there are none.
    fn turn(&mut self, id: u64) -> Result<(), Failure> {
        let now = self.now();
        while let Some(action) = self.process(id)?.node.poll(now.moment) {
            let host = self.hosts.get_mut(&id).unwrap();
            let process = host.process.as_mut().unwrap();
            match action {
                Action::Send(messages) => self.wire.extend(messages),
                Action::Persist(batch) if process.is_held => process.unwritten.push(batch),
                Action::Persist(batch) => write(&mut host.files, process, batch, now.moment),
                Action::Apply(committed) => {
                    let mut lines = Vec::new();
                    let _ = process.node.apply(committed, &mut process.store, now, |applied, answered| {
                        lines.extend(describe_applied(applied, answered.as_ref()));
                    });
                    lines.into_iter().for_each(|line| self.print(format!("{id} {line}")));
                }
                Action::Read(request, call) => {
                    let event = process.store.get(&request.path, request.recursive, request.sorted);
                    self.print(format!("{id} answers {call}: {}", describe_result(event)));
                }
                Action::ReadPoint(call) => self.print(format!("{id} may read for {call}")),
                Action::Unanswered { caller, why, .. } => {
                    self.print(format!("{id} gives up {caller}: {why}"))
                }
                Action::ReadSnapshot(message) => {
                    let store = Store::recover(&message.snapshot_data(), HISTORY).map_err(|e| e.to_string());
                    process.node.snapshot_read(message, store, now.moment);
                }
                Action::MarkReceived(_) => process.node.received_marked(),
                Action::SaveReceived(received) => {
                    host.files.save(received.metadata, received.data);
                    process.node.received_saved();
                }
                Action::Install(store) => {
                    process.store.install(*store);
                    process.node.installed(&process.store, now.moment);
                }
                Action::TakeSnapshot(at) => {
                    let mark = pb::WalSnapshot { index: at.index, term: at.term };
                    process.image = Some((at, process.store.image()));
                    process.node.snapshot_marked(mark, now.moment);
                }
                Action::SaveSnapshot => {
                    let (at, image) = process.image.take().unwrap();
                    let mut data = Vec::new();
                    image.write_json(&mut data)?;
                    host.files.save(at.clone(), data.into());
                    process.node.snapshot_saved(at, now.moment);
                }
                Action::AskVersions if self.is_publishing => self.print(format!("{id} asks for versions")),
                Action::AskVersions => {}
                Action::ReleaseLog(index) => host.files.entries.retain(|entry| entry.index > index),
                Action::Notify(notice) => self.print_notice(id, &notice),
                Action::End(end) => {
                    self.print(format!("{id} ends: {end:?}"));
                    self.end(id);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn print_notice(&mut self, id: u64, notice: &Notice) {
        match notice {
            Notice::Refused { refusal, .. } => self.print(format!("{id} refuses: {refusal}")),
            Notice::Restored { index } => self.print(format!("{id} installed snapshot index={index}")),
            Notice::SnapshotSaved { index } => self.print(format!("{id} saved snapshot index={index}")),
            Notice::HandsOver { to } => self.print(format!("{id} hands over to {}", to.0)),
            Notice::Published => self.print(format!("{id} has published its attributes")),
            Notice::NotPublished(why) => self.print(format!("{id} has not published its attributes: {why}")),
            Notice::RaisesVersion { from, to } => {
                let from = from.map_or("none".to_owned(), |from| from.to_string());
                self.print(format!("{id} raises the version from {from} to {to}"));
            }
            Notice::VersionNotRaised(why) => self.print(format!("{id} has not raised the version: {why}")),
            Notice::Extended(on) => self.print(format!("{id} extended={on}")),
            _ => {}
        }
    }

    /// Ends the process of a member; its clients get no answer.
    fn end(&mut self, id: u64) {
        let process = self.hosts.get_mut(&id).and_then(|host| host.process.take());
        for call in process.map(|mut process| process.node.take_callers()).unwrap_or_default() {
            self.print(format!("{id} stops, {call} has no answer"));
        }
    }

    fn call(&mut self, id: u64, call: impl FnOnce(u64) -> Call<u64>) -> Result<(), Failure> {
        self.calls += 1;
        let (number, now) = (self.calls, self.now().moment);
        self.process(id)?.node.call(call(number), now);
        self.turn(id)
    }

    fn propose(&mut self, id: u64, request: v2::Request) -> Result<(), Failure> {
        self.call(id, |caller| Call::Propose { command: request.into(), began: None, caller })
    }

    fn configure(&mut self, id: u64, change: MemberChange) -> Result<(), Failure> {
        self.call(id, |caller| Call::Configure { change, caller })
    }

    /// Takes the first matching message off the wire.
    fn take(&mut self, filter: &MessageFilter) -> Option<Message> {
        let at = self.wire.iter().position(|message| filter.matches(message))?;
        Some(self.wire.remove(at))
    }

    fn deliver(&mut self, filter: &MessageFilter, count: usize, quiet: bool) -> Result<(), Failure> {
        for _ in 0..count {
            let Some(message) = self.take(filter) else { break };
            if !quiet {
                self.print(format!("{} → {} {}", message.from().0, message.to().0, head(&message)));
            }
            self.arrive(message)?;
        }
        Ok(())
    }

    fn arrive(&mut self, message: Message) -> Result<(), Failure> {
        let (from, to, now) = (message.from().0, message.to().0, self.now().moment);
        let snapshot = message.snapshot();
        let message = if snapshot.is_some() { self.with_data(&message)? } else { message };
        let arrives = self.process(to).is_ok();
        if arrives {
            self.process(to)?.node.receive(message, now);
            self.turn(to)?;
        }
        if snapshot.is_some() && self.process(from).is_ok() {
            self.process(from)?.node.snapshot_sent(MemberId(to), arrives);
            self.turn(from)?;
        }
        Ok(())
    }

    /// A snapshot message with the bytes of the sender's file, as they are received.
    fn with_data(&self, message: &Message) -> Result<Message, Failure> {
        let (metadata, data) = self.hosts[&message.from().0].files.snapshot.clone().ok_or("no snapshot")?;
        let snapshot = prost::Message::encode_to_vec(&pb::Snapshot { data: Some(data), metadata });
        let (before, after) = message.encode_around_snapshot(snapshot.len() as u64);
        Ok(Message::decode([&before[..], &snapshot, &after].concat().into())?)
    }

    fn tick(&mut self, ids: &[u64], count: u32) -> Result<(), Failure> {
        for _ in 0..count {
            self.ticks += 1;
            let now = self.now();
            for id in ids {
                if let Ok(process) = self.process(*id) {
                    process.node.tick(now, &mut process.store);
                    self.turn(*id)?;
                }
            }
        }
        Ok(())
    }

    fn state(&mut self) {
        let mut digests = BTreeMap::new();
        let mut lines = Vec::new();
        for (id, host) in &self.hosts {
            let Some(process) = &host.process else {
                lines.push(format!("{id} does not run"));
                continue;
            };
            let status = process.node.member().status();
            let mut json = Vec::new();
            process.store.image().write_json(&mut json).unwrap();
            let number = digests.len();
            // Counters differ between members.
            let tree = String::from_utf8(json).unwrap();
            let tree = tree.split("\"Stats\"").next().unwrap().to_owned();
            let digest = *digests.entry(tree).or_insert(number);
            let role = match status.role {
                Role::Leader => "leader",
                Role::Candidate => "candidate",
                Role::Follower => "follower",
            };
            let members: Vec<String> =
                process.node.membership().members.keys().map(|id| id.0.to_string()).collect();
            let version = process.node.membership().version.as_deref();
            let version = version.map(|version| format!(" version={version}")).unwrap_or_default();
            lines.push(format!(
                "{id} {role} term={} leader={} commit={} applied={} members={} store={}{version}",
                status.term,
                status.leader.0,
                status.commit,
                status.applied,
                members.join(","),
                char::from(b'A' + u8::try_from(digest).unwrap()),
            ));
        }
        lines.into_iter().for_each(|line| self.print(line));
    }

    fn new_cluster(&mut self, words: &mut Words<'_>) -> Result<(), Failure> {
        let members = words.key("members")?.unwrap_or(3);
        self.is_extended = words.key("extended")?.unwrap_or(false);
        self.snapshot_count = words.key("snapshot-count")?.unwrap_or(10_000);
        self.catch_up = words.key("catch-up")?.unwrap_or(5000);
        let leader: Option<u64> = words.key("leader")?;
        let entries: Vec<pb::Entry> =
            (1..=members).map(|id| change_entry(id, &MemberChange::add(MemberId(id), &url(id)))).collect();
        for id in 1..=members {
            let host = self.hosts.entry(id).or_default();
            host.files.entries.clone_from(&entries);
            host.files.state = pb::HardState { term: 1, vote: 0, commit: members };
            self.start(id)?;
        }
        if let Some(leader) = leader {
            self.process(leader)?.node.campaign();
            self.turn(leader)?;
            self.deliver(&MessageFilter::default(), usize::MAX, true)?;
        }
        self.out.clear();
        Ok(())
    }
}

fn write(files: &mut Files, process: &mut Process, batch: Batch, now: Moment) {
    files.append(batch.entries());
    files.state = batch.state.unwrap_or(files.state);
    process.node.written(batch, now);
}

/// The line for the effect of an entry, if it has one.
fn describe_applied(applied: Applied, answered: Option<&AnsweredCall<u64>>) -> Option<String> {
    let caller = answered.map(|answered| answered.caller);
    match (applied, caller) {
        (Applied::Command(_, Outcome::V2(result)), Some(call)) => {
            Some(format!("answers {call}: {}", describe_result(result)))
        }
        (Applied::Configured(_, result), Some(call)) => {
            let result = result.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
            Some(format!("answers {call}: {result}"))
        }
        (Applied::Skipped { index, why }, _) => Some(format!("skips {index}: {why}")),
        (Applied::RemovedSelf, _) => Some("is removed".to_owned()),
        _ => None,
    }
}

fn describe_result(result: Result<Event, shared::error::ApiError>) -> String {
    match result {
        Ok(event) => {
            let value = event.node().value().map(String::from_utf8_lossy);
            let key = String::from_utf8_lossy(event.key()).into_owned();
            let value = value.map(|value| format!("={value}")).unwrap_or_default();
            format!("{} {key}{value} index={}", event.action.name(), event.node().modified_index())
        }
        Err(error) => format!("{} ({})", error, String::from_utf8_lossy(&error.cause)),
    }
}

fn head(message: &Message) -> String {
    let mut line = format!("{:?} term={}", message.kind(), message.term());
    if let Some(snapshot) = message.snapshot() {
        write!(line, " snapshot={}", snapshot.index).unwrap();
        return line;
    }
    for (name, value) in
        [("index", message.index()), ("log", message.log_term()), ("commit", message.commit())]
    {
        if value > 0 {
            write!(line, " {name}={value}").unwrap();
        }
    }
    if message.entries().len() > 0 {
        write!(line, " entries={}", message.entries().len()).unwrap();
    }
    line
}

/// A filter for messages on the wire.
#[derive(Default)]
struct MessageFilter {
    from: Option<u64>,
    to: Option<u64>,
    kind: Option<String>,
}

impl MessageFilter {
    fn of(words: &mut Words<'_>) -> Result<MessageFilter, Failure> {
        Ok(MessageFilter { from: words.key("from")?, to: words.key("to")?, kind: words.key("kind")? })
    }

    fn matches(&self, message: &Message) -> bool {
        self.from.is_none_or(|from| from == message.from().0)
            && self.to.is_none_or(|to| to == message.to().0)
            && self.kind.as_ref().is_none_or(|kind| *kind == format!("{:?}", message.kind()))
    }
}

/// The words of a command.
struct Words<'a>(goldenscript::ArgumentConsumer<'a>);

impl Words<'_> {
    fn key<T: std::str::FromStr<Err: Error + 'static>>(&mut self, name: &str) -> Result<Option<T>, Failure> {
        Ok(self.0.take_key(name).map(str::parse).transpose()?)
    }

    fn id(&mut self) -> Result<u64, Failure> {
        Ok(self.0.next_pos().ok_or("a member is wanted")?.parse()?)
    }

    fn ids(&mut self) -> Result<Vec<u64>, Failure> {
        let mut ids = Vec::new();
        while let Some(word) = self.0.next_pos() {
            ids.push(word.parse()?);
        }
        Ok(ids)
    }
}

impl Cluster {
    fn client(&mut self, name: &str, words: &mut Words<'_>) -> Result<(), Failure> {
        let at = words.id()?;
        match name {
            "put" => {
                let prev_index = words.key("prev-index")?.unwrap_or(0);
                let expires: Option<i64> = words.key("ttl")?;
                let expiration = expires.map_or(0, |ttl| self.now().wall.0 + ttl * 1_000_000_000);
                while let Some((key, value)) = words.0.next_key() {
                    let (path, val) = (Bytes::from(format!("/1/{key}")), Bytes::from(value.to_owned()));
                    let verb = Verb::Put;
                    let request =
                        v2::Request { verb, path, val, prev_index, expiration, ..v2::Request::default() };
                    self.propose(at, request)?;
                }
            }
            _ => {
                while let Some(key) = words.0.next_pos() {
                    self.propose(at, v2::Request::new(Verb::QuorumGet, format!("/1/{key}")))?;
                }
            }
        }
        Ok(())
    }

    fn change(&mut self, name: &str, words: &mut Words<'_>) -> Result<(), Failure> {
        let (at, id) = (words.id()?, words.id()?);
        let change = match name {
            "add" => MemberChange::add(MemberId(id), &url(id)),
            "remove" => MemberChange::remove(MemberId(id)),
            _ => {
                let url = words.0.next_pos().ok_or("a URL is wanted")?;
                MemberChange::update(MemberId(id), &[url.to_owned()])
            }
        };
        self.configure(at, change)
    }

    fn lives(&mut self, name: &str, id: u64, words: &mut Words<'_>) -> Result<(), Failure> {
        let now = self.now().moment;
        match name {
            "start" => return self.start(id),
            "kill" => {
                self.end(id);
                return Ok(());
            }
            "stop" => self.process(id)?.node.stop(|_| true, now),
            "campaign" => self.process(id)?.node.campaign(),
            "transfer" => {
                let to = self.process(id)?.node.transfer(|_| true);
                let to = to.map_or("nobody".to_owned(), |to| to.0.to_string());
                self.print(format!("{id} transfers to {to}"));
            }
            "gone" => {
                let peer = words.id()?;
                self.process(id)?.node.peer_is_gone(MemberId(peer));
            }
            "extend" => {
                let on = words.0.next_pos() == Some("on");
                self.process(id)?.node.set_extended(on);
            }
            "versions" => {
                let lowest = match words.0.next_pos().ok_or("a version is wanted")? {
                    "unknown" => None,
                    version => Some(version.parse()?),
                };
                self.process(id)?.node.versions_known(lowest, now);
            }
            "hold" => self.process(id)?.is_held = true,
            _ => {
                let host = self.hosts.get_mut(&id).ok_or("no such member")?;
                let process = host.process.as_mut().ok_or("it does not run")?;
                process.is_held = false;
                for batch in std::mem::take(&mut process.unwritten) {
                    write(&mut host.files, process, batch, now);
                }
            }
        }
        self.turn(id)
    }
}

impl Runner for Cluster {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Failure> {
        let mut words = Words(command.consume_args());
        match command.name.as_str() {
            "cluster" => self.new_cluster(&mut words)?,
            "publishing" => {
                self.is_publishing = true;
                self.new_cluster(&mut words)?;
            }
            name @ ("put" | "get") => self.client(name, &mut words)?,
            name @ ("add" | "remove" | "update") => self.change(name, &mut words)?,
            "deliver" => {
                let filter = MessageFilter::of(&mut words)?;
                let count = words.key("count")?.unwrap_or(usize::MAX);
                let quiet = words.key("quiet")?.unwrap_or(false);
                self.deliver(&filter, count, quiet)?;
            }
            "drop" => {
                let filter = MessageFilter::of(&mut words)?;
                let before = self.wire.len();
                self.wire.retain(|message| !filter.matches(message));
                self.print(format!("{} lost", before - self.wire.len()));
            }
            "tick" => {
                let count = words.key("count")?.unwrap_or(1);
                let ids = words.ids()?;
                let ids = if ids.is_empty() { self.hosts.keys().copied().collect() } else { ids };
                self.tick(&ids, count)?;
            }
            "pass" => {
                let ids: Vec<u64> = self.hosts.keys().copied().collect();
                for _ in 0..words.key("count")?.unwrap_or(1) {
                    self.tick(&ids, 1)?;
                    self.deliver(&MessageFilter::default(), usize::MAX, true)?;
                }
            }
            "expire" => self.turned += 60,
            "state" => self.state(),
            name @ ("start" | "kill" | "stop" | "campaign" | "transfer" | "gone" | "extend" | "hold"
            | "sync" | "versions") => {
                let id = words.id()?;
                self.lives(name, id, &mut words)?;
            }
            name => return Err(format!("what is {name:?}?").into()),
        }
        if let Some(word) = words.0.next() {
            let word: &Argument = word;
            return Err(format!("what is {word}?").into());
        }
        Ok(std::mem::take(&mut self.out))
    }
}

fn scripts() -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<PathBuf> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn members_do_what_the_scripts_say() {
    let paths = scripts();
    assert!(paths.len() >= 20, "{} scripts are left", paths.len());
    for path in paths {
        println!("{}", path.display());
        goldenscript::run(&mut Cluster::default(), &path).unwrap();
    }
}
