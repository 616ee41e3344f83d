//! Slow requests: a log line for each shows where its time went, up to a limit.
//!
//! Time is an argument. Times are recorded once for a batch of the log; for a request only its arrival and its
//! proposal.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use shared::id::MemberId;
use shared::v2::{self, Verb};
use shared::v3::internal::{InternalRequest, Operation};

use crate::command::Command;
use crate::member::{BatchId, Member, Progress, Role};
use crate::reads::ReadRequest;
use crate::time::Moment;

/// Lines in a [`WINDOW`]; further requests are only counted.
const LINES_MAX: u32 = 5;

/// The time for which [`LINES_MAX`] applies.
const WINDOW: Duration = Duration::from_secs(5);

/// Batches that are kept; the oldest is dropped first. More are in progress only where no request is answered
/// any more.
const BATCHES_MAX: usize = 1024;

/// The longest key in a line, in characters.
const PATH_CHARS_MAX: usize = 200;

/// Method and key of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Label {
    method: &'static str,
    path: Bytes,
}

impl Label {
    /// The method, as in the log.
    pub fn method(&self) -> &'static str {
        self.method
    }

    /// The key as clients see it, shortened if it is long.
    pub fn key(&self) -> impl fmt::Display + '_ {
        Key(&self.path)
    }

    /// A change of the members.
    pub(crate) fn members() -> Label {
        Label { method: Verb::Post.name(), path: Bytes::from_static(b"/0/members") }
    }

    /// The label of a command.
    pub(crate) fn of(command: &Command) -> Label {
        match command {
            Command::Nothing => Label::default(),
            Command::V2(request) => Label::of_request(request),
            Command::V3(request) => Label::of_v3(request),
        }
    }

    /// The label of a v2 request.
    pub(crate) fn of_request(request: &v2::Request) -> Label {
        Label { method: request.verb.name(), path: request.path.clone() }
    }

    /// The label of a v3 request: its kind, and the key if it has one.
    fn of_v3(request: &InternalRequest) -> Label {
        let path = match &request.operation {
            Operation::Range(range) => range.key.clone(),
            Operation::Put(put) => put.key.clone(),
            Operation::DeleteRange(delete) => delete.key.clone(),
            _ => Bytes::new(),
        };
        Label { method: request.operation.name(), path }
    }
}

/// Where the time of a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stages {
    /// From its arrival to its proposal.
    pub queue: Duration,
    /// Until it was durable in this member's log; zero if a majority of the others had it first.
    pub disk: Duration,
    /// Until this member knew that a majority had it.
    pub peers: Duration,
    /// Until it was applied.
    pub apply: Duration,
}

impl Stages {
    /// The total time.
    pub fn sum(self) -> Duration {
        self.queue + self.disk + self.peers + self.apply
    }
}

/// When a request arrived and was proposed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) arrived: Moment,
    pub(crate) proposed: Moment,
}

/// A batch for the log.
#[derive(Debug)]
struct LoggedBatch {
    id: BatchId,
    last_index: u64,
    handed: Moment,
    durable: Option<Moment>,
}

/// A log line about slow requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlowLine {
    /// A slow request.
    Request {
        /// Method and key.
        label: Label,
        /// Where its time went.
        stages: Stages,
        /// Whether it was answered.
        answered: bool,
        /// What delays it outside this member, if that is known; else empty.
        obstacle: String,
    },
    /// A summary of the requests without a line of their own.
    More {
        /// Their number.
        count: u64,
        /// The time of the slowest.
        longest: Duration,
    },
}

/// Finds slow requests and makes their log lines.
#[derive(Debug)]
pub(crate) struct Slow {
    /// The time from which a request is slow; `None` if the reports are off.
    threshold: Option<Duration>,
    /// Batches with entries that are not applied yet, in order.
    batches: VecDeque<LoggedBatch>,
    window_ends: Option<Moment>,
    lines_in_window: u32,
    suppressed: u64,
    longest: Duration,
    obstacle: String,
    /// Lines for [`Slow::take_lines`].
    pending_lines: Vec<SlowLine>,
}

impl Slow {
    /// A threshold of zero turns the reports off.
    pub(crate) fn new(threshold: Duration) -> Slow {
        Slow {
            threshold: Some(threshold).filter(|threshold| !threshold.is_zero()),
            batches: VecDeque::new(),
            window_ends: None,
            lines_in_window: 0,
            suppressed: 0,
            longest: Duration::ZERO,
            obstacle: String::new(),
            pending_lines: Vec::new(),
        }
    }

    /// The lines since the last time.
    pub(crate) fn take_lines(&mut self) -> std::vec::Drain<'_, SlowLine> {
        self.pending_lines.drain(..)
    }

    /// Sets what delays commits now, for requests that get no answer; empty if unknown.
    pub(crate) fn set_obstacle(&mut self, obstacle: String) {
        self.obstacle = obstacle;
    }

    /// The time from which a request is slow; `None` if the reports are off.
    pub(crate) fn threshold(&self) -> Option<Duration> {
        self.threshold
    }

    /// A batch whose last entry has this index was handed to the log.
    pub(crate) fn handed(&mut self, id: BatchId, last_index: Option<u64>, now: Moment) {
        let Some(last_index) = last_index.filter(|_| self.threshold.is_some()) else { return };
        if self.batches.len() == BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(LoggedBatch { id, last_index, handed: now, durable: None });
    }

    /// This batch and all earlier ones are durable since `at`.
    pub(crate) fn durable(&mut self, id: BatchId, at: Moment) {
        for batch in self.batches.iter_mut().take_while(|batch| batch.id <= id) {
            batch.durable.get_or_insert(at);
        }
    }

    /// Everything up to this index is applied, and reported.
    pub(crate) fn applied(&mut self, index: u64) {
        while self.batches.front().is_some_and(|batch| batch.last_index <= index) {
            self.batches.pop_front();
        }
    }

    /// The stages of a write that was committed with entries up to `index`, and applied at `done`.
    pub(crate) fn stages(&self, times: Times, index: u64, committed: Moment, done: Moment) -> Stages {
        // Batches that were handed over before the proposal do not contain it.
        let mut batches = self.batches.iter().filter(|batch| batch.handed >= times.proposed);
        let first = batches.next();
        let rest = batches.take_while(|batch| batch.last_index <= index);
        let (mut disk, mut free) = (Duration::ZERO, times.proposed);
        for batch in first.into_iter().chain(rest) {
            // A batch that was not durable yet was not needed: a majority of the others was faster than this
            // disk.
            let Some(durable) = batch.durable.filter(|at| *at <= committed) else {
                disk = Duration::ZERO;
                break;
            };
            // The disk is idle between two batches.
            disk += durable - batch.handed.max(free);
            free = free.max(durable);
        }
        Self::of_times(times, disk, committed, done)
    }

    /// The stages so far of a write without an answer. Only the batch that contains its entry counts: later
    /// entries say nothing about it.
    pub(crate) fn stages_so_far(&self, times: Times, now: Moment) -> Stages {
        let own = self.batches.iter().find(|batch| batch.handed >= times.proposed);
        let disk = own.map_or(Duration::ZERO, |batch| batch.durable.unwrap_or(now) - batch.handed);
        Self::of_times(times, disk, now, now)
    }

    fn of_times(times: Times, disk: Duration, committed: Moment, done: Moment) -> Stages {
        Stages {
            queue: times.proposed - times.arrived,
            disk,
            peers: (committed - times.proposed).saturating_sub(disk),
            apply: done - committed,
        }
    }

    /// Adds a line for a request, if it is slow and the limit is not reached.
    pub(crate) fn report(&mut self, label: &Label, stages: Stages, answered: bool, now: Moment) {
        let line = self.line(label, stages, answered, now);
        self.pending_lines.extend(line);
    }

    /// Adds a line for a read, likewise.
    pub(crate) fn report_read(&mut self, request: &ReadRequest, stages: Stages, answered: bool, now: Moment) {
        if self.threshold.is_some_and(|threshold| stages.sum() >= threshold) {
            let label = match request {
                ReadRequest::V2(request) => Label::of_request(request),
                ReadRequest::Point => Label { method: "range", path: Bytes::new() },
            };
            self.report(&label, stages, answered, now);
        }
    }

    /// Adds the summary line when it is due. Must be called regularly.
    pub(crate) fn tick(&mut self, now: Moment) {
        let line = self.summary(now);
        self.pending_lines.extend(line);
    }

    fn line(&mut self, label: &Label, stages: Stages, answered: bool, now: Moment) -> Option<SlowLine> {
        if stages.sum() < self.threshold? {
            return None;
        }
        if self.window_ends.is_none_or(|ends| ends <= now) && self.suppressed == 0 {
            self.window_ends = Some(now + WINDOW);
            self.lines_in_window = 0;
        }
        if self.lines_in_window == LINES_MAX {
            self.suppressed += 1;
            self.longest = self.longest.max(stages.sum());
            return None;
        }
        self.lines_in_window += 1;
        let others_are_late = !answered && stages.disk + stages.apply < stages.sum() / 2;
        let obstacle = if others_are_late { self.obstacle.clone() } else { String::new() };
        Some(SlowLine::Request { label: label.clone(), stages, answered, obstacle })
    }

    fn summary(&mut self, now: Moment) -> Option<SlowLine> {
        if self.suppressed == 0 || self.window_ends.is_some_and(|ends| now < ends) {
            return None;
        }
        let line = SlowLine::More { count: self.suppressed, longest: self.longest };
        (self.suppressed, self.longest, self.window_ends) = (0, Duration::ZERO, None);
        Some(line)
    }
}

impl fmt::Display for SlowLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SlowLine::Request { label, stages, answered, obstacle } => {
                let took = if *answered { "took" } else { "has no answer after" };
                write!(
                    f,
                    "slow request: {} {} {took} {:.1}ms (queue {:.1}ms, disk {:.1}ms, peers {:.1}ms, apply {:.1}ms)",
                    label.method(),
                    label.key(),
                    millis(stages.sum()),
                    millis(stages.queue),
                    millis(stages.disk),
                    millis(stages.peers),
                    millis(stages.apply)
                )?;
                if obstacle.is_empty() { Ok(()) } else { write!(f, ": {obstacle}") }
            }
            SlowLine::More { count, longest } => {
                write!(f, "{count} more slow requests, the slowest took {:.1}ms", millis(*longest))
            }
        }
    }
}

/// What delays commits now; empty if unknown.
pub(crate) fn obstacle(member: &Member, progress: &[Progress]) -> String {
    let (status, members) = (member.status(), &member.membership().members);
    let label = |id: MemberId| match members.get(&id) {
        Some(peer) if !peer.name.is_empty() => format!("{id} ({})", peer.name),
        Some(peer) => format!("{id} ({}, never started)", peer.peer_urls.join(",")),
        None => id.to_string(),
    };
    match status.role {
        Role::Leader => {
            let last = member.log_end().last_index;
            let late = progress.iter().filter(|peer| peer.id != status.id && peer.matched < last);
            let late: Vec<String> = late.map(|peer| label(peer.id)).collect();
            if late.is_empty() { String::new() } else { format!("waiting for {}", late.join(", ")) }
        }
        _ if status.leader.0 != 0 => format!("waiting for the leader {}", label(status.leader)),
        _ => format!(
            "no leader: {} of the {} members must reach each other",
            members.len() / 2 + 1,
            members.len()
        ),
    }
}

/// Milliseconds, rounded to a microsecond.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A path of the store as clients see it.
struct Key<'a>(&'a [u8]);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.0.strip_prefix(b"/1").unwrap_or(self.0);
        let text = String::from_utf8_lossy(if key.is_empty() { b"/" } else { key });
        match text.char_indices().nth(PATH_CHARS_MAX) {
            Some((end, _)) => write!(f, "{}…", &text[..end]),
            None => f.write_str(&text),
        }
    }
}

#[cfg(test)]
mod tests;
