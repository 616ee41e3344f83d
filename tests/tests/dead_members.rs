//! `-remove-dead-members`: a member that is silent for 0.4's remove delay is removed, while a majority is alive.

use std::thread::sleep;
use std::time::{Duration, Instant};

use tests::http::{PATIENCE, Request, call};
use tests::server::{Server, cluster};
use tests::{Check, fail, files};

/// The least remove delay there is.
const DELAY: Duration = Duration::from_secs(2);

/// How long a removal may take beyond it, on a machine with other things to do.
const LIMIT: Duration = Duration::from_secs(30);

const NAMES: [&str; 3] = ["m1", "m2", "m3"];

fn members(server: &Server) -> Check<Vec<String>> {
    let list = server.call("GET", "/v2/members")?.text();
    Ok(NAMES
        .iter()
        .filter(|name| list.contains(&format!("\"name\":\"{name}\"")))
        .map(ToString::to_string)
        .collect())
}

/// Three members, the leader first, and the remove delay at its least.
fn start(folder: &std::path::Path, args: &[&str]) -> Check<Vec<Server>> {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let mut servers = cluster(folder, &NAMES.map(str::to_owned), &args)?;
    let mut request = Request::new("PUT", "/v2/admin/config");
    request.body = b"{\"removeDelay\":2}".to_vec();
    call(servers[0].peer_port, &request, PATIENCE)?;
    let leader = servers[0].call("GET", "/v2/leader")?.text();
    servers.sort_by_key(|server| server.peer_url() != leader);
    Ok(servers)
}

#[test]
fn a_dead_member_is_removed_and_the_last_two_stay() -> Check {
    let folder = files::scratch("dead-members")?;
    let mut servers = start(folder.path(), &["-remove-dead-members"])?;
    // No live member is removed.
    sleep(DELAY + Duration::from_secs(2));
    assert_eq!(members(&servers[0])?.len(), 3);

    let killed = Instant::now();
    servers[2].kill();
    while members(&servers[0])?.len() == 3 {
        if killed.elapsed() > DELAY + LIMIT {
            fail!("the dead member is still there: {}", servers[0].said());
        }
        sleep(Duration::from_millis(100));
    }
    assert!(killed.elapsed() >= DELAY - Duration::from_millis(500), "{:?}", killed.elapsed());
    assert!(!members(&servers[0])?.contains(&servers[2].name));
    let said = servers[0].said();
    assert!(said.contains(&format!("({}): nothing was heard of it for", servers[2].name)), "{said}");
    servers[1].set("/still", "writes")?;

    // It learns that it was removed.
    servers[2].start()?;
    let status = servers[2].wait_exit(LIMIT);
    assert!(status.is_some(), "{}", servers[2].last_words());

    // One of two is not a majority: the other stays a member, and can come back.
    servers[1].kill();
    sleep(DELAY + Duration::from_secs(2));
    servers[1].start()?;
    servers[1].wait_ready(LIMIT)?;
    assert_eq!(members(&servers[1])?.len(), 2);
    servers[1].set("/still", "writes too")?;
    Ok(())
}

#[test]
fn without_the_flag_nobody_is_removed() -> Check {
    let folder = files::scratch("dead-members-stay")?;
    let mut servers = start(folder.path(), &[])?;
    servers[2].kill();
    sleep(DELAY + Duration::from_secs(4));
    assert_eq!(members(&servers[0])?.len(), 3);
    Ok(())
}
