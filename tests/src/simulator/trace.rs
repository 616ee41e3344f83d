//! The record of a run: a hash that is equal only for equal runs, and lines for a reader.

use super::plan::{Micros, SECOND};

/// The record of a run.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    print: bool,
}

impl Trace {
    pub(super) fn new(seed: u64, print: bool) -> Trace {
        Trace { hash: mix(0, seed), print }
    }

    /// The hash of all numbers so far.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// Adds numbers to the hash.
    pub(super) fn note(&mut self, numbers: &[u64]) {
        self.hash = numbers.iter().fold(self.hash, |hash, number| mix(hash, *number));
    }

    /// Prints a line, if tracing is on.
    pub(super) fn trace_line(&self, now: Micros, text: impl FnOnce() -> String) {
        if self.print {
            println!("{:3}.{:06} {}", now / SECOND, now % SECOND, text());
        }
    }
}

/// Mixes a number into a hash. Fast, and good enough to distinguish runs.
pub(super) fn mix(hash: u64, number: u64) -> u64 {
    let mut z = (hash ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

/// The hash of bytes.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let chunks = bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    });
    chunks.fold(mix(0, bytes.len() as u64), mix)
}
