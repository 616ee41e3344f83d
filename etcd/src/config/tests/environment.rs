//! The environment: flags.md section 2.

use super::*;

#[test]
fn variables_set_what_no_flag_set() {
    let variables = [
        ("PATH", "/bin"),
        ("ETCD_NAME", "loser"),
        ("ETCD_MAX_WALS", "9"),
        ("ETCD_SNAPSHOT_COUNT", ""),
        ("ETCD_FOO", "1"),
        ("ETCD_BAR", ""),
        ("ETCD_INITIAL_CLSUTER", "a=b"),
        ("ETCD_V", "1"),
        ("ETCDCTL_PEERS", "x"),
    ];
    let Startup { config, before, .. } =
        Input { words: &["-name", "winner"], variables: &variables, ..Input::default() }.start();
    assert_eq!((config.name.as_str(), config.max_wals, config.snapshot_count), ("winner", 9, 10_000));
    assert_eq!(
        shown(&before),
        [
            "I | flags: recognized and used environment variable ETCD_MAX_WALS=9",
            "W | flags: flag \"-v\" is no longer supported - ignoring.",
            "I | flags: recognized and used environment variable ETCD_V=1",
            "I | flags: recognized environment variable ETCD_NAME, but unused: shadowed by corresponding flag ",
            "W | flags: unrecognized environment variable ETCD_FOO=1",
            "W | flags: unrecognized environment variable ETCD_BAR=",
            "W | flags: unrecognized environment variable ETCD_INITIAL_CLSUTER=a=b",
            "W | flags: did you mean the environment variable ETCD_INITIAL_CLUSTER?",
        ]
    );
}

#[test]
fn every_flag_has_a_variable() {
    for (variable, value, check) in [
        (
            "ETCD_ADDR",
            "127.0.0.1:5",
            (|c| c.advertise_client_urls.to_string() == "http://127.0.0.1:5") as fn(&Config) -> bool,
        ),
        ("ETCD_DASHBOARD", "read-only", |c| c.dashboard == DashboardMode::ReadOnly),
        ("ETCD_WATCH_HISTORY", "7", |c| c.watch_history == 7),
        ("ETCD_FORCE_NEW_CLUSTER", "T", |c| c.force_new_cluster),
        ("ETCD_CORS", "*", |c| c.cors == ["*"]),
        ("ETCD_INITIAL_CLUSTER_STATE", "existing", |c| c.initial_cluster_state == ClusterState::Existing),
    ] {
        let start = Input { variables: &[(variable, value)], ..Input::default() }.start();
        assert!(check(&start.config), "{variable}");
    }
}

#[test]
fn variables_count_as_set_for_the_checks() {
    let urls = "http://127.0.0.1:1";
    let early_exit =
        Input { variables: &[("ETCD_LISTEN_CLIENT_URLS", urls)], ..Input::default() }.early_exit();
    assert!(shown(&early_exit.lines)[1].contains("-advertise-client-urls is required"), "{early_exit:?}");
    let early_exit = Input {
        words: &["-addr", "127.0.0.1:1"],
        variables: &[("ETCD_ADVERTISE_CLIENT_URLS", urls)],
        ..Input::default()
    }
    .early_exit();
    assert!(shown(&early_exit.lines)[1].contains("Set only one of flags"), "{early_exit:?}");
}

#[test]
fn the_last_bad_variable_is_reported() {
    let variables =
        [("ETCD_VERSION", "v2"), ("ETCD_PEERS", "a"), ("ETCD_SNAPSHOT_COUNT", "x"), ("ETCD_NAME", "n")];
    let early_exit = Input { variables: &variables, ..Input::default() }.early_exit();
    assert_eq!(early_exit.status, 1);
    assert_eq!(
        shown(&early_exit.lines),
        [
            "I | flags: recognized and used environment variable ETCD_NAME=n",
            "I | flags: recognized and used environment variable ETCD_PEERS=a",
            "I | flags: recognized and used environment variable ETCD_SNAPSHOT_COUNT=x",
            "I | flags: recognized and used environment variable ETCD_VERSION=v2",
            "C | etcdmain: invalid value \"v2\" for ETCD_VERSION: parse error",
        ]
    );
    for (variable, value, reason) in [
        ("ETCD_PROXY", "bad", "invalid value"),
        ("ETCD_LISTEN_PEER_URLS", "x", "URL scheme must be http or https: x"),
    ] {
        let early_exit = Input { variables: &[(variable, value)], ..Input::default() }.early_exit();
        let text = format!("C | etcdmain: invalid value \"{value}\" for {variable}: {reason}");
        assert_eq!(shown(&early_exit.lines).last(), Some(&text));
    }
}

#[test]
fn a_variable_may_name_the_file() {
    let start =
        Input { variables: &[("ETCD_CONFIG", "f")], file: Some("name = 'from file'"), ..Input::default() };
    assert_eq!(start.start().config.name, "from file");
}
