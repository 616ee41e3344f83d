//! Writers that remember what was acknowledged, and the comparison of that with what a server holds.
//!
//! Each writer has keys of its own and one request under way at a time, so that for each key the truth after
//! a crash is known: what was acknowledged last, or else the one write whose answer never came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::http::{Connection, PATIENCE, Request};
use crate::json::Json;
use crate::{Check, Context, Failure, fail};

/// Pseudo-random numbers from a seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins the series of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }
}

/// What a key may hold: a value, or nothing.
pub type KeyContent = Option<String>;

/// The known state of one key.
#[derive(Debug, Clone, Default)]
pub struct KeyState {
    /// The last acknowledged value, with the index of that write.
    pub acknowledged: Option<(KeyContent, u64)>,
    /// A later write whose answer never came.
    pub in_doubt: Option<KeyContent>,
}

/// The known state of all keys of a writer.
pub type WriterKeys = BTreeMap<String, KeyState>;

/// How much was acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteCount {
    /// Writes.
    pub count: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

impl std::ops::AddAssign for WriteCount {
    fn add_assign(&mut self, other: WriteCount) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// How the writers write.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Writers, each with a connection of its own.
    pub threads: usize,
    /// Keys of each.
    pub keys: u64,
    /// Values have fewer bytes than this.
    pub value_bytes: u64,
    /// The number of the first of them; writers of different numbers have different keys.
    pub first: usize,
}

/// Writers at work.
pub struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<(WriterKeys, WriteCount)>>,
}

impl Writers {
    /// Starts writers that go on until they are stopped or the server is gone. `ledgers` is what each knows
    /// from before; there are as many as `load` has threads, or none.
    pub fn start(port: u16, load: Load, seed: u64, mut ledgers: Vec<WriterKeys>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        ledgers.resize(load.threads, WriterKeys::new());
        let threads = ledgers
            .into_iter()
            .enumerate()
            .map(|(at, ledger)| {
                let number = load.first + at;
                let stop = stop.clone();
                thread::spawn(move || {
                    let random = Random::new(seed.wrapping_mul(1000).wrapping_add(number as u64));
                    let mut writer = Writer { number, load, random, ledger, written: WriteCount::default() };
                    // It ends with the server, and that is what the tests are about.
                    let _ = writer.work(port, &stop);
                    (writer.ledger, writer.written)
                })
            })
            .collect();
        Writers { stop, threads }
    }

    /// Stops the writers after their current writes; returns what each knows, and the total of acknowledged writes.
    ///
    /// # Errors
    /// When a writer panicked.
    pub fn stop(self) -> Check<(Vec<WriterKeys>, WriteCount)> {
        self.stop.store(true, Ordering::SeqCst);
        let mut ledgers = Vec::new();
        let mut written = WriteCount::default();
        for thread in self.threads {
            let (ledger, count) = thread.join().map_err(|_| Failure::new("a writer panicked"))?;
            ledgers.push(ledger);
            written += count;
        }
        Ok((ledgers, written))
    }
}

struct Writer {
    number: usize,
    load: Load,
    random: Random,
    ledger: WriterKeys,
    written: WriteCount,
}

impl Writer {
    fn work(&mut self, port: u16, stop: &AtomicBool) -> Check {
        let host = format!("127.0.0.1:{port}");
        let mut connection = Connection::open(port, PATIENCE)?;
        while !stop.load(Ordering::SeqCst) {
            let key = format!("/load/{}/{}", self.number, self.random.below(self.load.keys));
            let known = self.ledger.entry(key.clone()).or_default();
            let holds = known.acknowledged.as_ref().is_some_and(|(content, _)| content.is_some());
            let (content, request) = if holds && self.random.below(10) == 0 {
                (None, Request::new("DELETE", format!("/v2/keys{key}")))
            } else {
                let mark = format!("{}.{:x}.", self.written.count, self.random.number());
                let length = usize::try_from(self.random.below(self.load.value_bytes)).unwrap_or(0);
                let value = mark.clone() + &mark.repeat(length / mark.len());
                let request = Request::new("PUT", format!("/v2/keys{key}")).form(&[("value", &value)]);
                (Some(value), request)
            };
            known.in_doubt = Some(content.clone());
            let response = connection.call(&request, &host)?;
            let body = Json::parse(&response.text())?;
            if !matches!(response.status, 200 | 201) {
                // A refusal means that nothing was written, except after a timeout: then it may have been.
                if response.status != 500 && response.status != 503 {
                    known.in_doubt = None;
                }
                fail!("{} {key} answered {}: {}", request.method, response.status, response.text());
            }
            let Some(Json::Integer(index)) = body.at("node.modifiedIndex") else {
                fail!("{key}: no modifiedIndex in {}", response.text());
            };
            self.written +=
                WriteCount { count: 1, bytes: content.as_ref().map_or(0, |value| value.len() as u64) };
            known.acknowledged = Some((content, u64::try_from(*index).unwrap_or(0)));
            known.in_doubt = None;
        }
        Ok(())
    }
}

/// Compares the keys of a server with the known ones, and sets writes in doubt to what the server has.
///
/// # Errors
/// Names each key that holds something else; and an index that is below an acknowledged one.
pub fn settle(port: u16, ledgers: &mut [WriterKeys]) -> Check {
    let host = format!("127.0.0.1:{port}");
    let mut connection = Connection::open(port, Duration::from_secs(30))?;
    let mut wrong = Vec::new();
    for (key, known) in ledgers.iter_mut().flatten() {
        let response = connection.call(&Request::new("GET", format!("/v2/keys{key}")), &host)?;
        let index = response.number("X-Etcd-Index").context("no X-Etcd-Index")?;
        let body = Json::parse(&response.text())?;
        let content = match response.status {
            200 => body.at("node.value").and_then(Json::text).map(str::to_owned),
            404 => None,
            status => fail!("GET {key} answered {status}"),
        };
        let modified = match body.at("node.modifiedIndex") {
            Some(Json::Integer(modified)) => u64::try_from(*modified).unwrap_or(0),
            _ => index,
        };
        let acknowledged = known.acknowledged.clone();
        let fits = match &acknowledged {
            Some((wanted, at)) => content == *wanted && (content.is_none() || modified == *at),
            None => content.is_none(),
        };
        let was_in_doubt = known.in_doubt.take().is_some_and(|maybe| maybe == content);
        if let Some((_, at)) = &acknowledged
            && index < *at
        {
            wrong.push(format!("{key}: the server is at index {index}, acknowledged was {at}"));
        }
        if !fits && !was_in_doubt {
            let cut =
                |content: &KeyContent| content.as_ref().map(|text| text.chars().take(40).collect::<String>());
            wrong.push(format!(
                "{key}: holds {:?} (index {modified}), acknowledged was {:?}",
                cut(&content),
                acknowledged.as_ref().map(|(content, at)| (cut(content), at))
            ));
        }
        known.acknowledged = Some((content, modified));
    }
    if !wrong.is_empty() {
        wrong.truncate(20);
        fail!("acknowledged writes are gone:\n{}", wrong.join("\n"));
    }
    Ok(())
}
