//! The contents of log entries, of 2.x and of 3.x.
//!
//! An entry of 2.x has a [`pb::Request`]. One of 3.x has the same for a request of the v2 API, otherwise a union: a
//! message with one set field, whose number is the kind of request. The method of a v2 request distinguishes the two:
//! in its place the union has a message that cannot be a method.

use bytes::{Buf, Bytes};
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::pb;
use crate::v2::Verb;
use crate::v3::internal::Operation;
use crate::wal::Frames;

/// What an entry holds.
#[derive(Debug, Clone, PartialEq)]
pub enum EntryContent {
    /// Nothing: a new leader's first entry.
    Empty,
    /// A request to the v2 store.
    Request(pb::Request),
    /// A v3 request.
    V3(V3Request),
    /// A change of the members.
    Change(pb::ConfChange),
    /// Several changes of the members at once, which raft of 3.4 supports and etcd never makes.
    Changes,
}

/// A request of 3.x.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V3Request {
    /// Identifies the waiting client.
    pub id: u64,
    /// The number of its field in the union, 0 if none is set.
    pub field: u32,
    /// Its change of the v2 store: 3.5 keeps the members there too.
    pub membership: Option<V3Membership>,
}

/// What a request of 3.5 changes below `/0` of the v2 store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum V3Membership {
    /// The version of the cluster.
    Version(Bytes),
    /// The name and the client URLs of a member.
    Attributes {
        /// Its id.
        member: u64,
        /// Its name.
        name: String,
        /// Its client URLs.
        client_urls: Vec<String>,
    },
}

impl V3Request {
    /// The name of the request: `v3 put`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.field {
            DOWNGRADE_TEST => "v3 downgrade version test".to_owned(),
            field => format!("v3 {}", Operation::name_of(field).unwrap_or("request")),
        }
    }
}

/// A field that only tests of the original write.
const DOWNGRADE_TEST: u32 = 9900;

const ID: u32 = 1;
const V2: u32 = 2;
const HEADER: u32 = 100;
const VERSION_SET: u32 = 1300;
const ATTRIBUTES_SET: u32 = 1301;

/// An entry does not hold what its kind says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} holds no {what}")]
pub struct ContentError {
    /// The entry.
    pub index: u64,
    /// What was expected in it.
    pub what: &'static str,
}

/// Decodes what an entry holds.
///
/// # Errors
/// If the data are not a message of the entry's kind; a server would not start on it.
pub fn content(entry: &pb::Entry, frames: Frames) -> Result<EntryContent, ContentError> {
    let error = |what| ContentError { index: entry.index, what };
    let data = entry.data.clone().unwrap_or_default();
    match entry.kind {
        pb::ENTRY_NORMAL if data.is_empty() => Ok(EntryContent::Empty),
        pb::ENTRY_NORMAL => {
            let request = pb::Request::decode(data.clone()).map_err(|_| error("request"));
            match request {
                Ok(request) if Verb::of(&request.method).is_some() => Ok(EntryContent::Request(request)),
                // The union does not have the fields that a v2 request always has.
                request if frames == Frames::Any => {
                    union(data).map_or(request.map(EntryContent::Request), Ok)
                }
                request => request.map(EntryContent::Request),
            }
        }
        pb::ENTRY_CONF_CHANGE => {
            let change = pb::ConfChange::decode(data).map_err(|_| error("change of the members"))?;
            Ok(EntryContent::Change(change))
        }
        pb::ENTRY_CONF_CHANGE_V2 if frames == Frames::Any => Ok(EntryContent::Changes),
        _ => Err(error("message that this program knows")),
    }
}

/// Decodes the union.
fn union(mut data: Bytes) -> Option<EntryContent> {
    let mut request = V3Request { id: 0, field: 0, membership: None };
    let mut v2 = None;
    while data.has_remaining() {
        let (field, wire_type) = decode_key(&mut data).ok()?;
        if field == ID && wire_type == WireType::Varint {
            request.id = decode_varint(&mut data).ok()?;
            continue;
        }
        if wire_type != WireType::LengthDelimited {
            // The union has no other fields of such types: no later version will know a field below these either.
            if field <= HEADER {
                return None;
            }
            skip_field(wire_type, field, &mut data, DecodeContext::default()).ok()?;
            continue;
        }
        let len = usize::try_from(decode_varint(&mut data).ok()?).ok()?;
        if len > data.remaining() {
            return None;
        }
        let message = data.split_to(len);
        match field {
            HEADER => {
                let header = Header::decode(message).ok()?;
                request.id = if request.id == 0 { header.id } else { request.id };
                continue;
            }
            V2 => v2 = Some(pb::Request::decode(message).ok()?),
            VERSION_SET => {
                let set = VersionSet::decode(message).ok()?;
                request.membership = Some(V3Membership::Version(set.version));
            }
            ATTRIBUTES_SET => {
                let set = AttributesSet::decode(message).ok()?;
                let Attributes { name, client_urls } = set.attributes.unwrap_or_default();
                request.membership = Some(V3Membership::Attributes { member: set.member, name, client_urls });
            }
            _ => {}
        }
        request.field = field;
    }
    Some(v2.map_or(EntryContent::V3(request), EntryContent::Request))
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct VersionSet {
    #[prost(bytes = "bytes", tag = "1")]
    version: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AttributesSet {
    #[prost(uint64, tag = "1")]
    member: u64,
    #[prost(message, optional, tag = "2")]
    attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attributes {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    client_urls: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(data: impl Into<Bytes>) -> pb::Entry {
        pb::Entry { kind: pb::ENTRY_NORMAL, term: 2, index: 7, data: Some(data.into()) }
    }

    fn request(method: &'static [u8]) -> pb::Request {
        pb::Request {
            id: 9,
            method: method.into(),
            path: "/1/a".into(),
            val: "v".into(),
            ..Default::default()
        }
    }

    /// A field of the union, and the header of 3.x.
    fn union_of(field: u32, message: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (field, message) in [(HEADER, &[8, 5][..]), (field, message)] {
            prost::encoding::encode_key(field, WireType::LengthDelimited, &mut bytes);
            prost::encoding::encode_varint(message.len() as u64, &mut bytes);
            bytes.extend_from_slice(message);
        }
        bytes
    }

    #[test]
    fn requests_of_v2_stand_alone_or_in_the_union() {
        for method in ["PUT", "POST", "DELETE", "QGET", "SYNC"].map(str::as_bytes) {
            let wanted = Ok(EntryContent::Request(request(method)));
            let alone = normal(request(method).encode_to_vec());
            assert_eq!(content(&alone, Frames::V2), wanted);
            assert_eq!(content(&alone, Frames::Any), wanted);
            // The union cannot be read where a method stands: 3.x tells the two apart by that.
            assert_eq!(union(alone.data.unwrap_or_default()), None);
            let within = normal(union_of(V2, &request(method).encode_to_vec()));
            assert_eq!(content(&within, Frames::Any), wanted);
        }
    }

    #[test]
    fn requests_of_v3_are_named() {
        let named = |field, message: &[u8]| match content(&normal(union_of(field, message)), Frames::Any) {
            Ok(EntryContent::V3(request)) => (request.name(), request.id, request.membership),
            other => panic!("{other:?}"),
        };
        assert_eq!(named(4, b"\x0a\x01k\x12\x01v"), ("v3 put".to_owned(), 5, None));
        assert_eq!(named(1203, b""), ("v3 auth role grant permission".to_owned(), 5, None));
        assert_eq!(named(4242, b"\x01"), ("v3 request".to_owned(), 5, None));
        let version = Some(V3Membership::Version("3.5.0".into()));
        assert_eq!(named(1300, b"\x0a\x053.5.0"), ("v3 cluster version set".to_owned(), 5, version));
        let attributes = AttributesSet {
            member: 0x1e03_c8d3_5c34_dbbd,
            attributes: Some(Attributes { name: "one".into(), client_urls: vec!["http://a:1".into()] }),
        };
        let (name, _, membership) = named(1301, &attributes.encode_to_vec());
        assert_eq!(name, "v3 member attributes set");
        let Some(V3Membership::Attributes { member, name, client_urls }) = membership else { panic!() };
        assert_eq!((member, &*name, client_urls.len()), (0x1e03_c8d3_5c34_dbbd, "one", 1));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for data in [&b"\xff"[..], b"\x12\x09PUT", b"\x10\x01"] {
            assert!(content(&normal(data.to_vec()), Frames::Any).is_err(), "{data:02x?}");
        }
        assert!(content(&normal(&b"\xff"[..]), Frames::V2).is_err());
        // As servers of 3.x take it: what is no union is a v2 request, whatever its method.
        let odd = content(&normal(union_of(V2, b"\xff")), Frames::Any);
        assert!(matches!(odd, Ok(EntryContent::Request(request)) if &request.method[..] == b"\xff"));
        let joint = pb::Entry { kind: pb::ENTRY_CONF_CHANGE_V2, ..normal("") };
        assert_eq!(content(&joint, Frames::Any), Ok(EntryContent::Changes));
        assert!(content(&joint, Frames::V2).is_err());
        let change = pb::Entry { kind: pb::ENTRY_CONF_CHANGE, ..normal(&b"\x08"[..]) };
        assert!(content(&change, Frames::Any).is_err());
    }
}
