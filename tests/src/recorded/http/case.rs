//! A recorded scenario, parsed from its file into typed steps.
//!
//! An unknown field is an error: a recorded expectation must not be overlooked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::json::Json;
use crate::{Check, Context, fail, files};

/// Pairs in the order of the file, from an object or from a list of pairs.
pub type Pairs = Vec<(String, String)>;

/// A scenario.
#[derive(Debug)]
pub struct Scenario {
    /// The file's name without `.json`.
    pub name: String,
    /// Whether it needs its own servers.
    pub fresh: bool,
    /// How many.
    pub members: usize,
    /// Further flags for them.
    pub server_args: Vec<String>,
    /// What must answer before the first step.
    pub wait_for: Option<WaitFor>,
    /// How long it may take in all.
    pub time_limit: Duration,
    /// By how much more than usual times may be off, in seconds.
    pub time_slack: f64,
    /// What happens.
    pub steps: Vec<Step>,
}

/// A path that has a status before a scenario begins.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitFor {
    /// What to GET.
    pub path: String,
    /// The expected final answer.
    pub status: u16,
    /// For how long to try, in seconds.
    #[serde(default = "eight")]
    pub timeout: f64,
}

/// A step.
#[derive(Debug)]
pub struct Step {
    /// Its description.
    pub note: String,
    /// Which member it speaks to.
    pub server: usize,
    /// The action.
    pub action: Action,
    /// How answers are compared.
    pub how: ComparisonOptions,
}

impl Step {
    /// Whether it has an answer to compare.
    pub fn compares(&self) -> bool {
        matches!(self.action, Action::Call { .. } | Action::Join { .. } | Action::Raw { .. })
    }
}

/// What a step does.
#[derive(Debug)]
pub enum Action {
    /// Waits, in seconds.
    Sleep(f64),
    /// Stops, starts, or takes stock.
    Control(Control),
    /// Closes a waiting request, and waits some seconds until the server has noticed.
    Cancel(String, f64),
    /// Starts a request that waits.
    Background {
        /// What later steps call it.
        name: String,
        /// The request.
        request: Template,
        /// Whether its headers come at once.
        await_headers: bool,
    },
    /// Compares what a waiting request got.
    Join {
        /// Which one.
        name: String,
        /// When to check it.
        until: WaitCondition,
        /// For how long to wait, in seconds.
        timeout: f64,
        /// The expected answers.
        expect: Expect,
    },
    /// Sends bytes as they are.
    Raw {
        /// The bytes, and pauses between them.
        items: Vec<RawItem>,
        /// The methods of the answers that come.
        methods: Vec<String>,
        /// Whether the server closes after them.
        then_closed: bool,
        /// For each answer.
        expect: Vec<Expect>,
    },
    /// A request and its answer.
    Call {
        /// The request.
        request: Template,
        /// How often to send it on one connection; the last answer counts.
        repeat: Option<usize>,
        /// Repeat it until a status is received.
        poll: Option<Poll>,
        /// Whether to follow redirects.
        follow: bool,
        /// For how long the answer may take.
        timeout: Option<f64>,
        /// Variables to keep, and where in the answer they are.
        save: Vec<(String, ValueSource)>,
        /// The name under which to keep the whole body.
        save_json: Option<String>,
        /// The expected answer.
        expect: Expect,
    },
}

/// What a control step does, in this order.
#[derive(Debug)]
pub struct Control {
    /// Stop the server first; with SIGKILL if the flag is set.
    pub stop: Option<bool>,
    /// Start and wait until ready.
    pub start: bool,
    /// Put the leader first.
    pub find_leader: bool,
    /// The name of a variable that takes the index.
    pub base: Option<String>,
}

/// When to check a waiting request.
#[derive(Debug, Clone, Copy)]
pub enum WaitCondition {
    /// When its answer is complete.
    Done,
    /// Now, when nothing must have come.
    Pending,
    /// When this many events were received.
    Events {
        /// How many.
        count: usize,
        /// How long no further one may be received, in seconds.
        quiet: f64,
        /// Whether further ones are allowed.
        at_least: bool,
    },
}

/// A piece of what a raw step sends.
#[derive(Debug)]
pub enum RawItem {
    /// Text with placeholders.
    Send(String),
    /// A pause in seconds.
    Sleep(f64),
    /// Waits for an interim answer.
    AwaitContinue,
}

/// Where in an answer a variable is found.
#[derive(Debug)]
pub enum ValueSource {
    /// In a header.
    Header(String),
    /// In the JSON body, as `a.b.0`.
    Body(String),
}

/// Until when a request is sent again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poll {
    /// The status to wait for.
    pub until_status: u16,
    /// For how long, in seconds.
    #[serde(default = "six")]
    pub timeout: f64,
    /// The pause in between, in seconds.
    #[serde(default = "tenth")]
    pub interval: f64,
}

/// A request with placeholders.
#[derive(Debug, Clone)]
pub struct Template {
    /// As sent.
    pub method: String,
    /// The target.
    pub path: String,
    /// As sent, values with placeholders.
    pub headers: Pairs,
    /// What follows.
    pub body: Body,
}

/// The body of a request, with placeholders.
#[derive(Debug, Clone)]
pub enum Body {
    /// None.
    Empty,
    /// Form fields.
    Form(Pairs),
    /// Text.
    Text(String),
    /// A start, and a repeated text.
    Fill(String, String, usize),
    /// Chunked.
    Chunks(Vec<String>),
}

/// How the answers of a step are compared.
#[derive(Debug, Default, Deserialize)]
pub struct ComparisonOptions {
    /// Whether the order of nodes counts.
    #[serde(default)]
    pub ordered: bool,
    /// Lists whose order does not count, with the member to sort them by.
    #[serde(default)]
    pub sort: BTreeMap<String, String>,
    /// The saved answer that counters are compared with.
    pub delta_of: Option<String>,
}

/// A recorded answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status.
    pub status: u16,
    /// The interim answers.
    pub interim: Option<Vec<u16>>,
    /// The headers that count; those not here must be absent.
    #[serde(default, deserialize_with = "some_pairs")]
    pub headers: Option<Pairs>,
    /// The body, word for word with placeholders.
    pub text: Option<String>,
    /// Pieces of the body.
    #[serde(default)]
    pub contains: Vec<String>,
    /// The body as JSON, with matchers.
    #[serde(default, deserialize_with = "present")]
    pub json: Option<Json>,
    /// Whether it ends in a newline.
    pub nl: Option<bool>,
    /// Members of the body, with matchers.
    #[serde(default, deserialize_with = "present")]
    pub has: Option<Json>,
    /// By how much counters of the body changed.
    #[serde(default, deserialize_with = "present")]
    pub delta: Option<Json>,
    /// The events of a stream.
    #[serde(default, deserialize_with = "present")]
    pub events: Option<Json>,
}

impl Scenario {
    /// Reads a file.
    ///
    /// # Errors
    /// If it does not exist, or has unknown fields.
    pub fn read(path: &Path) -> Check<Self> {
        let text = files::read(path)?;
        let file: ScenarioFile = serde_json::from_str(&text).context(path.display())?;
        let mut steps = Vec::new();
        for (at, step) in file.steps.into_iter().enumerate() {
            steps.push(step.into_step().context(format!("{} step {}", path.display(), at + 1))?);
        }
        Ok(Scenario {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            fresh: file.fresh,
            members: file.members,
            server_args: file.server_args,
            wait_for: file.wait_for,
            time_limit: Duration::from_secs(file.time_limit),
            time_slack: file.time_slack,
            steps,
        })
    }

    /// The numbers of the steps that compare something.
    pub fn compared_steps(&self) -> impl Iterator<Item = usize> {
        self.steps.iter().enumerate().filter(|(_, step)| step.compares()).map(|(at, _)| at + 1)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    #[serde(rename = "name")]
    _name: IgnoredAny,
    #[serde(rename = "about")]
    _about: IgnoredAny,
    #[serde(default = "yes")]
    fresh: bool,
    #[serde(default = "one")]
    members: usize,
    #[serde(default)]
    server_args: Vec<String>,
    wait_for: Option<WaitFor>,
    #[serde(default = "two_minutes")]
    time_limit: u64,
    #[serde(default)]
    time_slack: f64,
    #[serde(rename = "differs_in")]
    _differs_in: Option<IgnoredAny>,
    #[serde(rename = "differs_note")]
    _differs_note: Option<IgnoredAny>,
    steps: Vec<StepFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    #[serde(default)]
    note: String,
    #[serde(rename = "tags")]
    _tags: Option<IgnoredAny>,
    #[serde(rename = "differs_in")]
    _differs_in: Option<IgnoredAny>,
    #[serde(rename = "differs_note")]
    _differs_note: Option<IgnoredAny>,
    #[serde(default)]
    server: usize,
    #[serde(default)]
    check: ComparisonOptions,
    method: Option<String>,
    path: Option<String>,
    #[serde(default, deserialize_with = "some_pairs")]
    headers: Option<Pairs>,
    #[serde(default, deserialize_with = "some_pairs")]
    form: Option<Pairs>,
    body: Option<String>,
    body_fill: Option<(String, String, usize)>,
    chunks: Option<Vec<String>>,
    timeout: Option<f64>,
    repeat: Option<usize>,
    poll: Option<Poll>,
    #[serde(default)]
    follow: bool,
    save: Option<BTreeMap<String, String>>,
    save_json: Option<String>,
    background: Option<String>,
    await_headers: Option<bool>,
    join: Option<String>,
    #[serde(default)]
    pending: bool,
    events: Option<usize>,
    quiet: Option<f64>,
    #[serde(default)]
    at_least: bool,
    cancel: Option<String>,
    after: Option<f64>,
    raw: Option<Vec<RawItemFile>>,
    responses: Option<usize>,
    methods: Option<Vec<String>>,
    #[serde(default)]
    then_closed: bool,
    control: Option<String>,
    #[serde(default)]
    find_leader: bool,
    base: Option<String>,
    sleep: Option<f64>,
    expect: Option<ExpectFile>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawItemFile {
    Send(String),
    Sleep {
        sleep: f64,
    },
    Await {
        #[serde(rename = "await_100")]
        _await: IgnoredAny,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ExpectFile {
    One(Box<Expect>),
    Several(Vec<Expect>),
}

impl StepFile {
    fn into_step(mut self) -> Check<Step> {
        let note = std::mem::take(&mut self.note);
        let how = std::mem::take(&mut self.check);
        let server = self.server;
        let action = self.into_action()?;
        Ok(Step { note, server, action, how })
    }

    fn into_action(mut self) -> Check<Action> {
        if let Some(seconds) = self.sleep {
            return Ok(Action::Sleep(seconds));
        }
        if let Some(name) = self.cancel {
            return Ok(Action::Cancel(name, self.after.unwrap_or(0.15)));
        }
        if let Some(what) = self.control.take() {
            let (stop, start) = match what.as_str() {
                "none" => (None, false),
                "start" => (None, true),
                "stop" => (Some(false), false),
                "kill" => (Some(true), false),
                "restart" => (Some(false), true),
                other => fail!("control {other:?} is unknown"),
            };
            let find_leader = self.find_leader;
            return Ok(Action::Control(Control { stop, start, find_leader, base: self.base }));
        }
        if let Some(name) = self.background.take() {
            let await_headers = self.await_headers.unwrap_or(true);
            return Ok(Action::Background { name, request: self.template()?, await_headers });
        }
        if let Some(items) = self.raw.take() {
            return self.into_raw(items);
        }
        let Some(ExpectFile::One(expect)) = self.expect.take() else {
            fail!("expects no or several answers")
        };
        let expect = *expect;
        if let Some(name) = self.join {
            let until = match (self.pending, self.events) {
                (true, _) => WaitCondition::Pending,
                (false, None) => WaitCondition::Done,
                (false, Some(count)) => WaitCondition::Events {
                    count,
                    quiet: self.quiet.unwrap_or(0.15),
                    at_least: self.at_least,
                },
            };
            return Ok(Action::Join { name, until, timeout: self.timeout.unwrap_or_else(eight), expect });
        }
        let request = self.template()?;
        let place = |text: String| match text.strip_prefix("header:") {
            Some(header) => ValueSource::Header(header.to_owned()),
            None => ValueSource::Body(text),
        };
        let save =
            self.save.unwrap_or_default().into_iter().map(|(name, text)| (name, place(text))).collect();
        let StepFile { repeat, poll, follow, timeout, save_json, .. } = self;
        Ok(Action::Call { request, repeat, poll, follow, timeout, save, save_json, expect })
    }

    fn into_raw(self, items: Vec<RawItemFile>) -> Check<Action> {
        let Some(ExpectFile::Several(expect)) = self.expect else { fail!("a raw step expects a list") };
        let items = items
            .into_iter()
            .map(|item| match item {
                RawItemFile::Send(text) => RawItem::Send(text),
                RawItemFile::Sleep { sleep } => RawItem::Sleep(sleep),
                RawItemFile::Await { .. } => RawItem::AwaitContinue,
            })
            .collect();
        let methods = self.methods.unwrap_or_else(|| vec!["GET".into(); self.responses.unwrap_or(1)]);
        if methods.len() != expect.len() {
            fail!("{} answers are read, {} recorded", methods.len(), expect.len());
        }
        Ok(Action::Raw { items, methods, then_closed: self.then_closed, expect })
    }

    fn template(&mut self) -> Check<Template> {
        let body = if let Some(pairs) = self.form.take() {
            Body::Form(pairs)
        } else if let Some(text) = self.body.take() {
            Body::Text(text)
        } else if let Some((start, unit, count)) = self.body_fill.take() {
            Body::Fill(start, unit, count)
        } else if let Some(chunks) = self.chunks.take() {
            Body::Chunks(chunks)
        } else {
            Body::Empty
        };
        Ok(Template {
            method: self.method.clone().unwrap_or_else(|| "GET".into()),
            path: self.path.clone().context("a step of unknown kind")?,
            headers: self.headers.take().unwrap_or_default(),
            body,
        })
    }
}

fn some_pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Pairs>, D::Error> {
    use serde::de::Error as _;
    let text = |value: Json| match value {
        Json::Text(text) => Ok(text),
        other => Err(D::Error::custom(format!("{} is no string", other.write_go()))),
    };
    let pair = |item: Json| match item {
        Json::List(mut two) if two.len() == 2 => {
            let second = two.pop().unwrap_or(Json::Null);
            Ok((text(two.pop().unwrap_or(Json::Null))?, text(second)?))
        }
        other => Err(D::Error::custom(format!("{} is no pair", other.write_go()))),
    };
    match Json::deserialize(deserializer)? {
        Json::Object(members) => members
            .into_iter()
            .map(|(key, value)| Ok((key, text(value)?)))
            .collect::<Result<_, _>>()
            .map(Some),
        Json::List(items) => items.into_iter().map(pair).collect::<Result<_, _>>().map(Some),
        other => Err(D::Error::custom(format!("{} is no list of pairs", other.write_go()))),
    }
}

/// A value that is there, even if it is `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn two_minutes() -> u64 {
    120
}

fn six() -> f64 {
    6.0
}

fn eight() -> f64 {
    8.0
}

fn tenth() -> f64 {
    0.1
}
