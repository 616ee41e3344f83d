//! `etcdctl import` of exports and snapshots into a running member.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shared::legacy::snapshot;
use tests::json::Json;
use tests::process::{Process, clean_environment, describe};
use tests::server::Server;
use tests::{Check, Context, fail, files, programs};

const LIMIT: Duration = Duration::from_secs(30);

/// Far ahead, and long ago.
const LATER: &str = "2090-01-01T00:00:00Z";
const PAST: &str = "2001-01-01T00:00:00Z";

fn command(server: &Server, words: &[&str]) -> Check<Command> {
    let mut command = Command::new(&programs::find()?.etcdctl);
    clean_environment(&mut command);
    command.env("ETCDCTL_ENDPOINTS", server.client_url()).arg("import").args(words);
    Ok(command)
}

/// What a run prints and ends with.
struct RunResult {
    out: String,
    err: String,
    status: Option<i32>,
}

impl From<Output> for RunResult {
    fn from(output: Output) -> RunResult {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        RunResult { out: text(&output.stdout), err: text(&output.stderr), status: output.status.code() }
    }
}

fn import(server: &Server, words: &[&str]) -> Check<RunResult> {
    Ok(command(server, words)?.output().context("run etcdctl")?.into())
}

fn shown(path: &Path) -> Check<&str> {
    path.to_str().context("a path that is no text")
}

/// A field of the node at a key; empty if there is none.
fn node(server: &Server, key: &str, member: &str) -> Check<String> {
    let answer = Json::parse(&server.call("GET", &format!("/v2/keys{key}"))?.text())?;
    Ok(answer.at(&format!("node.{member}")).map(Json::write_go).unwrap_or_default())
}

/// An export of so many keys `/k/N`.
fn export_of(keys: usize) -> String {
    let mut text = "{\"key\":\"/k\",\"dir\":true}\n".to_owned();
    for number in 0..keys {
        text.push_str(&format!("{{\"key\":\"/k/{number}\",\"value\":\"{number}\"}}\n"));
    }
    text.push_str(&format!("{{\"end\":{{\"nodes\":{},\"index\":9}}}}\n", keys + 1));
    text
}

#[test]
fn an_export_comes_whole() -> Check {
    let folder = files::scratch("import")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    let path = folder.path().join("keys.jsonl");
    files::write(
        &path,
        format!(
            "{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n{}\n",
            r#"{"key":"/a","value":"1 & <ü>\n","createdIndex":7,"modifiedIndex":8}"#,
            r#"{"key":"/_hidden","value":"h"}"#,
            r#"{"key":"/empty","dir":true}"#,
            format_args!(r#"{{"key":"/t","dir":true,"expiration":"{LATER}"}}"#),
            format_args!(r#"{{"key":"/t/k","value":"","expiration":"{LATER}"}}"#),
            r#"{"key":"/bytes","value_base64":"/w=="}"#,
            format_args!(r#"{{"key":"/gone","value":"x","expiration":"{PAST}"}}"#),
            format_args!(r#"{{"key":"/gone-too","dir":true,"expiration":"{PAST}"}}"#),
            r#"{"key":"/gone-too/k","value":"x"}"#,
            r#"{"end":{"nodes":9,"index":12}}"#,
        ),
    )?;
    let ran = import(&server, &[shown(&path)?])?;
    let expected = format!(
        "starting to import {} with 10 clients\n\
         finished importing 4 keys and 2 directories; 3 skipped (3 expired, 0 there already); 0 failed\n",
        path.display()
    );
    assert_eq!((ran.out, ran.err, ran.status), (expected, String::new(), Some(0)));
    assert_eq!(node(&server, "/a", "value")?, r#""1 \u0026 \u003cü\u003e\n""#);
    assert_eq!(node(&server, "/_hidden", "value")?, "\"h\"");
    assert_eq!(node(&server, "/empty", "dir")?, "true");
    for key in ["/t", "/t/k"] {
        assert!(node(&server, key, "expiration")?.contains("20"), "{key} stays");
        let ttl: u64 = node(&server, key, "ttl")?.parse().context("no ttl")?;
        assert!(ttl > 1_000_000_000, "{key}: {ttl}");
    }
    // The bytes are stored; JSON shows bytes that are not text as U+FFFD.
    assert_eq!(node(&server, "/bytes", "value")?, "\"\u{fffd}\"");
    for key in ["/gone", "/gone-too", "/gone-too/k"] {
        assert_eq!(server.call("GET", &format!("/v2/keys{key}"))?.status, 404, "{key}");
    }
    // A second import changes only indexes; existing keys can be kept.
    server.set("/a", "mine")?;
    let ran = import(&server, &["--keep-existing", "-c", "1", "--snap", shown(&path)?])?;
    assert!(
        ran.out.contains("0 keys and 0 directories; 9 skipped (3 expired, 6 there already)"),
        "{}",
        ran.out
    );
    assert_eq!((node(&server, "/a", "value")?.as_str(), ran.status), ("\"mine\"", Some(0)));
    Ok(())
}

#[test]
fn what_fails_is_listed_and_the_rest_goes_on() -> Check {
    let folder = files::scratch("import")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    server.set("/dir/k", "1")?;
    server.set("/key", "1")?;
    let path = folder.path().join("keys.jsonl");
    let lines = [
        r#"{"key":"/dir","value":"in the way"}"#,
        r#"{"key":"/a","value":"1"}"#,
        r#"{"key":"/b","valu"#,
        r#"{"key":"/key","dir":true}"#,
        r#"{"key":"/key/k","value":"below a key"}"#,
        r#"{"key":"/dir","dir":true}"#,
        r#"{"key":"/c","value":"1"}"#,
    ];
    files::write(&path, format!("{}\n{}\n", lines.join("\n"), r#"{"end":{"nodes":7,"index":12}}"#))?;
    let ran = import(&server, &["-c", "1", shown(&path)?])?;
    assert_eq!(ran.status, Some(1));
    assert!(
        ran.out.ends_with("2 keys and 1 directory; 0 skipped (0 expired, 0 there already); 4 failed\n"),
        "{}",
        ran.out
    );
    let told: Vec<&str> = ran.err.lines().collect();
    for (line, text) in [
        (0, "line 1: /dir: 102: Not a file (/dir) ["),
        (1, "line 3: at byte "),
        (2, "line 4: /key: 105: Key already exists (/key) ["),
        (3, "line 5: /key/k: 104: Not a directory (/key) ["),
    ] {
        assert!(told.get(line).is_some_and(|told| told.starts_with(text)), "{text} in {}", ran.err);
    }
    assert_eq!(told.len(), 4, "{}", ran.err);
    assert_eq!(node(&server, "/c", "value")?, "\"1\"");
    assert_eq!(node(&server, "/key", "value")?, "\"1\"");

    // A truncated export is imported as far as it goes, with an error.
    files::write(&path, "{\"key\":\"/d\",\"value\":\"1\"}\n")?;
    let ran = import(&server, &[shown(&path)?])?;
    assert!(ran.out.contains("finished importing 1 key "), "{}", ran.out);
    assert!(ran.err.contains("cut off behind line 1") && ran.status == Some(1), "{}", ran.err);

    let ran = import(&server, &["--hidden", "/_h", shown(&path)?])?;
    assert!(ran.err.contains("--hidden is for snapshots") && ran.status == Some(1), "{}", ran.err);
    Ok(())
}

/// How many keys the member has below `/k`.
fn keys(server: &Server) -> Check<usize> {
    Ok(server.call("GET", "/v2/keys/k?recursive=true")?.text().matches("\"value\":").count())
}

#[test]
fn an_import_that_was_stopped_goes_on() -> Check {
    const KEYS: usize = 4000;
    let folder = files::scratch("import")?;
    let mut server = Server::new(folder.path(), "m")?.started()?;
    let path = folder.path().join("keys.jsonl");
    let bookmark = folder.path().join("keys.jsonl.import");
    files::write(&path, export_of(KEYS))?;
    let words = ["-c", "2", "--resume", shown(&path)?];
    for end in ["killed", "interrupted"] {
        let before = keys(&server)?;
        let mut process = Process::spawn(&mut command(&server, &words)?, &folder.path().join("log"))?;
        let begun = Instant::now();
        while keys(&server)? < before + 300 {
            if begun.elapsed() > LIMIT || !process.alive() {
                fail!("it does not come on: {}", process.said());
            }
            thread::sleep(Duration::from_millis(5));
        }
        match end {
            "killed" => process.kill(),
            _ => process.signal(Signal::INT),
        }
        let status = describe(process.wait(LIMIT));
        assert!(keys(&server)? < KEYS, "it was not stopped early enough");
        assert!(bookmark.exists());
        if end == "interrupted" {
            assert_eq!(status, "exit 1");
            assert!(
                process.said().contains("interrupted\nthe same command goes on there"),
                "{}",
                process.said()
            );
        }
    }
    // Without a server it stops, and prints the position.
    let before = files::read(&bookmark)?;
    server.kill();
    let ran = import(&server, &words)?;
    assert_eq!(ran.status, Some(2), "{}", ran.err);
    assert_eq!(files::read(&bookmark)?, before);

    server.start()?;
    server.wait_ready(LIMIT)?;
    let ran = import(&server, &words)?;
    assert!(ran.out.contains("going on behind line "), "{}", ran.out);
    let all = format!(
        "finished importing {KEYS} keys and 1 directory; 0 skipped (0 expired, 0 there already); 0 failed\n"
    );
    assert!(ran.out.ends_with(&all), "{}", ran.out);
    assert_eq!((keys(&server)?, ran.status, bookmark.exists()), (KEYS, Some(0), false));
    Ok(())
}

#[test]
fn a_snapshot_file_of_0_4_is_imported() -> Check {
    let folder = files::scratch("import")?;
    let server = Server::new(folder.path(), "m")?.started()?;
    let path = folder.path().join("0_27.ss");
    let node_of = |path: &str, expiration: &str, rest: &str| {
        format!(
            r#"{{"Path":"{path}","CreatedIndex":1,"ModifiedIndex":1,"ExpireTime":"{expiration}","ACL":"",{rest}}}"#
        )
    };
    let never = "0001-01-01T00:00:00Z";
    let children = [
        format!(r#""a":{}"#, node_of("/a", LATER, r#""Value":"1","Children":null"#)),
        format!(r#""d":{}"#, node_of("/d", LATER, r#""Value":"","Children":{}"#)),
        format!(r#""e":{}"#, node_of("/e", never, r#""Value":"","Children":{}"#)),
        format!(r#""o":{}"#, node_of("/o", PAST, r#""Value":"old","Children":null"#)),
    ];
    let root = node_of("/", never, &format!(r#""Value":"","Children":{{{}}}"#, children.join(",")));
    let state = format!(r#"{{"Root":{root},"CurrentIndex":9,"CurrentVersion":2}}"#).into_bytes();
    let file =
        snapshot::encode(&snapshot::Snapshot { last_index: 27, last_term: 0, peers: Vec::new(), state });
    files::write(&path, &file)?;

    let ran = import(&server, &["--snap", shown(&path)?])?;
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert!(ran.out.ends_with("finished importing 1 keys\n"), "{}", ran.out);
    assert!(ran.err.contains("left out, since their time is over: 1\n"), "{}", ran.err);
    let ttl: u64 = node(&server, "/a", "ttl")?.parse().context("no ttl")?;
    assert!(ttl > 1_000_000_000, "{ttl}");
    // A directory with a time to live is imported with it, others only with --dirs.
    assert!(!node(&server, "/d", "ttl")?.is_empty());
    assert_eq!(server.call("GET", "/v2/keys/e")?.status, 404);
    assert_eq!(import(&server, &["--dirs", "--snap", shown(&path)?])?.status, Some(0));
    assert_eq!(node(&server, "/e", "dir")?, "true");

    // From standard input, and with a bit that is wrong.
    let run = command(&server, &["-"])?.stdin(std::fs::File::open(&path)?).stdout(Stdio::piped()).output();
    let ran = RunResult::from(run.context("run etcdctl")?);
    assert!(ran.out.ends_with("finished importing 1 keys\n"), "{}", ran.out);
    let mut bad = file;
    bad[200] ^= 1;
    files::write(&path, bad)?;
    let ran = import(&server, &["--snap", shown(&path)?])?;
    assert!(
        ran.out.starts_with("cannot recover the snapshot file: ") && ran.status == Some(1),
        "{}",
        ran.out
    );
    // What has a directory in its way is the end.
    server.set("/b/k", "1")?;
    let store = format!(
        r#"{{"Root":{},"CurrentIndex":9,"CurrentVersion":2}}"#,
        node_of(
            "/",
            never,
            &format!(r#""Children":{{"b":{}}}"#, node_of("/b", never, r#""Value":"1","Children":null"#))
        )
    );
    files::write(&path, store)?;
    let ran = import(&server, &["--snap", shown(&path)?])?;
    assert!(
        ran.err.contains(" failed to copy key: 102: Not a file (/b) [") && ran.status == Some(1),
        "{}",
        ran.err
    );
    assert!(!ran.out.contains("finished"), "{}", ran.out);
    Ok(())
}
