//! Reads profiles in pprof's format, by declarations of its own: those of the server are under test.

use std::io::Read;

use flate2::read::GzDecoder;
use prost::Message;

use crate::{Check, Context, fail};

/// The parts of a profile that tests use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Kind and unit of each value, such as `cpu/nanoseconds`.
    pub kinds: Vec<String>,
    /// Stacks of function names, the innermost first, with their values.
    pub samples: Vec<(Vec<String>, Vec<i64>)>,
    /// What lies between two samples.
    pub period: i64,
    /// How long it took.
    pub duration_nanos: i64,
}

// Numbers of fields as in proto/profile.proto of github.com/google/pprof.

#[derive(Clone, PartialEq, Message)]
struct Raw {
    #[prost(message, repeated, tag = "1")]
    kinds: Vec<Kind>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    locations: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    functions: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    texts: Vec<String>,
    #[prost(int64, tag = "10")]
    duration_nanos: i64,
    #[prost(int64, tag = "12")]
    period: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(int64, tag = "1")]
    name: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    locations: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    values: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    lines: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    /// Reads a profile as the server sends it.
    ///
    /// # Errors
    /// When it is not packed, no such message, or names what it does not hold.
    pub fn read(bytes: &[u8]) -> Check<Profile> {
        let mut plain = Vec::new();
        GzDecoder::new(bytes).read_to_end(&mut plain).context("unpack a profile")?;
        let raw = Raw::decode(&plain[..]).map_err(|why| crate::Failure::new(format!("a profile: {why}")))?;
        if raw.texts.first().is_none_or(|first| !first.is_empty()) {
            fail!("the first text of a profile is not empty: {:?}", raw.texts.first());
        }
        let text = |at: i64| {
            let at = usize::try_from(at).ok();
            at.and_then(|at| raw.texts.get(at)).cloned().context(format!("no text {at:?}"))
        };
        let mut kinds = Vec::new();
        for kind in &raw.kinds {
            kinds.push(format!("{}/{}", text(kind.name)?, text(kind.unit)?));
        }
        let mut samples = Vec::new();
        for sample in &raw.samples {
            if sample.values.len() != kinds.len() {
                fail!("a sample has {} values of {} kinds", sample.values.len(), kinds.len());
            }
            let mut stack = Vec::new();
            for id in &sample.locations {
                let location = raw.locations.iter().find(|location| location.id == *id);
                for line in &location.context(format!("no location {id}"))?.lines {
                    let function = raw.functions.iter().find(|function| function.id == line.function);
                    stack.push(text(function.context(format!("no function {}", line.function))?.name)?);
                }
            }
            samples.push((stack, sample.values.clone()));
        }
        Ok(Profile { kinds, samples, period: raw.period, duration_nanos: raw.duration_nanos })
    }

    /// Whether a function whose name begins so is on any stack.
    pub fn has(&self, begin: &str) -> bool {
        self.samples.iter().any(|(stack, _)| stack.iter().any(|name| name.starts_with(begin)))
    }

    /// The sum of one kind of values.
    pub fn sum(&self, kind: &str) -> i64 {
        let at = self.kinds.iter().position(|known| known == kind);
        self.samples.iter().filter_map(|(_, values)| values.get(at?)).sum()
    }
}
