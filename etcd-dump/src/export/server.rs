//! Reads the keys of a running server through its API.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use shared::client::{Client, ClientError, Credentials, GetOptions, Node, Options, RequestError, Response};

use super::lines::Writer;

/// How long a server may take until it begins to answer: it collects the listing of all keys first.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// The error code for a missing key.
const KEY_NOT_FOUND: u16 = 100;

/// `NAME:PASSWORD`.
pub(super) fn credentials(text: &str) -> Credentials {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Credentials { user: user.to_owned(), password: password.to_owned() }
}

/// Writes all keys of a server, and the given hidden keys.
pub(super) fn write(
    options: Options,
    hidden: &[String],
    quorum: bool,
    writer: &mut Writer<impl Write>,
) -> Result<()> {
    let client = Client::new(Options { header_timeout: Some(HEADER_TIMEOUT), ..options })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut export = ServerExport { client: &client, quorum, writer, index: 0, is_split: false, replaced: 0 };
        export.tree("/").await.map_err(with_detail).context("the keys cannot be read")?;
        for key in hidden {
            let read = export.tree(key).await.map_err(with_detail);
            read.with_context(|| format!("the hidden key {key} cannot be read"))?;
        }
        if export.is_split {
            note!(
                "etcd-dump export: the tree did not come in one answer but folder by folder: it may show keys as they \
                 were at different times"
            );
        }
        if export.replaced > 0 {
            note!(
                "etcd-dump export: {} values have the character U+FFFD: a server puts it in the place of bytes that are \
                 no UTF-8, and these are lost; an export of a member's data directory has them",
                export.replaced
            );
        }
        let index = export.index;
        export.writer.end(index)
    })
}

/// Adds the error of each endpoint to an error.
fn with_detail(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<ClientError>().and_then(ClientError::detail) {
        Some(detail) => anyhow!("{error}: {}", detail.trim_end().replace('\n', "; ")),
        None => error,
    }
}

struct ServerExport<'a, W: Write> {
    client: &'a Client,
    quorum: bool,
    writer: &'a mut Writer<W>,
    /// The highest store index in the answers.
    index: u64,
    /// Whether the tree was read in several requests.
    is_split: bool,
    /// How many values have replacement characters and may differ from those in the store.
    replaced: u64,
}

/// A node that is still to be written.
enum Pending {
    /// A node that was read with everything below it.
    Read(Node),
    /// A folder that was not read yet.
    Folder(String),
}

impl<W: Write> ServerExport<'_, W> {
    /// Writes a node with everything below it. Uses a stack of its own: a tree may be deeper than a thread's stack
    /// allows.
    async fn tree(&mut self, key: &str) -> Result<()> {
        let mut pending = vec![Pending::Folder(key.to_owned())];
        while let Some(next) = pending.pop() {
            match next {
                Pending::Read(node) => self.node(node, |child| pending.push(Pending::Read(child)))?,
                Pending::Folder(folder) => match self.get(&folder, true).await {
                    Ok(response) => pending.push(Pending::Read(response.node)),
                    Err(error) if is_too_much(&error) => {
                        self.is_split = true;
                        let response = self.get(&folder, false).await?;
                        self.node(response.node, |child| {
                            pending.push(if child.dir {
                                Pending::Folder(child.key)
                            } else {
                                Pending::Read(child)
                            });
                        })?;
                    }
                    // It was removed after its folder was listed.
                    Err(ClientError::Api(failure)) if failure.code == KEY_NOT_FOUND && folder != key => {}
                    Err(error) => return Err(error.into()),
                },
            }
        }
        Ok(())
    }

    async fn get(&mut self, key: &str, recursive: bool) -> Result<Response, ClientError> {
        let options = GetOptions { recursive, sorted: true, quorum: self.quorum };
        let response = self.client.get(key.as_bytes(), options).await?;
        self.index = self.index.max(response.index);
        Ok(response)
    }

    /// Writes a node and passes its children to `child`, the last one first.
    fn node(&mut self, node: Node, child: impl FnMut(Node)) -> Result<()> {
        // Every cluster has the root: it gets no line.
        if !matches!(node.key.as_str(), "" | "/") {
            self.replaced += u64::from(node.value.contains(char::REPLACEMENT_CHARACTER));
            let value = (!node.dir).then_some(node.value.as_bytes());
            let indexes = [node.created_index, node.modified_index];
            self.writer.node(node.key.as_bytes(), value, node.expiration.as_deref(), indexes)?;
        }
        node.nodes.unwrap_or_default().into_iter().rev().for_each(child);
        Ok(())
    }
}

/// Whether a listing is larger than the client accepts, or nested deeper than the JSON parser accepts.
fn is_too_much(error: &ClientError) -> bool {
    match error {
        ClientError::InvalidJson => true,
        ClientError::Unavailable(errors) => {
            errors.iter().any(|error| matches!(error, RequestError::TooLarge { .. }))
        }
        _ => false,
    }
}
