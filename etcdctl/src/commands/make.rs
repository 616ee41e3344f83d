//! `mk`, and the commands that make directories: `mkdir`, `setdir`, `updatedir`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use shared::client;

use super::{ttl_seconds, value_or_stdin};
use crate::error::CliError;
use crate::session::Session;
use shared::go_values;

/// Make a key that is not there yet
///
/// Fails if the key exists, so that of several who try, one succeeds. With --in-order, the key is a directory, and
/// the cluster makes a key in it whose name is larger than all before: a queue.
#[derive(Debug, clap::Args)]
pub(crate) struct Make {
    /// Make a key in the directory KEY, named by the cluster in the order of creation
    #[arg(long)]
    in_order: bool,
    /// Seconds until the key disappears; 0: it stays
    #[arg(long, value_name = "SECONDS", default_value = "0", hide_default_value = true, value_parser = go_values::integer)]
    ttl: i64,
    /// The key
    key: OsString,
    /// The value; without it, all of standard input
    value: Option<OsString>,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl Make {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let value = value_or_stdin(self.value)?;
        let client = session.connect().await?;
        let (key, ttl_seconds) = (self.key.as_bytes(), ttl_seconds(self.ttl));
        let response = if self.in_order {
            session.limit(client.create_in_order(key, &value, ttl_seconds)).await
        } else {
            let options =
                client::SetOptions { prev_exist: Some(false), ttl_seconds, ..client::SetOptions::default() };
            session.limit(client.set(key, &value, options)).await
        };
        session.out.response(&response.map_err(CliError::Server)?, &session.settings.format)
    }
}

/// Make a directory that is not there yet
///
/// Seldom needed: to set a key makes the directories above it. Of use for an empty one, or one that disappears
/// with everything in it.
#[derive(Debug, clap::Args)]
pub(crate) struct MakeDir {
    #[command(flatten)]
    dir: Dir,
}

/// Make a directory, in place of a key of that name if there is one
///
/// A directory that is there already is left alone, with an error.
#[derive(Debug, clap::Args)]
pub(crate) struct SetDir {
    #[command(flatten)]
    dir: Dir,
}

/// Change the time to live of a directory that is there
#[derive(Debug, clap::Args)]
pub(crate) struct UpdateDir {
    #[command(flatten)]
    dir: Dir,
}

#[derive(Debug, clap::Args)]
struct Dir {
    /// Seconds until the directory disappears with all that is in it; 0: it stays
    #[arg(long, value_name = "SECONDS", default_value = "0", hide_default_value = true, value_parser = go_values::integer)]
    ttl: i64,
    /// The directory, such as /config
    key: OsString,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl MakeDir {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        self.dir.set(session, Some(false)).await
    }
}

impl SetDir {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        self.dir.set(session, None).await
    }
}

impl UpdateDir {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        self.dir.set(session, Some(true)).await
    }
}

impl Dir {
    /// Prints nothing on success.
    async fn set(self, session: &mut Session<'_>, prev_exist: Option<bool>) -> Result<(), CliError> {
        let client = session.connect().await?;
        let options = client::SetOptions {
            dir: true,
            prev_exist,
            ttl_seconds: ttl_seconds(self.ttl),
            ..client::SetOptions::default()
        };
        let call = client.set(self.key.as_bytes(), b"", options);
        session.limit(call).await.map(drop).map_err(CliError::Server)
    }
}
