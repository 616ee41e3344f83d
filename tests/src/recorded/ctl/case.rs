//! A file of recorded runs, read into steps that cannot be misunderstood.
//!
//! An unknown field is an error: a recorded expectation must not be overlooked.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{Check, Context, fail, files};

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// `FILE/SCENARIO`.
    pub name: String,
    /// Whether it wants a server.
    pub server: bool,
    /// Whether it needs its own server.
    pub fresh: bool,
    /// How many members.
    pub nodes: usize,
    /// Further flags for them.
    pub server_args: Vec<String>,
    /// Whether it wants a port that never answers.
    pub hang: bool,
    /// Scripted servers, by name.
    pub stubs: BTreeMap<String, Routes>,
    /// TLS in front of the server.
    pub tls: Option<TlsFront>,
    /// Files in the client's folder.
    pub files: BTreeMap<String, String>,
    /// How the client gets the endpoint.
    pub endpoint: Endpoint,
    /// Which version was recorded, where it is not 2.3.8.
    pub oracle: Option<String>,
    /// What happens.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// The numbers of the steps that compare something.
    pub fn compared_steps(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().enumerate().filter(|(_, step)| step.compares()).map(|(at, _)| at + 1)
    }
}

/// What a scripted server answers, by `METHOD path`, `path` or `*`.
pub type Routes = BTreeMap<String, Route>;

/// One answer, or several by turns of which the last stays.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Route {
    /// Always the same.
    One(StubAnswer),
    /// One after the other.
    Several(Vec<StubAnswer>),
}

/// An answer of a scripted server, with placeholders.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StubAnswer {
    /// The status.
    #[serde(default = "ok")]
    pub status: u16,
    /// The body.
    #[serde(default)]
    pub body: String,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// TLS in front of the server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFront {
    /// Whether clients must show a certificate.
    #[serde(default)]
    pub client_auth: bool,
    /// The name of the certificate it shows.
    #[serde(default = "server_certificate")]
    pub cert: String,
}

/// How the client gets the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// In this environment variable.
    Env(String),
    /// By this flag, the value apart.
    Flag(String),
    /// By this flag, the value after `=`.
    FlagEquals(String),
    /// Not by the runner.
    None,
}

/// A step.
#[derive(Debug)]
pub struct Step {
    /// The action.
    pub action: Action,
    /// The expected result.
    pub answer: Answer,
    /// Answers that are as good.
    pub also: Vec<Answer>,
    /// The outputs whose order of lines does not count.
    pub unordered: Vec<String>,
    /// How long the step may take, in seconds; each kind has its own default.
    pub timeout: Option<f64>,
}

impl Step {
    /// Whether it has an answer to compare.
    pub fn compares(&self) -> bool {
        matches!(
            self.action,
            Action::Run { .. }
                | Action::Join(_)
                | Action::Interrupt(..)
                | Action::WaitOutput(_)
                | Action::StubRequests(_)
                | Action::Tree(_)
        )
    }
}

/// A run of the client.
#[derive(Debug)]
pub struct Run {
    /// Arguments, with placeholders.
    pub argv: Vec<String>,
    /// Further environment, with placeholders.
    pub env: BTreeMap<String, String>,
    /// Where it differs from the scenario's.
    pub endpoint: Option<Endpoint>,
    /// Its standard input, with placeholders.
    pub stdin: Option<String>,
    /// Whether it runs on a terminal.
    pub pty: bool,
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// Runs the client to its end.
    Run {
        /// The client's arguments and so on.
        run: Run,
        /// Between how many seconds it takes.
        took: Option<(f64, f64)>,
        /// Placeholders to set, with the expressions that find them in what is printed.
        bind: BTreeMap<String, String>,
    },
    /// Starts the client and leaves it running.
    Background {
        /// What later steps call it.
        name: String,
        /// The client's arguments and so on.
        run: Run,
        /// Whether to wait until the server counts one more watcher.
        until_watching: bool,
    },
    /// Waits for a client's end.
    Join(String),
    /// Sends SIGINT after a pause, in seconds, and waits for the end.
    Interrupt(String, f64),
    /// Waits until a client has printed what is recorded.
    WaitOutput(String),
    /// The requests that a scripted server got.
    StubRequests(String),
    /// Files and modes below a folder.
    Tree(String),
    /// A request that only prepares something.
    Http(Http),
    /// Stops a member: ``, `2` or `3`.
    StopServer(String),
    /// Starts a member, a new one as part of the existing cluster.
    StartServer(String),
    /// Starts a server on a backup, at the address of member 3.
    RestoreServer(String),
    /// Waits, in seconds.
    Sleep(f64),
    /// Counts indexes from now on.
    Rebase,
}

/// A request that only prepares something.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// The target, with placeholders.
    pub path: String,
    /// A form, encoded.
    pub body: Option<String>,
}

/// What a program printed and how it ended, as recorded.
#[derive(Debug, Default)]
pub struct Answer {
    /// The exit status.
    pub exit: Option<i32>,
    /// `stdout`, `stderr`, `requests`, `files`.
    pub texts: BTreeMap<&'static str, ExpectedText>,
}

/// What a text should be.
#[derive(Debug)]
pub enum ExpectedText {
    /// Word for word, with placeholders.
    Text(String),
    /// A regular expression.
    Pattern(String),
}

/// Reads the scenarios of a file.
///
/// # Errors
/// If it does not exist, or has unknown fields.
pub fn read(path: &Path) -> Check<Vec<Scenario>> {
    let file: File = serde_json::from_str(&files::read(path)?).context(path.display())?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    file.scenarios.into_iter().map(|scenario| scenario.into_scenario(&stem)).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "about")]
    _about: IgnoredAny,
    scenarios: Vec<ScenarioFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    name: String,
    #[serde(default = "yes")]
    server: bool,
    #[serde(default)]
    fresh: bool,
    #[serde(default = "one")]
    nodes: usize,
    #[serde(default)]
    server_args: Vec<String>,
    hang: Option<IgnoredAny>,
    #[serde(default)]
    stubs: BTreeMap<String, Routes>,
    tls: Option<TlsFront>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    endpoint: Option<String>,
    oracle: Option<String>,
    steps: Vec<StepFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    argv: Option<Vec<String>>,
    endpoint: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    stdin: Option<String>,
    #[serde(default)]
    pty: bool,
    bg: Option<String>,
    ready: Option<String>,
    took: Option<(f64, f64)>,
    timeout: Option<f64>,
    #[serde(default)]
    bind: BTreeMap<String, String>,
    join: Option<String>,
    interrupt: Option<String>,
    settle: Option<f64>,
    wait_output: Option<String>,
    stub_requests: Option<String>,
    tree: Option<String>,
    http: Option<Http>,
    stop_server: Option<String>,
    start_server: Option<String>,
    restore_server: Option<RestoreFile>,
    sleep: Option<f64>,
    rebase: Option<IgnoredAny>,
    #[serde(default)]
    unordered: Vec<String>,
    #[serde(default)]
    also: Vec<String>,
    #[serde(default)]
    variants: BTreeMap<String, AnswerFile>,
    #[serde(rename = "differs_in")]
    _differs_in: Option<IgnoredAny>,
    #[serde(rename = "fixed")]
    _fixed: Option<IgnoredAny>,
    #[serde(rename = "note")]
    _note: Option<IgnoredAny>,
    exit: Option<i32>,
    stdout: Option<String>,
    stdout_re: Option<String>,
    stderr: Option<String>,
    stderr_re: Option<String>,
    requests: Option<String>,
    files: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreFile {
    data_dir: String,
}

#[derive(Deserialize)]
struct AnswerFile {
    /// A number, or `timeout` for a version that hangs.
    exit: Option<serde_json::Value>,
    stdout: Option<String>,
    stdout_re: Option<String>,
    stderr: Option<String>,
    stderr_re: Option<String>,
    requests: Option<String>,
    files: Option<String>,
}

impl ScenarioFile {
    fn into_scenario(self, stem: &str) -> Check<Scenario> {
        let name = format!("{stem}/{}", self.name);
        let mut steps = Vec::new();
        for (at, step) in self.steps.into_iter().enumerate() {
            steps.push(step.into_step().context(format!("{name} step {}", at + 1))?);
        }
        let endpoint = match &self.endpoint {
            Some(text) => endpoint(text).context(&name)?,
            None => Endpoint::Env("ETCDCTL_PEERS".into()),
        };
        Ok(Scenario {
            name,
            server: self.server,
            fresh: self.fresh,
            nodes: self.nodes,
            server_args: self.server_args,
            hang: self.hang.is_some(),
            stubs: self.stubs,
            tls: self.tls,
            files: self.files,
            endpoint,
            oracle: self.oracle,
            steps,
        })
    }
}

impl StepFile {
    fn into_step(mut self) -> Check<Step> {
        let also = self
            .also
            .iter()
            .filter_map(|name| self.variants.remove(name))
            .map(AnswerFile::into_answer)
            .collect();
        let answer = AnswerFile {
            exit: self.exit.map(Into::into),
            stdout: self.stdout.take(),
            stdout_re: self.stdout_re.take(),
            stderr: self.stderr.take(),
            stderr_re: self.stderr_re.take(),
            requests: self.requests.take(),
            files: self.files.take(),
        };
        let unordered = std::mem::take(&mut self.unordered);
        let timeout = self.timeout;
        Ok(Step { action: self.into_action()?, answer: answer.into_answer(), also, unordered, timeout })
    }

    fn into_action(self) -> Check<Action> {
        if let Some(argv) = self.argv {
            let endpoint = self.endpoint.as_deref().map(endpoint).transpose()?;
            let run = Run { argv, env: self.env, endpoint, stdin: self.stdin, pty: self.pty };
            return Ok(match self.bg {
                None => Action::Run { run, took: self.took, bind: self.bind },
                Some(name) => {
                    Action::Background { name, run, until_watching: self.ready.as_deref() == Some("watcher") }
                }
            });
        }
        let action = if let Some(name) = self.join {
            Action::Join(name)
        } else if let Some(name) = self.interrupt {
            Action::Interrupt(name, self.settle.unwrap_or(0.1))
        } else if let Some(name) = self.wait_output {
            Action::WaitOutput(name)
        } else if let Some(name) = self.stub_requests {
            Action::StubRequests(name)
        } else if let Some(path) = self.tree {
            Action::Tree(path)
        } else if let Some(http) = self.http {
            Action::Http(http)
        } else if let Some(node) = self.stop_server {
            Action::StopServer(node)
        } else if let Some(node) = self.start_server {
            Action::StartServer(node)
        } else if let Some(restore) = self.restore_server {
            Action::RestoreServer(restore.data_dir)
        } else if let Some(seconds) = self.sleep {
            Action::Sleep(seconds)
        } else if self.rebase.is_some() {
            Action::Rebase
        } else {
            fail!("a step of unknown kind")
        };
        Ok(action)
    }
}

impl AnswerFile {
    fn into_answer(self) -> Answer {
        let pattern = |text: Option<String>| text.map(ExpectedText::Pattern);
        let text = |text: Option<String>| text.map(ExpectedText::Text);
        let texts = [
            ("stdout", pattern(self.stdout_re).or(text(self.stdout))),
            ("stderr", pattern(self.stderr_re).or(text(self.stderr))),
            ("requests", text(self.requests)),
            ("files", text(self.files)),
        ];
        let texts = texts.into_iter().filter_map(|(name, wanted)| Some((name, wanted?))).collect();
        let exit = self.exit.and_then(|exit| i32::try_from(exit.as_i64()?).ok());
        Answer { exit, texts }
    }
}

fn endpoint(text: &str) -> Check<Endpoint> {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    Ok(match kind {
        "env" => Endpoint::Env(name.to_owned()),
        "flag" => Endpoint::Flag(name.to_owned()),
        "flag=" => Endpoint::FlagEquals(name.to_owned()),
        "none" => Endpoint::None,
        _ => fail!("endpoint {text:?} is unknown"),
    })
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn ok() -> u16 {
    200
}

fn get() -> String {
    "GET".into()
}

fn server_certificate() -> String {
    "server".into()
}
