//! Responses, and their form on the wire.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use prost::Message as _;
use smallvec::{SmallVec, smallvec};

use super::NO_WATCH;
use super::event::{Events, split};
use super::history::History;
use crate::v3::pb::etcdserverpb::{ResponseHeader, WatchResponse};

/// A response to the requests of a stream.
#[derive(Debug, Clone)]
pub struct Response {
    /// The watch, or [`NO_WATCH`].
    pub watch_id: i64,
    /// The revision in the header, 0 for none.
    pub revision: i64,
    /// What it says.
    pub content: Content,
}

/// What a response says.
#[derive(Debug, Clone)]
pub enum Content {
    /// The watch exists from now on.
    Created,
    /// A watch was not created, for this reason.
    Refused(Box<str>),
    /// The watch ended.
    Canceled {
        /// If it needs history that is no longer there: the first revision that is. Else 0.
        compact_revision: i64,
        /// For the client, may be empty.
        reason: Box<str>,
    },
    /// The keys of the watch changed.
    Events {
        /// How.
        events: Arc<Events>,
        /// Whether a long response may be sent in parts.
        fragment: bool,
    },
    /// All events up to the revision were sent: of this watch, or of all watches of the stream for [`NO_WATCH`].
    Progress,
}

/// Who responds, for the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// The cluster.
    pub cluster_id: u64,
    /// The member.
    pub member_id: u64,
    /// Its term.
    pub raft_term: u64,
}

/// An encoded `WatchResponse`: one message of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// All fields but the events.
    head: SmallVec<[u8; 64]>,
    /// The events, shared with other watches.
    events: Bytes,
}

impl Message {
    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.head.len() + self.events.len()
    }

    /// Whether it has no bytes. A response always has a header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes it, without a length.
    pub fn write_to(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.head);
        buffer.put_slice(&self.events);
    }
}

impl Response {
    pub(super) fn new(watch_id: i64, revision: i64, content: Content) -> Response {
        Response { watch_id, revision, content }
    }

    pub(super) fn refused(revision: i64, reason: &str) -> Response {
        Response::new(NO_WATCH, revision, Content::Refused(reason.into()))
    }

    pub(super) fn canceled(watch_id: i64, revision: i64, reason: &str) -> Response {
        Response::new(watch_id, revision, Content::Canceled { compact_revision: 0, reason: reason.into() })
    }

    /// About the bytes of its events.
    pub(super) fn size(&self) -> usize {
        match &self.content {
            Content::Events { events, .. } => events.size(),
            _ => 0,
        }
    }

    /// The message without its events.
    fn head(&self, origin: &Origin) -> WatchResponse {
        let header = ResponseHeader {
            cluster_id: origin.cluster_id,
            member_id: origin.member_id,
            revision: self.revision,
            raft_term: origin.raft_term,
        };
        let mut head =
            WatchResponse { header: Some(header), watch_id: self.watch_id, ..WatchResponse::default() };
        match &self.content {
            Content::Created => head.created = true,
            Content::Refused(reason) => {
                (head.created, head.canceled) = (true, true);
                head.cancel_reason = reason.to_string();
            }
            Content::Canceled { compact_revision, reason } => {
                head.canceled = true;
                head.compact_revision = *compact_revision;
                head.cancel_reason = reason.to_string();
            }
            Content::Events { .. } | Content::Progress => {}
        }
        head
    }

    /// The messages to send: one, or the parts of a response that is longer than `message_bytes_max` and whose watch
    /// allows parts. Events are encoded once for all watches that share them.
    ///
    /// # Errors
    /// The history could not be read for the previous versions.
    pub fn encode<H: History>(
        &self,
        origin: &Origin,
        history: &H,
        message_bytes_max: usize,
    ) -> Result<SmallVec<[Message; 1]>, H::Error> {
        let mut head = self.head(origin);
        let Content::Events { events, fragment } = &self.content else {
            return Ok(smallvec![Message { head: encode_head(&head), events: Bytes::new() }]);
        };
        let encoded = events.encoded(history)?;
        head.fragment = true;
        let part_max = message_bytes_max.saturating_sub(head.encoded_len());
        let parts =
            if *fragment && encoded.len() >= part_max { split(encoded, part_max) } else { vec![encoded] };
        let last = parts.len() - 1;
        let messages = parts.into_iter().enumerate().map(|(number, events)| {
            head.fragment = number < last;
            Message { head: encode_head(&head), events }
        });
        Ok(messages.collect())
    }

    /// The same as [`encode`](Response::encode), as messages.
    ///
    /// # Errors
    /// The history could not be read for the previous versions.
    pub fn to_pb<H: History>(
        &self,
        origin: &Origin,
        history: &H,
        message_bytes_max: usize,
    ) -> Result<Vec<WatchResponse>, H::Error> {
        let mut head = self.head(origin);
        let Content::Events { events, fragment } = &self.content else { return Ok(vec![head]) };
        let all = events.to_pb(history)?;
        head.fragment = true;
        let part_max = message_bytes_max.saturating_sub(head.encoded_len());
        head.fragment = false;
        let mut parts = vec![head.clone()];
        let mut length = 0;
        for event in all {
            let field = prost::encoding::message::encoded_len(11, &event);
            if let Some(part) = parts.last_mut()
                && *fragment
                && length + field > part_max
                && !part.events.is_empty()
            {
                part.fragment = true;
                parts.push(head.clone());
                length = 0;
            }
            length += field;
            if let Some(part) = parts.last_mut() {
                part.events.push(event);
            }
        }
        Ok(parts)
    }
}

fn encode_head(head: &WatchResponse) -> SmallVec<[u8; 64]> {
    let mut bytes = SmallVec::new();
    bytes.resize(head.encoded_len(), 0);
    let mut rest: &mut [u8] = &mut bytes;
    // A buffer of this length is enough by definition.
    let written = head.encode(&mut rest);
    debug_assert!(written.is_ok());
    bytes
}
