//! `make-mirror`: copies keys to another cluster, then each change.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use bytes::Bytes;
use indicatif::ProgressBar;
use shared::client::Credentials;
use shared::client::v3::{Client, Options, RpcError};
use shared::net::{ClientTlsFiles, Role};
use shared::v3::pb::etcdserverpb::request_op::Request;
use shared::v3::pb::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchResponse,
};
use shared::v3::pb::mvccpb::Event;
use shared::v3::pb::mvccpb::event::EventType;

use super::super::failure::Failure;
use super::super::run::{Run, Session};
use super::super::words::Line;
use super::range;
use crate::output::Output;
use crate::password;
use shared::go_values;

/// Keys that are read at once.
const PAGE_KEYS: i64 = 1000;
/// Operations in one transaction: the limit of servers.
const OPERATIONS_MAX: usize = 128;
/// How often the number of keys is printed.
const REPORT: Duration = Duration::from_secs(30);
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// How keys are named at the destination.
#[derive(Debug, Clone)]
struct Naming {
    prefix: Vec<u8>,
    new_prefix: Vec<u8>,
}

impl Naming {
    /// The key at the destination.
    fn key(&self, key: &[u8]) -> Bytes {
        match key.strip_prefix(self.prefix.as_slice()) {
            Some(rest) => [&self.new_prefix, rest].concat().into(),
            None => Bytes::copy_from_slice(key),
        }
    }
}

pub(super) async fn make(run: Run<'_>) -> Result<(), Failure> {
    let line = run.line;
    if line.arguments.len() != 1 {
        return Err(Failure::arguments("make-mirror takes one destination argument"));
    }
    let text = |name| line.flags.text(name).unwrap_or_default();
    let no_prefix = line.flags.is_on("no-dest-prefix");
    if no_prefix && !text("dest-prefix").is_empty() {
        return Err(Failure::arguments(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
        ));
    }
    let prefix = text("prefix").into_bytes();
    let new_prefix = match text("dest-prefix").into_bytes() {
        _ if no_prefix => Vec::new(),
        given if given.is_empty() => prefix.clone(),
        given => given,
    };
    let credentials = destination_user(line, run.out)?;
    let session = run.connect().await?;
    let options = destination(line, &session, credentials)?;
    let destination = Client::new(options).map_err(Failure::connection)?;
    session.limited(&destination, destination.authenticate()).await.map_err(Failure::connection)?;
    mirror(session, destination, Naming { prefix, new_prefix }).await
}

fn destination_user(line: &Line, out: &mut Output) -> Result<Option<Credentials>, Failure> {
    let Some(user) = line.flags.text("dest-user").filter(|user| !user.is_empty()) else { return Ok(None) };
    let given = line.flags.text("dest-password").filter(|password| !password.is_empty());
    let (user, password) = match given {
        Some(password) => (user, password),
        None => password::split_or_ask(&user, "Destination Password: ", out)?,
    };
    Ok(Some(Credentials { user, password }))
}

fn destination(
    line: &Line,
    session: &Session<'_>,
    credentials: Option<Credentials>,
) -> Result<Options, Failure> {
    let file = |name| line.flags.text(name).filter(|path| !path.is_empty()).map(Into::into);
    let (cert, key, ca) = (file("dest-cert"), file("dest-key"), file("dest-cacert"));
    let plain =
        line.flags.text("dest-insecure-transport").is_none_or(|text| go_values::boolean(&text) == Some(true));
    Ok(Options {
        endpoints: line.argument(0).split(',').map(str::to_owned).collect(),
        tls_by_default: cert.is_some() || key.is_some() || ca.is_some() || !plain,
        tls: ClientTlsFiles {
            cert,
            key,
            ca: ca.into_iter().collect(),
            accept_common_name: false,
            role: Role::V3Tool,
        },
        dial_timeout: session.settings.dial_timeout,
        credentials,
        ..Options::default()
    })
}

/// Copies until it is interrupted.
async fn mirror(mut session: Session<'_>, destination: Client, naming: Naming) -> Result<(), Failure> {
    let progress = if stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let source = session.client.clone();
    let copied = std::cell::Cell::new(0_u64);
    let copy = async {
        let mut revision = copy_all(&source, &destination, &naming, &copied, &progress).await?;
        loop {
            revision = follow(&source, &destination, &naming, revision, &copied, &progress).await?;
        }
    };
    let report = async {
        loop {
            tokio::time::sleep(REPORT).await;
            if let Err(failure) = session.printer.now(&format!("{}\n", copied.get())) {
                return failure;
            }
        }
    };
    tokio::select! {
        outcome = copy => outcome,
        failure = report => Err(failure),
    }
}

/// Copies all keys at one revision, which it returns.
async fn copy_all(
    source: &Client,
    destination: &Client,
    naming: &Naming,
    copied: &std::cell::Cell<u64>,
    progress: &ProgressBar,
) -> Result<i64, Failure> {
    let (mut key, range_end) = range::of_prefix(&naming.prefix);
    let mut revision = 0;
    loop {
        let request = RangeRequest {
            key: key.clone(),
            range_end: range_end.clone(),
            limit: PAGE_KEYS,
            revision,
            ..RangeRequest::default()
        };
        let page = source.range(request).await?;
        if revision == 0 {
            revision = page.header.map_or(0, |header| header.revision);
        }
        for kv in &page.kvs {
            let put =
                PutRequest { key: naming.key(&kv.key), value: kv.value.clone(), ..PutRequest::default() };
            destination.put(put).await?;
            copied.set(copied.get() + 1);
            progress.set_message(format!("{} keys copied", copied.get()));
            progress.tick();
        }
        match page.kvs.last() {
            // The first key behind the last one.
            Some(last) if page.more => key = [&last.key[..], b"\0"].concat().into(),
            _ => return Ok(revision),
        }
    }
}

/// Copies changes until the connection breaks; returns the last revision that is copied.
async fn follow(
    source: &Client,
    destination: &Client,
    naming: &Naming,
    mut revision: i64,
    copied: &std::cell::Cell<u64>,
    progress: &ProgressBar,
) -> Result<i64, Failure> {
    let (key, range_end) = range::of_prefix(&naming.prefix);
    let watch =
        WatchCreateRequest { key, range_end, start_revision: revision + 1, ..WatchCreateRequest::default() };
    let mut stream = match source.watch(watch).await {
        Ok(stream) => stream,
        Err(RpcError::Broken(_) | RpcError::Ended) => return Ok(revision),
        Err(error) => return Err(error.into()),
    };
    loop {
        let answer: WatchResponse = match stream.next().await {
            Ok(answer) => answer,
            Err(RpcError::Broken(_) | RpcError::Ended) => return Ok(revision),
            Err(error) => return Err(error.into()),
        };
        if answer.canceled {
            let reason = if answer.compact_revision != 0 { COMPACTED } else { answer.cancel_reason.as_str() };
            return Err(Failure::server(reason));
        }
        for events in answer.events.chunk_by(|a, b| revision_of(a) == revision_of(b)) {
            for part in events.chunks(OPERATIONS_MAX) {
                let success = part.iter().map(|event| operation(event, naming)).collect();
                destination.txn(TxnRequest { success, ..TxnRequest::default() }).await?;
                copied.set(copied.get() + part.len() as u64);
                progress.set_message(format!("{} keys copied", copied.get()));
                progress.tick();
            }
            revision = events.first().map_or(revision, revision_of);
        }
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn operation(event: &Event, naming: &Naming) -> RequestOp {
    let kv = event.kv.clone().unwrap_or_default();
    let key = naming.key(&kv.key);
    let request = match event.r#type() {
        EventType::Put => Request::RequestPut(PutRequest { key, value: kv.value, ..PutRequest::default() }),
        EventType::Delete => {
            Request::RequestDeleteRange(DeleteRangeRequest { key, ..DeleteRangeRequest::default() })
        }
    };
    RequestOp { request: Some(request) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_exchanged() {
        let naming = |prefix: &str, new: &str| Naming { prefix: prefix.into(), new_prefix: new.into() };
        assert_eq!(naming("a/", "b/").key(b"a/x"), "b/x");
        assert_eq!(naming("a/", "").key(b"a/x"), "x");
        assert_eq!(naming("", "m/").key(b"x"), "m/x");
    }
}
