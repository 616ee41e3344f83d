//! A model of a file: its buckets as maps.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use shared::bolt::{BoltError, Changes, Options, View, check};
use shared::disk::Disk;

/// Each bucket with its keys and values.
pub(crate) type Content = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// The file is cut off as soon as it can be, so that tests need no large ones.
pub(crate) const SMALL: Options = Options { page_bytes: 4096, cache_bytes: 256 * 1024, surplus_bytes: 1 };

/// The same with the smallest pages.
pub(crate) const TINY: Options = Options { page_bytes: 1024, ..SMALL };

pub(crate) fn path() -> &'static Path {
    Path::new("/data/db")
}

/// Everything in a view, read in order.
pub(crate) fn content(view: &View) -> Result<Content, BoltError> {
    let mut content = Content::new();
    for name in view.buckets()? {
        let bucket = view.bucket(&name)?.expect("it is listed");
        let keys = bucket.range(..).map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())));
        content.insert(name.to_vec(), keys.collect::<Result<_, _>>()?);
    }
    Ok(content)
}

/// Applies changes to a model.
pub(crate) fn apply(content: &mut Content, changes: &Changes) {
    for (name, keys) in changes.buckets() {
        let bucket = content.entry(name.to_vec()).or_default();
        for (key, value) in keys {
            match value {
                Some(value) => bucket.insert(key.to_vec(), value.to_vec()),
                None => bucket.remove(&key[..]),
            };
        }
    }
}

/// Checks the file.
pub(crate) fn assert_sound<D: Disk>(disk: &D, path: &Path) {
    let report = check(disk, path).unwrap();
    assert!(report.is_sound(), "{:?}", report.findings);
}

/// Numbers from a seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// A value of `len` bytes.
    pub(crate) fn value(&mut self, len: u64) -> Bytes {
        (0..len).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }

    /// Changes as a member makes them: puts and removals of random and of ascending keys, large values, whole ranges
    /// removed.
    pub(crate) fn changes(&mut self, content: &Content) -> Changes {
        let mut changes = Changes::new();
        for _ in 0..=self.below(3) {
            let name = [&b"key"[..], b"meta", b"lease"][usize::try_from(self.below(3)).unwrap()];
            let bucket = content.get(name);
            let len = bucket.map_or(0, BTreeMap::len) as u64;
            match self.below(6) {
                0 => {
                    let last = bucket.and_then(|bucket| bucket.last_key_value());
                    let last = last.map_or(0, |(key, _)| {
                        key.iter().fold(0u64, |sum, byte| sum.wrapping_mul(10).wrapping_add(u64::from(*byte)))
                    });
                    for i in 1..=self.below(40) {
                        let value = self.below(300);
                        changes.put(name, format!("z{last:020}{i:04}"), self.value(value));
                    }
                }
                1 if len > 0 => {
                    let (from, count) = (self.below(len), self.below(len) + 1);
                    let keys = bucket.into_iter().flatten();
                    for (key, _) in
                        keys.skip(usize::try_from(from).unwrap()).take(usize::try_from(count).unwrap())
                    {
                        changes.delete(name, key.clone());
                    }
                }
                2 => {
                    let len = self.below(30_000);
                    changes.put(name, format!("{}", self.below(500)), self.value(len));
                }
                3 => changes.create_bucket(name.to_vec()),
                4 => {
                    let long = "k".repeat(usize::try_from(self.below(2000)).unwrap());
                    changes.put(name, format!("{}{long}", self.below(500)), self.value(10));
                }
                _ => {
                    for _ in 0..self.below(30) {
                        let key = format!("{}", self.below(500));
                        if self.below(3) == 0 {
                            changes.delete(name, key);
                        } else {
                            let len = self.below(200);
                            changes.put(name, key, self.value(len));
                        }
                    }
                }
            }
        }
        changes
    }
}
