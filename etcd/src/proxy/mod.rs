//! A proxy: it forwards clients' requests to the members of a cluster. It is not a member itself.
//!
//! ```text
//! transport::listener ─▶ connection ─▶ forward ─▶ director: which endpoint? ─▶ upstream ─▶ a member
//!                        ▲                       ▲                            │
//!                        └──────── body ◀────────┼────────────────────────────┘
//!                                             members: who is there? every 30 s
//! ```
//!
//! Request bodies are read completely first, so that another endpoint can be tried; response bodies are streamed.
//! **Invariant:** the proxy does not interpret bodies, and writes only `proxy/cluster` to disk.

mod body;
mod cluster_file;
mod director;
mod forward;
mod hops;
mod members;
mod metrics;
mod premature_close;
mod rate_limited_log;
#[cfg(test)]
mod tests;
mod timed;
mod upstream;

use std::future::ready;
use std::sync::Arc;

use prometheus::proto::MetricFamily;
use shared::disk::{Disk, RealDisk};
use shared::quote::quote;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::cluster_file::ClusterFile;
use self::director::Director;
use self::hops::Hops;
use self::members::{MemberRefresher, shown};
use self::rate_limited_log::RateLimitedLog;
use self::upstream::Connector;
use crate::config::{Config, DashboardMode, ProxyMode};
use crate::connections::{ConnectionSlots, raise_descriptor_limit};
use crate::discovery::{self, DiscoveryService};
use crate::log;
use crate::metrics::{Metrics, Process, StoreCounts, graphite, legacy};
use crate::server::data_dir::warn_of_unknown_files;
use crate::server::signals::Signals;
use crate::server::{CLOSE_TIMEOUT, DataDirError, Exit, Role, fail, listen, now, role_of};
use crate::systemd::{ServiceEnvironment, report_status};
use crate::tls::{self, Acceptors};
use crate::transport::{self, BrowserRules, HttpServer, Limits};

/// The state that all connections share.
pub(crate) struct Proxy {
    http_server: HttpServer,
    browsers: BrowserRules,
    readonly: bool,
    director: Arc<Director>,
    connector: Connector,
    metrics: metrics::ProxyMetrics,
    process_metrics: Metrics,
    rate_limited_log: RateLimitedLog,
    hops: Hops,
    stopping: watch::Receiver<bool>,
}

impl Proxy {
    /// A proxy without endpoints yet. It will keep at most `idle_max` idle connections to all endpoints together.
    fn new(
        config: &Config,
        connector: Connector,
        stopping: watch::Receiver<bool>,
        idle_max: usize,
    ) -> anyhow::Result<Proxy> {
        let process_metrics = Metrics::new();
        Ok(Proxy {
            // A forwarded watch ends when its client disconnects.
            http_server: HttpServer::new(Limits::from(config)).without_half_close(),
            browsers: BrowserRules::new(config).without_dashboard(),
            readonly: config.proxy.mode == ProxyMode::Readonly,
            director: Arc::new(Director::new(
                config.proxy.failure_wait,
                idle_max,
                config.listen_client_urls.clone(),
            )),
            connector,
            metrics: metrics::ProxyMetrics::new(process_metrics.registry())?,
            process_metrics,
            rate_limited_log: RateLimitedLog::new(),
            hops: Hops::new(),
            stopping,
        })
    }
}

impl Proxy {
    /// The proxy's state in one line, for the service manager.
    fn summary(&self) -> String {
        let (known, usable) =
            (self.director.endpoints().len(), self.director.available(tokio::time::Instant::now()).len());
        format!("proxy: {usable} of {known} endpoints can be used")
    }

    /// The measures that are not in the registry. A proxy has no store, so those of the store are zero.
    fn measures(&self) -> Vec<MetricFamily> {
        let mut measures = StoreCounts::default().families();
        measures.extend(Process::read().iter().flat_map(Process::families));
        measures
    }
}

/// Whether to run a proxy: a used data dir decides, else `-proxy` does.
///
/// # Errors
/// If the data dir belongs to both a member and a proxy, or is not a directory.
pub fn is_proxy(config: &Config) -> Result<bool, DataDirError> {
    Ok(match role_of(&RealDisk, &config.data_dir)? {
        Some(Role::Member) => false,
        Some(Role::Proxy) => {
            log::notice!(
                "etcdmain",
                "the server is already initialized as proxy before, starting as etcd proxy..."
            );
            true
        }
        None => config.proxy.mode != ProxyMode::Off,
    })
}

/// Runs a proxy until a signal stops it. Errors are logged.
pub fn run(config: &Config, service: &ServiceEnvironment) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start the runtime: {error}")),
    };
    match runtime.block_on(serve(config, service)) {
        Ok(exit) => exit,
        // The error texts include their causes.
        Err(error) => fail(&error.to_string()),
    }
}

/// Warns of flags that only a member supports: users may rely on them.
fn warn_of_what_members_have(config: &Config) {
    if config.enable_pprof {
        log::warning!("proxy", "-enable-pprof has no effect: a proxy serves no profiles");
    }
    if config.dashboard != DashboardMode::On {
        log::warning!(
            "proxy",
            "-dashboard has no effect: a proxy passes on what its members serve, set it there"
        );
    }
}

async fn serve(config: &Config, service: &ServiceEnvironment) -> anyhow::Result<Exit> {
    warn_of_what_members_have(config);
    let manager = &service.manager;
    let mut signals = Signals::catch()?;
    let disk = RealDisk;
    let slots =
        ConnectionSlots::of_proxy(raise_descriptor_limit(), config.listen_client_urls.iter().count())?;
    let acceptors = Acceptors::of_proxy(config)?;
    disk.create_dir_all(&config.data_dir)?;
    warn_of_unknown_files(&disk.list(&config.data_dir)?, &config.data_dir);
    let file = ClusterFile::in_data_dir(disk, &config.data_dir)?;
    let connector = Connector::new(tls::dialer(config)?, &config.proxy);
    let peer_urls = match file.read()? {
        Some(urls) => {
            let path = file.path().to_string_lossy();
            let path = quote(&*path);
            let ignored = [
                (config.discovery.is_some(), "discovery token"),
                (config.discovery_srv.is_some(), "DNS SRV discovery"),
            ];
            for (_, what) in ignored.iter().filter(|(is_set, _)| *is_set) {
                log::warning!(
                    "etcdmain",
                    "{what} ignored since the proxy has already been initialized. Valid cluster file found at {path}"
                );
            }
            log::info!("etcdmain", "proxy: using peer urls {} from cluster file {path}", shown(&urls));
            urls
        }
        None => {
            manager.status("starting: finding out who the members are");
            // Discovery may wait until enough members have registered.
            let urls = tokio::select! {
                urls = first_peer_urls(config) => urls?,
                signal = signals.next() => return Ok(Exit::Signal(signal)),
            };
            log::info!("etcdmain", "proxy: using peer urls {} ", shown(&urls));
            urls
        }
    };

    let (stop, stopping) = watch::channel(false);
    let proxy = Arc::new(Proxy::new(config, connector.clone(), stopping.clone(), slots.idle_upstream())?);
    let mut members = MemberRefresher::new(connector, proxy.director.clone(), file, peer_urls);
    tokio::select! {
        () = members.refresh() => {}
        signal = signals.next() => return Ok(Exit::Signal(signal)),
    }
    let assigned = service.sockets.assign_to_urls(None, &config.listen_client_urls).await?;
    let what = "proxy: listening for client requests";
    let source = &config.sources.listen_client_urls;
    let listeners = listen(&config.listen_client_urls, source, what, &acceptors, assigned.clients).await?;
    if config.client_threads.is_some_and(|count| count > 0) {
        log::warning!(
            "proxy",
            "-client-threads is for members and has no effect here: a proxy serves all connections on one thread"
        );
    }
    for flag in &config.v3_flags {
        log::warning!("proxy", "-{flag} is for members and has no effect here");
    }
    if !config.cors.is_empty() {
        log::info!("etcdmain", "cors = {}", config.cors.join(","));
    }
    let refreshing = tokio::spawn(members.refresh_forever(config.proxy.refresh_interval));
    let sending = config.graphite.clone().map(|address| {
        let (proxy, prefix) = (proxy.clone(), legacy::prefix(&config.name));
        tokio::spawn(graphite::send(address, move || {
            let seconds = now().0.div_euclid(1_000_000_000);
            ready(proxy.process_metrics.legacy_metrics(proxy.measures()).graphite(&prefix, seconds))
        }))
    });
    let mut connections = JoinSet::new();
    for (listener, acceptor) in listeners {
        connections.spawn(transport::serve(
            listener,
            acceptor,
            proxy.clone(),
            stopping.clone(),
            slots.clone(),
            Arc::default(),
        ));
    }
    let summary = || proxy.summary();
    manager.ready(&summary());
    let signal = tokio::select! {
        // The watchdog covers the thread that serves all connections: this code runs on it.
        never = report_status(manager, summary(), summary, async || {}) => match never {},
        signal = signals.next() => signal,
    };
    manager.stopping();
    refreshing.abort();
    if let Some(sending) = sending {
        sending.abort();
    }
    stop.send_replace(true);
    let closed = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
        log::warning!("etcdmain", "some connections were not finished and are cut off");
    }
    Ok(Exit::Signal(signal))
}

/// The first peer URLs of a proxy without a cluster file: those of all members from discovery, SRV records or
/// `-initial-cluster`; sorted.
async fn first_peer_urls(config: &Config) -> anyhow::Result<Vec<String>> {
    let cluster = match (&config.discovery, &config.discovery_srv) {
        (Some(discovery), _) => DiscoveryService::new(discovery)?.cluster().await?,
        (None, Some(domain)) => discovery::cluster_by_srv(config, domain, false)
            .await
            .map_err(|error| anyhow::anyhow!("error setting up initial cluster: {error}"))?,
        (None, None) => config.initial_cluster.clone(),
    };
    let mut urls: Vec<String> =
        cluster.iter().flat_map(|(_, urls)| urls.iter().map(ToString::to_string)).collect();
    urls.sort();
    Ok(urls)
}
