//! Which module of the server imports which: the table in `Documentation/architecture.md`, and nothing else.
//!
//! An arrow that is not in the table, one in the table that no line needs, and a circle are failures. Only what is built
//! into the program counts: the tests of a module may reach for more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use tests::{Check, Context, fail, files};

const PAGE: &str = "Documentation/architecture.md";
const BEGINS: &str = "<!-- arrows -->";
const ENDS: &str = "<!-- end of arrows -->";

/// A module and those that it imports, in the order of the table.
type Table = Vec<(String, BTreeSet<String>)>;

/// A module, another one, and the first line by which the one imports the other.
type Arrows = BTreeMap<(String, String), String>;

#[test]
fn modules_import_what_the_table_says() -> Check {
    let table = table(&files::read(&files::repository().join(PAGE))?)?;
    let arrows = arrows(&files::repository().join("etcd/src"), &table)?;
    let found = complaints(&table, &arrows);
    if !found.is_empty() {
        fail!(
            "arrows between the modules of etcd/src, against the table in {PAGE}:\n  {}",
            found.join("\n  ")
        );
    }
    Ok(())
}

/// The table between its two marks.
fn table(page: &str) -> Check<Table> {
    let (_, rest) = page.split_once(BEGINS).context("the table's begin")?;
    let (text, _) = rest.split_once(ENDS).context("the table's end")?;
    let name = Regex::new("`([a-z0-9_/]+)`")?;
    let names = |cell: &str| name.captures_iter(cell).map(|found| found[1].to_owned()).collect::<Vec<_>>();
    let mut table = Table::new();
    for row in text.lines().filter(|line| line.starts_with('|')) {
        let mut cells = row.trim_matches('|').split('|');
        let (Some(first), Some(second)) = (cells.next(), cells.next()) else { continue };
        if let Some(module) = names(first).pop() {
            table.push((module, names(second).into_iter().collect()));
        }
    }
    if table.len() < 10 {
        fail!("only {} rows were found", table.len());
    }
    Ok(table)
}

/// What is wrong with the table, the source or both.
fn complaints(table: &Table, arrows: &Arrows) -> Vec<String> {
    let mut found = Vec::new();
    let rows: BTreeMap<&str, &BTreeSet<String>> = table.iter().map(|(name, to)| (&**name, to)).collect();
    if rows.len() != table.len() {
        found.push("a module has two rows".to_owned());
    }
    for ((from, to), place) in arrows {
        match (rows.get(&**from), rows.contains_key(&**to)) {
            (None, _) => found.push(format!("{from} has no row")),
            (_, false) => found.push(format!("{to} has no row")),
            (Some(known), true) if known.contains(to) => {}
            _ => found.push(format!("{from} imports {to}, which the table does not allow: {place}")),
        }
    }
    for (from, known) in table {
        for to in known.iter().filter(|to| !arrows.contains_key(&(from.clone(), (*to).clone()))) {
            found.push(format!("no line of {from} imports {to}: the table must not allow it"));
        }
    }
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        edges.entry(from).or_default().insert(to);
    }
    found.extend(circle(&edges).map(|circle| format!("a circle: {}", circle.join(" → "))));
    // A row stands below those that it needs, so that the table can be read from its top.
    let mut above = BTreeSet::new();
    for (from, known) in table {
        let early = known.iter().filter(|to| !above.contains(to));
        found.extend(early.map(|to| format!("the row of {from} stands above that of {to}")));
        above.insert(from);
    }
    found.dedup();
    found
}

/// The first way that leads back to where it began, if there is one.
fn circle<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    fn walk<'a>(
        edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
        at: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> bool {
        if let Some(begin) = way.iter().position(|known| *known == at) {
            way.drain(..begin);
            way.push(at);
            return true;
        }
        if done.contains(at) {
            return false;
        }
        way.push(at);
        for to in edges.get(at).into_iter().flatten() {
            if walk(edges, to, way, done) {
                return true;
            }
        }
        way.pop();
        done.insert(at);
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    edges.keys().any(|begin| walk(edges, begin, &mut way, &mut done)).then_some(way)
}

/// All arrows between the table's modules, and those from and to modules that it does not know.
fn arrows(root: &Path, table: &Table) -> Check<Arrows> {
    let sources: Vec<PathBuf> = files::walk(root, &|_| true)?
        .into_iter()
        .filter(|path| path.is_file() && path.extension().is_some_and(|ending| ending == "rs"))
        .collect();
    let mut tests = Vec::new();
    let mut modules = Vec::new();
    for path in &sources {
        let module = module_of(path.strip_prefix(root).unwrap_or(path));
        let text = without_comments(&files::read(path)?);
        let (text, for_tests) = without_tests(&text)?;
        tests.extend(for_tests.into_iter().map(|name| [&module[..], &[name]].concat()));
        modules.push((path, module, text));
    }
    // `lib.rs` only lists the modules, and `main.rs` is another crate: nobody imports them.
    modules.retain(|(_, module, _)| !module.is_empty() && !tests.iter().any(|test| module.starts_with(test)));
    if modules.len() < 100 {
        fail!("only {} files were found", modules.len());
    }
    let top: BTreeSet<&str> =
        modules.iter().filter_map(|(_, module, _)| module.first()).map(|name| &**name).collect();
    let mut arrows = Arrows::new();
    for (path, module, text) in &modules {
        let from = row_of(table, module);
        for (line, target) in imports(text, module)? {
            if !target.first().is_some_and(|first| top.contains(&**first)) {
                continue;
            }
            let to = row_of(table, &target);
            if to != from {
                let place =
                    format!("{}:{line}", path.strip_prefix(files::repository()).unwrap_or(path).display());
                arrows.entry((from.clone(), to)).or_insert(place);
            }
        }
    }
    Ok(arrows)
}

/// The row that a path belongs to: the longest that it begins with, or else its first part.
fn row_of(table: &Table, path: &[String]) -> String {
    (1..=path.len())
        .rev()
        .map(|length| path[..length].join("/"))
        .find(|name| table.iter().any(|(row, _)| row == name))
        .unwrap_or_else(|| path[0].clone())
}

/// The module that a file of the sources is; none for the roots.
fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") || ["lib", "main"].iter().any(|root| module == [*root])
    {
        module.pop();
    }
    module
}

/// The text with empty lines in place of comments.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// The text with empty lines in place of what only tests see, and the names of modules in other files that only tests
/// see.
fn without_tests(text: &str) -> Check<(String, Vec<String>)> {
    let module = Regex::new(r"^(?:pub(?:\([^)]*\))? )?mod (\w+);")?;
    let (mut kept, mut names) = (Vec::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        kept.push(line);
        if line.trim() != "#[cfg(test)]" {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = format!("{indent}}}");
        // What follows ends with its own line, or with the brace that stands as far left as it begins.
        let mut is_open = false;
        for line in lines.by_ref() {
            kept.push("");
            names.extend(module.captures(line.trim()).map(|found| found[1].to_owned()));
            is_open |= line.trim_end().ends_with('{');
            let ends =
                if is_open { line.starts_with(&end) } else { line.trim_end().ends_with([';', ',', '}']) };
            if ends {
                break;
            }
        }
    }
    Ok((kept.join("\n"), names))
}

/// All modules and items that a module's text names by a path from `crate`, `super` or `self`, with their lines.
fn imports(text: &str, module: &[String]) -> Check<Vec<(usize, Vec<String>)>> {
    let begin = Regex::new(r"\b(?:crate|super|self)::")?;
    let mut found = Vec::new();
    for at in begin.find_iter(text).map(|found| found.start()) {
        // In the middle of a path it says nothing new, and who may see something is no import.
        if ["::", "$", "pub(in "].iter().any(|before| text[..at].ends_with(before)) {
            continue;
        }
        let line = text[..at].matches('\n').count() + 1;
        let mut names = Vec::new();
        expand(&text[at..], &mut Vec::new(), &mut names);
        found.extend(names.into_iter().map(|name| (line, absolute(&name, module))));
    }
    Ok(found)
}

/// Writes all paths that `text` begins with into `found`, and returns how long they are together.
fn expand(text: &str, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let depth = before.len();
    let mut at = 0;
    loop {
        let name: String = text[at..]
            .chars()
            .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
            .collect();
        at += name.len();
        if !name.is_empty() {
            before.push(name);
        }
        if text[at..].starts_with("::") {
            at += 2;
        } else {
            break;
        }
    }
    if text[at..].starts_with('{') {
        at += 1;
        while at < text.len() && !text[at..].starts_with('}') {
            let skipped = text[at..].len()
                - text[at..].trim_start_matches(|letter: char| letter.is_whitespace() || letter == ',').len();
            at += skipped;
            if text[at..].starts_with('}') {
                break;
            }
            at += expand(&text[at..], before, found);
            // `as NAME`, `*` and whatever else stands behind a name.
            at += text[at..].find([',', '}']).unwrap_or(text.len() - at);
        }
        at += 1;
    } else {
        found.push(before.clone());
    }
    before.truncate(depth);
    at.min(text.len())
}

/// A path from the crate's root on, for one that stands in a module.
fn absolute(path: &[String], module: &[String]) -> Vec<String> {
    let mut whole = module.to_vec();
    for (at, part) in path.iter().enumerate() {
        match &**part {
            "crate" => whole.clear(),
            "self" if at == 0 => {}
            // `use a::{self, b}` is `use a`.
            "self" => break,
            "super" => drop(whole.pop()),
            _ => whole.push(part.clone()),
        }
    }
    whole
}

fn words(text: &str) -> Vec<String> {
    text.split('/').map(str::to_owned).collect()
}

#[test]
fn paths_are_understood() -> Check {
    let names = |text: &str| -> Check<Vec<String>> {
        let (text, _) = without_tests(&without_comments(text))?;
        Ok(imports(&text, &words("api/v2"))?.into_iter().map(|(_, path)| path.join("/")).collect())
    };
    let cases: [(&str, &[&str]); 8] = [
        ("use crate::log;", &["log"]),
        ("use crate::{auth::{self, Caller as Who}, log};", &["auth", "auth/Caller", "log"]),
        ("pub(crate) use super::{\n    route::Route,\n    v1::*,\n};", &["api/route/Route", "api/v1"]),
        ("let a = crate::server::now();\nb(super::super::x::Y)", &["server/now", "x/Y"]),
        ("pub(in crate::api) use self::parts::Part;", &["api/v2/parts/Part"]),
        ("// use crate::log;\n/// [`crate::log`]\nuse std::fmt;", &[]),
        ("#[cfg(test)]\nuse crate::log;\nuse crate::auth;", &["auth"]),
        ("#[cfg(test)]\nmod tests {\n    use crate::log;\n}\nuse crate::auth;", &["auth"]),
    ];
    for (text, wanted) in cases {
        assert_eq!(names(text)?, wanted, "{text}");
    }
    let (_, for_tests) = without_tests("#[cfg(test)]\npub(crate) mod stand_in;\nmod switch;")?;
    assert_eq!(for_tests, ["stand_in"]);
    assert_eq!(module_of(Path::new("api/v2/mod.rs")), words("api/v2"));
    assert_eq!(module_of(Path::new("connections.rs")), words("connections"));
    assert!(module_of(Path::new("lib.rs")).is_empty());
    Ok(())
}

#[test]
fn what_differs_from_the_table_is_found() {
    let set = |names: &str| -> BTreeSet<String> { names.split_whitespace().map(str::to_owned).collect() };
    let table = |rows: &[(&str, &str)]| -> Table {
        rows.iter().map(|(name, to)| ((*name).to_owned(), set(to))).collect()
    };
    let arrows = |pairs: &[(&str, &str)]| -> Arrows {
        pairs.iter().map(|(from, to)| (((*from).to_owned(), (*to).to_owned()), "a.rs:1".to_owned())).collect()
    };
    let all = table(&[("a", ""), ("b", "a"), ("c", "a b")]);
    let fits = arrows(&[("b", "a"), ("c", "a"), ("c", "b")]);
    assert_eq!(complaints(&all, &fits), Vec::<String>::new());
    let with = |pair| {
        let mut more = fits.clone();
        more.extend(arrows(&[pair]));
        complaints(&all, &more).join("\n")
    };
    assert!(with(("a", "b")).contains("a imports b, which the table does not allow: a.rs:1"));
    assert!(with(("a", "c")).contains("a circle: a → c → a"), "{}", with(("a", "c")));
    assert!(with(("a", "d")).contains("d has no row"));
    assert!(with(("d", "a")).contains("d has no row"));
    let less = arrows(&[("b", "a"), ("c", "a")]);
    assert!(complaints(&all, &less).join("\n").contains("no line of c imports b"));
    let mixed = table(&[("b", "a"), ("a", "")]);
    assert!(complaints(&mixed, &arrows(&[("b", "a")])).join("\n").contains("b stands above that of a"));
}
