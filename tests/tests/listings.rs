//! Listings and snapshots of trees that are much larger than the requests that made them.

use std::time::Duration;

use tests::http::{Connection, PATIENCE, Request};
use tests::server::Server;
use tests::{Check, Context, fail, files};

/// The memory of the process, in MiB.
fn resident_mib(server: &mut Server) -> Check<u64> {
    let id = server.process().map(|process| process.id()).context("no process")?;
    let status = files::read(std::path::Path::new(&format!("/proc/{id}/status")))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().context(line.to_owned())?;
    Ok(kib / 1024)
}

#[test]
fn one_request_makes_no_gigabyte() -> Check {
    let folder = files::scratch("deep")?;
    let mut server = Server::new(folder.path(), "m")?.started()?;
    let path = format!("/v2/keys{}", "/d".repeat(32_000));
    let refused = server.send(&Request::new("PUT", format!("{path}?value=1")))?;
    assert_eq!(refused.status, 400);
    let cause = "the key has 32000 levels; at most 1000 are taken (-max-key-depth)";
    assert!(refused.text().contains(cause), "{}", refused.text());
    let deep = format!("/v2/keys{}", "/e".repeat(1000));
    assert_eq!(server.send(&Request::new("PUT", format!("{deep}?value=1")))?.status, 201);

    // Where the limit lets it be, and for data of old, the answer is long; its server is not.
    server.stop();
    server.args = vec!["-max-key-depth=32768".to_owned()];
    let mut server = server.started()?;
    assert_eq!(server.send(&Request::new("PUT", format!("{path}?value=1")))?.status, 201);
    server.stop();
    server.args.clear();
    let mut server = server.started()?;
    let before = resident_mib(&mut server)?;
    let mut readers = Vec::new();
    for header in ["Accept", "TE"] {
        for _ in 0..4 {
            let mut reader = Connection::open(server.client_port, PATIENCE)?;
            let mut request = Request::new("GET", "/v2/keys/?recursive=true&sorted=true");
            request.headers.push((header.to_owned(), "trailers".to_owned()));
            reader.send(&request.bytes(&server.host()))?;
            let head = reader.head()?;
            assert_eq!(head.header("Transfer-Encoding").as_deref(), Some("chunked"));
            for _ in 0..30 {
                reader.chunk()?.context("the listing is short")?;
            }
            readers.push(reader);
        }
    }
    // Eight gigabytes wait for their readers, which have read only a little.
    std::thread::sleep(Duration::from_millis(500));
    let grown = resident_mib(&mut server)?.saturating_sub(before);
    if grown > 200 {
        fail!("the server has grown by {grown} MiB");
    }
    drop(readers);
    let begun = server.call("GET", &path)?;
    assert_eq!((begun.status, begun.text().contains("\"value\":\"1\"")), (200, true));
    assert_eq!(server.call("DELETE", "/v2/keys/d?recursive=true")?.status, 200);
    assert!(!server.call("GET", "/v2/keys/?recursive=true")?.text().contains("/d"));
    Ok(())
}

#[test]
fn a_long_value_is_not_rendered_as_a_whole() -> Check {
    let folder = files::scratch("long-value")?;
    let mut server = Server::new(folder.path(), "m")?.started()?;
    // Each byte becomes six in JSON.
    let mut body = b"value=".to_vec();
    body.resize(12 << 20, 1);
    let headers = vec![("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
    let put = Request { headers, body, ..Request::new("PUT", "/v2/keys/long") };
    assert_eq!(server.send(&put)?.status, 201);
    let before = resident_mib(&mut server)?;
    let mut readers = Vec::new();
    for target in ["/v2/keys/long", "/v2/keys/long?quorum=true", "/v2/keys/", "/v1/keys/long", "/v1/keys/"] {
        for _ in 0..3 {
            let mut reader = Connection::open(server.client_port, PATIENCE)?;
            reader.send(&Request::new("GET", target).bytes(&server.host()))?;
            let head = reader.head()?;
            assert_eq!(head.header("Transfer-Encoding").as_deref(), Some("chunked"), "{target}");
            reader.chunk()?.context("the answer is short")?;
            readers.push((target, reader));
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let grown = resident_mib(&mut server)?.saturating_sub(before);
    if grown > 100 {
        fail!("the server has grown by {grown} MiB");
    }
    // One of each kind is read to its end.
    for (target, mut reader) in readers.into_iter().step_by(3) {
        let mut bytes = 0;
        while let Some(chunk) = reader.chunk()? {
            bytes += chunk.len();
        }
        assert!(bytes > 6 * (11 << 20), "{target}: {bytes} bytes");
    }
    Ok(())
}
