//! How many bytes of memory a key and a watcher take: `cargo run --release -p shared --example store_memory`.

use shared::store::{HISTORY_LENGTH_DEFAULT, Store};
use shared::time::UnixNanos;
use shared::v2::{Request, Verb};

const KEYS: u32 = 200_000;
const WATCHERS: u32 = 10_000;

/// Resident memory of this process in bytes, from the system's own account.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() * 1024.0
}

fn main() {
    let now = UnixNanos(1_704_067_200_000_000_000);
    let mut store = Store::new(HISTORY_LENGTH_DEFAULT);
    let mut put = |path: String, length: usize| {
        let val = vec![b'v'; length].into();
        let request = Request { verb: Verb::Put, path: path.into(), val, ..Request::default() };
        assert!(store.apply(&request, now).is_ok(), "a plain set");
    };
    for number in 0..2_000 {
        put("/1/warm".to_owned(), number % 300);
    }
    let before = resident_bytes();
    for number in 0..KEYS {
        put(format!("/1/tree/{:03}/key-{number:08}", number % 1000), 256);
    }
    let after_keys = resident_bytes();
    println!("{:.0} bytes a key with a value of 256", (after_keys - before) / f64::from(KEYS));

    let watch = |path: String| store.watch(path.as_bytes(), false, true, 0);
    let same: Vec<_> = (0..WATCHERS).map(|_| watch("/1/one/key".to_owned())).collect();
    let after_same = resident_bytes();
    let others: Vec<_> = (0..WATCHERS).map(|number| watch(format!("/1/watched/key-{number:08}"))).collect();
    let after_others = resident_bytes();
    println!(
        "{:.0} bytes a watcher of one key, {:.0} of a key of its own",
        (after_same - after_keys) / f64::from(WATCHERS),
        (after_others - after_same) / f64::from(WATCHERS),
    );
    drop((same, others));
}
