//! `Documentation/configuration.md` lists exactly the existing flags, with their defaults.

use std::collections::BTreeMap;

use super::*;

const PAGE: &str = include_str!("../../../../Documentation/configuration.md");

/// The flag rows of the page's tables: name and default.
fn documented() -> BTreeMap<&'static str, &'static str> {
    PAGE.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `-")?.split(" | ");
            let name = cells.next()?.trim_end_matches(" |").trim_end_matches('`');
            Some((name, cells.next()?.trim().trim_matches('`')))
        })
        .collect()
}

#[test]
fn the_page_and_the_definitions_name_the_same_flags() {
    let documented = documented();
    let mut names: Vec<&str> = FLAGS.flags().map(|flag| flag.name).collect();
    names.sort_unstable();
    assert_eq!(documented.keys().copied().collect::<Vec<_>>(), names);
    for flag in FLAGS.flags().filter(|flag| !flag.default.is_empty()) {
        assert_eq!(documented[flag.name], flag.default, "-{}", flag.name);
    }
}

#[test]
fn settings_in_the_page_are_accepted() {
    let start = PAGE.find("```toml\n").unwrap() + "```toml\n".len();
    let example = &PAGE[start..][..PAGE[start..].find("```").unwrap()];
    let config = Input { words: &["-config=f"], variables: &[], file: Some(example) }.start().config;
    assert_ne!(config, super::config(&[]));
}
