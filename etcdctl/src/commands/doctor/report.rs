//! The findings, and how they are printed.

use serde::Serialize;
use serde_json::json;

use super::observed::ObservedCluster;
use crate::error::CliError;
use crate::output::{Format, Output};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be, or not known.
    Ok,
    /// It works, but something should be done.
    Warning,
    /// It does not work, or soon will not.
    Problem,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "problem",
        }
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How serious a finding is.
    pub(super) level: Level,
    /// The name of the check: `clock`, `disk`.
    pub(super) check: &'static str,
    /// The member, if it is about one member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) member: Option<String>,
    /// What was found.
    pub(super) text: String,
    /// What the operator should do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Finding {
    /// A finding of level [`Level::Ok`].
    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, check, member: None, text: text.into(), advice: None }
    }

    /// A finding of level [`Level::Warning`].
    pub(super) fn warning(
        check: &'static str,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        let (text, advice) = (text.into(), Some(advice.into()));
        Finding { level: Level::Warning, check, member: None, text, advice }
    }

    /// A finding of level [`Level::Problem`].
    pub(super) fn problem(
        check: &'static str,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding { level: Level::Problem, ..Finding::warning(check, text, advice) }
    }

    /// The same finding about a member.
    pub(super) fn of(self, member: impl Into<String>) -> Finding {
        Finding { member: Some(member.into()), ..self }
    }
}

/// Prints the findings, the most serious first. Returns whether there is a problem among them.
pub(super) fn print(
    cluster: &ObservedCluster,
    mut findings: Vec<Finding>,
    format: &Format,
    out: &mut Output,
) -> Result<bool, CliError> {
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    match format {
        Format::Json => {
            let text = json!({ "level": worst, "clusterId": cluster.id(), "leader": cluster.leader(),
                "members": cluster.members, "findings": findings });
            out.line(&text.to_string())?;
        }
        Format::Simple | Format::Extended => out.text(&render(cluster, &findings))?,
        Format::Unknown(_) => format.check()?,
    }
    Ok(worst == Level::Problem)
}

fn render(cluster: &ObservedCluster, findings: &[Finding]) -> String {
    let mut out = match cluster.id() {
        Some(id) => format!("cluster {id}: {}\n\n", count(cluster.members.len(), "member")),
        None => String::new(),
    };
    for (at, Finding { level, check, member, text, advice }) in findings.iter().enumerate() {
        let member = member.as_ref().map(|member| format!("{member}: ")).unwrap_or_default();
        out.push_str(&format!("{:<8} {check:<13} {member}{text}\n", level.name()));
        // Advice that several findings in a row share is printed once, after the last.
        let next = findings.get(at + 1).and_then(|finding| finding.advice.as_ref());
        if let Some(advice) = advice.as_ref().filter(|advice| next != Some(advice)) {
            out.push_str(&format!("{:23}-> {advice}\n", ""));
        }
    }
    let number = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (problems, warnings) = (number(Level::Problem), number(Level::Warning));
    out.push_str(&match (problems, warnings) {
        (0, 0) => "\nall is well\n".to_owned(),
        _ => format!("\n{}, {}\n", count(problems, "problem"), count(warnings, "warning")),
    });
    out
}

/// `1 member`, `3 members`.
pub(super) fn count(number: usize, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_stands_below_what_is_wrong() {
        let findings = [Finding::problem("disk", "slow", "buy another").of("m1"), Finding::ok("size", "3")];
        let text = render(&ObservedCluster::default(), &findings);
        assert_eq!(
            text,
            "problem  disk          m1: slow\n                       -> buy another\nok       size          3\n\n\
             1 problem, 0 warnings\n"
        );
        assert!(render(&ObservedCluster::default(), &findings[1..]).ends_with("\nall is well\n"));
    }
}
