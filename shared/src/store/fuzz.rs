//! Bodies for fuzzers: any bytes may come in, and nothing may panic. `cargo test` runs them on a corpus.

use super::Store;
use prost::Message;

use crate::pb;
use crate::time::UnixNanos;
use crate::v2::Request;

/// Recovers a store from any text. What was recovered must be written and recovered alike.
///
/// # Panics
/// When it is not.
pub fn recover(json: &[u8]) {
    let Ok(store) = Store::recover(json, 8) else { return };
    let first = image(&store);
    let again = Store::recover(&first, 8);
    assert_eq!(again.as_ref().map(image), Ok(first), "a store that was recovered twice");
}

/// Applies requests: of each the length (two bytes, little endian) and the protobuf message. Then writes
/// and recovers an image.
///
/// # Panics
/// When the image is not recovered, or the index grows otherwise than by the answers.
pub fn apply(mut requests: &[u8]) {
    let mut store = Store::new(8);
    let mut watcher = store.watch(b"/", true, true, 0);
    while let Some((length, rest)) = requests.split_first_chunk::<2>() {
        let (request, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        requests = rest;
        let Ok(request) = pb::Request::decode(request) else { continue };
        let Ok(request) = Request::try_from(request) else { continue };
        let now = UnixNanos(request.time);
        let before = store.index();
        let answer = store.apply(&request, now);
        match &answer {
            Ok(event) if !request.verb.writes() => {
                assert_eq!(event.index, store.index());
            }
            Ok(event) => assert_eq!((event.index, store.index()), (before + 1, before + 1)),
            Err(_) => assert_eq!(store.index(), before),
        }
        let mut json = Vec::new();
        match &answer {
            Ok(event) => event.write_json(&mut json, now),
            Err(error) => error.write_json(&mut json),
        }
        assert!(str::from_utf8(&json).is_ok(), "JSON is UTF-8");
        if let Ok(watcher) = &mut watcher {
            while watcher.try_next().is_some() {}
        }
    }
    recover(&image(&store));
}

fn image(store: &Store) -> Vec<u8> {
    let mut json = Vec::new();
    let written = store.image().write_json(&mut json);
    assert!(written.is_ok(), "a vector takes all");
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOT: &[u8] = include_bytes!("../../tests/data/store-2.3.8.json");

    #[test]
    fn any_cut_and_any_flip_of_a_snapshot() {
        recover(SNAPSHOT);
        // The whole would take long; its parts are alike.
        for at in (0..SNAPSHOT.len()).step_by(61) {
            recover(&SNAPSHOT[..at]);
            let mut bytes = SNAPSHOT.to_vec();
            for flip in [1, 0x20, 0x80] {
                bytes[at] ^= flip;
                recover(&bytes);
            }
        }
    }

    #[test]
    fn requests_of_all_kinds() {
        let mut bytes = Vec::new();
        let mut seed = 7_u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        let methods = ["PUT", "PUT", "POST", "DELETE", "QGET", "SYNC", "", "HEAD"];
        let paths = ["", "/", "/1", "/1/a", "/1/a/b", "/1/_a/../b", "//1/c/", "/2", "\u{0}", "/1/d/e/f/g"];
        for _ in 0..3_000 {
            let mut random = |below| usize::try_from(next()).unwrap() % below;
            let request = pb::Request {
                method: methods[random(8)].into(),
                path: paths[random(10)].into(),
                val: "v".repeat(random(3)).into(),
                dir: random(4) == 0,
                prev_value: "v".repeat(random(6) / 4).into(),
                prev_index: [0, 0, 3, 40][random(4)],
                prev_exist: [None, None, Some(true), Some(false)][random(4)],
                expiration: [0, 0, 1, -1, i64::MAX, i64::MIN, 1 << 60, (1 << 60) + 1][random(8)],
                recursive: random(2) == 0,
                time: [0, 1, i64::MAX, i64::MIN, 1 << 60][random(5)],
                refresh: [None, Some(true)][random(2)],
                ..pb::Request::default()
            };
            let message = request.encode_to_vec();
            bytes.extend_from_slice(&u16::try_from(message.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(&message);
        }
        apply(&bytes);
        for at in (0..bytes.len()).step_by(997) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x41;
            apply(&flipped[at.saturating_sub(2_000)..]);
        }
    }
}
