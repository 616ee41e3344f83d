//! The list of the server's flags: name, kind, default and help of each.
//!
//! The environment, the configuration file, the help, manual pages, completions and the check of
//! `Documentation/configuration.md` all use this list.

use std::time::Duration;

use shared::flags::{Flag, FlagSet, Group, Kind};
use shared::url::{Url, UrlError, Urls};

use super::address::IpPort;
use crate::log::Format;

/// The default of both lists of peer URLs.
pub(super) const PEER_URLS: &str = "http://localhost:2380,http://localhost:7001";
/// The default of both lists of client URLs.
pub(super) const CLIENT_URLS: &str = "http://localhost:2379,http://localhost:4001";
/// The default of `-name`.
pub(super) const NAME: &str = "default";
/// The default of `-initial-cluster`.
pub(super) const INITIAL_CLUSTER: &str = "default=http://localhost:2380,default=http://localhost:7001";

/// A 0.4 flag that 2.x accepts with a warning and ignores.
const fn ignored(name: &'static str) -> Flag {
    Flag::new(name, Kind::Ignored, "", "Of etcd 0.4. Accepted with a warning, and not used.")
}

const fn urls(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Checked(check_urls), default, help)
}

const fn address(name: &'static str, help: &'static str) -> Flag {
    Flag::new(name, Kind::Checked(check_address), "", help)
}

/// The flags of `etcd`.
pub static FLAGS: FlagSet = FlagSet {
    program: "etcd",
    about: "A member of a replicated key-value store that speaks the etcd v2 API.",
    operands: "",
    introduction: INTRODUCTION,
    environment: "ETCD_",
    groups: &[
        FIRST,
        MEMBER,
        LIMITS,
        VERSION_3,
        DASHBOARD,
        CLUSTERING,
        PROXY,
        SECURITY,
        LOGGING,
        UNSAFE,
        EXPERIMENTAL,
        MONITORING,
        PROFILING,
        MISCELLANY,
        ADDRESSES,
        IGNORED,
    ],
};

const INTRODUCTION: &str = "\
usage: etcd [flags]
       etcd --version | --help
       etcd --man | --completion bash|zsh|fish

etcd is a server that stores keys and values for programs on several machines, and notifies them of changes.
The servers of a cluster, its members, agree on every change; while a majority of them runs, no acknowledged
write is lost. Without flags, etcd runs as the only member of a new cluster, keeps its data in
./default.etcd and listens on this machine only.

examples:
  etcd                                try it; then: etcdctl set /message hello
  etcd --name one --data-dir /var/lib/etcd \\
       --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://10.0.0.1:2379
                                      one member, for clients on other machines too
  etcd --name one --data-dir /var/lib/etcd \\
       --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://10.0.0.1:2379 \\
       --listen-peer-urls http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380 \\
       --initial-cluster one=http://10.0.0.1:2380,two=http://10.0.0.2:2380,three=http://10.0.0.3:2380
                                      the first of three; the others use their own names and addresses
  etcd --proxy on --data-dir /var/lib/etcd-proxy \\
       --initial-cluster one=http://10.0.0.1:2380,two=http://10.0.0.2:2380,three=http://10.0.0.3:2380
                                      forwards requests of programs on this machine to that cluster

settings:
  -name and --name are the same flag. Its value is the next word or follows '='; the value of a boolean flag
  must follow '=': --debug, --debug=false.
  The list below shows each flag with its default and its environment variable. A flag overrides the variable,
  the variable overrides the file that --config names, and the file overrides the default.

see also:
  etcdctl reads and writes keys and manages a cluster, etcd-dump shows and checks a data directory,
  etcd-migrate converts a data directory of 0.x.

exit status:
  0  the member was removed from its cluster, or only a text was printed
  1  the settings contradict each other, or the server failed; the last line of the log says why
  2  the command line is invalid
  SIGTERM and SIGINT stop the server in order; its exit status is then that of a process killed by the signal.
";

const FIRST: Group = Group {
    title: "most used flags",
    remark: "Flags that begin with 'initial' are used only while a member has no data.",
    hidden: false,
    flags: &[
        Flag::text("name", NAME, "The name of this member."),
        Flag::text(
            "data-dir",
            "",
            "The directory with all data of this member. Default: '<name>.etcd' in the working directory.",
        ),
        urls("listen-client-urls", CLIENT_URLS, "The URLs to listen on for clients, separated by commas."),
        urls(
            "advertise-client-urls",
            CLIENT_URLS,
            "The URLs at which clients reach this member, separated by commas; '/v2/members' lists them. Required if \
             -listen-client-urls is set.",
        ),
        urls("listen-peer-urls", PEER_URLS, "The URLs to listen on for other members, separated by commas."),
        urls(
            "initial-advertise-peer-urls",
            PEER_URLS,
            "The URLs at which the other members reach this one, separated by commas.",
        ),
        Flag::text(
            "initial-cluster",
            INITIAL_CLUSTER,
            "The members of a new cluster: 'name=URL', separated by commas; a name may occur more than once. \
             The default uses the value of -name.",
        ),
        Flag::new(
            "initial-cluster-state",
            Kind::Choice(&["new", "existing"]),
            "new",
            "Whether to create a new cluster ('new') or to join one that has added this member ('existing').",
        ),
    ],
};

const MEMBER: Group = Group {
    title: "other member flags",
    remark: "",
    hidden: false,
    flags: &[
        Flag::text(
            "wal-dir",
            "",
            "A directory for the log only, for instance on its own disk. Default: member/wal in the data directory.",
        ),
        Flag::number(
            "snapshot-count",
            "10000",
            "The number of applied entries between two snapshots; a snapshot allows older log files to be removed. \
             0 means 10000.",
        ),
        Flag::number(
            "heartbeat-interval",
            "100",
            "The interval of the leader's heartbeats, in milliseconds.",
        ),
        Flag::number(
            "election-timeout",
            "1000",
            "How long a member waits for its leader before it starts an election, in milliseconds. At least five \
             heartbeats, at most 50000.",
        ),
        Flag::number("max-snapshots", "5", "The number of snapshot files to keep; 0 keeps all."),
        Flag::number("max-wals", "5", "The number of log files to keep; 0 keeps all."),
        Flag::new(
            "cors",
            Kind::Checked(check_cors),
            "",
            "The origins whose web pages may access this server (CORS), separated by commas; '*' for all.",
        ),
        Flag::new(
            "host-whitelist",
            Kind::Checked(check_hosts),
            "*",
            "The hosts that requests without TLS may name, without ports and separated by commas; '*' for any. Other \
             requests get status 421. As in etcd 3.",
        ),
        Flag::switch(
            "keys-same-origin",
            "Refuse changes of keys from web pages of origins other than this server and -cors. Not in the original.",
        ),
    ],
};

const LIMITS: Group = Group {
    title: "limits",
    remark: "Not in the original.",
    hidden: false,
    flags: &[
        Flag::new(
            "watch-history",
            Kind::Bounded(1, 1_000_000),
            "1000",
            "The number of past events kept for watches with a 'waitIndex'; from 1 to 1000000.",
        ),
        Flag::new(
            "max-request-bytes",
            Kind::Bounded(1024, 1 << 30),
            "16777216",
            "The maximum size of a request body in bytes; a larger one gets status 413. From 1024 to 1073741824.",
        ),
        Flag::new(
            "max-header-bytes",
            // The headers of any browser fit into the minimum.
            Kind::Bounded(8192, 16 << 20),
            "1048576",
            "The maximum size of a request's first line and headers together, in bytes; larger ones get status 431. \
             From 8192 to 16777216.",
        ),
        Flag::new(
            "max-key-depth",
            // The keys of locks have six levels; a path has at most 32767.
            Kind::Bounded(16, 32_768),
            "1000",
            "The maximum depth of a new key below '/'; a write of a deeper key gets status 400. From 16 to 32768.",
        ),
        Flag::new(
            "client-threads",
            Kind::Checked(check_client_threads),
            "auto",
            "How many threads serve the connections of clients, beside the thread of the member; 0 to 64. 'auto' means \
             all processors but two, at most 8, and 0 on fewer than four processors.",
        ),
    ],
};

const VERSION_3: Group = Group {
    title: "version 3 flags",
    remark: "For the third version of the API, which clusters of the levels 3.4 and 3.5 have.",
    hidden: false,
    flags: &[
        Flag::new(
            "cluster-level",
            Kind::Choice(&["2.3", "3.4", "3.5"]),
            "2.3",
            "The version of the original whose files and messages a new cluster has: '2.3' has no third version of the \
             API. Used only while a member has no data.",
        ),
        Flag::new(
            "quota-backend-bytes",
            Kind::Signed,
            "0",
            "The size of the database from which on keys are refused; 0 means 2 GiB, a negative number no bound.",
        ),
        Flag::new(
            "max-txn-ops",
            Kind::Bounded(1, 1_000_000),
            "128",
            "The maximum number of operations of a transaction.",
        ),
        Flag::new(
            "experimental-watch-progress-notify-interval",
            Kind::Checked(check_progress_interval),
            "10m",
            "The time between two notices to an idle watch that wants them; at least 100ms.",
        ),
    ],
};

/// The names of the flags for version 3.
pub(super) fn of_version_3() -> impl Iterator<Item = &'static str> {
    VERSION_3.flags.iter().map(|flag| flag.name)
}

/// The least time between two notices of progress.
const PROGRESS_INTERVAL_LEAST: Duration = Duration::from_millis(100);

fn check_progress_interval(text: &str) -> Result<(), String> {
    match shared::go_values::duration(text)? {
        interval if interval < PROGRESS_INTERVAL_LEAST => Err("it must be at least 100ms".to_owned()),
        _ => Ok(()),
    }
}

const DASHBOARD: Group = Group {
    title: "dashboard flags",
    remark: "Not in the original.",
    hidden: false,
    flags: &[Flag::new(
        "dashboard",
        Kind::Choice(&["on", "read-only", "off"]),
        "on",
        "Whether the dashboard is served at '/mod/dashboard/', and whether it may change keys.",
    )],
};

const CLUSTERING: Group = Group {
    title: "other clustering flags",
    remark: "Used only while a member has no data, except the last one.",
    hidden: false,
    flags: &[
        Flag::text(
            "initial-cluster-token",
            "etcd-cluster",
            "Distinguishes clusters: clusters created with different tokens never mix, even with the same addresses.",
        ),
        Flag::text(
            "discovery",
            "",
            "The URL of a token at a discovery service, at which the members of a new cluster find each other.",
        ),
        Flag::new(
            "discovery-fallback",
            Kind::Choice(&["exit", "proxy"]),
            "proxy",
            "What to do when discovery finds that the cluster is full.",
        ),
        Flag::text("discovery-proxy", "", "An HTTP proxy for requests to the discovery service only."),
        Flag::text("discovery-srv", "", "A domain whose SRV records list the members of a new cluster."),
        Flag::switch("strict-reconfig-check", "Refuse membership changes that would lose the quorum."),
    ],
};

const PROXY: Group = Group {
    title: "proxy flags",
    remark: "",
    hidden: false,
    flags: &[
        Flag::new(
            "proxy",
            Kind::Choice(&["off", "readonly", "on"]),
            "off",
            "Run a proxy, which forwards requests to the members of a cluster; 'readonly' forwards reads only.",
        ),
        Flag::number(
            "proxy-failure-wait",
            "5000",
            "How long a failed endpoint is not used, in milliseconds.",
        ),
        Flag::number(
            "proxy-refresh-interval",
            "30000",
            "The interval at which the list of members is refreshed, in milliseconds.",
        ),
        Flag::number("proxy-dial-timeout", "1000", "The timeout of connecting, in milliseconds; 0 for none."),
        Flag::number("proxy-write-timeout", "5000", "The timeout of a write, in milliseconds; 0 for none."),
        Flag::number("proxy-read-timeout", "0", "The timeout of a read, in milliseconds; 0 for none."),
    ],
};

const SECURITY: Group = Group {
    title: "security flags",
    remark: "All files are PEM, and are read again when they change. Those of -peer-… are used to accept and to dial.",
    hidden: false,
    flags: &[
        Flag::text("ca-file", "", "Deprecated: -trusted-ca-file and -client-cert-auth in one."),
        Flag::text(
            "cert-file",
            "",
            "The certificate for clients at https URLs, followed by the intermediate certificates.",
        ),
        Flag::text("key-file", "", "The private key of -cert-file, not encrypted."),
        Flag::switch("client-cert-auth", "Reject clients without a certificate of a trusted authority."),
        Flag::text(
            "trusted-ca-file",
            "",
            "The authorities that sign clients' certificates. Default: the system's authorities.",
        ),
        Flag::text(
            "peer-ca-file",
            "",
            "Deprecated: -peer-trusted-ca-file and -peer-client-cert-auth in one.",
        ),
        Flag::text("peer-cert-file", "", "The certificate for other members, both as server and as client."),
        Flag::text("peer-key-file", "", "The private key of -peer-cert-file, not encrypted."),
        Flag::switch("peer-client-cert-auth", "Reject members without a certificate of a trusted authority."),
        Flag::text(
            "peer-trusted-ca-file",
            "",
            "The authorities that sign other members' certificates. Default: the system's authorities.",
        ),
        Flag::switch(
            "tls-accept-common-name",
            "Accept the common name of a dialed member's certificate as its host name if the certificate has no DNS \
             names. For certificates of old clusters. Not in the original.",
        ),
    ],
};

const LOGGING: Group = Group {
    title: "logging flags",
    remark: "",
    hidden: false,
    flags: &[
        Flag::switch("debug", "Log at level DEBUG."),
        Flag::text(
            "log-package-levels",
            "",
            "The log levels of packages, such as 'etcdserver=DEBUG,raft=ERROR'; '*' for all packages. The levels are \
             CRITICAL, ERROR, WARNING, NOTICE, INFO and DEBUG.",
        ),
        Flag::new(
            "log-format",
            Kind::Checked(check_log_format),
            "text",
            "The format of the log: 'text', or 'json' for one object per line. Not in the original.",
        ),
        Flag::number(
            "slow-request",
            "500",
            "A write or a quorum read that takes more milliseconds gets a log line that shows where its time went. \
             0 for never. Not in the original.",
        ),
    ],
};

const UNSAFE: Group = Group {
    title: "unsafe flags",
    remark: "They override what the members have agreed on. Use them only to recover from a disaster.",
    hidden: false,
    flags: &[Flag::switch(
        "force-new-cluster",
        "Make this member the only one of its cluster: removes all other members. For restoring a backup.",
    )],
};

const EXPERIMENTAL: Group = Group {
    title: "experimental flags",
    remark: "Refused: this server has no v3 API.",
    hidden: false,
    flags: &[
        Flag::switch("experimental-v3demo", "Serve an early v3 API."),
        Flag::text("experimental-gRPC-addr", "127.0.0.1:2378", "The address of the v3 API."),
        Flag::new(
            "experimental-auto-compaction-retention",
            Kind::Signed,
            "0",
            "The hours of v3 history to keep; 0 keeps all.",
        ),
    ],
};

const MONITORING: Group = Group {
    title: "monitoring flags",
    remark: "Of etcd 0.4.",
    hidden: false,
    flags: &[
        Flag::new(
            "graphite-host",
            Kind::Checked(check_host_port),
            "",
            "Send metrics to this Graphite server every two seconds: HOST:PORT of its plain text protocol.",
        ),
        Flag::text("trace", "", "'*' serves metrics in the format of 0.4 at '/debug/metrics'."),
    ],
};

const PROFILING: Group = Group {
    title: "profiling flags",
    remark: "",
    hidden: false,
    flags: &[Flag::switch("enable-pprof", "Serve profiles under '/debug/pprof', for 'go tool pprof'.")],
};

const MISCELLANY: Group = Group {
    title: "miscellaneous flags",
    remark: "",
    hidden: false,
    flags: &[
        Flag::text(
            "config",
            "",
            "A configuration file in TOML, as in etcd 0.4. Flags and environment variables override it. Without this \
             flag, no file is read.",
        ),
        Flag::new(
            "enable-v2",
            Kind::Bool,
            "true",
            "Accepted because scripts for etcd 3 set it. The v2 API is always served.",
        ),
        Flag::switch("version", "Print the version and exit."),
    ],
};

const ADDRESSES: Group = Group {
    title: "flags of etcd 0.4",
    remark: "An address is an IP address and a port: '127.0.0.1:4001'. The names of 0.1 (-C, -c, -s, -d) are accepted too.",
    hidden: false,
    flags: &[
        address(
            "addr",
            "Old form of -advertise-client-urls. Without -bind-addr the server listens on the same port of all \
             addresses.",
        ),
        address("bind-addr", "Old form of -listen-client-urls."),
        address(
            "peer-addr",
            "Old form of -initial-advertise-peer-urls. Without -peer-bind-addr the server listens on the same \
             port of all addresses.",
        ),
        address("peer-bind-addr", "Old form of -listen-peer-urls."),
        Flag::text(
            "peers",
            "",
            "Peer addresses of members of a running cluster, separated by commas: a member without data adds itself to \
             that cluster and joins. If the cluster requires a user, put it before one address: \
             'root:PASSWORD@127.0.0.1:7001'.",
        ),
        Flag::text(
            "peers-file",
            "",
            "A file with such addresses, separated by commas or line ends; read if -peers is not set.",
        ),
        Flag::switch(
            "remove-dead-members",
            "Let the leader remove a member that has been silent for the 'removeDelay' of '/v2/admin/config', if the \
             cluster keeps its quorum.",
        ),
        Flag::new(
            "v1-dialect",
            Kind::Choice(&["0.1", "0.4"]),
            "0.1",
            "The release whose responses '/v1/keys' and '/v1/watch' give: etcd 0.1, or 0.2 to 0.4.",
        ),
    ],
};

const IGNORED: Group = Group {
    title: "ignored flags of etcd 0.4",
    remark: "",
    hidden: true,
    flags: &[
        ignored("cluster-active-size"),
        ignored("cluster-remove-delay"),
        ignored("cluster-sync-interval"),
        ignored("force"),
        ignored("max-result-buffer"),
        ignored("max-retry-attempts"),
        ignored("peer-heartbeat-interval"),
        ignored("peer-election-timeout"),
        ignored("retry-interval"),
        ignored("snapshot"),
        ignored("v"),
        ignored("vv"),
    ],
};

fn check_urls(list: &str) -> Result<(), String> {
    Urls::parse(list).map(drop).map_err(|error| error.to_string())
}

fn check_address(text: &str) -> Result<(), String> {
    text.parse::<IpPort>().map(drop).map_err(|error| error.to_string())
}

fn check_host_port(text: &str) -> Result<(), String> {
    let (host, port) =
        text.rsplit_once(':').ok_or_else(|| format!("address {text}: missing port in address"))?;
    if host.is_empty() {
        return Err(format!("address {text}: missing host in address"));
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(format!("address {text}: the port is a number from 1 to 65535")),
    }
}

fn check_log_format(word: &str) -> Result<(), String> {
    word.parse::<Format>().map(drop)
}

fn check_client_threads(word: &str) -> Result<(), String> {
    client_threads(word).map(drop)
}

/// The threads for clients that the flag asks for; `None` for `auto`.
///
/// # Errors
/// When it is neither a number from 0 to 64 nor `auto`.
pub(super) fn client_threads(word: &str) -> Result<Option<usize>, String> {
    match word.parse() {
        _ if word == "auto" => Ok(None),
        Ok(count @ 0..=64) => Ok(Some(count)),
        _ => Err("give a number from 0 to 64, or auto".to_owned()),
    }
}

fn check_cors(list: &str) -> Result<(), String> {
    for origin in origins(list).filter(|origin| *origin != "*") {
        // An origin need not meet the rules for listen URLs; it must only be a valid URL.
        if let Err(error @ UrlError::Malformed { .. }) = origin.parse::<Url>() {
            return Err(format!("Invalid CORS origin: {error}"));
        }
    }
    Ok(())
}

fn check_hosts(list: &str) -> Result<(), String> {
    for host in origins(list) {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if bare.contains(['/', ' ', '@']) || bare.contains(':') && bare.parse::<std::net::Ipv6Addr>().is_err()
        {
            return Err(format!(
                "{host} is no host: give a name or an address alone, without scheme and port"
            ));
        }
    }
    Ok(())
}

/// The items of `-cors`, and of other lists.
pub(super) fn origins(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|origin| !origin.is_empty())
}
