//! The content of log entries: parsed where bytes come in, by our own decoder, into types that hold only what
//! etcd writes.
//!
//! The `raft` crate decodes the changes of members that it proposes. So an entry that arrives as a proposal is
//! encoded again from its parsed form ([`Proposal::to_entry`]), and the crate sees only bytes that this program
//! wrote. Entries that a leader appends keep their bytes, so that the logs of all members are equal.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use raft::eraftpb;
use shared::id::MemberId;
use shared::pb;
use shared::store::clean_path;
use shared::v2::{self, UnknownVerb, Verb};
use shared::v3::internal::{InternalError, InternalRequest};

use super::convert;
use super::membership::{ConfChangeContext, VERSION_PATH, attributes_id};
use crate::command::Command;
use crate::v3;
use crate::version::Level;

/// Why an entry is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// The kind is neither a request nor a change of the members.
    #[error("an entry of kind {0}")]
    Kind(i32),
    /// The data cannot be decoded.
    #[error("no {what} ({error})")]
    Data {
        /// The expected content: a request, or a change of members.
        what: &'static str,
        /// The error of the decoder.
        error: prost::DecodeError,
    },
    /// A change that is neither an addition, a removal nor an update.
    #[error("a change of members of kind {0}")]
    ChangeKind(i32),
    /// The member has the id 0, which is invalid.
    #[error("a change of member 0")]
    NoMember,
    /// The context of a change is not JSON of its member.
    #[error("a change of member {0} without its description")]
    Context(MemberId),
    /// A proposal without data.
    #[error("an empty proposal")]
    Empty,
    /// The data are no request of the v3 API.
    #[error("no request of version 3 ({0})")]
    V3(#[from] InternalError),
    /// A request of the v3 API, in a cluster of a level that has none.
    #[error("a request of version 3 in a cluster of the level {0}")]
    Level(Level),
    /// A request of the v3 API that this version does not apply: a member that had it in its log would have to end.
    #[error("a request that this version does not apply: {0}")]
    NotApplied(&'static str),
    /// A verb that no server writes to the log.
    #[error(transparent)]
    Verb(#[from] UnknownVerb),
    /// A path that servers do not forward.
    #[error("a request that changes {0:?}")]
    Path(String),
    /// A cluster version that this member does not support.
    #[error("a cluster version {0:?}")]
    Version(String),
    /// The store holds something else at the path of the member.
    #[error("a change that the store refuses: {0}")]
    Store(shared::error::ApiError),
    /// The `raft` crate refuses the change.
    #[error("a change that consensus refuses: {0}")]
    Consensus(String),
}

/// The kind of a change of the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// A member is added.
    Add,
    /// A member is removed; its id is never used again.
    Remove,
    /// A member gets other peer URLs.
    Update,
}

impl ChangeKind {
    fn from_number(number: i32) -> Option<ChangeKind> {
        match number {
            pb::ADD_NODE => Some(ChangeKind::Add),
            pb::REMOVE_NODE => Some(ChangeKind::Remove),
            pb::UPDATE_NODE => Some(ChangeKind::Update),
            _ => None,
        }
    }

    /// Its number in a [`pb::ConfChange`].
    fn number(self) -> i32 {
        match self {
            ChangeKind::Add => pb::ADD_NODE,
            ChangeKind::Remove => pb::REMOVE_NODE,
            ChangeKind::Update => pb::UPDATE_NODE,
        }
    }
}

/// A change of the members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberChange {
    /// Identifies the waiting client.
    pub id: u64,
    /// The kind of change.
    pub kind: ChangeKind,
    /// The member to change, never 0.
    pub member: MemberId,
    /// The member as JSON, absent for a removal.
    context: Option<Bytes>,
}

impl MemberChange {
    /// Adds a member with these peer URLs.
    #[must_use]
    pub fn add(member: MemberId, peer_urls: &[String]) -> MemberChange {
        MemberChange::describing(ChangeKind::Add, member, peer_urls)
    }

    /// Gives a member other peer URLs.
    #[must_use]
    pub fn update(member: MemberId, peer_urls: &[String]) -> MemberChange {
        MemberChange::describing(ChangeKind::Update, member, peer_urls)
    }

    /// Removes a member.
    #[must_use]
    pub fn remove(member: MemberId) -> MemberChange {
        MemberChange { id: 0, kind: ChangeKind::Remove, member, context: None }
    }

    fn describing(kind: ChangeKind, member: MemberId, peer_urls: &[String]) -> MemberChange {
        let context =
            ConfChangeContext { id: member.0, peer_urls: peer_urls.to_vec(), ..ConfChangeContext::default() };
        MemberChange { id: 0, kind, member, context: Some(context.encode().into()) }
    }

    fn parse(data: Bytes) -> Result<MemberChange, InvalidEntry> {
        let what = "change of members";
        pb::ConfChange::decode(data).map_err(|error| InvalidEntry::Data { what, error })?.try_into()
    }

    /// The member's peer URLs after the change; empty if the context cannot be parsed.
    pub(super) fn peer_urls(&self) -> Vec<String> {
        self.described().map(|context| context.peer_urls).unwrap_or_default()
    }

    fn described(&self) -> Option<ConfChangeContext> {
        serde_json::from_slice(self.context.as_deref()?).ok()
    }

    /// Its bytes in the log.
    pub fn encode_to_vec(&self) -> Vec<u8> {
        let change = pb::ConfChange {
            id: self.id,
            kind: self.kind.number(),
            node_id: self.member.0,
            context: self.context.clone(),
        };
        change.encode_to_vec()
    }
}

impl TryFrom<pb::ConfChange> for MemberChange {
    type Error = InvalidEntry;

    /// Fails if the kind is unknown or the member's id is 0.
    fn try_from(change: pb::ConfChange) -> Result<MemberChange, InvalidEntry> {
        let kind = ChangeKind::from_number(change.kind).ok_or(InvalidEntry::ChangeKind(change.kind))?;
        if change.node_id == 0 {
            return Err(InvalidEntry::NoMember);
        }
        Ok(MemberChange { id: change.id, kind, member: MemberId(change.node_id), context: change.context })
    }
}

/// The content of an entry.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// A command for the state machine.
    Command(Command),
    /// A change of the members.
    Change(MemberChange),
}

impl Content {
    /// Parses the data of an entry; `kind` is that of [`pb::Entry`].
    pub(super) fn parse(kind: i32, data: Bytes) -> Result<Content, InvalidEntry> {
        match kind {
            pb::ENTRY_NORMAL if data.is_empty() => Ok(Content::Command(Command::Nothing)),
            pb::ENTRY_NORMAL => parse_command(data).map(Content::Command),
            pb::ENTRY_CONF_CHANGE => MemberChange::parse(data).map(Content::Change),
            kind => Err(InvalidEntry::Kind(kind)),
        }
    }

    /// Checks whether a leader may append this entry. A leader asks all members before it raises the cluster's
    /// version, so it never appends a version that this member does not support: the member would have to stop,
    /// now and at every later start.
    pub(super) fn check_appended(&self) -> Result<(), InvalidEntry> {
        match self {
            Content::Command(Command::V3(request)) => check_applied(request),
            Content::Command(Command::V2(request)) if request.verb.writes() && !is_known_version(request) => {
                Err(InvalidEntry::Version(request.val.escape_ascii().to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Checks that members of this level may apply it.
    pub(super) fn check_level(&self, level: Level) -> Result<(), InvalidEntry> {
        match self {
            Content::Command(Command::V3(_)) if !level.has_v3() => Err(InvalidEntry::Level(level)),
            Content::Command(Command::V2(request))
                if request.verb.writes() && !sets_no_other_version(request, level) =>
            {
                Err(InvalidEntry::Version(request.val.escape_ascii().to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Parses an entry of this member's log.
    pub(super) fn of(entry: &eraftpb::Entry) -> Result<Content, InvalidEntry> {
        Content::parse(entry.entry_type as i32, entry.data.clone())
    }
}

/// The first byte of a v2 request in the log: the key of its id, which is always there.
const ID_KEY: u8 = 0x08;

/// Parses a request. In version 3 one of v2 stands alone, or in the union; a union never holds a method where a v2
/// request does.
fn parse_command(data: Bytes) -> Result<Command, InvalidEntry> {
    if data.first() != Some(&ID_KEY)
        && let Ok(request) = InternalRequest::decode(data.clone())
    {
        return Ok(Command::V3(Box::new(request)));
    }
    match parse_request(data.clone()) {
        Ok(request) => Ok(Command::V2(request)),
        Err(why) => match InternalRequest::decode(data) {
            Ok(request) => Ok(Command::V3(Box::new(request))),
            Err(_) => Err(why),
        },
    }
}

fn parse_request(data: Bytes) -> Result<v2::Request, InvalidEntry> {
    let request = pb::Request::decode(data).map_err(|error| InvalidEntry::Data { what: "request", error })?;
    Ok(v2::Request::try_from(request)?)
}

/// Checks an entry of a log that no member has read yet.
///
/// # Errors
/// If it is invalid: all members skip it.
pub fn check_entry(entry: &pb::Entry) -> Result<(), InvalidEntry> {
    Content::parse(entry.kind, entry.data.clone().unwrap_or_default()).map(drop)
}

/// A proposal that a member forwards to the leader.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proposal(Content);

impl Proposal {
    /// Parses a forwarded entry. Only what servers forward is valid: clients' requests, their own attributes,
    /// the cluster's version, and changes of members with a matching context.
    pub(super) fn parse(entry: pb::Entry) -> Result<Proposal, InvalidEntry> {
        let content = Content::parse(entry.kind, entry.data.unwrap_or_default())?;
        match &content {
            Content::Command(Command::Nothing) => return Err(InvalidEntry::Empty),
            Content::Command(Command::V2(request)) => check_forwarded(request)?,
            // None of them leads to the members.
            Content::Command(Command::V3(request)) => check_applied(request)?,
            Content::Change(change) => {
                let describes = |context: ConfChangeContext| context.id == change.member.0;
                if change.kind != ChangeKind::Remove && !change.described().is_some_and(describes) {
                    return Err(InvalidEntry::Context(change.member));
                }
            }
        }
        Ok(Proposal(content))
    }

    /// The entry to propose, encoded again: only the values of known fields come from outside.
    pub(super) fn to_entry(&self) -> eraftpb::Entry {
        match &self.0 {
            Content::Command(command) => {
                let mut data = BytesMut::new();
                command.encode(&mut data);
                convert::proposal(eraftpb::EntryType::EntryNormal, data.freeze())
            }
            Content::Change(change) => {
                convert::proposal(eraftpb::EntryType::EntryConfChange, change.encode_to_vec().into())
            }
        }
    }
}

/// Checks that a v3 request is one of those that this version applies.
fn check_applied(request: &InternalRequest) -> Result<(), InvalidEntry> {
    match v3::is_applied(&request.operation) {
        true => Ok(()),
        false => Err(InvalidEntry::NotApplied(request.operation.name())),
    }
}

/// Checks whether a server would forward this request.
fn check_forwarded(request: &v2::Request) -> Result<(), InvalidEntry> {
    let path = clean_path(&request.path);
    let of_clients = is_within(&path, b"/1") || is_within(&path, b"/2");
    let of_servers = is_own_data(&request.path) && is_plain_put(request) && is_known_version(request);
    if !request.verb.writes() || of_clients || of_servers {
        Ok(())
    } else {
        Err(InvalidEntry::Path(request.path.escape_ascii().to_string()))
    }
}

/// The value that `path` has once this entry is applied, if the entry sets the cluster's version or a member's
/// attributes there.
pub fn own_data_set_by(entry: &pb::Entry, path: &[u8]) -> Option<Bytes> {
    match Content::parse(entry.kind, entry.data.clone().unwrap_or_default()) {
        Ok(Content::Command(Command::V2(request)))
            if is_own_data(path) && request.path[..] == *path && is_plain_put(&request) =>
        {
            Some(request.val)
        }
        _ => None,
    }
}

/// Whether servers write this path below `/0` by requests.
fn is_own_data(path: &[u8]) -> bool {
    path == VERSION_PATH || attributes_id(path).is_some()
}

/// Whether it is a PUT of a value without a condition or TTL.
fn is_plain_put(request: &v2::Request) -> bool {
    request.verb == Verb::Put
        && !request.dir
        && request.expiration == 0
        && request.prev_exist.is_none()
        && request.prev_index == 0
        && request.prev_value.is_empty()
}

/// Whether the request sets no cluster version, or one that this server supports at some level: another version would
/// stop all members of this kind.
fn is_known_version(request: &v2::Request) -> bool {
    sets_no_other_version(request, Level::NEWEST)
}

/// Whether the request sets no cluster version, or one that members of this level support.
fn sets_no_other_version(request: &v2::Request, level: Level) -> bool {
    &request.path[..] != VERSION_PATH
        || std::str::from_utf8(&request.val).is_ok_and(|version| level.supports(version))
}

/// Checks that a cluster of this level has such entries. What is no content at all is not looked at.
pub(super) fn check_levels(entries: &[eraftpb::Entry], level: Level) -> Result<(), InvalidEntry> {
    // The highest level has all that can be parsed.
    if level == Level::NEWEST {
        return Ok(());
    }
    let contents =
        entries.iter().filter(|entry| !is_of_keys(&entry.data)).filter_map(|entry| Content::of(entry).ok());
    contents.into_iter().try_for_each(|content| content.check_level(level))
}

/// Whether the data of an entry are a v2 request for a client's key, by its first fields alone. A `false` may be wrong.
fn is_of_keys(mut data: &[u8]) -> bool {
    let mut is_of_keys = || {
        let mut field = |number: u32| {
            let (found, _) = prost::encoding::decode_key(&mut data).ok()?;
            let value = prost::encoding::decode_varint(&mut data).ok()?;
            (found == number).then_some(value)
        };
        field(1)?;
        let method_len = usize::try_from(field(2)?).ok()?;
        let method = data.split_off(..method_len)?;
        let mut field = |number: u32| {
            let (found, _) = prost::encoding::decode_key(&mut data).ok()?;
            prost::encoding::decode_varint(&mut data).ok()?;
            (found == number).then_some(())
        };
        field(3)?;
        Some(Verb::of(method).is_some() && data.starts_with(b"/1/"))
    };
    is_of_keys().unwrap_or(false)
}

/// Whether a request would change data that only changes of members and servers' own requests may change. No
/// server writes such an entry.
pub(super) fn is_forgery(request: &v2::Request) -> bool {
    // The quick check: nearly all paths are keys of clients, and without a `..` they stay below `/1`.
    let of_keys = request.path.starts_with(b"/1/") && memchr::memchr(b'.', &request.path).is_none();
    request.verb.writes()
        && !of_keys
        && is_within(&clean_path(&request.path), b"/0")
        && !(is_own_data(&request.path) && is_plain_put(request))
}

/// Whether a cleaned path is `folder` or below it.
fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
