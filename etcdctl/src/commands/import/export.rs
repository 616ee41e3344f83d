//! An export: JSON lines as `etcd-dump export` writes them, read piece by piece.
//!
//! ```text
//! {"key":"/a","value":"1","createdIndex":3,"modifiedIndex":3}
//! {"key":"/d","dir":true,"expiration":"2030-01-01T00:00:00Z","createdIndex":4,"modifiedIndex":4}
//! {"key":"/d/k","value_base64":"/w==","createdIndex":4,"modifiedIndex":4}
//! {"end":{"nodes":3,"index":4}}
//! ```
//!
//! Parents come before children. Unknown fields are ignored.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use shared::time::UnixNanos;

use super::ledger::SourcePosition;
use super::{ImportNode, NodeContent, SourceItem};

/// The longest line: four times the largest request body that a server accepts by default.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Reads an export.
#[derive(Debug)]
pub(super) struct ExportReader<R> {
    source: BufReader<R>,
    /// The last line that was read, and the byte after it.
    position: SourcePosition,
    /// Nodes so far.
    nodes: u64,
    /// Expired directories.
    expired: BTreeSet<Vec<u8>>,
    line: Vec<u8>,
}

#[derive(Deserialize)]
struct ExportLine<'a> {
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(default)]
    dir: bool,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value_base64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    expiration: Option<Cow<'a, str>>,
    end: Option<ExportEnd>,
}

#[derive(Deserialize)]
struct ExportEnd {
    nodes: u64,
}

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
enum ParsedLine {
    Node { key: Vec<u8>, content: NodeContent, expiration: Option<UnixNanos> },
    End { nodes: u64 },
}

/// The result of `next_line`.
enum LineKind {
    Line,
    Blank,
    TooLong,
}

impl<R: Read> ExportReader<R> {
    /// Nothing is read yet.
    pub(super) fn new(source: R) -> ExportReader<R> {
        ExportReader {
            source: BufReader::with_capacity(256 * 1024, source),
            position: SourcePosition::default(),
            nodes: 0,
            expired: BTreeSet::new(),
            line: Vec::new(),
        }
    }

    /// Passes the items after the first `done` lines to `send`, until it returns false. `now` decides what has
    /// expired. The first lines are read too, to find expired directories.
    pub(super) fn visit(
        &mut self,
        done: u64,
        now: impl Fn() -> UnixNanos,
        send: &mut dyn FnMut(SourceItem) -> bool,
    ) {
        loop {
            let found = match self.next_line() {
                Err(error) => SourceItem::Broken(format!("behind line {}: {error}", self.position.line)),
                Ok(None) => SourceItem::End(Some(format!(
                    "the export has no end: it was cut off behind line {}, and what followed is missing",
                    self.position.line
                ))),
                Ok(Some(LineKind::Blank)) => continue,
                Ok(Some(LineKind::TooLong)) => {
                    self.nodes += 1;
                    SourceItem::Bad(self.position, format!("the line is longer than {LINE_BYTES_MAX} bytes"))
                }
                Ok(Some(LineKind::Line)) => match parse(&self.line) {
                    Err(why) => {
                        self.nodes += 1;
                        SourceItem::Bad(self.position, why)
                    }
                    Ok(ParsedLine::End { nodes }) => SourceItem::End(self.check_end(nodes)),
                    Ok(ParsedLine::Node { key, content, expiration }) => {
                        self.nodes += 1;
                        self.node(key, content, expiration, now())
                    }
                },
            };
            let is_last = matches!(found, SourceItem::End(_) | SourceItem::Broken(_));
            let is_done = !is_last && self.position.line <= done;
            if !is_done && !send(found) || is_last {
                return;
            }
        }
    }

    fn node(
        &mut self,
        key: Vec<u8>,
        content: NodeContent,
        expiration: Option<UnixNanos>,
        now: UnixNanos,
    ) -> SourceItem {
        let is_over = expiration.is_some_and(|at| at <= now) || self.is_below_expired(&key);
        if !is_over {
            return SourceItem::Node(ImportNode { key, content, expiration, position: self.position });
        }
        if content == NodeContent::Dir {
            self.expired.insert(key);
        }
        SourceItem::Expired(self.position)
    }

    fn is_below_expired(&self, key: &[u8]) -> bool {
        let slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        !self.expired.is_empty() && slashes.into_iter().any(|at| self.expired.contains(&key[..at]))
    }

    fn check_end(&mut self, nodes: u64) -> Option<String> {
        let line = self.position.line;
        if nodes != self.nodes {
            return Some(format!(
                "line {line} says that the export has {nodes} nodes, but {} lines stand before it",
                self.nodes
            ));
        }
        loop {
            match self.next_line() {
                Ok(None) => return None,
                Ok(Some(LineKind::Blank)) => {}
                Ok(Some(_)) => {
                    return Some(format!(
                        "something stands behind the end of the export, which is line {line}"
                    ));
                }
                Err(error) => return Some(format!("behind the end of the export, line {line}: {error}")),
            }
        }
    }

    /// Reads a line without its end into `line`; `None` at the end of the source.
    fn next_line(&mut self) -> io::Result<Option<LineKind>> {
        self.line.clear();
        let read = self.source.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut self.line)? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.position.line += 1;
        self.position.end += read;
        if read > LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
            self.position.end += skip_line(&mut self.source)?;
            self.line = Vec::new();
            return Ok(Some(LineKind::TooLong));
        }
        Ok(Some(if self.line.trim_ascii().is_empty() { LineKind::Blank } else { LineKind::Line }))
    }
}

/// Skips to the end of the current line. Returns the number of skipped bytes.
fn skip_line(source: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let bytes = source.fill_buf()?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(bytes.len(), |end| end + 1);
        let is_end = end.is_some() || bytes.is_empty();
        source.consume(count);
        skipped += count as u64;
        if is_end {
            return Ok(skipped);
        }
    }
}

fn parse(line: &[u8]) -> Result<ParsedLine, String> {
    let line: ExportLine<'_> = serde_json::from_slice(line).map_err(|error| {
        // The error would always name line 1.
        format!("at byte {}: {}", error.column(), without_place(&error.to_string()))
    })?;
    if let Some(ExportEnd { nodes }) = line.end {
        return Ok(ParsedLine::End { nodes });
    }
    let key = match bytes("key", line.key, line.key_base64)? {
        Some(key) if key.starts_with(b"/") => key,
        Some(key) => return Err(format!("the key {} does not begin with a slash", key.escape_ascii())),
        None => return Err("it has no key".to_owned()),
    };
    let content = match (line.dir, bytes("value", line.value, line.value_base64)?) {
        (true, None) => NodeContent::Dir,
        (false, Some(value)) => NodeContent::Value(value),
        (true, Some(_)) => return Err(format!("{} is a directory and has a value", key.escape_ascii())),
        (false, None) => {
            return Err(format!("{} has no value and is no directory", key.escape_ascii()));
        }
    };
    let expiration = match line.expiration {
        Some(text) => Some(time(&text).ok_or_else(|| format!("{text:?} is no time as in RFC 3339"))?),
        None => None,
    };
    Ok(ParsedLine::Node { key, content, expiration })
}

/// A field that is either text or base64.
fn bytes(
    name: &str,
    text: Option<Cow<'_, str>>,
    base64: Option<Cow<'_, str>>,
) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(Some(text.into_owned().into_bytes())),
        (None, Some(base64)) => match STANDARD.decode(base64.as_bytes()) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(format!("{name}_base64: {error}")),
        },
        (Some(_), Some(_)) => Err(format!("it has {name} and {name}_base64")),
        (None, None) => Ok(None),
    }
}

fn without_place(text: &str) -> &str {
    text.rsplit_once(" at line ").map_or(text, |(text, _)| text)
}

fn time(text: &str) -> Option<UnixNanos> {
    let nanos = text.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    // Later years than a request can express become the last possible one.
    i64::try_from(nanos.clamp(i64::MIN.into(), i64::MAX.into())).ok().map(UnixNanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixNanos = UnixNanos(1_000_000_000_000_000_000);

    fn read(text: &str, done: u64) -> Vec<SourceItem> {
        let mut all = Vec::new();
        ExportReader::new(text.as_bytes()).visit(done, || NOW, &mut |found| {
            all.push(found);
            true
        });
        all
    }

    fn item(line: u64, end: u64, key: &str, content: NodeContent) -> SourceItem {
        SourceItem::Node(ImportNode {
            key: key.into(),
            content,
            expiration: None,
            position: SourcePosition { line, end },
        })
    }

    fn value(bytes: &[u8]) -> NodeContent {
        NodeContent::Value(bytes.to_vec())
    }

    #[test]
    fn keys_directories_and_any_bytes() {
        let text = concat!(
            "{\"key\":\"/a\",\"value\":\"1\\n\",\"createdIndex\":3,\"modifiedIndex\":3}\n",
            "\n",
            "{\"key\":\"/d\",\"dir\":true,\"new\":[1]}\n",
            "{\"key\":\"/d/k\",\"value_base64\":\"/wA=\"}\n",
            "{\"end\":{\"nodes\":3,\"index\":9}}\n \n",
        );
        assert_eq!(
            read(text, 0),
            [
                item(1, 62, "/a", value(b"1\n")),
                item(3, 97, "/d", NodeContent::Dir),
                item(4, 134, "/d/k", value(b"\xff\0")),
                SourceItem::End(None),
            ]
        );
        assert_eq!(read(text, 3), [item(4, 134, "/d/k", value(b"\xff\0")), SourceItem::End(None)]);
    }

    #[test]
    fn what_is_over_goes_with_all_below_it() {
        let text = concat!(
            "{\"key\":\"/d\",\"dir\":true,\"expiration\":\"2001-09-09T01:46:40Z\"}\n",
            "{\"key\":\"/d/k\",\"value\":\"\"}\n",
            "{\"key\":\"/dd\",\"value\":\"\",\"expiration\":\"2001-09-09T01:46:40.000000001Z\"}\n",
            "{\"end\":{\"nodes\":3,\"index\":9}}\n",
        );
        let lines = |found: &[SourceItem]| -> Vec<(bool, u64)> {
            found
                .iter()
                .map(|found| match found {
                    SourceItem::Expired(position) => (true, position.line),
                    SourceItem::Node(item) => (false, item.position.line),
                    _ => (false, 0),
                })
                .collect()
        };
        assert_eq!(lines(&read(text, 0)), [(true, 1), (true, 2), (false, 3), (false, 0)]);
        // Also where the directory is not handed over any more.
        assert_eq!(lines(&read(text, 1)), [(true, 2), (false, 3), (false, 0)]);
    }

    #[test]
    fn the_end_is_checked() {
        let end = |text: &str| match read(text, 0).pop() {
            Some(SourceItem::End(Some(why))) => why,
            other => panic!("{text}: {other:?}"),
        };
        let node = "{\"key\":\"/a\",\"value\":\"\"}\n";
        assert!(end("").contains("no end"));
        assert!(end(node).contains("behind line 1"));
        assert!(
            end(&format!("{node}{{\"end\":{{\"nodes\":2,\"index\":9}}}}"))
                .contains("has 2 nodes, but 1 lines")
        );
        assert!(end(&format!("{{\"end\":{{\"nodes\":0}}}}\n\n{node}")).contains("which is line 1"));
    }

    #[test]
    fn lines_that_are_none_are_told_and_the_rest_goes_on() {
        for (line, why) in [
            ("{\"key\":\"/a\"", "at byte"),
            ("{\"value\":\"\"}", "no key"),
            ("{\"key\":\"a\",\"value\":\"\"}", "slash"),
            ("{\"key\":\"/a\"}", "no value"),
            ("{\"key\":\"/a\",\"value\":\"\",\"dir\":true}", "has a value"),
            ("{\"key\":\"/a\",\"value\":\"\",\"value_base64\":\"\"}", "value and value_base64"),
            ("{\"key\":\"/a\",\"value_base64\":\"x\"}", "value_base64"),
            ("{\"key\":\"/a\",\"value\":\"\",\"expiration\":\"soon\"}", "no time"),
            ("\u{0}", "at byte"),
        ] {
            let found =
                read(&format!("{line}\n{{\"key\":\"/z\",\"value\":\"\"}}\n{{\"end\":{{\"nodes\":2}}}}"), 0);
            let [SourceItem::Bad(position, text), SourceItem::Node(item), SourceItem::End(None)] = &found[..]
            else {
                panic!("{line}: {found:?}")
            };
            assert!(text.contains(why) && !text.contains("at line"), "{line}: {text}");
            assert_eq!((position.line, item.position.line), (1, 2));
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let long = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() + 5000);
        let found =
            read(&format!("{long}\n{{\"key\":\"/z\",\"value\":\"\"}}\n{{\"end\":{{\"nodes\":2}}}}"), 0);
        let [SourceItem::Bad(position, text), SourceItem::Node(item), SourceItem::End(None)] = &found[..]
        else {
            panic!()
        };
        assert!(text.contains("longer than"), "{text}");
        assert_eq!((position.end, item.position.line), (LINE_BYTES_MAX + 5001, 2));
    }
}
