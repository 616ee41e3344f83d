//! `kill -9` under load of the v3 API: whatever was acknowledged is there after the restart, with its revision.
//!
//! `CRASH_ROUNDS=N` makes it a soak.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::http::{self, Request};
use tests::load::Random;
use tests::server::{START_LIMIT, STOP_LIMIT, Server};
use tests::{Check, Context, fail, files};

const WRITERS: u64 = 4;
const KEYS: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(8);

/// As base64, without a dependency for it.
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

/// A call of the gateway; anything but an answer with status 200 is an error.
fn call(port: u16, path: &str, body: &Value) -> Check<Value> {
    let mut request = Request::new("POST", path);
    request.body = body.to_string().into_bytes();
    let response = http::call(port, &request, PATIENCE)?;
    if response.status != 200 {
        fail!("{path} answered {}: {}", response.status, response.text());
    }
    serde_json::from_slice(&response.body).context(path)
}

fn number(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn revision(response: &Value) -> i64 {
    number(&response["header"]["revision"])
}

/// What a key was last acknowledged to be, or may be besides.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The value, the revision of its change and its lease; `None` if the key is deleted.
    acknowledged: Option<(String, i64, i64)>,
    /// The write that has no answer: it may be carried out, later than `acknowledged` in any case.
    open: Option<Option<String>>,
}

/// What one writer knows of its keys and leases.
#[derive(Debug, Default)]
struct Ledger {
    keys: BTreeMap<String, Known>,
    leases: Vec<i64>,
    newest: i64,
    written: u64,
}

/// Writes until a call fails or `stop` is set.
fn write(port: u16, writer: u64, random: &mut Random, ledger: &mut Ledger, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let key = format!("w{writer}/{}", random.below(KEYS));
        let value = format!(
            "{writer}-{}-{}",
            ledger.written,
            "x".repeat(usize::try_from(random.below(300)).unwrap_or_default())
        );
        let kind = random.below(20);
        let lease = ledger.leases.last().copied().filter(|_| kind == 3).unwrap_or(0);
        let put = json!({"key": base64(&key), "value": base64(&value), "lease": lease.to_string()});
        let (path, body, becomes) = match kind {
            0 => {
                let body = json!({"TTL": "100000"});
                let Ok(granted) = call(port, "/v3/lease/grant", &body) else { return };
                ledger.leases.push(number(&granted["ID"]));
                ledger.written += 1;
                continue;
            }
            1 => {
                // Some other compaction may be ahead of this one: that is refused, and nothing is lost.
                let body = json!({"revision": ledger.newest.to_string()});
                if ledger.newest > 0
                    && call(port, "/v3/kv/compaction", &body).is_err()
                    && random.below(2) == 0
                {
                    continue;
                }
                continue;
            }
            2 => {
                let form = Request::new("PUT", format!("/v2/keys/{key}")).form(&[("value", &value)]);
                if http::call(port, &form, PATIENCE).is_err() {
                    return;
                }
                continue;
            }
            4..7 => ("/v3/kv/deleterange", json!({"key": base64(&key)}), None),
            7..10 => {
                let marker = json!({"key": base64(&format!("w{writer}/count")), "value": base64(&value)});
                let body = json!({"success": [{"requestPut": put}, {"requestPut": marker}]});
                ("/v3/kv/txn", body, Some(value.clone()))
            }
            _ => ("/v3/kv/put", put, Some(value.clone())),
        };
        let touched = if path == "/v3/kv/txn" { vec![key, format!("w{writer}/count")] } else { vec![key] };
        for key in &touched {
            ledger.keys.entry(key.clone()).or_default().open = Some(becomes.clone());
        }
        let Ok(response) = call(port, path, &body) else { return };
        let at = revision(&response);
        assert!(at >= ledger.newest, "revision {at} follows {}", ledger.newest);
        ledger.newest = at;
        ledger.written += 1;
        for key in touched {
            let acknowledged = becomes.clone().map(|value| (value, at, lease));
            ledger.keys.insert(key, Known { acknowledged, open: None });
        }
    }
}

/// Compares a server with what is known, and settles what was open.
fn settle(port: u16, ledger: &mut Ledger) -> Check {
    let leases = call(port, "/v3/lease/leases", &json!({}))?;
    let leases: Vec<i64> =
        leases["leases"].as_array().into_iter().flatten().map(|lease| number(&lease["ID"])).collect();
    if let Some(gone) = ledger.leases.iter().find(|lease| !leases.contains(lease)) {
        fail!("lease {gone} is gone");
    }
    for (key, known) in &mut ledger.keys {
        let response = call(port, "/v3/kv/range", &json!({"key": base64(key)}))?;
        if revision(&response) < ledger.newest {
            fail!("revision {} where {} was acknowledged", revision(&response), ledger.newest);
        }
        let kv = &response["kvs"][0];
        let text = |name: &str| kv[name].as_str().unwrap_or_default().to_owned();
        let is = kv.is_object().then(|| (text("value"), number(&kv["mod_revision"]), number(&kv["lease"])));
        let acknowledged = known.acknowledged.clone().map(|(value, at, lease)| (base64(&value), at, lease));
        let open = known.open.take().map(|open| open.map(|value| base64(&value)));
        let value = is.as_ref().map(|(value, ..)| value.clone());
        if is != acknowledged && open != Some(value.clone()) {
            fail!("{key} is {is:?}, acknowledged is {acknowledged:?}, open {open:?}");
        }
        if is != acknowledged {
            // The open write was carried out. From now on it counts as acknowledged; its text comes from base64.
            known.acknowledged = is.map(|(value, at, lease)| (unbase64(&value), at, lease));
        }
    }
    Ok(())
}

fn unbase64(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut out = Vec::new();
    for chunk in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 6 | u32::from(letter(*byte)));
        let bits = bits << (6 * (4 - chunk.len()));
        out.extend(bits.to_be_bytes().iter().skip(1).take(chunk.len() - 1));
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Load until the kill, in threads.
fn crash_under_load(
    server: &mut Server,
    ledgers: Vec<Ledger>,
    seed: u64,
    by_signal: bool,
) -> Check<Vec<Ledger>> {
    let mut random = Random::new(seed);
    let stop = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..)
        .zip(ledgers)
        .map(|(writer, mut ledger)| {
            let (port, stop) = (server.client_port, stop.clone());
            thread::spawn(move || {
                write(port, writer, &mut Random::new(seed << 8 | writer), &mut ledger, &stop);
                ledger
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(400 + random.below(700)));
    if by_signal {
        server.stop();
    } else {
        server.kill();
    }
    stop.store(true, Ordering::Relaxed);
    threads.into_iter().map(|thread| thread.join().ok().context("a writer panicked")).collect()
}

fn crash_again_and_again(level: &str, seed: u64) -> Check {
    let rounds: u64 = std::env::var("CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let folder = files::scratch("v3-crash")?;
    let args = ["--cluster-level", level, "--snapshot-count", "60"];
    let mut server = Server::new(folder.path(), "crash")?.with_args(args).started()?;
    let mut ledgers: Vec<Ledger> = (0..WRITERS).map(|_| Ledger::default()).collect();
    for round in 0..rounds {
        ledgers = crash_under_load(&mut server, ledgers, seed << 16 | round, round % 4 == 3)?;
        server.start()?;
        let doing = format!("level {level}, seed {seed}, round {round}");
        server.wait_ready(START_LIMIT).context(&doing)?;
        for ledger in &mut ledgers {
            settle(server.client_port, ledger).context(&doing)?;
        }
    }
    let written: u64 = ledgers.iter().map(|ledger| ledger.written).sum();
    println!("level {level}, seed {seed}: {written} acknowledged writes, {rounds} crashes");
    server.stop();
    if written < rounds * 10 {
        fail!("{written} writes in {rounds} rounds, that is no load");
    }
    let kept = files::listing(&server.data_dir)?;
    if !kept.iter().any(|line| line.ends_with(".snap")) {
        fail!("no snapshot was taken: {kept:#?}");
    }
    Ok(())
}

#[test]
fn writes_survive_at_3_5() -> Check {
    crash_again_and_again("3.5", 1)
}

#[test]
fn writes_survive_at_3_4() -> Check {
    crash_again_and_again("3.4", 2)
}

/// A stopped server with keys of the v3 API. With `snapshots`, its log begins after a snapshot.
fn stopped(folder: &std::path::Path, snapshots: bool) -> Check<Server> {
    let count = if snapshots { "20" } else { "10000" };
    let args = ["--cluster-level", "3.5", "--snapshot-count", count];
    let mut server = Server::new(folder, "stopped")?.with_args(args).started()?;
    for n in 0..60 {
        let body = json!({"key": base64(&format!("k{n}")), "value": base64("value")});
        call(server.client_port, "/v3/kv/put", &body)?;
    }
    server.stop();
    Ok(server)
}

/// The server must end, and say why.
fn refuses(server: &mut Server, why: &str) -> Check {
    server.start()?;
    let status = server.wait_exit(STOP_LIMIT).context(format!("the server runs: {}", server.said()))?;
    if status.success() || !server.said().contains(why) {
        fail!("{status}, and its log lacks {why:?}: {}", server.said());
    }
    Ok(())
}

#[test]
fn a_log_without_its_database_is_refused() -> Check {
    for snapshots in [true, false] {
        let folder = files::scratch("v3-no-db")?;
        let mut server = stopped(folder.path(), snapshots)?;
        fs::remove_file(server.data_dir.join("member/snap/db"))?;
        refuses(&mut server, "the database is missing")?;
    }
    Ok(())
}

#[test]
fn a_damaged_database_is_refused() -> Check {
    let folder = files::scratch("v3-bad-db")?;
    let mut server = stopped(folder.path(), true)?;
    let path = server.data_dir.join("member/snap/db");
    let whole = fs::read(&path)?;
    for len in [0, 100, 4096, whole.len() / 2] {
        files::write(&path, &whole[..len])?;
        refuses(&mut server, "db")?;
    }
    files::write(&path, &whole)?;
    server.start()?;
    server.wait_ready(START_LIMIT)?;
    let all =
        call(server.client_port, "/v3/kv/range", &json!({"key": base64("k"), "range_end": base64("l")}))?;
    assert_eq!(number(&all["count"]), 60);
    Ok(())
}

/// The log is complete: it leads from an older database to the same keys at the same revisions.
#[test]
fn an_older_database_is_brought_up_by_the_log() -> Check {
    let folder = files::scratch("v3-old-db")?;
    let mut server = stopped(folder.path(), false)?;
    let path = server.data_dir.join("member/snap/db");
    let older = fs::read(&path)?;
    server.start()?;
    server.wait_ready(START_LIMIT)?;
    let put = call(server.client_port, "/v3/kv/put", &json!({"key": base64("k1"), "value": base64("late")}))?;
    server.stop();
    files::write(&path, &older)?;
    server.start()?;
    server.wait_ready(START_LIMIT)?;
    let got = call(server.client_port, "/v3/kv/range", &json!({"key": base64("k1")}))?;
    assert_eq!(got["kvs"][0]["mod_revision"], put["header"]["revision"]);
    assert_eq!(got["kvs"][0]["version"], json!("2"));
    Ok(())
}

/// A database whose log is gone: the entries of a new log would count as applied, and never be.
#[test]
fn a_database_without_its_log_is_refused() -> Check {
    let folder = files::scratch("v3-no-log")?;
    let mut server = stopped(folder.path(), false)?;
    fs::remove_dir_all(server.data_dir.join("member/wal"))?;
    refuses(&mut server, "there is no log in")
}
