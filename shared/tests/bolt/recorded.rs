//! Databases of real etcds, from the kit beside the project (`../shared`, or the folder that SHARED names). Without the
//! kit there is nothing to compare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::Value;
use shared::bolt::{Bolt, Changes, Options, View, check, read};
use shared::disk::RealDisk;

/// The value of a revision in bucket `key`.
#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "2")]
    create_revision: i64,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
    #[prost(int64, tag = "6")]
    lease: i64,
}

fn kit() -> Option<PathBuf> {
    let shared = std::env::var_os("SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    Some(shared.join("fixtures3")).filter(|dir| dir.is_dir())
}

/// The newest state of all keys in a view, and its revision.
fn keys(view: &View) -> (BTreeMap<Vec<u8>, KeyValue>, i64) {
    let mut keys = BTreeMap::new();
    let mut revision = 1;
    let bucket = view.bucket(b"key").unwrap().unwrap();
    for pair in bucket.range(..) {
        let (at, value) = pair.unwrap();
        revision = i64::from_be_bytes(at[..8].try_into().unwrap());
        let value = KeyValue::decode(value).unwrap();
        if at.len() == 18 {
            keys.remove(&value.key);
        } else {
            keys.insert(value.key.clone(), value);
        }
    }
    (keys, revision)
}

/// A value as the kit tells it: base64, or length and digest.
fn is_value(told: &Value, value: &[u8]) -> bool {
    match told {
        Value::String(text) => STANDARD.decode(text).unwrap() == value,
        other => other[0].as_u64() == Some(value.len() as u64),
    }
}

fn compare(told: &Value, keys: &BTreeMap<Vec<u8>, KeyValue>) {
    let told = told["kvs"].as_array().unwrap();
    assert_eq!(told.len(), keys.len());
    for (told, found) in told.iter().zip(keys.values()) {
        assert_eq!(STANDARD.decode(told[0].as_str().unwrap()).unwrap(), found.key);
        assert!(is_value(&told[1], &found.value), "value of {:?}", told[0]);
        let numbers = [found.create_revision, found.mod_revision, found.version, found.lease];
        assert_eq!([2, 3, 4, 5].map(|i| told[i].as_i64().unwrap()), numbers, "{:?}", told[0]);
    }
}

/// Copies every bucket into a new file, a few keys at a time.
fn rewrite(view: &View, path: &Path) -> View {
    let mut bolt = Bolt::create(&RealDisk, path, Options::default()).unwrap();
    for name in view.buckets().unwrap() {
        let mut changes = Changes::new();
        changes.create_bucket(name.clone());
        for pair in view.bucket(&name).unwrap().unwrap().range(..) {
            let (key, value) = pair.unwrap();
            changes.put(&name, key, value);
            if changes.len() == 25 {
                bolt.commit(&changes).unwrap();
                changes = Changes::new();
            }
        }
        bolt.commit(&changes).unwrap();
    }
    bolt.view()
}

#[test]
fn databases_of_real_etcds_read_as_recorded() {
    let Some(kit) = kit() else {
        eprintln!("left out: there is no kit");
        return;
    };
    let (mut files, mut complete) = (0, 0);
    let mut archives: Vec<PathBuf> = kit.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    archives.retain(|path| path.extension().is_some_and(|ext| ext == "json"));
    archives.sort();
    for told in archives {
        let told: Value = serde_json::from_slice(&std::fs::read(told).unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let archive = kit.join(told["archive"].as_str().unwrap());
        let unpacked =
            Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()).status().unwrap();
        assert!(unpacked.success());
        let state = &told["expect"]["before"]["state"];
        for member in told["members"].as_array().unwrap() {
            let db = dir.path().join(member["dir"].as_str().unwrap()).join("member/snap/db");
            if !db.exists() {
                continue;
            }
            files += 1;
            let name = &told["name"];
            let report = check(&RealDisk, &db).unwrap();
            assert!(report.is_sound(), "{name}: {:?}", report.findings);
            let is_bad = report.metas.iter().any(Result::is_err);
            assert_eq!(is_bad, name == "d13-newer-meta-bad", "{name}: {:?}", report.metas);
            let view = read(&RealDisk, &db, 1 << 20).unwrap();
            let (found, revision) = keys(&view);
            // Where the log is ahead of the database, the kit tells what both make.
            if state["revision"].as_i64() == Some(revision) {
                complete += 1;
                compare(state, &found);
            }
            let copy = rewrite(&view, &dir.path().join("copy"));
            assert_eq!(keys(&copy), (found, revision), "{name}");
            assert!(check(&RealDisk, copy.path()).unwrap().is_sound());
            std::fs::remove_file(copy.path()).unwrap();
        }
    }
    assert!(files >= 25 && complete >= 10, "{files} databases, {complete} of them complete");
}
