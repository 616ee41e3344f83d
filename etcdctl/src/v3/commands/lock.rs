//! `lock` and `elect`: a queue of keys with leases. The holder's key is the oldest below the name.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use shared::client::v3::{Client, RpcError};
use shared::v3::pb::etcdserverpb::compare::{CompareTarget, TargetUnion};
use shared::v3::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use shared::v3::pb::etcdserverpb::request_op::Request;
use shared::v3::pb::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, WatchCreateRequest,
};
use shared::v3::pb::mvccpb::event::EventType;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::super::failure::Failure;
use super::super::run::{Run, Session};
use super::{kv, range};
use crate::output::note;

/// The time to live of a candidate.
const ELECTION_TTL: i64 = 60;

/// A place in the queue.
#[derive(Debug, Clone)]
struct Place {
    prefix: Vec<u8>,
    key: Bytes,
    revision: i64,
}

pub(super) async fn lock(run: Run<'_>) -> Result<(), Failure> {
    let line = run.line;
    let Some((name, command)) = line.arguments.split_first() else {
        return Err(Failure::arguments("lock takes a lock name argument and an optional command to execute"));
    };
    let ttl = if line.flags.is_given("ttl") { line.flags.number("ttl") } else { 10 };
    let name = name.to_string_lossy().into_owned();
    let mut session = run.connect().await?;
    // Before there is anything to give up.
    let mut stop = Stop::new()?;
    let lease = session.call(session.client.lease_grant(LeaseGrantRequest { ttl, id: 0 })).await?.id;
    let client = session.client.clone();
    let outcome = tokio::select! {
        () = stop.requested() => Ok(()),
        lost = keep(&client, lease, ttl) => Err(lost),
        outcome = hold_lock(&mut session, &name, lease, command) => outcome,
    };
    give_up(&session, lease).await;
    outcome
}

/// Waits for the lock, then runs the command or shows the key until something ends this.
async fn hold_lock(
    session: &mut Session<'_>,
    name: &str,
    lease: i64,
    command: &[std::ffi::OsString],
) -> Result<(), Failure> {
    let place = enqueue(&session.client, name, lease, Bytes::new()).await?;
    wait_for_turn(&session.client, &place).await?;
    let Some((program, arguments)) = command.split_first() else {
        let answer = session.client.range(of_key(&place.key)).await?;
        if answer.kvs.is_empty() {
            return Err(Failure::server("lock lost on init"));
        }
        session.printer.answer(&answer, |style, out| kv::simple_range(&answer, style, out))?;
        session.printer.now("")?;
        return std::future::pending().await;
    };
    let status = Command::new(program)
        .args(arguments)
        .env("ETCD_LOCK_KEY", String::from_utf8_lossy(&place.key).as_ref())
        .env("ETCD_LOCK_REV", place.revision.to_string())
        .kill_on_drop(true)
        .status()
        .await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::Status(exit_code(status))),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::server(format!(
            "exec: {}: executable file not found in $PATH",
            shared::quote::quote(program.to_string_lossy().as_bytes())
        ))),
        Err(error) => Err(Failure::server(error)),
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

pub(super) async fn elect(run: Run<'_>) -> Result<(), Failure> {
    let line = run.line;
    if line.arguments.is_empty() || line.arguments.len() > 2 {
        return Err(Failure::arguments(
            "elect takes one election name argument and an optional proposal argument",
        ));
    }
    let listen = line.flags.is_on("listen");
    let name = line.argument(0);
    match line.arguments.get(1) {
        Some(_) if listen => Err(Failure::arguments("proposal given but -l is set")),
        None if !listen => Err(Failure::arguments("no proposal argument but -l not set")),
        None => observe(run.connect().await?, &name).await,
        Some(_) => {
            let proposal = Bytes::copy_from_slice(line.argument(1).as_bytes());
            campaign(run.connect().await?, &name, proposal).await
        }
    }
}

async fn campaign(mut session: Session<'_>, name: &str, proposal: Bytes) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let request = LeaseGrantRequest { ttl: ELECTION_TTL, id: 0 };
    let lease = session.call(session.client.lease_grant(request)).await?.id;
    let client = session.client.clone();
    let lead = async |session: &mut Session<'_>| {
        let place = enqueue(&session.client, name, lease, proposal).await?;
        wait_for_turn(&session.client, &place).await?;
        let answer = session.client.range(of_key(&place.key)).await?;
        session.printer.answer(&answer, |style, out| kv::simple_range(&answer, style, out))?;
        session.printer.now("")?;
        std::future::pending().await
    };
    let outcome = tokio::select! {
        () = stop.requested() => Ok(()),
        lost = keep(&client, lease, ELECTION_TTL) => Err(lost),
        outcome = lead(&mut session) => outcome,
    };
    give_up(&session, lease).await;
    outcome
}

/// Prints each leader.
async fn observe(mut session: Session<'_>, name: &str) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let prefix = format!("{name}/").into_bytes();
    let follow = async |session: &mut Session<'_>| -> Result<(), Failure> {
        let mut shown = None;
        loop {
            let answer = session.client.range(oldest(&prefix)).await?;
            let leader = answer.kvs.first().map(|kv| (kv.create_revision, kv.mod_revision));
            if leader.is_some() && leader != shown {
                session.printer.answer(&answer, |style, out| kv::simple_range(&answer, style, out))?;
                session.printer.now("")?;
            }
            shown = leader;
            let (key, range_end) = range::of_prefix(&prefix);
            let start_revision = answer.header.map_or(0, |header| header.revision) + 1;
            let watch =
                WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() };
            wait_for_event(&session.client, watch, |_| true).await?;
        }
    };
    tokio::select! {
        () = stop.requested() => Ok(()),
        outcome = follow(&mut session) => outcome,
    }
}

/// Puts the key of the lease below the name, unless it is there.
async fn enqueue(client: &Client, name: &str, lease: i64, value: Bytes) -> Result<Place, Failure> {
    use shared::v3::pb::etcdserverpb::response_op::Response;
    let prefix = format!("{name}/").into_bytes();
    let key = Bytes::from(format!("{name}/{lease:x}"));
    let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
    let absent = Compare {
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Compare::default()
    };
    let request = TxnRequest {
        compare: vec![absent],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: vec![RequestOp { request: Some(Request::RequestRange(of_key(&key))) }],
    };
    let answer = client.txn(request).await?;
    let revision = match answer.responses.first().and_then(|response| response.response.as_ref()) {
        Some(Response::ResponseRange(found)) => found.kvs.first().map_or(0, |kv| kv.create_revision),
        _ => answer.header.map_or(0, |header| header.revision),
    };
    Ok(Place { prefix, key, revision })
}

/// Waits until no older key is left, then makes sure that the own one still is.
async fn wait_for_turn(client: &Client, place: &Place) -> Result<(), Failure> {
    loop {
        let before = client.range(before(place)).await?;
        let Some(last) = before.kvs.first() else { break };
        let watch = WatchCreateRequest {
            key: last.key.clone(),
            start_revision: before.header.map_or(0, |header| header.revision) + 1,
            ..WatchCreateRequest::default()
        };
        wait_for_event(client, watch, |kind| kind == EventType::Delete).await?;
    }
    let own: RangeResponse = client.range(of_key(&place.key)).await?;
    if own.kvs.is_empty() {
        return Err(Failure::server("mutex: session is expired"));
    }
    Ok(())
}

/// Waits for an event; a lost connection counts as one, because the caller looks again.
async fn wait_for_event(
    client: &Client,
    watch: WatchCreateRequest,
    matches: impl Fn(EventType) -> bool,
) -> Result<(), Failure> {
    let mut stream = client.watch(watch).await?;
    loop {
        match stream.next().await {
            Ok(answer) if answer.canceled => return Ok(()),
            Ok(answer) if answer.events.iter().any(|event| matches(event.r#type())) => return Ok(()),
            Ok(_) => {}
            Err(RpcError::Broken(_) | RpcError::Ended) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn of_key(key: &Bytes) -> RangeRequest {
    RangeRequest { key: key.clone(), ..RangeRequest::default() }
}

/// The youngest key that is older than the own one.
fn before(place: &Place) -> RangeRequest {
    let (key, range_end) = range::of_prefix(&place.prefix);
    RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Create.into(),
        max_create_revision: place.revision - 1,
        ..RangeRequest::default()
    }
}

fn oldest(prefix: &[u8]) -> RangeRequest {
    let (key, range_end) = range::of_prefix(prefix);
    RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

/// Keeps the lease alive. Ends when it is lost.
async fn keep(client: &Client, lease: i64, ttl: i64) -> Failure {
    let pause = Duration::from_secs(ttl.max(1).unsigned_abs()) / 3;
    loop {
        match client.keep_alive(lease).await {
            Ok(mut stream) => loop {
                match stream.answer().await {
                    Ok(answer) if answer.ttl <= 0 => return Failure::server("session expired"),
                    Ok(_) => tokio::time::sleep(pause).await,
                    Err(RpcError::Broken(_) | RpcError::Ended) => break,
                    Err(error) => return error.into(),
                }
                if stream.renew(lease).await.is_err() {
                    break;
                }
            },
            Err(RpcError::Broken(_) | RpcError::Ended) => {}
            Err(error) => return error.into(),
        }
    }
}

/// Revokes the lease, and with it the key.
async fn give_up(session: &Session<'_>, lease: i64) {
    if let Err(error) = session.call(session.client.lease_revoke(LeaseRevokeRequest { id: lease })).await {
        note(&format!("lease {lease:016x} is not revoked and expires by itself: {error}\n"));
    }
}

/// The signals that end a lock.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Stop, Failure> {
        let install = |kind| signal(kind).map_err(|error| Failure::server(format!("signals: {error}")));
        Ok(Stop {
            interrupt: install(SignalKind::interrupt())?,
            terminate: install(SignalKind::terminate())?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
