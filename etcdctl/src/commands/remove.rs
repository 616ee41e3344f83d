//! `rm` and `rmdir`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use shared::client;

use crate::error::CliError;
use crate::session::Session;
use shared::go_values;

/// Remove a key or a directory
///
/// With --with-value or --with-index, only if the key still is what you think it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    /// Also an empty directory
    #[arg(long)]
    dir: bool,
    /// Also a directory with everything below it
    #[arg(long)]
    recursive: bool,
    /// Only if this is the value now
    #[arg(long, value_name = "VALUE", default_value = "", hide_default_value = true)]
    with_value: OsString,
    /// Only if this is the key's modified index now; 0: whatever it is
    #[arg(long, value_name = "INDEX", default_value = "0", hide_default_value = true, value_parser = go_values::integer)]
    with_index: i64,
    /// The key
    key: OsString,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl Remove {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let options = client::DeleteOptions {
            prev_value: self.with_value.into_vec(),
            prev_index: self.with_index.cast_unsigned(),
            dir: self.dir,
            recursive: self.recursive,
        };
        delete(session, &self.key, options).await
    }
}

/// Remove an empty directory, or a key
#[derive(Debug, clap::Args)]
pub(crate) struct RemoveDir {
    /// The directory
    key: OsString,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl RemoveDir {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let options = client::DeleteOptions { dir: true, ..client::DeleteOptions::default() };
        delete(session, &self.key, options).await
    }
}

/// Deletes a node. Prints nothing for a directory.
async fn delete(
    session: &mut Session<'_>,
    key: &OsString,
    options: client::DeleteOptions,
) -> Result<(), CliError> {
    let client = session.connect().await?;
    let response = session.limit(client.delete(key.as_bytes(), options)).await.map_err(CliError::Server)?;
    if response.node.dir { Ok(()) } else { session.out.response(&response, &session.settings.format) }
}
