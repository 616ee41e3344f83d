//! Placeholders in what programs are given and in what they print.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder, escape};

use crate::clock::{self, parse_rfc3339};
use crate::{Check, fail};

#[expect(clippy::unwrap_used, reason = "a constant expression, compiled by every run")]
static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\$\{((?:[^{}]|\{[^{}]*\})*)\}").unwrap());

/// The start of a log line, of this and of other logging libraries.
const LOG_LINE: &str = r"\d{4}[/-]\d\d[/-]\d\d \d\d:\d\d:\d\d(?:\.\d+)? (?:[A-Z] \| )?";

/// A recorded text may be long; its expression is then longer than the library likes by itself.
const PATTERN_BYTES_MAX: usize = 64 << 20;

/// The values of a scenario's placeholders.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// By name.
    pub values: BTreeMap<String, String>,
    /// The server's index that `${i+N}` counts from.
    pub base: u64,
}

impl Names {
    /// Takes a value.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values.insert(name.into(), value.into());
    }

    /// A value; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// Fills in what a program is given.
    ///
    /// # Errors
    /// Names an undefined placeholder.
    pub fn fill(&self, text: &str) -> Check<String> {
        let mut out = String::new();
        let mut end = 0;
        for found in PLACEHOLDER.captures_iter(text) {
            let Some(whole) = found.get(0) else { continue };
            out.push_str(&text[end..whole.start()]);
            end = whole.end();
            match (self.index(&found[1]), self.values.get(&found[1])) {
                (Some(index), _) => out.push_str(&index),
                (None, Some(value)) => out.push_str(value),
                (None, None) => fail!("unknown placeholder {}", whole.as_str()),
            }
        }
        out.push_str(&text[end..]);
        Ok(out)
    }

    /// `i+3`, and `i20+3` with twenty digits.
    fn index(&self, key: &str) -> Option<String> {
        let (rest, width) = match key.strip_prefix("i20") {
            Some(rest) => (rest, 20),
            None => (key.strip_prefix('i')?, 0),
        };
        if !rest.starts_with(['+', '-']) {
            return None;
        }
        let index = self.base.checked_add_signed(rest.parse().ok()?)?;
        Some(format!("{index:0width$}"))
    }

    /// Why a printed text is not the recorded one; nothing when it is. `started` is when the program was, in
    /// seconds since 1970.
    ///
    /// # Errors
    /// Names an undefined placeholder, or an invalid expression.
    pub fn mismatch(&self, wanted: &str, got: &str, started: f64) -> Check<Option<String>> {
        let pattern = self.pattern(wanted)?;
        let expression = RegexBuilder::new(&format!(r"\A(?:{})\z", pattern.expression))
            .size_limit(PATTERN_BYTES_MAX)
            .build()?;
        let Some(found) = expression.captures(got) else {
            return Ok(Some(difference(&pattern.shown, got)));
        };
        for (at, check) in pattern.checks.iter().enumerate() {
            let text = found.name(&format!("c{at}")).map_or("", |part| part.as_str());
            if let Some(why) = check.mismatch(text, started) {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// The same, where lines may come in any order.
    ///
    /// # Errors
    /// As [`Names::mismatch`].
    pub fn mismatch_unordered(&self, wanted: &str, got: &str, started: f64) -> Check<Option<String>> {
        let mut left: Vec<&str> = got.split('\n').collect();
        for line in wanted.split('\n') {
            let mut fitting = None;
            for (at, candidate) in left.iter().enumerate() {
                if self.mismatch(line, candidate, started)?.is_none() {
                    fitting = Some(at);
                    break;
                }
            }
            match fitting {
                Some(at) => left.remove(at),
                None => return Ok(Some(format!("no line fits {line:?} in {got:?}"))),
            };
        }
        Ok((!left.is_empty()).then(|| format!("further lines {left:?}")))
    }

    /// Why a printed text does not fit a recorded expression; nothing when it does.
    ///
    /// # Errors
    /// If it is not a valid expression.
    pub fn pattern_mismatch(&self, wanted: &str, got: &str) -> Check<Option<String>> {
        let filled = PLACEHOLDER.replace_all(wanted, |found: &regex::Captures<'_>| {
            self.values.get(&found[1]).map_or_else(|| escape(&found[0]), |value| escape(value))
        });
        let expression = Regex::new(&format!(r"\A(?s:{filled})\z"))?;
        let fits = expression.is_match(got);
        Ok((!fits)
            .then(|| format!("{:?} does not fit /{filled}/", got.chars().take(400).collect::<String>())))
    }

    fn pattern(&self, wanted: &str) -> Check<Pattern> {
        let mut pattern = Pattern::default();
        let mut end = 0;
        for found in PLACEHOLDER.captures_iter(wanted) {
            let Some(whole) = found.get(0) else { continue };
            pattern.literal(&wanted[end..whole.start()]);
            end = whole.end();
            self.add(&found[1], whole.as_str(), &mut pattern)?;
        }
        pattern.literal(&wanted[end..]);
        Ok(pattern)
    }

    fn add(&self, key: &str, whole: &str, pattern: &mut Pattern) -> Check {
        if let Some(index) = self.index(key) {
            pattern.literal(&index);
        } else if let Some(value) = self.values.get(key) {
            pattern.literal(value);
        } else if let Some(expression) = key.strip_prefix("re:") {
            pattern.expression(&format!("(?:{expression})"), whole);
        } else if let Some(items) = key.strip_prefix("csv:") {
            let items: Vec<String> = items.split(',').map(|item| escape(&self.fill_angles(item))).collect();
            let orders: Vec<String> = orders(&items).iter().map(|order| order.join(",")).collect();
            pattern.expression(&format!("(?:{})", orders.join("|")), whole);
        } else if let Some(seconds) = key.strip_prefix("ts+").and_then(|seconds| seconds.parse().ok()) {
            pattern.check(DeferredCheck::Time(seconds), "[0-9T:.Z+-]+", whole);
        } else if let Some(seconds) = key.strip_prefix("ttl:").and_then(|seconds| seconds.parse().ok()) {
            pattern.check(DeferredCheck::Ttl(seconds), r"\d+", whole);
        } else {
            let expression = match key {
                "any" => r"[^\n]*",
                "int" => r"\d+",
                "hex" => "[0-9a-f]+",
                "log" => LOG_LINE,
                _ => fail!("unknown placeholder {whole}"),
            };
            pattern.expression(expression, whole);
        }
        Ok(())
    }

    /// `<name>` inside of a list.
    fn fill_angles(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.values {
            filled = filled.replace(&format!("<{name}>"), value);
        }
        filled
    }
}

/// An expression that a text must match, with the checks to do afterwards.
#[derive(Default)]
struct Pattern {
    expression: String,
    /// The text as far as it is known, for messages.
    shown: String,
    checks: Vec<DeferredCheck>,
}

impl Pattern {
    fn literal(&mut self, text: &str) {
        self.expression.push_str(&escape(text));
        self.shown.push_str(text);
    }

    fn expression(&mut self, expression: &str, shown: &str) {
        self.expression.push_str(expression);
        self.shown.push_str(shown);
    }

    fn check(&mut self, check: DeferredCheck, expression: &str, shown: &str) {
        self.expression(&format!("(?P<c{}>{expression})", self.checks.len()), shown);
        self.checks.push(check);
    }
}

/// What can only be checked on the text that was found.
enum DeferredCheck {
    /// About this many seconds after the start.
    Time(f64),
    /// This many seconds, or up to two less.
    Ttl(i64),
}

impl DeferredCheck {
    fn mismatch(&self, text: &str, started: f64) -> Option<String> {
        match self {
            DeferredCheck::Time(seconds) => match parse_rfc3339(text) {
                None => Some(format!("{text} is not an RFC 3339 time")),
                Some(time) => (!(started + seconds - 4.0..=clock::now() + seconds + 2.0).contains(&time))
                    .then(|| format!("time {text} is not about now+{seconds} s")),
            },
            DeferredCheck::Ttl(wanted) => {
                let fits = text.parse().is_ok_and(|ttl: i64| (wanted - 2..=*wanted).contains(&ttl));
                (!fits).then(|| format!("ttl {text} is not {wanted} or a little less"))
            }
        }
    }
}

/// The items in every order.
fn orders(items: &[String]) -> Vec<Vec<String>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (at, first) in items.iter().enumerate() {
        let mut others = items.to_vec();
        others.remove(at);
        for mut order in orders(&others) {
            order.insert(0, first.clone());
            all.push(order);
        }
    }
    all
}

/// The first line that differs.
fn difference(wanted: &str, got: &str) -> String {
    let (mut wanted_lines, mut got_lines) = (wanted.split('\n'), got.split('\n'));
    let mut number = 1;
    loop {
        let pair = (wanted_lines.next(), got_lines.next());
        if pair.0 != pair.1 || pair == (None, None) {
            let show = |line: Option<&str>| line.map_or("nothing".into(), |line| format!("{line:?}"));
            return format!("line {number}: expected {}\n     got      {}", show(pair.0), show(pair.1));
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names { base: 7, ..Names::default() };
        names.set("p", "/g.1");
        names.set("name", "node1");
        names.set("name2", "node2");
        names
    }

    fn fits(wanted: &str, got: &str) -> bool {
        names().mismatch(wanted, got, clock::now()).unwrap().is_none()
    }

    #[test]
    fn given_texts_are_filled() {
        assert_eq!(names().fill("${p}/a ${i+3} ${i-1}").unwrap(), "/g.1/a 10 6");
        assert!(names().fill("${other}").is_err());
    }

    #[test]
    fn printed_texts_are_compared() {
        assert!(fits("${p} ${i20+1}\n", "/g.1 00000000000000000008\n"));
        assert!(!fits("${p}\n", "/gx1\n") && !fits("a\n", "a") && !fits("a", "a\n"));
        assert!(fits("${int} ${hex} ${any}|", "12 0af x y|") && !fits("${any}", "a\nb"));
        assert!(fits("${re:9\\d{2}}", "912") && !fits("${re:9\\d{2}}", "9123"));
        assert!(fits("${csv:<name2>=x,<name>=y}", "node1=y,node2=x") && !fits("${csv:a,b}", "a,a"));
        assert!(fits("${ttl:100}", "98") && !fits("${ttl:100}", "97") && !fits("${ttl:100}", "101"));
        assert!(
            fits("${log}x", "2016/01/02 03:04:05 x") && fits("${log}x", "2016-01-02 03:04:05.000001 I | x")
        );
        assert!(!fits("${ts+10}", "2016-01-02T03:04:05Z"));
    }

    #[test]
    fn lines_in_any_order() {
        let names = names();
        assert!(names.mismatch_unordered("a\nb${int}\n", "b1\na\n", 0.0).unwrap().is_none());
        assert!(names.mismatch_unordered("a\nb\n", "a\na\n", 0.0).unwrap().is_some());
        assert!(names.mismatch_unordered("a\n", "a\nb\n", 0.0).unwrap().is_some());
    }
}
