//! `kill -9` under load: whatever was acknowledged is there after the restart.
//!
//! `CRASH_ROUNDS=N` makes it a soak: N crashes for each seed instead of a few. `CRASH_SEED=N` replays one.

use std::thread;
use std::time::{Duration, Instant};

use tests::http::{Connection, Request};
use tests::load::{Load, Random, WriteCount, WriterKeys, Writers, settle};
use tests::server::{START_LIMIT, Server};
use tests::{Check, Context, fail, files};

const SMALL: Load = Load { threads: 8, keys: 50, value_bytes: 400, first: 0 };
const LARGE: Load = Load { threads: 4, keys: 4, value_bytes: 900_000, first: 0 };

/// The log begins a new segment after this many bytes.
const SEGMENT_BYTES: u64 = 64_000_000;

/// How a server is crashed.
struct Plan {
    load: Load,
    /// A crash comes after half of this time, or up to one and a half.
    span: Duration,
    snapshot_count: &'static str,
    /// Crashes continue until this many bytes were written.
    bytes_min: u64,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds to play: those of a test, or the one in the environment.
fn seeds(own: &[u64]) -> Vec<u64> {
    number("CRASH_SEED").map_or(own.to_vec(), |seed| vec![seed])
}

/// Crashes a server again and again at moments that the seed chooses.
fn crash_again_and_again(seed: u64, plan: &Plan) -> Check {
    let rounds = number("CRASH_ROUNDS").unwrap_or(4);
    let folder = files::scratch("crash")?;
    let mut random = Random::new(seed);
    let args = ["--snapshot-count", plan.snapshot_count];
    let mut server = Server::new(folder.path(), "crash")?.with_args(args).started()?;
    let mut ledgers: Vec<WriterKeys> = Vec::new();
    let mut written = WriteCount::default();
    let span = u64::try_from(plan.span.as_millis()).unwrap_or(u64::MAX);
    let mut round = 0;
    while round < rounds || (written.bytes < plan.bytes_min && round < 10 * rounds) {
        let known = std::mem::take(&mut ledgers);
        let writers = Writers::start(server.client_port, plan.load, seed ^ (round << 32), known);
        thread::sleep(Duration::from_millis(span / 2 + random.below(span)));
        server.kill();
        let (known, more) = writers.stop()?;
        ledgers = known;
        written += more;
        let doing = format!("seed {seed} round {round}, {} writes", written.count);
        server.start()?;
        server.wait_ready(START_LIMIT).context(&doing)?;
        settle(server.client_port, &mut ledgers).context(&doing)?;
        round += 1;
    }
    println!("seed {seed}: {} acknowledged writes, {} bytes, {round} crashes", written.count, written.bytes);
    server.stop();
    // What the load was meant to cause must have happened.
    if written.count < round * 10 || written.bytes < plan.bytes_min {
        fail!("seed {seed}: {written:?} in {round} rounds, that is no load");
    }
    let kept = files::listing(&server.data_dir)?;
    if !kept.iter().any(|line| line.ends_with(".snap")) {
        fail!("seed {seed}: no snapshot was taken: {kept:#?}");
    }
    let is_later_segment = |line: &String| line.ends_with(".wal") && !line.contains("/0000000000000000-");
    if plan.bytes_min > SEGMENT_BYTES && !kept.iter().any(is_later_segment) {
        fail!("seed {seed}: no further log segment was begun: {kept:#?}");
    }
    Ok(())
}

#[test]
fn small_writes_survive() -> Check {
    for seed in seeds(&[1, 2, 3]) {
        let plan =
            Plan { load: SMALL, span: Duration::from_millis(700), snapshot_count: "100", bytes_min: 0 };
        crash_again_and_again(seed, &plan)?;
    }
    Ok(())
}

#[test]
fn large_writes_survive() -> Check {
    for seed in seeds(&[4]) {
        let bytes_min = SEGMENT_BYTES * 5 / 4;
        let plan = Plan { load: LARGE, span: Duration::from_millis(1500), snapshot_count: "60", bytes_min };
        crash_again_and_again(seed, &plan)?;
    }
    Ok(())
}

/// The check itself must be able to fail: with an empty data folder, everything is missing.
#[test]
fn lost_writes_are_seen() -> Check {
    let folder = files::scratch("crash-lost")?;
    let mut server = Server::new(folder.path(), "lost")?.started()?;
    let writers = Writers::start(server.client_port, SMALL, 5, Vec::new());
    thread::sleep(Duration::from_millis(200));
    let (mut ledgers, written) = writers.stop()?;
    assert!(written.count > 0);
    settle(server.client_port, &mut ledgers.clone())?;
    server.kill();
    server.data_dir = folder.path().join("empty");
    server.start()?;
    server.wait_ready(START_LIMIT)?;
    let failure = settle(server.client_port, &mut ledgers).expect_err("an empty server holds no writes");
    assert!(failure.to_string().contains("acknowledged writes are gone"), "{failure}");
    Ok(())
}

/// A server that answers has everything that it acknowledged before: no 404, no older value.
#[test]
fn the_first_answer_after_a_restart_is_right() -> Check {
    let folder = files::scratch("crash-first")?;
    let mut server = Server::new(folder.path(), "first")?.with_args(["--snapshot-count", "50"]).started()?;
    for round in 0..5 {
        let value = format!("value {round}");
        for n in 0..30 {
            server.set(&format!("/filler/{n}"), &value)?;
        }
        server.set("/first", &value)?;
        server.kill();
        server.start()?;
        let response = first_answer(&server)?;
        let body = response.text();
        if response.status != 200 || !body.contains(&value) {
            fail!("round {round}: the first answer was {} {body}", response.status);
        }
        server.wait_ready(START_LIMIT)?;
    }
    Ok(())
}

fn first_answer(server: &Server) -> Check<tests::http::Response> {
    let end = Instant::now() + START_LIMIT;
    loop {
        let answer = Connection::open(server.client_port, START_LIMIT).and_then(|mut connection| {
            connection.call(&Request::new("GET", "/v2/keys/first"), &server.host())
        });
        if answer.is_ok() || Instant::now() > end {
            return answer;
        }
    }
}
