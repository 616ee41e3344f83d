//! Exports of directories and of servers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::directory::{Directory, damage, find};
use crate::{good, run};

#[test]
fn a_directory_gives_all_keys() {
    let directory = Directory::with_keys();
    let value = "v".repeat(200);
    let wanted = format!(
        "{{\"key\":\"/_hidden\",\"dir\":true}}\n\
         {{\"key\":\"/_hidden/b\",\"value_base64\":\"/wA=\",\"createdIndex\":5,\"modifiedIndex\":5}}\n\
         {{\"key\":\"/a\",\"value\":\"2\",\"createdIndex\":3,\"modifiedIndex\":7}}\n\
         {{\"key\":\"/long\",\"value\":\"{value}\",\"createdIndex\":4,\"modifiedIndex\":4}}\n\
         {{\"key\":\"/ttl\",\"value\":\"\",\"expiration\":\"2096-10-02T07:06:40.12Z\",\"createdIndex\":6,\
         \"modifiedIndex\":6}}\n\
         {{\"end\":{{\"nodes\":5,\"index\":7}}}}\n"
    );
    assert_eq!(good(&["export", directory.path()]), wanted);
    let file = format!("{}/keys", directory.path());
    assert_eq!(good(&["export", directory.path(), "-o", &file]), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), wanted);
}

#[test]
fn an_export_that_is_not_complete_is_no_file() {
    let directory = Directory::with_keys();
    let segment = directory.segments().remove(0);
    let at = find(&segment, b"/1/ttl");
    damage(&segment, |bytes| bytes[at] ^= 1);
    let file = format!("{}/keys", directory.path());
    let (status, _, error) = run(&["export", directory.path(), "-o", &file]);
    assert!(status == 1 && error.contains("crc mismatch"), "{error}");
    let (status, out, _) = run(&["export", directory.path()]);
    assert!(status == 1 && out.contains("/_hidden/b") && !out.contains("\"end\""), "{out}");
    let names = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(names, 1, "neither the file nor a part of it is there");
}

#[test]
fn what_a_crash_leaves_at_the_end_is_left_out() {
    let directory = Directory::with_keys();
    let segment = directory.segments().remove(0);
    damage(&segment, |bytes| bytes.truncate(bytes.len() - 40));
    let (status, out, error) = run(&["export", directory.path()]);
    assert!(status == 0 && out.ends_with("{\"end\":{\"nodes\":5,\"index\":6}}\n"), "{out}");
    assert!(error.contains("ends in a part of a record"), "{error}");
}

#[test]
fn the_command_line_is_checked() {
    assert_eq!(run(&["export"]).0, 2);
    assert_eq!(run(&["export", "a", "b"]).0, 2);
    assert_eq!(run(&["export", "a", "--endpoint", "http://127.0.0.1:1"]).0, 2);
    assert_eq!(run(&["export", "a", "--hidden", "/_b"]).0, 2);
    let (status, out, _) = run(&["export", "--help"]);
    assert!(status == 0 && out.contains("--hidden"));
    // No server listens there.
    let (status, out, error) = run(&["export", "--endpoint", "http://127.0.0.1:1"]);
    assert!(status == 1 && out.is_empty() && error.contains("127.0.0.1:1"), "{error}");
}

/// Plays a server: gives what `answer` makes of the target of each request.
fn server(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            while let Some(target) = target(&mut reader) {
                let (status, body) = answer(&target);
                let head = format!(
                    "HTTP/1.1 {status} X\r\nX-Etcd-Index: 9\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                reader.get_mut().write_all((head + &body).as_bytes()).unwrap();
            }
        }
    });
    url
}

fn target(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut target = None;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            return target;
        }
        target = target.or_else(|| line.split(' ').nth(1).map(str::to_owned));
    }
}

const TREE: &str = r#"{"action":"get","node":{"dir":true,"nodes":[
    {"key":"/d","dir":true,"nodes":[{"key":"/d/k","value":"v","modifiedIndex":5,"createdIndex":4}],
     "modifiedIndex":4,"createdIndex":4},
    {"key":"/t","value":"","expiration":"2096-10-02T07:06:40Z","ttl":9,"modifiedIndex":6,"createdIndex":6}]}}"#;

#[test]
fn bytes_that_a_server_could_not_say_are_told() {
    let url =
        server(|_| (200, "{\"node\":{\"nodes\":[{\"key\":\"/b\",\"value\":\"\u{fffd}\"}]}}".to_owned()));
    let (status, out, error) = run(&["export", "--endpoint", &url]);
    assert!(status == 0 && out.contains("\"/b\""), "{out}");
    assert!(error.contains("1 values have the character U+FFFD"), "{error}");
}

const HIDDEN: &str =
    r#"{"action":"get","node":{"key":"/_h","value":"x","modifiedIndex":7,"createdIndex":7}}"#;

#[test]
fn a_server_gives_its_keys_and_the_hidden_ones_that_are_named() {
    let url = server(|target| match target.split('?').next() {
        Some("/v2/keys/") if target.contains("recursive=true") => (200, TREE.to_owned()),
        Some("/v2/keys/_h") => (200, HIDDEN.to_owned()),
        _ => (404, r#"{"errorCode":100,"message":"Key not found","cause":"/x","index":9}"#.to_owned()),
    });
    let tree = "{\"key\":\"/d\",\"dir\":true}\n\
                {\"key\":\"/d/k\",\"value\":\"v\",\"createdIndex\":4,\"modifiedIndex\":5}\n\
                {\"key\":\"/t\",\"value\":\"\",\"expiration\":\"2096-10-02T07:06:40Z\",\"createdIndex\":6,\
                \"modifiedIndex\":6}\n";
    let out = good(&["export", "--endpoint", &url]);
    assert_eq!(out, format!("{tree}{{\"end\":{{\"nodes\":3,\"index\":9}}}}\n"));
    let out = good(&["export", "--endpoint", &url, "--hidden", "/_h", "--hidden=_h"]);
    let hidden = "{\"key\":\"/_h\",\"value\":\"x\",\"createdIndex\":7,\"modifiedIndex\":7}\n";
    assert_eq!(out, format!("{tree}{hidden}{hidden}{{\"end\":{{\"nodes\":5,\"index\":9}}}}\n"));
    let (status, _, error) = run(&["export", "--endpoint", &url, "--hidden", "/_x"]);
    assert!(status == 1 && error.contains("/_x") && error.contains("Key not found"), "{error}");
}

#[test]
fn a_tree_that_is_too_deep_for_one_answer_comes_in_parts() {
    // Deeper than the reader of JSON goes.
    let deep = format!("{}{}", r#"{"key":"/d","dir":true,"nodes":["#.repeat(100), "]}".repeat(100));
    let shallow = r#"{"node":{"dir":true,"nodes":[{"key":"/d","dir":true},{"key":"/e","value":"1"}]}}"#;
    let url = server(move |target| match target.split('?').next() {
        Some("/v2/keys/") if target.contains("recursive=true") => (200, format!("{{\"node\":{deep}}}")),
        Some("/v2/keys/") => (200, shallow.to_owned()),
        Some("/v2/keys/d") => (200, r#"{"node":{"key":"/d","dir":true}}"#.to_owned()),
        _ => (500, String::new()),
    });
    let (status, out, error) = run(&["export", "--endpoint", &url]);
    assert_eq!(status, 0, "{error}");
    assert_eq!(
        out,
        "{\"key\":\"/d\",\"dir\":true}\n{\"key\":\"/e\",\"value\":\"1\",\"createdIndex\":0,\"modifiedIndex\":0}\n\
         {\"end\":{\"nodes\":2,\"index\":9}}\n"
    );
    assert!(error.contains("folder by folder"), "{error}");
}
