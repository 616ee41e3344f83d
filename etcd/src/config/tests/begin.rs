//! Whether the settings can create a new cluster: bootstrap.md sections 1 and 2.

use std::net::{IpAddr, Ipv4Addr};

use super::*;

/// Resolves `one.example` only.
fn resolve(host: &str) -> Option<IpAddr> {
    (host == "one.example").then_some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)))
}

fn begin(words: &[&str]) -> Vec<String> {
    let config = config(words);
    match config.check_bootstrap(&config.initial_cluster, resolve) {
        Ok(()) => Vec::new(),
        Err(error) => shown(&error.lines()),
    }
}

#[test]
fn the_default_cluster_follows_the_name() {
    assert_eq!(
        config(&["-name=x"]).initial_cluster.to_string(),
        "x=http://localhost:2380,x=http://localhost:7001"
    );
    assert_eq!(config(&["-name=x"]).data_dir, PathBuf::from("x.etcd"));
    assert_eq!(begin(&["-name=x"]), [""; 0]);
    assert_eq!(begin(&[]), [""; 0]);
}

#[test]
fn a_cluster_that_cannot_be_read_is_refused_at_once() {
    for (entry, text) in [
        ("a", "URL scheme must be http or https: "),
        ("a=ftp://b:1", "URL scheme must be http or https: ftp://b:1"),
        ("a=http://b", "URL address does not have the form \"host:port\": http://b"),
        ("a=http://b:1/p", "URL must not contain a path: http://b:1/p"),
        ("a=http://::1:80", "URL address does not have the form \"host:port\": http://::1:80"),
    ] {
        for cluster in [entry.to_owned(), format!("x=http://x:1,,{entry},z=http://z:1")] {
            let early_exit = early_exit(&["-initial-cluster", &cluster]);
            let line = format!(
                "C | etcdmain: error setting up initial cluster: {text} (entry {} of -initial-cluster, which has the \
                 form NAME=URL,NAME=URL)",
                quote(entry)
            );
            assert_eq!(shown(&early_exit.lines).last(), Some(&line));
            assert_eq!(early_exit.status, 1);
        }
    }
}

#[test]
fn blanks_between_the_members_are_told() {
    let told = |entry: &str, source: &str| {
        vec![format!(
            "C | etcdmain: the entry \"{entry}\" of {source} begins with a blank, or has one before '=', which would \
             be part of the member's name: write no blanks between the entries"
        )]
    };
    let advertise = "-initial-advertise-peer-urls=http://a:1";
    for (list, entry) in [
        ("default=http://a:1, b=http://b:1", " b=http://b:1"),
        ("default=http://a:1,b =http://b:1", "b =http://b:1"),
        (" default=http://a:1,b=http://b:1", " default=http://a:1"),
        ("default=http://a:1,\tb=http://b:1", "\\tb=http://b:1"),
    ] {
        assert_eq!(begin(&["-initial-cluster", list, advertise]), told(entry, "-initial-cluster"), "{list}");
    }
    // Blanks around a URL are ignored; a blank in a name counts.
    assert_eq!(begin(&["-initial-cluster", "default= http://a:1 ,my b=http://b:1 ", advertise]), [""; 0]);
    let variables = [("ETCD_INITIAL_CLUSTER", "default=http://a:1, b=http://b:1")];
    let config = Input { words: &[advertise], variables: &variables, ..Input::default() }.start().config;
    let error = config.check_bootstrap(&config.initial_cluster, resolve).unwrap_err();
    assert_eq!(shown(&error.lines()), told(" b=http://b:1", "ETCD_INITIAL_CLUSTER"));
}

#[test]
fn settings_are_called_by_where_they_come_from() {
    let said = ["-advertise-client-urls=http://a:1"];
    for (word, clients) in
        [("-listen-client-urls=http://:1", "-listen-client-urls"), ("-bind-addr=127.0.0.1:1", "-bind-addr")]
    {
        assert_eq!(config(&[said[0], word]).sources, sources("-listen-peer-urls", clients));
    }
    let of_0_4 = config(&["-peer-addr=127.0.0.1:7", "-addr=127.0.0.1:4"]);
    assert_eq!(of_0_4.sources, sources("-peer-addr", "-addr"));
    let variables = [("ETCD_LISTEN_CLIENT_URLS", "http://:1"), ("ETCD_PEER_BIND_ADDR", "127.0.0.1:2")];
    let config = Input { words: &said, variables: &variables, ..Input::default() }.start().config;
    assert_eq!(config.sources, sources("ETCD_PEER_BIND_ADDR", "ETCD_LISTEN_CLIENT_URLS"));
    let words = [said[0], "-config=c.toml"];
    let file = Some("listen_client_urls = \"http://:1\"\n[peer]\nbind_addr = \"127.0.0.1:2\"\n");
    let config = Input { words: &words, file, ..Input::default() }.start().config;
    let expected = sources("peer_bind_addr in \"c.toml\"", "listen_client_urls in \"c.toml\"");
    assert_eq!(config.sources, expected);
}

#[test]
fn addresses_that_nobody_finds_bring_a_warning() {
    for (word, why) in [
        ("-advertise-client-urls=http://:2379", "http://:2379 of -advertise-client-urls names no host"),
        (
            "-initial-advertise-peer-urls=http://0.0.0.0:1",
            "http://0.0.0.0:1 of -initial-advertise-peer-urls means all addresses of a machine, and no machine",
        ),
        (
            "-advertise-client-urls=https://[::]:1",
            "https://[::]:1 of -advertise-client-urls means all addresses of a machine, and no machine",
        ),
    ] {
        let line = format!("W | etcdmain: {why}: others cannot find this member by it");
        assert!(shown(&start(&[word]).after).contains(&line), "{word}");
    }
    assert!(
        !shown(&start(&["-advertise-client-urls=http://a:1"]).after).iter().any(|line| line.contains("find"))
    );
}

#[test]
fn the_member_must_be_in_its_cluster() {
    for words in [&["-initial-cluster=x=http://localhost:2380"][..], &["-initial-cluster="]] {
        assert_eq!(
            begin(words),
            ["C | etcdmain: couldn't find local name \"default\" in the initial cluster configuration"]
        );
    }
}

#[test]
fn the_cluster_must_say_where_the_member_says_it_is() {
    let must = "I | etcdmain: --initial-cluster must include";
    let advertise = "-initial-advertise-peer-urls=http://127.0.0.1:2,http://127.0.0.1:1";
    let given = "given --initial-advertise-peer-urls";
    assert_eq!(
        begin(&["-name=m", advertise]),
        [
            format!(
                "{must} m=http://127.0.0.1:1,m=http://127.0.0.1:2 {given}=http://127.0.0.1:1,http://127.0.0.1:2"
            ),
            "I | etcdmain: forgot to set --initial-cluster flag?".to_owned(),
            "I | etcdmain: if you want to use discovery service, please set --discovery flag.".to_owned(),
        ]
    );
    assert_eq!(
        begin(&["-initial-cluster=default=http://127.0.0.1:1"]),
        [
            format!(
                "{must} default=http://localhost:2380,default=http://localhost:7001 \
                 {given}=http://localhost:2380,http://localhost:7001"
            ),
            "I | etcdmain: forgot to set --initial-advertise-peer-urls flag?".to_owned(),
        ]
    );
    let cluster = "-initial-cluster=default=http://one.example:1";
    assert_eq!(begin(&[cluster, "-initial-advertise-peer-urls=http://10.0.0.1:1"]), [""; 0]);
    assert_eq!(begin(&[cluster, "-initial-advertise-peer-urls=http://10.0.0.1:2"]).len(), 1);
    assert_eq!(begin(&[cluster, "-initial-advertise-peer-urls=https://10.0.0.1:1"]).len(), 1);
    assert_eq!(begin(&[cluster, "-initial-advertise-peer-urls=http://two.example:1"]).len(), 1);
}

#[test]
fn a_url_has_one_member() {
    let twice = "default=http://a:1,b=http://a:1";
    assert_eq!(
        begin(&["-initial-cluster", twice, "-initial-advertise-peer-urls=http://a:1"]),
        ["C | etcdmain: initial cluster b=http://a:1,default=http://a:1 has duplicate url"]
    );
}

#[test]
fn several_members_and_one_that_joins_may_begin() {
    let several = "default=http://a:1,b=http://b:1";
    let words = ["-initial-cluster", several, "-initial-advertise-peer-urls=http://a:1"];
    assert_eq!(begin(&words), [""; 0]);
    // A joining member was added before: its own advertised URLs are not compared.
    assert_eq!(begin(&["-initial-cluster", several, "-initial-cluster-state=existing"]), [""; 0]);
}

#[test]
fn discovery_begins_with_the_member_alone() {
    let url = "http://d.example/v2/keys/token";
    let words = ["-name=m", "-discovery", url, "-initial-advertise-peer-urls=http://a:1,http://a:2"];
    let config = config(&words);
    assert_eq!(config.initial_cluster.to_string(), "m=http://a:1,m=http://a:2");
    assert_eq!(config.initial_cluster_token, url);
    let discovery = config.discovery.unwrap();
    assert_eq!((discovery.url.as_str(), discovery.proxy, discovery.fallback), (url, None, Fallback::Proxy));
    assert_eq!(begin(&words), [""; 0]);
    assert_eq!(
        begin(&["-discovery", url, "-initial-cluster-state=existing"]),
        ["C | etcdmain: discovery URL should not be set when joining existing initial cluster"]
    );
}

#[test]
fn the_password_of_a_proxy_is_not_for_the_log() {
    for (proxy, shown) in [
        ("http://me:secret@proxy:1", "http://me:xxxxx@proxy:1"),
        ("me:se@cret@proxy:1", "me:xxxxx@proxy:1"),
        ("http://me@proxy:1", "http://me@proxy:1"),
        ("proxy:1", "proxy:1"),
    ] {
        let discovery =
            config(&["-discovery=http://d.example/x", "-discovery-proxy", proxy]).discovery.unwrap();
        assert_eq!(discovery.proxy.as_deref(), Some(proxy));
        assert_eq!(discovery.proxy_shown().as_deref(), Some(shown));
    }
    assert_eq!(config(&["-discovery=http://d.example/x"]).discovery.unwrap().proxy_shown(), None);
}

#[test]
fn a_domain_names_the_members_later() {
    let config = config(&["-name=m", "-discovery-srv=d.example", "-initial-advertise-peer-urls=http://a:1"]);
    assert_eq!((config.initial_cluster.len(), config.discovery_srv.as_deref()), (0, Some("d.example")));
    let found: InitialCluster = "m=http://a:1,0=http://b:1".parse().unwrap();
    assert_eq!(config.check_bootstrap(&found, resolve), Ok(()));
}

#[test]
fn anything_at_all_is_read_without_a_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/settings");
    let mut inputs: Vec<Vec<u8>> =
        corpus.read_dir().unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(inputs.len() > 3, "an empty corpus proves nothing");
    inputs.push(b"\xff\xfe-\n--\x00\n---".to_vec());
    for input in &inputs {
        fuzz_settings(input);
        // Cut off anywhere.
        (0..input.len()).for_each(|end| fuzz_settings(&input[..end]));
    }
}

/// Possible arguments: flags, values of every kind, and noise.
fn word() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::*;
    let names: Vec<&'static str> = FLAGS.flags().map(|flag| flag.name).collect();
    let values = prop::sample::select(vec![
        "",
        "0",
        "7",
        "-1",
        "0x1F",
        "true",
        "F",
        "maybe",
        "x=http://a:1",
        "http://a:1",
        "https://a:1,http://b:2",
        "127.0.0.1:1",
        "[::1]:2",
        "new",
        "existing",
        "off",
        "on",
        "*",
        "%zz",
        "a=DEBUG",
        "--",
        "-",
        "f",
    ]);
    let name = prop::sample::select(names);
    prop_oneof![
        (name.clone(), values.clone()).prop_map(|(name, value)| format!("-{name}={value}")),
        name.prop_map(|name| format!("--{name}")),
        values.prop_map(str::to_owned),
        ".{0,12}",
    ]
}

proptest::proptest! {
    #[test]
    fn lines_variables_and_files_in_any_mixture(
        words in proptest::collection::vec(word(), 0..6),
        variables in proptest::collection::vec(word(), 0..4),
        settings in proptest::collection::vec(word(), 0..4),
    ) {
        let variables: Vec<String> = variables
            .iter()
            .map(|word| {
                let (name, value) = word.trim_start_matches('-').split_once('=').unwrap_or((word, "1"));
                format!("ETCD_{}={value}", name.to_uppercase().replace('-', "_"))
            })
            .collect();
        let settings: Vec<String> = settings
            .iter()
            .map(|word| {
                let (name, value) = word.trim_start_matches('-').split_once('=').unwrap_or((word, "1"));
                format!("{} = '{value}'", name.replace('-', "_"))
            })
            .collect();
        let input = [words.join("\n"), variables.join("\n"), settings.join("\n")].join("\n---\n");
        fuzz_settings(input.as_bytes());
    }
}
