//! `snapshot save`.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use shared::client::v3::RpcError;

use super::super::failure::Failure;
use super::super::run::{Run, Session};

pub(super) async fn save(run: Run<'_>) -> Result<(), Failure> {
    let [path] = run.line.arguments.as_slice() else {
        return Err(Failure::arguments("snapshot save expects one argument"));
    };
    let path = PathBuf::from(path);
    let mut session = run.connect().await?;
    if session.settings.endpoints.len() > 1 {
        let endpoints = session.settings.endpoints.join(" ");
        return Err(Failure::interrupted(format!(
            "snapshot must be requested to one selected node, not multiple [{endpoints}]"
        )));
    }
    let mut part = path.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let outcome = receive(&session, &part).await.and_then(|()| publish(&part, &path));
    if outcome.is_err() {
        // Half a snapshot is of no use; that it may stay is no reason to hide the first error.
        let _ = std::fs::remove_file(&part);
    }
    outcome?;
    session.printer.bytes(format!("Snapshot saved at {}\n", path.display()).as_bytes())
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::interrupted(format!("could not save to {}: {error}", path.display()))
}

/// Writes the stream into a file, whole and synced. As long as data come there is no limit of time.
async fn receive(session: &Session<'_>, path: &Path) -> Result<(), Failure> {
    let refused = |error: RpcError| Failure::interrupted(error);
    let mut stream = session.call(session.client.snapshot()).await.map_err(refused)?;
    let mut file: Option<File> = None;
    let progress = if stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec}") {
        progress.set_style(style);
    }
    let mut received = 0;
    loop {
        let piece = stream.message().await.map_err(|status| refused(status.into()))?;
        let Some(piece) = piece else { break };
        // Not before the server has agreed: it may refuse.
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(create(path)?),
        };
        file.write_all(&piece.blob).map_err(io(path))?;
        received += piece.blob.len() as u64;
        progress.set_length(received + piece.remaining_bytes);
        progress.set_position(received);
    }
    progress.finish_and_clear();
    match file {
        Some(file) => file.sync_all().map_err(io(path)),
        None => Err(Failure::interrupted("the server sent no data")),
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(io(path))
}

/// Gives the file its name, so that a file of that name is always a whole snapshot.
#[expect(clippy::disallowed_methods, reason = "a file of the user's, not one of a data directory")]
fn publish(part: &Path, path: &Path) -> Result<(), Failure> {
    std::fs::rename(part, path).map_err(io(path))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(path))
}
