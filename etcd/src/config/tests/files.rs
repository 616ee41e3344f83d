//! `-config FILE`: the keys of flags.md section 4, and the precedence of sources.

use super::*;

fn with_file<'a>(words: &'a [&'a str], file: &'a str) -> Input<'a> {
    Input { words, variables: &[], file: Some(file) }
}

/// 0.4's example file, with values.
const EXAMPLE: &str = r#"
addr = "127.0.0.1:4001"
bind_addr = "127.0.0.1:4002"
ca_file = ""
cert_file = ""
cors = ["http://b.example", "http://a.example"]
cpu_profile_file = ""
data_dir = "old.data"
discovery = ""
http_read_timeout = 10.0
key_file = ""
peers = []
peers_file = ""
max_result_buffer = 1024
max_retry_attempts = 3
name = "old"
snapshot = true
snapshot_count = 500
verbose = false
very_verbose = false
very_very_verbose = true
trace = "*"
graphite_host = "g.example:2003"

[peer]
addr = "127.0.0.1:7001"
bind_addr = "127.0.0.1:7002"
ca_file = ""
cert_file = ""
key_file = ""
heartbeat_interval = 50
election_timeout = 200

[cluster]
active_size = 9
remove_delay = 1800.0
sync_interval = 5.0
"#;

#[test]
fn a_file_of_etcd_0_4_is_understood() {
    let example = EXAMPLE.replace("cpu_profile_file = \"\"\n", "");
    let Startup { config, before, .. } = with_file(&["-config", "etcd.conf"], &example).start();
    assert_eq!((config.name.as_str(), config.snapshot_count), ("old", 500));
    assert_eq!(config.data_dir, PathBuf::from("old.data"));
    assert_eq!(config.cors, ["http://a.example", "http://b.example"]);
    assert_eq!(config.advertise_client_urls.to_string(), "http://127.0.0.1:4001");
    assert_eq!(config.listen_client_urls.to_string(), "http://127.0.0.1:4002");
    assert_eq!(config.advertise_peer_urls.to_string(), "http://127.0.0.1:7001");
    assert_eq!(config.listen_peer_urls.to_string(), "http://127.0.0.1:7002");
    assert_eq!((config.trace, config.graphite.as_deref()), (true, Some("g.example:2003")));
    // Times of the 0.4 protocol: ignored, as the flags are.
    assert_eq!((config.heartbeat_ms, config.election_ms), (100, 1000));
    let mut ignored: Vec<String> = shown(&before)
        .iter()
        .map(|line| line.strip_prefix("W | flags: \"").unwrap().split('"').next().unwrap().to_owned())
        .collect();
    ignored.sort_unstable();
    assert_eq!(
        ignored,
        [
            "cluster.active_size",
            "cluster.remove_delay",
            "cluster.sync_interval",
            "http_read_timeout",
            "max_result_buffer",
            "max_retry_attempts",
            "peer.election_timeout",
            "peer.heartbeat_interval",
            "snapshot",
            "verbose",
            "very_verbose",
            "very_very_verbose",
        ]
    );
    assert!(shown(&before)[0].ends_with(" in etcd.conf is no longer supported - ignoring."));
}

#[test]
fn every_flag_has_a_key() {
    let file = "max_wals = 9\nlisten_client_urls = ['http://127.0.0.1:1', ' http://127.0.0.1:2']\n\
                advertise_client_urls = 'http://127.0.0.1:1'\nstrict_reconfig_check = true\nwatch_history = 5\n";
    let config = with_file(&["--config=f"], file).start().config;
    assert_eq!((config.max_wals, config.strict_reconfig_check, config.watch_history), (9, true, 5));
    assert_eq!(config.listen_client_urls.to_string(), "http://127.0.0.1:1,http://127.0.0.1:2");
}

#[test]
fn flags_and_variables_go_before_the_file() {
    let file = "name = 'file'\nmax_wals = 1\nmax_snapshots = 1\n";
    let input =
        Input { words: &["-config=f", "-name=flag"], variables: &[("ETCD_MAX_WALS", "2")], file: Some(file) };
    let Startup { config, before, .. } = input.start();
    assert_eq!((config.name.as_str(), config.max_wals, config.max_snapshots), ("flag", 2, 1));
    let shadowed = |key| {
        format!(
            "I | flags: recognized setting \"{key}\" in f, but unused: shadowed by a flag or an environment variable"
        )
    };
    assert!(
        shown(&before).contains(&shadowed("name")) && shown(&before).contains(&shadowed("max_wals")),
        "{before:?}"
    );
}

#[test]
fn the_file_gives_way_to_the_same_thing_in_other_words() {
    let file = "addr = '127.0.0.1:4001'\nbind_addr = '127.0.0.1:4002'\n[peer]\naddr = '127.0.0.1:7001'";
    let new = "http://127.0.0.1:9";
    let config = with_file(&["-config=f", "-advertise-client-urls", new], file).start().config;
    assert_eq!(config.advertise_client_urls.to_string(), new);
    assert_eq!(config.listen_client_urls.to_string(), "http://127.0.0.1:4002");
    // The listen URL derived from the file's address is overridden too, but the address is still advertised.
    let file = "addr = '127.0.0.1:4001'\n[peer]\naddr = '127.0.0.1:7001'";
    let config =
        with_file(&["-config=f", "-listen-client-urls", new, "-listen-peer-urls", new], file).start().config;
    assert_eq!(config.listen_client_urls.to_string(), new);
    assert_eq!(config.advertise_client_urls.to_string(), "http://127.0.0.1:4001");
    assert_eq!(config.listen_peer_urls.to_string(), new);
    assert_eq!(config.advertise_peer_urls.to_string(), "http://127.0.0.1:7001");
    let file = "discovery = 'http://d.example/x'";
    let config =
        with_file(&["-config=f", "-initial-cluster=default=http://localhost:2380"], file).start().config;
    assert_eq!(config.initial_cluster.to_string(), "default=http://localhost:2380");
    // Within one file, both flags contradict each other.
    let early_exit = with_file(
        &["-config=f"],
        "addr = '127.0.0.1:1'\nbind_addr = '127.0.0.1:1'\nadvertise_client_urls = 'http://127.0.0.1:1'",
    )
    .early_exit();
    assert!(
        shown(&early_exit.lines)[0].contains("Set only one of flags -advertise-client-urls and -addr"),
        "{early_exit:?}"
    );
}

#[test]
fn no_file_is_read_unless_it_is_named() {
    let unread = |_: &Path| -> io::Result<String> { panic!("a file was read") };
    assert!(matches!(read([], [], unread), Invocation::Run(_)));
    assert!(matches!(read([OsString::from("-config=")], [], unread), Invocation::Run(_)));
}

#[test]
fn bad_files_end_with_status_1() {
    for (file, text) in [
        (None, "cannot read configuration file \"f\": entity not found"),
        (Some("name ="), "cannot read configuration file \"f\", line 1: "),
        (Some("name = 'x'\nname = 'y'\n"), "cannot read configuration file \"f\", line 2: duplicate key"),
        (
            Some("snapshot_count = 'x'"),
            "invalid value \"x\" for setting \"snapshot_count\" in f: parse error",
        ),
        (
            Some("snapshot_count = -1"),
            "invalid value \"-1\" for setting \"snapshot_count\" in f: parse error",
        ),
        (
            Some("snapshot_count = 1.5"),
            "the setting \"snapshot_count\" in f has no value of a kind that is known",
        ),
        (Some("cors = [1]"), "the setting \"cors\" in f has no value of a kind that is known"),
        (
            Some("addr = 'a:1'"),
            "invalid value \"a:1\" for setting \"addr\" in f: bad IP in address specification",
        ),
        (Some("nmae = 'x'"), "unknown setting \"nmae\" in f"),
        (Some("config = 'g'"), "unknown setting \"config\" in f"),
        (Some("version = true"), "unknown setting \"version\" in f"),
        (Some("[peers]\na = 1"), "the setting \"peers\" in f has no value of a kind that is known"),
        (Some("[peer]\nname = 'x'"), "unknown setting \"peer.name\" in f"),
        (Some("peer = 1"), "unknown setting \"peer\" in f"),
    ] {
        let early_exit = Input { words: &["-config", "f"], variables: &[], file }.early_exit();
        let line = shown(&early_exit.lines).pop().unwrap();
        assert!(line.starts_with(&format!("C | etcdmain: {text}")), "{file:?}: {line}");
        assert_eq!(early_exit.status, 1);
    }
    let config = with_file(&["-config=f"], "discovery = 'http://d.example/x'").start().config;
    assert_eq!(config.discovery.map(|discovery| discovery.url).as_deref(), Some("http://d.example/x"));
}
