//! What whoever reaches the peer port can send there, to a cluster of three: all members stay, take the next write,
//! and start again.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{iter, thread};

use prost::Message as _;
use shared::disk::RealDisk;
use shared::id::MemberId;
use shared::pb;
use shared::wal::{EntryRef, Wal};
use tests::http::{self, Request, Response};
use tests::server::{START_LIMIT, Server, cluster};
use tests::{Check, Context, fail, files};

const PROPOSE: i32 = 2;
const APPEND: i32 = 3;
const APPEND_RESPONSE: i32 = 4;
const VOTE: i32 = 5;
const SNAPSHOT: i32 = 7;
const HEARTBEAT: i32 = 8;
const TIMEOUT_NOW: i32 = 14;
const READ_INDEX: i32 = 15;
const READ_INDEX_RESPONSE: i32 = 16;
const PRE_VOTE: i32 = 17;

/// More elections than there can have been.
const TERM_SEEN_MAX: u64 = 1 << 20;

/// How long a cluster may take to a write again: elections take a second at most.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// Three members and what an attacker knows about them.
struct Target {
    members: Vec<Server>,
    ids: Vec<u64>,
    cluster_id: String,
}

impl Target {
    fn new(folder: &std::path::Path) -> Check<Target> {
        let names = ["m1", "m2", "m3"].map(str::to_owned);
        let members = cluster(folder, &names, &[])?;
        let listed = members[0].call("GET", "/v2/members")?;
        let listed: serde_json::Value = serde_json::from_slice(&listed.body).context("members")?;
        let mut ids = Vec::new();
        for member in &members {
            let all = listed["members"].as_array().into_iter().flatten();
            let found = all.clone().find(|listed| listed["name"] == member.name.as_str());
            let id = found.and_then(|found| found["id"].as_str()).context("no such member")?;
            ids.push(id.parse::<MemberId>().map_err(|_| tests::Failure::new("no id"))?.0);
        }
        let page = http::call(members[0].peer_port, &Request::new("GET", "/members"), http::PATIENCE)?;
        let cluster_id = page.header("X-Etcd-Cluster-Id").context("no cluster id")?;
        Ok(Target { members, ids, cluster_id })
    }

    fn post(&self, to: usize, body: Vec<u8>) -> Check<Response> {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let request = Request {
            headers: vec![
                header("X-Server-Version", "2.3.8"),
                header("X-Min-Cluster-Version", "2.2.0"),
                header("X-Etcd-Cluster-Id", &self.cluster_id),
                header("X-Server-From", &MemberId(self.ids[(to + 1) % 3]).to_string()),
            ],
            body,
            ..Request::new("POST", "/raft")
        };
        http::call(self.members[to].peer_port, &request, http::PATIENCE)
    }

    /// Term and index as clients see them.
    fn reached(&self, at: usize) -> Check<(u64, u64)> {
        let answer = self.members[at].call("GET", "/v2/keys/")?;
        let term = answer.number("X-Raft-Term").context("no term")?;
        Ok((term, answer.number("X-Raft-Index").context("no index")?))
    }

    /// All members run, and each takes a write.
    fn works(&mut self, after: &str) -> Check {
        for at in 0..3 {
            let end = Instant::now() + WRITE_LIMIT;
            loop {
                if !self.members[at].alive() {
                    fail!(
                        "after {after}: {} has ended: {}",
                        self.members[at].name,
                        self.members[at].last_words()
                    );
                }
                match self.members[at].set("/good", after) {
                    Ok(_) => break,
                    Err(why) if Instant::now() > end => fail!("after {after}: no write at {at}: {why}"),
                    Err(_) => thread::sleep(Duration::from_millis(50)),
                }
            }
            let (term, _) = self.reached(at)?;
            if term > TERM_SEEN_MAX {
                fail!("after {after}: the term is {term}");
            }
        }
        Ok(())
    }
}

fn put(path: &str, value: &str) -> pb::Entry {
    let request = pb::Request {
        id: 7,
        method: "PUT".into(),
        path: path.to_owned().into(),
        val: value.to_owned().into(),
        ..pb::Request::default()
    };
    pb::Entry { kind: pb::ENTRY_NORMAL, data: Some(request.encode_to_vec().into()), ..pb::Entry::default() }
}

fn change(kind: i32, id: u64) -> pb::Entry {
    let context = format!(r#"{{"id":{id},"peerURLs":["http://127.0.0.1:1"]}}"#);
    let change = pb::ConfChange { id: 7, kind, node_id: id, context: Some(context.into()) };
    pb::Entry { kind: pb::ENTRY_CONF_CHANGE, data: Some(change.encode_to_vec().into()), ..Default::default() }
}

fn raw(kind: i32, data: impl Into<Vec<u8>>) -> pb::Entry {
    pb::Entry { kind, data: Some(data.into().into()), ..pb::Entry::default() }
}

/// Proposals that no member passes on: none of them is a message.
fn proposals() -> Vec<(&'static str, Vec<pb::Entry>)> {
    let fine = put("/1/passed", "on");
    vec![
        ("rubbish for a request", vec![raw(pb::ENTRY_NORMAL, *b"rubbish")]),
        ("rubbish behind a request", vec![fine.clone(), raw(pb::ENTRY_NORMAL, *b"\xff")]),
        ("rubbish for a change", vec![fine, raw(pb::ENTRY_CONF_CHANGE, *b"rubbish")]),
        ("groups in groups for a change", vec![raw(pb::ENTRY_CONF_CHANGE, [0x0b; 60_000])]),
        ("groups in groups for a request", vec![raw(pb::ENTRY_NORMAL, [0x0b; 60_000])]),
        ("a change of kind 3", vec![change(3, 0x99)]),
        ("a change of kind 9", vec![change(9, 0x99)]),
        ("a change of kind -1", vec![change(-1, 0x99)]),
        ("a change of member 0", vec![change(pb::ADD_NODE, 0)]),
        ("an entry of kind 2", vec![raw(2, *b"")]),
        ("a member made by a request", vec![put("/0/members/99", "x"), change(pb::REMOVE_NODE, 0x99)]),
        ("attributes of a member made", vec![put("/0/members/099/raftAttributes", "{}"), change(1, 0x99)]),
        ("a file for the removed", vec![put("/0/removed_members", "x")]),
        ("a version of another time", vec![put("/0/version", "9.9.0")]),
        ("a path that goes up", vec![put("/1/../0/members/99", "x")]),
    ]
}

#[test]
fn proposals_that_mean_nothing_are_refused_and_end_nobody() -> Check {
    let folder = files::scratch("hostile-proposals")?;
    let mut target = Target::new(folder.path())?;
    for (what, entries) in proposals() {
        for to in 0..3 {
            let message = pb::Message {
                kind: PROPOSE,
                from: target.ids[(to + 1) % 3],
                to: target.ids[to],
                entries: entries.clone(),
                ..pb::Message::default()
            };
            let answer = target.post(to, message.encode_to_vec())?;
            let told = (answer.status, answer.text());
            assert_eq!(told, (400, "error unmarshaling raft message\n".to_owned()), "{what}");
        }
        target.works(what)?;
    }
    // From a sender that is not a member.
    for to in 0..3 {
        let entries = vec![put("/1/evil", "x")];
        let (from, to_id) = (0x99, target.ids[to]);
        let message = pb::Message { kind: PROPOSE, from, to: to_id, entries, ..Default::default() };
        target.post(to, message.encode_to_vec())?;
    }
    target.works("a stranger's proposal")?;
    assert_eq!(target.members[0].call("GET", "/v2/keys/evil?quorum=true")?.status, 404);
    restart(&mut target)
}

fn restart(target: &mut Target) -> Check {
    for member in &mut target.members {
        member.stop().context("a member does not stop")?;
    }
    for member in &mut target.members {
        member.start()?;
    }
    for member in &mut target.members {
        member.wait_ready(START_LIMIT)?;
    }
    target.works("a restart of all")
}

fn snapshot(nodes: Vec<u64>, index: u64, term: u64) -> pb::Snapshot {
    let mut store = Vec::new();
    let written = shared::store::Store::new(10).image().write_json(&mut store);
    assert!(written.is_ok());
    let metadata = pb::SnapshotMetadata { conf_state: pb::ConfState { nodes }, index, term };
    pb::Snapshot { data: Some(store.into()), metadata }
}

/// Messages whose indexes and terms match no log.
fn misfits(ids: &[u64], term: u64, last: u64) -> Vec<(&'static str, pb::Message)> {
    let of = |kind| pb::Message { kind, term, ..pb::Message::default() };
    let at = |index, term| pb::Entry { index, term, ..put("/1/misfit", "x") };
    let far = last + 100_000;
    let snapshots = [
        (vec![], far, term),
        (vec![0], far, term),
        ([ids, &[0]].concat(), far, term),
        ([ids, ids].concat(), far, term),
        ((1..3000).collect(), far, term),
        (ids.to_vec(), u64::MAX, term),
        (ids.to_vec(), 1 << 62, term),
        (ids.to_vec(), 0, term),
        (ids.to_vec(), far, 0),
        (ids.to_vec(), far, term + 9),
    ];
    let mut all = vec![
        ("an append behind nothing", pb::Message { index: far, ..of(APPEND) }),
        (
            "entries behind nothing",
            pb::Message { index: far, entries: vec![at(far + 1, term)], ..of(APPEND) },
        ),
        ("an entry of no term", pb::Message { index: 0, entries: vec![at(1, 0)], ..of(APPEND) }),
        ("the last index", pb::Message { index: u64::MAX, log_term: term, ..of(APPEND) }),
        ("the last index and one", {
            let entries = vec![at(0, term)];
            pb::Message { index: u64::MAX, log_term: term, entries, ..of(APPEND) }
        }),
        ("a commit beyond the log", pb::Message { commit: far, ..of(HEARTBEAT) }),
        ("the last commit", pb::Message { commit: u64::MAX, ..of(HEARTBEAT) }),
        ("an answer beyond the log", pb::Message { index: far, ..of(APPEND_RESPONSE) }),
        ("a refusal with the last hint", {
            pb::Message { index: last, reject: true, reject_hint: u64::MAX, ..of(APPEND_RESPONSE) }
        }),
        ("a read beyond the log", {
            let entries = vec![raw(0, *b"12345678")];
            pb::Message { term: 0, index: far, entries, ..of(READ_INDEX_RESPONSE) }
        }),
        ("a read of nothing", pb::Message { term: 0, ..of(READ_INDEX) }),
        ("a vote without a term", pb::Message { term: 0, ..of(VOTE) }),
        ("a question without a term", pb::Message { term: 0, ..of(PRE_VOTE) }),
        ("a proposal with a term", pb::Message { entries: vec![put("/1/misfit", "x")], ..of(PROPOSE) }),
        ("a proposal of nothing", pb::Message { term: 0, ..of(PROPOSE) }),
        ("a hand-over of no leader", pb::Message { from: 0x99, ..of(TIMEOUT_NOW) }),
    ];
    all.extend(snapshots.map(|(nodes, index, of_term)| {
        (
            "a snapshot that cannot be",
            pb::Message { snapshot: snapshot(nodes, index, of_term), ..of(SNAPSHOT) },
        )
    }));
    all.extend((0..20).map(|kind| ("no term", pb::Message { term: 0, index: far, commit: far, ..of(kind) })));
    all.extend((13..20).map(|kind| ("a kind of ours", pb::Message { index: far, commit: far, ..of(kind) })));
    all
}

#[test]
fn indexes_that_do_not_fit_end_nobody() -> Check {
    let folder = files::scratch("hostile-indexes")?;
    let mut target = Target::new(folder.path())?;
    for to in 0..3 {
        let (term, last) = target.reached(to)?;
        for (what, message) in misfits(&target.ids, term, last) {
            let from = if message.from == 0 { target.ids[(to + 1) % 3] } else { message.from };
            let message = pb::Message { from, to: target.ids[to], ..message };
            target.post(to, message.encode_to_vec()).context(what)?;
            thread::sleep(Duration::from_millis(5));
            if !target.members[to].alive() {
                fail!("after {what}: {}", target.members[to].last_words());
            }
        }
        target.works("misfits")?;
    }
    restart(&mut target)
}

#[test]
fn terms_that_no_cluster_comes_to_stop_no_writes() -> Check {
    let folder = files::scratch("hostile-terms")?;
    let mut target = Target::new(folder.path())?;
    let (before, _) = target.reached(0)?;
    for term in [u64::MAX, u64::MAX >> 1, 1 << 62, 1 << 48] {
        for kind in 0..20 {
            for to in 0..3 {
                let (from, to_id) = (target.ids[(to + 1) % 3], target.ids[to]);
                let snapshot = snapshot(target.ids.clone(), 1_000_000, 2);
                let message = pb::Message { kind, from, to: to_id, term, snapshot, ..Default::default() };
                target.post(to, message.encode_to_vec())?;
            }
        }
        target.works("terms of another world")?;
    }
    let (after, _) = target.reached(0)?;
    assert!(after < before + 50, "the term went from {before} to {after}");
    assert!(target.members.iter().any(|member| member.said().contains("no cluster can be beyond term")));
    restart(&mut target)
}

/// Lengths and counts that announce more than there is.
#[test]
fn sizes_that_lie_end_nobody() -> Check {
    let folder = files::scratch("hostile-sizes")?;
    let mut target = Target::new(folder.path())?;
    let empty_entries: Vec<u8> = iter::repeat_n([0x3a, 0], 2_000_000).flatten().collect();
    let nested: Vec<u8> = iter::repeat_n(0x0b, 1_000_000).collect();
    for body in [empty_entries, nested, vec![0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
        let answer = target.post(0, body)?;
        assert_eq!((answer.status, answer.text()), (400, "error unmarshaling raft message\n".to_owned()));
    }
    target.works("sizes")
}

/// Entries and a state behind what a member that has stopped has in its log.
fn append(member: &Server, entries: Vec<pb::Entry>, change: impl Fn(&mut pb::HardState)) -> Check {
    let folder = member.data_dir.join("member/wal");
    let opened = Wal::open(RealDisk, &folder, pb::WalSnapshot::default());
    let (mut wal, recovered) = opened.map_err(|error| tests::Failure::new(error.to_string()))?;
    let last = recovered.entries.last().context("an empty log")?;
    let behind = |(at, entry)| pb::Entry { term: last.term, index: last.index + at, ..entry };
    let entries: Vec<pb::Entry> = (1..).zip(entries).map(behind).collect();
    let mut state = recovered.state;
    state.commit = entries.last().map_or(state.commit, |entry| entry.index);
    change(&mut state);
    wal.append(entries.iter().map(EntryRef::from), Some(state));
    wal.sync().map_err(|error| tests::Failure::new(error.to_string()))
}

/// Entries that the first version accepted from any sender stay in its log: a member continues after them.
#[test]
fn a_log_with_entries_that_mean_nothing_is_gone_on_with() -> Check {
    let folder = files::scratch("poisoned")?;
    let mut member = Server::new(folder.path(), "m")?.started()?;
    member.set("/before", "v")?;
    member.stop();
    let mut entries: Vec<pb::Entry> = proposals().into_iter().flat_map(|(_, entries)| entries).collect();
    entries.retain(|entry| matches!(entry.kind, pb::ENTRY_NORMAL | pb::ENTRY_CONF_CHANGE));
    // A version of another time ends a server on purpose.
    entries.retain(|entry| {
        !entry.data.as_ref().is_some_and(|data| data.windows(5).any(|part| part == b"9.9.0"))
    });
    append(&member, entries, |_| ())?;
    for _ in 0..2 {
        member.start()?;
        member.wait_ready(START_LIMIT)?;
        member.set("/after", "v")?;
        assert_eq!(member.call("GET", "/v2/keys/before")?.status, 200);
        let members = member.call("GET", "/v2/members")?.text();
        assert!(!members.contains("\"99\""), "{members}");
        member.stop().context("the member does not stop")?;
    }
    assert!(member.said().contains("is passed over, as by all members: no request"), "{}", member.said());
    Ok(())
}

/// A member also continues with a term that the first version accepted from any sender, as long as elections are
/// possible.
#[test]
fn a_log_with_a_term_that_cannot_be() -> Check {
    let folder = files::scratch("poisoned-term")?;
    let mut member = Server::new(folder.path(), "m")?.started()?;
    member.stop();
    append(&member, Vec::new(), |state| state.term = u64::MAX >> 1)?;
    member.start()?;
    member.wait_ready(START_LIMIT)?;
    member.set("/after", "v")?;
    member.stop();
    append(&member, Vec::new(), |state| state.term = u64::MAX)?;
    member.start()?;
    let status = member.wait_exit(START_LIMIT).context("the member goes on")?;
    assert_eq!(status.code(), Some(1));
    assert!(
        member.said().contains("the term 18446744073709551615 of the data directory"),
        "{}",
        member.said()
    );
    Ok(())
}

/// Entries that no leader writes, and that would keep a member from starting again if its log had them.
#[test]
fn entries_that_no_log_may_hold_are_refused() -> Check {
    let folder = files::scratch("hostile-entries")?;
    let mut target = Target::new(folder.path())?;
    let change = |data: Option<Vec<u8>>| pb::Entry {
        kind: pb::ENTRY_CONF_CHANGE,
        data: data.map(Into::into),
        ..pb::Entry::default()
    };
    let version = |method: &str| {
        let request = pb::Request {
            method: method.to_owned().into(),
            path: "/0/version".into(),
            val: "9.9.9".into(),
            ..Default::default()
        };
        raw(pb::ENTRY_NORMAL, request.encode_to_vec())
    };
    let attacks = [
        ("a change without data", change(None)),
        ("a change of no bytes", change(Some(Vec::new()))),
        ("a version put", version("PUT")),
        ("a version posted", version("POST")),
        ("a version deleted", version("DELETE")),
    ];
    for (what, entry) in attacks {
        for to in 0..3 {
            let (term, index) = target.reached(to)?;
            let term = term + 1;
            let message = pb::Message {
                kind: APPEND,
                from: target.ids[(to + 1) % 3],
                to: target.ids[to],
                term,
                log_term: term - 1,
                index,
                entries: vec![pb::Entry { term, index: index + 1, ..entry.clone() }],
                ..pb::Message::default()
            };
            let answer = target.post(to, message.encode_to_vec())?;
            assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        }
        target.works(what)?;
    }
    restart(&mut target)
}

/// A server that gives every request the same response, and counts them.
fn web_server(response: String) -> Check<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let Ok(mut socket) = socket else { return };
            let mut request = [0; 4096];
            let _ = socket.read(&mut request);
            let _ = socket.write_all(response.as_bytes());
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok((port, asked))
}

fn wait_until_asked(asked: &AtomicUsize, times: usize) -> Check {
    let end = Instant::now() + WRITE_LIMIT;
    while asked.load(Ordering::Relaxed) < times {
        if Instant::now() > end {
            fail!("asked {} times only", asked.load(Ordering::Relaxed));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The responses that end a member of the original, whoever gives them.
fn farewells(cluster_id: &str) -> [String; 2] {
    ["403 Forbidden", "410 Gone"].map(|status| {
        format!(
            "HTTP/1.1 {status}\r\nX-Server-Version: 2.3.8\r\nX-Etcd-Cluster-Id: {cluster_id}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        )
    })
}

#[test]
fn a_stranger_cannot_tell_a_member_that_it_was_removed() -> Check {
    let folder = files::scratch("hostile-stranger")?;
    let mut target = Target::new(folder.path())?;
    for (number, response) in farewells(&target.cluster_id).into_iter().enumerate() {
        let (port, asked) = web_server(response)?;
        let stranger = 0xabc0 + number as u64;
        for to in 0..3 {
            let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            // From now on the member knows an address of the stranger.
            let request = Request {
                headers: vec![
                    header("X-Server-Version", "2.3.8"),
                    header("X-Min-Cluster-Version", "2.2.0"),
                    header("X-Etcd-Cluster-Id", &target.cluster_id),
                    header("X-PeerURLs", &format!("http://127.0.0.1:{port}")),
                ],
                ..Request::new("GET", format!("/raft/stream/message/{stranger:x}"))
            };
            let answer = http::call(target.members[to].peer_port, &request, http::PATIENCE)?;
            assert_eq!(answer.status, 404);
            let (term, index) = target.reached(to)?;
            let message = pb::Message {
                kind: VOTE,
                from: stranger,
                to: target.ids[to],
                term: term + 1,
                log_term: term,
                index,
                ..pb::Message::default()
            };
            target.post(to, message.encode_to_vec())?;
        }
        wait_until_asked(&asked, 1)?;
        target.works("a stranger's farewell")?;
    }
    restart(&mut target)
}

#[test]
fn an_address_that_was_added_by_mistake_ends_nobody() -> Check {
    let folder = files::scratch("hostile-address")?;
    let mut target = Target::new(folder.path())?;
    let ours = target.cluster_id.clone();
    // A web server knows nothing of the cluster; one that pretends to has never started as a member.
    for response in farewells("").into_iter().chain(farewells(&ours)) {
        let (port, asked) = web_server(response)?;
        let request = Request {
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: format!(r#"{{"peerURLs":["http://127.0.0.1:{port}"]}}"#).into_bytes(),
            ..Request::new("POST", "/v2/members")
        };
        let added = target.members[0].send(&request)?;
        assert_eq!(added.status, 201, "{}", added.text());
        let added: serde_json::Value = serde_json::from_slice(&added.body).context("the member")?;
        wait_until_asked(&asked, 30)?;
        target.works("an added address")?;
        let path = format!("/v2/members/{}", added["id"].as_str().context("no id")?);
        let removed = target.members[0].call("DELETE", &path)?;
        assert_eq!(removed.status, 204, "{}", removed.text());
    }
    restart(&mut target)
}
