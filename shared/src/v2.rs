//! Requests of the v2 API to the replicated store.
//!
//! [`pb::Request`] is the form in the log, where a verb is a word of any bytes. It is converted to a [`Request`]
//! once, where bytes are decoded; after that a verb is one of five.

use bytes::{BufMut, Bytes};
use prost::encoding;

use crate::pb;
use crate::store::clean_path;

/// The verb of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verb {
    /// `POST`: makes a node with a name of its own in a directory.
    Post,
    /// `PUT`: sets, creates, updates, or swaps if it compares.
    Put,
    /// `DELETE`: removes, if it compares only what fits.
    Delete,
    /// `QGET`: a quorum read that went through the log.
    #[default]
    QuorumGet,
    /// `SYNC`: removes expired keys.
    Sync,
}

impl Verb {
    const ALL: [Verb; 5] = [Verb::Post, Verb::Put, Verb::Delete, Verb::QuorumGet, Verb::Sync];

    /// Its word in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Delete => "DELETE",
            Verb::QuorumGet => "QGET",
            Verb::Sync => "SYNC",
        }
    }

    fn word(self) -> Bytes {
        Bytes::from_static(self.name().as_bytes())
    }

    /// The verb that a word of the log stands for.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.name().as_bytes() == name)
    }

    /// Whether it can change what clients see.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Verb::Post | Verb::Put | Verb::Delete)
    }
}

/// A request to the store; the fields are those of [`pb::Request`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// Identifies the waiting client; unique for each member and run.
    pub id: u64,
    /// What it does.
    pub verb: Verb,
    /// Path in the store: `/1` and the client's key, or `/0/…` (cluster), or `/2/…` (auth).
    pub path: Bytes,
    /// The value to set.
    pub val: Bytes,
    /// Whether the path is or becomes a directory.
    pub dir: bool,
    /// The value that a compare wants, empty for none.
    pub prev_value: Bytes,
    /// The modified index that a compare wants, 0 for none.
    pub prev_index: u64,
    /// Whether the key must, or must not, exist.
    pub prev_exist: Option<bool>,
    /// When the key expires: Unix nanoseconds, 0 for never.
    pub expiration: i64,
    /// Of a watch. Of a quorum read it is kept in the log, and means nothing.
    pub wait: bool,
    /// Of a watch, likewise.
    pub since: u64,
    /// Of a read or a delete: with everything below.
    pub recursive: bool,
    /// Of a read: children in the order of their names.
    pub sorted: bool,
    /// Of a read: through the log.
    pub quorum: bool,
    /// Of [`Verb::Sync`]: the leader's clock, Unix nanoseconds.
    pub time: i64,
    /// Of a watch, likewise.
    pub stream: bool,
    /// Keep the value and move the expiration only (2.3).
    pub refresh: Option<bool>,
}

/// The level, below the root of the clients' keys, of a node that is `more` levels below `path`, if greater than
/// `max`. The path has the store's prefix, which does not count as a level.
#[must_use]
pub fn levels_beyond(path: &[u8], more: usize, max: usize) -> Option<usize> {
    // A path that is not clean has fewer levels than slashes.
    if memchr::memchr_iter(b'/', path).count() + more <= max {
        return None;
    }
    let levels = memchr::memchr_iter(b'/', &clean_path(path)).count().saturating_sub(1) + more;
    (levels > max).then_some(levels)
}

/// An unknown verb, which no server writes to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a request with the method {:?}", .0.escape_ascii().to_string())]
pub struct UnknownVerb(pub Bytes);

impl Request {
    /// A request with only a verb and a path.
    pub fn new(verb: Verb, path: impl Into<Bytes>) -> Request {
        Request { verb, path: path.into(), ..Request::default() }
    }

    /// Whether it compares the value or the index of the node.
    #[must_use]
    pub fn compares(&self) -> bool {
        self.prev_index > 0 || !self.prev_value.is_empty()
    }

    /// Whether it may create a node. Not if it requires an existing node.
    #[must_use]
    pub fn may_create(&self) -> bool {
        match (self.verb, self.prev_exist) {
            (Verb::Post, _) => true,
            (Verb::Put, Some(exists)) => !exists,
            (Verb::Put, None) => !self.compares(),
            _ => false,
        }
    }

    /// The level, below the root of the clients' keys, of the node that it would create, if greater than `max`.
    #[must_use]
    pub fn levels_beyond(&self, max: usize) -> Option<usize> {
        // The name that a POST creates is one more level.
        let more = usize::from(self.verb == Verb::Post);
        self.may_create().then(|| levels_beyond(&self.path, more, max)).flatten()
    }

    /// Appends its form in the log: the bytes of the [`pb::Request`] that says the same.
    pub fn encode(&self, out: &mut impl BufMut) {
        encoding::uint64::encode(1, &self.id, out);
        encoding::bytes::encode(2, &self.verb.word(), out);
        encoding::bytes::encode(3, &self.path, out);
        encoding::bytes::encode(4, &self.val, out);
        encoding::bool::encode(5, &self.dir, out);
        encoding::bytes::encode(6, &self.prev_value, out);
        encoding::uint64::encode(7, &self.prev_index, out);
        if let Some(prev_exist) = &self.prev_exist {
            encoding::bool::encode(8, prev_exist, out);
        }
        encoding::int64::encode(9, &self.expiration, out);
        encoding::bool::encode(10, &self.wait, out);
        encoding::uint64::encode(11, &self.since, out);
        encoding::bool::encode(12, &self.recursive, out);
        encoding::bool::encode(13, &self.sorted, out);
        encoding::bool::encode(14, &self.quorum, out);
        encoding::int64::encode(15, &self.time, out);
        encoding::bool::encode(16, &self.stream, out);
        if let Some(refresh) = &self.refresh {
            encoding::bool::encode(17, refresh, out);
        }
    }

    /// Its form in the log.
    #[must_use]
    pub fn encode_to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len_max());
        self.encode(&mut bytes);
        bytes
    }

    /// The most bytes that its form in the log takes.
    #[must_use]
    pub fn encoded_len_max(&self) -> usize {
        // Seventeen tags, the longest verb, and lengths and numbers at their longest.
        const REST: usize = 112;
        self.path.len() + self.val.len() + self.prev_value.len() + REST
    }
}

impl TryFrom<pb::Request> for Request {
    type Error = UnknownVerb;

    fn try_from(request: pb::Request) -> Result<Request, UnknownVerb> {
        let Some(verb) = Verb::of(&request.method) else { return Err(UnknownVerb(request.method)) };
        let pb::Request { id, path, val, dir, prev_value, prev_index, prev_exist, expiration, .. } = request;
        let pb::Request { wait, since, recursive, sorted, quorum, time, stream, refresh, .. } = request;
        Ok(Request {
            id,
            verb,
            path,
            val,
            dir,
            prev_value,
            prev_index,
            prev_exist,
            expiration,
            wait,
            since,
            recursive,
            sorted,
            quorum,
            time,
            stream,
            refresh,
        })
    }
}

impl From<Request> for pb::Request {
    fn from(request: Request) -> pb::Request {
        let Request { id, verb, path, val, dir, prev_value, prev_index, prev_exist, expiration, .. } =
            request;
        let Request { wait, since, recursive, sorted, quorum, time, stream, refresh, .. } = request;
        pb::Request {
            id,
            method: verb.word(),
            path,
            val,
            dir,
            prev_value,
            prev_index,
            prev_exist,
            expiration,
            wait,
            since,
            recursive,
            sorted,
            quorum,
            time,
            stream,
            refresh,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_request_and_its_form_in_the_log_say_the_same() {
        for verb in Verb::ALL {
            let plain = Request { id: 7, val: "v".into(), ..Request::new(verb, "/1/a") };
            let longest = Request {
                id: u64::MAX,
                prev_value: "w".into(),
                prev_index: u64::MAX,
                prev_exist: Some(false),
                expiration: -1,
                since: u64::MAX,
                time: -1,
                wait: true,
                stream: true,
                refresh: Some(true),
                ..plain.clone()
            };
            for request in [plain, longest, Request::default()] {
                let stored = pb::Request::from(request.clone());
                let bytes = request.encode_to_vec();
                assert_eq!(bytes, stored.encode_to_vec());
                assert!(bytes.len() <= request.encoded_len_max(), "{}", bytes.len());
                assert_eq!(Request::try_from(stored), Ok(request));
            }
        }
    }

    #[test]
    fn other_verbs_are_refused() {
        for method in ["", "put", "GET", "PUTT"] {
            let request = pb::Request { method: method.into(), ..pb::Request::default() };
            let error = Request::try_from(request).unwrap_err();
            assert_eq!(error.to_string(), format!("a request with the method {method:?}"));
        }
    }
}
