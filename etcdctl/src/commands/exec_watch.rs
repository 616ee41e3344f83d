//! `exec-watch`.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::time::Duration;

use shared::client::{Response, WatchItem, Watcher};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::until_interrupted;
use super::watch::{first_index, with_progress};
use crate::error::CliError;
use crate::session::Session;
use shared::go_values;

/// How long to wait for a command to end, so that quick commands run in order.
const ORDER_GRACE: Duration = Duration::from_millis(50);

/// Run a command at each change of a key
///
/// The command gets the change in its environment: ETCD_WATCH_ACTION, ETCD_WATCH_KEY, ETCD_WATCH_VALUE and
/// ETCD_WATCH_MODIFIED_INDEX. A slow command does not hold up the next one. Ends when it is interrupted.
///
/// Put -- between the key and the command:
///
/// etcdctl exec-watch --recursive /config -- sh -c 'echo "$ETCD_WATCH_KEY is $ETCD_WATCH_VALUE"'
///
/// Without it, the last argument is the key, and those before it are the command.
#[derive(Debug, clap::Args)]
#[command(override_usage = "etcdctl exec-watch [OPTIONS] <KEY> -- <COMMAND> [ARGUMENTS]...")]
pub(crate) struct ExecWatch {
    /// Begin with the first change after this index; 0: with the next one from now on
    #[arg(long, value_name = "INDEX", default_value = "0", hide_default_value = true, value_parser = go_values::integer)]
    after_index: i64,
    /// Have the member send a progress notice after this time of silence; 0: none
    ///
    /// For proxies and firewalls in between that cut idle connections. A connection without notices is made again.
    #[arg(long, value_name = "DURATION", default_value = "0", hide_default_value = true, value_parser = go_values::duration)]
    progress: Duration,
    /// Also what is below the key
    #[arg(long)]
    recursive: bool,
    /// The key and the command
    #[arg(value_name = "KEY -- COMMAND")]
    arguments: Vec<OsString>,
}

impl ExecWatch {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let Some((key, command)) = key_and_command(&self.arguments) else {
            return Err(CliError::BadArguments("key and command to exec required"));
        };
        let client = session.connect().await?;
        let watcher = client.watch(key.as_bytes(), self.recursive, first_index(self.after_index));
        let watcher = with_progress(watcher, self.progress);
        until_interrupted(execute(watcher, command, session)).await
    }
}

/// Splits the arguments into key and command: `KEY -- COMMAND…`, or `COMMAND… KEY`.
fn key_and_command(arguments: &[OsString]) -> Option<(&OsStr, &[OsString])> {
    let (key, command) = match arguments.iter().skip(1).position(|argument| argument == "--") {
        Some(0) => (arguments.first()?, &arguments[2..]),
        // The separator belongs to the command: the key is still the first argument.
        Some(_) => (arguments.first()?, &arguments[1..]),
        None => {
            let (key, command) = arguments.split_last()?;
            (key, command)
        }
    };
    (!command.is_empty()).then_some((key, command))
}

async fn execute(
    mut watcher: Watcher<'_>,
    command: &[OsString],
    session: &mut Session<'_>,
) -> Result<(), CliError> {
    let mut running: Vec<Child> = Vec::new();
    loop {
        let response = match watcher.next().await.map_err(CliError::Server)? {
            WatchItem::Event(response) => response,
            WatchItem::Notice(notice) => {
                session.out.note(&format!("{notice}\n"))?;
                continue;
            }
        };
        if response.node.dir {
            session.out.note(&format!("Ignored dir {} change", response.node.key))?;
            continue;
        }
        reap(&mut running).await;
        match prepare(command, &response).spawn() {
            Ok(child) => running.push(child),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                let program = command[0].to_string_lossy();
                let error = error.to_string().to_lowercase();
                return Err(CliError::Failed(format!("fork/exec {program}: {error}")));
            }
            // The value does not fit into an environment; the next one may.
            Err(error) => session.out.note(&format!(
                "the command was not run for {} at index {}: {error}\n",
                response.node.key, response.node.modified_index
            ))?,
        }
    }
}

/// Removes the commands that have ended. If only one is running, waits a moment for its end.
async fn reap(running: &mut Vec<Child>) {
    running.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    if let [child] = running.as_mut_slice()
        && timeout(ORDER_GRACE, child.wait()).await.is_ok()
    {
        running.clear();
    }
}

/// The command with the event in its environment.
fn prepare(command: &[OsString], response: &Response) -> Command {
    let mut out = Command::new(&command[0]);
    out.args(&command[1..])
        .env("ETCD_WATCH_ACTION", &response.action)
        .env("ETCD_WATCH_MODIFIED_INDEX", response.node.modified_index.to_string())
        .env("ETCD_WATCH_KEY", &response.node.key)
        .env("ETCD_WATCH_VALUE", &response.node.value)
        .stdin(Stdio::null());
    out
}

#[cfg(test)]
mod tests {
    use shared::client::Node;

    use super::*;

    fn split(words: &[&str]) -> Option<(String, Vec<String>)> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let text = |word: &OsStr| word.to_string_lossy().into_owned();
        key_and_command(&words)
            .map(|(key, command)| (text(key), command.iter().map(|word| text(word)).collect()))
    }

    fn parts(key: &str, command: &[&str]) -> Option<(String, Vec<String>)> {
        Some((key.to_owned(), command.iter().map(|word| (*word).to_owned()).collect()))
    }

    #[test]
    fn the_key_is_first_before_the_separator_and_last_without_one() {
        assert_eq!(split(&["/a", "--", "sh", "-c", "x"]), parts("/a", &["sh", "-c", "x"]));
        assert_eq!(split(&["echo", "got", "/a"]), parts("/a", &["echo", "got"]));
        assert_eq!(split(&["/a", "sh", "--", "x"]), parts("/a", &["sh", "--", "x"]));
        assert_eq!(split(&["/a", "--", "env", "--", "x"]), parts("/a", &["env", "--", "x"]));
        for words in [&[][..], &["/a"], &["/a", "--"]] {
            assert_eq!(split(words), None, "{words:?}");
        }
    }

    #[test]
    fn the_event_is_in_the_environment() {
        let node = Node { key: "/a".into(), value: "v w".into(), modified_index: 7, ..Node::default() };
        let response = Response { action: "set".into(), node, prev_node: None, index: 9 };
        let command = prepare(&["env".into()], &response);
        let environment: Vec<_> =
            command.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))).collect();
        for pair in [
            ("ETCD_WATCH_ACTION", "set"),
            ("ETCD_WATCH_KEY", "/a"),
            ("ETCD_WATCH_MODIFIED_INDEX", "7"),
            ("ETCD_WATCH_VALUE", "v w"),
        ] {
            assert!(environment.contains(&(OsStr::new(pair.0), OsStr::new(pair.1))), "{pair:?}");
        }
    }
}
