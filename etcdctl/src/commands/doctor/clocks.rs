//! Checks whether the clocks agree: keys expire by the leader's clock.

use super::checks::answering;
use super::observed::{ObservedCluster, ObservedMember};
use super::report::Finding;

const CHECK: &str = "clock";
/// The difference for a warning, in milliseconds: more than the precision of a `Date` header.
const WARNING_MS: i64 = 1000;
/// The difference for a problem: keys live this much too long or too short after an election.
const PROBLEM_MS: i64 = 30_000;

const ADVICE: &str = "let NTP set the clocks of all machines: keys expire by the leader's clock, and after an election by another one";

/// Compares the members with each other, then with this machine.
pub(super) fn examine(cluster: &ObservedCluster, findings: &mut Vec<Finding>) {
    let mut clocks: Vec<(&ObservedMember, (i64, i64))> =
        answering(cluster).filter_map(|member| Some((member, member.clock_ms?))).collect();
    clocks.sort_by_key(|(_, (least, _))| *least);
    let (Some(first), Some(last)) = (clocks.first(), clocks.last()) else { return };
    let apart = last.1.0 - first.1.1;
    if apart >= WARNING_MS {
        let text = format!(
            "the clock of {} is {} or more ahead of that of {}",
            last.0.label(),
            seconds(apart),
            first.0.label()
        );
        findings.push(by(apart, text, ADVICE));
    }
    // If all members agree and differ from this machine, this machine is wrong.
    let off = |(least, most): (i64, i64)| if least > 0 { least } else { most.min(0) };
    let together = clocks.len() > 1
        && apart < WARNING_MS
        && clocks.iter().all(|(_, clock)| off(*clock).abs() >= WARNING_MS);
    if together {
        let advice = "set the clock of the machine on which etcdctl runs; the members agree with each other";
        let text =
            format!("the clock here and those of all members are {} or more apart", seconds(off(first.1)));
        findings.push(Finding::warning(CHECK, text, advice));
        return;
    }
    let mut well = apart < WARNING_MS;
    for (member, clock) in &clocks {
        let off = off(*clock);
        if off.abs() >= WARNING_MS {
            let direction = if off > 0 { "ahead of" } else { "behind" };
            let text = format!("its clock is {} or more {direction} the one here", seconds(off));
            findings.push(by(off, text, ADVICE).of(member.label()));
            well = false;
        }
    }
    if well {
        findings.push(Finding::ok(CHECK, "all clocks agree with the one here, within about a second"));
    }
}

fn by(millis: i64, text: String, advice: &str) -> Finding {
    if millis.abs() >= PROBLEM_MS {
        Finding::problem(CHECK, text, advice)
    } else {
        Finding::warning(CHECK, text, advice)
    }
}

/// In seconds with one decimal.
fn seconds(millis: i64) -> String {
    let tenths = millis.unsigned_abs() / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}
