//! What the entries of the log hold: parsed where bytes come in, with our own decoder, into types that know no
//! other kinds than those that etcd writes.
//!
//! The `raft` crate looks into the changes of members that it is asked to propose. So an entry that comes in as a
//! proposal is written anew from its parsed form ([`Proposal::to_entry`]), and the crate sees only bytes that this
//! program wrote. Entries that a leader appends keep their bytes: the logs of all members are alike.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use raft::eraftpb;
use shared::id::MemberId;
use shared::pb;
use shared::store::clean_path;
use shared::v2::{self, UnknownVerb, Verb};

use super::convert;
use super::membership::{ConfChangeContext, VERSION_PATH, attributes_id};
use crate::command::Command;
use crate::version;

/// Why an entry means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// It is neither a request nor a change of the members.
    #[error("an entry of kind {0}")]
    Kind(i32),
    /// Its data are not what its kind says.
    #[error("no {what} ({error})")]
    Data {
        /// A request, or a change of members.
        what: &'static str,
        /// What the decoder says.
        error: prost::DecodeError,
    },
    /// A change that is neither an addition, a removal nor an update.
    #[error("a change of members of kind {0}")]
    ChangeKind(i32),
    /// No member can have the id 0.
    #[error("a change of member 0")]
    NoMember,
    /// What a change says of a member is not JSON of that member.
    #[error("a change of member {0} without its description")]
    Context(MemberId),
    /// A proposal without data.
    #[error("an empty proposal")]
    Empty,
    /// A verb that no server writes to the log.
    #[error(transparent)]
    Verb(#[from] UnknownVerb),
    /// A path that no server asks another to change.
    #[error("a request that changes {0:?}")]
    Path(String),
    /// A version that no cluster with this member in it has.
    #[error("a cluster version {0:?}")]
    Version(String),
    /// The store has something else where members are kept.
    #[error("a change that the store refuses: {0}")]
    Store(shared::error::ApiError),
    /// Consensus cannot do what is asked.
    #[error("a change that consensus refuses: {0}")]
    Consensus(String),
}

/// What a change of the members does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// A member is added.
    Add,
    /// A member is removed, for ever.
    Remove,
    /// A member has other peer URLs.
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
    /// What it does.
    pub kind: ChangeKind,
    /// The member it is about, never 0.
    pub member: MemberId,
    /// The member as JSON, absent for a removal.
    context: Option<Bytes>,
}

impl MemberChange {
    /// Adds a member that others reach at these URLs.
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

    /// The member's peer URLs after the change; none if what describes it cannot be read.
    pub(super) fn peer_urls(&self) -> Vec<String> {
        self.described().map(|context| context.peer_urls).unwrap_or_default()
    }

    fn described(&self) -> Option<ConfChangeContext> {
        serde_json::from_slice(self.context.as_deref()?).ok()
    }

    /// Writes it as it stands in the log.
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

    /// Takes a change whose kind is known and whose member can be one.
    fn try_from(change: pb::ConfChange) -> Result<MemberChange, InvalidEntry> {
        let kind = ChangeKind::from_number(change.kind).ok_or(InvalidEntry::ChangeKind(change.kind))?;
        if change.node_id == 0 {
            return Err(InvalidEntry::NoMember);
        }
        Ok(MemberChange { id: change.id, kind, member: MemberId(change.node_id), context: change.context })
    }
}

/// What an entry of the log holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// What the state machine is to do.
    Command(Command),
    /// A change of the members.
    Change(MemberChange),
}

impl Content {
    /// Reads the data of an entry of a [`pb::Entry`]'s kind.
    pub(super) fn parse(kind: i32, data: Bytes) -> Result<Content, InvalidEntry> {
        match kind {
            pb::ENTRY_NORMAL if data.is_empty() => Ok(Content::Command(Command::Nothing)),
            pb::ENTRY_NORMAL => Ok(Content::Command(Command::V2(parse_request(data)?))),
            pb::ENTRY_CONF_CHANGE => MemberChange::parse(data).map(Content::Change),
            kind => Err(InvalidEntry::Kind(kind)),
        }
    }

    /// Whether a leader may append it. A leader asks all members before it raises the cluster's version, so it never
    /// appends one that this member does not speak: the member would have to stop, at this start and at every other.
    pub(super) fn check_appended(&self) -> Result<(), InvalidEntry> {
        match self {
            Content::Command(Command::V2(request)) if request.verb.writes() && !is_known_version(request) => {
                Err(InvalidEntry::Version(request.val.escape_ascii().to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Reads an entry that this member has in its log.
    pub(super) fn of(entry: &eraftpb::Entry) -> Result<Content, InvalidEntry> {
        Content::parse(entry.entry_type as i32, entry.data.clone())
    }
}

fn parse_request(data: Bytes) -> Result<v2::Request, InvalidEntry> {
    let request = pb::Request::decode(data).map_err(|error| InvalidEntry::Data { what: "request", error })?;
    Ok(v2::Request::try_from(request)?)
}

/// What an entry of the log means, for who reads a log before a member does.
///
/// # Errors
/// If it means nothing: all members pass over it.
pub fn check_entry(entry: &pb::Entry) -> Result<(), InvalidEntry> {
    Content::parse(entry.kind, entry.data.clone().unwrap_or_default()).map(drop)
}

/// What a member asks the leader to put into the log.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proposal(Content);

impl Proposal {
    /// Reads what another member passes on. Only what servers pass on is taken: their clients' requests, their own
    /// attributes, the cluster's version, and changes of members that say who it is.
    pub(super) fn parse(entry: pb::Entry) -> Result<Proposal, InvalidEntry> {
        let content = Content::parse(entry.kind, entry.data.unwrap_or_default())?;
        match &content {
            Content::Command(Command::Nothing) => return Err(InvalidEntry::Empty),
            Content::Command(Command::V2(request)) => check_forwarded(request)?,
            Content::Change(change) => {
                let describes = |context: ConfChangeContext| context.id == change.member.0;
                if change.kind != ChangeKind::Remove && !change.described().is_some_and(describes) {
                    return Err(InvalidEntry::Context(change.member));
                }
            }
        }
        Ok(Proposal(content))
    }

    /// The entry to propose, written anew: none of its bytes come from outside but values of known fields.
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

/// Whether a server would ask another to put this request into the log.
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

/// Whether an entry sets the cluster's version or a member's attributes, and to which value: what a store holds at
/// `path` once it is applied.
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

/// Whether a path below `/0` is one that servers write by requests.
fn is_own_data(path: &[u8]) -> bool {
    path == VERSION_PATH || attributes_id(path).is_some()
}

/// A PUT that can only set a value, for ever.
fn is_plain_put(request: &v2::Request) -> bool {
    request.verb == Verb::Put
        && !request.dir
        && request.expiration == 0
        && request.prev_exist.is_none()
        && request.prev_index == 0
        && request.prev_value.is_empty()
}

/// Whether the request sets a version only if this server can be part of a cluster of that version: another one
/// would end all members that are like it.
fn is_known_version(request: &v2::Request) -> bool {
    &request.path[..] != VERSION_PATH || std::str::from_utf8(&request.val).is_ok_and(version::is_of_cluster)
}

/// Whether a request would change what only changes of members and the server's own requests may change. No server
/// writes such an entry.
pub(super) fn is_forgery(request: &v2::Request) -> bool {
    // Nearly all paths are those of keys, and without a `..` there is no way out of these.
    let of_keys = request.path.starts_with(b"/1/") && memchr::memchr(b'.', &request.path).is_none();
    request.verb.writes()
        && !of_keys
        && is_within(&clean_path(&request.path), b"/0")
        && !(is_own_data(&request.path) && is_plain_put(request))
}

/// Whether a clean path is `folder` or below it.
fn is_within(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
