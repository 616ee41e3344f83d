//! Upgrades an etcd 0.x data dir at the start: a member's data is migrated, a standby becomes a proxy.
//!
//! Automatic migration covers only what etcd 2.0 itself converted at its start. A directory that needs more, such as
//! one whose log ends in a torn entry, needs `etcd-migrate` and an operator who reads its report.

use std::time::{Duration, Instant};

use etcd_migrate::{MigrateError, Options, Progress, Report};
use shared::disk::RealDisk;
use shared::legacy::{self, FileError, LegacyDir, StandbyInfo};
use shared::net::TlsFileError;
use shared::url::{InitialCluster, UrlError, Urls};

use crate::config::{Config, ProxyMode};
use crate::log;
use crate::peers::info::{self, InfoError};
use crate::server::{DataDirError, role_of};
use crate::tls;

/// How long the members that a standby knew may take to answer, in total.
const MEMBERS_TIME_MAX: Duration = Duration::from_secs(5);

/// The interval of the log lines about the progress of a migration.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Why the server does not start on a 0.x data dir.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The data dir cannot be inspected.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A 0.x file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The migration writes the log into the data dir, but `-wal-dir` names another directory.
    #[error(
        "the data directory {0} is that of an etcd 0.x member, and the migration writes the log into it: start without \
         -wal-dir first, or run etcd-migrate and move {0}/member/wal"
    )]
    WalDir(String),
    /// etcd 2.0 would not have converted the directory.
    #[error(
        "the data directory {data_dir} is that of an etcd 0.x member, and is not migrated automatically, since etcd 2.0 \
         would have refused it ({why}): run etcd-migrate -data-dir={data_dir}, read its report, then start again"
    )]
    NotAutomatic {
        /// The directory.
        data_dir: String,
        /// Why etcd 2.0 refuses it.
        why: String,
    },
    /// The migration failed.
    #[error("failed migrating data-dir: {0}")]
    Migrate(#[from] MigrateError),
    /// The standby's file contains an invalid URL.
    #[error(
        "the data directory {data_dir} is that of an etcd 0.x standby, whose standby_info has an invalid URL: {error}"
    )]
    StandbyUrl {
        /// The directory.
        data_dir: String,
        /// What is wrong with it.
        error: UrlError,
    },
    /// No member answers, or the members still run 0.x.
    #[error(
        "the data directory {data_dir} is that of an etcd 0.x standby, which becomes a proxy once its cluster runs \
         etcd 2.x; no member answers yet ({error}): upgrade the members first, then start this standby again"
    )]
    NoMembers {
        /// The directory.
        data_dir: String,
        /// The error of asking them.
        error: InfoError,
    },
    /// The TLS files for asking the members cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsFileError),
    /// The runtime for asking the members cannot be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
}

/// Upgrades 0.x data in the data dir, and adapts the settings. Does nothing for a 2.x directory or an empty one.
///
/// # Errors
/// If the directory cannot be upgraded; it is then unchanged.
pub fn upgrade_data_dir(config: &mut Config) -> Result<(), UpgradeError> {
    if role_of(&RealDisk, &config.data_dir)?.is_some() {
        return Ok(());
    }
    match legacy::detect(&RealDisk, &config.data_dir)? {
        LegacyDir::Nothing => Ok(()),
        LegacyDir::Member => migrate(config),
        LegacyDir::Standby(standby) => become_proxy(config, &standby),
    }
}

fn migrate(config: &Config) -> Result<(), UpgradeError> {
    let data_dir = &config.data_dir;
    if config.wal_dir.is_some() {
        return Err(UpgradeError::WalDir(data_dir.display().to_string()));
    }
    log::notice!("migrate", "{} is the data dir of an etcd 0.x member, migrating it", data_dir.display());
    let options = Options { name: Some(config.name.clone()), ..Options::default() };
    let original = Options { original: true, dry_run: true, ..options.clone() };
    if let Err(error) = etcd_migrate::migrate(&RealDisk, data_dir, &original, &mut ()) {
        return Err(match error {
            MigrateError::Original(why) => {
                UpgradeError::NotAutomatic { data_dir: data_dir.display().to_string(), why }
            }
            error => error.into(),
        });
    }
    let report = etcd_migrate::migrate(&RealDisk, data_dir, &options, &mut ProgressLog::default())?;
    log_report(&report);
    Ok(())
}

/// Logs the migration's report.
fn log_report(report: &Report) {
    for warning in &report.warnings {
        log::warning!("migrate", "{warning}");
    }
    for line in report.to_string().lines().filter(|line| !line.starts_with("warning ")) {
        log::info!("migrate", "{line}");
    }
}

/// Logs the progress of a migration at intervals.
#[derive(Default)]
struct ProgressLog {
    entries: u64,
    done: u64,
    last_logged: Option<Instant>,
}

impl Progress for ProgressLog {
    fn begin(&mut self, entries: u64, _bytes: u64) {
        (self.entries, self.done, self.last_logged) = (entries, 0, Some(Instant::now()));
    }

    fn advance(&mut self, entries: u64, _bytes: u64) {
        self.done += entries;
        if self.last_logged.is_some_and(|last_logged| last_logged.elapsed() >= PROGRESS_INTERVAL) {
            self.last_logged = Some(Instant::now());
            log::info!("migrate", "migrated {} of {} entries", self.done, self.entries);
        }
    }

    fn end(&mut self) {}
}

/// Configures a proxy for the members that the standby knew, if one of them runs 2.x.
fn become_proxy(config: &mut Config, standby: &StandbyInfo) -> Result<(), UpgradeError> {
    let data_dir = || config.data_dir.display().to_string();
    log::notice!("migrate", "{} is the data dir of an etcd 0.x standby, starting as etcd proxy", data_dir());
    let mut members = Vec::new();
    for member in &standby.cluster {
        let urls = Urls::from_texts([member.peer_url.as_str()])
            .map_err(|error| UpgradeError::StandbyUrl { data_dir: data_dir(), error })?;
        members.push((member.name.clone(), urls));
    }
    if !members.is_empty() {
        config.initial_cluster = InitialCluster::from_iter(members);
        (config.discovery, config.discovery_srv) = (None, None);
    }
    if config.discovery.is_none() && config.discovery_srv.is_none() {
        check_members_run_2x(config)?;
    }
    if config.proxy.mode == ProxyMode::Off {
        config.proxy.mode = ProxyMode::On;
    }
    Ok(())
}

/// Checks that at least one member runs etcd 2.x.
fn check_members_run_2x(config: &Config) -> Result<(), UpgradeError> {
    let urls: Vec<String> =
        config.initial_cluster.iter().flat_map(|(_, urls)| urls.iter().map(ToString::to_string)).collect();
    let share = MEMBERS_TIME_MAX / u32::try_from(urls.len().max(1)).unwrap_or(u32::MAX);
    let dialer = tls::dialer(config)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(UpgradeError::Runtime)?;
    match runtime.block_on(info::members_of(&dialer, &urls, share)) {
        Ok(_) => Ok(()),
        Err(error) => Err(UpgradeError::NoMembers { data_dir: config.data_dir.display().to_string(), error }),
    }
}
