//! The fuzz bodies on their corpora, and on mutations of what is in them.

use std::path::PathBuf;

use shared::fuzz;

/// Mutations of each file; a fuzzer makes more.
const MUTATIONS: u64 = 2000;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut files: Vec<PathBuf> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "an empty corpus proves nothing: {}", dir.display());
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Changes, removes, repeats or splices in a few bytes.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], mut random: impl FnMut(usize) -> usize) {
    for _ in 0..=random(3) {
        let at = random(bytes.len() + 1);
        match random(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)],
            2 => bytes.truncate(at),
            3 => {
                let end = (at + random(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random(16)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let from = random(other.len() + 1);
                let end = (from + random(40)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
        }
    }
}

fn run(name: &str, body: fn(&[u8])) {
    let corpus = corpus(name);
    let mut seed = 0u64;
    let mut random = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((seed >> 33) % bound as u64).unwrap()
    };
    for bytes in &corpus {
        body(bytes);
        for _ in 0..MUTATIONS {
            let mut mutated = bytes.clone();
            let other = &corpus[random(corpus.len())];
            mutate(&mut mutated, other, &mut random);
            body(&mutated);
        }
    }
}

#[test]
fn bolt_pages() {
    run("bolt", fuzz::bolt_pages);
}

#[test]
fn wal_reader() {
    run("wal", fuzz::wal_reader);
}

#[test]
fn wal_survey() {
    run("wal", fuzz::wal_survey);
}

#[test]
fn entry_content() {
    run("protobuf", fuzz::entry_content);
}

#[test]
fn wal_open() {
    run("wal", fuzz::wal_open);
}

#[test]
fn snapshot() {
    run("snapshot", fuzz::snapshot);
}

#[test]
fn protobuf() {
    run("protobuf", fuzz::protobuf);
}

#[test]
fn urls() {
    run("urls", fuzz::urls);
}

#[test]
fn legacy_log() {
    run("legacy_log", fuzz::legacy_log);
}

#[test]
fn legacy_command() {
    run("legacy_command", fuzz::legacy_command);
}

#[test]
fn legacy_snapshot() {
    run("legacy_snapshot", fuzz::legacy_snapshot);
}

#[test]
fn legacy_files() {
    run("legacy_files", fuzz::legacy_files);
}

#[test]
fn transactions() {
    run("txn", fuzz::transactions);
}
