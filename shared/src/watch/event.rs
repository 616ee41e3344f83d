//! Changes of keys, and the lists of them that watchers share.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use smallvec::SmallVec;

use super::history::History;
use crate::v3::pb::mvccpb::event::EventType;
use crate::v3::pb::mvccpb::{self, KeyValue};

/// The field `events` of `WatchResponse`.
const EVENTS_FIELD: u32 = 11;

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was created or changed.
    Put,
    /// It was removed.
    Delete,
}

/// A change of a key. A clone shares the bytes of key and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new version; after a removal it has the key and the revision alone.
    pub kv: KeyValue,
}

impl Event {
    /// A key was created or changed.
    pub fn put(kv: KeyValue) -> Event {
        Event { kind: EventKind::Put, kv }
    }

    /// A key was removed at this revision.
    pub fn delete(key: Bytes, revision: i64) -> Event {
        Event { kind: EventKind::Delete, kv: KeyValue { key, mod_revision: revision, ..KeyValue::default() } }
    }

    /// The revision of the change.
    pub fn revision(&self) -> i64 {
        self.kv.mod_revision
    }

    /// Whether the key did not exist before.
    pub fn is_creation(&self) -> bool {
        self.kind == EventKind::Put && self.kv.version == 1
    }

    /// The message of the API, with the version before the change.
    pub fn to_pb(&self, prev_kv: Option<KeyValue>) -> mvccpb::Event {
        let kind = match self.kind {
            EventKind::Put => EventType::Put,
            EventKind::Delete => EventType::Delete,
        };
        mvccpb::Event { r#type: kind.into(), kv: Some(self.kv.clone()), prev_kv }
    }

    /// About the bytes of the event in a response, without the previous version.
    pub(super) fn size(&self) -> usize {
        const FIELDS: usize = 32;
        self.kv.key.len() + self.kv.value.len() + FIELDS
    }
}

/// Events of one response, shared by all watches that get the same ones.
#[derive(Debug)]
pub struct Events {
    list: SmallVec<[Event; 1]>,
    /// Whether each comes with the version before it.
    prev_kv: bool,
    size: usize,
    /// The field `events` with all of them, as soon as one watch needed it.
    encoded: OnceLock<Bytes>,
}

impl Events {
    pub(super) fn new(list: SmallVec<[Event; 1]>, prev_kv: bool) -> Events {
        let size: usize = list.iter().map(Event::size).sum();
        // The previous value is often as long as the new one.
        let size = if prev_kv { size * 2 } else { size };
        Events { list, prev_kv, size, encoded: OnceLock::new() }
    }

    /// The events, in their order. Never empty.
    pub fn list(&self) -> &[Event] {
        &self.list
    }

    /// About the bytes of the response.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    fn event_to_pb<H: History>(&self, event: &Event, history: &H) -> Result<mvccpb::Event, H::Error> {
        let wanted = self.prev_kv && !event.is_creation();
        let prev_kv = if wanted { history.prev_kv(event)? } else { None };
        Ok(event.to_pb(prev_kv))
    }

    /// The messages of the API.
    ///
    /// # Errors
    /// The history could not be read.
    pub fn to_pb<H: History>(&self, history: &H) -> Result<Vec<mvccpb::Event>, H::Error> {
        self.list.iter().map(|event| self.event_to_pb(event, history)).collect()
    }

    /// The field `events` of the response, encoded once for all watches that share it.
    ///
    /// # Errors
    /// The history could not be read.
    pub(super) fn encoded<H: History>(&self, history: &H) -> Result<Bytes, H::Error> {
        if let Some(encoded) = self.encoded.get() {
            return Ok(encoded.clone());
        }
        let events: SmallVec<[mvccpb::Event; 1]> =
            self.list.iter().map(|event| self.event_to_pb(event, history)).collect::<Result<_, _>>()?;
        let length = events.iter().map(|event| field_len(event.encoded_len())).sum();
        let mut bytes = BytesMut::with_capacity(length);
        for event in &events {
            prost::encoding::message::encode(EVENTS_FIELD, event, &mut bytes);
        }
        Ok(self.encoded.get_or_init(|| bytes.freeze()).clone())
    }
}

/// The bytes of a field `events` whose message has `length` bytes.
fn field_len(length: usize) -> usize {
    prost::encoding::key_len(EVENTS_FIELD) + prost::length_delimiter_len(length) + length
}

/// Splits an encoded list of fields `events` so that no part is longer than `max`, unless it is one event.
pub(super) fn split(mut encoded: Bytes, max: usize) -> Vec<Bytes> {
    let mut parts = Vec::new();
    while !encoded.is_empty() {
        let mut length = first_field(&encoded);
        while length < encoded.len() {
            let longer = length + first_field(&encoded[length..]);
            if longer > max {
                break;
            }
            length = longer;
        }
        parts.push(encoded.split_to(length));
    }
    parts
}

/// The length of the first field of our own encoding.
fn first_field(mut rest: &[u8]) -> usize {
    let all = rest.len();
    // Two varints that we wrote ourselves: the key of the field and the length of its message.
    let length = prost::encoding::decode_key(&mut rest)
        .ok()
        .and_then(|_| prost::encoding::decode_varint(&mut rest).ok())
        .and_then(|length| usize::try_from(length).ok());
    length.map_or(all, |length| (all - rest.len() + length).min(all))
}
