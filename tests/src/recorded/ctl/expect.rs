//! Compares the output and the exit status of a client with the recorded ones.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::case::{Answer, ExpectedText, Step};
use super::text::Names;
use crate::Check;

/// Where a help text begins in the recorded ones.
const HELP: &str = "NAME:\n";

#[expect(clippy::unwrap_used, reason = "a constant expression, compiled by every run")]
static HELP_FLAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^   (--[a-z][a-z-]*)").unwrap());

/// The result of a step.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The exit status, negative for a signal; nothing inside where the program did not end in time. Not
    /// there for a step that has none.
    pub exit: Option<Option<i32>>,
    /// `stdout`, `stderr`, `requests`, `files`.
    pub texts: BTreeMap<&'static str, String>,
}

/// Why a step's outcome is not the recorded one, nor one that is as good; nothing when it is.
///
/// # Errors
/// If the recorded text has an undefined placeholder.
pub fn mismatch(step: &Step, outcome: &Outcome, names: &Names, started: f64) -> Check<Option<String>> {
    let why = mismatch_one(step, &Answer::default(), outcome, names, started)?;
    if why.is_none() {
        return Ok(None);
    }
    for better in &step.also {
        if mismatch_one(step, better, outcome, names, started)?.is_none() {
            return Ok(None);
        }
    }
    Ok(why)
}

/// The original's error for an unknown word.
const BAD_WORD: [&str; 3] = ["Incorrect Usage", "No help topic for", "Unsupported output format"];

fn without_advice(text: &str) -> String {
    let is_advice = |line: &str| line.starts_with("hint: ") || line.starts_with("Did you mean ");
    text.split_inclusive('\n').filter(|line| !is_advice(line)).collect()
}

/// `instead` replaces what it names.
fn mismatch_one(
    step: &Step,
    instead: &Answer,
    outcome: &Outcome,
    names: &Names,
    started: f64,
) -> Check<Option<String>> {
    let wanted_text = |name: &str| instead.texts.get(name).or_else(|| step.answer.texts.get(name));
    let mut problems = Vec::new();
    if let Some(exit) = outcome.exit {
        let wanted = instead.exit.or(step.answer.exit);
        // The original ends with 0 after a bad word; to say so in the status is better.
        let names_bad_word = |name: &str| matches!(wanted_text(name), Some(ExpectedText::Text(text)) if BAD_WORD.iter().any(|said| text.contains(said)));
        let bad_word = names_bad_word("stdout") || names_bad_word("stderr");
        let as_good = bad_word && matches!(exit, Some(1 | 2 | 3 | 64));
        if wanted != exit && !as_good {
            let show = |exit: Option<i32>| exit.map_or("none (it ran on)".into(), |exit| exit.to_string());
            problems.push(format!("exit status {}, expected {}", show(exit), show(wanted)));
        }
    }
    for (name, got) in &outcome.texts {
        // Advice below an error is welcome.
        let advised = *name == "stderr";
        let got = &if advised { without_advice(got) } else { got.clone() };
        let why = match wanted_text(name) {
            None => Some("nothing is recorded".into()),
            Some(ExpectedText::Pattern(pattern)) => names.pattern_mismatch(pattern, got)?,
            Some(ExpectedText::Text(wanted)) if *name == "stdout" && wanted.contains(HELP) => {
                help_mismatch(wanted, got)
            }
            Some(ExpectedText::Text(wanted)) if step.unordered.iter().any(|text| text == name) => {
                names.mismatch_unordered(wanted, got, started)?
            }
            Some(ExpectedText::Text(wanted)) => names.mismatch(wanted, got, started)?,
        };
        problems.extend(why.map(|why| format!("{name}: {why}")));
    }
    Ok((!problems.is_empty()).then(|| problems.join("\n     ")))
}

/// Help is each program's own prose. What stands before it counts word for word; of the help itself, that it
/// is one and mentions every flag that the recorded one lists.
fn help_mismatch(wanted: &str, got: &str) -> Option<String> {
    let before = wanted.split(HELP).next().unwrap_or_default().trim();
    let first_line = before.lines().next().unwrap_or_default();
    let shown: String = got.chars().take(200).collect();
    if !got.trim_start().starts_with(first_line) {
        return Some(format!("does not begin with {first_line:?}: {shown:?}"));
    }
    if !got.to_lowercase().contains("usage") {
        return Some(format!("is no help text: {shown:?}"));
    }
    let general = ["--help", "--version", "--generate-bash-completion"];
    let missing: Vec<&str> = HELP_FLAG
        .captures_iter(wanted)
        .filter_map(|found| Some(found.get(1)?.as_str()))
        .filter(|flag| !general.contains(flag) && !got.contains(flag))
        .collect();
    (!missing.is_empty()).then(|| format!("the help does not name {}", missing.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::case::Action;
    use super::*;

    fn step(stdout: &str, exit: i32) -> Step {
        let answer = Answer {
            exit: Some(exit),
            texts: [("stdout", ExpectedText::Text(stdout.into()))].into_iter().collect(),
        };
        Step { action: Action::Rebase, answer, also: Vec::new(), unordered: Vec::new(), timeout: None }
    }

    fn fits(step: &Step, stdout: &str, exit: i32) -> bool {
        let outcome =
            Outcome { exit: Some(Some(exit)), texts: [("stdout", stdout.to_owned())].into_iter().collect() };
        mismatch(step, &outcome, &Names::default(), 0.0).unwrap().is_none()
    }

    #[test]
    fn words_and_status_count() {
        assert!(fits(&step("a\n", 4), "a\n", 4));
        assert!(!fits(&step("a\n", 4), "a\n", 0) && !fits(&step("a\n", 4), "b\n", 4));
        let ran_on = Outcome { exit: Some(None), ..Outcome::default() };
        assert!(mismatch(&step("", 0), &ran_on, &Names::default(), 0.0).unwrap().is_some());
    }

    #[test]
    fn a_bad_word_may_show_in_the_status() {
        let unknown = step("No help topic for 'x'\n", 0);
        assert!(fits(&unknown, "No help topic for 'x'\n", 2) && fits(&unknown, "No help topic for 'x'\n", 0));
        assert!(!fits(&unknown, "No help topic for 'x'\n", 4) && !fits(&step("1\n", 0), "1\n", 2));
    }

    #[test]
    fn advice_below_an_error_is_welcome() {
        assert_eq!(without_advice("bad\nhint: good\nDid you mean b?\nworse\n"), "bad\nworse\n");
    }

    #[test]
    fn a_better_answer_is_good() {
        let mut step = step("a", 1);
        step.also.push(Answer { exit: Some(0), texts: BTreeMap::new() });
        assert!(fits(&step, "a", 0) && fits(&step, "a", 1) && !fits(&step, "b", 0));
    }

    #[test]
    fn help_is_prose() {
        let help =
            step("Incorrect Usage.\n\nNAME:\n   etcdctl ls\n\nOPTIONS:\n   --sort\t\tsorted\n   --help\n", 0);
        assert!(fits(&help, "Incorrect Usage.\n\nUsage: etcdctl ls [--sort]\n", 2));
        assert!(!fits(&help, "Incorrect Usage.\n\nUsage: etcdctl ls\n", 2), "a flag is missing");
        assert!(!fits(&help, "Usage: etcdctl ls [--sort]\n", 2), "it does not say what is wrong");
        assert!(!fits(&help, "Incorrect Usage.\n\nUsage: etcdctl ls [--sort]\n", 4), "another status");
    }
}
