//! `etcd-dump export`: all keys of a directory or a running server as JSON lines, for `etcdctl import`.

mod lines;
mod server;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use shared::client::Options;
use shared::disk::OutputFile;
use shared::flags::{Flag, FlagSet, Group};
use shared::net::{ClientTlsFiles, Role};
use shared::store::Store;

use crate::command_line::{Command, CommandLine, UsageError};
use crate::dump::{DataDir, detect};
use crate::member_state::rebuild;
use crate::old;
use crate::paths::resolved;
use crate::tree::walk;
use lines::Writer;

pub(crate) const COMMAND: Command = Command {
    flags: FlagSet {
        program: "etcd-dump export",
        about: "Writes all keys as JSON lines",
        operands: "[DIR]",
        introduction: INTRODUCTION,
        environment: "",
        groups: &[
            Group {
                title: "where to",
                remark: "",
                hidden: false,
                flags: &[Flag::text(
                    "o",
                    "",
                    "Write to this file instead of standard output. It appears when it is complete; what had its name stays \
                     until then. A device or a FIFO is written into, a link followed. -: standard output.",
                )],
            },
            Group {
                title: "from a running server",
                remark: "",
                hidden: false,
                flags: &[
                    Flag::text(
                        "endpoint",
                        "",
                        "The client URL of a member, or several with commas between them.",
                    ),
                    Flag::text(
                        "hidden",
                        "",
                        "A hidden key to be read too, with all below it: servers do not list keys that begin with \
                         an underscore. May be given several times.",
                    ),
                    Flag::switch("quorum", "Read what a majority agrees on, not what this member knows."),
                    Flag::text("username", "", "NAME:PASSWORD, where the cluster wants it."),
                    Flag::text("cert-file", "", "The certificate to be shown to the server (PEM)."),
                    Flag::text("key-file", "", "Its key (PEM)."),
                    Flag::text("ca-file", "", "The authorities to check the server with (PEM)."),
                ],
            },
            Group {
                title: "from a directory",
                remark: "",
                hidden: false,
                flags: &[
                    Flag::switch(
                        "old",
                        "Read the files of 0.x, which a migration leaves beside those of 2.x.",
                    ),
                    Flag::text("wal-dir", "", "Where the log is, if it is not in DIR/member/wal."),
                    Flag::text("data-dir", "", "The data directory of a member, the same as DIR."),
                ],
            },
        ],
    },
    run,
};

const INTRODUCTION: &str = "\
etcd-dump export writes all keys of a cluster to a file that etcdctl import reads.

usage: etcd-dump export DIR [-o FILE]                  from a data directory, of 2.x or of 0.x
       etcd-dump export --endpoint URL [-o FILE]       from a running server

A line is a JSON object, one for each key or directory, what is above before what is below:

  {\"key\":\"/a\",\"dir\":true}
  {\"key\":\"/a/b\",\"value\":\"x\",\"createdIndex\":4,\"modifiedIndex\":7}
  {\"key\":\"/a/c\",\"value_base64\":\"/wA=\",\"expiration\":\"2026-11-21T08:00:00Z\",\"createdIndex\":5,\"modifiedIndex\":5}

value_base64 stands for a value that is no UTF-8, expiration for the time at which a key goes away. The last line
is {\"end\":{\"nodes\":3,\"index\":7}}: a file without it is not complete.

A directory gives what is known to be committed there, hidden keys included, and needs no server. Users, roles and
members are no keys and are left out.

examples:
  etcd-dump export --endpoint http://10.0.0.1:2379 -o keys.jsonl
  etcd-dump export --endpoint http://10.0.0.1:2379 --hidden /_coreos.com -o keys.jsonl
  etcd-dump export /var/lib/etcd -o keys.jsonl
  etcd-dump export default.etcd | jq -r 'select(.value).key'

exit status:
  0  all keys were written
  1  something is missing or damaged, which stderr names; what could be read was written, without the last line;
     with -o there is no file then
  2  the command line makes no sense
";

/// The source of the keys.
enum ExportSource {
    Dir { dir: PathBuf, wal_dir: Option<PathBuf>, old: bool },
    Server { options: Box<Options>, hidden: Vec<String>, quorum: bool },
}

fn run(line: &CommandLine) -> Result<ExitCode> {
    let source = ExportSource::new(line)?;
    let made = match line.values.text("o") {
        "" | "-" => {
            let out = io::stdout().lock();
            source.write(out)
        }
        file => {
            source.check_output(Path::new(file))?;
            let mut file = OutputFile::create(Path::new(file))?;
            // After an error the file is removed.
            source.write(&mut file).and_then(|()| Ok(file.finish()?))
        }
    };
    made.map(|()| ExitCode::SUCCESS)
}

impl ExportSource {
    fn new(line: &CommandLine) -> Result<ExportSource, UsageError> {
        let values = &line.values;
        let text = |name: &str| Some(values.text(name)).filter(|text| !text.is_empty());
        let Some(endpoints) = text("endpoint") else {
            let of_server = ["hidden", "quorum", "username", "cert-file", "key-file", "ca-file"];
            if let Some(flag) = of_server.into_iter().find(|flag| values.is_set(flag)) {
                return Err(UsageError::Other(format!("-{flag} needs -endpoint")));
            }
            let old = values.switch("old");
            let wal_dir = text("wal-dir").map(PathBuf::from);
            return line.data_dir().map(|dir| ExportSource::Dir { dir, wal_dir, old });
        };
        if let Ok(dir) = line.data_dir() {
            return Err(UsageError::TooMany(dir.display().to_string()));
        }
        let file = |name| text(name).map(PathBuf::from);
        let options = Options {
            endpoints: endpoints.split(',').map(str::to_owned).collect(),
            tls: ClientTlsFiles {
                cert: file("cert-file"),
                key: file("key-file"),
                ca: file("ca-file").into_iter().collect(),
                accept_common_name: false,
                role: Role::Tool,
            },
            credentials: text("username").map(server::credentials),
            ..Options::default()
        };
        let hidden = values.texts("hidden").map(str::to_owned).collect();
        Ok(ExportSource::Server { options: Box::new(options), hidden, quorum: values.switch("quorum") })
    }

    /// Refuses an output file that lies among the files that are read.
    fn check_output(&self, out: &Path) -> Result<(), UsageError> {
        let ExportSource::Dir { dir, wal_dir, .. } = self else { return Ok(()) };
        let out = resolved(out);
        let is_within = |folder: &Path| out.starts_with(resolved(folder));
        // The files of 2.x and of 0.x.
        let mut own = ["member", "log", "conf", "snapshot"].iter().map(|name| dir.join(name));
        if own.any(|folder| is_within(&folder)) || wal_dir.as_deref().is_some_and(is_within) {
            let (out, dir) = (out.display(), dir.display());
            return Err(UsageError::Other(format!(
                "{out} is among the files of {dir}, which must not be written"
            )));
        }
        Ok(())
    }

    fn write(self, out: impl Write) -> Result<()> {
        let mut writer = Writer::new(out);
        match self {
            ExportSource::Dir { dir, wal_dir, old } => {
                let (index, missing) = match detect(&dir, wal_dir.as_deref(), old)? {
                    DataDir::Member(files) => {
                        let made = rebuild(&files, None)?;
                        (write_store(made.replay.store(), &mut writer)?, made.missing)
                    }
                    DataDir::Old(dir) => {
                        let (made, missing) = old::tree(&dir, None)?;
                        (write_store(&made.store, &mut writer)?, missing)
                    }
                };
                if missing.is_none() {
                    return writer.end(index);
                }
                missing.map_or(Ok(()), Err).context("the export is not complete")
            }
            ExportSource::Server { options, hidden, quorum } => {
                server::write(*options, &hidden, quorum, &mut writer)
            }
        }
    }
}

/// Writes the nodes below `/1`, where the clients' keys are; returns the store's index.
fn write_store(store: &Store, writer: &mut Writer<impl Write>) -> Result<u64> {
    let listing = store.get(b"/1", true, false).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    walk(&listing, |path, node| {
        let expiration = node.expiration().map(|at| at.to_string());
        writer.node(path, node.value(), expiration.as_deref(), [node.created_index(), node.modified_index()])
    })?;
    Ok(store.index())
}
