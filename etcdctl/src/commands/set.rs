//! `set` and `update`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use shared::client;

use super::{ttl_seconds, value_or_stdin};
use crate::error::CliError;
use crate::session::Session;
use shared::go_values;

/// Set the value of a key, whether it is there or not
///
/// Directories on the way are made. With --swap-with-value or --swap-with-index, only if the key still is what you
/// think it is: so that two who change it at once do not undo each other's work.
///
/// A value that begins with a dash looks like a flag; put -- in front: etcdctl set -- /temperature -7
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// Seconds until the key disappears; 0: it stays
    #[arg(long, value_name = "SECONDS", default_value = "0", hide_default_value = true, value_parser = go_values::integer)]
    ttl: i64,
    /// Only if this is the value now
    #[arg(long, value_name = "VALUE", default_value = "", hide_default_value = true)]
    swap_with_value: OsString,
    /// Only if this is the key's modified index now; 0: whatever it is
    #[arg(long, value_name = "INDEX", default_value = "0", hide_default_value = true, value_parser = go_values::integer)]
    swap_with_index: i64,
    /// The key, such as /config/db
    key: OsString,
    /// The value; without it, all of standard input
    value: Option<OsString>,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl Set {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let value = value_or_stdin(self.value)?;
        let client = session.connect().await?;
        let options = client::SetOptions {
            prev_value: self.swap_with_value.into_vec(),
            // A negative index is sent as the original sends it, and never compares equal.
            prev_index: self.swap_with_index.cast_unsigned(),
            ttl_seconds: ttl_seconds(self.ttl),
            ..client::SetOptions::default()
        };
        let call = client.set(self.key.as_bytes(), &value, options);
        let response = session.limit(call).await.map_err(CliError::Server)?;
        session.out.response(&response, &session.settings.format)
    }
}

/// Change the value of a key that is there
///
/// Without --ttl, a key that had a time to live stays from now on.
#[derive(Debug, clap::Args)]
pub(crate) struct Update {
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

impl Update {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let value = value_or_stdin(self.value)?;
        let client = session.connect().await?;
        let options = client::SetOptions {
            prev_exist: Some(true),
            ttl_seconds: ttl_seconds(self.ttl),
            ..client::SetOptions::default()
        };
        let call = client.set(self.key.as_bytes(), &value, options);
        let response = session.limit(call).await.map_err(CliError::Server)?;
        session.out.response(&response, &session.settings.format)
    }
}
