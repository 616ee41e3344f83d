//! Replays what etcd 2.3.8's own store answered to random commands: answers, errors, events of watchers,
//! counters and snapshots must be the same byte for byte.
//!
//! `data/store-recorded.txt` has two lines a step: the command as JSON, where each character of a text is
//! one byte, and the answer. An answer is the error's JSON, or `X-Etcd-Index`, whether the status is 201 and
//! the event's JSON, or the index alone; after it, each after a tab, what watchers got: number and event.
//! The clock of the recorded store stood at `now`. Its history had 50 slots.

#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::fs;
use std::path::Path;

use shared::error::ApiError;
use shared::event::Event;
use shared::store::{Expiry, Store, Watcher};
use shared::time::UnixNanos;

const HISTORY_LENGTH: usize = 50;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Step {
    op: String,
    path: String,
    value: String,
    prevvalue: String,
    previndex: u64,
    since: u64,
    dir: bool,
    recursive: bool,
    unique: bool,
    refresh: bool,
    stream: bool,
    expire: i64,
    now: i64,
    id: u64,
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|char| u8::try_from(char).expect("a character stands for a byte")).collect()
}

fn json(event: &Event, now: UnixNanos) -> String {
    let mut json = Vec::new();
    event.write_json(&mut json, now);
    String::from_utf8(json).unwrap()
}

fn image(store: &Store) -> String {
    let mut json = Vec::new();
    store.image().write_json(&mut json).unwrap();
    String::from_utf8(json).unwrap()
}

struct Replay {
    store: Store,
    watchers: Vec<(u64, Watcher)>,
}

impl Replay {
    fn answer(&mut self, step: &Step) -> String {
        let now = UnixNanos(step.now);
        let result = match step.op.as_str() {
            "stats" => {
                let mut json = Vec::new();
                self.store.stats().write_json(&mut json);
                return String::from_utf8(json).unwrap();
            }
            "save" => return image(&self.store),
            _ => self.carry_out(step, now),
        };
        let mut answer = match result {
            Ok(Some(event)) => format!("{} {} {}", event.index, event.is_created(), json(&event, now)),
            Ok(None) => self.store.index().to_string(),
            Err(error) => String::from_utf8(error.to_json()).unwrap(),
        };
        for (id, watcher) in &mut self.watchers {
            while let Some(event) = watcher.try_next() {
                answer += &format!("\t{id} {}", json(&event, now));
            }
        }
        answer
    }

    fn carry_out(&mut self, step: &Step, now: UnixNanos) -> Result<Option<Event>, ApiError> {
        let [path, value, prev] = [&step.path, &step.value, &step.prevvalue].map(|text| bytes(text));
        let at = (step.expire != 0).then_some(UnixNanos(step.expire));
        let expiry = Expiry { at, refresh: step.refresh };
        let store = &mut self.store;
        match step.op.as_str() {
            "get" => store.get(&path, step.recursive, true),
            "set" => store.set(&path, step.dir, &value, expiry, now),
            "create" => store.create(&path, step.dir, &value, step.unique, expiry, now),
            "update" => store.update(&path, &value, expiry, now),
            "cas" => store.compare_and_swap(&path, &prev, step.previndex, &value, expiry, now),
            "cad" => store.compare_and_delete(&path, &prev, step.previndex, now),
            "delete" => store.delete(&path, step.dir, step.recursive, now),
            "sync" => {
                store.delete_expired(UnixNanos(step.expire), now);
                return Ok(None);
            }
            "watch" => {
                let watcher = store.watch(&path, step.recursive, step.stream, step.since)?;
                self.watchers.push((step.id, watcher));
                return Ok(None);
            }
            "unwatch" => {
                self.watchers.retain(|(id, _)| *id != step.id);
                return Ok(None);
            }
            "reload" => {
                self.watchers.clear();
                self.store = Store::recover(image(&self.store).as_bytes(), HISTORY_LENGTH).unwrap();
                return Ok(None);
            }
            other => panic!("unknown step {other}"),
        }
        .map(Some)
    }
}

#[test]
fn answers_as_the_original() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("store-recorded") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        let mut replay = Replay { store: Store::new(HISTORY_LENGTH), watchers: Vec::new() };
        let mut number = 0;
        while let (Some(command), Some(want)) = (lines.next(), lines.next()) {
            let answer = replay.answer(&serde_json::from_str(command).unwrap());
            assert!(answer == want, "{name}, step {number}: {command}\n got {answer}\nwant {want}");
            number += 1;
        }
        assert!(number > 500, "{name} has {number} steps only");
    }
}

#[test]
fn a_snapshot_of_go_is_written_again_as_it_was() {
    let json = include_bytes!("data/store-2.3.8.json");
    let store = Store::recover(json, 1000).unwrap();
    assert_eq!(image(&store).as_bytes(), json);
    assert!(store.has_expiring());
}
