//! Carries out the steps of one scenario.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::case::{Action, Endpoint, Run, Scenario, Step};
use super::client::{Client, Invocation};
use super::expect::{Outcome, mismatch};
use super::stub::{SilentServer, Stub};
use super::text::Names;
use super::tls::TlsTerminator;
use crate::http::Request;
use crate::json::Json;
use crate::recorded::ScenarioResult;
use crate::server::{START_LIMIT, Server};
use crate::{Check, Context, clock, files, ports};

/// How long a run of the client may take.
const RUN_SECONDS: f64 = 20.0;
/// How long to wait for a client's end.
const JOIN_SECONDS: f64 = 10.0;
/// How long to wait for a client's output.
const OUTPUT_SECONDS: f64 = 8.0;
/// How long to wait until the server counts a watcher; after that the scenario continues anyway.
const WATCHER_LIMIT: Duration = Duration::from_secs(3);
/// After a backup is served again, TTLs have visibly gone on: the recorded ones are rounded up to seconds.
const RESTORE_PAUSE: Duration = Duration::from_secs(1);

/// The member that takes over from a backup.
const RESTORED: &str = "3";

/// Up to three members with addresses that are known before they start.
#[derive(Debug)]
pub struct Nodes {
    folder: PathBuf,
    members: BTreeMap<String, Server>,
    /// Those that were ever started, in that order.
    joined: Vec<String>,
}

impl Nodes {
    /// Members `node1` to `node3`, known as ``, `2` and `3`. None is started.
    ///
    /// # Errors
    /// When there is no program or no port.
    pub fn new(folder: &Path) -> Check<Self> {
        let mut members = BTreeMap::new();
        for (node, name) in [("", "node1"), ("2", "node2"), ("3", "node3")] {
            members.insert(node.to_owned(), Server::new(folder, name)?);
        }
        Ok(Nodes { folder: folder.to_path_buf(), members, joined: Vec::new() })
    }

    /// Starts the first `count` members as one new cluster.
    ///
    /// # Errors
    /// When one does not become ready.
    pub fn start(&mut self, count: usize, args: &[String]) -> Check {
        self.joined = self.members.keys().take(count).cloned().collect();
        let cluster = self.cluster();
        for node in self.joined.clone() {
            let member = self.get(&node)?;
            member.initial_cluster.clone_from(&cluster);
            member.args = args.to_vec();
            member.start()?;
        }
        for node in self.joined.clone() {
            self.get(&node)?.wait_ready(START_LIMIT)?;
        }
        Ok(())
    }

    /// Starts a member again, or one that was added to the cluster.
    fn start_one(&mut self, node: &str) -> Check {
        if !self.joined.iter().any(|joined| joined == node) {
            self.joined.push(node.to_owned());
            let cluster = self.cluster();
            let member = self.get(node)?;
            member.initial_cluster = cluster;
            member.initial_cluster_state = "existing";
        }
        let member = self.get(node)?;
        member.start()?;
        member.wait_ready(START_LIMIT)
    }

    /// Starts a separate server on a backup.
    fn restore(&mut self, data_dir: &Path) -> Check {
        let folder = self.folder.clone();
        let old = self.get(RESTORED)?;
        let mut server = Server::at(&folder, &old.name, old.client_port, old.peer_port)?;
        server.data_dir = data_dir.to_path_buf();
        server.args = vec!["--force-new-cluster".into()];
        server.start()?;
        server.wait_ready(START_LIMIT)?;
        thread::sleep(RESTORE_PAUSE);
        self.members.insert(RESTORED.to_owned(), server);
        Ok(())
    }

    fn cluster(&self) -> String {
        let one = |node: &String| {
            let member = &self.members[node];
            format!("{}={}", member.name, member.peer_url())
        };
        self.joined.iter().map(one).collect::<Vec<_>>().join(",")
    }

    fn get(&mut self, node: &str) -> Check<&mut Server> {
        self.members.get_mut(node).context(format!("there is no member {node:?}"))
    }

    /// The first member.
    pub fn main(&self) -> &Server {
        &self.members[""]
    }

    /// Whether the first member runs.
    pub fn main_alive(&mut self) -> bool {
        self.members.get_mut("").is_some_and(Server::alive)
    }
}

/// Plays a scenario. `prefix` is where its keys are, `folder` is kept by the caller until afterwards.
///
/// # Errors
/// When what the scenario needs cannot be set up.
pub fn play(
    scenario: &Scenario,
    nodes: &mut Nodes,
    etcdctl: &Path,
    version: &str,
    prefix: &str,
    folder: &Path,
) -> Check<ScenarioResult> {
    let work = folder.join("work");
    let scratch = folder.join("output");
    for folder in [&work, &scratch] {
        std::fs::create_dir(folder).context(folder.display())?;
    }
    let mut player = Player {
        scenario,
        nodes,
        etcdctl,
        names: Names::default(),
        work,
        scratch,
        jobs: BTreeMap::new(),
        stubs: BTreeMap::new(),
        _hang: None,
        _tls: None,
    };
    player.set_up(version, prefix)?;
    let mut result = ScenarioResult { name: scenario.name.clone(), ..ScenarioResult::default() };
    for (at, step) in scenario.steps.iter().enumerate() {
        match player.step(step).unwrap_or_else(|failure| Some(failure.to_string())) {
            Some(why) => {
                result.failed.insert(at + 1, format!("{}\n     {why}", describe(step)));
            }
            None if step.compares() => {
                result.passed.insert(at + 1);
            }
            None => {}
        }
    }
    Ok(result)
}

fn describe(step: &Step) -> String {
    match &step.action {
        Action::Run { run, .. } | Action::Background { run, .. } => format!("etcdctl {}", run.argv.join(" ")),
        Action::Join(name) => format!("join {name}"),
        Action::Interrupt(name, _) => format!("interrupt {name}"),
        Action::WaitOutput(name) => format!("wait_output {name}"),
        Action::StubRequests(name) => format!("stub_requests {name}"),
        Action::Tree(path) => format!("tree {path}"),
        Action::Http(http) => format!("{} {}", http.method, http.path),
        other => format!("{other:?}"),
    }
}

struct Player<'a> {
    scenario: &'a Scenario,
    nodes: &'a mut Nodes,
    etcdctl: &'a Path,
    names: Names,
    work: PathBuf,
    scratch: PathBuf,
    /// Clients that run in the background.
    jobs: BTreeMap<String, Client>,
    stubs: BTreeMap<String, Stub>,
    _hang: Option<SilentServer>,
    _tls: Option<TlsTerminator>,
}

impl Player<'_> {
    fn set_up(&mut self, version: &str, prefix: &str) -> Check {
        for (node, member) in &self.nodes.members {
            self.names.set(format!("client_url{node}"), member.client_url());
            self.names.set(format!("client_addr{node}"), member.host());
            self.names.set(format!("peer_url{node}"), member.peer_url());
            self.names.set(format!("name{node}"), member.name.clone());
            self.names.set(format!("data_dir{node}"), member.data_dir.to_string_lossy());
        }
        let certs = files::data("etcdctl/certs");
        let dead = format!("127.0.0.1:{}", ports::take()?);
        self.names.set("dead_url", format!("http://{dead}"));
        self.names.set("dead_addr", dead);
        self.names.set("tmp", self.work.to_string_lossy());
        self.names.set("certs", certs.to_string_lossy());
        self.names.set("p", prefix);
        self.names.set("version", version);
        if self.scenario.server {
            self.rebase()?;
            self.name_members();
        }
        if self.scenario.hang {
            let port = ports::take()?;
            self.names.set("hang_url", format!("http://127.0.0.1:{port}"));
            self._hang = Some(SilentServer::listen(port)?);
        }
        let stubs: Vec<(&String, u16)> =
            self.scenario.stubs.keys().map(|name| Ok((name, ports::take()?))).collect::<Check<_>>()?;
        for (name, port) in &stubs {
            self.names.set(format!("stub_{name}"), format!("http://127.0.0.1:{port}"));
        }
        for (name, port) in stubs {
            let stub = Stub::start(port, self.scenario.stubs[name].clone(), self.names.clone())?;
            self.stubs.insert(name.clone(), stub);
        }
        if let Some(front) = &self.scenario.tls {
            let port = ports::take()?;
            self.names.set("tls_url", format!("https://127.0.0.1:{port}"));
            self._tls = Some(TlsTerminator::start(port, self.nodes.main().client_port, &certs, front)?);
        }
        for (path, text) in &self.scenario.files {
            files::write(&self.work.join(path), self.names.fill(text)?)?;
        }
        Ok(())
    }

    fn rebase(&mut self) -> Check {
        self.names.base = self.nodes.main().index()?;
        Ok(())
    }

    /// Learns the ids of the members: `${member}`, `${member2}`.
    fn name_members(&mut self) {
        let Ok(response) = self.nodes.main().call("GET", "/v2/members") else { return };
        let Ok(Json::Object(answer)) = Json::parse(&response.text()) else { return };
        for (_, list) in answer {
            let Json::List(members) = list else { continue };
            for member in &members {
                let peer_url = member.at("peerURLs.0").and_then(Json::text);
                let node =
                    self.nodes.members.iter().find(|(_, known)| Some(known.peer_url().as_str()) == peer_url);
                if let (Some((node, _)), Some(id)) = (node, member.at("id").and_then(Json::text)) {
                    self.names.set(format!("member{node}"), id);
                }
            }
        }
    }

    /// How many watchers the server counts.
    fn watchers(&self) -> Option<i128> {
        let response = self.nodes.main().call("GET", "/v2/stats/store").ok()?;
        match Json::parse(&response.text()).ok()?.get("watchers") {
            Some(Json::Integer(watchers)) => Some(*watchers),
            _ => None,
        }
    }

    /// Runs a step; returns what was wrong with it.
    fn step(&mut self, step: &Step) -> Check<Option<String>> {
        match &step.action {
            Action::Run { run, took, bind } => return self.run(step, run, *took, bind),
            Action::Background { name, run, until_watching } => self.start_job(name, run, *until_watching)?,
            Action::Join(name) => return self.end_job(step, name),
            Action::Interrupt(name, settle) => {
                thread::sleep(Duration::from_secs_f64(*settle));
                self.jobs.get_mut(name).context(format!("no background step {name}"))?.interrupt();
                return self.end_job(step, name);
            }
            Action::WaitOutput(name) => return self.wait_output(step, name),
            Action::StubRequests(name) => {
                let stub = self.stubs.get(name).context(format!("no scripted server {name}"))?;
                return self.text_mismatch(step, "requests", stub.take_requests().join("\n"));
            }
            Action::Tree(path) => {
                let listing = files::listing(Path::new(&self.names.fill(path)?))?;
                return self.text_mismatch(step, "files", listing.join("\n"));
            }
            Action::Http(http) => {
                let mut request = Request::new(&http.method, self.names.fill(&http.path)?);
                if let Some(body) = &http.body {
                    request = request.form(&[]);
                    request.body = self.names.fill(body)?.into_bytes();
                }
                self.nodes.main().send(&request)?;
            }
            Action::StopServer(node) => {
                self.nodes.get(node)?.stop();
            }
            Action::StartServer(node) => {
                self.nodes.start_one(node)?;
                self.name_members();
            }
            Action::RestoreServer(data_dir) => {
                let data_dir = self.names.fill(data_dir)?;
                self.nodes.restore(Path::new(&data_dir))?;
            }
            Action::Sleep(seconds) => thread::sleep(Duration::from_secs_f64(*seconds)),
            Action::Rebase => self.rebase()?,
        }
        Ok(None)
    }

    fn start(&self, run: &Run) -> Check<Client> {
        let url = self.names.get("client_url").to_owned();
        let mut args: Vec<String> = run.argv.iter().map(|arg| self.names.fill(arg)).collect::<Check<_>>()?;
        let mut env = Vec::new();
        match run.endpoint.as_ref().unwrap_or(&self.scenario.endpoint) {
            Endpoint::Env(name) => env.push((name.clone(), url)),
            Endpoint::Flag(flag) => drop(args.splice(0..0, [flag.clone(), url])),
            Endpoint::FlagEquals(flag) => args.insert(0, format!("{flag}={url}")),
            Endpoint::None => {}
        }
        for (name, value) in &run.env {
            env.push((name.clone(), self.names.fill(value)?));
        }
        let stdin = run.stdin.as_ref().map(|text| self.names.fill(text)).transpose()?;
        let invocation = Invocation {
            program: self.etcdctl,
            args: &args,
            env: &env,
            stdin: stdin.as_deref(),
            folder: &self.work,
            scratch: &self.scratch,
        };
        if run.pty { Client::start_on_terminal(&invocation) } else { Client::start(&invocation) }
    }

    fn run(
        &mut self,
        step: &Step,
        run: &Run,
        took: Option<(f64, f64)>,
        bind: &BTreeMap<String, String>,
    ) -> Check<Option<String>> {
        let begun = Instant::now();
        let mut client = self.start(run)?;
        let exit = client.finish(limit(step, RUN_SECONDS));
        let seconds = begun.elapsed().as_secs_f64();
        let (stdout, stderr) = (client.stdout()?, client.stderr()?);
        for (name, expression) in bind {
            let expression = regex::Regex::new(expression)?;
            let both = format!("{stdout}{stderr}");
            let found = expression.captures(&both).and_then(|found| found.get(1));
            self.names.set(
                name,
                found.map_or_else(|| format!("unbound-{name}"), |found| found.as_str().to_owned()),
            );
        }
        let mut texts = BTreeMap::from([("stdout", stdout)]);
        if !run.pty {
            texts.insert("stderr", stderr);
        }
        let why = mismatch(step, &Outcome { exit: Some(exit), texts }, &self.names, client.started)?;
        let late = took.filter(|(least, most)| exit.is_some() && !(*least..=*most).contains(&seconds));
        Ok(why.or_else(|| {
            late.map(|(least, most)| format!("took {seconds:.2} s, not between {least} and {most}"))
        }))
    }

    fn start_job(&mut self, name: &str, run: &Run, until_watching: bool) -> Check {
        let before = if until_watching { self.watchers() } else { None };
        let client = self.start(run)?;
        self.jobs.insert(name.to_owned(), client);
        if until_watching {
            let end = Instant::now() + WATCHER_LIMIT;
            while self.watchers() <= before && Instant::now() < end {
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn end_job(&mut self, step: &Step, name: &str) -> Check<Option<String>> {
        let mut client = self.jobs.remove(name).context(format!("no background step {name}"))?;
        let exit = client.finish(limit(step, JOIN_SECONDS));
        let texts = BTreeMap::from([("stdout", client.stdout()?), ("stderr", client.stderr()?)]);
        mismatch(step, &Outcome { exit: Some(exit), texts }, &self.names, client.started)
    }

    fn wait_output(&mut self, step: &Step, name: &str) -> Check<Option<String>> {
        let client = self.jobs.get(name).context(format!("no background step {name}"))?;
        let end = Instant::now() + limit(step, OUTPUT_SECONDS);
        loop {
            let outcome = Outcome { exit: None, texts: BTreeMap::from([("stdout", client.stdout()?)]) };
            let why = mismatch(step, &outcome, &self.names, client.started)?;
            if why.is_none() || Instant::now() > end {
                return Ok(why);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn text_mismatch(&self, step: &Step, name: &'static str, text: String) -> Check<Option<String>> {
        let outcome = Outcome { exit: None, texts: BTreeMap::from([(name, text)]) };
        mismatch(step, &outcome, &self.names, clock::now())
    }
}

fn limit(step: &Step, otherwise: f64) -> Duration {
    Duration::from_secs_f64(step.timeout.unwrap_or(otherwise))
}
