//! What compilers do not check: files that nothing includes, calls that must not be made, what the core depends on,
//! paths of somebody's machine, links that lead nowhere, invariants without a test, licences, exceptions without a
//! reason.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use tests::json::Json;
use tests::{Check, Context, fail, files};

/// Every file of the repository except build outputs.
fn all_files() -> Check<Vec<PathBuf>> {
    let built = |path: &Path| path.file_name().is_some_and(|name| name == "target" || name == ".git");
    let all = files::walk(files::repository(), &|path| !built(path))?;
    Ok(all.into_iter().filter(|path| path.is_file() && !built(path)).collect())
}

fn with_ending(ending: &str) -> Check<Vec<PathBuf>> {
    Ok(all_files()?
        .into_iter()
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect())
}

fn shown(path: &Path) -> String {
    path.strip_prefix(files::repository()).unwrap_or(path).display().to_string()
}

/// Fails with all findings.
fn none(found: &[String], what: &str) -> Check {
    if !found.is_empty() {
        fail!("{what}:\n  {}", found.join("\n  "));
    }
    Ok(())
}

/// The lines of files that fit an expression, as `path:line: text`.
fn lines(paths: &[PathBuf], expression: &str) -> Check<Vec<String>> {
    let expression = Regex::new(expression)?;
    let mut found = Vec::new();
    for path in paths {
        for (at, line) in files::read(path)?.lines().enumerate().filter(|(_, line)| expression.is_match(line))
        {
            found.push(format!("{}:{}: {}", shown(path), at + 1, line.trim()));
        }
    }
    Ok(found)
}

#[test]
fn every_source_file_is_part_of_a_program() -> Check {
    let mut waiting = Vec::new();
    for manifest in with_ending("toml")?.iter().filter(|path| path.ends_with("Cargo.toml")) {
        waiting.extend(roots(manifest)?);
    }
    let module =
        Regex::new(r#"(?m)^\s*(?:#\[path = "([^"]+)"\]\s*)?(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;"#)?;
    let mut known = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        let folder = path.parent().context("a file without a folder")?;
        let stem = path.file_stem().unwrap_or_default();
        let is_top = is_root(&path) || stem == "mod";
        let below = if is_top { folder.to_path_buf() } else { folder.join(stem) };
        for found in module.captures_iter(&files::read(&path)?) {
            let name = &found[2];
            let candidates = match found.get(1) {
                Some(at) => vec![folder.join(at.as_str())],
                None => vec![below.join(format!("{name}.rs")), below.join(name).join("mod.rs")],
            };
            waiting.extend(candidates.into_iter().filter(|path| path.is_file() && !known.contains(path)));
        }
        known.insert(path);
    }
    assert!(known.len() > 50, "only {} files were found", known.len());
    let dead: Vec<String> =
        with_ending("rs")?.iter().filter(|path| !known.contains(*path)).map(|path| shown(path)).collect();
    none(&dead, "files that no program includes")
}

/// The files that cargo starts from, for one package.
fn roots(manifest: &Path) -> Check<Vec<PathBuf>> {
    let folder = manifest.parent().context("a manifest without a folder")?;
    let mut candidates = vec![folder.join("src/lib.rs"), folder.join("src/main.rs"), folder.join("build.rs")];
    for place in ["src/bin", "tests", "benches", "examples", "fuzz_targets"] {
        for path in files::walk(&folder.join(place), &|_| false)? {
            candidates.push(path.join("main.rs"));
            candidates.push(path);
        }
    }
    let table: toml::Table = files::read(manifest)?.parse().context(manifest.display())?;
    let targets =
        ["bin", "test", "bench", "example"].iter().filter_map(|kind| table.get(*kind)?.as_array()).flatten();
    let paths = targets.chain(table.get("lib")).filter_map(|target| target.get("path")?.as_str());
    candidates.extend(paths.map(|path| folder.join(path)));
    Ok(candidates
        .into_iter()
        .filter(|path| path.is_file() && path.extension().is_some_and(|e| e == "rs"))
        .collect())
}

/// Whether modules of this file lie beside it.
fn is_root(path: &Path) -> bool {
    let named = |name: &str| path.file_name().is_some_and(|found| found == name);
    let beside = |name: &str| path.parent().is_some_and(|folder| folder.ends_with(name));
    named("lib.rs")
        || named("main.rs")
        || ["tests", "benches", "examples", "src/bin"].iter().any(|place| beside(place))
}

/// protobuf 2.28 recurses without bound (RUSTSEC-2024-0437): bytes are decoded by our own types. The raft crate's own
/// calls are not seen here; `hostile_peers.rs` tries what reaches them.
#[test]
fn nothing_is_parsed_by_the_raft_crates_protobuf() -> Check {
    let call = concat!("(parse|merge)_from", r"_|protobuf::(Message|CodedInputStream)");
    let sources: Vec<PathBuf> =
        with_ending("rs")?.into_iter().filter(|path| !path.ends_with("tests/tests/tidy.rs")).collect();
    none(&lines(&sources, call)?, "calls of protobuf's own decoder")
}

#[test]
fn no_program_makes_the_planted_mistakes() -> Check {
    let programs = ["etcd", "etcdctl", "etcd-migrate", "etcd-dump"].map(|name| format!("--package={name}"));
    let tree = |packages: &[String]| -> Check<String> {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--edges=normal,build,features", "--prefix=none", "--locked"])
            .args(packages)
            .current_dir(files::repository())
            .output()?;
        if !output.status.success() {
            fail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let feature = "shared feature \"planted-bugs\"";
    assert!(tree(&["--package=tests".to_owned()])?.contains(feature), "the tests would notice nothing");
    assert!(!tree(&programs)?.contains(feature), "a program is built with {feature}");
    Ok(())
}

/// The crates that the core may use itself, and those that stand for I/O, clocks and tasks: it must not get at them
/// by way of others either.
const CORE_USES: [&str; 10] =
    ["bytes", "memchr", "prost", "raft", "rand", "serde", "serde_json", "shared", "slog", "thiserror"];
const CORE_NEVER_USES: [&str; 9] =
    ["clap", "hyper", "mio", "reqwest", "rustls", "socket2", "tokio", "tonic", "tracing-subscriber"];

#[test]
fn the_core_does_no_io_and_reads_no_clock() -> Check {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package=node", "--edges=normal", "--prefix=depth", "--format= {p}", "--locked"])
        .current_dir(files::repository())
        .output()?;
    if !output.status.success() {
        fail!("cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found = Vec::new();
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name)) = (words.next(), words.next()) else { continue };
        if depth == "1" && !CORE_USES.contains(&name) || CORE_NEVER_USES.contains(&name) {
            found.push(format!("etcd/node depends on {name}"));
        }
    }
    if text.lines().count() < CORE_USES.len() {
        fail!("cargo tree shows no tree: {text}");
    }
    let core = files::repository().join("etcd/node/src");
    let sources: Vec<PathBuf> =
        with_ending("rs")?.into_iter().filter(|path| path.starts_with(&core)).collect();
    let effects = r"\bstd::(fs|net|thread|process|env)\b|\b(Instant|SystemTime)\b|\brand::(rng|random)\b";
    found.extend(lines(&sources, effects)?);
    none(&found, "what the core must leave to others")
}

#[test]
fn no_file_names_somebodys_machine() -> Check {
    // Put together here, or this file would be found.
    let places = ["work", "tmp/w", "root", "home/[a-z]"].map(|place| format!("/{place}/"));
    let names_one = format!(r#"(^|[\s"'`(=:])({})"#, places.join("|"));
    let binary = ["wal", "snap", "gz", "bin"];
    let texts: Vec<PathBuf> = all_files()?
        .into_iter()
        .filter(|path| !path.extension().is_some_and(|ending| binary.iter().any(|binary| ending == *binary)))
        .collect();
    none(&lines(&texts, &names_one)?, "paths of a machine")
}

#[test]
fn exceptions_have_reasons() -> Check {
    let is_generated = |path: &PathBuf| path.parent().is_some_and(|folder| folder.ends_with("generated"));
    let sources: Vec<PathBuf> = with_ending("rs")?.into_iter().filter(|path| !is_generated(path)).collect();
    none(
        &lines(&sources, concat!(r"#!?\[", r"allow\("))?,
        "lints are `expect`ed with a reason, not allowed",
    )?;
    let expectation = Regex::new(concat!(r"(?s)#!?\[", r"expect\((.*?)\)\]"))?;
    let mut found = Vec::new();
    for path in &sources {
        for exception in expectation.captures_iter(&files::read(path)?) {
            if !exception[1].contains("reason = \"") {
                found.push(format!("{}: {}", shown(path), &exception[1]));
            }
        }
    }
    none(&found, "exceptions without a reason")
}

#[test]
fn manifests_share_lints_and_versions() -> Check {
    let mut found = Vec::new();
    for manifest in with_ending("toml")?.iter().filter(|path| path.ends_with("Cargo.toml")) {
        let table: toml::Table = files::read(manifest)?.parse().context(manifest.display())?;
        if !table.contains_key("package") || table.contains_key("workspace") {
            continue;
        }
        let is_inherited =
            |value: &toml::Value| value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        if !table.get("lints").is_some_and(is_inherited) {
            found.push(format!("{}: lints are not the workspace's", shown(manifest)));
        }
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
                if !is_inherited(value) {
                    found.push(format!(
                        "{}: the version of {name} does not stand in the workspace",
                        shown(manifest)
                    ));
                }
            }
        }
    }
    none(&found, "manifests")
}

#[test]
fn links_lead_somewhere() -> Check {
    let link = Regex::new(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")?;
    let mut found = Vec::new();
    for page in with_ending("md")? {
        let folder = page.parent().context("a page without a folder")?;
        for target in link.captures_iter(&files::read(&page)?) {
            if !target[1].contains("://") && !folder.join(&target[1]).exists() {
                found.push(format!("{}: {}", shown(&page), &target[1]));
            }
        }
    }
    none(&found, "links that lead nowhere")
}

#[test]
fn every_invariant_is_held_by_tests_that_are_there() -> Check {
    let page = files::read(&files::repository().join("Documentation/architecture.md"))?;
    let invariants = page
        .split("## Invariants")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .context("invariants")?;
    let sources = with_ending("rs")?;
    let sources: Vec<String> = sources.iter().map(|path| files::read(path)).collect::<Check<_>>()?;
    let is_test = |name: &str| {
        let declared = [format!("fn {name}("), format!("    {name}: ")];
        sources.iter().any(|source| declared.iter().any(|declared| source.contains(declared)))
    };
    let mut missing = Vec::new();
    for invariant in invariants.split("\n- ").skip(1) {
        let Some((_, held)) = invariant.split_once("Held") else {
            missing.push(format!("no test: {invariant}"));
            continue;
        };
        missing.extend(held.split('`').skip(1).step_by(2).filter(|name| !is_test(name)).map(str::to_owned));
    }
    none(&missing, "tests that architecture.md names")
}

/// What `cargo deny check licenses` would say, without the program.
#[test]
fn licences_are_those_of_deny_toml() -> Check {
    let deny: toml::Table =
        files::read(&files::repository().join("deny.toml"))?.parse().context("deny.toml")?;
    let allowed: Vec<&str> =
        deny["licenses"]["allow"].as_array().into_iter().flatten().filter_map(toml::Value::as_str).collect();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(files::repository())
        .output()?;
    if !output.status.success() {
        fail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata = Json::parse(&String::from_utf8_lossy(&output.stdout))?;
    let Some(Json::List(packages)) = metadata.get("packages") else {
        fail!("cargo metadata names no packages")
    };
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for package in packages {
        let name = package.get("name").and_then(Json::text).unwrap_or_default();
        names.insert(name.to_owned());
        let license = package.get("license").and_then(Json::text).unwrap_or("none");
        if !is_allowed(license, &allowed) {
            found.push(format!("{name}: {license}"));
        }
    }
    none(&found, "licences that deny.toml does not allow")?;
    // An exception goes when its crate does.
    for advisory in deny["advisories"]["ignore"].as_array().into_iter().flatten() {
        let text = |key: &str| advisory.get(key).and_then(toml::Value::as_str).unwrap_or_default();
        let (id, reason) = (text("id"), text("reason"));
        let about = reason.split(' ').next().unwrap_or_default();
        if reason.len() < 40 || !names.contains(about) {
            fail!(
                "deny.toml: {id} needs a reason that begins with a crate that is in Cargo.lock: {reason:?}"
            );
        }
    }
    Ok(())
}

/// Whether an SPDX expression is satisfied by these licences.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // With `AND` in it, every named licence must be allowed: stricter than needed, and enough here.
    let names = |separator: &str| -> Vec<String> {
        plain.split(separator).map(|name| name.trim().to_owned()).collect()
    };
    let ok = |name: &String| allowed.contains(&name.as_str());
    if plain.contains(" AND ") {
        names(" AND ").iter().all(|part| part.split(" OR ").any(|name| ok(&name.trim().to_owned())))
    } else {
        names(" OR ").iter().any(ok)
    }
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = ["MIT", "Apache-2.0", "ISC"];
    for good in ["MIT", "MIT OR GPL-3.0", "MIT/Zlib", "Apache-2.0 AND ISC", "(MIT OR Zlib) AND Apache-2.0"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "none", "MIT AND GPL-3.0"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}
