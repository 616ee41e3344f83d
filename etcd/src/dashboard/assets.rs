//! The page's files, compiled into the program.
//!
//! They are written by hand and served unchanged. The page refers to the other files as `assets/HASH/NAME`, with a hash
//! of all of them: so a browser can cache them forever, and never mixes two versions.

use std::sync::OnceLock;

use ring::digest::{SHA256, digest};

/// A file of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asset {
    pub(crate) media_type: &'static str,
    pub(crate) body: &'static [u8],
    /// The ETag: a hash of the content, in quotes.
    pub(crate) tag: String,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// The placeholder for the hash in the page.
const PLACEHOLDER: &str = "CONTENT-HASH";

const PAGE: &str = include_str!("assets/index.html");

/// All files except the page itself.
const FILES: &[(&str, &str, &str)] = &[
    ("style.css", CSS, include_str!("assets/style.css")),
    ("app.js", JS, include_str!("assets/app.js")),
    ("api.js", JS, include_str!("assets/api.js")),
    ("bytes.js", JS, include_str!("assets/bytes.js")),
    ("dom.js", JS, include_str!("assets/dom.js")),
    ("cluster.js", JS, include_str!("assets/cluster.js")),
    ("keys.js", JS, include_str!("assets/keys.js")),
    ("tree.js", JS, include_str!("assets/tree.js")),
    ("node.js", JS, include_str!("assets/node.js")),
    ("forms.js", JS, include_str!("assets/forms.js")),
    ("watch.js", JS, include_str!("assets/watch.js")),
    ("stats.js", JS, include_str!("assets/stats.js")),
    ("chart.js", JS, include_str!("assets/chart.js")),
];

struct Assets {
    hash: String,
    page: Asset,
    files: Vec<(&'static str, Asset)>,
}

fn assets() -> &'static Assets {
    static ASSETS: OnceLock<Assets> = OnceLock::new();
    ASSETS.get_or_init(|| {
        let all: String = FILES.iter().map(|(_, _, text)| *text).collect();
        let hash = hash_of(all.as_bytes());
        let text: &'static str = Box::leak(PAGE.replace(PLACEHOLDER, &hash).into_boxed_str());
        let page = Asset::new(HTML, text);
        let files = FILES.iter().map(|(name, kind, text)| (*name, Asset::new(kind, text))).collect();
        Assets { hash, page, files }
    })
}

impl Asset {
    fn new(media_type: &'static str, text: &'static str) -> Asset {
        Asset { media_type, body: text.as_bytes(), tag: format!("\"{}\"", hash_of(text.as_bytes())) }
    }
}

/// The first 16 hexadecimal digits of the SHA-256 hash.
fn hash_of(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The page.
pub(crate) fn page() -> &'static Asset {
    &assets().page
}

/// The file at `HASH/NAME`, and whether the hash is current: only then may a browser cache it.
pub(crate) fn asset(path: &str) -> Option<(&'static Asset, bool)> {
    let (hash, name) = path.split_once('/')?;
    let assets = assets();
    let (_, asset) = assets.files.iter().find(|(known, _)| *known == name)?;
    Some((asset, hash == assets.hash))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_names_files_that_are_there() {
        let page = std::str::from_utf8(page().body).unwrap();
        assert!(!page.contains(PLACEHOLDER));
        let named: Vec<&str> = page.split('"').filter_map(|part| part.strip_prefix("assets/")).collect();
        assert!(named.len() >= 2, "{named:?}");
        for path in named {
            assert!(matches!(asset(path), Some((_, true))), "{path}");
        }
        assert!(matches!(asset("0123/app.js"), Some((_, false))));
        for nowhere in ["app.js", "x/", "x/nope.js", "x/../app.js", "x/index.html"] {
            assert_eq!(asset(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn every_module_that_is_imported_is_there_and_every_file_is_used() {
        let names: BTreeSet<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        let mut used: BTreeSet<&str> = ["app.js", "style.css"].into();
        for (name, _, text) in FILES {
            for part in text.lines().filter_map(|line| line.strip_suffix(".js\";")) {
                if let Some((_, module)) = part.rsplit_once("\"./") {
                    let file = names.iter().find(|known| known.strip_suffix(".js") == Some(module));
                    used.insert(file.unwrap_or_else(|| panic!("{name} imports {module}")));
                }
            }
        }
        assert_eq!(used, names);
        let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dashboard/assets");
        let in_folder: BTreeSet<String> = std::fs::read_dir(here)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "index.html")
            .collect();
        assert_eq!(in_folder, names.iter().map(|name| (*name).to_owned()).collect());
    }

    /// The content security policy would block them; this test fails first.
    #[test]
    fn nothing_is_loaded_from_elsewhere_and_no_text_becomes_markup() {
        let forbidden = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "style=",
            "onclick=",
        ];
        for (name, _, text) in FILES.iter().chain(&[("index.html", HTML, PAGE)]) {
            for word in forbidden {
                assert!(!text.contains(word), "{name} has {word}");
            }
            let away = text.replace("http://www.w3.org/2000/svg", "");
            assert!(
                !away.contains("//cdn") && !away.contains("https://") && !away.contains("http://"),
                "{name}"
            );
        }
    }
}
