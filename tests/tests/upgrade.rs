//! `etcdctl upgrade` with a stand-in for a peer of etcd 0.4.

use std::process::Command;

use tests::process::clean_environment;
use tests::recorded::ctl::case::TlsFront;
use tests::recorded::ctl::stub::Stub;
use tests::recorded::ctl::text::Names;
use tests::recorded::ctl::tls::TlsTerminator;
use tests::{Check, Context, files, ports, programs};

/// A peer that answers by a script.
fn stub(routes: &str) -> Check<(Stub, String)> {
    let port = ports::take()?;
    Ok((
        Stub::start(port, serde_json::from_str(routes)?, Names::default())?,
        format!("http://127.0.0.1:{port}"),
    ))
}

/// What `etcdctl upgrade` prints and ends with, where a peer answers so.
fn upgrade(words: &[&str]) -> Check<(String, String, Option<i32>)> {
    let mut command = Command::new(&programs::find()?.etcdctl);
    clean_environment(&mut command);
    let output = command.arg("upgrade").args(words).output().context("run etcdctl")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(&output.stdout), text(&output.stderr), output.status.code()))
}

#[test]
fn upgrade_tells_what_the_cluster_says() -> Check {
    const PATH: &str = "/v2/admin/next-internal-version";
    let (leader, leader_url) = stub(&format!(r#"{{"GET {PATH}":{{}}}}"#))?;
    let (follower, url) =
        stub(&format!(r#"{{"GET {PATH}":{{"status":307,"headers":{{"Location":"{leader_url}{PATH}"}}}}}}"#))?;
    let done = "Cluster will start upgrading from internal version 1 to 2 in 10 seconds.\n".to_owned();
    assert_eq!(
        upgrade(&["--old-version=1", "--new-version", "2", "--peer-url", &url])?,
        (done, String::new(), Some(0))
    );
    assert_eq!(
        (follower.take_requests(), leader.take_requests()),
        (vec![format!("GET {PATH}")], vec![format!("GET {PATH}")])
    );

    let (_other, url) = stub("{}")?;
    let text = "Cluster cannot upgrade to 2: version is not 0.4.7\n".to_owned();
    assert_eq!(upgrade(&["-peer-url", &url])?, (text, String::new(), Some(1)));

    let (_unready, url) = stub(r#"{"*":{"status":503}}"#)?;
    let text = format!("Faild upgrade cluster via {url}\nrun etcdctl cluster-health to check\n");
    assert_eq!(upgrade(&["--peer-url", &url])?, (text, String::new(), Some(1)));

    let dead = format!("http://127.0.0.1:{}", ports::take()?);
    let (text, _, status) = upgrade(&["--peer-url", &dead])?;
    assert!(text.starts_with(&format!("Failed to send upgrade request to {dead}: ")), "{text}");
    assert!(text.contains("connection refused") && status == Some(1), "{text}");

    // Where members show certificates and want to see one, those for members are used, or those for clients.
    let certs = files::data("etcdctl/certs");
    let file = |name: &str| certs.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.crt"), file("client.crt"), file("client.key"));
    let (port, target) =
        (ports::take()?, leader_url.rsplit(':').next().unwrap_or_default().parse().ok().context("no port")?);
    let front: TlsFront = serde_json::from_str(r#"{"client_auth":true}"#)?;
    let _front = TlsTerminator::start(port, target, &certs, &front)?;
    let url = format!("https://127.0.0.1:{port}");
    let flags = [["--peer-ca-file", &ca], ["--peer-cert-file", &cert], ["--peer-key-file", &key]].concat();
    assert_eq!(upgrade(&[flags, vec!["--peer-url", &url]].concat())?.2, Some(0));
    let (text, _, status) = upgrade(&["--peer-ca-file", &ca, "--peer-url", &url])?;
    assert!(text.contains("certificate") && status == Some(1), "{text}");

    for (flag, text) in [("--old-version=2", "from version 2"), ("--new-version=3", "to version 3")] {
        let text = format!("Do not support upgrade {text}\n");
        assert_eq!(upgrade(&[flag, "--peer-url", &url])?, (text, String::new(), Some(1)));
    }
    Ok(())
}
