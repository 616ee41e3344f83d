//! An export: JSON lines as `etcd-dump export` writes them, read piece by piece.
//!
//! ```text
//! {"key":"/a","value":"1","createdIndex":3,"modifiedIndex":3}
//! {"key":"/d","dir":true,"expiration":"2030-01-01T00:00:00Z","createdIndex":4,"modifiedIndex":4}
//! {"key":"/d/k","value_base64":"/w==","createdIndex":4,"modifiedIndex":4}
//! {"end":{"nodes":3,"index":4}}
//! ```
//!
//! Parents come before children. What else a line holds is passed over.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use shared::time::UnixNanos;

use super::ledger::Place;
use super::{Content, Found, Item};

/// The longest line: four times the largest body of a request that a server takes by default.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Reads an export.
#[derive(Debug)]
pub(super) struct Export<R> {
    source: BufReader<R>,
    /// The last line that was read, and the byte behind it.
    place: Place,
    /// Nodes so far.
    nodes: u64,
    /// Directories whose time is over.
    expired: BTreeSet<Vec<u8>>,
    line: Vec<u8>,
}

#[derive(Deserialize)]
struct Line<'a> {
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
    end: Option<End>,
}

#[derive(Deserialize)]
struct End {
    nodes: u64,
}

/// What a line is.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Node { key: Vec<u8>, content: Content, expiration: Option<UnixNanos> },
    End { nodes: u64 },
}

/// What `next_line` came by.
enum Came {
    Line,
    Blank,
    TooLong,
}

impl<R: Read> Export<R> {
    /// Nothing is read yet.
    pub(super) fn new(source: R) -> Export<R> {
        Export {
            source: BufReader::with_capacity(256 * 1024, source),
            place: Place::default(),
            nodes: 0,
            expired: BTreeSet::new(),
            line: Vec::new(),
        }
    }

    /// Hands over what stands behind the first `done` lines, until `send` says that it has enough. `now` decides what
    /// is still there. The first lines are read too: which directories are over shows there.
    pub(super) fn visit(
        &mut self,
        done: u64,
        now: impl Fn() -> UnixNanos,
        send: &mut dyn FnMut(Found) -> bool,
    ) {
        loop {
            let found = match self.next_line() {
                Err(error) => Found::Broken(format!("behind line {}: {error}", self.place.line)),
                Ok(None) => Found::End(Some(format!(
                    "the export has no end: it was cut off behind line {}, and what followed is missing",
                    self.place.line
                ))),
                Ok(Some(Came::Blank)) => continue,
                Ok(Some(Came::TooLong)) => {
                    self.nodes += 1;
                    Found::Bad(self.place, format!("the line is longer than {LINE_BYTES_MAX} bytes"))
                }
                Ok(Some(Came::Line)) => match parse(&self.line) {
                    Err(why) => {
                        self.nodes += 1;
                        Found::Bad(self.place, why)
                    }
                    Ok(Parsed::End { nodes }) => Found::End(self.check_end(nodes)),
                    Ok(Parsed::Node { key, content, expiration }) => {
                        self.nodes += 1;
                        self.node(key, content, expiration, now())
                    }
                },
            };
            let is_last = matches!(found, Found::End(_) | Found::Broken(_));
            let is_done = !is_last && self.place.line <= done;
            if !is_done && !send(found) || is_last {
                return;
            }
        }
    }

    fn node(
        &mut self,
        key: Vec<u8>,
        content: Content,
        expiration: Option<UnixNanos>,
        now: UnixNanos,
    ) -> Found {
        let is_over = expiration.is_some_and(|at| at <= now) || self.is_below_expired(&key);
        if !is_over {
            return Found::Item(Item { key, content, expiration, place: self.place });
        }
        if content == Content::Dir {
            self.expired.insert(key);
        }
        Found::Expired(self.place)
    }

    fn is_below_expired(&self, key: &[u8]) -> bool {
        let slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        !self.expired.is_empty() && slashes.into_iter().any(|at| self.expired.contains(&key[..at]))
    }

    fn check_end(&mut self, nodes: u64) -> Option<String> {
        let line = self.place.line;
        if nodes != self.nodes {
            return Some(format!(
                "line {line} says that the export has {nodes} nodes, but {} lines stand before it",
                self.nodes
            ));
        }
        loop {
            match self.next_line() {
                Ok(None) => return None,
                Ok(Some(Came::Blank)) => {}
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
    fn next_line(&mut self) -> io::Result<Option<Came>> {
        self.line.clear();
        let read = self.source.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut self.line)? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.place.line += 1;
        self.place.end += read;
        if read > LINE_BYTES_MAX && self.line.last() != Some(&b'\n') {
            self.place.end += skip_line(&mut self.source)?;
            self.line = Vec::new();
            return Ok(Some(Came::TooLong));
        }
        Ok(Some(if self.line.trim_ascii().is_empty() { Came::Blank } else { Came::Line }))
    }
}

/// Goes behind the end of the line that has begun. Returns how many bytes that were.
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

fn parse(line: &[u8]) -> Result<Parsed, String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| {
        // The line that it would name is always the first.
        format!("at byte {}: {}", error.column(), without_place(&error.to_string()))
    })?;
    if let Some(End { nodes }) = line.end {
        return Ok(Parsed::End { nodes });
    }
    let key = match bytes("key", line.key, line.key_base64)? {
        Some(key) if key.starts_with(b"/") => key,
        Some(key) => return Err(format!("the key {} does not begin with a slash", key.escape_ascii())),
        None => return Err("it has no key".to_owned()),
    };
    let content = match (line.dir, bytes("value", line.value, line.value_base64)?) {
        (true, None) => Content::Dir,
        (false, Some(value)) => Content::Value(value),
        (true, Some(_)) => return Err(format!("{} is a directory and has a value", key.escape_ascii())),
        (false, None) => {
            return Err(format!("{} has no value and is no directory", key.escape_ascii()));
        }
    };
    let expiration = match line.expiration {
        Some(text) => Some(time(&text).ok_or_else(|| format!("{text:?} is no time as in RFC 3339"))?),
        None => None,
    };
    Ok(Parsed::Node { key, content, expiration })
}

/// What stands in a line as text or, where it is none, in base64.
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
    // What lies beyond the years that a request can say is as good as the last of them.
    i64::try_from(nanos.clamp(i64::MIN.into(), i64::MAX.into())).ok().map(UnixNanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixNanos = UnixNanos(1_000_000_000_000_000_000);

    fn read(text: &str, done: u64) -> Vec<Found> {
        let mut all = Vec::new();
        Export::new(text.as_bytes()).visit(done, || NOW, &mut |found| {
            all.push(found);
            true
        });
        all
    }

    fn item(line: u64, end: u64, key: &str, content: Content) -> Found {
        Found::Item(Item { key: key.into(), content, expiration: None, place: Place { line, end } })
    }

    fn value(bytes: &[u8]) -> Content {
        Content::Value(bytes.to_vec())
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
                item(3, 97, "/d", Content::Dir),
                item(4, 134, "/d/k", value(b"\xff\0")),
                Found::End(None),
            ]
        );
        assert_eq!(read(text, 3), [item(4, 134, "/d/k", value(b"\xff\0")), Found::End(None)]);
    }

    #[test]
    fn what_is_over_goes_with_all_below_it() {
        let text = concat!(
            "{\"key\":\"/d\",\"dir\":true,\"expiration\":\"2001-09-09T01:46:40Z\"}\n",
            "{\"key\":\"/d/k\",\"value\":\"\"}\n",
            "{\"key\":\"/dd\",\"value\":\"\",\"expiration\":\"2001-09-09T01:46:40.000000001Z\"}\n",
            "{\"end\":{\"nodes\":3,\"index\":9}}\n",
        );
        let lines = |found: &[Found]| -> Vec<(bool, u64)> {
            found
                .iter()
                .map(|found| match found {
                    Found::Expired(place) => (true, place.line),
                    Found::Item(item) => (false, item.place.line),
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
            Some(Found::End(Some(why))) => why,
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
            let [Found::Bad(place, text), Found::Item(item), Found::End(None)] = &found[..] else {
                panic!("{line}: {found:?}")
            };
            assert!(text.contains(why) && !text.contains("at line"), "{line}: {text}");
            assert_eq!((place.line, item.place.line), (1, 2));
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let long = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() + 5000);
        let found =
            read(&format!("{long}\n{{\"key\":\"/z\",\"value\":\"\"}}\n{{\"end\":{{\"nodes\":2}}}}"), 0);
        let [Found::Bad(place, text), Found::Item(item), Found::End(None)] = &found[..] else { panic!() };
        assert!(text.contains("longer than"), "{text}");
        assert_eq!((place.end, item.place.line), (LINE_BYTES_MAX + 5001, 2));
    }
}
