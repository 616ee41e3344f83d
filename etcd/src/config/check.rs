//! Checks the settings and builds the [`Config`], in the order of the original's checks.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use shared::net::Role;
use shared::quote::quote;
use shared::url::{InitialCluster, Scheme, UrlError, Urls};

use super::address::IpPort;
use super::flags::{self, INITIAL_CLUSTER, NAME, PEER_URLS};
use super::outcome::StartupLines;
use super::{
    ClusterState, Config, ConfigError, DashboardMode, Discovery, Fallback, ProxyConfig, ProxyMode, Settings,
    Sources, TlsFlags, V1Dialect,
};

/// With a longer election timeout, a cluster would be without a leader for minutes after a failure.
const ELECTION_MS_MAX: u64 = 50_000;

/// Shorter times are accepted with a warning.
const HEARTBEAT_MS_USEFUL: u64 = 10;
const ELECTION_MS_USEFUL: u64 = 100;

/// The meaning of `-snapshot-count 0`.
const SNAPSHOT_COUNT: u64 = 10_000;

/// The quota of the database without a flag, as in the original.
const QUOTA_BACKEND_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// The longest request of version 3 without a flag, as in the original.
const ENTRY_BYTES_MAX: usize = 1536 * 1024;

pub(super) fn check(settings: &Settings, notes: &mut StartupLines) -> Result<Config, ConfigError> {
    check_one_bootstrap_method(settings)?;
    let (listen_peer_urls, listen_peer) = urls(settings, "listen-peer-urls", "peer-bind-addr", "peer-addr")?;
    let (advertise_peer_urls, advertise_peer) =
        urls(settings, "initial-advertise-peer-urls", "peer-addr", "")?;
    let (listen_client_urls, listen_client) = urls(settings, "listen-client-urls", "bind-addr", "addr")?;
    let (advertise_client_urls, advertise_client) = urls(settings, "advertise-client-urls", "addr", "")?;
    for (urls, flag) in [(&advertise_peer_urls, advertise_peer), (&advertise_client_urls, advertise_client)] {
        warn_of_unreachable_urls(urls, &settings.source(flag), notes);
    }
    check_advertised(settings)?;
    let (heartbeat_ms, election_ms) = timing(settings, notes)?;
    super::unsupported::check_unsupported(settings)?;
    let client_tls = TlsFlags::new(settings, Role::Clients);
    let peer_tls = TlsFlags::new(settings, Role::Peers);

    let values = &settings.values;
    let name = values.text("name").to_owned();
    let peers = values.text("peers").to_owned();
    let peers_file = path(values.text("peers-file"));
    // A 0.x member did not have to list itself to create a cluster.
    let of_0_x = !peers.is_empty() || peers_file.is_some() || settings.is_set("peer-addr");
    let initial_cluster = match values.text("initial-cluster") {
        _ if of_0_x && !settings.is_set("initial-cluster") => {
            let own = advertise_peer_urls.iter().map(|url| format!("{name}={url}"));
            own.collect::<Vec<_>>().join(",")
        }
        INITIAL_CLUSTER if name != NAME => default_cluster_of(&name),
        text => text.to_owned(),
    };
    let initial_cluster_is_default = initial_cluster == default_cluster_of(&name);
    let discovery = discovery(settings);
    let discovery_srv = Some(values.text("discovery-srv")).filter(|domain| !domain.is_empty());
    let initial_cluster = if discovery.is_some() {
        // The other members are not known yet. This entry is what the member registers.
        InitialCluster::from_iter([(name.clone(), advertise_peer_urls.clone())])
    } else if discovery_srv.is_some() {
        InitialCluster::default()
    } else {
        InitialCluster::parse(&initial_cluster).map_err(|error| {
            bad_cluster_error(&initial_cluster, &error, &settings.source("initial-cluster"))
        })?
    };
    let mut data_dir = values.text("data-dir").to_owned();
    if data_dir.is_empty() {
        data_dir = format!("{name}.etcd");
        notes.main_warning(format!("no data-dir provided, using default data-dir ./{data_dir}"));
    }
    if settings.is_set("enable-v2") {
        notes.notice("the v2 API is always served: -enable-v2 changes nothing".to_owned());
    }
    let mut cors: Vec<String> = flags::origins(values.text("cors")).map(str::to_owned).collect();
    cors.sort();
    cors.dedup();

    Ok(Config {
        name,
        data_dir: PathBuf::from(data_dir),
        wal_dir: path(values.text("wal-dir")),
        snapshot_count: match values.number("snapshot-count") {
            0 => SNAPSHOT_COUNT,
            count => count,
        },
        heartbeat_ms,
        election_ms,
        listen_peer_urls,
        listen_client_urls,
        advertise_peer_urls_are_default: advertise_peer_urls.to_string() == PEER_URLS,
        advertise_peer_urls,
        advertise_client_urls,
        initial_cluster,
        initial_cluster_is_default,
        peers,
        peers_file,
        initial_cluster_token: match &discovery {
            Some(discovery) => discovery.url.clone(),
            None => values.text("initial-cluster-token").to_owned(),
        },
        discovery,
        discovery_srv: discovery_srv.map(str::to_owned),
        initial_cluster_state: match values.text("initial-cluster-state") {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        client_tls,
        peer_tls,
        max_snapshots: count(values.number("max-snapshots")),
        max_wals: count(values.number("max-wals")),
        cors,
        host_whitelist: flags::origins(values.text("host-whitelist")).map(str::to_owned).collect(),
        keys_same_origin: values.switch("keys-same-origin"),
        force_new_cluster: values.switch("force-new-cluster"),
        allow_legacy: false,
        strict_reconfig_check: values.switch("strict-reconfig-check"),
        trace: match values.text("trace") {
            "*" => true,
            "" => false,
            other => {
                notes.main_warning(format!("-trace={other} has no effect: only '*' does"));
                false
            }
        },
        graphite: Some(values.text("graphite-host").to_owned()).filter(|address| !address.is_empty()),
        v1_dialect: match values.text("v1-dialect") {
            "0.4" => V1Dialect::Of04,
            _ => V1Dialect::Of01,
        },
        remove_dead_members: values.switch("remove-dead-members"),
        dashboard: match values.text("dashboard") {
            "read-only" => DashboardMode::ReadOnly,
            "off" => DashboardMode::Off,
            _ => DashboardMode::On,
        },
        watch_history: count(values.number("watch-history")),
        proxy: proxy(settings),
        request_body_bytes_max: count(values.number("max-request-bytes")),
        request_header_bytes_max: count(values.number("max-header-bytes")),
        cluster_level: values.text("cluster-level").parse().unwrap_or_default(),
        v3_flags: flags::of_version_3().filter(|name| settings.is_set(name)).collect(),
        quota_backend_bytes: match values.signed("quota-backend-bytes") {
            0 => Some(QUOTA_BACKEND_BYTES),
            quota => u64::try_from(quota).ok(),
        },
        txn_ops_max: count(values.number("max-txn-ops")),
        entry_bytes_max: match settings.is_set("max-request-bytes") {
            true => count(values.number("max-request-bytes")),
            false => ENTRY_BYTES_MAX,
        },
        watch_progress_interval: shared::go_values::duration(
            values.text("experimental-watch-progress-notify-interval"),
        )
        .unwrap_or_default(),
        key_levels_max: count(values.number("max-key-depth")),
        client_threads: flags::client_threads(values.text("client-threads")).unwrap_or_default(),
        slow_request: Duration::from_millis(values.number("slow-request")),
        enable_pprof: values.switch("enable-pprof"),
        sources: Sources {
            listen_peer_urls: settings.source(listen_peer),
            listen_client_urls: settings.source(listen_client),
            initial_cluster: settings.source("initial-cluster"),
        },
    })
}

fn check_one_bootstrap_method(settings: &Settings) -> Result<(), ConfigError> {
    let ways = ["discovery", "initial-cluster", "discovery-srv"];
    if ways.into_iter().filter(|way| settings.is_set(way)).count() > 1 {
        return Err(ConfigError::flags(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\" or \
             \"discovery-srv\"",
        ));
    }
    let joins = ["peers", "peers-file"].into_iter().find(|flag| !settings.values.text(flag).is_empty());
    if let (Some(flag), Some(way)) = (joins, ways.into_iter().find(|way| settings.is_set(way))) {
        return Err(ConfigError::flags(&format!(
            "-{flag} names a cluster to join, and -{way} is another way to start: set only one of them"
        )));
    }
    Ok(())
}

/// The error for an invalid initial cluster: names the bad entry and what is wrong with it.
fn bad_cluster_error(list: &str, error: &UrlError, source: &str) -> ConfigError {
    let mut entries = list.split(',').filter(|entry| !entry.is_empty());
    let bad = entries.find_map(|entry| Some((entry, InitialCluster::parse(entry).err()?)));
    let (entry, error) = bad.as_ref().map_or((list, error), |(entry, error)| (*entry, error));
    ConfigError::Fatal(format!(
        "error setting up initial cluster: {error} (entry {} of {source}, which has the form NAME=URL,NAME=URL)",
        quote(entry)
    ))
}

/// Warns of advertised URLs that other machines cannot connect to.
fn warn_of_unreachable_urls(urls: &Urls, source: &str, notes: &mut StartupLines) {
    for url in urls {
        let host = url.host();
        let why = if host.is_empty() {
            "names no host"
        } else if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            "means all addresses of a machine, and no machine"
        } else {
            continue;
        };
        notes.main_warning(format!("{url} of {source} {why}: others cannot find this member by it"));
    }
}

/// A list of URLs from the 2.x flag `new` or the 0.4 flag `old`, and the flag that it comes from. If `old` is not set
/// but `advertised` is, uses the port of `advertised` on all addresses.
fn urls<'a>(
    settings: &Settings,
    new: &'a str,
    old: &'a str,
    advertised: &'a str,
) -> Result<(Urls, &'a str), ConfigError> {
    let mut flag = old;
    let address = if settings.is_set(old) {
        Some(settings.values.text(old).parse::<IpPort>())
    } else if !advertised.is_empty()
        && settings.is_set(advertised)
        && !file_address_is_overridden(settings, new, advertised)
    {
        flag = advertised;
        Some(settings.values.text(advertised).parse::<IpPort>().map(|address| address.on_all_addresses()))
    } else {
        None
    };
    // Parsing the flags has already checked both texts.
    let Some(address) = address else {
        let urls = Urls::parse(settings.values.text(new));
        return urls.map(|urls| (urls, new)).map_err(|error| ConfigError::flags(&error.to_string()));
    };
    if settings.is_set(new) {
        return Err(ConfigError::flags(&format!("Set only one of flags -{new} and -{old}")));
    }
    let address = address.map_err(|error| ConfigError::flags(&error.to_string()))?;
    let tls = if new.contains("peer") { "peer-" } else { "" };
    let secret = |part: &str| !settings.values.text(&format!("{tls}{part}")).is_empty();
    let scheme = if secret("cert-file") || secret("key-file") { Scheme::Https } else { Scheme::Http };
    let urls = Urls::parse(&format!("{scheme}://{address}"));
    urls.map(|urls| (urls, flag)).map_err(|error| ConfigError::flags(&error.to_string()))
}

/// Whether the advertised address comes from the file while a flag or variable sets the listen URLs.
fn file_address_is_overridden(settings: &Settings, new: &str, advertised: &str) -> bool {
    settings.from_file.contains(advertised) && settings.is_set(new) && !settings.from_file.contains(new)
}

fn check_advertised(settings: &Settings) -> Result<(), ConfigError> {
    let may_fall_back = settings.is_set("discovery") && settings.values.text("discovery-fallback") == "proxy";
    let may_be_proxy = settings.values.text("proxy") != "off" || may_fall_back;
    let advertised = settings.is_set("advertise-client-urls") || settings.is_set("addr");
    if !may_be_proxy && settings.is_set("listen-client-urls") && !advertised {
        return Err(ConfigError::Flags {
            text: "-advertise-client-urls is required when -listen-client-urls is set explicitly".to_owned(),
            hint: Some(
                "When listening on specific address(es), this etcd process must advertise accessible url(s) to \
                 each connected client.",
            ),
        });
    }
    Ok(())
}

fn timing(settings: &Settings, notes: &mut StartupLines) -> Result<(u64, u64), ConfigError> {
    let heartbeat = settings.values.number("heartbeat-interval");
    let election = settings.values.number("election-timeout");
    if heartbeat.saturating_mul(5) > election {
        return Err(ConfigError::flags(&format!(
            "-election-timeout[{election}ms] should be at least as 5 times as -heartbeat-interval[{heartbeat}ms]"
        )));
    }
    if election > ELECTION_MS_MAX {
        return Err(ConfigError::flags(&format!(
            "-election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        )));
    }
    if heartbeat == 0 {
        // The original divides by the interval.
        return Err(ConfigError::flags(
            "-heartbeat-interval[0ms] is too short, and should be set to 1ms or more",
        ));
    }
    if heartbeat < HEARTBEAT_MS_USEFUL {
        notes.main_warning(format!(
            "-heartbeat-interval[{heartbeat}ms] makes a leader send {} messages a second to each member even when \
             nothing happens",
            1000 / heartbeat
        ));
    }
    if election < ELECTION_MS_USEFUL {
        notes.main_warning(format!(
            "-election-timeout[{election}ms] is shorter than one write may take on a busy disk: the leader may change \
             unnecessarily"
        ));
    }
    Ok((heartbeat, election))
}

fn proxy(settings: &Settings) -> ProxyConfig {
    let time = |flag: &str| Duration::from_millis(settings.values.number(flag));
    let limit = |flag: &str| Some(time(flag)).filter(|time| !time.is_zero());
    ProxyConfig {
        mode: match settings.values.text("proxy") {
            "on" => ProxyMode::On,
            "readonly" => ProxyMode::Readonly,
            _ => ProxyMode::Off,
        },
        failure_wait: time("proxy-failure-wait"),
        refresh_interval: time("proxy-refresh-interval"),
        dial_timeout: limit("proxy-dial-timeout"),
        write_timeout: limit("proxy-write-timeout"),
        read_timeout: limit("proxy-read-timeout"),
    }
}

fn discovery(settings: &Settings) -> Option<Discovery> {
    let text = |flag| Some(settings.values.text(flag).to_owned()).filter(|text| !text.is_empty());
    Some(Discovery {
        url: text("discovery")?,
        proxy: text("discovery-proxy"),
        fallback: match settings.values.text("discovery-fallback") {
            "exit" => Fallback::Exit,
            _ => Fallback::Proxy,
        },
    })
}

/// The default of `-initial-cluster` for a member with this name.
fn default_cluster_of(name: &str) -> String {
    let name = if name.is_empty() { NAME } else { name };
    PEER_URLS.split(',').map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",")
}

fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// A count as `usize`; too large values become `usize::MAX`.
fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
