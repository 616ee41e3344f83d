//! `import`: writes the keys of a file into a cluster.
//!
//! ```text
//! source ─┬─ snapshot   of 0.4, read whole             ┐
//!         └─ export     JSON lines, read line by line  ┴─▶ Found ─▶ copy ─▶ write, as many at a time as -c says
//!                                                                    │
//!                                       progress, resume ◀─ ledger ◀─┘
//! ```
//!
//! Progress of a snapshot is printed as by etcdctl 2.x, key by key; of an export, with a bar and a count.

mod copy;
mod export;
mod ledger;
mod progress;
mod resume;
mod snapshot;
mod source;
mod write;

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use shared::client::{Client, ClientError};
use shared::time::UnixNanos;

use self::copy::{Copy, ImportEnd, Verbosity, log};
use self::export::ExportReader;
use self::ledger::{ImportProgress, Ledger, SourcePosition};
use self::progress::Bar;
use self::resume::Bookmark;
use self::snapshot::Snapshot;
use self::source::{Source, SourceKind};
use self::write::Writer;
use super::{fail_with_line, now};
use crate::error::CliError;
use crate::session::Session;
use shared::go_values;

/// The most requests at a time; more are of no use to any cluster.
const CLIENTS_MAX: i64 = 512;

/// Write the keys of a file into a cluster: of a snapshot of etcd 0.4, or of an export
///
/// The file is an export of `etcd-dump export`, a snapshot file of etcd 0.4 (snapshot/0_27.ss), or the store that
/// such a file holds as JSON; which it is shows in how it begins. - is standard input. Keys that the cluster has are
/// overwritten, others stay. Those with a time to live get what is left of it; those whose time is over are left out.
///
/// Of a snapshot, directories come with their keys, and hidden keys only where --hidden names them: what 0.4 kept of
/// itself (/_etcd) means nothing to 2.x. The first key that cannot be written ends the import.
///
/// Of an export all is written, empty directories and hidden keys too. What the cluster refuses is listed, the rest
/// goes on, and the status is 1 in the end. While nobody answers each key is tried for some seconds; then the import
/// stops. Begin it again with --resume, or without: to write a key twice does no harm.
///
/// --total-timeout is the time for one key here.
///
/// etcdctl import -c 32 --resume keys.jsonl
///
/// etcdctl import --snap /var/lib/etcd/snapshot/0_10027.ss --hidden /_registry
#[derive(Debug, clap::Args)]
#[command(override_usage = "etcdctl import [OPTIONS] --snap <FILE>\n       etcdctl import [OPTIONS] <FILE>")]
pub(crate) struct Import {
    /// The file; the same as to name it behind the flags
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    snap: OsString,
    /// Of a snapshot: a hidden key or directory to import too; may be given several times
    #[arg(long, value_name = "KEY", action = clap::ArgAction::Append)]
    hidden: Vec<OsString>,
    /// How many keys are written at a time, from 1 to 512
    #[arg(short = 'c', value_name = "NUMBER", default_value = "10", value_parser = clients)]
    clients: usize,
    /// Of a snapshot: make the directories that have no keys too
    #[arg(long)]
    dirs: bool,
    /// Leave alone what the cluster has already
    #[arg(long)]
    keep_existing: bool,
    /// Of an export: note in FILE.import how far it has come, and go on there if that file is there
    #[arg(long)]
    resume: bool,
    /// The file
    #[arg(value_name = "FILE")]
    file: Option<OsString>,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

/// The value of `-c`.
fn clients(text: &str) -> Result<usize, String> {
    let number = go_values::integer(text)?;
    match usize::try_from(number) {
        Ok(clients) if (1..=CLIENTS_MAX).contains(&number) => Ok(clients),
        _ => Err(format!("it must be a number from 1 to {CLIENTS_MAX}")),
    }
}

/// One node of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ImportNode {
    key: Vec<u8>,
    content: NodeContent,
    expiration: Option<UnixNanos>,
    position: SourcePosition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum NodeContent {
    Value(Vec<u8>),
    Dir,
}

/// An item read from a source.
#[derive(Debug, PartialEq, Eq)]
enum SourceItem {
    /// A node to write.
    Node(ImportNode),
    /// A directory of a snapshot, whose nodes follow.
    Entering(String),
    /// An expired node, or one in an expired directory.
    Expired(SourcePosition),
    /// A line that is not valid in an export.
    Bad(SourcePosition, String),
    /// The end of the source. What is wrong with it, if anything.
    End(Option<String>),
    /// The rest of the source cannot be read.
    Broken(String),
}

impl Import {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let path = match (&self.file, self.snap.is_empty()) {
            (_, false) => PathBuf::from(&self.snap),
            (Some(file), true) => PathBuf::from(file),
            (None, true) => return fail_with_line(session.out, "no snapshot file provided (use --snap)"),
        };
        let source = match Source::open(&path) {
            Ok(source) => source,
            Err(error) => return cannot_read(session, &path, &error),
        };
        match source.kind() {
            SourceKind::Export => self.export(session, &path, source).await,
            kind => self.snapshot(session, &path, source, kind).await,
        }
    }

    async fn snapshot(
        self,
        session: &mut Session<'_>,
        path: &Path,
        mut source: Source,
        kind: SourceKind,
    ) -> Result<(), CliError> {
        if self.resume {
            return Err(CliError::failed("--resume is for exports; a snapshot is imported as a whole"));
        }
        let mut bytes = Vec::new();
        if let Err(error) = source.read_to_end(&mut bytes) {
            return cannot_read(session, path, &error);
        }
        let snapshot = match kind {
            SourceKind::SnapshotFile => snapshot::state(bytes).and_then(|state| Snapshot::read(&state)),
            SourceKind::Store | SourceKind::Export => Snapshot::read(&bytes),
        };
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(why) => {
                return fail_with_line(session.out, &format!("cannot recover the snapshot file: {why}"));
            }
        };
        let clients = self.clients;
        session
            .out
            .line(&format!("starting to import snapshot {} with {clients} clients", path.display()))?;
        session.out.flush()?;
        let refused = |why| CliError::Server(ClientError::Refused(why));
        let snapshot = snapshot.with_hidden(&self.hidden).map_err(refused)?;
        let copy = Copy {
            writer: self.writer(session.connect().await?, session),
            clients,
            verbosity: Verbosity::EachKey,
            ledger: Ledger::default(),
            bar: Bar::none(),
            bookmark: None,
        };
        let (done, end) = copy.run(move |send| snapshot.visit(self.dirs, now, send)).await;
        if done.expired > 0 {
            log(&format!("left out, since their time is over: {}", done.expired));
        }
        if done.kept > 0 {
            log(&format!("left alone, since they are there already: {}", done.kept));
        }
        match end {
            ImportEnd::All(_) => session.out.line(&format!("finished importing {} keys", done.keys)),
            ImportEnd::Interrupted => {
                Err(CliError::Failed(format!("interrupted: {} keys were written", done.keys)))
            }
            ImportEnd::Stopped(why) => {
                log(&format!("failed to copy key: {why}"));
                Err(CliError::Printed)
            }
        }
    }

    async fn export(self, session: &mut Session<'_>, path: &Path, source: Source) -> Result<(), CliError> {
        if !self.hidden.is_empty() {
            return Err(CliError::failed(
                "--hidden is for snapshots; of an export all is imported, hidden keys too",
            ));
        }
        let bookmark = match self.resume {
            true => Some(Bookmark::of(path, &source).map_err(CliError::Failed)?),
            false => None,
        };
        let before = bookmark
            .as_ref()
            .map_or(Ok(ImportProgress::default()), Bookmark::read)
            .map_err(CliError::Failed)?;
        let clients = self.clients;
        session.out.line(&format!("starting to import {} with {clients} clients", path.display()))?;
        if before.lines > 0 {
            session.out.line(&format!("going on behind line {}", before.lines))?;
        }
        session.out.flush()?;
        let copy = Copy {
            writer: self.writer(session.connect().await?, session),
            clients,
            verbosity: Verbosity::Summary,
            ledger: Ledger::new(before),
            bar: Bar::new(source.len()),
            bookmark,
        };
        let read = move |send: &mut dyn FnMut(SourceItem) -> bool| {
            ExportReader::new(source).visit(before.lines, now, send)
        };
        let (done, end) = copy.run(read).await;
        let how_far = match &end {
            ImportEnd::All(_) => "finished importing",
            ImportEnd::Interrupted | ImportEnd::Stopped(_) => "imported so far:",
        };
        session.out.line(&format!("{how_far} {}", counted(done)))?;
        let why = match end {
            ImportEnd::All(None) if done.failed == 0 => return Ok(()),
            ImportEnd::All(None) => return Err(CliError::Printed),
            ImportEnd::All(Some(why)) => return Err(CliError::Failed(why)),
            ImportEnd::Interrupted => "interrupted".to_owned(),
            ImportEnd::Stopped(why) => why,
        };
        let advice = match self.resume {
            true => "the same command goes on there",
            false => "the same command begins anew, with --resume it notes how far it comes",
        };
        Err(CliError::Failed(format!("stopped behind line {}: {why}\n{advice}", done.lines)))
    }

    fn writer(&self, client: Client, session: &Session<'_>) -> Rc<Writer> {
        let limit = session.settings.total_timeout;
        Rc::new(Writer { client, keep_existing: self.keep_existing, limit, now })
    }
}

fn cannot_read(session: &mut Session<'_>, path: &Path, error: &io::Error) -> Result<(), CliError> {
    session.out.line(&format!("cannot read snapshot file {}", path.display()))?;
    // The original never says why. A missing file needs no reason.
    if error.kind() != ErrorKind::NotFound {
        session.out.note(&format!("{error}\n"))?;
    }
    Err(CliError::Printed)
}

/// `3 keys and 1 directory; 2 skipped (1 expired, 1 there already); 0 failed`
fn counted(done: ImportProgress) -> String {
    let ImportProgress { keys, dirs, expired, kept, failed, .. } = done;
    let number =
        |count: u64, one: &str, more: &str| format!("{count} {}", if count == 1 { one } else { more });
    format!(
        "{} and {}; {} skipped ({expired} expired, {kept} there already); {failed} failed",
        number(keys, "key", "keys"),
        number(dirs, "directory", "directories"),
        expired + kept
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_clients_has_bounds() {
        assert_eq!(clients("1"), Ok(1));
        assert_eq!(clients("0x200"), Ok(512));
        for bad in ["0", "-1", "513", "", "ten"] {
            assert!(clients(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_done_is_counted() {
        let done =
            ImportProgress { keys: 1, dirs: 2, expired: 3, kept: 4, failed: 5, ..ImportProgress::default() };
        assert_eq!(
            counted(done),
            "1 key and 2 directories; 7 skipped (3 expired, 4 there already); 5 failed"
        );
    }
}
