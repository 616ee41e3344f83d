//! `check perf` and `check datascale`: writes at a given rate, and what the server makes of it.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use indicatif::ProgressBar;
use shared::client::v3::Client;
use shared::client::{Client as HttpClient, Endpoint, Options};
use shared::quote::quote;
use shared::v3::pb::etcdserverpb::{
    CompactionRequest, DefragmentRequest, DeleteRangeRequest, PutRequest, RangeRequest,
};
use tokio::time::Instant;

use super::super::failure::Failure;
use super::super::run::{Run, Session};
use super::range;
use crate::output::note;

/// A load: its names, how many write at once, and how much.
struct Load {
    names: &'static [&'static str],
    clients: u64,
    amount: u64,
}

/// Writes a second, for a minute.
const PERF: [Load; 4] = [
    Load { names: &["s", "small"], clients: 50, amount: 150 },
    Load { names: &["m", "medium"], clients: 200, amount: 1000 },
    Load { names: &["l", "large"], clients: 500, amount: 8000 },
    Load { names: &["xl", "xLarge"], clients: 1000, amount: 15000 },
];
/// Keys, as fast as they can be written.
const SCALE: [Load; 4] = [
    Load { names: &["s", "small"], clients: 50, amount: 10_000 },
    Load { names: &["m", "medium"], clients: 100, amount: 100_000 },
    Load { names: &["l", "large"], clients: 200, amount: 1_000_000 },
    Load { names: &["xl", "xLarge"], clients: 500, amount: 3_000_000 },
];
const PERF_SECONDS: u64 = 60;
const VALUE_BYTES: usize = 1024;
/// The share of the rate that has to be reached.
const RATE_SHARE_MIN: f64 = 0.9;
const SLOWEST_SECONDS_MAX: f64 = 0.5;
const DEVIATION_SECONDS_MAX: f64 = 0.1;
/// The page with the server's figures.
const METRICS_BYTES_MAX: usize = 16 << 20;
const METRICS_TIME: Duration = Duration::from_secs(5);
const RESIDENT: &str = "process_resident_memory_bytes ";

fn load<'a>(run: &Run<'_>, loads: &'a [Load]) -> Result<&'a Load, Failure> {
    let name = run.line.flags.text("load").unwrap_or_else(|| "s".to_owned());
    let load = loads.iter().find(|load| load.names.contains(&name.as_str()));
    load.ok_or_else(|| Failure::feature(format!("unknown load option {name}")))
}

/// What came of the writes.
struct Outcome {
    seconds: f64,
    /// Of the writes that succeeded.
    latencies: Vec<f64>,
    errors: BTreeMap<String, u64>,
}

pub(super) async fn perf(run: Run<'_>) -> Result<(), Failure> {
    let load = load(&run, &PERF)?;
    let prefix = run.line.flags.text("prefix").unwrap_or_else(|| "/etcdctl-check-perf/".to_owned());
    let mut session = run.connect().await?;
    demand_empty(&session, &prefix).await?;
    let count = load.amount * PERF_SECONDS;
    let outcome = write(&session.client, &prefix, load, count, Some(load.amount)).await;
    clean(&mut session, &prefix).await?;
    let (text, passed) = verdict(&outcome, load.amount);
    session.printer.now(&text)?;
    if passed { Ok(()) } else { Err(Failure::Status(1)) }
}

fn verdict(outcome: &Outcome, rate: u64) -> (String, bool) {
    let mut lines = Vec::new();
    let mut passed = true;
    let mut judge = |good: bool, text: String| {
        passed &= good;
        lines.push(format!("{}: {text}", if good { "PASS" } else { "FAIL" }));
    };
    if !outcome.errors.is_empty() {
        judge(false, "too many errors".to_owned());
        for (error, count) in &outcome.errors {
            judge(false, format!("ERROR({error}) -> {count}"));
        }
    }
    let reached = outcome.latencies.len() as f64 / outcome.seconds;
    match reached / rate as f64 > RATE_SHARE_MIN {
        true => judge(true, format!("Throughput is {:.0} writes/s", reached.ceil())),
        false => judge(false, format!("Throughput too low: {:.0} writes/s", reached.ceil())),
    }
    let slowest = outcome.latencies.iter().copied().fold(0.0, f64::max);
    match slowest > SLOWEST_SECONDS_MAX {
        true => judge(false, format!("Slowest request took too long: {slowest:.6}s")),
        false => judge(true, format!("Slowest request took {slowest:.6}s")),
    }
    let deviation = deviation(&outcome.latencies);
    match deviation > DEVIATION_SECONDS_MAX {
        true => judge(false, format!("Stddev too high: {deviation:.6}s")),
        false => judge(true, format!("Stddev is {deviation:.6}s")),
    }
    lines.push(if passed { "PASS" } else { "FAIL" }.to_owned());
    (lines.join("\n") + "\n", passed)
}

fn deviation(values: &[f64]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}

/// Refuses to work among keys of others.
async fn demand_empty(session: &Session<'_>, prefix: &str) -> Result<(), Failure> {
    let (key, range_end) = range::of_prefix(prefix.as_bytes());
    let request = RangeRequest { key, range_end, limit: 1, ..RangeRequest::default() };
    match session.call(session.client.range(request)).await?.kvs.is_empty() {
        true => Ok(()),
        false => Err(Failure::arguments(format!(
            "prefix {} has keys. Delete with 'etcdctl del --prefix {prefix}' first.",
            quote(prefix)
        ))),
    }
}

/// Deletes what was written; compacts and defragments as the flags say.
async fn clean(session: &mut Session<'_>, prefix: &str) -> Result<(), Failure> {
    let (key, range_end) = range::of_prefix(prefix.as_bytes());
    let request = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
    let answer = session.call(session.client.delete_range(request)).await?;
    if session.line.flags.is_on("auto-compact") {
        let revision = answer.header.map_or(0, |header| header.revision);
        session.printer.now(&format!("Compacting with revision {revision}\n"))?;
        session.call(session.client.compact(CompactionRequest { revision, physical: true })).await?;
        session.printer.now(&format!("Compacted with revision {revision}\n"))?;
    }
    if session.line.flags.is_on("auto-defrag") {
        for endpoint in session.settings.endpoints.clone() {
            session.printer.now(&format!("Defragmenting {}\n", quote(&endpoint)))?;
            let client = session.client_of(&endpoint)?;
            session.limited(&client, client.defragment(DefragmentRequest {})).await?;
            session.printer.now(&format!("Defragmented {}\n", quote(&endpoint)))?;
        }
    }
    Ok(())
}

/// Writes `count` keys, at most `rate` a second.
async fn write(client: &Client, prefix: &str, load: &Load, count: u64, rate: Option<u64>) -> Outcome {
    let progress = if stderr().is_terminal() { ProgressBar::new(count) } else { ProgressBar::hidden() };
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let value = Bytes::from(vec![b'x'; VALUE_BYTES]);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..load.clients {
        let (client, next, value, progress) = (client.clone(), next.clone(), value.clone(), progress.clone());
        let prefix = prefix.to_owned();
        tasks.spawn(async move {
            let (mut latencies, mut errors) = (Vec::new(), BTreeMap::<String, u64>::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return (latencies, errors);
                }
                if let Some(rate) = rate {
                    tokio::time::sleep_until(
                        started + Duration::from_secs(number) / u32::try_from(rate).unwrap_or(1),
                    )
                    .await;
                }
                let key = Bytes::from(format!("{prefix}{number:016x}"));
                let begun = Instant::now();
                match client.put(PutRequest { key, value: value.clone(), ..PutRequest::default() }).await {
                    Ok(_) => latencies.push(begun.elapsed().as_secs_f64()),
                    Err(error) => *errors.entry(error.to_string()).or_default() += 1,
                }
                progress.inc(1);
            }
        });
    }
    let mut outcome = Outcome { seconds: 0.0, latencies: Vec::new(), errors: BTreeMap::new() };
    for (latencies, errors) in tasks.join_all().await {
        outcome.latencies.extend(latencies);
        for (error, count) in errors {
            *outcome.errors.entry(error).or_default() += count;
        }
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    progress.finish_and_clear();
    outcome
}

pub(super) async fn data_scale(run: Run<'_>) -> Result<(), Failure> {
    let load = load(&run, &SCALE)?;
    let prefix = run.line.flags.text("prefix").unwrap_or_else(|| "/etcdctl-check-datascale/".to_owned());
    let mut session = run.connect().await?;
    demand_empty(&session, &prefix).await?;
    let endpoint = session.settings.endpoints.first().cloned().unwrap_or_default();
    let before = resident_bytes(&endpoint).await?;
    note(&format!(
        "Start data scale check for work load [{} key-value pairs, {VALUE_BYTES} bytes per key-value, \
                   {} concurrent clients].\n",
        load.amount, load.clients
    ));
    let client = session.client_of(&endpoint)?;
    let outcome = write(&client, &prefix, load, load.amount, None).await;
    let after = resident_bytes(&endpoint).await?;
    clean(&mut session, &prefix).await?;
    if !outcome.errors.is_empty() {
        let mut text = String::from("FAIL: too many errors\n");
        for (error, count) in outcome.errors {
            text.push_str(&format!("FAIL: ERROR({error}) -> {count}\n"));
        }
        session.printer.now(&text)?;
        return Err(Failure::Status(1));
    }
    let mebibytes = (after - before) / f64::from(1 << 20);
    session.printer.now(&format!("PASS: Approximate system memory used : {mebibytes:.2} MB.\n"))
}

/// The memory that a server uses, by its metrics.
async fn resident_bytes(endpoint: &str) -> Result<f64, Failure> {
    let failed = |reason: String| Failure::server(format!("failed to read {endpoint}/metrics: {reason}"));
    let options = Options { endpoints: vec![endpoint.to_owned()], ..Options::default() };
    let client = HttpClient::new(options).map_err(|error| failed(error.to_string()))?;
    let target = Endpoint::parse(endpoint).map_err(|error| failed(error.to_string()))?;
    let page = client.page(Method::GET, &target, "/metrics", &[], METRICS_BYTES_MAX);
    let page = tokio::time::timeout(METRICS_TIME, page)
        .await
        .map_err(|_| failed("context deadline exceeded".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&page.body);
    let line = text.lines().find_map(|line| line.strip_prefix(RESIDENT));
    line.and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| failed("it does not say how much memory is used".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(seconds: f64, latencies: Vec<f64>) -> Outcome {
        Outcome { seconds, latencies, errors: BTreeMap::new() }
    }

    #[test]
    fn rate_and_latencies_decide() {
        let (text, passed) = verdict(&outcome(1.0, vec![0.01; 150]), 150);
        assert!(passed, "{text}");
        assert_eq!(
            text,
            "PASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.010000s\nPASS: Stddev is 0.000000s\nPASS\n"
        );
        for wrong in [outcome(2.0, vec![0.01; 150]), outcome(1.0, vec![0.6; 150])] {
            let (text, passed) = verdict(&wrong, 150);
            assert!(!passed && text.contains("FAIL: ") && text.ends_with("\nFAIL\n"), "{text}");
        }
        let mut failed = outcome(1.0, vec![0.01; 150]);
        failed.errors.insert("etcdserver: no leader".to_owned(), 2);
        assert!(verdict(&failed, 150).0.contains("FAIL: ERROR(etcdserver: no leader) -> 2\n"));
    }
}
