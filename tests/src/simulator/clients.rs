//! Clients: each sends one request after the other, and records the answers.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use shared::error::Code;
use shared::time::UnixNanos;
use shared::v2;

use super::history::{self, KeyCall, KeyOutcome, OPERATIONS_MAX, Operation, Value, Verdict};
use super::oracle::Violation;
use super::process::{Answer, Ticket};

/// The operations on a key after which clients use a new key instead.
const CALLS_PER_KEY: usize = OPERATIONS_MAX - 12;
/// The writes without an answer after which they do so: each of them may have happened at any time.
const UNANSWERED_PER_KEY: usize = 10;

/// A client's request: a write or a quorum read.
pub(super) struct Request(pub(super) v2::Request);

/// An operation at the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FinalCall {
    Read,
    Write,
}

/// One of the keys that clients share.
#[derive(Debug, Default)]
struct Key {
    operations: Vec<Operation>,
    unanswered: usize,
    /// Values that a client has seen, with their indexes, newest last.
    seen: VecDeque<(Value, u64)>,
}

#[derive(Debug, Default)]
struct Client {
    /// The number of its last request.
    number: u64,
    /// The pending request: a key and the operation, or a request that is not checked by key.
    pending: Option<Option<(usize, usize)>>,
}

/// All clients, and the histories of their keys.
pub(super) struct Clients {
    list: Vec<Client>,
    keys: Vec<Key>,
    /// The keys in use.
    current: Vec<usize>,
    next_value: Value,
    /// The index at which each value was written, as first seen.
    written_at: BTreeMap<Value, u64>,
    /// The operations at the end: one write, then a read of each key.
    final_calls: Option<VecDeque<(usize, FinalCall)>>,
    acknowledged: u64,
}

impl Clients {
    pub(super) fn new(clients: usize, keys: usize) -> Clients {
        Clients {
            list: (0..clients).map(|_| Client::default()).collect(),
            keys: (0..keys).map(|_| Key::default()).collect(),
            current: (0..keys).collect(),
            next_value: 1,
            written_at: BTreeMap::new(),
            final_calls: None,
            acknowledged: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The number of answered operations.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// The number of operations on shared keys.
    pub(super) fn operations(&self) -> usize {
        self.keys.iter().map(|key| key.operations.len()).sum()
    }

    /// Whether the client waits for this answer.
    pub(super) fn waits_for(&self, ticket: Ticket) -> bool {
        let client = &self.list[ticket.0];
        client.pending.is_some() && client.number == ticket.1
    }

    /// Begins the end: a last write, then a quorum read of every key.
    pub(super) fn finish(&mut self) {
        let reads = (0..self.keys.len()).map(|key| (key, FinalCall::Read));
        self.final_calls = Some(std::iter::once((self.current[0], FinalCall::Write)).chain(reads).collect());
    }

    /// Whether the operations at the end are done.
    pub(super) fn is_finished(&self) -> bool {
        self.final_calls.as_ref().is_some_and(VecDeque::is_empty)
            && self.list.iter().all(|client| client.pending.is_none())
    }

    /// The next request of a client, which then waits for the answer. `None` if it has no more.
    pub(super) fn call(
        &mut self,
        client: usize,
        event: u64,
        clock: UnixNanos,
        rng: &mut StdRng,
    ) -> Option<(Ticket, Request, String)> {
        let ticket = (client, self.list[client].number + 1);
        let (request, text, pending) = match &mut self.final_calls {
            Some(keys) => {
                let (key, last) = keys.pop_front()?;
                let call = match last {
                    FinalCall::Read => KeyCall::Read,
                    FinalCall::Write => KeyCall::Put(self.fresh()),
                };
                let (request, text, at) = self.call_key(client, key, call, event, rng);
                (request, text, Some(at))
            }
            None if rng.random_bool(0.2) => {
                let (request, text) = self.unchecked_request(clock, rng);
                (Request(request), text, None)
            }
            None => {
                let slot = rng.random_range(0..self.current.len());
                let key = self.usable(slot);
                let call = self.choose(key, rng);
                let (request, text, at) = self.call_key(client, key, call, event, rng);
                (request, text, Some(at))
            }
        };
        self.list[client].number = ticket.1;
        self.list[client].pending = Some(pending);
        Some((ticket, request, text))
    }

    /// The key in use at `slot`; a new key if the old one has enough operations.
    fn usable(&mut self, slot: usize) -> usize {
        let key = &self.keys[self.current[slot]];
        if key.operations.len() >= CALLS_PER_KEY || key.unanswered >= UNANSWERED_PER_KEY {
            self.current[slot] = self.keys.len();
            self.keys.push(Key::default());
        }
        self.current[slot]
    }

    fn fresh(&mut self) -> Value {
        self.next_value += 1;
        self.next_value
    }

    fn choose(&mut self, key: usize, rng: &mut StdRng) -> KeyCall {
        let known = self.keys[key].seen.back().map(|(value, _)| *value);
        let mut fresh = || self.fresh();
        match (rng.random_range(0..100), known) {
            (0..35, _) => KeyCall::Read,
            (35..60, _) => KeyCall::Put(fresh()),
            (60..82, Some(known)) => KeyCall::Swap(known, fresh()),
            (82..88, _) => KeyCall::Create(fresh()),
            (88..92, _) => KeyCall::Update(fresh()),
            (92..96, Some(known)) => KeyCall::DeleteIf(known),
            (96..100, _) => KeyCall::Delete,
            _ => KeyCall::Put(fresh()),
        }
    }

    fn call_key(
        &mut self,
        client: usize,
        at: usize,
        call: KeyCall,
        event: u64,
        rng: &mut StdRng,
    ) -> (Request, String, (usize, usize)) {
        let key = &mut self.keys[at];
        let path = Bytes::from(format!("/1/k{at}"));
        let mut request = v2::Request { verb: v2::Verb::Put, path: path.clone(), ..v2::Request::default() };
        let value = |value: Value| Bytes::from(format!("v{value}"));
        // The condition is the value or its index.
        let expect = |request: &mut v2::Request, wanted: Value, by_index: bool| match key
            .seen
            .iter()
            .find(|(seen, _)| *seen == wanted)
        {
            Some((_, index)) if by_index => request.prev_index = *index,
            _ => request.prev_value = value(wanted),
        };
        let by_index = rng.random_bool(0.5);
        match call {
            KeyCall::Read => request.verb = v2::Verb::QuorumGet,
            KeyCall::Put(new) => request.val = value(new),
            KeyCall::Create(new) => (request.val, request.prev_exist) = (value(new), Some(false)),
            KeyCall::Update(new) => (request.val, request.prev_exist) = (value(new), Some(true)),
            KeyCall::Swap(old, new) => {
                request.val = value(new);
                expect(&mut request, old, by_index);
            }
            KeyCall::Delete => request.verb = v2::Verb::Delete,
            KeyCall::DeleteIf(old) => {
                request.verb = v2::Verb::Delete;
                expect(&mut request, old, by_index);
            }
        }
        let operation = Operation { client, call, called: event, returned: None };
        key.operations.push(operation);
        (Request(request), format!("{call:?} of k{at}"), (at, key.operations.len() - 1))
    }

    /// A request without a history: only the stores are compared.
    fn unchecked_request(&mut self, clock: UnixNanos, rng: &mut StdRng) -> (v2::Request, String) {
        self.next_value += 1;
        let mut request = v2::Request {
            verb: v2::Verb::Put,
            val: format!("v{}", self.next_value).into(),
            ..v2::Request::default()
        };
        let text = match rng.random_range(0..10) {
            0..5 => {
                let key = rng.random_range(0..4);
                request.path = format!("/1/ttl/t{key}").into();
                request.expiration = clock.0 + rng.random_range(200_000_000..5_000_000_000);
                format!("Put of t{key} for a while")
            }
            5 => {
                request.path = "/1/ttl".into();
                (request.dir, request.prev_exist) = (true, Some(true));
                request.val = Bytes::new();
                request.expiration = clock.0 + rng.random_range(200_000_000..5_000_000_000);
                "Update of the folder of such keys".to_owned()
            }
            6..9 => {
                request.verb = v2::Verb::Post;
                request.path = "/1/queue".into();
                "Post".to_owned()
            }
            _ => {
                request.verb = v2::Verb::Delete;
                request.path = "/1/queue".into();
                request.recursive = true;
                "Delete of the queue".to_owned()
            }
        };
        (request, text)
    }

    /// The request will never be answered.
    pub(super) fn unanswered(&mut self, ticket: Ticket) {
        if let Some(Some((key, at))) = self.list[ticket.0].pending.take() {
            let call = self.keys[key].operations[at].call;
            self.keys[key].unanswered += usize::from(call != KeyCall::Read);
            self.repeat_final_call(key, call);
        }
    }

    /// Repeats an operation of the end that was not answered.
    fn repeat_final_call(&mut self, key: usize, call: KeyCall) {
        if let Some(calls) = &mut self.final_calls {
            calls.push_back((key, if call == KeyCall::Read { FinalCall::Read } else { FinalCall::Write }));
        }
    }

    /// Handles an answer. Returns false if the client has stopped waiting for it.
    pub(super) fn answered(
        &mut self,
        ticket: Ticket,
        event: u64,
        answer: &Answer,
    ) -> Result<bool, Violation> {
        if !self.waits_for(ticket) {
            return Ok(false);
        }
        self.acknowledged += 1;
        if let Some(Some((key, at))) = self.list[ticket.0].pending.take() {
            self.note_indexes(key, answer)?;
            let operation = &mut self.keys[key].operations[at];
            let outcome = outcome(operation.call, answer)?;
            operation.returned = Some((event, outcome));
        }
        Ok(true)
    }

    /// Checks that a value has the same index in every answer.
    fn note_indexes(&mut self, key: usize, answer: &Answer) -> Result<(), Violation> {
        let Ok(event) = answer else { return Ok(()) };
        for node in [event.prev(), Some(event.node())].into_iter().flatten() {
            let Some(value) = node.value().and_then(number) else { continue };
            let index = node.modified_index();
            let first = *self.written_at.entry(value).or_insert(index);
            if first != index {
                return Err(Violation::new(format!("v{value} was written at index {first} and at {index}")));
            }
            let seen = &mut self.keys[key].seen;
            seen.retain(|(seen, _)| *seen != value);
            seen.push_back((value, index));
            if seen.len() > 4 {
                seen.pop_front();
            }
        }
        Ok(())
    }

    /// Whether the answers for each key are linearizable. Returns the number of keys for which that took too long.
    pub(super) fn check(&self) -> Result<u64, Violation> {
        let mut gave_up = 0;
        for (at, key) in self.keys.iter().enumerate() {
            match history::check(&key.operations) {
                Verdict::Linearizable => {}
                Verdict::GaveUp => gave_up += 1,
                Verdict::NotLinearizable(why) => {
                    return Err(Violation::new(format!("what clients saw of k{at} cannot be: {why}")));
                }
            }
        }
        Ok(gave_up)
    }
}

/// The outcome that an answer shows.
fn outcome(call: KeyCall, answer: &Answer) -> Result<KeyOutcome, Violation> {
    match answer {
        Ok(event) if call == KeyCall::Read => match event.node().value().and_then(number) {
            Some(value) => Ok(KeyOutcome::Found(value)),
            None => Err(Violation::new(format!("a read found what nobody wrote: {event:?}"))),
        },
        Ok(event) => Ok(KeyOutcome::Done(event.prev().and_then(|node| number(node.value()?)))),
        Err(error) => match error.code {
            Code::KeyNotFound => Ok(KeyOutcome::Missing),
            Code::NodeExist => Ok(KeyOutcome::Exists),
            Code::CompareFailed => {
                // "[v1 != v2]" or "[5 != 7]"
                let found =
                    error.cause.strip_suffix(b"]").and_then(|cause| cause.rsplit(|b| *b == b' ').next());
                Ok(KeyOutcome::Differs(found.and_then(number)))
            }
            _ => Err(Violation::new(format!("{call:?} was answered by {error}"))),
        },
    }
}

/// The number of a value `vN`.
fn number(value: &[u8]) -> Option<Value> {
    std::str::from_utf8(value).ok()?.strip_prefix('v')?.parse().ok()
}
