//! Help for operators: a lost member is replaced, the doctor reports problems, mistakes are recognised.

use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::process::{Process, clean_environment};
use tests::server::{START_LIMIT, Server, cluster};
use tests::{Check, Context, fail, files, ports, programs};

/// A run of etcdctl, whose standard error is no terminal.
fn etcdctl(endpoints: &str, arguments: &[&str]) -> Check<Output> {
    let mut command = Command::new(&programs::find()?.etcdctl);
    clean_environment(&mut command);
    command.env("ETCDCTL_ENDPOINTS", endpoints).args(arguments).output().context(format!("{arguments:?}"))
}

/// Status and both outputs.
fn told(endpoints: &str, arguments: &[&str]) -> Check<(i32, String, String)> {
    let output = etcdctl(endpoints, arguments)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
}

/// A run that must succeed: returns its output.
fn done(endpoints: &str, arguments: &[&str]) -> Check<String> {
    match told(endpoints, arguments)? {
        (0, printed, _) => Ok(printed),
        other => fail!("{arguments:?}: {other:?}"),
    }
}

fn expect(text: &str, parts: &[&str]) -> Check {
    match parts.iter().find(|part| !text.contains(**part)) {
        Some(part) => fail!("{part:?} is missing in {text}"),
        None => Ok(()),
    }
}

fn three(folder: &Path) -> Check<Vec<Server>> {
    cluster(folder, &["m1", "m2", "m3"].map(str::to_owned), &[])
}

/// Runs the command that `member replace` has printed, in its own folder.
fn start_printed(printed: &str, folder: &Path) -> Check<Process> {
    let command = printed.split("\n\n").find(|part| part.starts_with("etcd \\\n"));
    let command = command.context(format!("no command in {printed}"))?;
    std::fs::create_dir(folder)?;
    let mut shell = Command::new("/bin/sh");
    clean_environment(&mut shell);
    let program = &programs::find()?.etcd;
    let path = program.parent().context("a program in no folder")?;
    shell.env("PATH", path).args(["-c", &format!("exec {command}")]).current_dir(folder);
    Process::spawn(&mut shell, &folder.join("log"))
}

#[test]
fn a_lost_member_is_replaced_by_the_printed_command() -> Check {
    let folder = files::scratch("replace")?;
    let mut members = three(folder.path())?;
    members[0].set("/kept", "1")?;
    members[2].kill();
    let endpoints = members[0].client_url();
    let urls = format!("http://127.0.0.1:{}", ports::take()?);
    let printed = done(&endpoints, &["member", "replace", "m3", "m4", &urls])?;
    expect(&printed, &["Removed member ", " (m3) from cluster", "Added member named m4 with ID "])?;
    expect(
        &printed,
        &["ETCD_NAME=\"m4\"", "ETCD_INITIAL_CLUSTER_STATE=\"existing\"", &format!("m4={urls}")],
    )?;
    let mut new = start_printed(&printed, &folder.path().join("new"))?;
    // It publishes the client URL of the old one.
    let there = members[2].client_url();
    let end = Instant::now() + START_LIMIT;
    while etcdctl(&there, &["--no-sync", "get", "--quorum", "/kept"])?.stdout != b"1\n" {
        if Instant::now() > end || !new.alive() {
            fail!("the new member does not serve: {}", new.said());
        }
        thread::sleep(Duration::from_millis(100));
    }
    let list = done(&endpoints, &["member", "list"])?;
    if list.lines().count() != 3 || !list.contains("name=m4") || list.contains("name=m3") {
        fail!("these are the members: {list}");
    }
    // It counts: with another one down, writes go on.
    members[1].kill();
    let end = Instant::now() + START_LIMIT;
    while told(&endpoints, &["set", "/after", "2"])?.0 != 0 {
        if Instant::now() > end {
            fail!("nothing can be written with the new member: {}", new.said());
        }
    }
    Ok(())
}

#[test]
fn a_replacement_that_costs_the_majority_is_refused() -> Check {
    let folder = files::scratch("refused")?;
    let mut members = three(folder.path())?;
    let endpoints = members[0].client_url();
    let url = "http://127.0.0.1:1";
    for (arguments, wanted) in [
        (["nobody", "m4", url], "no member has the ID or name nobody"),
        (["m3", "m1", url], "is called m1 already"),
        (["m3", "m4", "bogus"], "URL scheme must be http or https"),
        (["m3", "m4", members[1].peer_url().as_str()], "is the peer URL of member"),
    ] {
        let (status, _, said) = told(&endpoints, &[&["member", "replace"][..], &arguments].concat())?;
        if status != 1 || !said.contains(wanted) {
            fail!("{arguments:?}: {status}, {said}");
        }
    }
    members[2].kill();
    for force in [&[][..], &["--force"]] {
        let arguments = [&["member", "replace"][..], force, &["m2", "m4", url]].concat();
        let (status, printed, said) = told(&endpoints, &arguments)?;
        if status != 1 || !printed.is_empty() {
            fail!("{status}: {printed} {said}");
        }
        expect(
            &said,
            &["(m2) is not replaced, and nothing was changed", "not well: m3", "replace one of them"],
        )?;
    }
    let list = done(&endpoints, &["member", "list"])?;
    if list.lines().count() != 3 || !list.contains("name=m2") {
        fail!("these are the members: {list}");
    }
    // The one that is down can be; as JSON, in one line.
    let printed = done(&endpoints, &["-o", "json", "member", "replace", "m3", "m3", url])?;
    expect(
        &printed,
        &["\"environment\":{\"ETCD_INITIAL_CLUSTER\":\"", "\"removed\":{", "\"arguments\":[\"-name\",\"m3\""],
    )?;
    if printed.lines().count() != 1 {
        fail!("{printed}");
    }
    // Now the cluster has no member to lose.
    let (status, _, said) =
        told(&endpoints, &["member", "replace", "--force", "m2", "m5", "http://127.0.0.1:2"])?;
    if status != 1 {
        fail!("{said}");
    }
    Ok(())
}

#[test]
fn the_doctor_tells_what_is_wrong() -> Check {
    let folder = files::scratch("doctor")?;
    let mut members = three(folder.path())?;
    let endpoints = members[0].client_url();
    let printed = done(&endpoints, &["doctor"])?;
    expect(
        &printed,
        &["ok       reachable     3 members of 3 answer", "ok       leader", "ok       version       2.3.8"],
    )?;
    expect(&printed, &["ok       clock", "ok       quorum ", "the cluster tolerates the failure of 1"])?;
    members[2].kill();
    let started = Instant::now();
    let (status, printed, said) = told(&endpoints, &["doctor"])?;
    if status != 1 || !said.is_empty() || started.elapsed() > Duration::from_secs(15) {
        fail!("{status} after {:?}: {printed} {said}", started.elapsed());
    }
    expect(
        &printed,
        &["problem  reachable     m3: it cannot be reached", "connection refused", "-> start it again"],
    )?;
    expect(&printed, &["warning  quorum        3 members: 2 needed, 2 answer"])?;
    let (status, printed, _) = told(&endpoints, &["-o", "json", "doctor"])?;
    if status != 1 || printed.lines().count() != 1 {
        fail!("{status}: {printed}");
    }
    expect(&printed, &["\"level\":\"problem\"", "\"check\":\"reachable\"", "\"version\":\"2.3.8\""])?;
    // With users, what needs none is looked at still; and the rest with a password.
    for arguments in [["user", "add", "root:secret"], ["role", "remove", "guest"]] {
        told(&endpoints, &arguments)?;
    }
    done(&endpoints, &["auth", "enable"])?;
    told(&endpoints, &["-u", "root:secret", "role", "remove", "guest"])?;
    expect(&told(&endpoints, &["doctor"])?.1, &["quorum read   not tried", "ok       leader"])?;
    expect(
        &told(&endpoints, &["-u", "root:secret", "doctor"])?.1,
        &["quorum read   a majority answers within"],
    )
}

#[test]
fn mistakes_are_guessed_behind_the_error() -> Check {
    let folder = files::scratch("mistakes")?;
    let member = Server::new(folder.path(), "m1")?.started()?;
    let plain = member.client_url();
    let nobody = format!("http://127.0.0.1:{}", ports::take()?);
    for (endpoint, wanted) in [
        (member.peer_url(), format!("this port is for the other members (a peer URL): clients use {plain}")),
        (plain.replace("http:", "https:"), format!("this port speaks plain HTTP, without TLS: use {plain}")),
        (
            "http://no.such.host.invalid:1".to_owned(),
            "the name no.such.host.invalid has no address".to_owned(),
        ),
    ] {
        let (status, _, said) = told(&endpoint, &["get", "/a"])?;
        let lines: Vec<&str> = said.lines().collect();
        if status == 0 || !lines[0].starts_with("Error:  ") || !said.contains(&wanted) {
            fail!("{endpoint}: {status}, {said}");
        }
    }
    // Scripts compare this text.
    let (status, _, said) = told(&nobody, &["get", "/a"])?;
    let address = nobody.trim_start_matches("http://");
    let recorded = format!(
        "Error:  client: etcd cluster is unavailable or misconfigured\nerror #0: dial tcp {address}: connection refused\n\n"
    );
    if (status, &said) != (2, &recorded) {
        fail!("{status}: {said}");
    }
    // A member that answers no needs no guess.
    let (_, _, said) = told(&plain, &["get", "/nothing"])?;
    if said.contains("hint") {
        fail!("{said}");
    }
    Ok(())
}

#[test]
fn misspelt_words_are_recognised_in_all_programs() -> Check {
    let known = programs::find()?;
    let run = |program: &Path, arguments: &[&str]| -> Check<String> {
        let mut command = Command::new(program);
        clean_environment(&mut command);
        let output = command.env("ETCDCTL_PEER", "x").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let beside = |name: &str| known.etcdctl.with_file_name(name);
    expect(
        &run(&known.etcdctl, &["wacth", "/a"])?,
        &["No help topic for 'wacth'\n", "Did you mean 'etcdctl watch'?"],
    )?;
    expect(
        &run(&known.etcdctl, &["ls", "--recursiv"])?,
        &["not defined: -recursiv\nDid you mean --recursive?"],
    )?;
    let said = run(&known.etcdctl, &["--endpoints", "http://127.0.0.1:1", "get", "/a"])?;
    expect(&said, &["unrecognized environment variable ETCDCTL_PEER: did you mean ETCDCTL_PEERS?\n"])?;
    expect(&run(&known.etcd, &["-data-dri=x"])?, &["not defined: -data-dri\nDid you mean -data-dir?"])?;
    if beside("etcd-dump").exists() {
        expect(&run(&beside("etcd-dump"), &["docter", "/x"])?, &["Did you mean 'etcd-dump doctor'?"])?;
    }
    if beside("etcd-migrate").exists() {
        expect(&run(&beside("etcd-migrate"), &["--dry-rum", "/x"])?, &["Did you mean -dry-run?"])?;
    }
    Ok(())
}

#[test]
fn an_unknown_command_or_format_is_no_success() -> Check {
    let folder = files::scratch("unknown")?;
    let server = Server::new(folder.path(), "m1")?.started()?;
    let endpoints = server.client_url();
    for words in [
        &["nosuch"][..],
        &["nosuch", "get"],
        &["help", "nosuch"],
        &["member", "nosuch"],
        &["user", "nosuch"],
        &["role", "nosuch", "x"],
        &["auth", "nosuch"],
    ] {
        let (status, printed, said) = told(&endpoints, words)?;
        if status != 2 || printed != "No help topic for 'nosuch'\n" {
            fail!("{words:?}: {status}: {printed}{said}");
        }
    }
    done(&endpoints, &["set", "/a", "1"])?;
    for format in ["yaml", "JSON", ""] {
        for words in [
            &["get", "/a"][..],
            &["set", "/a", "2"],
            &["doctor"],
            &["member", "replace", "m1", "m2", "http://127.0.0.1:1"],
        ] {
            let (status, printed, said) = told(&endpoints, &[&["-o", format][..], words].concat())?;
            if status != 2 || !printed.is_empty() {
                fail!("-o {format:?} {words:?}: {status}: {printed}{said}");
            }
            expect(&said, &[&format!("Unsupported output format: {format}\n"), "simple, extended and json"])?;
        }
    }
    // Invalid values and missing words.
    for words in [
        &["--timeout", "abc", "get", "/a"][..],
        &["--total-timeout", "5", "get", "/a"],
        &["ls", "--sort=maybe"],
        &["set", "--ttl", "x", "/a", "1"],
        &["--endpoints"],
        &["get"],
        &["set"],
        &["set", "/a"],
        &["mk"],
        &["rm"],
        &["watch"],
        &["exec-watch"],
        &["member", "add"],
        &["member", "remove"],
        &["user", "add"],
        &["role", "grant"],
        &["backup"],
        &["import"],
        &["completion", "tcsh"],
    ] {
        let (status, printed, said) = told(&endpoints, words)?;
        if status <= 0 || (printed.is_empty() && said.is_empty()) {
            fail!("{words:?}: {status}: {printed}{said}");
        }
    }
    Ok(())
}

#[test]
fn members_that_publish_urls_of_the_wrong_scheme_are_recognised() -> Check {
    let certs = files::data("etcdctl/certs");
    let cert = |name: &str| certs.join(name).to_string_lossy().into_owned();
    for (speaks, publishes) in [("https", "http"), ("http", "https")] {
        let folder = files::scratch("scheme")?;
        let mut server = Server::new(folder.path(), "m1")?;
        let url = |scheme: &str| format!("{scheme}://{}", server.host());
        let (right, published) = (url(speaks), url(publishes));
        let flags = ["--listen-client-urls", &right, "--advertise-client-urls", &published];
        let tls = ["--cert-file", &cert("server.crt"), "--key-file", &cert("server.key")];
        server = server.with_args(flags).with_args(if speaks == "https" { &tls[..] } else { &[] });
        server.start()?;
        let ca = cert("ca.crt");
        let run = |words: &[&str]| told(&right, &[&["--ca-file", &ca][..], words].concat());
        let end = Instant::now() + START_LIMIT;
        while run(&["--no-sync", "set", "/ready", "1"])?.0 != 0 {
            if Instant::now() > end {
                fail!("it does not serve: {}", server.said());
            }
            thread::sleep(Duration::from_millis(50));
        }
        for words in
            [&["get", "/ready"][..], &["ls"], &["set", "/a", "1"], &["member", "list"], &["cluster-health"]]
        {
            let (status, printed, said) = run(words)?;
            if status == 0 {
                fail!("{words:?} of {speaks}: {printed}");
            }
            let wanted =
                format!("set -advertise-client-urls of the members to {right}; until then use --no-sync");
            expect(&said, &[&format!("begin with {publishes}://"), &wanted])?;
        }
    }
    Ok(())
}

#[test]
fn members_that_publish_what_is_no_use_elsewhere_are_recognised() -> Check {
    let folder = files::scratch("published")?;
    for (published, why) in [
        ("http://no-such-host.invalid:2379", "the name no-such-host.invalid has no address here"),
        ("http://localhost:1", "localhost is the name of each machine for itself"),
        ("http://0.0.0.0:1", "0.0.0.0 is no address to connect to"),
    ] {
        let name = published.replace(['/', ':'], "");
        let mut server = Server::new(folder.path(), &name)?.with_args(["--advertise-client-urls", published]);
        server.start()?;
        let endpoints = server.client_url();
        let end = Instant::now() + START_LIMIT;
        while told(&endpoints, &["--no-sync", "set", "/ready", "1"])?.0 != 0 {
            if Instant::now() > end {
                fail!("it does not serve: {}", server.said());
            }
            thread::sleep(Duration::from_millis(50));
        }
        let (status, _, said) = told(&endpoints, &["get", "/ready"])?;
        if status == 0 {
            fail!("{published} was reached");
        }
        expect(&said, &[published, why, "correct -advertise-client-urls"])?;
    }
    Ok(())
}

#[test]
fn a_watch_with_signs_of_life_notices_a_member_that_hangs() -> Check {
    let folder = files::scratch("signs")?;
    let mut member = Server::new(folder.path(), "m1")?.started()?;
    let log = folder.path().join("watch");
    let mut command = Command::new(&programs::find()?.etcdctl);
    clean_environment(&mut command);
    command.env("ETCDCTL_ENDPOINTS", member.client_url());
    command.args(["watch", "--progress", "1s", "/a"]);
    let mut run = Process::spawn(&mut command, &log)?;
    let says = |wanted: &str| -> Check {
        let end = Instant::now() + START_LIMIT;
        while !files::read(&log).unwrap_or_default().contains(wanted) {
            if Instant::now() > end {
                fail!("it does not say {wanted:?}: {:?}", files::read(&log));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    };
    // While the member is alive, nothing is logged.
    thread::sleep(Duration::from_millis(3500));
    if !run.alive() || !files::read(&log)?.is_empty() {
        fail!("{}", run.said());
    }
    member.process().context("no process")?.signal(Signal::STOP);
    says("no sign of life for 3 s); trying to resume at index ")?;
    member.process().context("no process")?.signal(Signal::CONT);
    member.set("/a", "news")?;
    says("\nnews\n")
}
