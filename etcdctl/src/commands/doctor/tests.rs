//! What is found in clusters that are well, and in those that are not.

use shared::client::Member;
use shared::net::PeerCertificate;

use super::checks::examine;
use super::observed::*;
use super::report::{Finding, Level};

const NOW: i64 = 1_700_000_000;
const DAY: i64 = 86_400;

fn member(number: usize) -> ObservedMember {
    let listed = Member {
        id: format!("{number}"),
        name: format!("m{number}"),
        peer_urls: vec![format!("http://10.0.0.{number}:2380")],
        client_urls: vec![format!("http://10.0.0.{number}:2379")],
    };
    ObservedMember {
        url: Some(listed.client_urls[0].clone()),
        listed,
        version: Some("2.3.8".to_owned()),
        cluster_version: Some("2.3.0".to_owned()),
        leader: Some("1".to_owned()),
        healthy: Some(true),
        raft_index: Some(100),
        etcd_index: Some(50),
        clock_ms: Some((-400, 600)),
        round_trip: Some(0.001),
        quorum_read: Some(QuorumRead::Took(0.002)),
        fsync: Some(Fsync { count: 1000, p99: 0.008 }),
        auth: Some(false),
        ..ObservedMember::default()
    }
}

fn cluster(size: usize) -> ObservedCluster {
    ObservedCluster {
        members: (1..=size).map(member).collect(),
        ids: ["c1".to_owned()].into(),
        ..ObservedCluster::default()
    }
}

/// What is not ok: `problem leader`.
fn complaints(cluster: &ObservedCluster) -> Vec<String> {
    let bad = |finding: &Finding| finding.level != Level::Ok;
    let findings = examine(cluster, NOW);
    for finding in findings.iter().filter(|finding| bad(finding)) {
        assert!(finding.advice.as_ref().is_some_and(|advice| !advice.is_empty()), "{finding:?}");
    }
    let shown = |finding: Finding| format!("{:?} {}", finding.level, finding.check).to_lowercase();
    findings.into_iter().filter(bad).map(shown).collect()
}

/// Complaints about a cluster of three whose second member was changed.
fn with(change: impl Fn(&mut ObservedMember)) -> Vec<String> {
    let mut cluster = cluster(3);
    change(&mut cluster.members[1]);
    complaints(&cluster)
}

#[test]
fn clusters_that_are_well_have_no_complaints() {
    for size in [1, 3, 5, 7] {
        assert!(complaints(&cluster(size)).is_empty(), "{size}");
    }
    assert_eq!(complaints(&cluster(4)), ["warning size"]);
    assert_eq!(complaints(&cluster(9)), ["warning size"]);
}

#[test]
fn members_that_do_not_answer() {
    let down = |member: &mut ObservedMember| {
        member.url = None;
        member.unreachable = vec![("http://10.0.0.2:2379".to_owned(), "connection refused".to_owned())];
    };
    assert_eq!(with(down), ["problem reachable", "warning quorum"]);
    let mut two = cluster(2);
    down(&mut two.members[1]);
    assert_eq!(complaints(&two), ["problem reachable", "problem quorum", "warning size"]);
    let half = with(|member| member.unreachable = vec![("http://x:1".to_owned(), "no such host".to_owned())]);
    assert_eq!(half, ["warning reachable"]);
    let unstarted = with(|member| {
        member.url = None;
        member.listed.name.clear();
        member.listed.client_urls.clear();
    });
    assert_eq!(unstarted, ["warning started", "warning quorum"]);
    let nobody = ObservedCluster {
        unknown_endpoints: vec![("http://x:1".into(), "refused".into())],
        ..ObservedCluster::default()
    };
    assert_eq!(complaints(&nobody), ["problem reachable"]);
}

#[test]
fn leaders_and_clusters_that_differ() {
    assert_eq!(with(|member| member.leader = Some("3".into())), ["problem leader"]);
    assert_eq!(with(|member| member.leader = Some(String::new())), ["problem leader"]);
    assert_eq!(with(|member| member.healthy = Some(false)), ["problem health"]);
    assert_eq!(with(|member| member.listed.name = "m1".into()), ["warning cluster"]);
    let mut two_clusters = cluster(3);
    two_clusters.ids.insert("c2".to_owned());
    assert_eq!(complaints(&two_clusters), ["problem cluster"]);
    let mut other = cluster(3);
    other.other_lists = vec!["a: 1 2".into(), "b: 1".into()];
    assert_eq!(complaints(&other), ["warning cluster"]);
}

#[test]
fn versions_clocks_and_lag() {
    assert_eq!(with(|member| member.version = Some("2.2.5".into())), ["warning version"]);
    assert_eq!(with(|member| member.version = None), ["warning version", "warning version"]);
    assert_eq!(with(|member| member.cluster_version = Some("not_decided".into())), ["warning version"]);
    assert_eq!(with(|member| member.raft_index = Some(1100)), ["warning lag", "warning lag"]);
    assert_eq!(with(|member| member.raft_index = Some(9000)), ["problem lag", "problem lag"]);
    // Apart from the others, and from here.
    assert_eq!(with(|member| member.clock_ms = Some((3000, 4000))), ["warning clock", "warning clock"]);
    assert_eq!(with(|member| member.clock_ms = Some((-60_000, -59_000))), ["problem clock", "problem clock"]);
    assert!(with(|member| member.clock_ms = Some((900, 1900))).is_empty());
    let mut we = cluster(3);
    we.members.iter_mut().for_each(|member| member.clock_ms = Some((90_000, 91_000)));
    assert_eq!(complaints(&we), ["warning clock"]);
}

#[test]
fn what_is_slow() {
    assert_eq!(with(|member| member.round_trip = Some(0.2)), ["warning latency"]);
    assert_eq!(with(|member| member.round_trip = Some(2.0)), ["problem latency"]);
    assert_eq!(with(|member| member.round_trip = None), ["problem latency"]);
    assert_eq!(with(|member| member.quorum_read = Some(QuorumRead::Took(0.5))), ["warning quorum read"]);
    assert_eq!(
        with(|member| member.quorum_read = Some(QuorumRead::Failed("x".into()))),
        ["problem quorum read"]
    );
    assert!(with(|member| member.quorum_read = Some(QuorumRead::NotAllowed)).is_empty());
    let fsync = |count, p99| with(move |member| member.fsync = Some(Fsync { count, p99 }));
    assert!(fsync(1000, 0.016).is_empty());
    assert_eq!(fsync(1000, 0.064), ["warning disk"]);
    assert_eq!(fsync(1000, f64::INFINITY), ["problem disk"]);
    assert!(fsync(5, 1.0).is_empty());
    let history =
        |age| with(move |member| member.history = Some(History { oldest_index: 7, reach: 1000, age }));
    assert_eq!(history(Some(5.0)), ["warning watch history"]);
    assert!(history(Some(500.0)).is_empty() && history(None).is_empty());
}

#[test]
fn certificates_that_end() {
    let certificate = |days: i64| Certificate {
        at: "https://10.0.0.2:2379".into(),
        shown: Ok(PeerCertificate {
            subject: "CN=m2".into(),
            issuer: "CN=ca".into(),
            not_before: NOW - DAY,
            not_after: NOW + days * DAY,
        }),
    };
    let of_member = |days| with(move |member| member.certificates = vec![certificate(days)]);
    assert!(of_member(31).is_empty());
    assert_eq!(of_member(20), ["warning certificate"]);
    assert_eq!(of_member(3), ["problem certificate"]);
    assert_eq!(of_member(-1), ["problem certificate"]);
    let mut file = cluster(3);
    file.files = vec![certificate(10)];
    assert_eq!(complaints(&file), ["warning certificate"]);
    file.files = vec![Certificate { shown: Err("gone".into()), ..certificate(0) }];
    assert_eq!(complaints(&file), ["problem certificate"]);
    let closed = with(|member| {
        member.certificates = vec![Certificate { shown: Err("refused".into()), ..certificate(0) }]
    });
    assert!(closed.is_empty());
}

#[test]
fn passwords_in_clear() {
    assert_eq!(with(|member| member.auth = Some(true)), ["warning auth"]);
    let local =
        |member: &mut ObservedMember| member.listed.client_urls = vec!["http://127.0.0.1:2379".into()];
    assert_eq!(with(local), ["warning published"]);
}
