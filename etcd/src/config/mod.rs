//! Command line, environment and file become one [`Config`], checked once.
//!
//! ```text
//! words ──flags──▶ Settings ◀──env── variables      (a variable sets what no flag set)
//!                     ▲   ◀──file── -config FILE    (the file sets what neither set)
//!                     └─ check ─▶ Config, or a refusal in the original's words
//! ```
//!
//! **Invariant:** nothing here opens, listens or starts anything; what must be read is handed in, and what must
//! be said is handed out as an [`Invocation`].

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

/// How a member runs. Made by [`read`] only, so every value has passed the checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What people call the member.
    pub name: String,
    /// Holds `member`; need not exist.
    pub data_dir: PathBuf,
    /// Where the log is, if not in the data directory.
    pub wal_dir: Option<PathBuf>,
    /// Entries applied between two snapshots, at least 1.
    pub snapshot_count: u64,
    /// Milliseconds between two heartbeats, at least 1.
    pub heartbeat_ms: u64,
    /// Milliseconds without a leader until an election, at least five heartbeats.
    pub election_ms: u64,
    /// Where to listen for other members.
    pub listen_peer_urls: Urls,
    /// Where to listen for clients.
    pub listen_client_urls: Urls,
    /// Where other members find this one.
    pub advertise_peer_urls: Urls,
    /// Whether nobody said where other members find this one.
    pub advertise_peer_urls_are_default: bool,
    /// Where clients find this member.
    pub advertise_client_urls: Urls,
    /// The members of a new cluster, as far as the settings name them: with discovery that is this one alone,
    /// with SRV records nobody.
    pub initial_cluster: InitialCluster,
    /// Whether nobody named the members.
    pub initial_cluster_is_default: bool,
    /// Peers of a running cluster that a member without data joins, as `-peers` lists them; empty for none.
    pub peers: String,
    /// A file with such a list, read if there is none in `peers`.
    pub peers_file: Option<PathBuf>,
    /// What keeps clusters with the same addresses apart; with discovery, its URL.
    pub initial_cluster_token: String,
    /// Where the members of a new cluster find each other.
    pub discovery: Option<Discovery>,
    /// The domain whose SRV records name the members of a new cluster.
    pub discovery_srv: Option<String>,
    /// Whether a member without data makes the cluster or joins it.
    pub initial_cluster_state: ClusterState,
    /// Certificates for clients.
    pub client_tls: TlsFlags,
    /// Certificates for other members.
    pub peer_tls: TlsFlags,
    /// Snapshot files to keep; 0 for all.
    pub max_snapshots: usize,
    /// Log files to keep; 0 for all.
    pub max_wals: usize,
    /// Origins that browsers may let in; `*` for all. Sorted, without repetition.
    pub cors: Vec<String>,
    /// Hosts that requests may name, without ports; `*` for any.
    pub host_whitelist: Vec<String>,
    /// Refuse changes of keys by pages of other origins.
    pub keys_same_origin: bool,
    /// Make this member the only one of its cluster.
    pub force_new_cluster: bool,
    /// Whether the process was started in allow-legacy mode, which is no flag: the starter says it.
    pub allow_legacy: bool,
    /// Refuse changes of the members that cost the quorum.
    pub strict_reconfig_check: bool,
    /// Whose v1 API is served.
    pub v1_dialect: V1Dialect,
    /// Whether a leader removes members that have been silent for long.
    pub remove_dead_members: bool,
    /// What the dashboard may do.
    pub dashboard: DashboardMode,
    /// Past events kept for watches, at least 1.
    pub watch_history: usize,
    /// Whether the process is a member or passes requests on to members.
    pub proxy: ProxyConfig,
    /// Whether figures are shown in the form of 0.4.
    pub trace: bool,
    /// Where figures are sent to Graphite, as host and port.
    pub graphite: Option<String>,
    /// The longest body of a request.
    pub request_body_bytes_max: usize,
    /// The longest head of a request.
    pub request_header_bytes_max: usize,
    /// How many levels below the root a new key may be.
    pub key_levels_max: usize,
    /// Threads for the connections of clients; `None` for as many as suit the machine.
    pub client_threads: Option<usize>,
    /// From here on a write or a quorum read is slow enough for a line in the log; zero for never.
    pub slow_request: Duration,
    /// Serve profiles.
    pub enable_pprof: bool,
    /// What errors call the settings that can prove wrong after the start.
    pub sources: Sources,
}

/// Where settings come from: `-listen-peer-urls`, `ETCD_LISTEN_PEER_URLS`, or `listen_peer_urls in "FILE"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Of where to listen for other members.
    pub listen_peer_urls: String,
    /// Of where to listen for clients.
    pub listen_client_urls: String,
    /// Of the first members.
    pub initial_cluster: String,
}

/// How a proxy works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Whether to be one.
    pub mode: ProxyMode,
    /// How long a member that failed is left alone.
    pub failure_wait: Duration,
    /// How often the members are asked for.
    pub refresh_interval: Duration,
    /// How long a connection to a member may take; `None` for ever.
    pub dial_timeout: Option<Duration>,
    /// How long a write to a member may take; `None` for ever.
    pub write_timeout: Option<Duration>,
    /// How long a member may be silent; `None` for ever.
    pub read_timeout: Option<Duration>,
}

/// `-dashboard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DashboardMode {
    /// Show and change.
    #[default]
    On,
    /// Show only.
    ReadOnly,
    /// There is none.
    Off,
}

/// `-proxy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// A member.
    Off,
    /// A proxy that passes `GET` on and nothing else.
    Readonly,
    /// A proxy.
    On,
}

/// `-discovery` and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// The URL of a token.
    pub url: String,
    /// The HTTP proxy on the way there.
    pub proxy: Option<String>,
    /// What to do if the cluster is full.
    pub fallback: Fallback,
}

impl Discovery {
    /// The proxy as it may stand in the log: without its password.
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
    /// End with an error.
    Exit,
    /// Be a proxy of the cluster.
    Proxy,
}

/// `-v1-dialect`: whose v1 API is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum V1Dialect {
    /// That of etcd 0.1.
    #[default]
    Of01,
    /// That of 0.2 to 0.4.
    Of04,
}

/// `-initial-cluster-state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// A member without data makes the cluster.
    New,
    /// A member without data joins a cluster that has added it.
    Existing,
}

impl Config {
    /// The time between two heartbeats.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    /// Heartbeats without a leader until an election.
    pub fn election_ticks(&self) -> usize {
        // Both are below a minute's milliseconds.
        usize::try_from(self.election_ms / self.heartbeat_ms).unwrap_or(usize::MAX)
    }

    /// The time without a leader until an election: whole heartbeats.
    pub fn election(&self) -> Duration {
        Duration::from_millis(self.election_ms / self.heartbeat_ms * self.heartbeat_ms)
    }

    /// How long a request may wait: five seconds for queues and the disk, and two elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election()
    }

    /// Tells the log how this member runs, but for its name and directories.
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

    /// Tells the log what is used when a member makes its cluster, and not later.
    pub fn log_initial_settings(&self, cluster: &InitialCluster) {
        info!("etcdserver", "initial advertise peer URLs = {}", self.advertise_peer_urls);
        info!("etcdserver", "initial cluster = {cluster}");
    }
}

/// What was said so far.
struct Settings {
    values: Values,
    /// The flags that the file set.
    from_file: BTreeSet<&'static str>,
    /// The flags that variables set.
    from_environment: BTreeSet<&'static str>,
}

impl Settings {
    fn is_set(&self, name: &str) -> bool {
        self.values.is_set(name)
    }

    /// What an error calls this flag's value, by where it comes from.
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
    /// The settings do not fit together.
    Flags { text: String, hint: Option<&'static str> },
    /// A source other than the command line cannot be used.
    Fatal(String),
}

impl ConfigError {
    fn flags(text: &str) -> ConfigError {
        ConfigError::Flags { text: text.to_owned(), hint: None }
    }
}

/// Reads the configuration.
///
/// `words` are the command line without the program's name, `variables` the whole environment; `read_file` is
/// called with the argument of `-config`, if there is one, and for nothing else.
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

/// Adds what the environment and the file say to what the command line said.
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

/// The form of the log. A word that is none was refused when the flag was read.
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
            // Settings that do not fit together are told before the log has its levels, the rest after.
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
