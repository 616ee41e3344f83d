//! Carries out the steps of one scenario.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::background::Background;
use super::case::{
    Action, Body, ComparisonOptions, Control, Expect, Poll, RawItem, Scenario, Step, Template, ValueSource,
    WaitCondition,
};
use super::expect::differences;
use super::template::{Context, Value};
use crate::http::{self, Connection, PATIENCE, Request, Response};
use crate::json::Json;
use crate::recorded::ScenarioResult;
use crate::server::{START_LIMIT, Server};
use crate::{Check, Context as _, clock, fail};

/// How long the head of a waiting request may take: etcd sends it at once.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
const REDIRECTS_MAX: usize = 3;

/// Plays a scenario on running servers.
pub fn play(scenario: &Scenario, servers: &mut Vec<Server>) -> ScenarioResult {
    let mut result = ScenarioResult { name: scenario.name.clone(), ..ScenarioResult::default() };
    let mut player = Player {
        servers,
        context: Context { slack: scenario.time_slack, ..Context::default() },
        waiting: BTreeMap::new(),
        saved: BTreeMap::new(),
        raft_index: BTreeMap::new(),
    };
    if let Err(why) = player.set_up(scenario) {
        return ScenarioResult::all_failed(
            &scenario.name,
            scenario.compared_steps(),
            &format!("cannot set up: {why}"),
        );
    }
    let end = Instant::now() + scenario.time_limit;
    for (at, step) in scenario.steps.iter().enumerate() {
        let outcome = if Instant::now() > end { late() } else { player.step(step) };
        let wrong = match outcome {
            Ok(differences) => differences,
            Err(failure) => vec![player.blame(step, &failure.to_string())],
        };
        if !wrong.is_empty() {
            let note = if step.note.is_empty() { String::new() } else { format!(" ({})", step.note) };
            let lines: Vec<&str> = wrong.iter().map(String::as_str).take(8).collect();
            result.failed.insert(at + 1, format!("{}{note}\n     {}", describe(step), lines.join("\n     ")));
        } else if step.compares() {
            result.passed.insert(at + 1);
        }
    }
    result
}

fn late() -> Check<Vec<String>> {
    fail!("the scenario's time was over")
}

/// A line on what a step does.
fn describe(step: &Step) -> String {
    match &step.action {
        Action::Call { request, .. } | Action::Background { request, .. } => {
            format!("{} {}", request.method, request.path)
        }
        Action::Join { name, .. } => format!("join {name}"),
        Action::Cancel(name, _) => format!("cancel {name}"),
        Action::Raw { .. } => "raw bytes".into(),
        Action::Control(_) => "control".into(),
        Action::Sleep(_) => "sleep".into(),
    }
}

struct Player<'a> {
    servers: &'a mut Vec<Server>,
    context: Context,
    waiting: BTreeMap<String, Background>,
    saved: BTreeMap<String, Json>,
    /// The highest X-Raft-Index seen, by server: it never falls.
    raft_index: BTreeMap<usize, u64>,
}

impl Player<'_> {
    fn set_up(&mut self, scenario: &Scenario) -> Check {
        self.name_servers();
        if let Some(wait) = &scenario.wait_for {
            let end = Instant::now() + seconds(wait.timeout);
            loop {
                let status = self.servers[0].call("GET", &wait.path).map(|response| response.status);
                if status.as_ref().is_ok_and(|&status| status == wait.status) {
                    break;
                }
                if Instant::now() > end {
                    fail!("GET {} did not become {} (last: {status:?})", wait.path, wait.status);
                }
                thread::sleep(Duration::from_millis(50));
            }
        }
        self.set_base("B")
    }

    fn name_servers(&mut self) {
        for (at, server) in self.servers.iter().enumerate() {
            let suffix = if at == 0 { String::new() } else { at.to_string() };
            let values = [
                ("client_url", server.client_url()),
                ("peer_url", server.peer_url()),
                ("host", server.host()),
                ("name", server.name.clone()),
            ];
            for (name, value) in values {
                self.context.set(format!("{name}{suffix}"), Value::Text(value));
            }
        }
    }

    fn set_base(&mut self, name: &str) -> Check {
        let index = self.servers[0].index()?;
        self.context.set(name, Value::Number(index.into()));
        Ok(())
    }

    /// Adds to a failure that a server has ended, if one has.
    fn blame(&mut self, step: &Step, failure: &str) -> String {
        let Some(server) = self.servers.get_mut(step.server) else { return failure.to_owned() };
        if server.alive() {
            return failure.to_owned();
        }
        format!("{failure} (the server is not running: {})", server.last_words())
    }

    /// Does a step; the differences it found.
    fn step(&mut self, step: &Step) -> Check<Vec<String>> {
        self.context.waited = false;
        if step.server >= self.servers.len() {
            fail!("there is no server {}", step.server);
        }
        match &step.action {
            Action::Sleep(time) => thread::sleep(seconds(*time)),
            Action::Control(control) => self.control(control, step.server)?,
            Action::Cancel(name, pause) => {
                self.waiting.remove(name).context(format!("{name} was never started"))?;
                thread::sleep(seconds(*pause));
            }
            Action::Background { name, request, await_headers } => {
                self.start_waiting(name, request, *await_headers, step.server)?;
            }
            Action::Join { name, until, timeout, expect } => {
                return self.join(name, *until, *timeout, expect, &step.how);
            }
            Action::Raw { items, methods, then_closed, expect } => {
                let responses = self.raw(items, methods, *then_closed, step.server)?;
                let mut found = Vec::new();
                for (at, (expect, response)) in expect.iter().zip(&responses).enumerate() {
                    let differences = self.check(expect, &step.how, response, Some(step.server), false)?;
                    found.extend(
                        differences.into_iter().map(|difference| format!("answer {}: {difference}", at + 1)),
                    );
                }
                return Ok(found);
            }
            Action::Call { request, repeat, poll, follow, timeout, save, save_json, expect } => {
                let patience = timeout.map_or(PATIENCE, seconds);
                let response = match (repeat, poll) {
                    (Some(count), _) => self.repeat(request, *count, step.server)?,
                    (None, Some(poll)) => self.poll(request, poll, patience, step.server)?,
                    (None, None) => self.call(request, *follow, patience, step.server)?,
                };
                self.keep(save, save_json.as_deref(), &response)?;
                return self.check(expect, &step.how, &response, Some(step.server), false);
            }
        }
        Ok(Vec::new())
    }

    fn control(&mut self, control: &Control, server: usize) -> Check {
        match control.stop {
            Some(true) => self.servers[server].kill(),
            Some(false) => {
                self.servers[server].stop();
            }
            None => {}
        }
        if control.start {
            self.servers[server].start()?;
            self.servers[server].wait_ready(START_LIMIT)?;
        }
        if control.find_leader {
            self.find_leader()?;
        }
        control.base.as_ref().map_or(Ok(()), |name| self.set_base(name))
    }

    /// Puts the leader first.
    fn find_leader(&mut self) -> Check {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            let leads = |server: &Server| {
                server.call("GET", "/v2/stats/leader").is_ok_and(|response| response.status == 200)
            };
            let leaders: Vec<usize> =
                (0..self.servers.len()).filter(|&at| leads(&self.servers[at])).collect();
            if let [leader] = leaders[..] {
                let leader = self.servers.remove(leader);
                self.servers.insert(0, leader);
                self.name_servers();
                return Ok(());
            }
            thread::sleep(Duration::from_millis(200));
        }
        fail!("no single leader found")
    }

    fn request(&self, template: &Template) -> Check<Request> {
        let expand = |text: &String| self.context.expand(text);
        let mut headers = Vec::new();
        for (name, value) in &template.headers {
            headers.push((name.clone(), expand(value)?));
        }
        let body = match &template.body {
            Body::Empty => Vec::new(),
            Body::Text(text) => expand(text)?.into_bytes(),
            Body::Fill(start, unit, count) => (start.clone() + &unit.repeat(*count)).into_bytes(),
            Body::Form(pairs) => {
                if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                    headers.push(("Content-Type".into(), "application/x-www-form-urlencoded".into()));
                }
                let mut filled = Vec::new();
                for (name, value) in pairs {
                    filled.push((name.as_str(), expand(value)?));
                }
                http::form(filled.iter().map(|(name, value)| (*name, value.as_str()))).into_bytes()
            }
            Body::Chunks(chunks) => {
                headers.push(("Transfer-Encoding".into(), "chunked".into()));
                let mut body = Vec::new();
                for chunk in chunks {
                    let chunk = expand(chunk)?;
                    body.extend_from_slice(format!("{:x}\r\n{chunk}\r\n", chunk.len()).as_bytes());
                }
                body.extend_from_slice(b"0\r\n\r\n");
                body
            }
        };
        Ok(Request { method: template.method.clone(), target: expand(&template.path)?, headers, body })
    }

    fn open(&self, server: usize, patience: Duration) -> Check<Connection> {
        Connection::open(self.servers[server].client_port, patience)
    }

    fn call(
        &mut self,
        template: &Template,
        follow: bool,
        patience: Duration,
        server: usize,
    ) -> Check<Response> {
        let request = self.request(template)?;
        let host = self.servers[server].host();
        let mut connection = self.open(server, patience)?;
        self.context.sent = clock::now();
        let mut response = connection.call(&request, &host)?;
        for _ in 0..REDIRECTS_MAX {
            if !follow || !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
                break;
            }
            let target = response.header("Location").context("a redirect without Location")?;
            response = self.open(server, patience)?.call(&Request::new(&template.method, target), &host)?;
        }
        self.context.answered = clock::now();
        Ok(response)
    }

    fn repeat(&mut self, template: &Template, count: usize, server: usize) -> Check<Response> {
        let host = self.servers[server].host();
        let mut connection = self.open(server, PATIENCE)?;
        let mut last = None;
        for n in 0..count {
            self.context.set("i", Value::Number(i128::try_from(n).unwrap_or(0)));
            let request = self.request(template)?;
            self.context.sent = clock::now();
            let response = connection.call(&request, &host)?;
            self.context.answered = clock::now();
            if response.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                connection = self.open(server, PATIENCE)?;
            }
            last = Some(response);
        }
        last.context("a request repeated no times")
    }

    fn poll(
        &mut self,
        template: &Template,
        poll: &Poll,
        patience: Duration,
        server: usize,
    ) -> Check<Response> {
        let end = Instant::now() + seconds(poll.timeout);
        loop {
            let response = self.call(template, false, patience, server)?;
            if response.status == poll.until_status || Instant::now() > end {
                return Ok(response);
            }
            thread::sleep(seconds(poll.interval));
        }
    }

    fn raw(
        &mut self,
        items: &[RawItem],
        methods: &[String],
        then_closed: bool,
        server: usize,
    ) -> Check<Vec<Response>> {
        let mut connection = self.open(server, PATIENCE)?;
        self.context.sent = clock::now();
        // The head that was received while waiting for an interim answer: that answer, or already the final one.
        let mut early: Option<Response> = None;
        for item in items {
            match item {
                // A server may answer and close before it has read everything: check the answer.
                RawItem::Send(text) => {
                    if connection.send(self.context.expand(text)?.as_bytes()).is_err() {
                        break;
                    }
                }
                RawItem::Sleep(time) => thread::sleep(seconds(*time)),
                RawItem::AwaitContinue => early = Some(connection.any_head()?),
            }
        }
        let mut responses = Vec::new();
        for method in methods {
            let response = match early.take() {
                Some(head) if !(100..200).contains(&head.status) => {
                    let mut body = Vec::new();
                    connection.body(method, &head, |piece| body.extend_from_slice(piece))?;
                    Response { body, ..head }
                }
                Some(interim) => {
                    let mut response = connection.response(method)?;
                    response.interim.insert(0, interim.status);
                    response
                }
                None => connection.response(method)?,
            };
            responses.push(response);
        }
        self.context.answered = clock::now();
        if then_closed {
            connection.expect_closed(Duration::from_secs(3))?;
        }
        Ok(responses)
    }

    fn start_waiting(
        &mut self,
        name: &str,
        template: &Template,
        await_headers: bool,
        server: usize,
    ) -> Check {
        let request = self.request(template)?;
        let mut connection = self.open(server, PATIENCE)?;
        let sent = clock::now();
        connection.send(&request.bytes(&self.servers[server].host()))?;
        let background = Background::start(connection, request.method, sent)?;
        if await_headers && !background.wait(HEAD_LIMIT, |progress| progress.head || progress.done) {
            fail!("no response headers within {HEAD_LIMIT:?} for a waiting request (they are sent at once)");
        }
        self.waiting.insert(name.to_owned(), background);
        Ok(())
    }

    fn join(
        &mut self,
        name: &str,
        until: WaitCondition,
        timeout: f64,
        expect: &Expect,
        how: &ComparisonOptions,
    ) -> Check<Vec<String>> {
        let background = self.waiting.get(name).context(format!("{name} was never started"))?;
        let limit = seconds(timeout);
        match until {
            WaitCondition::Pending => {
                background.wait(seconds(0.4), |progress| progress.done || !progress.response.body.is_empty());
                let progress = background.progress();
                if progress.done {
                    fail!(
                        "the request ended ({}, {:?}), should wait still",
                        progress.response.status,
                        progress.response.text()
                    );
                }
                if let Some(event) = progress.events().first() {
                    fail!("an event came, none was expected: {}", event.write_go());
                }
            }
            WaitCondition::Events { count, quiet, .. } => {
                background.wait(limit, |progress| progress.done || progress.events().len() >= count);
                background.wait(seconds(quiet), |progress| progress.done || progress.events().len() > count);
                let progress = background.progress();
                if progress.done {
                    fail!("the stream ended after {} events ({:?})", progress.events().len(), progress.error);
                }
            }
            WaitCondition::Done => {
                if !background.wait(limit, |progress| progress.done) {
                    let head = if background.progress().head { "" } else { ", not even headers" };
                    fail!("the waiting request got no complete answer within {timeout} s{head}");
                }
            }
        }
        let (response, last_piece) = {
            let progress = background.progress();
            if let (Some(error), 0) = (&progress.error, progress.response.status) {
                fail!("the waiting request failed: {error}");
            }
            (progress.response.clone(), progress.last_piece)
        };
        self.context.sent = background.sent;
        self.context.answered = last_piece.unwrap_or_else(clock::now);
        self.context.waited = true;
        let at_least = matches!(until, WaitCondition::Events { at_least: true, .. });
        // Its X-Raft-Index is that of its start, which does not follow the order of answers.
        self.check(expect, how, &response, None, at_least)
    }

    fn keep(
        &mut self,
        save: &[(String, ValueSource)],
        save_json: Option<&str>,
        response: &Response,
    ) -> Check {
        let parse = || Json::parse(&response.text()).context("a body that is no JSON");
        for (name, place) in save {
            let value = match place {
                ValueSource::Header(header) => response.header(header).map(Json::Text),
                ValueSource::Body(path) => parse()?.at(path).cloned(),
            };
            let value = match value {
                Some(Json::Integer(number)) => Value::Number(number),
                Some(Json::Text(text)) => text.parse().map_or(Value::Text(text), |number| match place {
                    ValueSource::Header(_) => Value::Number(number),
                    ValueSource::Body(_) => Value::Text(number.to_string()),
                }),
                other => fail!(
                    "cannot save {name}: {place:?} is {other:?} in {}, {}",
                    response.status,
                    response.text()
                ),
            };
            self.context.set(name.clone(), value);
        }
        if let Some(name) = save_json {
            self.saved.insert(name.to_owned(), parse()?);
        }
        Ok(())
    }

    /// `server` is the server that answered, if the X-Raft-Index is the present one.
    fn check(
        &mut self,
        expect: &Expect,
        how: &ComparisonOptions,
        response: &Response,
        server: Option<usize>,
        at_least: bool,
    ) -> Check<Vec<String>> {
        let before = how.delta_of.as_ref().and_then(|name| self.saved.get(name));
        let mut found = differences(expect, how, response, &self.context, before, at_least)?;
        if let (Some(server), Some(index)) = (server, response.number("X-Raft-Index")) {
            let highest = self.raft_index.entry(server).or_insert(0);
            if index < *highest {
                found.push(format!("header X-Raft-Index: went back from {highest} to {index}"));
            }
            *highest = index;
        }
        Ok(found)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}
