//! The list of the server's flags: name, kind, default and help of each.
//!
//! The environment, the configuration file, the help, manual pages, completions and the check of
//! `Documentation/configuration.md` all use this list.

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

etcd is a server that keeps keys and values for programs on several machines, and lets them watch what
changes. The servers of a cluster, its members, agree on every change; while a majority of them runs,
nothing that was acknowledged is lost. Without flags it is the only member of a new cluster, keeps its data
in ./default.etcd and listens on this machine only.

examples:
  etcd                                try it; then: etcdctl set /message hello
  etcd --name one --data-dir /var/lib/etcd \\
       --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://10.0.0.1:2379
                                      one member, for clients on other machines too
  etcd --name one --data-dir /var/lib/etcd \\
       --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://10.0.0.1:2379 \\
       --listen-peer-urls http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380 \\
       --initial-cluster one=http://10.0.0.1:2380,two=http://10.0.0.2:2380,three=http://10.0.0.3:2380
                                      the first of three; the others have names and addresses of their own
  etcd --proxy on --data-dir /var/lib/etcd-proxy \\
       --initial-cluster one=http://10.0.0.1:2380,two=http://10.0.0.2:2380,three=http://10.0.0.3:2380
                                      passes on what programs of this machine ask of that cluster

settings:
  -name and --name are the same flag. Its value is the next word or stands behind '='; that of a flag which
  is true or false stands behind '=' only: --debug, --debug=false.
  Below, each flag has its default and the environment variable that may be set instead. A flag goes before
  the variable, the variable before the file that --config names, the file before the default.

see also:
  etcdctl reads and writes keys and looks after a cluster, etcd-dump shows and checks a data directory,
  etcd-migrate takes one of 0.x over.

exit status:
  0  the member was removed from its cluster, or a text was asked for
  1  the settings do not fit together, or the server could not go on; the last line of the log says why
  2  the command line makes no sense
  SIGTERM and SIGINT end the server in order; it seems to be killed by them then.
";

const FIRST: Group = Group {
    title: "most used flags",
    remark: "Those that begin with 'initial' are read when a member has no data yet, and not used later.",
    hidden: false,
    flags: &[
        Flag::text("name", NAME, "What people call this member."),
        Flag::text(
            "data-dir",
            "",
            "The folder that holds everything this member knows. Without it, the member's name and '.etcd' in \
             the working directory.",
        ),
        urls("listen-client-urls", CLIENT_URLS, "Where to listen for clients: URLs, separated by commas."),
        urls(
            "advertise-client-urls",
            CLIENT_URLS,
            "Under which URLs clients reach this member; they are told by '/v2/members'. Required if \
             -listen-client-urls is given.",
        ),
        urls("listen-peer-urls", PEER_URLS, "Where to listen for other members: URLs, separated by commas."),
        urls(
            "initial-advertise-peer-urls",
            PEER_URLS,
            "Under which URLs the other members reach this one, separated by commas.",
        ),
        Flag::text(
            "initial-cluster",
            INITIAL_CLUSTER,
            "The members of a new cluster: 'name=URL', separated by commas; a name may stand more than once. \
             The default follows -name.",
        ),
        Flag::new(
            "initial-cluster-state",
            Kind::Choice(&["new", "existing"]),
            "new",
            "Whether the cluster is to be made ('new') or is there and has added this member ('existing').",
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
            "A folder for the log alone, for instance on a disk of its own. Without it, member/wal in the data \
             directory.",
        ),
        Flag::number(
            "snapshot-count",
            "10000",
            "After how many applied entries a snapshot is saved, so that the log before it can go. 0 means \
             10000.",
        ),
        Flag::number("heartbeat-interval", "100", "How often a leader tells that it lives, in milliseconds."),
        Flag::number(
            "election-timeout",
            "1000",
            "How long a member waits for its leader before it stands for election, in milliseconds. At least \
             five heartbeats, at most 50000.",
        ),
        Flag::number("max-snapshots", "5", "How many snapshot files to keep; 0 keeps all."),
        Flag::number("max-wals", "5", "How many log files to keep; 0 keeps all."),
        Flag::new(
            "cors",
            Kind::Checked(check_cors),
            "",
            "The origins whose pages a browser may let talk to this server, separated by commas; '*' for all.",
        ),
        Flag::new(
            "host-whitelist",
            Kind::Checked(check_hosts),
            "*",
            "The hosts that requests without TLS may name, without ports and separated by commas; '*' for any. Others \
             are answered with 421. As in etcd 3.",
        ),
        Flag::switch(
            "keys-same-origin",
            "Let no page of another origin than this server or -cors change keys. Not in the original.",
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
            "How many past events are kept for watches that ask for a 'waitIndex'; from 1 to 1000000.",
        ),
        Flag::new(
            "max-request-bytes",
            Kind::Bounded(1024, 1 << 30),
            "16777216",
            "How long the body of a request may be; a longer one is answered with 413. From 1024 to \
             1073741824.",
        ),
        Flag::new(
            "max-header-bytes",
            // The headers of any browser fit into the minimum.
            Kind::Bounded(8192, 16 << 20),
            "1048576",
            "How long the first line of a request and its headers may be together; longer ones are answered \
             with 431. From 8192 to 16777216.",
        ),
        Flag::new(
            "max-key-depth",
            // The keys of locks have six levels; a path has at most 32767.
            Kind::Bounded(16, 32_768),
            "1000",
            "How many levels below '/' a new key may be; a write beyond it is answered with 400. From 16 to 32768.",
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

const DASHBOARD: Group = Group {
    title: "dashboard flags",
    remark: "Not in the original.",
    hidden: false,
    flags: &[Flag::new(
        "dashboard",
        Kind::Choice(&["on", "read-only", "off"]),
        "on",
        "Whether a page for people is served at '/mod/dashboard/', and whether it may change keys.",
    )],
};

const CLUSTERING: Group = Group {
    title: "other clustering flags",
    remark: "Read when a member has no data yet, and not used later; but for the last one.",
    hidden: false,
    flags: &[
        Flag::text(
            "initial-cluster-token",
            "etcd-cluster",
            "A word that keeps clusters apart: those made with different words never mix, even if their \
             addresses are the same.",
        ),
        Flag::text(
            "discovery",
            "",
            "The URL of a token at a discovery service: the members of a new cluster find each other there.",
        ),
        Flag::new(
            "discovery-fallback",
            Kind::Choice(&["exit", "proxy"]),
            "proxy",
            "What to do when discovery finds that the cluster is full.",
        ),
        Flag::text(
            "discovery-proxy",
            "",
            "An HTTP proxy on the way to the discovery service; used for nothing else.",
        ),
        Flag::text("discovery-srv", "", "A domain whose SRV records name the members of a new cluster."),
        Flag::switch(
            "strict-reconfig-check",
            "Refuse a change of the members after which they could not agree any more.",
        ),
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
            "Pass requests on to the members of a cluster instead of being one; 'readonly' passes reads only.",
        ),
        Flag::number(
            "proxy-failure-wait",
            "5000",
            "How long a failed endpoint is left alone, in milliseconds.",
        ),
        Flag::number(
            "proxy-refresh-interval",
            "30000",
            "How often the members are asked for, in milliseconds.",
        ),
        Flag::number(
            "proxy-dial-timeout",
            "1000",
            "How long a connection may take, in milliseconds; 0 for ever.",
        ),
        Flag::number(
            "proxy-write-timeout",
            "5000",
            "How long a write may take, in milliseconds; 0 for ever.",
        ),
        Flag::number("proxy-read-timeout", "0", "How long a read may take, in milliseconds; 0 for ever."),
    ],
};

const SECURITY: Group = Group {
    title: "security flags",
    remark: "Files are PEM, and read again when they change. Those of -peer-… serve both to accept and to dial.",
    hidden: false,
    flags: &[
        Flag::text("ca-file", "", "Deprecated: -trusted-ca-file and -client-cert-auth in one."),
        Flag::text(
            "cert-file",
            "",
            "The certificate that clients are shown at https URLs, with the intermediate ones behind it.",
        ),
        Flag::text("key-file", "", "The key of -cert-file, not encrypted."),
        Flag::switch("client-cert-auth", "Turn away clients that show no certificate of a known authority."),
        Flag::text(
            "trusted-ca-file",
            "",
            "Who must have signed the certificates of clients; without it, one of the system's authorities.",
        ),
        Flag::text(
            "peer-ca-file",
            "",
            "Deprecated: -peer-trusted-ca-file and -peer-client-cert-auth in one.",
        ),
        Flag::text(
            "peer-cert-file",
            "",
            "The certificate that other members are shown, by whoever of the two dials.",
        ),
        Flag::text("peer-key-file", "", "The key of -peer-cert-file, not encrypted."),
        Flag::switch(
            "peer-client-cert-auth",
            "Turn away members that show no certificate of a known authority.",
        ),
        Flag::text(
            "peer-trusted-ca-file",
            "",
            "Who must have signed the certificates of other members; without it, one of the system's \
             authorities.",
        ),
        Flag::switch(
            "tls-accept-common-name",
            "Take the common name in the certificate of a member that is dialled for its host name, where the \
             certificate has no DNS names. For certificates of old clusters. Not in the original.",
        ),
    ],
};

const LOGGING: Group = Group {
    title: "logging flags",
    remark: "",
    hidden: false,
    flags: &[
        Flag::switch("debug", "Write lines for those who look for a fault."),
        Flag::text(
            "log-package-levels",
            "",
            "Levels for parts of the program, such as 'etcdserver=DEBUG,raft=ERROR'; '*' for all parts. Levels \
             are CRITICAL, ERROR, WARNING, NOTICE, INFO and DEBUG.",
        ),
        Flag::new(
            "log-format",
            Kind::Checked(check_log_format),
            "text",
            "The form of the log: 'text', or 'json' for one object in each line. Not in the original.",
        ),
        Flag::number(
            "slow-request",
            "500",
            "After how many milliseconds a write or a quorum read is slow: then a line in the log tells where its \
             time went. 0 for never. Not in the original.",
        ),
    ],
};

const UNSAFE: Group = Group {
    title: "unsafe flags",
    remark: "They set aside what members have agreed on. Use them to come back after a disaster, and only then.",
    hidden: false,
    flags: &[Flag::switch(
        "force-new-cluster",
        "Make this member the only one of its cluster, whoever else its data names. For restoring a backup.",
    )],
};

const EXPERIMENTAL: Group = Group {
    title: "experimental flags",
    remark: "Refused: this server has no v3 API.",
    hidden: false,
    flags: &[
        Flag::switch("experimental-v3demo", "Serve an early v3 API."),
        Flag::text("experimental-gRPC-addr", "127.0.0.1:2378", "Where to serve it."),
        Flag::new(
            "experimental-auto-compaction-retention",
            Kind::Signed,
            "0",
            "How many hours of its history to keep; 0 keeps all.",
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
            "Where Graphite listens for figures, as HOST:PORT (its plain text protocol); they are sent every two \
             seconds.",
        ),
        Flag::text("trace", "", "'*' serves figures in the form of 0.4 at '/debug/metrics'."),
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
            "A file of settings in TOML, as etcd 0.4 had it. What the environment or a flag says goes before \
             it. No file is read unless it is named.",
        ),
        Flag::new(
            "enable-v2",
            Kind::Bool,
            "true",
            "Accepted because scripts for etcd 3 give it. The v2 API is always served.",
        ),
        Flag::switch("version", "Tell the version and leave."),
    ],
};

const ADDRESSES: Group = Group {
    title: "flags of etcd 0.4",
    remark: "An address is an IP address and a port: '127.0.0.1:4001'. The names of 0.1 (-C, -c, -s, -d) are known too.",
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
            "Peer addresses of members of a running cluster, separated by commas: a member without data asks them, \
             adds itself and joins. If they want a user for that, it stands before one of them: \
             'root:PASSWORD@127.0.0.1:7001'.",
        ),
        Flag::text(
            "peers-file",
            "",
            "A file with such addresses, separated by commas or ends of lines; read if -peers is not given.",
        ),
        Flag::switch(
            "remove-dead-members",
            "Let the leader remove a member that it has not heard of for as long as the 'removeDelay' of \
             '/v2/admin/config' says, if the cluster keeps its majority.",
        ),
        Flag::new(
            "v1-dialect",
            Kind::Choice(&["0.1", "0.4"]),
            "0.1",
            "Whose answers '/v1/keys' and '/v1/watch' give: those of etcd 0.1, or of 0.2 to 0.4.",
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
