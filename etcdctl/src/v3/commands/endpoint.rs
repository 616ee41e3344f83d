//! The commands that ask each endpoint: `endpoint health`, `endpoint status`, `endpoint hashkv` and `defrag`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use shared::client::v3::{Client, RpcError};
use shared::quote::quote;
use shared::v3::pb::etcdserverpb::{
    AlarmRequest, DefragmentRequest, HashKvRequest, HashKvResponse, MemberListRequest, RangeRequest,
    StatusRequest, StatusResponse,
};

use super::super::failure::Failure;
use super::super::print::table::table;
use super::super::print::{Format, Object, header};
use super::super::run::{Run, Session};
use crate::output::note;

/// A member that refuses to read has answered.
const DENIED: &str = "etcdserver: permission denied";

/// Writes a line. Writing to a vector cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{ let _ = writeln!($out, $($text)*); }};
}

/// The endpoints of the command line, or all of the cluster with `--cluster`.
async fn endpoints(session: &Session<'_>) -> Result<Vec<String>, Failure> {
    if !session.line.flags.is_on("cluster") {
        return Ok(session.settings.endpoints.clone());
    }
    let answer = session
        .call(session.client.member_list(MemberListRequest { linearizable: true }))
        .await
        .map_err(|error| {
            Failure::server(format!("failed to fetch endpoints from etcd cluster member list: {error}"))
        })?;
    Ok(answer.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

/// What one endpoint said of its health.
struct Health {
    endpoint: String,
    took: Duration,
    error: Option<String>,
}

pub(super) async fn health(run: Run<'_>) -> Result<(), Failure> {
    let mut session = run.connect().await?;
    let mut clients = Vec::new();
    for endpoint in endpoints(&session).await? {
        let client = session.client_of(&endpoint)?;
        clients.push((endpoint, client));
    }
    // All at once: what one that is down costs is the limit, not a multiple of it.
    let mut asked = tokio::task::JoinSet::new();
    let limit = session.settings.command_timeout;
    for (at, (endpoint, client)) in clients.into_iter().enumerate() {
        asked.spawn(async move { (at, endpoint_health(endpoint, &client, limit).await) });
    }
    let mut answers = asked.join_all().await;
    answers.sort_by_key(|(at, _)| *at);
    let answers: Vec<Health> = answers.into_iter().map(|(_, health)| health).collect();
    show_health(&mut session, &answers)?;
    match answers.iter().all(|health| health.error.is_none()) {
        true => Ok(()),
        false => {
            session.printer.now("")?;
            Err(Failure::server("unhealthy cluster"))
        }
    }
}

/// Reads a key by consensus, and looks for alarms.
async fn endpoint_health(endpoint: String, client: &Client, limit: Duration) -> Health {
    let started = Instant::now();
    let read = RangeRequest { key: Bytes::from_static(b"health"), ..RangeRequest::default() };
    let outcome = match tokio::time::timeout(limit, client.range(read)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) if error.is(DENIED) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(RpcError::DeadlineExceeded),
    };
    let took = started.elapsed();
    let mut error = outcome.err().map(|error| error.to_string());
    if error.is_none()
        && let Ok(Ok(answer)) = tokio::time::timeout(limit, client.alarm(AlarmRequest::default())).await
        && !answer.alarms.is_empty()
    {
        let names: Vec<String> =
            answer.alarms.iter().map(|alarm| format!("{} ", alarm.alarm().as_str_name())).collect();
        error = Some(format!("Active Alarm(s): {}", names.concat()));
    }
    Health { endpoint, took, error }
}

fn show_health(session: &mut Session<'_>, answers: &[Health]) -> Result<(), Failure> {
    let mut out = Vec::new();
    match session.settings.format {
        Format::Simple => {
            for Health { endpoint, took, error } in answers {
                match error {
                    None => session.printer.now(&format!(
                        "{endpoint} is healthy: successfully committed proposal: took = {}\n",
                        go_duration(*took)
                    ))?,
                    Some(error) => {
                        note(&format!("{endpoint} is unhealthy: failed to commit proposal: {error}\n"))
                    }
                }
            }
        }
        Format::Json => {
            list(answers, &mut out, |health, object| {
                object.text("endpoint", &health.endpoint);
                object.raw("health", if health.error.is_none() { "true" } else { "false" });
                object.raw("took", &quote(go_duration(health.took)));
                object.text("error", health.error.as_deref().unwrap_or_default());
            });
        }
        Format::Fields => {
            for Health { endpoint, took, error } in answers {
                line!(out, "\"Endpoint\" : {}", quote(endpoint));
                line!(out, "\"Health\" : {}", error.is_none());
                line!(out, "\"Took\" : {}", go_duration(*took));
                line!(out, "\"Error\" : {}\n", error.as_deref().unwrap_or_default());
            }
        }
        Format::Table => {
            let rows: Vec<Vec<String>> = answers
                .iter()
                .map(|health| {
                    let error = health.error.clone().unwrap_or_default();
                    let healthy = health.error.is_none().to_string();
                    vec![health.endpoint.clone(), healthy, go_duration(health.took), error]
                })
                .collect();
            out.extend(table(&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], &rows).into_bytes());
        }
        format @ Format::Protobuf => return Err(format.unsupported()),
    }
    session.printer.bytes(&out)
}

/// A list of objects, in one line.
fn list<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Object<'_>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let mut object = Object::new(out);
        write(item, &mut object);
        object.end();
    }
    out.extend_from_slice(b"]\n");
}

/// A duration as Go writes it: `1.5ms`.
fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, scale) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    let digits = match scale {
        1 => 0,
        1_000 => 3,
        1_000_000 => 6,
        _ => 9,
    };
    let (whole, fraction) = (nanos / scale, nanos % scale);
    let fraction = format!("{fraction:0digits$}");
    match fraction.trim_end_matches('0') {
        _ if digits == 0 => format!("{whole}{unit}"),
        "" => format!("{whole}{unit}"),
        fraction => format!("{whole}.{fraction}{unit}"),
    }
}

/// Asks each endpoint; what fails is said, and makes the command fail at its end.
async fn each<T>(
    session: &mut Session<'_>,
    what: &str,
    call: impl AsyncFn(Client) -> Result<T, RpcError>,
) -> Result<(Vec<(String, T)>, Option<RpcError>), Failure> {
    let mut answers = Vec::new();
    let mut failed = None;
    for endpoint in endpoints(session).await? {
        let client = session.client_of(&endpoint)?;
        match session.limited(&client, call(client.clone())).await {
            Ok(answer) => answers.push((endpoint, answer)),
            Err(error) => {
                note(&format!("Failed to get the {what} of endpoint {endpoint} ({error})\n"));
                failed = Some(error);
            }
        }
    }
    Ok((answers, failed))
}

pub(super) async fn status(run: Run<'_>) -> Result<(), Failure> {
    let mut session = run.connect().await?;
    let (answers, failed) =
        each(&mut session, "status", async |client| client.status(StatusRequest {}).await).await?;
    if !answers.is_empty() || failed.is_none() {
        show_status(&mut session, &answers)?;
    }
    failed.map_or(Ok(()), |_| Err(Failure::Status(1)))
}

fn show_status(session: &mut Session<'_>, answers: &[(String, StatusResponse)]) -> Result<(), Failure> {
    let mut out = Vec::new();
    let rows = || answers.iter().map(status_row).collect::<Vec<_>>();
    match session.settings.format {
        Format::Simple => rows().iter().for_each(|row| line!(out, "{}", row.join(", "))),
        Format::Json => list(answers, &mut out, |(endpoint, answer), object| {
            object.text("Endpoint", endpoint);
            object.message("Status", Some(answer));
        }),
        Format::Fields => {
            for (endpoint, answer) in answers {
                status_fields(endpoint, answer, &mut out);
            }
        }
        Format::Table => {
            let titles = [
                "ENDPOINT",
                "ID",
                "VERSION",
                "DB SIZE",
                "IS LEADER",
                "IS LEARNER",
                "RAFT TERM",
                "RAFT INDEX",
                "RAFT APPLIED INDEX",
                "ERRORS",
            ];
            out.extend(table(&titles, &rows()).into_bytes());
        }
        format @ Format::Protobuf => return Err(format.unsupported()),
    }
    session.printer.bytes(&out)
}

fn status_row((endpoint, answer): &(String, StatusResponse)) -> Vec<String> {
    let id = answer.header.unwrap_or_default().member_id;
    vec![
        endpoint.clone(),
        format!("{id:x}"),
        answer.version.clone(),
        human_size(answer.db_size),
        (answer.leader == id).to_string(),
        answer.is_learner.to_string(),
        answer.raft_term.to_string(),
        answer.raft_index.to_string(),
        answer.raft_applied_index.to_string(),
        answer.errors.join(", "),
    ]
}

fn status_fields(endpoint: &str, answer: &StatusResponse, out: &mut Vec<u8>) {
    header(answer.header.as_ref(), out);
    line!(out, "\"Version\" : {}", quote(&answer.version));
    line!(out, "\"DBSize\" : {}", answer.db_size);
    line!(out, "\"Leader\" : {}", answer.leader);
    line!(out, "\"IsLearner\" : {}", answer.is_learner);
    line!(out, "\"RaftIndex\" : {}", answer.raft_index);
    line!(out, "\"RaftTerm\" : {}", answer.raft_term);
    line!(out, "\"RaftAppliedIndex\" : {}", answer.raft_applied_index);
    line!(out, "\"Errors\" : [{}]", answer.errors.join(" "));
    line!(out, "\"Endpoint\" : {}\n", quote(endpoint));
}

/// A size in decimal units with two digits: `20 kB`, `1.2 MB`.
pub(super) fn human_size(bytes: i64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let bytes = bytes.max(0);
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let (mut unit, mut scale) = (0, 1_i64);
    while bytes / scale >= 1000 && unit + 1 < units.len() {
        unit += 1;
        scale *= 1000;
    }
    // Rounded to a tenth of the unit.
    let tenths = (i128::from(bytes) * 10 + i128::from(scale) / 2) / i128::from(scale);
    let (whole, rest) = (tenths / 10, tenths % 10);
    // Halves go to the even number, as in Go.
    let rounded = if rest > 5 || (rest == 5 && whole % 2 == 1) { whole + 1 } else { whole };
    match whole {
        0..10 => format!("{whole}.{rest} {}", units[unit]),
        _ => format!("{rounded} {}", units[unit]),
    }
}

pub(super) async fn hash_kv(run: Run<'_>) -> Result<(), Failure> {
    let revision = run.line.flags.number("rev");
    let mut session = run.connect().await?;
    let (answers, failed) =
        each(&mut session, "hash", async |client| client.hash_kv(HashKvRequest { revision }).await).await?;
    if !answers.is_empty() || failed.is_none() {
        show_hash(&mut session, &answers)?;
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn show_hash(session: &mut Session<'_>, answers: &[(String, HashKvResponse)]) -> Result<(), Failure> {
    let mut out = Vec::new();
    match session.settings.format {
        Format::Simple => {
            answers.iter().for_each(|(endpoint, answer)| line!(out, "{endpoint}, {}", answer.hash))
        }
        Format::Json => list(answers, &mut out, |(endpoint, answer), object| {
            object.text("Endpoint", endpoint);
            object.message("HashKV", Some(answer));
        }),
        Format::Fields => {
            for (endpoint, answer) in answers {
                header(answer.header.as_ref(), &mut out);
                line!(out, "\"Endpoint\" : {}", quote(endpoint));
                line!(out, "\"Hash\" : {}\n", answer.hash);
            }
        }
        Format::Table => {
            let rows: Vec<Vec<String>> = answers
                .iter()
                .map(|(endpoint, answer)| vec![endpoint.clone(), answer.hash.to_string()])
                .collect();
            out.extend(table(&["ENDPOINT", "HASH"], &rows).into_bytes());
        }
        format @ Format::Protobuf => return Err(format.unsupported()),
    }
    session.printer.bytes(&out)
}

pub(super) async fn defrag(run: Run<'_>) -> Result<(), Failure> {
    let mut session = run.connect().await?;
    let mut failed = false;
    for endpoint in endpoints(&session).await? {
        let client = session.client_of(&endpoint)?;
        match session.limited(&client, client.defragment(DefragmentRequest {})).await {
            Ok(_) => session.printer.now(&format!("Finished defragmenting etcd member[{endpoint}]\n"))?,
            Err(error) => {
                note(&format!("Failed to defragment etcd member[{endpoint}] ({error})\n"));
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Status(1)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (15, "15ns"),
            (1_500, "1.5µs"),
            (1_234_567, "1.234567ms"),
            (2_000_000, "2ms"),
            (5_000_000_001, "5.000000001s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (20_480, "20 kB"),
            (1_200_000, "1.2 MB"),
            (999, "999 B"),
            (21_600, "22 kB"),
        ] {
            assert_eq!(human_size(bytes), text);
        }
    }
}
