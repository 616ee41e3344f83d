//! `cluster-health`.

use std::ffi::OsString;
use std::time::Duration;

use shared::client::{Client, HealthError, Member};
use tokio::time::{sleep, timeout};

use super::until_interrupted;
use crate::error::CliError;
use crate::session::Session;

/// The time between two checks; the text that is printed names it.
const INTERVAL: Duration = Duration::from_secs(10);

/// Ask each member whether it is well
///
/// A member is well when it has a leader and gets work done. The exit status is 5 unless one member at least is.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterHealth {
    /// Check again every 10 seconds until interrupted
    #[arg(long)]
    forever: bool,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl ClusterHealth {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        if self.forever {
            return until_interrupted(check_forever(session)).await;
        }
        session.out.outlive_reader();
        let (client, members) = members(session).await?;
        if check(&client, &members, session).await? { Ok(()) } else { Err(CliError::Unhealthy) }
    }
}

/// The members, according to one of the given endpoints (not of the published ones).
async fn members(session: &mut Session<'_>) -> Result<(Client, Vec<Member>), CliError> {
    let client = session.connect_unsynced().await?;
    match client.members().await {
        Ok(members) => Ok((client, members)),
        Err(error) => {
            session.out.line("cluster may be unhealthy: failed to list members")?;
            Err(CliError::Server(error))
        }
    }
}

async fn check_forever(session: &mut Session<'_>) -> Result<(), CliError> {
    let (client, members) = members(session).await?;
    loop {
        check(&client, &members, session).await?;
        session.out.text("\nnext check after 10 second...\n\n")?;
        session.out.flush()?;
        sleep(INTERVAL).await;
    }
}

/// Checks every member; returns whether at least one is healthy.
async fn check(client: &Client, members: &[Member], session: &mut Session<'_>) -> Result<bool, CliError> {
    let mut healthy = false;
    for member in members {
        healthy |= check_member(client, member, session).await?;
        session.out.flush()?;
    }
    session.out.line(if healthy { "cluster is healthy" } else { "cluster is unhealthy" })?;
    Ok(healthy)
}

/// Queries one member at one URL after the other until it answers.
async fn check_member(client: &Client, member: &Member, session: &mut Session<'_>) -> Result<bool, CliError> {
    let Member { id, client_urls, .. } = member;
    if client_urls.is_empty() {
        session.out.line(&format!("member {id} is unreachable: no available published client urls"))?;
        return Ok(false);
    }
    for url in client_urls {
        match ask(client, url, session.settings.total_timeout).await {
            Ok(true) => {
                session.out.line(&format!("member {id} is healthy: got healthy result from {url}"))?;
                return Ok(true);
            }
            Ok(false) => {
                session.out.line(&format!("member {id} is unhealthy: got unhealthy result from {url}"))?;
                return Ok(false);
            }
            Err(reason) => {
                let line = format!("failed to check the health of member {id} on {url}: {reason}");
                session.out.line(&line)?;
            }
        }
    }
    let urls = client_urls.join(" ");
    session.out.line(&format!("member {id} is unreachable: [{urls}] are all unreachable"))?;
    Ok(false)
}

/// Queries a URL with a time limit; the original waits for ever for a member that does not answer.
async fn ask(client: &Client, url: &str, limit: Duration) -> Result<bool, String> {
    match timeout(limit, client.is_healthy(url)).await {
        Ok(outcome) => outcome.map_err(|error: HealthError| error.to_string()),
        Err(_) => Err(format!("no answer within {} seconds", limit.as_secs_f64())),
    }
}
