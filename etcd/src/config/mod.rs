//! Reads the command line, the environment and the configuration file into one checked [`Config`].
//!
//! ```text
//! words ──flags──▶ Settings ◀──env── variables      (a variable sets what no flag set)
//!                     ▲   ◀──file── -config FILE    (the file sets what neither set)
//!                     └─ check ─▶ Config, or a refusal in the original's words
//! ```
//!
//! **Invariant:** this module opens, listens on and starts nothing; the caller passes in what must be read, and prints
//! what the [`Invocation`] contains.

mod address;
mod bootstrap;
mod check;
mod env;
mod file;
mod flags;
mod fuzz;
mod old_names;
mod outcome;
mod peer_list;
mod tls;
mod unsupported;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shared::flags::{FlagError, Values, document};
use shared::quote::quote;
use shared::url::{InitialCluster, Urls};

use crate::log::{Format, Level, Levels, info};
use crate::version;

pub use bootstrap::BootstrapError;
pub(crate) use bootstrap::{has_url_twice, located};
pub use flags::FLAGS;
pub use fuzz::fuzz_settings;
pub use outcome::{EarlyExit, Invocation, Startup};
pub use peer_list::PeerList;
pub use tls::TlsFlags;

use outcome::StartupLines;

/// The configuration of a member or a proxy. Constructed by [`read`] only, so every value has passed the checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The member's name, for people.
    pub name: String,
    /// The data directory; contains `member`. Need not exist.
    pub data_dir: PathBuf,
    /// The directory of the log, if not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Entries applied between two snapshots, at least 1.
    pub snapshot_count: u64,
    /// Milliseconds between two heartbeats, at least 1.
    pub heartbeat_ms: u64,
    /// Milliseconds without a leader until an election; at least five heartbeats.
    pub election_ms: u64,
    /// The URLs to listen on for other members.
    pub listen_peer_urls: Urls,
    /// The URLs to listen on for clients.
    pub listen_client_urls: Urls,
    /// The URLs at which other members reach this one.
    pub advertise_peer_urls: Urls,
    /// Whether `advertise_peer_urls` is the default.
    pub advertise_peer_urls_are_default: bool,
    /// The URLs at which clients reach this member.
    pub advertise_client_urls: Urls,
    /// The members of a new cluster, as far as the settings name them: with discovery only this member, with SRV
    /// records none.
    pub initial_cluster: InitialCluster,
    /// Whether `initial_cluster` is the default.
    pub initial_cluster_is_default: bool,
    /// Peers of a running cluster that a member without data joins, in the form of `-peers`; empty for none.
    pub peers: String,
    /// A file with such a list, read if `peers` is empty.
    pub peers_file: Option<PathBuf>,
    /// Distinguishes clusters with the same addresses; with discovery, the discovery URL.
    pub initial_cluster_token: String,
    /// The discovery service for the members of a new cluster.
    pub discovery: Option<Discovery>,
    /// The domain whose SRV records name the members of a new cluster.
    pub discovery_srv: Option<String>,
    /// Whether a member without data creates the cluster or joins it.
    pub initial_cluster_state: ClusterState,
    /// The TLS flags for clients.
    pub client_tls: TlsFlags,
    /// The TLS flags for other members.
    pub peer_tls: TlsFlags,
    /// The number of snapshot files to keep; 0 for all.
    pub max_snapshots: usize,
    /// The number of log files to keep; 0 for all.
    pub max_wals: usize,
    /// The allowed CORS origins; `*` for all. Sorted, without duplicates.
    pub cors: Vec<String>,
    /// The hosts that requests may name, without ports; `*` for any.
    pub host_whitelist: Vec<String>,
    /// Refuse changes of keys from pages of other origins.
    pub keys_same_origin: bool,
    /// Make this member the only one of its cluster.
    pub force_new_cluster: bool,
    /// Whether the process was started in allow-legacy mode. Not a flag: the launcher sets it.
    pub allow_legacy: bool,
    /// Refuse membership changes that would lose the quorum.
    pub strict_reconfig_check: bool,
    /// Which release's v1 API is served.
    pub v1_dialect: V1Dialect,
    /// Whether the leader removes members that have been silent for a long time.
    pub remove_dead_members: bool,
    /// Whether the dashboard is served, and whether it may write.
    pub dashboard: DashboardMode,
    /// The number of past events kept for watches, at least 1.
    pub watch_history: usize,
    /// The proxy settings, and whether the process is a proxy.
    pub proxy: ProxyConfig,
    /// Whether metrics are served in the format of 0.4.
    pub trace: bool,
    /// The Graphite server that metrics are sent to, as host and port.
    pub graphite: Option<String>,
    /// The longest request body.
    pub request_body_bytes_max: usize,
    /// The longest request head.
    pub request_header_bytes_max: usize,
    /// The deepest level of a new key below the root.
    pub key_levels_max: usize,
    /// The level at which a new cluster is founded, or that of the cluster to join.
    pub cluster_level: node::version::Level,
    /// Which of the flags for version 3 are set, by name: they have no effect in a cluster without it.
    pub v3_flags: Vec<&'static str>,
    /// The size of the database from which on keys of version 3 are refused; `None` for no bound.
    pub quota_backend_bytes: Option<u64>,
    /// The most operations of a transaction.
    pub txn_ops_max: usize,
    /// The longest request of version 3 in the log, in bytes.
    pub entry_bytes_max: usize,
    /// The time between two notices of progress to an idle watch.
    pub watch_progress_interval: Duration,
    /// The number of threads that serve client connections; `None` for as many as suit the machine.
    pub client_threads: Option<usize>,
    /// A write or a quorum read that takes longer is logged; zero disables this.
    pub slow_request: Duration,
    /// Serve profiles.
    pub enable_pprof: bool,
    /// The names of settings for errors that occur after the start.
    pub sources: Sources,
}

/// The sources of settings: `-listen-peer-urls`, `ETCD_LISTEN_PEER_URLS`, or `listen_peer_urls in "FILE"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The source of the peer listen URLs.
    pub listen_peer_urls: String,
    /// The source of the client listen URLs.
    pub listen_client_urls: String,
    /// The source of the initial cluster.
    pub initial_cluster: String,
}

/// The settings of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyConfig {
    /// The mode.
    pub mode: ProxyMode,
    /// How long a failed endpoint is not used.
    pub failure_wait: Duration,
    /// The interval at which the member list is refreshed.
    pub refresh_interval: Duration,
    /// The timeout of connecting to a member; `None` for no limit.
    pub dial_timeout: Option<Duration>,
    /// The timeout of a write to a member; `None` for no limit.
    pub write_timeout: Option<Duration>,
    /// The timeout of a read from a member; `None` for no limit.
    pub read_timeout: Option<Duration>,
}

/// `-dashboard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DashboardMode {
    /// Shows and changes keys.
    #[default]
    On,
    /// Shows keys only.
    ReadOnly,
    /// Not served.
    Off,
}

/// `-proxy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// The process is a member.
    Off,
    /// A proxy that forwards only `GET`.
    Readonly,
    /// A proxy.
    On,
}

/// `-discovery` and the flags that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The URL of the token.
    pub url: String,
    /// The HTTP proxy for requests to the discovery service.
    pub proxy: Option<String>,
    /// The action if the cluster is full.
    pub fallback: Fallback,
}

impl Discovery {
    /// The proxy for log lines: without its password.
    pub fn proxy_shown(&self) -> Option<String> {
        let proxy = self.proxy.as_deref()?;
        let Some((user, host)) = proxy.rsplit_once('@') else { return Some(proxy.to_owned()) };
        let name_at = user.find("://").map_or(0, |at| at + 3);
        let name_end = user[name_at..].find(':').map_or(user.len(), |at| name_at + at);
        let hidden = if name_end < user.len() { ":xxxxx" } else { "" };
        Some(format!("{}{hidden}@{host}", &user[..name_end]))
    }
}

/// `-discovery-fallback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Exit with an error.
    Exit,
    /// Become a proxy of the cluster.
    Proxy,
}

/// `-v1-dialect`: which release's v1 API is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum V1Dialect {
    /// The v1 API of etcd 0.1.
    #[default]
    Of01,
    /// The v1 API of etcd 0.2 to 0.4.
    Of04,
}

/// `-initial-cluster-state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// A member without data creates the cluster.
    New,
    /// A member without data joins a cluster that has added it.
    Existing,
}

impl Config {
    /// The time between two heartbeats.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// The number of heartbeats without a leader until an election.
    pub fn election_ticks(&self) -> usize {
        // The quotient is at most 50000.
        usize::try_from(self.election_ms / self.heartbeat_ms).unwrap_or(usize::MAX)
    }

    /// The time without a leader until an election, rounded down to whole heartbeats.
    pub fn election(&self) -> Duration {
        Duration::from_millis(self.election_ms / self.heartbeat_ms * self.heartbeat_ms)
    }

    /// The timeout of a request: five seconds for queues and the disk, plus two election timeouts.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election()
    }

    /// Logs the member's settings, except its name and directories.
    pub fn log_settings(&self) {
        if self.force_new_cluster {
            info!("etcdserver", "force new cluster");
        }
        if let Some(wal_dir) = &self.wal_dir {
            info!("etcdserver", "dedicated WAL dir = {}", wal_dir.display());
        }
        info!("etcdserver", "heartbeat = {}ms", self.heartbeat_ms);
        info!("etcdserver", "election = {}ms", self.election().as_millis());
        info!("etcdserver", "snapshot count = {}", self.snapshot_count);
        if let Some(discovery) = &self.discovery {
            info!("etcdserver", "discovery URL= {}", discovery.url);
            if let Some(proxy) = discovery.proxy_shown() {
                info!("etcdserver", "discovery proxy = {proxy}");
            }
        }
        info!("etcdserver", "advertise client URLs = {}", self.advertise_client_urls);
        if !self.cors.is_empty() {
            info!("etcdmain", "cors = {}", self.cors.join(","));
        }
    }

    /// Logs the settings that are used only when a member creates its cluster.
    pub fn log_initial_settings(&self, cluster: &InitialCluster) {
        info!("etcdserver", "initial advertise peer URLs = {}", self.advertise_peer_urls);
        info!("etcdserver", "initial cluster = {cluster}");
    }
}

/// The values read so far, and their sources.
struct Settings {
    values: Values,
    /// The flags that the file set.
    from_file: BTreeSet<&'static str>,
    /// The flags that environment variables set.
    from_environment: BTreeSet<&'static str>,
}

impl Settings {
    fn is_set(&self, name: &str) -> bool {
        self.values.is_set(name)
    }

    /// The name of this flag's source, for errors.
    fn source(&self, name: &str) -> String {
        if self.from_file.contains(name) {
            return format!("{} in {}", name.replace('-', "_"), quote(self.values.text("config")));
        }
        match FLAGS.find(name) {
            Some(flag) if self.from_environment.contains(name) => flag.env_name(env::PREFIX),
            _ => format!("-{name}"),
        }
    }
}

/// Why there is no [`Config`].
#[derive(Debug, PartialEq, Eq)]
enum ConfigError {
    /// The settings contradict each other.
    Flags { text: String, hint: Option<&'static str> },
    /// The environment or the file is invalid.
    Fatal(String),
}

impl ConfigError {
    fn flags(text: &str) -> ConfigError {
        ConfigError::Flags { text: text.to_owned(), hint: None }
    }
}

/// Reads the configuration.
///
/// `words` are the command line without the program's name, `variables` the whole environment; `read_file` is called
/// only with the value of `-config`, if it is set.
pub fn read(
    words: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    read_file: impl FnOnce(&Path) -> io::Result<String>,
) -> Invocation {
    let words: Vec<OsString> = words.into_iter().collect();
    match document(&words, &[&FLAGS]) {
        Some(Ok(text)) => return early_exit(text, String::new(), 0),
        Some(Err(error)) => return early_exit(FLAGS.usage(), format!("{error}\n"), error.exit_status()),
        None => {}
    }
    let (words, renamed) = old_names::renamed(words);
    let values = match FLAGS.parse(words) {
        Ok(values) => values,
        Err(FlagError::Help) => return early_exit(FLAGS.help(), String::new(), 0),
        Err(error) => {
            let hint = FLAGS.hint(&error).map(|hint| format!("{hint}\n")).unwrap_or_default();
            return early_exit(FLAGS.usage(), format!("{error}\n{hint}"), error.exit_status());
        }
    };
    let mut notes = StartupLines { format: log_format(&values), ..StartupLines::default() };
    for (old, new) in renamed {
        notes.warning(format!("-{old} is an old name: use -{new}"));
    }
    for name in values.ignored() {
        notes.ignored(&format!("flag \"-{name}\""));
    }
    if let Some(word) = values.rest().first() {
        return refusal_exit(ConfigError::flags(&format!("'{word}' is not a valid flag")), notes);
    }
    if values.switch("version") {
        return early_exit(version::lines().join("\n") + "\n", String::new(), 0);
    }
    let mut settings = Settings { values, from_file: BTreeSet::new(), from_environment: BTreeSet::new() };
    let variables: Vec<(String, String)> = variables
        .into_iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    match gather(&mut settings, &variables, read_file, &mut notes) {
        Ok(()) => start(&settings, notes),
        Err(refusal) => refusal_exit(refusal, notes),
    }
}

/// Adds the environment and the file to the values of the command line.
fn gather(
    settings: &mut Settings,
    variables: &[(String, String)],
    read_file: impl FnOnce(&Path) -> io::Result<String>,
    notes: &mut StartupLines,
) -> Result<(), ConfigError> {
    env::read(settings, variables, notes)?;
    let path = settings.values.text("config").to_owned();
    if path.is_empty() {
        return Ok(());
    }
    let content = read_file(Path::new(&path)).map_err(|error| {
        ConfigError::Fatal(format!("cannot read configuration file {}: {error}", quote(&path)))
    })?;
    file::read(settings, &path, &content, notes)
}

/// The log format. Parsing the flag has already refused invalid values.
fn log_format(values: &Values) -> Format {
    values.text("log-format").parse().unwrap_or_default()
}

fn start(settings: &Settings, mut before: StartupLines) -> Invocation {
    before.format = log_format(&settings.values);
    let mut after = StartupLines::default();
    let default = if settings.values.switch("debug") { Level::Debug } else { Level::Info };
    let mut levels = Levels::all(default);
    match settings.values.text("log-package-levels") {
        "" => {}
        list => match levels.clone().with(list) {
            Ok(wanted) => levels = wanted,
            Err(error) => after.main_warning(format!(
                "couldn't parse log level string: {error}, continuing with default levels"
            )),
        },
    }
    for line in version::lines() {
        after.main_info(line);
    }
    match check::check(settings, &mut after) {
        Ok(config) => Invocation::Run(Box::new(Startup {
            config,
            format: before.format,
            before: before.lines,
            levels,
            after: after.lines,
        })),
        Err(refusal) => {
            // Contradictions are logged before the log levels are applied, other errors after.
            if matches!(refusal, ConfigError::Fatal(_)) {
                before.lines.append(&mut after.lines);
            }
            refusal_exit(refusal, before)
        }
    }
}

fn early_exit(output: String, error: String, status: u8) -> Invocation {
    Invocation::Exit(EarlyExit { format: Format::Text, lines: Vec::new(), error, output, status })
}

fn refusal_exit(refusal: ConfigError, mut notes: StartupLines) -> Invocation {
    match refusal {
        ConfigError::Flags { text, hint } => {
            notes.error(format!("error verifying flags, {text}. See 'etcd --help'."));
            notes.lines.extend(hint.map(|hint| crate::log::LogLine {
                level: Level::Error,
                package: "etcdmain",
                text: hint.to_owned(),
            }));
        }
        ConfigError::Fatal(text) => notes.critical(text),
    }
    Invocation::Exit(EarlyExit {
        format: notes.format,
        lines: notes.lines,
        error: String::new(),
        output: String::new(),
        status: 1,
    })
}

#[cfg(test)]
mod tests;
