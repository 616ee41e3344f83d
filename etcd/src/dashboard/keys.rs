//! Keys for the dashboard: directory listings with hidden nodes, the bytes of a value, and a search.
//!
//! The v2 API lists no hidden nodes, returns whole directories with all values, and replaces invalid UTF-8. A page that
//! edits values needs the exact bytes. All functions work on a snapshot of the nodes, so that the server serves other
//! requests during a long listing. Names are escaped as in a URL.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::Serialize;
use shared::error::ApiError;
use shared::store::{Nodes, WalkedNode};

/// The most entries of a directory in one answer.
const ENTRIES_MAX: usize = 500;

/// The length of a value's preview, in bytes.
const PREVIEW_BYTES: usize = 160;

/// The most results of a search.
const FOUND_MAX: usize = 200;

/// The most nodes that a search visits: about half a second of work.
const VISITED_MAX: usize = 1_000_000;

/// The store path of the clients' keys.
const ROOT: &[u8] = b"/1";

/// The characters to escape in a name.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The characters to escape in a path.
const PATH: &AsciiSet = &NAME.remove(b'/');

/// A node with its content.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct Node {
    /// The store index of the snapshot.
    pub(crate) index: u64,
    #[serde(flatten)]
    entry: ListedNode,
    /// For a key: the whole value, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// For a directory: its entries, sorted by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<Vec<ListedNode>>,
    /// Whether there are more entries after the last one.
    more: bool,
}

/// A node in a listing.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct ListedNode {
    /// The name; in search results, the path.
    name: String,
    dir: bool,
    hidden: bool,
    created: u64,
    modified: u64,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration: Option<String>,
    /// The length of the value, in bytes.
    size: usize,
    /// The beginning of the value, in base64.
    preview: String,
}

impl ListedNode {
    fn new(node: WalkedNode<'_>, name: String) -> ListedNode {
        let value = node.value.unwrap_or_default();
        ListedNode {
            name,
            dir: node.is_dir(),
            hidden: memmem::find(node.path, b"/_").is_some(),
            created: node.created,
            modified: node.modified,
            expiration: node.expiration.map(|at| at.to_string()),
            size: value.len(),
            preview: STANDARD.encode(&value[..value.len().min(PREVIEW_BYTES)]),
        }
    }
}

/// The store path of a key, without a trailing slash.
fn store_path(key: &[u8]) -> Vec<u8> {
    let key = key.strip_suffix(b"/").unwrap_or(key);
    [ROOT, key].concat()
}

fn last_name(path: &[u8]) -> &[u8] {
    let from = memchr::memrchr(b'/', path).map_or(0, |slash| slash + 1);
    &path[from..]
}

/// A key, or a directory with its entries after the name `after`.
///
/// # Errors
/// The API errors 100 or 104.
pub(crate) fn list(nodes: &Nodes, key: &[u8], hidden: bool, after: &[u8]) -> Result<Node, ApiError> {
    let path = store_path(key);
    let mut walk = nodes.walk(&path, hidden)?;
    let mut entries: Vec<ListedNode> = Vec::new();
    let mut more = false;
    let (entry, value) = match walk.step() {
        // The walk starts with the node itself.
        None => return Err(ApiError::new(shared::error::Code::KeyNotFound, key.to_vec(), nodes.index())),
        Some(node) => {
            let name = percent_encode(last_name(node.path), NAME).to_string();
            let name = if key.is_empty() || key == b"/" { String::new() } else { name };
            (ListedNode::new(node, name), node.value.map(|value| STANDARD.encode(value)))
        }
    };
    while let Some(node) = walk.step() {
        let name = last_name(node.path);
        if after.is_empty() || name > after {
            if entries.len() == ENTRIES_MAX {
                more = true;
                break;
            }
            entries.push(ListedNode::new(node, percent_encode(name, NAME).to_string()));
        }
        if node.is_dir() {
            walk.pass_over();
        }
    }
    let entries = entry.dir.then_some(entries);
    Ok(Node { index: nodes.index(), entry, value, entries, more })
}

/// The parameters of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SearchRequest {
    /// The directory to search.
    pub(crate) under: Vec<u8>,
    /// The text to find in paths or values. In paths, the case of ASCII letters is ignored.
    pub(crate) text: Vec<u8>,
    /// Whether to include hidden nodes.
    pub(crate) hidden: bool,
    /// Whether to search values too.
    pub(crate) values: bool,
}

/// The result of a search.
#[derive(Debug, Serialize, PartialEq)]
pub(crate) struct SearchResult {
    index: u64,
    entries: Vec<ListedNode>,
    /// The number of visited nodes.
    looked_at: usize,
    /// Whether there may be more results.
    more: bool,
}

/// Searches for nodes.
///
/// # Errors
/// The API errors 100 or 104 if the directory does not exist.
pub(crate) fn search(nodes: &Nodes, request: &SearchRequest) -> Result<SearchResult, ApiError> {
    let mut walk = nodes.walk(&store_path(&request.under), request.hidden)?;
    let text = request.text.to_ascii_lowercase();
    let in_path = memmem::Finder::new(&text);
    let in_value = memmem::Finder::new(&request.text);
    let mut lower = Vec::new();
    let mut found = SearchResult { index: nodes.index(), entries: Vec::new(), looked_at: 0, more: false };
    while let Some(node) = walk.step() {
        let path = &node.path[ROOT.len()..];
        if path.is_empty() {
            continue;
        }
        if found.entries.len() == FOUND_MAX || found.looked_at == VISITED_MAX {
            found.more = true;
            break;
        }
        found.looked_at += 1;
        lower.clear();
        lower.extend_from_slice(path);
        lower.make_ascii_lowercase();
        let fits = in_path.find(&lower).is_some()
            || (request.values && node.value.is_some_and(|value| in_value.find(value).is_some()));
        if fits {
            found.entries.push(ListedNode::new(node, percent_encode(path, PATH).to_string()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use shared::store::{Expiry, Store};
    use shared::time::UnixNanos;

    use super::*;

    fn nodes() -> Nodes {
        let mut store = Store::new(10);
        let keys: [(&[u8], &[u8]); 5] = [
            (b"/1/b/<img>", b"x\xff\0y"),
            (b"/1/b/_secret", b"hidden"),
            (b"/1/a \xfe", b""),
            (b"/1/deep/er/Config.json", b"{}"),
            (b"/2/users/root", b"password"),
        ];
        for (path, value) in keys {
            store.create(path, false, value, false, Expiry::default(), UnixNanos(0)).unwrap();
        }
        store.nodes()
    }

    fn names(entries: &[ListedNode]) -> Vec<&str> {
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    fn listed(key: &str, hidden: bool, after: &str) -> Vec<String> {
        let node = list(&nodes(), key.as_bytes(), hidden, after.as_bytes()).unwrap();
        names(&node.entries.unwrap()).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn directories_are_listed_with_exact_names() {
        assert_eq!(listed("/", false, ""), ["a%20%FE", "b", "deep"]);
        assert_eq!(listed("", true, "b"), ["deep"]);
        assert_eq!(listed("/b/", false, ""), ["%3Cimg%3E"]);
        assert_eq!(listed("/b", true, ""), ["%3Cimg%3E", "_secret"]);
        assert_eq!(list(&nodes(), b"/nope", true, b"").unwrap_err().code, shared::error::Code::KeyNotFound);
    }

    #[test]
    fn values_are_exact() {
        let node = list(&nodes(), b"/b/<img>", false, b"").unwrap();
        assert_eq!(STANDARD.decode(node.value.unwrap()).unwrap(), b"x\xff\0y");
        assert_eq!((node.entry.name.as_str(), node.entry.size, node.entry.dir), ("%3Cimg%3E", 4, false));
        assert_eq!(node.entries, None);
    }

    #[test]
    fn a_large_directory_comes_in_parts() {
        let mut store = Store::new(10);
        for n in 0..ENTRIES_MAX + 3 {
            let path = format!("/1/d/{n:06}");
            store.create(path.as_bytes(), false, b"", false, Expiry::default(), UnixNanos(0)).unwrap();
        }
        let nodes = store.nodes();
        let first = list(&nodes, b"/d", false, b"").unwrap();
        let entries = first.entries.unwrap();
        assert_eq!((entries.len(), first.more), (ENTRIES_MAX, true));
        let last = &entries[ENTRIES_MAX - 1].name;
        let second = list(&nodes, b"/d", false, last.as_bytes()).unwrap();
        assert_eq!((names(&second.entries.unwrap()).len(), second.more), (3, false));
    }

    #[test]
    fn a_search_looks_into_paths_and_values() {
        let find = |under: &str, text: &str, hidden, values| {
            let request = SearchRequest { under: under.into(), text: text.into(), hidden, values };
            let found = search(&nodes(), &request).unwrap();
            names(&found.entries).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(find("/", "CONFIG", false, false), ["/deep/er/Config.json"]);
        assert_eq!(find("/b", "config", false, false), Vec::<String>::new());
        assert_eq!(find("/", "secret", false, false), Vec::<String>::new());
        assert_eq!(find("/", "secret", true, false), ["/b/_secret"]);
        assert_eq!(find("/", "{}", false, true), ["/deep/er/Config.json"]);
        // Users are stored beside the keys and cannot be reached.
        assert_eq!(find("/", "password", true, true), Vec::<String>::new());
    }
}
