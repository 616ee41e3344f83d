//! Pages of measures in the text format of Prometheus, read strictly, and the names in expressions over them.
//!
//! The format: <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4. Stricter than a reader
//! needs to be: what is allowed there and never written by a careful server fails here too.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Check, Context, Failure, fail};

/// What a family of measures is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it tells of itself.
    pub help: String,
    /// The names of its labels, but for `le`.
    pub labels: BTreeSet<String>,
}

/// The families of a page by their names.
pub type Page = BTreeMap<String, Family>;

/// One line of measure.
#[derive(Debug, Clone, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Reads a page.
///
/// # Errors
/// What is wrong with which line.
pub fn page(text: &str) -> Check<Page> {
    let mut page = Page::new();
    let mut seen = BTreeSet::new();
    let mut current: Option<(String, Vec<Sample>)> = None;
    let mut helped: Option<(String, String)> = None;
    if !text.ends_with('\n') {
        fail!("the last line has no end");
    }
    for line in text.lines() {
        let wrong = |why: &str| Failure::new(format!("{why}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            close(&page, current.take())?;
            let (name, help) = rest.split_once(' ').ok_or_else(|| wrong("a help without a text"))?;
            if !is_name(name, true) || help.trim().is_empty() || !escapes_are_fine(help, "\\n") {
                return Err(wrong("a malformed help"));
            }
            helped = Some((name.to_owned(), help.to_owned()));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| wrong("a type without a kind"))?;
            let Some((_, help)) = helped.take().filter(|(helped, _)| helped == name) else {
                return Err(wrong("no help right before the type"));
            };
            if !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(wrong("an unknown kind"));
            }
            let family = Family { kind: kind.to_owned(), help, labels: BTreeSet::new() };
            if page.insert(name.to_owned(), family).is_some() {
                return Err(wrong("a second family of that name"));
            }
            current = Some((name.to_owned(), Vec::new()));
        } else {
            let sample = sample(line).map_err(|why| wrong(&why.to_string()))?;
            let (name, samples) = current.as_mut().ok_or_else(|| wrong("a measure outside a family"))?;
            let family = page.get_mut(name).context("the family is known")?;
            let part = sample.name.strip_prefix(name.as_str()).ok_or_else(|| wrong("a foreign measure"))?;
            let fits = match family.kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].contains(&part),
                _ => part.is_empty(),
            };
            if !fits || family.kind == "counter" && sample.value < 0.0 {
                return Err(wrong("no measure of this kind"));
            }
            if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(wrong("a measure twice"));
            }
            let labels = sample.labels.iter().map(|(name, _)| name.clone());
            family.labels.extend(labels.filter(|label| label != "le" || part.is_empty()));
            samples.push(sample);
        }
    }
    close(&page, current)?;
    Ok(page)
}

/// A family ends: it has measures, and histograms are whole.
fn close(page: &Page, ended: Option<(String, Vec<Sample>)>) -> Check {
    let Some((name, samples)) = ended else { return Ok(()) };
    if samples.is_empty() {
        fail!("{name} has no measure");
    }
    if page.get(&name).is_none_or(|family| family.kind != "histogram") {
        return Ok(());
    }
    let mut rest = &samples[..];
    while !rest.is_empty() {
        let length = rest.iter().take_while(|sample| sample.name.ends_with("_bucket")).count();
        let (buckets, after) = rest.split_at(length);
        let [sum, count, ..] = after else { fail!("{name}: buckets without a sum and a count") };
        if sum.name != format!("{name}_sum") || count.name != format!("{name}_count") {
            fail!("{name}: {} and {} follow the buckets", sum.name, count.name);
        }
        rest = &after[2..];
        let (mut bound, mut so_far) = (f64::NEG_INFINITY, 0.0);
        for bucket in buckets {
            let (le, others): (Vec<_>, Vec<_>) =
                bucket.labels.iter().cloned().partition(|(label, _)| label == "le");
            let [(_, le)] = &le[..] else { fail!("{name}: a bucket without a bound") };
            let le = number(le)?;
            if others != sum.labels || others != count.labels || le <= bound || bucket.value < so_far {
                fail!("{name}: the bucket {bucket:?} does not follow the one before");
            }
            (bound, so_far) = (le, bucket.value);
        }
        if bound != f64::INFINITY || so_far != count.value {
            fail!("{name}: the last bucket does not hold all {}", count.value);
        }
    }
    Ok(())
}

fn sample(line: &str) -> Check<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        fail!("a malformed name");
    }
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").context("a label without a value")?;
            if !is_name(label, false) || label.starts_with("__") {
                fail!("a malformed label");
            }
            let end = end_of_string(after).context("a value without an end")?;
            if !escapes_are_fine(&after[..end], "\\n\"") {
                fail!("a malformed value");
            }
            labels.push((label.to_owned(), after[..end].to_owned()));
            rest = &after[end + 1..];
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = rest.strip_prefix(',').context("no comma between labels")?;
        }
    }
    let names: BTreeSet<&String> = labels.iter().map(|(name, _)| name).collect();
    if names.len() != labels.len() {
        fail!("a label twice");
    }
    let value = rest.strip_prefix(' ').context("no blank before the value")?;
    Ok(Sample { name: name.to_owned(), labels, value: number(value)? })
}

/// Where a string ends that began before `text`.
fn end_of_string(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices()
        .find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        })
        .map(|(at, _)| at)
}

/// Whether every backslash stands before one of these.
fn escapes_are_fine(text: &str, allowed: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' && !chars.next().is_some_and(|next| allowed.contains(next)) {
            return false;
        }
    }
    true
}

fn number(text: &str) -> Check<f64> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        "NaN" => Ok(f64::NAN),
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || b".e+-".contains(&byte)) => {
            text.parse().context("a malformed number")
        }
        _ => fail!("{text:?} is no number"),
    }
}

fn is_name(text: &str, colons: bool) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || colons && c == ':';
    text.chars().all(fits) && text.chars().next().is_some_and(|c| !c.is_ascii_digit())
}

/// The names in an expression: those of measures and of labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReferencedNames {
    /// Measures, such as `x_bucket`.
    pub measures: BTreeSet<String>,
    /// Labels in braces and behind `by`, `on` and the like.
    pub labels: BTreeSet<String>,
}

/// Words behind which labels stand in parentheses.
const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Words between which and the parenthesis a grouping may stand.
const AGGREGATIONS: [&str; 8] = ["sum", "min", "max", "avg", "count", "topk", "bottomk", "quantile"];

/// Other words that are not names.
const WORDS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "atan2"];

/// The names in an expression in Prometheus's language.
///
/// # Errors
/// Where it cannot be read.
pub fn expression(text: &str) -> Check<ReferencedNames> {
    let mut names = ReferencedNames::default();
    let mut rest = text;
    let mut open = 0_usize;
    while let Some(c) = rest.chars().next() {
        let length = |fits: fn(char) -> bool| rest.find(|c| !fits(c)).unwrap_or(rest.len());
        if c.is_ascii_alphabetic() || c == '_' || c == ':' {
            let (word, after) = rest.split_at(length(|c| c.is_ascii_alphanumeric() || "_:".contains(c)));
            rest = after.trim_start();
            if GROUPING.contains(&word.to_lowercase().as_str()) {
                let inner = rest.strip_prefix('(').context("no labels behind a grouping")?;
                let (labels, after) = inner.split_once(')').context("labels without an end")?;
                let labels = labels.split(',').map(str::trim).filter(|label| !label.is_empty());
                names.labels.extend(labels.map(str::to_owned));
                rest = after;
            } else if !rest.starts_with('(') && !WORDS.contains(&word) && !AGGREGATIONS.contains(&word) {
                names.measures.insert(word.to_owned());
            }
        } else if c.is_ascii_digit() {
            rest = &rest[length(|c| c.is_ascii_alphanumeric() || c == '.')..];
        } else if c == '{' {
            let end = selector(&rest[1..], &mut names.labels)?;
            rest = &rest[1 + end..];
        } else if c == '[' {
            rest = rest.split_once(']').context("a range without an end")?.1;
        } else if c == '"' {
            let end = end_of_string(&rest[1..]).context("a string without an end")?;
            rest = &rest[end + 2..];
        } else {
            match c {
                '(' => open += 1,
                ')' => open = open.checked_sub(1).context("a parenthesis too many is closed")?,
                ',' | '+' | '-' | '*' | '/' | '%' | '^' | '=' | '!' | '<' | '>' | '@' => {}
                _ if c.is_whitespace() => {}
                _ => fail!("{c:?} has no meaning in {text}"),
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    if open > 0 {
        fail!("a parenthesis is not closed in {text}");
    }
    Ok(names)
}

/// Takes the labels out of what follows a brace; how long that is with the closing one.
fn selector(text: &str, labels: &mut BTreeSet<String>) -> Check<usize> {
    let mut rest = text;
    loop {
        rest = rest.trim_start().trim_start_matches(',').trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(text.len() - after.len());
        }
        let end = rest.find(['=', '!']).context("a brace without an end")?;
        let label = rest[..end].trim();
        if !is_name(label, false) {
            fail!("{label:?} is no label");
        }
        labels.insert(label.to_owned());
        let value = rest.find('"').context("a label without a value")?;
        let value_end = end_of_string(&rest[value + 1..]).context("a value without an end")?;
        rest = &rest[value + 1 + value_end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total How often.\n# TYPE a_total counter\na_total{x=\"1\",y=\"a\\\"b\"} 3\na_total 4e+06\n\
                        # HELP h How long.\n# TYPE h histogram\nh_bucket{m=\"G\",le=\"0.5\"} 1\n\
                        h_bucket{m=\"G\",le=\"+Inf\"} 2\nh_sum{m=\"G\"} 1.5\nh_count{m=\"G\"} 2\n";

    #[test]
    fn a_page_is_read() {
        let page = page(GOOD).unwrap();
        assert_eq!((page["a_total"].kind.as_str(), page["h"].kind.as_str()), ("counter", "histogram"));
        assert_eq!(page["h"].labels, BTreeSet::from(["m".to_owned()]));
        assert_eq!(page["a_total"].help, "How often.");
    }

    #[test]
    fn every_slip_is_found() {
        for (right, wrong) in [
            ("# HELP a_total How often.\n", ""),
            ("# TYPE h histogram\n", ""),
            ("counter", "countre"),
            ("a_total 4e+06", "a_total -4"),
            ("a_total 4e+06", "a_total{x=\"1\",y=\"a\\\"b\"} 4"),
            ("a_total 4e+06", "a_total_created 4"),
            ("a_total 4e+06", "a_total  4"),
            ("a_total 4e+06", "a_total 4 1795258886"),
            ("a_total 4e+06", "a_total inf"),
            ("a_total 4e+06\n", "a_total 4\n\n"),
            ("{x=\"1\",y=", "{x=\"1\" y="),
            ("{x=\"1\",y=", "{y=\"1\",y="),
            ("a\\\"b", "a\\tb"),
            ("{m=\"G\",le=\"0.5\"} 1", "{m=\"G\",le=\"0.5\"} 3"),
            ("{m=\"G\",le=\"0.5\"}", "{m=\"P\",le=\"0.5\"}"),
            ("{m=\"G\",le=\"0.5\"}", "{m=\"G\"}"),
            ("le=\"+Inf\"} 2", "le=\"9\"} 2"),
            ("h_count{m=\"G\"} 2", "h_count{m=\"G\"} 3"),
            ("h_sum{m=\"G\"} 1.5\n", ""),
            ("h_count{m=\"G\"} 2\n", "h_count{m=\"G\"} 2"),
        ] {
            assert!(GOOD.contains(right), "{right}");
            assert!(page(&GOOD.replace(right, wrong)).is_err(), "{right:?} as {wrong:?}");
        }
    }

    #[test]
    fn names_are_taken_out_of_expressions() {
        let text = "histogram_quantile(0.99, sum by (instance, le) (rate(a_bucket{job=\"x{y\", code=~\"5..\"}[5m]))) > 1e3 \
                    and on(to) b offset 5m / ignoring (z) c == bool 4 * 3600";
        let names = expression(text).unwrap();
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(list(&names.measures), "a_bucket b c");
        assert_eq!(list(&names.labels), "code instance job le to z");
        for wrong in ["sum(a", "a)", "a{b}", "a{b=\"c\"", "a[5m", "a # b", "sum by a (b)"] {
            assert!(expression(wrong).is_err(), "{wrong}");
        }
    }
}
