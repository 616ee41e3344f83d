//! Checks of the cluster as a whole. Pure: the time is an argument.

use std::collections::BTreeMap;

use super::observed::{ObservedCluster, ObservedMember};
use super::report::{Finding, count};

/// More voters than this only make writes slower.
const MEMBERS_USUAL_MAX: usize = 7;
/// A member this many entries behind is not keeping up.
const LAG_WARNING: u64 = 1000;
/// The leader keeps this many entries: a member that is further behind needs a whole snapshot.
const LAG_PROBLEM: u64 = 5000;

/// Runs all checks.
pub(super) fn examine(cluster: &ObservedCluster, now: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    reachable(cluster, &mut findings);
    if cluster.members.is_empty() {
        return findings;
    }
    one_cluster(cluster, &mut findings);
    quorum(cluster, &mut findings);
    leader(cluster, &mut findings);
    versions(cluster, &mut findings);
    lag(cluster, &mut findings);
    super::clocks::examine(cluster, &mut findings);
    super::speed::examine(cluster, &mut findings);
    super::certificates::examine(cluster, now, &mut findings);
    security(cluster, &mut findings);
    findings
}

/// The members that were started.
pub(super) fn started(cluster: &ObservedCluster) -> impl Iterator<Item = &ObservedMember> {
    cluster.members.iter().filter(|member| member.started())
}

/// The members that answer.
pub(super) fn answering(cluster: &ObservedCluster) -> impl Iterator<Item = &ObservedMember> {
    started(cluster).filter(|member| member.url.is_some())
}

fn reachable(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    const CHECK: &str = "reachable";
    for (url, why) in &cluster.unknown_endpoints {
        let advice = "give the client URLs of members that run with --endpoints";
        findings.push(Finding::problem(CHECK, format!("the endpoint {url} cannot be asked: {why}"), advice));
    }
    for member in &cluster.members {
        let causes = || {
            let causes = member.unreachable.iter().map(|(url, why)| format!("{url} ({why})"));
            causes.collect::<Vec<_>>().join(", ")
        };
        if !member.started() {
            let text = format!(
                "it was added with the peer URLs {} and never started",
                member.listed.peer_urls.join(",")
            );
            let advice = format!(
                "start it with -initial-cluster-state existing and the -initial-cluster that `member add` has printed, or \
                 take it out with `etcdctl member remove {}`: it counts as a member that is down",
                member.listed.id
            );
            findings.push(Finding::warning("started", text, advice).of(member.label()));
        } else if member.url.is_none() {
            let (text, advice) = match member.unreachable.is_empty() {
                true => (
                    "it publishes no client URLs".to_owned(),
                    "start it with -advertise-client-urls".to_owned(),
                ),
                false => (
                    format!("it cannot be reached: {}", causes()),
                    format!(
                        "start it again; if its machine or data is lost: `etcdctl member replace {} NAME PEER-URLS`",
                        member.listed.id
                    ),
                ),
            };
            findings.push(Finding::problem(CHECK, text, advice).of(member.label()));
        } else if !member.unreachable.is_empty() {
            let advice = "clients are sent to all URLs that a member publishes: correct its -advertise-client-urls, or use \
                          --no-sync here";
            let text = format!("it answers, but not at {}", causes());
            findings.push(Finding::warning(CHECK, text, advice).of(member.label()));
        }
    }
    let answering = answering(cluster).count();
    if answering > 0 && answering == cluster.members.len() {
        findings.push(Finding::ok(CHECK, format!("{} of {answering} answer", count(answering, "member"))));
    }
}

fn one_cluster(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    const CHECK: &str = "cluster";
    if cluster.ids.len() > 1 {
        let ids: Vec<&str> = cluster.ids.iter().map(String::as_str).collect();
        let advice = "members of different clusters know nothing of each other: ask one cluster at a time with --endpoints, and \
                      where it was to be one, look at -initial-cluster and -initial-cluster-token of its members";
        findings.push(Finding::problem(
            CHECK,
            format!("these are different clusters: {}", ids.join(", ")),
            advice,
        ));
    } else if !cluster.other_lists.is_empty() {
        let text = format!("members do not know the same members: {}", cluster.other_lists.join("; "));
        let advice = "ask again in a moment: one may be behind. If it stays so, the member that differs was taken out, or \
                      started on old data";
        findings.push(Finding::warning(CHECK, text, advice));
    }
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for member in started(cluster) {
        *names.entry(&member.listed.name).or_default() += 1;
    }
    for (name, number) in names.into_iter().filter(|(_, number)| *number > 1) {
        let advice =
            "start each with a -name of its own: the list of members and -initial-cluster go by names";
        findings.push(Finding::warning(CHECK, format!("{number} members are called {name}"), advice));
    }
}

fn quorum(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    let (all, alive) = (cluster.members.len(), answering(cluster).count());
    let needed = all / 2 + 1;
    let text = format!("{}: {needed} needed, {alive} answer", count(all, "member"));
    findings.push(if alive < needed {
        let advice = "start the members that are down: nothing can be written until a majority is back. If that cannot be, make a \
                      new cluster of one member's data with -force-new-cluster";
        Finding::problem("quorum", text, advice)
    } else if alive == needed && alive < all {
        Finding::warning("quorum", text, "bring back what is down: with one member less nothing can be written")
    } else {
        let text = match alive - needed {
            0 => format!("{text}; the cluster tolerates no failure"),
            spare => format!("{text}; the cluster tolerates the failure of {spare}"),
        };
        Finding::ok("quorum", text)
    });
    if all.is_multiple_of(2) {
        let text = format!("{all} members tolerate no more failures than {} would", all - 1);
        findings.push(Finding::warning("size", text, "add a member or remove one: odd numbers are better"));
    } else if all > MEMBERS_USUAL_MAX {
        let advice = "three or five members are enough, seven are many; let others be proxies (-proxy on)";
        findings.push(Finding::warning("size", format!("{all} members make each write slow"), advice));
    }
}

fn leader(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    const CHECK: &str = "leader";
    let mut leaders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for member in answering(cluster) {
        if let Some(id) = &member.leader {
            leaders.entry(id).or_default().push(member.label());
        }
        if member.healthy == Some(false) {
            let advice = "it has no leader, or nothing is committed: look at its log, and whether it reaches the peer URLs of the \
                          others";
            findings.push(
                Finding::problem("health", "it says that it is not healthy", advice).of(member.label()),
            );
        }
    }
    let name = |id: &str| {
        let member = cluster.members.iter().find(|member| member.listed.id == id);
        member.map_or_else(|| id.to_owned(), |member| member.label().to_owned())
    };
    if let Some(without) = leaders.remove("") {
        let advice = "they cannot form a majority: see which peer URLs they reach, whether enough members run, and whether \
                      -election-timeout is some ten times a round trip between them";
        findings.push(Finding::problem(
            CHECK,
            format!("no leader is known to {}", without.join(", ")),
            advice,
        ));
    }
    let ids: Vec<&str> = leaders.keys().copied().collect();
    match ids[..] {
        [] => {}
        [id] => findings.push(Finding::ok(CHECK, format!("{} leads", name(id)))),
        _ => {
            let views: Vec<String> =
                leaders.iter().map(|(id, who)| format!("{} for {}", name(id), who.join(", "))).collect();
            let advice = "ask again: an election may be under way. If it stays so, the network between the members is cut";
            findings.push(Finding::problem(
                CHECK,
                format!("members follow different leaders: {}", views.join("; ")),
                advice,
            ));
        }
    }
}

fn versions(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    const CHECK: &str = "version";
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for member in answering(cluster) {
        versions.entry(member.version.as_deref().unwrap_or("none")).or_default().push(member.label());
    }
    for (version, who) in versions.iter().filter(|(version, _)| !version.starts_with("2.")) {
        let text = format!("version {version} is not known here");
        let advice = "this program knows etcd 2.x: use the tools of that version for it";
        findings.push(Finding::warning(CHECK, text, advice).of(who.join(", ")));
    }
    let all: Vec<String> =
        versions.iter().map(|(version, who)| format!("{version} ({})", who.join(", "))).collect();
    match all.as_slice() {
        [] => {}
        [_] => {
            let version = versions.keys().next().copied().unwrap_or_default();
            findings.push(Finding::ok(CHECK, format!("{version} everywhere")));
        }
        _ => {
            let advice = "finish the upgrade: until then the cluster speaks the oldest of them";
            findings.push(Finding::warning(
                CHECK,
                format!("members run different versions: {}", all.join(", ")),
                advice,
            ));
        }
    }
    let undecided = answering(cluster).any(|member| member.cluster_version.as_deref() == Some("not_decided"));
    if undecided {
        let advice = "the leader decides it once it reaches all members: start those that are down, or wait some seconds";
        findings.push(Finding::warning(CHECK, "the cluster has not decided on a version", advice));
    }
}

fn lag(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    let indexes = || answering(cluster).filter_map(|member| Some((member, member.raft_index?)));
    let Some(newest) = indexes().map(|(_, index)| index).max() else { return };
    let mut behind = false;
    for (member, index) in indexes() {
        let lag = newest - index;
        let text = format!("it is {lag} entries behind (at {index} of {newest})");
        let advice = "its reads are old. If it does not catch up, its disk or its network is too slow, or -snapshot-count too small";
        let finding = match lag {
            0..LAG_WARNING => continue,
            LAG_WARNING..LAG_PROBLEM => Finding::warning("lag", text, advice),
            _ => Finding::problem("lag", text, advice),
        };
        findings.push(finding.of(member.label()));
        behind = true;
    }
    if !behind && indexes().count() > 1 {
        findings.push(Finding::ok("lag", format!("all members are at raft index {newest}, or close to it")));
    }
}

fn security(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    const CHECK: &str = "auth";
    let on = answering(cluster).any(|member| member.auth == Some(true));
    let plain: Vec<&str> = started(cluster)
        .flat_map(|member| &member.listed.client_urls)
        .filter(|url| url.starts_with("http://") && !is_loopback(url))
        .map(String::as_str)
        .collect();
    if on && !plain.is_empty() {
        let advice = "passwords pass the network in clear: use TLS for clients (-cert-file, -key-file, https:// in \
                      -listen-client-urls and -advertise-client-urls)";
        findings.push(Finding::warning(
            CHECK,
            format!("users give passwords at {}", plain.join(", ")),
            advice,
        ));
    }
    let local: Vec<&ObservedMember> = started(cluster)
        .filter(|member| member.listed.client_urls.iter().any(|url| is_loopback(url)))
        .collect();
    if !local.is_empty() && local.len() < started(cluster).count() {
        let who: Vec<&str> = local.iter().map(|member| member.label()).collect();
        let advice = "clients on other machines cannot use such a URL: correct -advertise-client-urls";
        findings.push(
            Finding::warning("published", "it publishes a client URL of its own machine only", advice)
                .of(who.join(", ")),
        );
    }
}

fn is_loopback(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local))
}
