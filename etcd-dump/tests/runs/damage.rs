//! Damage at every place: never a panic, and never silence about what is missing.

use crate::directory::{Directory, damage};
use crate::{old, run};

/// What is tried at each place.
const VIEWS: [&[&str]; 4] = [&["--format=full"], &["--store"], &["--verify"], &["export"]];

/// Runs a view that fits the place, so that all come to all regions.
fn view(at: usize, path: &str) -> (i32, String, String) {
    let mut words = VIEWS[at % VIEWS.len()].to_vec();
    words.push(path);
    let (status, out, error) = run(&words);
    assert!(matches!(status, 0 | 1), "{words:?}: status {status}: {error}");
    (status, out, error)
}

#[test]
fn of_a_log_of_2_x() {
    let directory = Directory::with_keys();
    let segment = directory.segments().remove(0);
    let good = std::fs::read(&segment).unwrap();
    let whole: Vec<String> = (0..VIEWS.len()).map(|at| view(at, directory.path()).1).collect();
    for at in 0..good.len() {
        damage(&segment, |bytes| bytes[at] ^= 1 << (at % 8));
        let (status, out, error) = view(at, directory.path());
        // The unused bits of a number's last byte mean nothing.
        let is_told = status == 1 || !error.is_empty() || out == whole[at % VIEWS.len()];
        assert!(is_told, "a flaw at byte {at} was not told: {out}");
        damage(&segment, |bytes| {
            bytes.clone_from(&good);
            bytes.truncate(at);
        });
        view(at, directory.path());
        damage(&segment, |bytes| bytes.clone_from(&good));
    }
}

#[test]
fn of_a_log_of_0_x() {
    let (dir, log) = old::directory();
    let path = dir.path().to_str().unwrap();
    let good = std::fs::read(&log).unwrap();
    for at in 0..good.len() {
        damage(&log, |bytes| bytes[at] ^= 1 << (at % 8));
        view(at, path);
        damage(&log, |bytes| {
            bytes.clone_from(&good);
            bytes.truncate(at);
        });
        view(at, path);
        damage(&log, |bytes| bytes.clone_from(&good));
    }
}
