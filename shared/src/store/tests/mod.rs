//! Tests of the whole store: one file for the verbs, one for listings, one for watches, one for images and recovery.

use super::{Expiry, Image, Store, Watcher};
use crate::error::ApiError;
use crate::event::Event;
use crate::time::UnixNanos;
use crate::v2::{Request, Verb};

mod listings;
mod snapshots;
mod verbs;
mod watches;

/// The server shares the store between threads, and hands out the others.
const _: () = {
    const fn is_shared<T: Send + Sync>() {}
    const fn is_sent<T: Send>() {}
    is_shared::<Store>();
    is_shared::<Event>();
    is_shared::<Image>();
    is_sent::<Watcher>();
};

/// 2024-01-01T00:00:00Z.
const NOW: UnixNanos = UnixNanos(1_704_067_200 * SECOND);
const SECOND: i64 = 1_000_000_000;
const NEVER: Expiry = Expiry { at: None, refresh: false };

fn after(seconds: i64) -> Expiry {
    Expiry { at: Some(UnixNanos(NOW.0 + seconds * SECOND)), refresh: false }
}

fn request(method: &str, path: &str, val: &str) -> Request {
    Request {
        verb: Verb::of(method.as_bytes()).unwrap(),
        path: path.to_owned().into(),
        val: val.to_owned().into(),
        ..Request::default()
    }
}

fn set(store: &mut Store, path: &str, value: &str) -> Event {
    store.set(path.as_bytes(), false, value.as_bytes(), NEVER, NOW).unwrap()
}

/// The answer's JSON, as clients get it.
fn json(answer: &Result<Event, ApiError>) -> String {
    let mut json = Vec::new();
    match answer {
        Ok(event) => event.write_json(&mut json, NOW),
        Err(error) => error.write_json(&mut json),
    }
    String::from_utf8(json).unwrap()
}

fn read(store: &Store, path: &str) -> String {
    json(&store.get(path.as_bytes(), false, false))
}

fn image(store: &Store) -> Vec<u8> {
    let mut json = Vec::new();
    store.image().write_json(&mut json).unwrap();
    json
}
