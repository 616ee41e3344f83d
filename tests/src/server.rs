//! A server under test: its flags, ports and folder, and its life.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{self, Request, Response};
use crate::process::{self, Process, clean_environment};
use crate::{Check, Context, Failure, fail, ports, programs};

/// How long a server may take until it serves.
pub const START_LIMIT: Duration = Duration::from_secs(30);

/// How long a server may take to stop when asked to.
pub const STOP_LIMIT: Duration = Duration::from_secs(8);

const CALL_PATIENCE: Duration = Duration::from_secs(8);

/// One member that listens on 127.0.0.1. Dropped, it is killed; its folder is the caller's.
#[derive(Debug)]
pub struct Server {
    /// `-name`.
    pub name: String,
    /// `-data-dir`.
    pub data_dir: PathBuf,
    /// Its output, appended over restarts.
    pub log: PathBuf,
    /// Where clients connect.
    pub client_port: u16,
    /// Where members connect.
    pub peer_port: u16,
    /// `-initial-cluster`; this member alone unless changed before the start.
    pub initial_cluster: String,
    /// `-initial-cluster-state`.
    pub initial_cluster_state: &'static str,
    /// Further flags.
    pub args: Vec<String>,
    /// Further environment.
    pub env: Vec<(String, String)>,
    /// How many descriptors it may have, soft and hard; as many as the test's process unless set.
    pub nofile: Option<u64>,
    program: PathBuf,
    process: Option<Process>,
}

impl Server {
    /// A member with its data and its log below `folder`, and with its own ports. Not started yet.
    ///
    /// # Errors
    /// When there is no program or no port.
    pub fn new(folder: &Path, name: &str) -> Check<Self> {
        Self::at(folder, name, ports::take()?, ports::take()?)
    }

    /// The same with ports that the caller has taken.
    ///
    /// # Errors
    /// When there is no program.
    pub fn at(folder: &Path, name: &str, client_port: u16, peer_port: u16) -> Check<Self> {
        Ok(Server {
            name: name.to_owned(),
            data_dir: folder.join(format!("{name}.etcd")),
            log: folder.join(format!("{name}.log")),
            client_port,
            peer_port,
            initial_cluster: format!("{name}=http://127.0.0.1:{peer_port}"),
            initial_cluster_state: "new",
            args: Vec::new(),
            env: Vec::new(),
            nofile: None,
            program: programs::find()?.etcd.clone(),
            process: None,
        })
    }

    /// The same with further flags.
    pub fn with_args<S: AsRef<str>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Started and ready.
    ///
    /// # Errors
    /// As [`Server::start`] and [`Server::wait_ready`].
    pub fn started(mut self) -> Check<Self> {
        self.start()?;
        self.wait_ready(START_LIMIT)?;
        Ok(self)
    }

    /// From the next start on it is this program.
    pub fn set_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// `http://127.0.0.1:PORT` for clients.
    pub fn client_url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// `http://127.0.0.1:PORT` for members.
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    /// `127.0.0.1:PORT` for clients.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Starts the program; does not wait.
    ///
    /// # Errors
    /// The system's.
    pub fn start(&mut self) -> Check {
        let mut command = match self.nofile {
            None => Command::new(&self.program),
            Some(limit) => {
                let mut command = Command::new("prlimit");
                command.arg(format!("--nofile={limit}:{limit}")).arg("--").arg(&self.program);
                command
            }
        };
        clean_environment(&mut command);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = self.log.parent() {
            command.current_dir(folder);
        }
        command.arg("--data-dir").arg(&self.data_dir).args([
            "--name",
            &self.name,
            "--listen-client-urls",
            &self.client_url(),
            "--advertise-client-urls",
            &self.client_url(),
            "--listen-peer-urls",
            &self.peer_url(),
            "--initial-advertise-peer-urls",
            &self.peer_url(),
            "--initial-cluster",
            &self.initial_cluster,
            "--initial-cluster-state",
            self.initial_cluster_state,
            // Short, so that the first election is quick.
            "--heartbeat-interval",
            "20",
            "--election-timeout",
            "100",
        ]);
        command.args(&self.args);
        self.process = Some(Process::spawn(&mut command, &self.log)?);
        Ok(())
    }

    /// Waits until the server answers through consensus (a delete of a missing key, which writes nothing), has
    /// decided on a cluster version, and its index stands still.
    ///
    /// # Errors
    /// If it ends before, or `limit` is over; with the reason.
    pub fn wait_ready(&mut self, limit: Duration) -> Check {
        let end = Instant::now() + limit;
        let (mut last, mut still) = (None, 0);
        loop {
            if !self.alive() {
                let status = process::describe(self.process.as_mut().and_then(Process::poll));
                fail!("the server ended ({status}) before it was ready: {}", self.last_words());
            }
            let why = match self.probe() {
                Ok(index) => {
                    still = if last == Some(index) { still + 1 } else { 0 };
                    last = Some(index);
                    if still == 3 {
                        return Ok(());
                    }
                    "its index still moves".to_owned()
                }
                Err(failure) => failure.to_string(),
            };
            if Instant::now() > end {
                fail!("the server was not ready after {} s ({why})", limit.as_secs());
            }
            thread::sleep(Duration::from_millis(if last.is_some() { 70 } else { 30 }));
        }
    }

    fn probe(&self) -> Check<u64> {
        let status = self.call("DELETE", "/v2/keys/_conformance_probe_missing")?.status;
        if status != 404 {
            fail!("a probe was answered with {status}");
        }
        if self.call("GET", "/version")?.text().contains("not_decided") {
            fail!("no cluster version is decided");
        }
        // The original turns this feature on a little after the version is decided.
        if self.call("GET", "/v2/auth/enable")?.text().contains("Not capable") {
            fail!("a feature waits for the cluster version");
        }
        self.index()
    }

    /// Whether it runs.
    pub fn alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::alive)
    }

    /// The process, while there is one.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// Sends SIGTERM, and SIGKILL after [`STOP_LIMIT`]. Returns the exit status, if it ended by itself.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        self.process.take()?.terminate(STOP_LIMIT)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Waits until the server ends by itself.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.process.as_mut()?.wait(limit)
    }

    /// One request without a body, on its own connection.
    ///
    /// # Errors
    /// As [`http::call`].
    pub fn call(&self, method: &str, target: &str) -> Check<Response> {
        http::call(self.client_port, &Request::new(method, target), CALL_PATIENCE)
    }

    /// One request, on its own connection.
    ///
    /// # Errors
    /// As [`http::call`].
    pub fn send(&self, request: &Request) -> Check<Response> {
        http::call(self.client_port, request, CALL_PATIENCE)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// As [`http::call`], and an answer other than 200 or 201.
    pub fn set(&self, key: &str, value: &str) -> Check<Response> {
        let response = self.send(&Request::new("PUT", format!("/v2/keys{key}")).form(&[("value", value)]))?;
        if !matches!(response.status, 200 | 201) {
            fail!("PUT {key} answered {}: {}", response.status, response.text());
        }
        Ok(response)
    }

    /// `X-Etcd-Index`.
    ///
    /// # Errors
    /// As [`http::call`], and an answer without it.
    pub fn index(&self) -> Check<u64> {
        let response = self.call("GET", "/v2/keys/")?;
        response.number("X-Etcd-Index").context("no X-Etcd-Index in the answer to GET /v2/keys/")
    }

    /// Its output so far.
    pub fn said(&self) -> String {
        crate::files::read(&self.log).unwrap_or_default()
    }

    /// The line of the log that best explains an early end.
    pub fn last_words(&self) -> String {
        process::last_words(&self.said())
    }
}

/// Members that form a cluster, started and ready.
///
/// # Errors
/// The first failure of any of them.
pub fn cluster(folder: &Path, names: &[String], args: &[String]) -> Check<Vec<Server>> {
    let mut members = Vec::new();
    for name in names {
        members.push(Server::new(folder, name)?.with_args(args));
    }
    let all: Vec<String> = members.iter().map(|member| member.initial_cluster.clone()).collect();
    let all = all.join(",");
    for member in &mut members {
        member.initial_cluster.clone_from(&all);
        member.start()?;
    }
    for member in &mut members {
        member.wait_ready(START_LIMIT).map_err(|why| Failure::new(format!("{}: {why}", member.name)))?;
    }
    Ok(members)
}
