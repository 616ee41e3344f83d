//! Checks the speed of members and disks, and the length of watch histories.

use super::checks::answering;
use super::observed::{History, ObservedCluster, ObservedMember, QuorumRead};
use super::report::Finding;

/// The round trip for a warning, in seconds.
const ROUND_TRIP_WARNING: f64 = 0.1;
/// The round trip for a problem: etcdctl gives up on a member after a second.
const ROUND_TRIP_PROBLEM: f64 = 1.0;
/// The quorum read for a warning, in seconds: it takes a round trip between members, or a write with Go members.
const QUORUM_WARNING: f64 = 0.3;
/// The quorum read for a problem: the default of -election-timeout.
const QUORUM_PROBLEM: f64 = 1.0;
/// The sync for a warning, in seconds: a good disk syncs in some milliseconds.
const FSYNC_WARNING: f64 = 0.017;
/// The sync for a problem: with slower ones than the default of -heartbeat-interval (0.1 s) leaders are lost.
const FSYNC_PROBLEM: f64 = 0.129;
/// Fewer syncs than this are not checked.
const FSYNC_COUNT_MIN: u64 = 10;
/// The history's age for a warning, in seconds: a client that restarts may be away for as long.
const HISTORY_AGE_WARNING: f64 = 60.0;

/// Runs the checks of this file.
pub(super) fn examine(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    latency(cluster, findings);
    quorum_reads(cluster, findings);
    disks(cluster, findings);
    histories(cluster, findings);
}

fn latency(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    const CHECK: &str = "latency";
    let advice = "look at the network between here and the member, and at its load";
    let mut slowest: f64 = 0.0;
    for member in answering(cluster) {
        let Some(took) = member.round_trip else {
            let text = "it answered once, and then not in time";
            findings.push(Finding::problem(CHECK, text, advice).of(member.label()));
            continue;
        };
        let text = format!("an answer takes {}", time(took));
        if took >= ROUND_TRIP_PROBLEM {
            let text = format!("{text}: clients time out");
            findings.push(Finding::problem(CHECK, text, advice).of(member.label()));
        } else if took >= ROUND_TRIP_WARNING {
            findings.push(Finding::warning(CHECK, text, advice).of(member.label()));
        } else {
            slowest = slowest.max(took);
        }
    }
    if slowest > 0.0 {
        findings.push(Finding::ok(CHECK, format!("members answer within {}", time(slowest))));
    }
}

fn quorum_reads(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    const CHECK: &str = "quorum read";
    let mut slowest: Option<f64> = None;
    let mut not_allowed = false;
    for member in answering(cluster) {
        let finding = match &member.quorum_read {
            None => continue,
            Some(QuorumRead::NotAllowed) => {
                not_allowed = true;
                continue;
            }
            Some(QuorumRead::Failed(why)) => Finding::problem(
                CHECK,
                format!("a read that needs a majority fails: {why}"),
                "writes fail in the same way: see that enough members run and reach each other at their peer URLs",
            ),
            Some(QuorumRead::Took(took)) => {
                let text = format!("a read that needs a majority takes {}", time(*took));
                let advice = "look at the disks (below) and at the network between the members";
                if *took >= QUORUM_PROBLEM {
                    Finding::problem(CHECK, text, advice)
                } else if *took >= QUORUM_WARNING {
                    Finding::warning(CHECK, text, advice)
                } else {
                    slowest = Some(slowest.map_or(*took, |slowest| slowest.max(*took)));
                    continue;
                }
            }
        };
        findings.push(finding.of(member.label()));
    }
    if let Some(slowest) = slowest {
        findings.push(Finding::ok(CHECK, format!("a majority answers within {}", time(slowest))));
    } else if not_allowed {
        findings.push(Finding::ok(CHECK, "not tried: reading requires a password; give --username root"));
    }
}

fn disks(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    const CHECK: &str = "disk";
    let advice = "give the log (-wal-dir) a disk of its own, an SSD; see who else writes to it; raise -heartbeat-interval and \
                  -election-timeout if it must stay";
    let mut slowest: Option<f64> = None;
    for (member, fsync) in answering(cluster).filter_map(|member| Some((member, member.fsync?))) {
        if fsync.count < FSYNC_COUNT_MIN {
            continue;
        }
        let text = match fsync.p99.is_finite() {
            true => format!("99 of 100 syncs of the log take up to {}", time(fsync.p99)),
            false => "many syncs of the log take more than seconds".to_owned(),
        };
        if fsync.p99 >= FSYNC_PROBLEM {
            findings.push(Finding::problem(CHECK, text, advice).of(member.label()));
        } else if fsync.p99 >= FSYNC_WARNING {
            findings.push(Finding::warning(CHECK, text, advice).of(member.label()));
        } else {
            slowest = Some(slowest.map_or(fsync.p99, |slowest| slowest.max(fsync.p99)));
        }
    }
    if let Some(slowest) = slowest {
        findings.push(Finding::ok(CHECK, format!("99 of 100 syncs of the log take up to {}", time(slowest))));
    }
}

fn histories(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    const CHECK: &str = "watch history";
    let histories =
        || answering(cluster).filter_map(|member: &ObservedMember| Some((member, member.history?)));
    let mut short = false;
    for (member, History { reach, age, .. }) in histories() {
        let Some(age) = age.filter(|age| *age < HISTORY_AGE_WARNING) else { continue };
        let text = format!("it remembers the last {reach} changes, which go back {} only", time(age));
        let advice = "a watcher that is away for longer misses changes: raise -watch-history on all members";
        findings.push(Finding::warning(CHECK, text, advice).of(member.label()));
        short = true;
    }
    if short {
        return;
    }
    let shortest = histories().map(|(_, history)| history).min_by_key(|history| history.reach);
    findings.push(match shortest {
        None => Finding::ok(CHECK, "the history has lost no change yet, or the members do not report it"),
        Some(History { reach, oldest_index, age }) => {
            let age = age.map(|age| format!(", {}", time(age))).unwrap_or_default();
            Finding::ok(
                CHECK,
                format!("the last {reach} changes are remembered{age} (from index {oldest_index} on)"),
            )
        }
    });
}

/// `1.2 ms`, `3.4 s`, `2.0 h`.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.001 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
