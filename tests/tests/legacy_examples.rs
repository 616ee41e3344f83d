//! What etcd 0.1.2, 0.2.0 and 0.4.9 were recorded to answer, asked of real processes: `data/legacy`, a file for each
//! kind of page.
//!
//! A step is a request and its recorded answer. Where this server answers otherwise on purpose, the step says how and
//! why; that it does is checked too. In what is recorded, `<index>` is the store's index after the request and
//! `<NAME>` that after the request with this mark, or its answer if that is a number; `<time>`, `<duration>` and
//! `<number>` are any, as is `<id>`; `<client>` and `<peer>` are the leader's addresses and `<leader>` its name, with
//! `other` those of a follower.

use std::collections::BTreeMap;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use tests::http::{PATIENCE, Request, Response, call};
use tests::server::{Server, cluster};
use tests::{Check, Context, fail, files};

/// How long a request that has to wait is left alone before the one that ends its wait.
const HEAD_START: Duration = Duration::from_millis(300);

/// A recording.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recording {
    /// The release that answered.
    of: String,
    /// How many of the steps are answered otherwise here.
    differing: usize,
    /// The number of members, one by default.
    #[serde(default)]
    members: usize,
    /// What else the servers are started with.
    #[serde(default)]
    args: Vec<String>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    /// `METHOD TARGET`, and a form or a body in JSON behind them.
    ask: String,
    /// On the port for other members.
    #[serde(default)]
    peer: bool,
    /// Of a follower.
    #[serde(default)]
    follower: bool,
    /// What ends the wait of this request, on the leader.
    meanwhile: Option<String>,
    #[serde(flatten)]
    recorded: Answer,
    /// The answer of this server, if it differs.
    here: Option<Answer>,
    /// Why.
    why: Option<String>,
    /// What its answer, or the store's index after it, is called by later steps.
    mark: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default = "ok")]
    status: u16,
    /// Not compared if it is missing.
    body: Option<String>,
    #[serde(rename = "type")]
    content_type: Option<String>,
    location: Option<String>,
}

fn ok() -> u16 {
    200
}

/// The servers under test.
struct ServersUnderTest {
    leader: Server,
    others: Vec<Server>,
}

impl ServersUnderTest {
    fn start(folder: &std::path::Path, recording: &Recording) -> Check<ServersUnderTest> {
        if recording.members < 2 {
            let leader = Server::new(folder, "o1")?.with_args(&recording.args).started()?;
            return Ok(ServersUnderTest { leader, others: Vec::new() });
        }
        let names: Vec<String> = (1..=recording.members).map(|number| format!("o{number}")).collect();
        let mut members = cluster(folder, &names, &recording.args)?;
        let leader = members[0].call("GET", "/v2/leader")?.text();
        let at = members.iter().position(|member| member.peer_url() == leader).context("a leader")?;
        Ok(ServersUnderTest { leader: members.remove(at), others: members })
    }

    fn ports(&self, follower: bool) -> (u16, u16) {
        let member = if follower { &self.others[0] } else { &self.leader };
        (member.client_port, member.peer_port)
    }

    fn with_names(&self, text: &str) -> String {
        let other = self.others.first().map_or("", |other| &other.name);
        text.replace("<leader>", &self.leader.name).replace("<other>", other)
    }

    /// An expression for what was recorded.
    fn expression(&self, recorded: &str, index: u64, marks: &Marks) -> Check<Regex> {
        let host = |url: String| url.trim_start_matches("http://").to_owned();
        let other = self.others.first().unwrap_or(&self.leader);
        let text = self
            .with_names(&with_marks(&regex::escape(recorded), marks))
            .replace("<time>", "20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")
            .replace("<duration>", "[0-9.]+[mµ]?s")
            .replace("<number>", "[0-9.e+-]+")
            .replace("<any>", ".*")
            .replace("<id>", "[0-9a-f]+")
            .replace("<padded index>", &format!("{index:020}"))
            .replace("<index>", &index.to_string())
            .replace("<client>", &regex::escape(&host(self.leader.client_url())))
            .replace("<peer>", &regex::escape(&host(self.leader.peer_url())))
            .replace("<other client>", &regex::escape(&host(other.client_url())))
            .replace("<other peer>", &regex::escape(&host(other.peer_url())));
        Regex::new(&format!("^(?s:{text})$")).context(recorded)
    }

    fn is(&self, answer: &Response, wanted: &Answer, index: u64, marks: &Marks) -> Check<bool> {
        let fits = |wanted: &Option<String>, got: &str| match wanted {
            Some(wanted) => Ok::<bool, tests::Failure>(self.expression(wanted, index, marks)?.is_match(got)),
            None => Ok(true),
        };
        let header = |name: &str| answer.header(name).unwrap_or_default();
        Ok(answer.status == wanted.status
            && fits(&wanted.body, &answer.text())?
            && fits(&wanted.content_type, &header("Content-Type"))?
            && fits(&wanted.location, &header("Location"))?)
    }
}

/// Indexes by their names.
type Marks = BTreeMap<String, u64>;

fn with_marks(text: &str, marks: &Marks) -> String {
    marks
        .iter()
        .fold(text.to_owned(), |text, (name, index)| text.replace(&format!("<{name}>"), &index.to_string()))
}

/// `METHOD TARGET [FORM]`.
fn request(ask: &str, marks: &Marks) -> Request {
    let ask = with_marks(ask, marks);
    let mut words = ask.splitn(3, ' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request::new(method, target);
    if let Some(body) = words.next() {
        request.body = body.as_bytes().to_vec();
        if !body.starts_with(['{', '!']) {
            request.headers.push(("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
        }
    }
    request
}

/// The answer to a step, and the store's index behind it.
fn ask(servers: &ServersUnderTest, step: &Step, marks: &Marks) -> Check<(Response, u64)> {
    let (client, peer) = servers.ports(step.follower);
    let (port, request_of_step) =
        (if step.peer { peer } else { client }, request(&servers.with_names(&step.ask), marks));
    let answer = match &step.meanwhile {
        None => call(port, &request_of_step, PATIENCE)?,
        Some(meanwhile) => {
            let waiting: JoinHandle<Check<Response>> = spawn(move || call(port, &request_of_step, PATIENCE));
            sleep(HEAD_START);
            if waiting.is_finished() {
                fail!("it did not wait");
            }
            servers.leader.send(&request(meanwhile, marks))?;
            waiting.join().map_err(|_| tests::Failure::new("a thread panicked"))??
        }
    };
    // The answer's own index, where it has one: a key may expire before the next request.
    let own = answer.number("X-Etcd-Index").filter(|_| step.meanwhile.is_none() && !step.follower);
    let index = match own {
        Some(index) => index,
        None => servers.leader.index()?,
    };
    Ok((answer, index))
}

fn compare_with_recording(name: &str) -> Check {
    let text = files::read(&files::data(&format!("legacy/{name}.json")))?;
    let recording: Recording = serde_json::from_str(&text).context(name)?;
    let folder = files::scratch(name)?;
    let servers = ServersUnderTest::start(folder.path(), &recording)?;
    let (mut wrong, mut differing, mut marks) = (Vec::new(), 0, Marks::new());
    for step in &recording.steps {
        let (answer, index) = ask(&servers, step, &marks).context(&step.ask)?;
        let as_recorded = servers.is(&answer, &step.recorded, index, &marks)?;
        let told = || format!("{} answers {} {:?}", step.ask, answer.status, answer.text());
        match &step.here {
            None if as_recorded => {}
            None => wrong.push(format!("{}\n  {} is {:?}", told(), recording.of, step.recorded.body)),
            Some(_) if as_recorded => wrong.push(format!("{}, which is what was recorded", told())),
            Some(_) if step.why.is_none() => wrong.push(format!("{}: nothing says why", step.ask)),
            Some(here) => {
                differing += 1;
                if !servers.is(&answer, here, index, &marks)? {
                    wrong.push(format!("{}\n  here wanted {:?}", told(), here.body));
                }
            }
        }
        let number = answer.text().parse().unwrap_or(index);
        marks.extend(step.mark.iter().map(|name| (name.clone(), number)));
    }
    if !wrong.is_empty() {
        fail!("{name}: of {} steps these are wrong:\n{}", recording.steps.len(), wrong.join("\n"));
    }
    assert_eq!(differing, recording.differing, "{name}: steps that are answered otherwise");
    println!(
        "{name}: {} steps of {}, {differing} of them otherwise on purpose",
        recording.steps.len(),
        recording.of
    );
    Ok(())
}

#[test]
fn the_v1_api_of_0_4() -> Check {
    compare_with_recording("v1-0.4")
}

#[test]
fn the_v1_api_of_0_1() -> Check {
    compare_with_recording("v1-0.1")
}

#[test]
fn the_first_page_of_0_1() -> Check {
    compare_with_recording("page-0.1")
}

#[test]
fn followers_of_0_4() -> Check {
    compare_with_recording("followers-0.4")
}

#[test]
fn the_pages_of_0_4() -> Check {
    compare_with_recording("pages-0.4")
}

#[test]
fn the_v2_keys_of_0_4() -> Check {
    compare_with_recording("keys-0.4")
}

#[test]
fn the_peer_port_of_0_4() -> Check {
    compare_with_recording("peer-port-0.4")
}

#[test]
fn the_modules_of_0_2() -> Check {
    compare_with_recording("modules-0.2")
}
