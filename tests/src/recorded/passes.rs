//! The committed lists of what passes.
//!
//! A line is a scenario and the steps that pass: `keys_basic all`, or `members_three 1-14 17`. What is on
//! the list must pass. What passes and is not on the list fails the test as well, so that the list grows with
//! the program: `ACCEPT=1` writes it anew, and the difference is read before it is committed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::ScenarioResult;
use super::kit::WHOLE;
use crate::{Check, Context, Failure, fail, files};

/// The steps of one scenario that must pass.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Steps {
    All,
    Some(BTreeSet<usize>),
}

/// Compares how the scenarios went with the list at `path`.
///
/// `complete` says whether all scenarios were played; otherwise the list's entries for the others stay.
///
/// # Errors
/// Names each step that should pass and does not, and each that passes and is not on the list.
pub fn judge(path: &Path, results: &[ScenarioResult], complete: bool) -> Check {
    if results.iter().all(|result| result.passed.is_empty()) {
        let why = results.iter().find_map(|result| result.failed.values().next());
        fail!("nothing passed at all: {}", why.map_or("nothing was played", String::as_str));
    }
    let text = if path.exists() { files::read(path)? } else { String::new() };
    let mut list = parse(&text).context(path.display())?;
    let (mut report, lost) = compare(&list, results, complete);
    if report.is_empty() {
        return Ok(());
    }
    let accept = std::env::var("ACCEPT").is_ok_and(|value| value == "1");
    if accept {
        if complete {
            list.clear();
        }
        for result in results {
            list.insert(result.name.clone(), steps_of(result));
        }
        let header: String =
            text.lines().take_while(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        files::write(path, header + &write(&list))?;
        println!("ACCEPT=1: wrote {}", path.display());
        if lost == 0 {
            return Ok(());
        }
    }
    let _ = write!(report, "{lost} regressions; ");
    report.push_str("ACCEPT=1 writes the list anew where more passes than it says");
    Err(Failure::new(report))
}

/// Every scenario must pass as a whole: for programs that are not ours.
///
/// # Errors
/// Names each step that fails.
pub fn demand_all(results: &[ScenarioResult]) -> Check {
    let report = failures(results);
    if !report.is_empty() {
        fail!("{report}");
    }
    Ok(())
}

/// A paragraph on each step that failed.
pub fn failures(results: &[ScenarioResult]) -> String {
    let mut report = String::new();
    for result in results {
        for (step, why) in &result.failed {
            let _ = writeln!(report, "FAIL {} step {step}: {why}", result.name);
        }
    }
    report
}

/// Prints `NAME suite: N passed, M failed`, over steps; with `VERBOSE=1` every failure before it, listed or not.
pub fn print(name: &str, results: &[ScenarioResult]) {
    if std::env::var("VERBOSE").is_ok_and(|value| value == "1") {
        print!("{}", failures(results));
    }
    let passed: usize = results.iter().map(|result| result.passed.len()).sum();
    let failed: usize = results.iter().map(|result| result.failed.len()).sum();
    println!("{name} suite: {passed} passed, {failed} failed");
}

/// The report, and how many steps of it are regressions.
fn compare(list: &BTreeMap<String, Steps>, results: &[ScenarioResult], complete: bool) -> (String, usize) {
    let mut report = String::new();
    let mut lost = 0;
    for result in results {
        let name = &result.name;
        let listed = list.get(name);
        for (step, why) in &result.failed {
            let regression = match listed {
                Some(Steps::All) => true,
                // Step 0 is the whole scenario: nothing of it was played.
                Some(Steps::Some(steps)) => *step == WHOLE || steps.contains(step),
                None => false,
            };
            if regression {
                lost += 1;
                let _ = writeln!(report, "FAIL {name} step {step}: {why}");
            }
        }
        if let Some(Steps::Some(steps)) = listed {
            let played_at_all =
                |step: &&usize| !result.passed.contains(step) && !result.failed.contains_key(step);
            for step in steps.iter().filter(played_at_all) {
                lost += 1;
                let _ = writeln!(report, "FAIL {name} step {step}: is on the list and was not played");
            }
        }
        let grown = match (listed, steps_of(result)) {
            (Some(Steps::All), _) => false,
            (Some(Steps::Some(known)), Steps::Some(now)) => !now.is_subset(known),
            (None, Steps::Some(now)) => !now.is_empty(),
            (_, Steps::All) => true,
        };
        if grown {
            let _ = writeln!(
                report,
                "MORE {} passes than the list says: make its line `{}`",
                name,
                line(name, &steps_of(result))
            );
        }
    }
    if complete {
        for name in list.keys().filter(|name| !results.iter().any(|result| result.name == **name)) {
            lost += 1;
            let _ = writeln!(report, "FAIL {name}: is on the list, but there is no such scenario");
        }
    }
    (report, lost)
}

fn steps_of(result: &ScenarioResult) -> Steps {
    if result.failed.is_empty() { Steps::All } else { Steps::Some(result.passed.clone()) }
}

fn parse(text: &str) -> Check<BTreeMap<String, Steps>> {
    let mut list = BTreeMap::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty())
    {
        let wrong = || Failure::new(format!("line {}: {line:?} is not `NAME all` or `NAME 1-3 5`", at + 1));
        let (name, rest) = line.split_once(' ').ok_or_else(wrong)?;
        let steps = if rest == "all" {
            Steps::All
        } else {
            let mut steps = BTreeSet::new();
            for word in rest.split_whitespace() {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
                steps.extend(number(first)?..=number(last)?);
            }
            Steps::Some(steps)
        };
        if list.insert(name.to_owned(), steps).is_some() {
            return Err(Failure::new(format!("line {}: {name} a second time", at + 1)));
        }
    }
    Ok(list)
}

fn write(list: &BTreeMap<String, Steps>) -> String {
    let worth = |steps: &Steps| *steps != Steps::Some(BTreeSet::new());
    list.iter().filter(|(_, steps)| worth(steps)).map(|(name, steps)| line(name, steps) + "\n").collect()
}

fn line(name: &str, steps: &Steps) -> String {
    let Steps::Some(steps) = steps else { return format!("{name} all") };
    let mut text = name.to_owned();
    let mut steps = steps.iter().copied().peekable();
    while let Some(first) = steps.next() {
        let mut last = first;
        while steps.next_if_eq(&(last + 1)).is_some() {
            last += 1;
        }
        let _ = if first == last { write!(text, " {first}") } else { write!(text, " {first}-{last}") };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str, passed: &[usize], failed: &[usize]) -> ScenarioResult {
        ScenarioResult {
            name: name.into(),
            passed: passed.iter().copied().collect(),
            failed: failed.iter().map(|&step| (step, "differs".to_owned())).collect(),
        }
    }

    #[test]
    fn lists_are_written_as_they_are_read() {
        let text = "a all\nb 1-3 5 7-8\n";
        assert_eq!(write(&parse(text).unwrap()), text);
        for wrong in ["a", "a x", "a 1-", "a all\na all"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_lost_or_gained_is_told() {
        let list = parse("a all\nb 1-2\n").unwrap();
        let told = |results: &[ScenarioResult]| compare(&list, results, true);
        assert_eq!(told(&[result("a", &[1, 2], &[]), result("b", &[1, 2], &[3])]), (String::new(), 0));

        let (report, lost) = told(&[result("a", &[1], &[2]), result("b", &[1], &[2, 3])]);
        assert_eq!((report.matches("FAIL").count(), lost), (2, 2), "{report}");

        let (report, lost) = told(&[result("a", &[1], &[]), result("b", &[1, 2, 3], &[])]);
        assert!(report.contains("make its line `b all`") && lost == 0, "{report}");

        let (report, lost) = told(&[result("a", &[1], &[]), result("c", &[1], &[2])]);
        assert!(report.contains("make its line `c 1`") && report.contains("FAIL b") && lost == 1, "{report}");
    }
}
