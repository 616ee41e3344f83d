//! `doctor`.
//!
//! [`queries`] queries all members in parallel and fills in what was [`observed`]; [`checks`] and the files beside it
//! check that, without I/O; [`report`] prints what they found.

mod certificates;
mod checks;
mod clocks;
mod metrics;
mod observed;
mod queries;
mod report;
mod speed;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::sync::Arc;

use crate::error::CliError;
use crate::session::Session;

/// Look at all members and tell what is wrong, and what to do about it
///
/// Asks every member that the endpoints know, all at the same time and none for longer than some seconds: whether it
/// can be reached, who leads, versions, clocks, how fast members, majority and disks are, how long certificates are
/// valid, how far back the watch history goes, members that were never started, and the number of members.
///
/// Each finding is ok, a warning (it works, but something should be done) or a problem. The exit status is 1 if there
/// is a problem, else 0. With -o json all that was seen is printed as one line.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl Doctor {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        session.settings.format.check()?;
        session.out.outlive_reader();
        let client = Arc::new(session.patient_client().await?);
        let cluster = queries::query_cluster(&client, session.settings).await;
        let now = super::now().0.div_euclid(1_000_000_000);
        let findings = checks::examine(&cluster, now);
        let ill = report::print(&cluster, findings, &session.settings.format, session.out)?;
        if ill { Err(CliError::Printed) } else { Ok(()) }
    }
}
