//! Where a server listens, and its errors if it cannot.

use std::net::{Ipv4Addr, TcpListener};

use tests::server::{START_LIMIT, Server};
use tests::{Check, Context, files, ports};

#[test]
fn a_url_without_a_host_is_all_addresses() -> Check {
    let folder = files::scratch("everywhere")?;
    let (clients, peers) = (ports::take()?, ports::take()?);
    let mut server = Server::at(folder.path(), "m", clients, peers)?.with_args([
        format!("--listen-client-urls=http://:{clients}"),
        format!("--listen-peer-urls=http://:{peers}"),
    ]);
    server.start()?;
    server.wait_ready(START_LIMIT)?;
    server.set("/a", "1")?;
    for port in [clients, peers] {
        for address in ["127.0.0.1", "127.0.0.2", "[::1]"] {
            let connected = std::net::TcpStream::connect(format!("{address}:{port}"));
            // Not every machine has IPv6.
            assert!(connected.is_ok() || address == "[::1]", "{address}:{port}: {connected:?}");
        }
    }
    assert!(server.said().contains(&format!("listening for client requests on http://:{clients}")));
    assert!(server.said().contains(&format!("listening for peers on http://:{peers}")));
    Ok(())
}

#[test]
fn what_is_wrong_is_told_with_the_url_and_where_it_is_from() -> Check {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let taken = format!("http://{}", taken.local_addr()?);
    for (flag, url, why) in [
        (
            "-listen-client-urls",
            "http://*:2379",
            "; to listen on all addresses leave the host out: http://:2379",
        ),
        (
            "-listen-peer-urls",
            "http://no-such-host.invalid:2380",
            "the host \"no-such-host.invalid\" cannot be resolved",
        ),
        ("-listen-client-urls", "http://127.0.0.1:99999", "the port \"99999\" is no number from 0 to 65535"),
        ("-listen-peer-urls", "http://127.0.0.1:", "the port \"\" is no number from 0 to 65535"),
        ("-listen-client-urls", &taken, "bind: address already in use"),
    ] {
        let folder = files::scratch("nowhere")?;
        let mut server = Server::new(folder.path(), "m")?.with_args([format!("{flag}={url}")]);
        server.start()?;
        let status = server.wait_exit(START_LIMIT).context("it goes on")?;
        assert_eq!(status.code(), Some(1), "{flag}={url}");
        let said = server.last_words();
        assert!(said.contains(why) && said.contains(&format!("({url} of {flag})")), "{flag}={url}: {said}");
    }
    Ok(())
}
