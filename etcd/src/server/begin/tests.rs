//! Starts of new members, against other members with fixed answers.

use std::ffi::OsString;
use std::path::Path;

use shared::disk::SimDisk;
use shared::time::UnixNanos;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::start;
use super::*;
use crate::config::{self, Invocation};

const CLUSTER: &str = "c46df306ea09afe5";

fn config(words: &[&str]) -> Config {
    let words = ["-name=m", "-data-dir=/d", "-initial-advertise-peer-urls=http://127.0.0.1:1"]
        .into_iter()
        .chain(words.iter().copied())
        .map(OsString::from);
    match config::read(words, [], |_| panic!("no file is named")) {
        Invocation::Run(start) => start.config,
        Invocation::Exit(early_exit) => panic!("{early_exit:?}"),
    }
}

/// Another member, with fixed answers to `/members` and `/version`.
async fn peer(members: String, version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let members = members.replace("SELF", &url);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let read = socket.read(&mut head).await.unwrap();
            let body = if head[..read].starts_with(b"GET /members ") { &members } else { version };
            let answer =
                format!("HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: {CLUSTER}\r\nConnection: close\r\n\r\n{body}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

const VERSION: &str = r#"{"etcdserver":"2.3.8","etcdcluster":"2.3.0"}"#;

async fn begins(disk: &SimDisk, config: &Config) -> Result<Beginning, Vec<String>> {
    let layout = Layout::new(Path::new("/d"), None);
    let cluster = first_members(disk, &layout, config).await.unwrap();
    let begun = begin(disk, &layout, config, cluster, &Dialer::plain()).await;
    begun.map_err(|error| {
        error.lines().into_iter().map(|line| format!("{} {}", line.level.letter(), line.text)).collect()
    })
}

fn refused(begun: Result<Beginning, Vec<String>>) -> String {
    match begun {
        Err(lines) => lines.join("\n"),
        Ok(_) => panic!("it begins"),
    }
}

#[tokio::test]
async fn all_founders_write_the_same() {
    let mut logs = Vec::new();
    for (name, port) in [("m", 1), ("n", 2), ("o", 3)] {
        let name = format!("-name={name}");
        let advertise = format!("-initial-advertise-peer-urls=http://127.0.0.1:{port}");
        let cluster = "-initial-cluster=m=http://127.0.0.1:1,n=http://127.0.0.1:2,o=http://127.0.0.1:3";
        let config = config(&[&name, &advertise, cluster, "-initial-cluster-token=tt"]);
        let Ok(Beginning::Found(founding)) = begins(&SimDisk::new(1), &config).await else {
            panic!("{name} does not begin");
        };
        assert_eq!(founding.state, pb::HardState { term: 1, vote: 0, commit: 3 });
        logs.push((founding.cluster_id, founding.entries));
        let own = MemberId::compute(&[format!("http://127.0.0.1:{port}")], "tt", None);
        assert_eq!(founding.id, own);
    }
    assert_eq!(logs[0], logs[1]);
    assert_eq!(logs[0], logs[2]);
}

#[tokio::test]
async fn who_was_there_before_does_not_begin_again() {
    let own = MemberId::compute(&["http://127.0.0.1:1".to_owned()], "etcd-cluster", None);
    let member = |clients: &str| {
        format!(
            r#"[{{"id":{},"peerURLs":["http://127.0.0.1:1"],"name":"","clientURLs":[{clients}]}}]"#,
            own.0
        )
    };
    let started = peer(member(r#""http://127.0.0.1:9""#), VERSION).await;
    let cluster = format!("-initial-cluster=m=http://127.0.0.1:1,n={started}");
    let begun = begins(&SimDisk::new(1), &config(&[&cluster])).await;
    assert_eq!(refused(begun), format!("C member {own} has already been bootstrapped"));
    // It was added, but has never started: it cannot have voted.
    let announced = peer(member(""), VERSION).await;
    let cluster = format!("-initial-cluster=m=http://127.0.0.1:1,n={announced}");
    assert!(matches!(begins(&SimDisk::new(1), &config(&[&cluster])).await, Ok(Beginning::Found(_))));
}

/// The members of a cluster: `m` as member 7 at a URL, and the answering member.
fn with_m(url: &str) -> String {
    format!(
        r#"[{{"id":7,"peerURLs":["{url}"]}},{{"id":8,"peerURLs":["SELF"],"name":"n","clientURLs":["http://c:1"]}}]"#
    )
}

const EXISTING: &str = "-initial-cluster-state=existing";

#[tokio::test]
async fn who_joins_has_the_id_that_the_cluster_gave_it() {
    let other = peer(with_m("http://127.0.0.1:1"), VERSION).await;
    let cluster = format!("-initial-cluster=n={other},m=http://127.0.0.1:1");
    let config = config(&[&cluster, EXISTING, "-initial-cluster-token=nobody-cares"]);
    let disk = SimDisk::new(1);
    let Ok(Beginning::Join(joining)) = begins(&disk, &config).await else { panic!("it does not join") };
    assert_eq!((joining.id, joining.cluster_id.to_string().as_str()), (MemberId(7), CLUSTER));
    let remotes: Vec<_> = joining.remotes.iter().map(|peer| (peer.id.0, peer.peer_urls.clone())).collect();
    assert_eq!(remotes, [(8, vec![other])]);

    let layout = Layout::new(Path::new("/d"), None);
    let opened = start::open(&disk, &layout, &config, Beginning::Join(joining), UnixNanos(1), 1);
    let Ok(opened) = opened else { panic!("it cannot be opened") };
    assert_eq!((opened.start.id, opened.start.state.term, opened.start.entries.len()), (MemberId(7), 1, 0));
    drop(opened);
    // Stopped before it received anything, it keeps its id, and finds the others again.
    let begun = begins(&disk, &config).await;
    assert!(matches!(begun, Ok(Beginning::Restart)));
    let opened = start::open(&disk, &layout, &config, Beginning::Restart, UnixNanos(1), 1);
    let Ok(mut opened) = opened else { panic!("it cannot be opened again") };
    assert_eq!((opened.start.id, opened.start.state.term, opened.remotes.len()), (MemberId(7), 1, 0));
    remember_others(&disk, &mut opened, &config, &config.initial_cluster, &Dialer::plain()).await;
    assert_eq!(opened.remotes.len(), 1);
}

#[tokio::test]
async fn who_joins_must_know_the_whole_cluster() {
    let other = peer(with_m("http://127.0.0.1:2"), VERSION).await;
    let members = format!(
        "C error validating peerURLs {{ClusterID:{CLUSTER} Members:[&{{ID:7 RaftAttributes:{{PeerURLs:\
         [http://127.0.0.1:2]}} Attributes:{{Name: ClientURLs:[]}}}} &{{ID:8 RaftAttributes:{{PeerURLs:[{other}]}} \
         Attributes:{{Name:n ClientURLs:[http://c:1]}}}}] RemovedMemberIDs:[]}}: "
    );
    for (cluster, why) in [
        (
            format!("n={other},m=http://127.0.0.1:1"),
            format!(
                "{members}unmatched member while checking PeerURLs: no member of the cluster has exactly the URLs of \
                 m=http://127.0.0.1:1 in -initial-cluster"
            ),
        ),
        (
            format!("n={other},m=http://127.0.0.1:2,o=http://127.0.0.1:3"),
            format!("{members}member count is unequal: -initial-cluster lists 3, the cluster has 2"),
        ),
        (
            "m=http://127.0.0.1:2".to_owned(),
            "C cannot fetch cluster info from peer urls: could not retrieve cluster information from the given \
             urls"
                .to_owned(),
        ),
    ] {
        let cluster = format!("-initial-cluster={cluster}");
        assert_eq!(refused(begins(&SimDisk::new(1), &config(&[&cluster, EXISTING])).await), why);
    }
}

#[tokio::test]
async fn who_joins_must_speak_the_clusters_version() {
    for (version, joins) in [
        (VERSION, true),
        (r#"{"etcdserver":"2.2.5","etcdcluster":"2.2.0"}"#, true),
        (r#"{"etcdserver":"2.1.3","etcdcluster":"2.1.0"}"#, false),
        (r#"{"etcdserver":"3.0.0","etcdcluster":"3.0.0"}"#, false),
        (r#"{"etcdserver":"2.3.8","etcdcluster":"not_decided"}"#, false),
        ("hello", false),
    ] {
        let other = peer(with_m("http://127.0.0.1:1"), version).await;
        let cluster = format!("-initial-cluster=n={other},m=http://127.0.0.1:1");
        match begins(&SimDisk::new(1), &config(&[&cluster, EXISTING])).await {
            Ok(_) => assert!(joins, "{version}"),
            Err(lines) => {
                assert!(!joins, "{version}: {lines:?}");
                assert_eq!(lines, ["C incomptible with current running cluster"]);
            }
        }
    }
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_is_done_again() {
    let words = ["-initial-cluster=m=http://127.0.0.1:1,n=http://127.0.0.1:2"];
    for (beginning, more, again) in
        [(0, "-debug", true), (0, "-initial-cluster-token=x", false), (1, EXISTING, true)]
    {
        let disk = SimDisk::new(1);
        let layout = Layout::new(Path::new("/d"), None);
        let Ok(Beginning::Found(founding)) = begins(&disk, &config(&words)).await else {
            panic!("no beginning")
        };
        let node_id = if beginning == 0 { founding.id.0 } else { 77 };
        let metadata = pb::Metadata { node_id, cluster_id: founding.cluster_id.0 };
        drop(shared::wal::Wal::create(disk.clone(), &layout.wal, metadata).unwrap());
        let config = config(&[words[0], more]);
        let opened = start::open(&disk, &layout, &config, Beginning::Restart, UnixNanos(1), 1);
        match opened {
            Ok(opened) => {
                assert!(again, "{more}");
                let entries = if beginning == 0 { 2 } else { 0 };
                assert_eq!((opened.start.id.0, opened.start.entries.len()), (node_id, entries));
                assert_eq!(opened.start.state.commit, entries as u64);
            }
            Err(error) => assert!(!again && matches!(error, StartError::NeverFounded(_)), "{more}: {error}"),
        }
    }
}
