//! What members and proxies measure: their pages are exact, and the documentation, the alerts and the dashboard name
//! what is on them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tests::http::Request;
use tests::prometheus::{self, Family, Page};
use tests::server::{START_LIMIT, Server, cluster};
use tests::{Check, Context, Failure, fail, files};

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Prometheus's own, of every target.
const OF_PROMETHEUS: [&str; 1] = ["up"];

/// What Prometheus adds to every measure.
const LABELS_OF_PROMETHEUS: [&str; 3] = ["instance", "job", "le"];

fn measures(server: &Server) -> Check<Page> {
    let answer = server.call("GET", "/metrics")?;
    if answer.header("Content-Type").as_deref() != Some("text/plain; version=0.0.4") {
        fail!("the page has the type {:?}", answer.header("Content-Type"));
    }
    prometheus::page(&answer.text()).map_err(|why| Failure::new(format!("{}: {why}", server.name)))
}

/// Waits until the page of a server has these families.
fn wait_for(server: &Server, wanted: &[&str]) -> Check<Page> {
    let end = Instant::now() + PATIENCE;
    loop {
        let page = measures(server)?;
        let missing: Vec<_> = wanted.iter().filter(|name| !page.contains_key(**name)).collect();
        match missing[..] {
            [] => return Ok(page),
            _ if Instant::now() > end => fail!("{} has no {missing:?}", server.name),
            _ => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// The families of members and of a proxy that have seen everything happen that is counted. Played once.
fn all() -> Check<&'static Page> {
    static ALL: OnceLock<Result<Page, String>> = OnceLock::new();
    ALL.get_or_init(|| play().map_err(|why| why.to_string()))
        .as_ref()
        .map_err(|why| Failure::new(why.clone()))
}

fn play() -> Check<Page> {
    let folder = files::scratch("metrics")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let args = ["--snapshot-count", "50", "--heartbeat-interval", "50", "--election-timeout", "500"];
    let mut members = cluster(folder.path(), &names, &args.map(str::to_owned))?;
    let mut proxy = Server::new(folder.path(), "proxy")?.with_args(["-proxy", "on"]);
    proxy.initial_cluster = members[0].initial_cluster.clone();
    proxy.start()?;
    let end = Instant::now() + START_LIMIT;
    while !proxy.call("GET", "/v2/keys/").is_ok_and(|answer| answer.status == 200) {
        if Instant::now() > end {
            fail!("the proxy does not serve: {}", proxy.last_words());
        }
        thread::sleep(Duration::from_millis(50));
    }
    for number in 0..60 {
        members[number % 3].set(&format!("/k{number}"), "value")?;
    }
    members[0].call("GET", "/v2/keys/missing")?;
    members[0].call("GET", "/v2/keys/?recursive=true")?;
    proxy.set("/p", "1")?;
    let peers = ["etcd_network_peer_round_trip_time_seconds", "etcd_rs_peer_clock_difference_seconds"];
    let mut pages = Vec::new();
    for member in &members {
        pages.push(wait_for(member, &peers)?);
    }
    let leads = |member: &Server| {
        Ok::<_, Failure>(member.call("GET", "/metrics")?.text().contains("\netcd_server_is_leader 1\n"))
    };
    let mut leader = None;
    for (number, member) in members.iter().enumerate() {
        if leads(member)? {
            leader = Some(number);
        }
    }
    let leader = leader.context("nobody leads")?;
    // At the leader, messages to the stopped member fail.
    members[(leader + 1) % 3].kill();
    let failures = ["etcd_rafthttp_message_sent_failed_total", "etcd_rs_follower_lag_entries"];
    pages.push(wait_for(&members[leader], &failures)?);
    // And on the way of the proxy.
    for member in &mut members {
        member.kill();
    }
    proxy.call("GET", "/v2/keys/p")?;
    pages.push(wait_for(&proxy, &["etcd_proxy_dropped_total"])?);
    // A cluster with the third version of the API.
    let v3 = Server::new(folder.path(), "v3")?.with_args(["-cluster-level", "3.5"]).started()?;
    pages.push(wait_for(&v3, &["etcd_mvcc_db_total_size_in_bytes"])?);
    let mut all = Page::new();
    for (name, family) in pages.into_iter().flatten() {
        match all.get_mut(&name) {
            None => drop(all.insert(name, family)),
            Some(known) if known.kind != family.kind || known.help != family.help => {
                fail!("{name} is two things: {known:?} and {family:?}")
            }
            Some(known) => known.labels.extend(family.labels),
        }
    }
    Ok(all)
}

/// Families of etcd 2.3.8, with their kinds and labels: all of its page but Go's own and those of version 3's store.
const ORIGINAL: &str = "\
etcd_http_failed_total counter code method
etcd_http_received_total counter method
etcd_http_successful_duration_second histogram method
etcd_rafthttp_message_sent_failed_total counter msgType remoteID sendingType
etcd_rafthttp_message_sent_latency_seconds histogram msgType remoteID sendingType
etcd_server_file_descriptors_used_total gauge
etcd_server_pending_proposal_total gauge
etcd_server_proposal_durations_seconds histogram
etcd_server_proposal_failed_total counter
etcd_snapshot_save_marshalling_durations_seconds histogram
etcd_snapshot_save_total_durations_seconds histogram
etcd_store_expires_total counter
etcd_store_reads_total counter action
etcd_store_watch_requests_total counter
etcd_store_watchers gauge
etcd_store_writes_total counter action
etcd_wal_fsync_durations_seconds histogram
etcd_wal_last_index_saved gauge
process_cpu_seconds_total counter
process_max_fds gauge
process_open_fds gauge
process_resident_memory_bytes gauge
process_start_time_seconds gauge
process_virtual_memory_bytes gauge
";

fn line(name: &str, family: &Family) -> String {
    let labels: String = family.labels.iter().map(|label| format!(" {label}")).collect();
    format!("{name} {}{labels}", family.kind)
}

#[test]
fn the_original_s_families_are_there() -> Check {
    let served: BTreeSet<String> = all()?.iter().map(|(name, family)| line(name, family)).collect();
    let missing: Vec<&str> = ORIGINAL.lines().filter(|line| !served.contains(*line)).collect();
    if !missing.is_empty() {
        fail!("not served: {missing:#?}, but {served:#?}");
    }
    Ok(())
}

/// The rows of the page of documentation: name, type and labels.
fn documented() -> Check<BTreeSet<String>> {
    let page = files::read(&files::repository().join("Documentation/metrics.md"))?;
    let mut rows = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `etcd_") || line.starts_with("| `process_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { fail!("a row of {} cells: {row}", cells.len()) };
        let labels: BTreeSet<String> = labels
            .split(", ")
            .filter(|label| !label.is_empty())
            .map(|label| label.trim_matches('`').to_owned())
            .collect();
        let family = Family { kind: kind.to_owned(), help: meaning.to_owned(), labels };
        if meaning.is_empty() || !rows.insert(line(name.trim_matches('`'), &family)) {
            fail!("a row without a meaning, or twice: {row}");
        }
    }
    Ok(rows)
}

#[test]
fn the_documentation_lists_what_is_served_and_nothing_else() -> Check {
    let served: BTreeSet<String> = all()?.iter().map(|(name, family)| line(name, family)).collect();
    let documented = documented()?;
    let only_served: Vec<_> = served.difference(&documented).collect();
    let only_documented: Vec<_> = documented.difference(&served).collect();
    if !only_served.is_empty() || !only_documented.is_empty() {
        fail!("served, not so documented: {only_served:#?}\ndocumented, not so served: {only_documented:#?}");
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    lasting: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// The expressions of the alerts, by their names.
fn alerts() -> Check<Vec<(String, String)>> {
    let text = files::read(&files::repository().join("contrib/prometheus/etcd.rules.yml"))?;
    let rules: Rules = serde_saphyr::from_str(&text).context("etcd.rules.yml")?;
    let mut alerts = Vec::new();
    let mut names = BTreeSet::new();
    for rule in rules.groups.into_iter().filter(|group| !group.name.is_empty()).flat_map(|group| group.rules)
    {
        let lasts = rule.lasting.strip_suffix(['m', 'h']).is_some_and(|number| number.parse::<u32>().is_ok());
        let told = ["summary", "description"].iter().all(|part| rule.annotations.contains_key(*part));
        let severity = rule.labels.get("severity").map_or("", String::as_str);
        if !lasts || !told || !["critical", "warning", "info"].contains(&severity) {
            fail!("{} has no time, no severity or no text", rule.alert);
        }
        if !names.insert(rule.alert.clone()) {
            fail!("{} stands there twice", rule.alert);
        }
        alerts.push((rule.alert, rule.expr));
    }
    Ok(alerts)
}

/// The expressions of the dashboard, by the titles of their panels.
fn panels() -> Check<Vec<(String, String)>> {
    let text = files::read(&files::repository().join("contrib/grafana/etcd.json"))?;
    let dashboard: Value = serde_json::from_str(&text).context("etcd.json")?;
    let mut expressions = Vec::new();
    let (mut ids, mut places) = (BTreeSet::new(), Vec::new());
    for panel in dashboard["panels"].as_array().context("panels")? {
        let title = panel["title"].as_str().context("a title")?;
        let place = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap_or(u64::MAX / 4));
        let [x, y, w, h] = place;
        let meets = |other: &[u64; 4]| {
            x < other[0] + other[2] && other[0] < x + w && y < other[1] + other[3] && other[1] < y + h
        };
        if x + w > 24 || places.iter().any(meets) || !ids.insert(panel["id"].as_u64()) {
            fail!("the panel {title} has no place or id of its own");
        }
        places.push(place);
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        if targets.is_empty() && panel["type"] != "row" {
            fail!("the panel {title} shows nothing");
        }
        for target in targets {
            let expression = target["expr"].as_str().context("an expression")?;
            expressions.push((title.to_owned(), expression.to_owned()));
        }
    }
    let chosen_by =
        dashboard["templating"]["list"][1]["query"]["query"].as_str().context("the job's query")?;
    let measure = chosen_by.strip_prefix("label_values(").and_then(|rest| rest.split_once(','));
    expressions.push(("job".to_owned(), measure.context("label_values")?.0.to_owned()));
    Ok(expressions)
}

/// Fails if an expression uses a measure or a label that is not served.
fn check(expression: &str, served: &Page) -> Check {
    let asked = prometheus::expression(&expression.replace("$__rate_interval", "5m"))?;
    let mut labels: BTreeSet<&str> = LABELS_OF_PROMETHEUS.into();
    for measure in asked.measures.iter().filter(|measure| !OF_PROMETHEUS.contains(&measure.as_str())) {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| {
            served.get(measure.strip_suffix(part)?).filter(|family| family.kind == "histogram")
        });
        let plain = served.get(measure).filter(|family| family.kind != "histogram");
        let Some(family) = plain.or(of_histogram) else { fail!("{measure} is not served") };
        labels.extend(family.labels.iter().map(String::as_str));
    }
    match asked.labels.iter().find(|label| !labels.contains(label.as_str())) {
        Some(label) => fail!("none of {:?} has the label {label}", asked.measures),
        None => Ok(()),
    }
}

#[test]
fn alerts_and_dashboard_ask_for_what_is_served() -> Check {
    let served = all()?;
    let (alerts, panels) = (alerts()?, panels()?);
    if alerts.len() < 10 || panels.len() < 20 {
        fail!("only {} alerts and {} expressions of panels", alerts.len(), panels.len());
    }
    let wrong: Vec<String> = alerts
        .iter()
        .chain(&panels)
        .filter_map(|(name, expression)| Some(format!("{name}: {}", check(expression, served).err()?)))
        .collect();
    if !wrong.is_empty() {
        fail!("{}", wrong.join("\n"));
    }
    // The check itself must be able to fail.
    for wrong in [
        "etcd_server_has_leaders == 0",
        "rate(etcd_wal_fsync_durations_seconds[5m])",
        "etcd_server_has_leader_bucket",
        "sum by (peer) (etcd_rs_peer_queue_messages)",
        "etcd_http_failed_total{status=\"500\"}",
    ] {
        if check(wrong, served).is_ok() {
            fail!("{wrong} went through");
        }
    }
    Ok(())
}

#[test]
fn a_member_without_a_majority_lives_and_is_not_ready() -> Check {
    let folder = files::scratch("ready")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let mut members = cluster(folder.path(), &names, &[])?;
    for page in ["/livez", "/readyz", "/readyz/log", "/readyz/leader"] {
        let answer = members[0].call("GET", page)?;
        if (answer.status, answer.text().as_str()) != (200, "ok\n") {
            fail!("{page} answers {}: {}", answer.status, answer.text());
        }
    }
    let verbose = members[1].call("GET", "/readyz?verbose")?.text();
    let documented = files::read(&files::repository().join("Documentation/metrics.md"))?;
    if !documented.contains(&format!("/readyz?verbose\n{verbose}```")) {
        fail!("the documentation shows another answer than {verbose}");
    }
    members[1].kill();
    members[2].kill();
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = members[0].call("GET", "/readyz")?;
        if answer.status == 503 && answer.text().contains("[-]leader failed: no leader is known\n") {
            break;
        }
        if Instant::now() > end {
            fail!("/readyz answers {}: {}", answer.status, answer.text());
        }
        thread::sleep(Duration::from_millis(100));
    }
    let live = members[0].call("GET", "/livez?verbose")?;
    let ill = members[0].call("GET", "/health")?;
    if (live.status, ill.status) != (200, 503) {
        fail!("/livez answers {}, /health {}", live.status, ill.status);
    }
    members[1].start()?;
    members[1].wait_ready(START_LIMIT)?;
    if members[0].call("GET", "/readyz")?.status != 200 {
        fail!("not ready with a majority: {}", members[0].call("GET", "/readyz?verbose")?.text());
    }
    Ok(())
}

/// The lines of the next connection up to one that begins so.
fn lines_until(listener: &TcpListener, wanted: &str) -> Check<Vec<String>> {
    let (stream, _) = listener.accept().context("accept")?;
    stream.set_read_timeout(Some(PATIENCE)).context("a limit")?;
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.context("a line")?;
        let is_last = line.starts_with(wanted);
        lines.push(line);
        if is_last {
            return Ok(lines);
        }
    }
    fail!("the connection ended before {wanted}: {lines:?}")
}

#[test]
fn graphite_gets_figures_and_0_4_s_page_shows_them() -> Check {
    let folder = files::scratch("graphite")?;
    let carbon = TcpListener::bind("127.0.0.1:0").context("a port")?;
    let address = carbon.local_addr().context("its address")?;
    let plain = Server::new(folder.path(), "plain")?.started()?;
    let mut member = Server::new(folder.path(), "m.1")?
        .with_args([format!("-graphite-host={address}"), "-trace=*".to_owned()])
        .started()?;
    member.set("/a", "1")?;
    let lines = lines_until(&carbon, "etcd.m.1.process_virtual_memory_bytes.value ")?;
    let is_line = |line: &&String| {
        let words: Vec<&str> = line.split(' ').collect();
        matches!(words[..], [name, value, time]
            if name.starts_with("etcd.m.1.") && value.parse::<f64>().is_ok() && time.parse::<u64>().is_ok())
    };
    if let Some(wrong) = lines.iter().find(|line| !is_line(line)) {
        fail!("no line for Carbon: {wrong}");
    }
    for name in [
        "etcd_rs_store_keys.value",
        "etcd_store_watchers.value",
        "etcd_wal_fsync_durations_seconds.99-percentile",
    ] {
        if !lines.iter().any(|line| line.starts_with(&format!("etcd.m.1.{name} "))) {
            fail!("no {name} in {lines:?}");
        }
    }
    // The first connection is gone. What is sent next, or kept meanwhile, comes by another.
    lines_until(&carbon, "etcd.m.1.process_virtual_memory_bytes.value ")?;

    let figures: Value =
        serde_json::from_str(&member.call("GET", "/debug/metrics")?.text()).context("JSON")?;
    if figures["etcd_store_watchers"]["value"] != 0 || figures["runtime.MemStats.Sys"]["value"].is_null() {
        fail!("/debug/metrics shows {figures}");
    }
    let text = member.call("GET", "/debug/metrics?format=text")?.text();
    if !text.contains("gauge etcd_store_watchers\n  value:               0\n") {
        fail!("/debug/metrics?format=text shows {text}");
    }
    let refused = member.send(&Request::new("PUT", "/debug/metrics"))?;
    let hidden = plain.call("GET", "/debug/metrics")?;
    if (refused.status, hidden.status) != (405, 404) {
        fail!("PUT gets {}, and without -trace GET gets {}", refused.status, hidden.status);
    }
    // The Graphite server has stopped: clients do not notice.
    drop(carbon);
    let end = Instant::now() + PATIENCE;
    let told = "cannot send metrics to Graphite at";
    while !member.said().contains(told) {
        let began = Instant::now();
        member.set("/a", "2")?;
        if began.elapsed() > Duration::from_secs(2) || Instant::now() > end {
            fail!("a write took {:?}; the log: {}", began.elapsed(), member.said());
        }
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_secs(3));
    if member.said().matches(told).count() != 1 {
        fail!("told more than once: {}", member.said());
    }
    let stopped = member.stop();
    if stopped.is_none() {
        fail!("the member did not stop");
    }
    drop(TcpStream::connect(address));
    Ok(())
}

#[test]
fn the_timers_of_0_4_run_in_a_cluster() -> Check {
    let folder = files::scratch("timers")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let members = cluster(folder.path(), &names, &["-trace=*".to_owned()])?;
    for number in 0..20 {
        members[0].set("/a", &number.to_string())?;
    }
    let mut counts = BTreeMap::new();
    for member in &members {
        let figures: Value =
            serde_json::from_str(&member.call("GET", "/debug/metrics")?.text()).context("JSON")?;
        for name in ["timer.appendentries.handle", "raft.event.heartbeat"] {
            let timer = &figures[name];
            let Some(count) = timer["count"].as_u64() else { continue };
            let values = ["min", "median", "max"].map(|value| timer[value].as_f64().unwrap_or(-1.0));
            if !(0.0 < values[0] && values[0] <= values[1] && values[1] <= values[2] && values[2] < 20e9) {
                fail!("{name} of {} shows {timer}", member.name);
            }
            *counts.entry(name).or_insert(0) += count;
        }
    }
    let of = |name| counts.get(name).copied().unwrap_or_default();
    if of("timer.appendentries.handle") < 20 || of("raft.event.heartbeat") < 10 {
        fail!("too few were timed: {counts:?}");
    }
    Ok(())
}
