//! Requests with many header lines.

use std::thread;
use std::time::Duration;

use tests::http::{Connection, PATIENCE, Request};
use tests::server::Server;
use tests::{Check, files};

#[test]
fn requests_have_as_many_header_lines_as_they_have_room_for() -> Check {
    let folder = files::scratch("browsers")?;
    let member = Server::new(folder.path(), "m")?.started()?;
    let mut proxy = Server::new(folder.path(), "p")?.with_args(["-proxy", "on"]);
    proxy.initial_cluster = member.initial_cluster.clone();
    let proxy = proxy.started()?;
    member.set("/a", "1")?;
    let lines = |count: usize| (0..count).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    let head = |target: &str, count| format!("GET {target} HTTP/1.1\r\nHost: x\r\n{}\r\n", lines(count));
    let call = |port: u16, target: &str, count: usize| -> Check<u16> {
        let mut connection = Connection::open(port, PATIENCE)?;
        // Twice, and in two pieces, which may come apart anywhere.
        for cut in [7, 5000] {
            let bytes = head(target, count).into_bytes();
            let (first, rest) = bytes.split_at(cut.min(bytes.len() / 2));
            connection.send(first)?;
            thread::sleep(Duration::from_millis(20));
            connection.send(rest)?;
            let answer = connection.response("GET")?;
            if answer.status != 200 {
                return Ok(answer.status);
            }
        }
        Ok(connection.call(&Request::new("GET", target), "x")?.status)
    };
    for count in [90, 101, 200, 900] {
        assert_eq!(call(member.client_port, "/v2/keys/a", count)?, 200, "{count}");
        assert_eq!(call(member.client_port, "/version", count)?, 200, "{count}");
        assert_eq!(call(member.peer_port, "/version", count)?, 200, "{count}");
        assert_eq!(call(proxy.client_port, "/v2/keys/a", count)?, 200, "{count}");
    }
    assert_eq!(call(member.client_port, "/v2/keys/a", 10_000)?, 200);
    assert_eq!(call(member.client_port, "/version", 40_000)?, 431);
    member.set("/a", "2")?;
    Ok(())
}
