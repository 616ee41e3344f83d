//! Locks and elections: the recorded examples of 0.2, and `etcdctl lock` under kills.
//!
//! `MODULES_SECONDS=N` makes the chaos a soak, `MODULES_SEED=N` replays what a seed chooses.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tests::http::{self, Connection, Request, Response};
use tests::load::Random;
use tests::process::{Process, clean_environment};
use tests::server::{START_LIMIT, Server, cluster};
use tests::{Check, Context, fail, files, programs};

/// The clients that contend for the lock.
const CLIENTS: u64 = 8;

/// Time to live of a lock, in seconds: what a client that is killed inside costs the others.
const TTL_SECONDS: u64 = 3;

/// A wait for the lock does not take longer than this: all others inside, crashing, and an election in between.
const RUN_LIMIT: Duration = Duration::from_secs(60);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a module answers, as `status text`.
fn ask(member: &Server, method: &str, target: &str, form: &[(&str, &str)]) -> Check<String> {
    let mut request = Request::new(method, target);
    if !form.is_empty() {
        request = request.form(form);
    }
    let response = member.send(&request)?;
    Ok(told(&response))
}

fn told(response: &Response) -> String {
    format!("{} {}", response.status, response.text()).trim_end().to_owned()
}

fn expect(member: &Server, method: &str, target: &str, form: &[(&str, &str)], wanted: &str) -> Check {
    let answer = ask(member, method, target, form)?;
    if answer != wanted {
        fail!("{method} {target} {form:?} answers {answer:?}, not {wanted:?}");
    }
    Ok(())
}

/// Takes a free lock, and returns its index.
fn taken(member: &Server, target: &str, form: &[(&str, &str)]) -> Check<u64> {
    let answer = ask(member, "POST", target, form)?;
    answer.strip_prefix("200 ").and_then(|index| index.parse().ok()).context(answer)
}

fn member(folder: &Path) -> Check<Server> {
    Server::new(folder, "m1")?.started()
}

/// Sends a request without waiting for its answer.
fn waiting(member: &Server, method: &str, target: &str) -> Check<Connection> {
    let mut connection = Connection::open(member.client_port, Duration::from_secs(15))?;
    connection.send(&Request::new(method, target).bytes(&member.host()))?;
    Ok(connection)
}

/// Waits until the queue of a lock has this many entries.
fn queue_of(member: &Server, key: &str, length: usize) -> Check {
    let end = Instant::now() + Duration::from_secs(5);
    let mut seen = String::new();
    while Instant::now() < end {
        seen = member.call("GET", &format!("/v2/keys/_etcd/mod/lock/{key}"))?.text();
        if seen.matches("\"value\":").count() == length {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    fail!("not {length} in the queue of {key}: {seen}")
}

#[test]
fn a_lock_answers_as_recorded() -> Check {
    let folder = files::scratch("modules")?;
    let member = member(folder.path())?;
    let lock = "/mod/v2/lock/foo";
    let first = taken(&member, "/mod/v2/lock/foo?ttl=60", &[])?;
    expect(&member, "GET", "/mod/v2/lock/foo?field=index", &[], &format!("200 {first}"))?;
    expect(&member, "GET", "/mod/v2/lock/foo?field=value", &[], "200 -")?;
    expect(&member, "GET", lock, &[], "200 -")?;
    // It has the same position, under a name of 20 digits.
    let key = member.call("GET", &format!("/v2/keys/_etcd/mod/lock/foo/{first:020}"))?;
    if key.status != 200 || !key.text().contains("\"ttl\":60") {
        fail!("the key: {}", told(&key));
    }
    expect(&member, "PUT", &format!("/mod/v2/lock/foo?index={first}&ttl=20"), &[], "200")?;
    expect(&member, "PUT", "/mod/v2/lock/foo?ttl=20", &[("index", &first.to_string())], "200")?;
    let lost = ask(&member, "PUT", "/mod/v2/lock/foo?index=999&ttl=20", &[])?;
    if !lost.starts_with("500 renew lock value error: 100: Key not found (/_etcd/mod/lock/foo/999) [") {
        fail!("a renewal of nothing: {lost}");
    }
    for (method, target, wanted) in [
        ("POST", "/mod/v2/lock/foo", "500 invalid ttl:"),
        ("POST", "/mod/v2/lock/foo?ttl=x", "500 invalid ttl: x"),
        ("DELETE", lock, "500 release lock error: index or value required"),
        ("DELETE", "/mod/v2/lock/foo?value=b", "500 release lock error: cannot find: b"),
        // No client has this value: it stands for clients without a value.
        ("DELETE", "/mod/v2/lock/foo?value=-", "500 release lock error: cannot find: -"),
        ("GET", "/mod/v2/lock/other", "200"),
    ] {
        expect(&member, method, target, &[], wanted)?;
    }
    expect(&member, "DELETE", &format!("/mod/v2/lock/foo?index={first}"), &[], "200")?;
    expect(&member, "GET", lock, &[], "200")?;

    // With a value: a repeated request has the same position, and the value identifies it.
    let second = taken(&member, "/mod/v2/lock/foo?ttl=60", &[("value", "hi")])?;
    if second <= first || taken(&member, "/mod/v2/lock/foo?ttl=60&value=hi", &[])? != second {
        fail!("a value has two places, or the index does not grow: {first}, {second}");
    }
    expect(&member, "GET", lock, &[], "200 hi")?;
    expect(&member, "PUT", "/mod/v2/lock/foo?ttl=60", &[("value", "hi")], "200")?;
    expect(&member, "DELETE", "/mod/v2/lock/foo?value=hi", &[], "200")?;
    expect(&member, "GET", lock, &[], "200")
}

#[test]
fn a_leader_answers_as_recorded() -> Check {
    let folder = files::scratch("modules")?;
    let member = member(folder.path())?;
    let leader = "/mod/v2/leader/x";
    let first = ask(&member, "PUT", "/mod/v2/leader/x?name=me&ttl=10", &[])?;
    expect(&member, "GET", leader, &[], "200 me")?;
    // A repeated request renews it; both ways are documented.
    expect(&member, "PUT", "/mod/v2/leader/x?name=me&ttl=10", &[], &first)?;
    expect(&member, "POST", "/mod/v2/leader/x?ttl=10", &[("name", "me")], &first)?;
    let wanted = "500 delete leader error: release lock error: cannot find: b";
    expect(&member, "DELETE", "/mod/v2/leader/x?name=b", &[], wanted)?;
    let mut second = waiting(&member, "PUT", "/mod/v2/leader/x?name=you&ttl=10")?;
    queue_of(&member, "x", 2)?;
    expect(&member, "GET", leader, &[], "200 me")?;
    expect(&member, "DELETE", "/mod/v2/leader/x?name=me", &[], "200")?;
    if second.response("PUT")?.status != 200 {
        fail!("the second does not lead");
    }
    expect(&member, "GET", leader, &[], "200 you")?;
    expect(&member, "DELETE", "/mod/v2/leader/x?name=you", &[], "200")?;
    expect(&member, "GET", leader, &[], "200")?;
    expect(&member, "PUT", "/mod/v2/leader/x?ttl=10", &[], "500 leader name required")?;
    expect(&member, "DELETE", leader, &[], "500 leader name required")?;
    expect(&member, "PUT", "/mod/v2/leader/x?name=me", &[], "500 set leader error: invalid ttl:")
}

#[test]
fn who_waits_gets_the_lock_in_turn_or_leaves_the_queue() -> Check {
    let folder = files::scratch("modules")?;
    let member = member(folder.path())?;
    let first = taken(&member, "/mod/v2/lock/foo?ttl=60", &[])?;
    let busy = "500 acquire lock error: failed to acquire lock: it was not free";
    expect(&member, "POST", "/mod/v2/lock/foo?ttl=60&timeout=0", &[], &format!("{busy} at once"))?;
    expect(&member, "POST", "/mod/v2/lock/foo?ttl=60&timeout=1", &[], &format!("{busy} within 1 s"))?;
    queue_of(&member, "foo", 1)?;

    let gone = waiting(&member, "POST", "/mod/v2/lock/foo?ttl=60")?;
    queue_of(&member, "foo", 2)?;
    // A TTL that is shorter than the wait: the member keeps the entry in the queue.
    let mut next = waiting(&member, "POST", "/mod/v2/lock/foo?ttl=1")?;
    queue_of(&member, "foo", 3)?;
    let mut shared = waiting(&member, "POST", "/mod/v2/lock/foo?ttl=30&value=v")?;
    queue_of(&member, "foo", 4)?;
    let mut sharing = waiting(&member, "POST", "/mod/v2/lock/foo?ttl=30&value=v")?;
    // Its client goes: long before its time to live is over it is out of the way.
    drop(gone);
    queue_of(&member, "foo", 3)?;
    thread::sleep(Duration::from_millis(1500));
    queue_of(&member, "foo", 3)?;
    expect(&member, "DELETE", &format!("/mod/v2/lock/foo?index={first}"), &[], "200")?;
    let second: u64 = next.response("POST")?.text().parse().context("an index")?;
    // That lock is not renewed and expires; then both clients with the same value have the lock.
    let third = shared.response("POST")?.text().parse::<u64>().context("an index")?;
    if sharing.response("POST")?.text() != third.to_string() || !(first < second && second < third) {
        fail!("indexes {first}, {second}, {third}");
    }

    // A client that is removed from the queue by another request gets an error.
    let mut waits = waiting(&member, "POST", "/mod/v2/lock/foo?ttl=30&value=w")?;
    queue_of(&member, "foo", 2)?;
    expect(&member, "DELETE", "/mod/v2/lock/foo?value=w", &[], "200")?;
    let answer = told(&waits.response("POST")?);
    if answer != "500 acquire lock error: the request for the lock was released while it waited" {
        fail!("who was released hears {answer}");
    }
    // The connection stays open.
    waits.send(&Request::new("GET", "/mod/v2/lock/foo").bytes(&member.host()))?;
    if told(&waits.response("GET")?) != "200 v" {
        fail!("the connection has ended");
    }
    Ok(())
}

#[test]
fn with_auth_on_a_lock_takes_a_right_to_where_it_stands() -> Check {
    let folder = files::scratch("modules")?;
    let member = member(folder.path())?;
    let send = |method: &str, target: &str, user: &str, body: &str| -> Check<u16> {
        let mut request = Request::new(method, target);
        request.body = body.as_bytes().to_vec();
        if !user.is_empty() {
            request.headers.push(("Authorization".into(), format!("Basic {user}")));
        }
        Ok(member.send(&request)?.status)
    };
    // `root:pw` and `worker:pw`.
    let (root, worker) = ("cm9vdDpwdw==", "d29ya2VyOnB3");
    let role = r#"{"role":"locks","permissions":{"kv":{"read":["/_etcd/mod/lock/a"],"write":["/_etcd/mod/lock/a"]}}}"#;
    let guest = r#"{"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}}}"#;
    for (target, body) in [
        ("/v2/auth/users/root", r#"{"user":"root","password":"pw"}"#),
        ("/v2/auth/enable", ""),
        ("/v2/auth/roles/locks", role),
        ("/v2/auth/users/worker", r#"{"user":"worker","password":"pw","roles":["locks"]}"#),
        ("/v2/auth/roles/guest", guest),
    ] {
        let status = send("PUT", target, root, body)?;
        if !matches!(status, 200 | 201) {
            fail!("PUT {target}: {status}");
        }
    }
    for (method, target, user, wanted) in [
        ("POST", "/mod/v2/lock/a?ttl=9", "", 401),
        ("GET", "/mod/v2/lock/a", "", 401),
        ("PUT", "/mod/v2/leader/a?ttl=9&name=x", "", 401),
        ("POST", "/mod/v2/lock/b?ttl=9", worker, 401),
        ("POST", "/mod/v2/lock/a?ttl=9&value=x", worker, 200),
        ("PUT", "/mod/v2/leader/a?ttl=9&name=x", worker, 200),
        ("DELETE", "/mod/v2/lock/a?value=x", "", 401),
        ("DELETE", "/mod/v2/lock/a?value=x", worker, 200),
        ("POST", "/mod/v2/lock/b?ttl=9", root, 200),
    ] {
        let status = send(method, target, user, "")?;
        if status != wanted {
            fail!("{method} {target} as {user:?}: {status}, not {wanted}");
        }
    }
    Ok(())
}

/// What one run of `etcdctl lock` did inside, from the lines that its command wrote.
#[derive(Debug, Clone, Default)]
struct LockHold {
    index: u64,
    enter: u128,
    end: Option<u128>,
}

/// How a run of `etcdctl lock` was ended.
#[derive(Debug, Default)]
struct RunOutcomes {
    done: AtomicU64,
    lost: AtomicU64,
    unreachable: AtomicU64,
    crashed: AtomicU64,
}

/// The time as `date` prints it, in nanoseconds.
#[expect(clippy::disallowed_methods, reason = "compared with what another program says")]
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

/// Records when it enters and when it leaves; each line is one write at the end of the file.
const INSIDE: &str = "
    say() { echo \"$1 $RUN $ETCD_LOCK_INDEX $(date +%s%N)\" >> \"$VISITS\"; }
    trap 'say exit; exit 9' TERM
    say enter
    sleep 0.04 & wait
    say exit";

struct LockContention<'a> {
    endpoints: String,
    folder: &'a Path,
    over: AtomicBool,
    runs: AtomicU64,
    ends: RunOutcomes,
}

impl LockContention<'_> {
    fn start(&self, run: u64) -> Check<Process> {
        let mut command = Command::new(&programs::find()?.etcdctl);
        clean_environment(&mut command);
        command
            .env("RUN", run.to_string())
            .env("VISITS", self.folder.join("visits"))
            .args(["--no-sync", "--endpoints", &self.endpoints, "--total-timeout", "10s", "lock"])
            .args(["--ttl", &TTL_SECONDS.to_string(), "/contest", "sh", "-c", INSIDE]);
        Process::spawn(&mut command, &self.folder.join("clients.log"))
    }

    /// Comes back for the lock again and again; some runs are killed, wherever they are. Tells when they were.
    fn contend(&self, seed: u64) -> Check<BTreeMap<u64, u128>> {
        let mut random = Random::new(seed);
        let mut killed = BTreeMap::new();
        while !self.over.load(Ordering::Relaxed) {
            let run = self.runs.fetch_add(1, Ordering::Relaxed);
            let mut process = self.start(run)?;
            let crashes = random.below(10) == 0;
            let limit = if crashes { Duration::from_millis(50 + random.below(900)) } else { RUN_LIMIT };
            let ended = process.wait(limit);
            let count = match ended.map(|status| status.code()) {
                None if crashes => {
                    process.kill();
                    killed.insert(run, now());
                    &self.ends.crashed
                }
                None => fail!("run {run} has not got the lock within {} s", RUN_LIMIT.as_secs()),
                Some(Some(0)) => &self.ends.done,
                Some(Some(6)) => &self.ends.lost,
                Some(Some(2 | 4)) => &self.ends.unreachable,
                Some(code) => fail!("run {run} ended with {code:?}"),
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(killed)
    }
}

fn leads(member: &Server) -> bool {
    let call =
        http::call(member.client_port, &Request::new("GET", "/v2/stats/leader"), Duration::from_secs(2));
    call.is_ok_and(|response| response.status == 200)
}

/// Kills the leader again and again.
fn trouble(members: &mut [Server], random: &mut Random, time: Duration) -> Check<u64> {
    let end = Instant::now() + time;
    let mut kills = 0;
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(800 + random.below(1500)));
        let Some(leader) = members.iter().position(leads) else { continue };
        members[leader].kill();
        kills += 1;
        thread::sleep(Duration::from_millis(100 + random.below(1200)));
        members[leader].start()?;
        members[leader].wait_ready_again()?;
    }
    Ok(kills)
}

/// A member whose index need not stand still to be ready.
trait ReadyAgain {
    fn wait_ready_again(&self) -> Check;
}

impl ReadyAgain for Server {
    fn wait_ready_again(&self) -> Check {
        let end = Instant::now() + START_LIMIT;
        let quorum = Request::new("GET", "/v2/keys/?quorum=true");
        loop {
            match http::call(self.client_port, &quorum, Duration::from_secs(8)) {
                Ok(response) if response.status == 200 => return Ok(()),
                other if Instant::now() > end => fail!("{} is not ready: {other:?}", self.name),
                _ => thread::sleep(Duration::from_millis(30)),
            }
        }
    }
}

/// The visits in the order in which they began.
fn visits(folder: &Path, killed: &BTreeMap<u64, u128>) -> Check<Vec<LockHold>> {
    let mut visits: BTreeMap<u64, LockHold> = BTreeMap::new();
    for line in files::read(&folder.join("visits"))?.lines() {
        let mut words = line.split(' ');
        let what = words.next();
        let mut number = || words.next().and_then(|word| word.parse::<u128>().ok()).context(line.to_owned());
        let (run, index, time) = (number()?, number()?, number()?);
        let run = u64::try_from(run).context("a run")?;
        let visit = visits.entry(run).or_default();
        match what {
            Some("enter") if visit.enter != 0 => fail!("run {run} enters twice"),
            Some("enter") => (visit.index, visit.enter) = (u64::try_from(index).context("an index")?, time),
            _ => visit.end = Some(time),
        }
    }
    for (run, visit) in &mut visits {
        visit.end = visit.end.or_else(|| killed.get(run).copied());
    }
    let mut visits: Vec<LockHold> = visits.into_values().collect();
    visits.sort_by_key(|visit| visit.enter);
    Ok(visits)
}

/// One at a time, and each with a larger index: in the order of the queue, too, for that is by index.
fn check(visits: &[LockHold]) -> Check {
    for pair in visits.windows(2) {
        let [before, after] = pair else { continue };
        if after.index <= before.index {
            fail!("the queue was not followed: {before:?}, then {after:?}");
        }
        if before.end.is_none_or(|end| end > after.enter) {
            fail!("two were inside: {before:?} and {after:?}");
        }
    }
    Ok(())
}

#[test]
fn one_at_a_time_and_in_turn_when_leaders_and_clients_are_killed() -> Check {
    let seed = number("MODULES_SEED").unwrap_or(5);
    let time = Duration::from_secs(number("MODULES_SECONDS").unwrap_or(15));
    let folder = files::scratch("contest")?;
    let names = ["m1", "m2", "m3"].map(str::to_owned);
    let args = ["--heartbeat-interval", "50", "--election-timeout", "500"].map(str::to_owned);
    let mut members = cluster(folder.path(), &names, &args)?;
    let contention = LockContention {
        endpoints: members.iter().map(Server::client_url).collect::<Vec<_>>().join(","),
        folder: folder.path(),
        over: AtomicBool::new(false),
        runs: AtomicU64::new(0),
        ends: RunOutcomes::default(),
    };
    let mut random = Random::new(seed);
    let (kills, killed) = thread::scope(|scope| {
        let contention = &contention;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || contention.contend(seed ^ (client << 32))))
            .collect();
        let kills = trouble(&mut members, &mut random, time);
        contention.over.store(true, Ordering::Relaxed);
        let mut killed = BTreeMap::new();
        for client in clients {
            killed.extend(client.join().map_err(|_| tests::Failure::new("a client has panicked"))??);
        }
        Ok::<_, tests::Failure>((kills?, killed))
    })?;
    let visits = visits(folder.path(), &killed)?;
    println!("seed {seed}: {} visits, {kills} leaders killed, runs: {:?}", visits.len(), contention.ends);
    let crashed = contention.ends.crashed.load(Ordering::Relaxed);
    if visits.len() < 20 || kills < 3 || crashed < 2 {
        fail!("seed {seed}: that is no contest");
    }
    check(&visits).context(format!("seed {seed}"))?;
    // The queue is empty, and the next client need not wait.
    thread::sleep(Duration::from_secs(TTL_SECONDS + 1));
    expect(&members[1], "GET", "/mod/v2/lock/contest?field=index", &[], "200")?;
    taken(&members[0], "/mod/v2/lock/contest?ttl=5&timeout=0", &[])?;
    Ok(())
}

#[test]
fn the_check_sees_what_it_is_for() {
    let visit = |index, enter, end| LockHold { index, enter, end };
    assert!(check(&[visit(1, 10, Some(20)), visit(2, 20, Some(30))]).is_ok());
    for wrong in [
        [visit(1, 10, Some(21)), visit(2, 20, Some(30))],
        [visit(2, 10, Some(20)), visit(1, 20, Some(30))],
        [visit(2, 10, Some(20)), visit(2, 20, Some(30))],
        [visit(1, 10, None), visit(2, 20, Some(30))],
    ] {
        assert!(check(&wrong).is_err(), "{wrong:?}");
    }
}
