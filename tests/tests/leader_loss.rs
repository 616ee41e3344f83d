//! Clients of followers while their leader dies or freezes: each write is answered, has happened, and happened once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::http::{Connection, PATIENCE, Request};
use tests::json::Json;
use tests::server::{START_LIMIT, Server, cluster};
use tests::{Check, Context, fail, files};

/// Clients at each follower.
const WRITERS: usize = 4;
/// How many answers the clients must get together after the leader is lost.
const ANSWERS_MIN: u64 = 40;
/// Longer than any write should take, and no more than a client waits.
const LIMIT: Duration = Duration::from_secs(30);

fn leads(member: &Server) -> bool {
    member.call("GET", "/v2/stats/leader").is_ok_and(|response| response.status == 200)
}

fn leader(members: &[Server]) -> Check<usize> {
    let begun = Instant::now();
    loop {
        if let Some(at) = members.iter().position(leads) {
            return Ok(at);
        }
        if begun.elapsed() > START_LIMIT {
            fail!("nobody leads");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Adds to a queue and counts up until it is stopped. Every answer must be a success.
fn write(port: u16, host: &str, writer: usize, stop: &AtomicBool, answers: &AtomicU64) -> Check<Vec<String>> {
    let mut connection = Connection::open(port, PATIENCE)?;
    let mut values = Vec::new();
    let mut last: Option<String> = None;
    while !stop.load(Ordering::Relaxed) {
        let value = format!("{writer}-{}", values.len());
        let post = Request::new("POST", "/v2/keys/queue").form(&[("value", &value)]);
        let response = connection.call(&post, host)?;
        if response.status != 201 {
            fail!("POST {value} was answered with {}: {}", response.status, response.text());
        }
        // A second time this would fail.
        let counter = format!("/v2/keys/counter/{writer}");
        let swap = match &last {
            None => Request::new("PUT", counter).form(&[("value", &value), ("prevExist", "false")]),
            Some(last) => Request::new("PUT", counter).form(&[("value", &value), ("prevValue", last)]),
        };
        let response = connection.call(&swap, host)?;
        if !matches!(response.status, 200 | 201) {
            fail!("a swap to {value} was answered with {}: {}", response.status, response.text());
        }
        values.push(value.clone());
        last = Some(value);
        answers.fetch_add(1, Ordering::Relaxed);
    }
    Ok(values)
}

/// The values in the queue, and how often each.
fn queue(member: &Server) -> Check<BTreeMap<String, usize>> {
    let response = member.call("GET", "/v2/keys/queue?quorum=true")?;
    let event = Json::parse(&response.text())?;
    let Some(Json::List(nodes)) = event.at("node.nodes") else { fail!("no queue: {}", response.text()) };
    let mut values = BTreeMap::new();
    for node in nodes {
        let value = node.get("value").and_then(Json::text).context("a value")?;
        *values.entry(value.to_owned()).or_insert(0) += 1;
    }
    Ok(values)
}

/// Has clients write at the followers while `lose` takes the leader away.
fn lose_leader(lose: impl FnOnce(&mut Server) -> Check, after: impl FnOnce(&mut Server) -> Check) -> Check {
    let folder = files::scratch("leader-loss")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let args = ["--heartbeat-interval", "100", "--election-timeout", "1000"].map(str::to_owned);
    let mut members = cluster(folder.path(), &names, &args)?;
    let leader = leader(&members)?;
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let doors: Vec<(u16, String)> = members
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != leader)
        .map(|(_, member)| (member.client_port, member.host()))
        .collect();
    let mut written = thread::scope(|scope| -> Check<Vec<String>> {
        let writers: Vec<_> = (0..WRITERS * doors.len())
            .map(|writer| {
                let (port, host) = &doors[writer % doors.len()];
                let (stop, answers) = (&stop, &answers);
                scope.spawn(move || write(*port, host, writer, stop, answers))
            })
            .collect();
        let lost = (|| {
            wait_for(&answers, ANSWERS_MIN)?;
            // Frozen first, so that what all clients wait for has been sent to it.
            members[leader].process().context("the leader does not run")?.signal(Signal::STOP);
            thread::sleep(Duration::from_millis(200));
            lose(&mut members[leader])?;
            wait_for(&answers, answers.load(Ordering::Relaxed) + ANSWERS_MIN)?;
            after(&mut members[leader])?;
            wait_for(&answers, answers.load(Ordering::Relaxed) + ANSWERS_MIN)
        })();
        stop.store(true, Ordering::Relaxed);
        let mut written = Vec::new();
        for writer in writers {
            written.extend(writer.join().ok().context("a writer has panicked")??);
        }
        lost?;
        Ok(written)
    })?;
    written.sort_unstable();
    let other = members.iter().enumerate().find(|(at, _)| *at != leader).context("no other")?.1;
    let found = queue(other)?;
    let twice: Vec<_> = found.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "values that were added twice: {twice:?}");
    let found: Vec<String> = found.into_keys().collect();
    assert_eq!(found, written);
    Ok(())
}

fn wait_for(answers: &AtomicU64, count: u64) -> Check {
    let begun = Instant::now();
    while answers.load(Ordering::Relaxed) < count {
        if begun.elapsed() > LIMIT {
            fail!("{} answers, not {count}", answers.load(Ordering::Relaxed));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[test]
fn writes_to_followers_outlive_their_leader() -> Check {
    lose_leader(
        |leader| {
            leader.kill();
            Ok(())
        },
        |_| Ok(()),
    )
}

#[test]
fn a_leader_that_wakes_up_late_repeats_nothing() -> Check {
    let wake = |leader: &mut Server| {
        leader.process().context("the leader does not run")?.signal(Signal::CONT);
        Ok(())
    };
    lose_leader(|_| Ok(()), wake)
}
