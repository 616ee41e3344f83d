//! `get` and `ls`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use shared::client;

use crate::error::CliError;
use crate::session::Session;

/// Read the value of a key
///
/// Prints the value and nothing else; `etcdctl -o extended get KEY` also tells its indexes and its time to live.
/// A directory has no value: list it with `etcdctl ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    /// Sort the answer (of use with -o json on old servers only)
    #[arg(long)]
    sort: bool,
    /// Ask for what a majority of the members has agreed on
    ///
    /// Without it, the member that is asked answers from what it knows, which may be a moment old.
    #[arg(long)]
    quorum: bool,
    /// The key, such as /config/db
    key: OsString,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl Get {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let client = session.connect().await?;
        let options = client::GetOptions { sorted: self.sort, quorum: self.quorum, recursive: false };
        let call = client.get(self.key.as_bytes(), options);
        let response = session.limit(call).await.map_err(CliError::Server)?;
        if response.node.dir {
            return Err(CliError::Failed(format!("{}: is a directory", response.node.key)));
        }
        session.out.response(&response, &session.settings.format)
    }
}

/// List what is in a directory
///
/// Prints one path a line. Keys whose name begins with an underscore are hidden: they are listed only when they
/// are asked for by name.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// In the order of the names
    #[arg(long)]
    sort: bool,
    /// With everything below
    #[arg(long)]
    recursive: bool,
    /// A slash behind the name of a directory
    #[arg(short = 'p')]
    p: bool,
    /// Ask for what a majority of the members has agreed on
    #[arg(long)]
    quorum: bool,
    /// The directory; the root if none is named
    key: Option<OsString>,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl List {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let client = session.connect().await?;
        let key = self.key.unwrap_or_else(|| "/".into());
        let options =
            client::GetOptions { sorted: self.sort, recursive: self.recursive, quorum: self.quorum };
        let response = session.limit(client.get(key.as_bytes(), options)).await.map_err(CliError::Server)?;
        session.out.listing(&response.node, self.p)
    }
}
