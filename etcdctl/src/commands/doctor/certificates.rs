//! Checks how long certificates are still valid.

use super::observed::{Certificate, ObservedCluster};
use super::report::{Finding, count};

const CHECK: &str = "certificate";
const DAY: i64 = 86_400;
/// A warning this many days before the end: to get a new certificate takes time.
const WARNING_DAYS: i64 = 30;
/// A problem this many days before the end.
const PROBLEM_DAYS: i64 = 7;

/// Checks the certificates of all URLs, and those in files.
pub(super) fn examine(cluster: &ObservedCluster, now: i64, findings: &mut Vec<Finding>) {
    let mut seen: Vec<i64> = Vec::new();
    let of_members = cluster.members.iter().flat_map(|member| {
        let certificates = member.certificates.iter();
        certificates.map(move |certificate| (Some(member.label()), certificate))
    });
    for (member, certificate) in of_members.chain(cluster.files.iter().map(|certificate| (None, certificate)))
    {
        let finding = match &certificate.shown {
            Ok(shown) => {
                seen.push(shown.not_after);
                judge(&certificate.at, shown, now)
            }
            // A member that is down is reported by another check.
            Err(why) => not_seen(certificate, why, member.is_some()),
        };
        findings.extend(finding.map(|finding| match member {
            Some(member) => finding.of(member),
            None => finding,
        }));
    }
    let soonest = seen.iter().min().map(|end| (end - now) / DAY);
    if let Some(days) = soonest.filter(|days| *days >= WARNING_DAYS) {
        findings.push(Finding::ok(
            CHECK,
            format!(
                "{} looked at: valid for {} at least",
                count(seen.len(), "certificate"),
                count(whole(days), "day")
            ),
        ));
    }
}

fn whole(days: i64) -> usize {
    usize::try_from(days).unwrap_or(0)
}

fn judge(at: &str, shown: &shared::net::PeerCertificate, now: i64) -> Option<Finding> {
    let whose = format!("the certificate {} at {at}", shown.subject);
    let advice = "have it signed again and put the new one in its place: members read certificates anew when the files change \
                  (Go members at a restart)";
    if now < shown.not_before {
        let text = format!("{whose} is not valid yet");
        return Some(Finding::problem(CHECK, text, "look at the clock here, and at who has made it"));
    }
    let days = (shown.not_after - now).div_euclid(DAY);
    let text = match days {
        ..0 => format!("{whose} has expired on {}", shown.ends()),
        _ => format!("{whose} expires in {} ({})", count(whole(days), "day"), shown.ends()),
    };
    match days {
        ..PROBLEM_DAYS => Some(Finding::problem(CHECK, text, advice)),
        PROBLEM_DAYS..WARNING_DAYS => Some(Finding::warning(CHECK, text, advice)),
        _ => None,
    }
}

fn not_seen(certificate: &Certificate, why: &str, of_member: bool) -> Option<Finding> {
    let text = format!("the one at {} could not be seen: {why}", certificate.at);
    if of_member {
        // Peer URLs are often closed to clients.
        Some(Finding::ok(CHECK, text))
    } else {
        Some(Finding::problem(CHECK, text, "correct the file that is named on the command line"))
    }
}
