//! The checks after reading: flags.md sections 3.1 and 3.2, and unsupported flags.

use shared::net::Role;

use super::*;

#[test]
fn the_checks_in_their_order() {
    let url = "http://127.0.0.1:1";
    let conflict = "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\" \
                    or \"discovery-srv\"";
    for (a, b) in [
        ("-initial-cluster", "-discovery"),
        ("-discovery", "-discovery-srv"),
        ("-initial-cluster", "-discovery-srv"),
    ] {
        refused(&[a, "x=http://127.0.0.1:1", b, "http://127.0.0.1:1/x"], conflict);
    }
    let slow = "-election-timeout[1000ms] should be at least as 5 times as -heartbeat-interval[300ms]";
    refused(&["-heartbeat-interval", "300"], slow);
    refused(&["-heartbeat-interval=18446744073709551615"], &slow.replace("300", "18446744073709551615"));
    refused(
        &["-election-timeout", "60000"],
        "-election-timeout[60000ms] is too long, and should be set less than 50000ms",
    );
    refused(
        &["-heartbeat-interval=0"],
        "-heartbeat-interval[0ms] is too short, and should be set to 1ms or more",
    );
    assert_eq!(config(&["-election-timeout=50000", "-heartbeat-interval=10000"]).election_ticks(), 5);
    // The earlier check reports, also before unsupported flags.
    refused(&["-initial-cluster=x", "-discovery=y", "-listen-client-urls", url], conflict);
    refused(&["-heartbeat-interval=300", "-proxy=on"], slow);
    refused(
        &[
            "-peer-bind-addr=1.2.3.4:1",
            "-listen-peer-urls",
            url,
            "-addr=1.2.3.4:1",
            "-advertise-client-urls",
            url,
        ],
        "Set only one of flags -listen-peer-urls and -peer-bind-addr",
    );
}

#[test]
fn clients_must_be_told_where_to_go() {
    let url = "http://127.0.0.1:1";
    let early_exit = early_exit(&["-listen-client-urls", url]);
    assert_eq!(early_exit.status, 1);
    assert_eq!(
        shown(&early_exit.lines),
        [
            "E | etcdmain: error verifying flags, -advertise-client-urls is required when -listen-client-urls is set \
             explicitly. See 'etcd --help'.",
            "E | etcdmain: When listening on specific address(es), this etcd process must advertise accessible url(s) \
             to each connected client.",
        ]
    );
    // A proxy need not advertise, nor a member that may become one.
    assert_eq!(config(&["-listen-client-urls", url, "-proxy=on"]).proxy.mode, ProxyMode::On);
    start(&["-listen-client-urls", url, "-discovery", "http://d.example/x"]);
    refused(
        &["-listen-client-urls", url, "-discovery=http://d.example/x", "-discovery-fallback=exit"],
        "-advertise-client-urls is required when -listen-client-urls is set explicitly",
    );
}

#[test]
fn old_and_new_addresses_exclude_each_other() {
    let (url, address) = ("http://127.0.0.1:1", "127.0.0.1:1");
    for (new, old) in [
        ("listen-peer-urls", "peer-bind-addr"),
        ("initial-advertise-peer-urls", "peer-addr"),
        ("listen-client-urls", "bind-addr"),
        ("advertise-client-urls", "addr"),
    ] {
        refused(
            &[&format!("-{old}"), address, &format!("-{new}"), url],
            &format!("Set only one of flags -{new} and -{old}"),
        );
    }
    // The listen address that is derived from the advertised one counts as set.
    refused(
        &["-addr", address, "-listen-client-urls", url],
        "Set only one of flags -listen-client-urls and -bind-addr",
    );
}

#[test]
fn old_addresses_become_urls() {
    let c = config(&["-addr", "127.0.0.1:4001", "-peer-addr=[::1]:7001"]);
    assert_eq!(c.advertise_client_urls.to_string(), "http://127.0.0.1:4001");
    assert_eq!(c.listen_client_urls.to_string(), "http://[::]:4001");
    assert_eq!(c.advertise_peer_urls.to_string(), "http://[::1]:7001");
    assert_eq!(c.listen_peer_urls.to_string(), "http://[::]:7001");
    assert!(!c.advertise_peer_urls_are_default);

    let c = config(&[
        "-addr=127.0.0.1:1",
        "-bind-addr=127.0.0.1:2",
        "-peer-addr=127.0.0.1:3",
        "-peer-bind-addr=127.0.0.1:4",
    ]);
    assert_eq!(c.advertise_client_urls.to_string(), "http://127.0.0.1:1");
    assert_eq!(c.listen_client_urls.to_string(), "http://127.0.0.1:2");
    assert_eq!(c.advertise_peer_urls.to_string(), "http://127.0.0.1:3");
    assert_eq!(c.listen_peer_urls.to_string(), "http://127.0.0.1:4");

    // `-bind-addr` alone does not require an advertised address.
    let c = config(&["-bind-addr", "127.0.0.1:2"]);
    assert_eq!(c.listen_client_urls.to_string(), "http://127.0.0.1:2");
    assert_eq!(c.advertise_client_urls.to_string(), "http://localhost:2379,http://localhost:4001");
}

#[test]
fn ignored_flags_are_told_and_not_used() {
    for name in [
        "cluster-active-size",
        "cluster-remove-delay",
        "cluster-sync-interval",
        "force",
        "max-result-buffer",
        "max-retry-attempts",
        "peer-heartbeat-interval",
        "peer-election-timeout",
        "retry-interval",
        "snapshot",
        "v",
        "vv",
    ] {
        for words in [&[format!("-{name}")][..], &[format!("--{name}=whatever")]] {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let Startup { config: used, before, .. } = start(&words);
            assert_eq!(
                shown(&before),
                [format!("W | flags: flag \"-{name}\" is no longer supported - ignoring.")]
            );
            assert_eq!(used, config(&[]));
        }
    }
}

#[test]
fn what_is_not_built_is_refused() {
    for (word, why) in [
        ("experimental-v3demo", "this server has no v3 API"),
        ("experimental-v3demo=false", "this server has no v3 API"),
        ("experimental-gRPC-addr=127.0.0.1:2378", "this server has no v3 API"),
        ("experimental-auto-compaction-retention=1", "this server has no v3 API"),
    ] {
        let name = word.split('=').next().unwrap();
        refused(&[&format!("-{word}")], &format!("-{name} is not supported: {why}"));
    }
    refused(&["-enable-v2=false"], "-enable-v2=false is not supported: this server has the v2 API only");
    for harmless in
        ["-discovery=", "-discovery-srv=", "-cert-file=", "-proxy=off", "-peer-client-cert-auth=0"]
    {
        start(&[harmless]);
    }
}

#[test]
fn files_serve_to_accept_and_to_dial() {
    let config = config(&[
        "-cert-file=c",
        "-key-file=k",
        "-ca-file=a",
        "-trusted-ca-file=t",
        "-peer-trusted-ca-file=pt",
        "-tls-accept-common-name",
    ]);
    assert_eq!(
        config.client_tls.to_string(),
        "cert = c, key = k, ca = a, trusted-ca = t, client-cert-auth = false"
    );
    let files = config.client_tls.server_files();
    assert!(files.client_cert_auth && files.role == Role::Clients);
    assert_eq!((files.cert, files.ca), (Some("c".into()), vec!["a".into(), "t".into()]));
    let files = config.peer_tls.client_files();
    assert!(files.accept_common_name && files.role == Role::Peers);
    assert_eq!((files.cert, files.ca), (None, vec!["pt".into()]));
    assert!(!config.peer_tls.server_files().client_cert_auth);
    let config = super::config(&["-peer-client-cert-auth"]);
    assert!(config.peer_tls.server_files().client_cert_auth);
    assert!(!config.client_tls.server_files().client_cert_auth);
}

#[test]
fn levels_of_packages() {
    let Startup { levels, after, .. } = start(&["-log-package-levels=etcdmain=CRITICAL,etcdserver=DEBUG"]);
    assert_eq!((levels.of("etcdmain"), levels.of("etcdserver")), (Level::Critical, Level::Debug));
    assert!(shown(&after)[0].contains("etcd Version"));
    let Startup { levels, after, .. } = start(&["-debug", "-log-package-levels=bogus"]);
    assert_eq!(levels, Levels::all(Level::Debug));
    assert_eq!(
        shown(&after)[0],
        "W | etcdmain: couldn't parse log level string: oddly structured `pkg=level` option: bogus, continuing with \
         default levels"
    );
    // Also when the process exits early.
    let lines = shown(&early_exit(&["-log-package-levels=bogus", "-initial-cluster=x"]).lines);
    assert!(lines[0].contains("couldn't parse log level string"), "{lines:?}");
}

#[test]
fn the_form_of_the_log() {
    assert_eq!(start(&[]).format, Format::Text);
    assert_eq!(start(&["-log-format=json"]).format, Format::Json);
    let variables = &[("ETCD_LOG_FORMAT", "json")];
    assert_eq!(Input { words: &[], variables, file: None }.start().format, Format::Json);
    assert_eq!(Input { words: &["-log-format", "text"], variables, file: None }.start().format, Format::Text);
    let file = Some("log_format = \"json\"\n");
    assert_eq!(Input { words: &["-config=f"], variables: &[], file }.start().format, Format::Json);
    // Also when the process exits early.
    assert_eq!(early_exit(&["-log-format=json", "-initial-cluster=x"]).format, Format::Json);
    let refused = early_exit(&["-log-format=yaml"]);
    let why = "invalid value \"yaml\" for flag -log-format: must be \"text\" or \"json\"\n";
    assert_eq!((refused.error.as_str(), refused.status), (why, 2));
    let variables = &[("ETCD_LOG_FORMAT", "yaml")];
    let refused = shown(&Input { words: &[], variables, file: None }.early_exit().lines);
    let why = "C | etcdmain: invalid value \"yaml\" for ETCD_LOG_FORMAT: must be \"text\" or \"json\"";
    assert!(refused.contains(&why.to_owned()), "{refused:?}");
}

#[test]
fn times_that_bring_trouble_are_told() {
    let told = |words: &[&str]| shown(&start(words).after);
    let quiet = told(&["-heartbeat-interval=10", "-election-timeout=100"]);
    let short = told(&["-heartbeat-interval=9", "-election-timeout=99"]);
    let added: Vec<&String> = short.iter().filter(|line| !quiet.contains(line)).collect();
    assert_eq!(added.len(), 2, "{short:?}");
    assert!(added[0].starts_with("W | etcdmain: -heartbeat-interval[9ms] makes a leader send 111 messages"));
    assert!(added[1].starts_with("W | etcdmain: -election-timeout[99ms] is shorter than"));
}
