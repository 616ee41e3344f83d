//! Three members under load while members are killed and started again: nothing acknowledged is lost, and all
//! members hold the same.
//!
//! `CLUSTER_SECONDS=N` makes it a soak, `CLUSTER_SEED=N` replays a seed. `OTHER_ETCD=PATH` names a second server,
//! such as a real etcd 2.3.8: then the members of both kinds change places, each going on with the other's data.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tests::http::{self, Request};
use tests::load::{Load, Random, WriteCount, WriterKeys, Writers, settle};
use tests::server::{START_LIMIT, Server, cluster};
use tests::{Check, Context, fail, files, programs};

/// Writers at each member.
const WRITERS: usize = 3;

/// How much of each log is printed after a failure.
const LOG_LINES: usize = 60;

/// How long a member may take to hold what all others hold.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(30);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The contents of a member that has applied everything that was acknowledged.
fn tree(member: &Server) -> Check<String> {
    let end = Instant::now() + CATCH_UP_LIMIT;
    let quorum = Request::new("GET", "/v2/keys/load?quorum=true");
    loop {
        match http::call(member.client_port, &quorum, Duration::from_secs(8)) {
            Ok(response) if response.status == 200 => break,
            other if Instant::now() > end => fail!("{} does not catch up: {other:?}", member.name),
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
    let whole = member.call("GET", "/v2/keys/load?recursive=true&sorted=true")?;
    Ok(whole.text())
}

/// Plays rounds until the time is over; in each, members that the seed chooses are killed under load.
fn kill_and_restart(seed: u64, time: Duration, rounds_min: u64, kinds: &[PathBuf]) -> Check {
    let folder = files::scratch("cluster")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let args = ["--snapshot-count", "500", "--heartbeat-interval", "50", "--election-timeout", "500"];
    let mut members = cluster(folder.path(), &names, &args.map(str::to_owned))?;
    let played = play(seed, time, rounds_min, kinds, &mut members);
    if played.is_err() {
        for member in &members {
            let said = member.said();
            let lines: Vec<&str> = said.lines().rev().take(LOG_LINES).collect();
            println!("--- {} at the end, newest first:\n{}", member.name, lines.join("\n"));
        }
    }
    played
}

fn play(seed: u64, time: Duration, rounds_min: u64, kinds: &[PathBuf], members: &mut [Server]) -> Check {
    let mut random = Random::new(seed);
    let mut ledgers: Vec<WriterKeys> = vec![WriterKeys::new(); WRITERS * members.len()];
    let (mut written, mut round, mut kills) = (WriteCount::default(), 0, 0);
    let end = Instant::now() + time;
    while round < rounds_min || Instant::now() < end {
        let mut writers = Vec::new();
        for (at, member) in members.iter().enumerate() {
            let known: Vec<WriterKeys> = ledgers.drain(..WRITERS).collect();
            let load = Load { threads: WRITERS, keys: 40, value_bytes: 600, first: at * WRITERS };
            writers.push(Writers::start(member.client_port, load, seed ^ (round << 32) ^ (at as u64), known));
        }
        thread::sleep(Duration::from_millis(300 + random.below(900)));
        // One, two or all of them; at the leader and at followers alike.
        let victims: Vec<usize> = (0..members.len()).filter(|_| random.below(2) == 0).collect();
        for at in &victims {
            members[*at].kill();
            kills += 1;
            thread::sleep(Duration::from_millis(random.below(200)));
        }
        for writers in writers {
            let (known, more) = writers.stop()?;
            ledgers.extend(known);
            written += more;
        }
        for at in &victims {
            let kind = usize::try_from(random.below(kinds.len() as u64)).unwrap_or(0);
            members[*at].set_program(&kinds[kind]);
            members[*at].start()?;
        }
        let doing = format!("seed {seed} round {round}, {} writes", written.count);
        for member in members.iter_mut() {
            member.wait_ready(START_LIMIT).context(format!("{doing}, {}", member.name))?;
        }
        let mut trees = Vec::new();
        for member in members.iter() {
            trees.push(tree(member).context(&doing)?);
            settle(member.client_port, &mut ledgers).context(format!("{doing}, {}", member.name))?;
        }
        if trees.windows(2).any(|pair| pair[0] != pair[1]) {
            fail!("{doing}: the members hold different things");
        }
        round += 1;
    }
    println!("seed {seed}: {} acknowledged writes, {round} rounds, {kills} kills, none lost", written.count);
    if written.count < round * 20 || kills == 0 {
        fail!("seed {seed}: {written:?} and {kills} kills in {round} rounds, that is no load");
    }
    for member in members.iter_mut() {
        member.stop();
    }
    Ok(())
}

#[test]
fn nothing_is_lost_when_members_are_killed() -> Check {
    let seed = number("CLUSTER_SEED").unwrap_or(7);
    let time = Duration::from_secs(number("CLUSTER_SECONDS").unwrap_or(0));
    let mut kinds = vec![programs::find()?.etcd.clone()];
    kinds.extend(std::env::var_os("OTHER_ETCD").map(PathBuf::from));
    kill_and_restart(seed, time, 4, &kinds)
}

/// A stopping leader transfers its leadership first, so that clients of the others wait for no election.
#[test]
fn a_leader_that_stops_hands_over() -> Check {
    let folder = files::scratch("handover")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    // An election by timeout takes ten seconds and more.
    let args = ["--heartbeat-interval", "100", "--election-timeout", "10000"].map(str::to_owned);
    let mut members = cluster(folder.path(), &names, &args)?;
    for _ in 0..2 {
        let leads = |member: &Server| {
            member.call("GET", "/v2/stats/leader").is_ok_and(|response| response.status == 200)
        };
        let leader = members.iter().position(leads).context("nobody leads")?;
        let before = Instant::now();
        members[leader].stop().context("the leader did not stop by itself")?;
        for (at, member) in members.iter().enumerate().filter(|(at, _)| *at != leader) {
            member.set(&format!("/after/{at}"), "v")?;
        }
        if before.elapsed() > Duration::from_secs(8) {
            fail!("writes went on only after {:?}", before.elapsed());
        }
        members[leader].start()?;
        members[leader].wait_ready(START_LIMIT)?;
    }
    Ok(())
}

/// A write at one member is visible at the others at once, whichever leads.
#[test]
fn any_member_takes_any_request() -> Check {
    let folder = files::scratch("anywhere")?;
    let names = ["m1", "m2", "m3", "m4", "m5"].map(str::to_owned);
    let members = cluster(folder.path(), &names, &[])?;
    for (at, member) in members.iter().enumerate() {
        let key = format!("/from/{at}");
        member.set(&key, "v")?;
        // The member that took the write has it; the others have it in quorum reads.
        for other in &members {
            let target = format!("/v2/keys{key}?quorum=true");
            let response = other.call(
                "GET",
                if other.name == member.name { target.trim_end_matches("?quorum=true") } else { &target },
            )?;
            if response.status != 200 {
                fail!("{key} at {}: {} {}", other.name, response.status, response.text());
            }
        }
    }
    Ok(())
}
