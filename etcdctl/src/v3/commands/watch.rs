//! `watch`: prints events, and runs a command for each.
//!
//! All watches of a run share one stream. When the connection breaks they are created again on another one, each from
//! the revision behind the last that it has seen, so that no event is lost or printed twice.

use std::ffi::OsString;
use std::io::{BufRead as _, stdin};
use std::process::Command;

use shared::client::v3::{Client, RpcError, WatchStream};
use shared::quote::quote;
use shared::v3::pb::etcdserverpb::{WatchCreateRequest, WatchResponse};
use shared::v3::pb::mvccpb::Event;
use tokio::sync::mpsc;

use super::super::failure::Failure;
use super::super::print::Printer;
use super::super::run::{Run, Session};
use super::watch_arguments::{self, Environment, Request, Watch};
use crate::output::note;

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

pub(super) async fn watch(run: Run<'_>) -> Result<(), Failure> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let environment =
        Environment { key: variable("ETCDCTL_WATCH_KEY"), range_end: variable("ETCDCTL_WATCH_RANGE_END") };
    let line = run.line;
    if line.flags.is_on("interactive") {
        let session = run.connect().await?;
        return interactive(session, environment).await;
    }
    let before = line.has_dashes.then_some(line.before_dashes);
    let watch = watch_arguments::watch(&line.flags, &line.arguments, before, &environment)?;
    let mut session = run.connect().await?;
    let mut watches = Watches { client: session.client.clone(), stream: None, watches: Vec::new() };
    watches.add(watch).await?;
    while !watches.watches.is_empty() {
        let answer = watches.next().await?;
        watches.show(&answer, &mut session.printer)?;
    }
    Err(Failure::interrupted("watch is canceled by the server"))
}

async fn interactive(mut session: Session<'_>, environment: Environment) -> Result<(), Failure> {
    let (sender, mut lines) = mpsc::unbounded_channel();
    // Reading a terminal cannot be interrupted: the thread ends with the process.
    std::thread::spawn(move || {
        for line in stdin().lock().split(b'\n') {
            let line = line.map(|line| String::from_utf8_lossy(&line).into_owned());
            if sender.send(line.map_err(|error| error.to_string())).is_err() {
                return;
            }
        }
    });
    let mut watches = Watches { client: session.client.clone(), stream: None, watches: Vec::new() };
    loop {
        tokio::select! {
            answer = watches.next() => watches.show(&answer?, &mut session.printer)?,
            line = lines.recv() => {
                let line = line.unwrap_or_else(|| Err("EOF".to_owned())).map_err(|error| {
                    Failure::input(format!("error reading watch request line: {error}"))
                })?;
                match watch_arguments::line(&line, &environment)? {
                    Request::Watch(watch) => watches.add(*watch).await?,
                    Request::Progress => watches.request_progress().await?,
                    Request::Invalid(reason) => note(&format!("{reason}\n")),
                }
            }
        }
    }
}

/// The watches of a run and their stream.
struct Watches {
    client: Client,
    stream: Option<WatchStream>,
    watches: Vec<Active>,
}

/// One watch.
struct Active {
    request: WatchCreateRequest,
    command: Vec<OsString>,
    /// Once the server has created it.
    id: Option<i64>,
}

impl Watches {
    async fn add(&mut self, watch: Watch) -> Result<(), Failure> {
        let request = watch.request.clone();
        self.watches.push(Active { request: watch.request, command: watch.command, id: None });
        match &mut self.stream {
            // If the stream has ended, the next answer says so and all are created again.
            Some(stream) => drop(stream.create(request).await),
            None => self.open().await?,
        }
        Ok(())
    }

    async fn request_progress(&mut self) -> Result<(), Failure> {
        if let Some(stream) = &mut self.stream {
            let _ = stream.request_progress().await;
        }
        Ok(())
    }

    /// Opens a stream and creates all watches on it.
    async fn open(&mut self) -> Result<(), RpcError> {
        let mut watches = self.watches.iter_mut();
        let Some(first) = watches.next() else { return Ok(()) };
        first.id = None;
        let mut stream = self.client.watch(first.request.clone()).await?;
        for watch in watches {
            watch.id = None;
            stream.create(watch.request.clone()).await?;
        }
        self.stream = Some(stream);
        Ok(())
    }

    /// The next answer of any watch. Never without watches.
    async fn next(&mut self) -> Result<WatchResponse, Failure> {
        loop {
            let Some(stream) = &mut self.stream else {
                if self.watches.is_empty() {
                    return std::future::pending().await;
                }
                match self.open().await {
                    Ok(()) | Err(RpcError::Broken(_) | RpcError::Ended) => continue,
                    Err(error) => return Err(cancelled(&error)),
                }
            };
            match stream.next().await {
                Ok(answer) => return Ok(answer),
                Err(RpcError::Broken(_) | RpcError::Ended) => self.stream = None,
                Err(error) => return Err(cancelled(&error)),
            }
        }
    }

    /// Prints an answer and remembers what has been seen.
    fn show(&mut self, answer: &WatchResponse, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let revision = answer.header.map_or(0, |header| header.revision);
        if answer.created {
            // Watches are created in the order of their requests.
            if let Some(watch) = self.watches.iter_mut().find(|watch| watch.id.is_none()) {
                watch.id = Some(answer.watch_id);
                if watch.request.start_revision == 0 && revision > 0 {
                    watch.request.start_revision = revision + 1;
                }
            }
            if !answer.canceled {
                return Ok(());
            }
        }
        let is_progress = answer.events.is_empty() && !answer.canceled && revision > 0;
        if answer.canceled {
            printer.now("")?;
            note(&format!("watch was canceled ({})\n", reason(answer)));
        }
        // A request for progress is answered for the stream: each of its watches has seen all events.
        let ids: Vec<i64> = match answer.watch_id {
            -1 => self.watches.iter().filter_map(|watch| watch.id).collect(),
            id => vec![id],
        };
        for id in ids {
            let Some(at) = self.watches.iter().position(|watch| watch.id == Some(id)) else { continue };
            if is_progress {
                printer.bytes(format!("progress notify: {revision}\n").as_bytes())?;
            }
            let watch = &mut self.watches[at];
            print(answer, printer)?;
            execute(&watch.command, answer)?;
            let seen = answer.events.last().and_then(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
            // The rest of a fragment has the same revision.
            if let Some(seen) = seen.filter(|_| !answer.fragment) {
                watch.request.start_revision = seen + 1;
            }
            if answer.canceled {
                self.watches.remove(at);
            }
        }
        Ok(())
    }
}

fn cancelled(error: &RpcError) -> Failure {
    note(&format!("watch was canceled ({error})\n"));
    Failure::interrupted("watch is canceled by the server")
}

fn reason(answer: &WatchResponse) -> &str {
    match answer.cancel_reason.as_str() {
        _ if answer.compact_revision != 0 => COMPACTED,
        "" => FUTURE,
        reason => reason,
    }
}

fn print(answer: &WatchResponse, printer: &mut Printer<'_>) -> Result<(), Failure> {
    printer.answer(answer, |style, out| {
        for event in &answer.events {
            out.extend_from_slice(event.r#type().as_str_name().as_bytes());
            out.push(b'\n');
            event.prev_kv.iter().chain(&event.kv).for_each(|kv| style.write(kv, out));
        }
    })?;
    printer.now("")
}

/// Runs the command once for each event, one after the other.
fn execute(command: &[OsString], answer: &WatchResponse) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let revision = answer.header.map_or(0, |header| header.revision);
    for event in &answer.events {
        let outcome = Command::new(program).args(arguments).envs(variables(event, revision)).status();
        let error = match outcome {
            Ok(status) if status.success() => continue,
            Ok(status) => status.to_string().replace("exit status: ", "exit status "),
            Err(error) => error.to_string(),
        };
        let words: Vec<String> =
            command.iter().map(|word| quote(word.to_string_lossy().as_bytes())).collect();
        note(&format!("command [{}] error ({error})\n", words.join(" ")));
        return Err(Failure::Status(1));
    }
    Ok(())
}

/// What the command learns of an event.
fn variables(event: &Event, revision: i64) -> [(&'static str, String); 4] {
    let kv = event.kv.clone().unwrap_or_default();
    [
        ("ETCD_WATCH_REVISION", revision.to_string()),
        ("ETCD_WATCH_EVENT_TYPE", quote(event.r#type().as_str_name())),
        ("ETCD_WATCH_KEY", quote(&kv.key)),
        ("ETCD_WATCH_VALUE", quote(&kv.value)),
    ]
}
