//! Compares an answer with the recorded one: values with matchers first, then the very bytes.

use std::fmt::Write as _;

use regex::Regex;

use super::case::{ComparisonOptions, Expect};
use super::template::Context;
use crate::Check;
use crate::clock::parse_rfc3339;
use crate::http::Response;
use crate::json::Json;

/// The headers that count wherever headers are recorded.
const HEADERS: [&str; 14] = [
    "Content-Type",
    "X-Etcd-Index",
    "X-Raft-Index",
    "X-Raft-Term",
    "X-Etcd-Cluster-Id",
    "Allow",
    "Location",
    "WWW-Authenticate",
    "X-Content-Type-Options",
    "Access-Control-Allow-Origin",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Max-Age",
    "Access-Control-Allow-Credentials",
];

/// An expiration further away than this is beyond what a duration of nanoseconds can hold: its TTL wraps.
const FAR_SECONDS: f64 = 9.2e9;

/// What differs between an answer and the recorded one, in words; empty when all is as recorded.
///
/// `before` is the saved answer that counters are compared with, `at_least` allows further events.
///
/// # Errors
/// If a recorded text has an undefined placeholder.
pub fn differences(
    expect: &Expect,
    how: &ComparisonOptions,
    response: &Response,
    context: &Context,
    before: Option<&Json>,
    at_least: bool,
) -> Check<Vec<String>> {
    let mut comparison = Comparison { context, ordered: how.ordered, found: Vec::new() };
    comparison.head(expect, response)?;
    let Ok(text) = std::str::from_utf8(&response.body) else {
        comparison.note(format!("body: not valid UTF-8: {:?}", response.text()));
        return Ok(comparison.found);
    };
    comparison.text(expect, text)?;
    if expect.json.is_some() || expect.has.is_some() || expect.delta.is_some() {
        match Json::parse(text) {
            Ok(value) => comparison.json(expect, how, &value, text, before)?,
            Err(why) => comparison.note(format!("body: not one JSON value ({why}): {}", show(text))),
        }
    }
    if let Some(events) = &expect.events {
        comparison.events(events, text, at_least)?;
    }
    Ok(comparison.found)
}

struct Comparison<'a> {
    context: &'a Context,
    ordered: bool,
    found: Vec<String>,
}

impl Comparison<'_> {
    fn note(&mut self, difference: String) {
        self.found.push(difference);
    }

    fn head(&mut self, expect: &Expect, response: &Response) -> Check {
        if response.status != expect.status {
            let body = show(&response.text());
            self.note(format!("status: expected {}, got {}, body {body}", expect.status, response.status));
        }
        if let Some(interim) = &expect.interim
            && *interim != response.interim
        {
            self.note(format!("interim answers: expected {interim:?}, got {:?}", response.interim));
        }
        let Some(headers) = &expect.headers else { return Ok(()) };
        for name in HEADERS {
            let wanted = headers.iter().any(|(key, _)| key == name);
            if let Some(got) = response.header(name)
                && !wanted
            {
                self.note(format!("header {name}: unexpected (got {})", show(&got)));
            }
        }
        for (name, wanted) in headers {
            match response.header(name) {
                None => self.note(format!("header {name}: missing (expected {})", show(wanted))),
                Some(got) => {
                    self.compare(
                        &Json::Text(wanted.clone()),
                        &Json::Text(got),
                        &format!("header {name}"),
                        None,
                    )?;
                }
            }
        }
        Ok(())
    }

    fn text(&mut self, expect: &Expect, text: &str) -> Check {
        if let Some(wanted) = &expect.text {
            let wanted = self.context.expand(wanted)?;
            if text != wanted {
                self.note(format!("body: expected {}, got {}", show(&wanted), show(text)));
            }
        }
        for piece in &expect.contains {
            let piece = self.context.expand(piece)?;
            if !text.contains(&piece) {
                self.note(format!("body: does not contain {}: {}", show(&piece), show(text)));
            }
        }
        Ok(())
    }

    fn json(
        &mut self,
        expect: &Expect,
        how: &ComparisonOptions,
        value: &Json,
        text: &str,
        before: Option<&Json>,
    ) -> Check {
        if let Some(wanted) = &expect.json {
            let (mut sorted, mut got) = (wanted.clone(), value.clone());
            for (list, key) in &how.sort {
                for tree in [&mut sorted, &mut got] {
                    if let Some(Json::List(items)) = tree.get_mut(list) {
                        let written = |item: &Json| item.get(key).map(Json::write_go).unwrap_or_default();
                        items.sort_by_cached_key(|item| {
                            self.context.expand(&written(item)).unwrap_or_default()
                        });
                    }
                }
            }
            self.compare(&sorted, &got, "json", None)?;
            self.bytes(wanted, value, text, expect.nl);
        }
        if let Some(Json::Object(members)) = &expect.has {
            for (name, wanted) in members {
                match value.get(name) {
                    None => self.note(format!("json.{name}: missing")),
                    Some(got) => self.compare(wanted, got, &format!("json.{name}"), None)?,
                }
            }
        }
        if let Some(wanted) = &expect.delta {
            match before {
                None => self.note("no earlier answer to compare counters with".into()),
                Some(before) => self.compare(wanted, &change(before, value), "change of json", None)?,
            }
        }
        Ok(())
    }

    fn events(&mut self, wanted: &Json, text: &str, at_least: bool) -> Check {
        let (mut events, rest) = Json::parse_stream(text);
        if !rest.is_empty() {
            self.note(format!("body: trailing bytes that are no JSON value: {}", show(rest)));
        }
        let written: String = events.iter().map(|event| event.write_go() + "\n").collect();
        if at_least && let Json::List(wanted) = wanted {
            events.truncate(wanted.len());
        }
        self.compare(wanted, &Json::List(events), "events", None)?;
        if self.found.is_empty() && !at_least && text != written {
            self.note(format!("bytes: events are not compact JSON with one line each: {}", show(text)));
        }
        Ok(())
    }

    /// Compares values; `parent` is the object that `got` is a member of.
    fn compare(&mut self, wanted: &Json, got: &Json, path: &str, parent: Option<&Json>) -> Check {
        match (wanted, got) {
            (Json::Text(text), got) => self.compare_text(text, got, path, parent)?,
            (Json::Object(members), Json::Object(others)) => {
                for (name, wanted) in members {
                    let path = format!("{path}.{name}");
                    match got.get(name) {
                        None => self.note(format!("{path}: missing (expected {})", show(&wanted.write_go()))),
                        Some(value) if name == "nodes" && !self.ordered => {
                            self.compare(&self.by_key(wanted), &self.by_key(value), &path, Some(got))?;
                        }
                        Some(value) => self.compare(wanted, value, &path, Some(got))?,
                    }
                }
                for (name, value) in others.iter().filter(|(name, _)| wanted.get(name).is_none()) {
                    self.note(format!("{path}.{name}: unexpected (got {})", show(&value.write_go())));
                }
            }
            (Json::List(items), Json::List(others)) if items.len() == others.len() => {
                for (at, (wanted, got)) in items.iter().zip(others).enumerate() {
                    self.compare(wanted, got, &format!("{path}[{at}]"), None)?;
                }
            }
            (wanted, got) if wanted == got => {}
            (wanted, got) => {
                self.note(format!(
                    "{path}: expected {}, got {}",
                    show(&wanted.write_go()),
                    show(&got.write_go())
                ));
            }
        }
        Ok(())
    }

    fn compare_text(&mut self, wanted: &str, got: &Json, path: &str, parent: Option<&Json>) -> Check {
        if let Some((kind, argument)) = matcher(wanted) {
            if let Some(why) = self.mismatch(kind, argument, got, parent) {
                self.note(format!("{path}: {} {why}", show(&got.write_go())));
            }
            return Ok(());
        }
        // In a body, an index is a number; in a header, all is text.
        let expected = match self.context.whole_number(wanted) {
            Some(number) if !path.starts_with("header ") => Json::Integer(number),
            _ => Json::Text(self.context.expand(wanted)?),
        };
        if expected != *got {
            self.note(format!(
                "{path}: expected {}, got {}",
                show(&expected.write_go()),
                show(&got.write_go())
            ));
        }
        Ok(())
    }

    /// Why a value does not fit a matcher.
    fn mismatch(&self, kind: &str, argument: &str, got: &Json, parent: Option<&Json>) -> Option<String> {
        let number = match got {
            Json::Integer(number) => Some(*number),
            Json::Text(text) => text.parse::<i128>().ok(),
            _ => None,
        };
        let text = got.text();
        let fits = match kind {
            "any" => true,
            "int" => number.is_some(),
            "uint" => number.is_some_and(|number| number >= 0),
            "min" => number >= argument.parse().ok(),
            "float" => matches!(got, Json::Integer(_) | Json::Float(_)),
            "str" => text.is_some(),
            "hexid" => text.is_some_and(is_hex_id),
            "time" => text.and_then(parse_rfc3339).is_some(),
            "re" => text.is_some_and(|text| {
                Regex::new(&format!(r"\A(?s:{argument})\z")).is_ok_and(|pattern| pattern.is_match(text))
            }),
            "fill" => argument.rsplit_once(':').is_some_and(|(unit, count)| {
                count.parse().is_ok_and(|count| text == Some(&unit.repeat(count)))
            }),
            "exp" => return self.expiration_mismatch(argument, text),
            "ttl" => return self.ttl_mismatch(argument, got, parent),
            _ => false,
        };
        (!fits).then(|| format!("does not fit <{kind}:{argument}>"))
    }

    fn expiration_mismatch(&self, argument: &str, text: Option<&str>) -> Option<String> {
        let Some(time) = text.filter(|text| text.ends_with('Z')).and_then(parse_rfc3339) else {
            return Some("is not an RFC3339 UTC time (up to nanoseconds, no trailing zeros)".into());
        };
        let seconds: f64 = argument.parse().ok()?;
        let slack = 2.0 + self.context.slack;
        let span = self.context.sent + seconds - slack..=self.context.answered + seconds + slack;
        let away = time - self.context.answered;
        (!span.contains(&time))
            .then(|| format!("is {away:.1} s from now, should be {seconds} s (within {slack} s)"))
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds of a few years")]
    fn ttl_mismatch(&self, argument: &str, got: &Json, parent: Option<&Json>) -> Option<String> {
        let Json::Integer(ttl) = got else { return Some("is not an integer".into()) };
        let (ttl, wanted) = (*ttl as f64, argument.parse::<f64>().ok()?);
        let slack = 1.0 + self.context.slack;
        if (ttl - wanted).abs() > slack {
            return Some(format!("should be {argument} (within {slack})"));
        }
        // The TTL is the time that is left, rounded up, at some moment while the request was under way.
        let expiration = parent?.get("expiration")?.text().and_then(parse_rfc3339)?;
        if self.context.waited || (expiration - self.context.answered).abs() >= FAR_SECONDS {
            return None;
        }
        let least = (expiration - self.context.answered - 0.003).ceil();
        let most = (expiration - self.context.sent + 0.003).ceil();
        (!(least..=most).contains(&ttl))
            .then(|| format!("does not round the remaining time up: should be {least}..{most}"))
    }

    fn by_key(&self, list: &Json) -> Json {
        let Json::List(items) = list else { return list.clone() };
        let key = |item: &Json| item.get("key").and_then(Json::text).unwrap_or_default().to_owned();
        let mut items = items.clone();
        items.sort_by_cached_key(|item| self.context.expand(&key(item)).unwrap_or_default());
        Json::List(items)
    }

    /// The order of members, the escapes, no blanks, the final newline.
    fn bytes(&mut self, wanted: &Json, got: &Json, text: &str, newline: Option<bool>) {
        // Go writes floats in more ways than one; nothing that clients read has them.
        if got.has_float() {
            return;
        }
        self.member_order(wanted, got, "json");
        if let Some(newline) = newline
            && newline != text.ends_with('\n')
        {
            let not = if newline { "" } else { " not" };
            self.note(format!("bytes: the body must{not} end in a newline"));
        }
        // Bytes that were no UTF-8 come out as an escape, U+FFFD itself as it is.
        let body = text.strip_suffix('\n').unwrap_or(text).replace("\\ufffd", "\u{fffd}");
        let written = got.write_go();
        if body != written {
            self.note(format!("bytes: expected {}, got {}", show(&written), show(&body)));
        }
    }

    fn member_order(&mut self, wanted: &Json, got: &Json, path: &str) {
        match (wanted, got) {
            (Json::Object(members), Json::Object(others)) => {
                let names = |members: &[(String, Json)], other: &Json| -> Vec<String> {
                    members
                        .iter()
                        .filter(|(name, _)| other.get(name).is_some())
                        .map(|(name, _)| name.clone())
                        .collect()
                };
                let (wanted_names, got_names) = (names(members, got), names(others, wanted));
                if wanted_names != got_names {
                    self.note(format!(
                        "{path}: members in the order {got_names:?}, expected {wanted_names:?}"
                    ));
                }
                for (name, wanted) in members.iter() {
                    let Some(value) = got.get(name) else { continue };
                    match (name.as_str(), wanted, value) {
                        // Nodes come in any order: only those with the same members can be compared.
                        ("nodes", Json::List(items), Json::List(others)) => {
                            for (wanted, got) in items.iter().zip(others).filter(|(a, b)| same_members(a, b))
                            {
                                self.member_order(wanted, got, &format!("{path}.nodes[]"));
                            }
                        }
                        _ => self.member_order(wanted, value, &format!("{path}.{name}")),
                    }
                }
            }
            (Json::List(items), Json::List(others)) => {
                for (wanted, got) in items.iter().zip(others) {
                    self.member_order(wanted, got, &format!("{path}[]"));
                }
            }
            _ => {}
        }
    }
}

fn same_members(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Object(members), Json::Object(others)) => {
            members.len() == others.len() && members.iter().all(|(name, _)| b.get(name).is_some())
        }
        _ => true,
    }
}

/// `<kind>` or `<kind:argument>`.
fn matcher(text: &str) -> Option<(&str, &str)> {
    const KINDS: [&str; 12] =
        ["any", "exp", "fill", "float", "hexid", "int", "min", "re", "str", "time", "ttl", "uint"];
    let inner = text.strip_prefix('<')?.strip_suffix('>')?;
    let (kind, argument) = inner.split_once(':').unwrap_or((inner, ""));
    KINDS.contains(&kind).then_some((kind, argument))
}

fn is_hex_id(text: &str) -> bool {
    let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    digits && (1..=16).contains(&text.len()) && (text == "0" || !text.starts_with('0'))
}

/// How the members of `after` differ from those of `before`: numbers by how much, others as `changed`.
fn change(before: &Json, after: &Json) -> Json {
    let Json::Object(members) = after else { return Json::Null };
    let mut changed = Vec::new();
    for (name, value) in members {
        let old = before.get(name).unwrap_or(&Json::Integer(0));
        match (old, value) {
            (old, value) if old == value => {}
            (Json::Integer(old), Json::Integer(value)) => {
                changed.push((name.clone(), Json::Integer(value - old)))
            }
            _ => changed.push((name.clone(), Json::Text("changed".into()))),
        }
    }
    Json::Object(changed)
}

/// A text, cut where it is long.
fn show(text: &str) -> String {
    let mut shown: String = text.chars().take(260).collect();
    if shown.len() < text.len() {
        let _ = write!(shown, "… ({} bytes)", text.len());
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::super::template::Value;
    use super::*;

    fn check(expect: &str, body: &str) -> Vec<String> {
        let expect: Expect = serde_json::from_str(expect).unwrap();
        let mut context = Context { sent: 1000.0, answered: 1000.1, ..Context::default() };
        context.set("B", Value::Number(5));
        let headers = vec![("X-Etcd-Index".into(), "6".into())];
        let response = Response { status: 200, headers, body: body.into(), ..Response::default() };
        differences(&expect, &ComparisonOptions::default(), &response, &context, None, false).unwrap()
    }

    const EXPECT: &str = r#"{"status":200,"headers":{"X-Etcd-Index":"${B+1}"},"nl":true,
        "json":{"action":"get","node":{"key":"/a","nodes":[{"key":"/a/b","ttl":"<ttl:5>"},{"key":"/a/c"}],"createdIndex":"${B}"}}}"#;

    #[test]
    fn as_recorded() {
        let body = r#"{"action":"get","node":{"key":"/a","nodes":[{"key":"/a/c"},{"key":"/a/b","ttl":4}],"createdIndex":5}}"#;
        assert_eq!(check(EXPECT, &format!("{body}\n")), Vec::<String>::new());
        assert_eq!(check(EXPECT, body).len(), 1, "a missing newline");
    }

    #[test]
    fn every_changed_answer_is_seen() {
        let good = r#"{"action":"get","node":{"key":"/a","nodes":[{"key":"/a/b","ttl":4},{"key":"/a/c"}],"createdIndex":5}}"#;
        assert_eq!(check(EXPECT, &format!("{good}\n")), Vec::<String>::new());
        for (from, to) in [
            ("get", "set"),
            (":5", ":6"),
            (":5", ":5.0"),
            (":5", ":\"5\""),
            (":4", ":7"),
            ("/a/c", "/a/d"),
            ("/a/c", "\\u002fa/c"),
            (r#""action":"get","#, ""),
            ("\"node\"", "\"x\":1,\"node\""),
            (r#",{"key":"/a/c"}"#, ""),
            (":{\"key\"", ": {\"key\""),
            (r#"{"key":"/a/b","ttl":4}"#, r#"{"ttl":4,"key":"/a/b"}"#),
        ] {
            let changed = good.replacen(from, to, 1);
            assert_ne!(changed, good, "{from}");
            assert_ne!(check(EXPECT, &format!("{changed}\n")), Vec::<String>::new(), "{changed}");
        }
    }

    #[test]
    fn matchers() {
        for (matcher, good, bad) in [
            ("<uint>", "3", "-3"),
            ("<hexid>", "\"a0\"", "\"0a\""),
            ("<re:a+>", "\"aa\"", "\"ab\""),
            ("<fill:x:3>", "\"xxx\"", "\"xx\""),
            ("<exp:5>", "\"1970-01-01T00:16:45.5Z\"", "\"1970-01-01T00:16:48.5Z\""),
            ("<min:3>", "3", "2"),
            ("<str>", "\"\"", "1"),
            ("<time>", "\"1970-01-01T00:16:45.5+01:00\"", "\"1970-01-01\""),
        ] {
            let expect = format!(r#"{{"status":200,"json":{{"a":"{matcher}"}}}}"#);
            assert_eq!(check(&expect, &format!("{{\"a\":{good}}}")), Vec::<String>::new());
            assert_eq!(check(&expect, &format!("{{\"a\":{bad}}}")).len(), 1, "{matcher} {bad}");
        }
    }

    #[test]
    fn headers_are_all_or_nothing() {
        assert_eq!(check(r#"{"status":200,"headers":{}}"#, "").len(), 1, "one that was not recorded");
        assert_eq!(
            check(r#"{"status":200,"headers":{"X-Etcd-Index":"6","Allow":"GET"}}"#, "").len(),
            1,
            "a missing one"
        );
        assert_eq!(check(r#"{"status":200,"headers":{"X-Etcd-Index":"7"}}"#, "").len(), 1, "another value");
        assert_eq!(check(r#"{"status":404}"#, "").len(), 1, "another status");
    }
}
