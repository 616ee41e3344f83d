//! The command line: flags.md section 1, the defaults of section 3, help and version.

use shared::net::Role;

use super::*;

fn no_tls(role: Role) -> TlsFlags {
    TlsFlags {
        role,
        cert: None,
        key: None,
        ca: None,
        trusted_ca: None,
        client_cert_auth: false,
        accept_common_name: false,
    }
}

#[test]
fn an_empty_line_gives_the_defaults() {
    let Startup { config, before, levels, after, format } = start(&[]);
    assert_eq!(format, Format::Text);
    let expected = Config {
        name: "default".to_owned(),
        data_dir: PathBuf::from("default.etcd"),
        wal_dir: None,
        snapshot_count: 10_000,
        heartbeat_ms: 100,
        election_ms: 1000,
        listen_peer_urls: Urls::parse("http://localhost:2380,http://localhost:7001").unwrap(),
        listen_client_urls: Urls::parse("http://localhost:2379,http://localhost:4001").unwrap(),
        advertise_peer_urls: Urls::parse("http://localhost:2380,http://localhost:7001").unwrap(),
        advertise_peer_urls_are_default: true,
        advertise_client_urls: Urls::parse("http://localhost:2379,http://localhost:4001").unwrap(),
        initial_cluster: InitialCluster::parse("default=http://localhost:2380,default=http://localhost:7001")
            .unwrap(),
        peers: String::new(),
        peers_file: None,
        initial_cluster_is_default: true,
        initial_cluster_token: "etcd-cluster".to_owned(),
        discovery: None,
        discovery_srv: None,
        initial_cluster_state: ClusterState::New,
        client_tls: no_tls(Role::Clients),
        peer_tls: no_tls(Role::Peers),
        max_snapshots: 5,
        max_wals: 5,
        cors: Vec::new(),
        host_whitelist: vec!["*".to_owned()],
        keys_same_origin: false,
        force_new_cluster: false,
        allow_legacy: false,
        strict_reconfig_check: false,
        trace: false,
        graphite: None,
        v1_dialect: V1Dialect::Of01,
        remove_dead_members: false,
        dashboard: DashboardMode::On,
        watch_history: 1000,
        proxy: ProxyConfig {
            mode: ProxyMode::Off,
            failure_wait: Duration::from_secs(5),
            refresh_interval: Duration::from_secs(30),
            dial_timeout: Some(Duration::from_secs(1)),
            write_timeout: Some(Duration::from_secs(5)),
            read_timeout: None,
        },
        request_body_bytes_max: 16 << 20,
        request_header_bytes_max: 1 << 20,
        cluster_level: node::version::Level::V2_3,
        v3_flags: Vec::new(),
        quota_backend_bytes: Some(2 << 30),
        txn_ops_max: 128,
        entry_bytes_max: 1_572_864,
        watch_progress_interval: Duration::from_secs(600),
        key_levels_max: 1000,
        client_threads: None,
        slow_request: Duration::from_millis(500),
        enable_pprof: false,
        sources: sources("-listen-peer-urls", "-listen-client-urls"),
    };
    assert_eq!(config, expected);
    assert_eq!(before, []);
    assert_eq!(levels, Levels::all(Level::Info));
    let after = shown(&after);
    assert_eq!(after[0], "I | etcdmain: etcd Version: 2.3.8");
    let last = "W | etcdmain: no data-dir provided, using default data-dir ./default.etcd";
    assert_eq!(after.last().unwrap(), last);
    assert_eq!(config.request_timeout(), Duration::from_secs(7));
}

#[test]
fn every_flag_reaches_the_configuration() {
    let Startup { config, levels, after, .. } = start(&[
        "-name=n",
        "--data-dir",
        "d",
        "-wal-dir=w",
        "-snapshot-count=0x10",
        "-heartbeat-interval=7",
        "-election-timeout=50",
        "-listen-peer-urls=http://[::1]:2, http://127.0.0.1:1",
        "-listen-client-urls=http://127.0.0.1:3",
        "-initial-advertise-peer-urls=http://127.0.0.1:1",
        "-advertise-client-urls=https://x.example:4",
        "-max-snapshots=0",
        "-max-wals=9",
        "-cors= http://b.example,*, http://a.example,,*",
        "-host-whitelist=etcd.example, [::1],",
        "-keys-same-origin",
        "-initial-cluster=n=http://127.0.0.1:1",
        "-initial-cluster-state=existing",
        "-initial-cluster-token=t",
        "-strict-reconfig-check",
        "-remove-dead-members",
        "-v1-dialect=0.4",
        "-force-new-cluster",
        "-debug",
        "-log-package-levels=raft=ERROR",
        "-watch-history=10",
        "-max-request-bytes=2048",
        "-max-header-bytes=8192",
        "-max-key-depth=77",
        "-cluster-level=3.5",
        "-quota-backend-bytes=1000000",
        "-max-txn-ops=9",
        "-experimental-watch-progress-notify-interval=1.5s",
        "-client-threads=3",
        "-enable-pprof",
        "-slow-request=7",
        "-discovery-fallback=exit",
        "-proxy=readonly",
        "-proxy-failure-wait=1",
        "-proxy-refresh-interval=2",
        "-proxy-dial-timeout=3",
        "-proxy-write-timeout=0",
        "-proxy-read-timeout=4",
        "-cert-file=cc",
        "-key-file=ck",
        "-ca-file=ca",
        "-trusted-ca-file=ct",
        "-client-cert-auth",
        "-peer-cert-file=pc",
        "-peer-key-file=pk",
        "-peer-ca-file=pa",
        "-peer-trusted-ca-file=pt",
        "-peer-client-cert-auth",
        "-tls-accept-common-name",
        "-enable-v2",
        "-dashboard=off",
    ]);
    let expected = Config {
        name: "n".to_owned(),
        data_dir: PathBuf::from("d"),
        wal_dir: Some(PathBuf::from("w")),
        snapshot_count: 16,
        heartbeat_ms: 7,
        election_ms: 50,
        listen_peer_urls: Urls::parse("http://127.0.0.1:1,http://[::1]:2").unwrap(),
        listen_client_urls: Urls::parse("http://127.0.0.1:3").unwrap(),
        advertise_peer_urls: Urls::parse("http://127.0.0.1:1").unwrap(),
        advertise_peer_urls_are_default: false,
        advertise_client_urls: Urls::parse("https://x.example:4").unwrap(),
        initial_cluster: InitialCluster::parse("n=http://127.0.0.1:1").unwrap(),
        peers: String::new(),
        peers_file: None,
        initial_cluster_is_default: false,
        initial_cluster_token: "t".to_owned(),
        discovery: None,
        discovery_srv: None,
        initial_cluster_state: ClusterState::Existing,
        client_tls: TlsFlags {
            role: Role::Clients,
            cert: Some("cc".into()),
            key: Some("ck".into()),
            ca: Some("ca".into()),
            trusted_ca: Some("ct".into()),
            client_cert_auth: true,
            accept_common_name: true,
        },
        peer_tls: TlsFlags {
            role: Role::Peers,
            cert: Some("pc".into()),
            key: Some("pk".into()),
            ca: Some("pa".into()),
            trusted_ca: Some("pt".into()),
            client_cert_auth: true,
            accept_common_name: true,
        },
        max_snapshots: 0,
        max_wals: 9,
        cors: ["*", "http://a.example", "http://b.example"].map(str::to_owned).to_vec(),
        host_whitelist: ["etcd.example", "[::1]"].map(str::to_owned).to_vec(),
        keys_same_origin: true,
        force_new_cluster: true,
        allow_legacy: false,
        strict_reconfig_check: true,
        trace: false,
        graphite: None,
        v1_dialect: V1Dialect::Of04,
        remove_dead_members: true,
        dashboard: DashboardMode::Off,
        watch_history: 10,
        proxy: ProxyConfig {
            mode: ProxyMode::Readonly,
            failure_wait: Duration::from_millis(1),
            refresh_interval: Duration::from_millis(2),
            dial_timeout: Some(Duration::from_millis(3)),
            write_timeout: None,
            read_timeout: Some(Duration::from_millis(4)),
        },
        request_body_bytes_max: 2048,
        request_header_bytes_max: 8192,
        cluster_level: node::version::Level::V3_5,
        v3_flags: [
            "cluster-level",
            "quota-backend-bytes",
            "max-txn-ops",
            "experimental-watch-progress-notify-interval",
        ]
        .to_vec(),
        quota_backend_bytes: Some(1_000_000),
        txn_ops_max: 9,
        entry_bytes_max: 2048,
        watch_progress_interval: Duration::from_millis(1500),
        key_levels_max: 77,
        client_threads: Some(3),
        slow_request: Duration::from_millis(7),
        enable_pprof: true,
        sources: sources("-listen-peer-urls", "-listen-client-urls"),
    };
    assert_eq!(config, expected);
    // Seven heartbeats are 49 ms of the 50 ms.
    assert_eq!((config.election_ticks(), config.request_timeout()), (7, Duration::from_millis(5098)));
    assert_eq!(levels, Levels::all(Level::Debug).with("raft=ERROR").unwrap());
    let notice = "N | etcdmain: the v2 API is always served: -enable-v2 changes nothing";
    assert_eq!(shown(&after).last().unwrap(), notice);
}

#[test]
fn unread_lines_end_with_status_2_and_the_usage() {
    for (words, text) in [
        (&["-bogus"][..], "flag provided but not defined: -bogus"),
        (&["-name"], "flag needs an argument: -name"),
        (&["---x"], "bad flag syntax: ---x"),
        (&["-="], "bad flag syntax: -="),
        (&["-max-wals", "abc"], "invalid value \"abc\" for flag -max-wals: parse error"),
        (&["-snapshot-count", "-1"], "invalid value \"-1\" for flag -snapshot-count: parse error"),
        (&["-debug=maybe"], "invalid boolean value \"maybe\" for -debug: parse error"),
        (&["-proxy", "foo"], "invalid value \"foo\" for flag -proxy: invalid value"),
        (&["-initial-cluster-state=x"], "invalid value \"x\" for flag -initial-cluster-state: invalid value"),
        (&["-discovery-fallback=x"], "invalid value \"x\" for flag -discovery-fallback: invalid value"),
        (&["-watch-history=0"], "invalid value \"0\" for flag -watch-history: must be from 1 to 1000000"),
        (
            &["-listen-client-urls", "foo"],
            "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http or https: foo",
        ),
        (
            &["-listen-peer-urls=http://a"],
            "invalid value \"http://a\" for flag -listen-peer-urls: URL address does not have the form \"host:port\": http://a",
        ),
        (
            &["-advertise-client-urls=http://:1/"],
            "invalid value \"http://:1/\" for flag -advertise-client-urls: URL must not contain a path: http://:1/",
        ),
        (&["-addr", "foo"], "invalid value \"foo\" for flag -addr: address foo: missing port in address"),
        (&["-peer-addr=a:1"], "invalid value \"a:1\" for flag -peer-addr: bad IP in address specification"),
        (
            &["-bind-addr=1.2.3.4:x"],
            "invalid value \"1.2.3.4:x\" for flag -bind-addr: bad port in address specification",
        ),
        // 0.4 flags that no longer exist.
        (&["-f"], "flag provided but not defined: -f"),
        (&["-vvv"], "flag provided but not defined: -vvv"),
        (
            &["-graphite-host=x"],
            "invalid value \"x\" for flag -graphite-host: address x: missing port in address",
        ),
        (
            &["-graphite-host=:2003"],
            "invalid value \":2003\" for flag -graphite-host: address :2003: missing host in address",
        ),
        (
            &["-graphite-host=a:0"],
            "invalid value \"a:0\" for flag -graphite-host: address a:0: the port is a number from 1 to 65535",
        ),
        (&["-cpuprofile=x"], "flag provided but not defined: -cpuprofile"),
        (&["-http-read-timeout=1"], "flag provided but not defined: -http-read-timeout"),
        (&["-n=x"], "flag provided but not defined: -n"),
    ] {
        let early_exit = early_exit(words);
        assert_eq!((early_exit.error, early_exit.status), (format!("{text}\n"), 2), "{words:?}");
        assert!(early_exit.output.starts_with("usage: etcd [flags]\n"), "{words:?}: {}", early_exit.output);
        assert_eq!(early_exit.lines, [], "{words:?}");
    }
    let cors = early_exit(&["-cors=%zz"]);
    assert!(
        cors.error.starts_with("invalid value \"%zz\" for flag -cors: Invalid CORS origin: parse "),
        "{cors:?}"
    );
}

#[test]
fn stray_words_end_with_status_1() {
    refused(&["extra"], "'extra' is not a valid flag");
    refused(&["-debug", "--", "-name"], "'-name' is not a valid flag");
    refused(&["--force-new-cluster", "false"], "'false' is not a valid flag");
    refused(&["-version", "extra"], "'extra' is not a valid flag");
    refused(&["-snapshot", "x"], "'x' is not a valid flag");
}

#[test]
fn help_shows_every_flag_that_is_not_hidden() {
    for words in [&["-h"][..], &["--help"], &["-name", "x", "-help"]] {
        let early_exit = early_exit(words);
        assert_eq!((early_exit.status, early_exit.error.as_str()), (0, ""));
        assert!(early_exit.output.starts_with("usage: etcd [flags]\n"));
        assert!(early_exit.output.contains("--snapshot-count '10000' "), "{}", early_exit.output);
        for flag in FLAGS.groups.iter().filter(|group| !group.hidden).flat_map(|group| group.flags) {
            assert!(
                early_exit.output.contains(&format!(
                    "  --{} '{}'    {}\n",
                    flag.name,
                    flag.default,
                    flag.env_name("ETCD_")
                )),
                "{}",
                flag.name
            );
        }
    }
}

#[test]
fn version_comes_before_the_environment() {
    let early_exit =
        Input { words: &["--version"], variables: &[("ETCD_PROXY", "bad")], ..Input::default() }.early_exit();
    assert_eq!((early_exit.status, early_exit.error.as_str(), &early_exit.lines[..]), (0, "", &[][..]));
    let lines: Vec<&str> = early_exit.output.lines().collect();
    assert_eq!(lines[0], "etcd Version: 2.3.8");
    assert!(lines[1].starts_with("Git SHA: "), "{lines:?}");
    assert_eq!(lines[2], format!("etcd-rs Version: {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn definitions_are_sound() {
    let mut names: Vec<&str> = FLAGS.flags().map(|flag| flag.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name is defined twice: {names:?}");
    for flag in FLAGS.flags() {
        assert!(flag.help.ends_with('.'), "-{}: the help is no sentence", flag.name);
        if !flag.default.is_empty() {
            FLAGS.no_values().set(flag, flag.default).unwrap();
        }
    }
}
