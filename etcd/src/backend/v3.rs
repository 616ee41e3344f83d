//! What the v3 API may ask of the running member.
//!
//! The API checks requests before it calls this (sizes of transactions, empty keys), and adds the cluster, the member
//! and the term to the headers of answers. Everything else is decided here: permissions, quota, alarms, size of the
//! entry, what a request does.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BufMut;
use prost::Message as _;
use shared::v3::pb::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeRequest,
    DeleteRangeResponse, HashKvResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, Member, PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader,
    StatusResponse, TxnRequest, TxnResponse, WatchCreateRequest, WatchResponse,
};
use shared::v3::{Error, Level};

/// The running member, as the v3 API sees it.
///
/// Responses carry a header with the revision alone; see [`header`](Backend::header) for what the API adds. A response
/// without a header is answered with the present revision.
pub trait Backend: Send + Sync + 'static {
    /// The watches of one client stream.
    type WatchStream: WatchStream;

    /// The level of the cluster. Below 3.4 no v3 request is served.
    fn level(&self) -> Level;

    /// Whether this member is a learner, which serves serializable ranges only.
    fn is_learner(&self) -> bool;

    /// Whether the cluster has a leader, as far as this member knows.
    fn has_leader(&self) -> bool;

    /// Waits until the leader has been lost for three election timeouts: streams whose clients want that end then.
    fn leader_lost(&self) -> impl Future<Output = ()> + Send + 'static;

    /// This cluster, this member, the revision of the store and the term, all of now.
    fn header(&self) -> ResponseHeader;

    /// Puts an operation into the log, and waits until it is applied here.
    ///
    /// # Errors
    /// What the store or the gate before it refuses; [`Error::Timeout`] and its like when there is no result.
    fn propose(
        &self,
        caller: &Caller,
        operation: Operation,
    ) -> impl Future<Output = Result<OperationResponse, Error>> + Send;

    /// Waits until everything is applied here that was committed when this was called: a read that follows is
    /// linearizable.
    ///
    /// # Errors
    /// Without a quorum [`Error::Timeout`] and its like.
    fn linearizable_point(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Reads keys from the store as it is applied here.
    ///
    /// # Errors
    /// A revision that is compacted or in the future, or a lack of permission.
    fn range(
        &self,
        caller: &Caller,
        request: RangeRequest,
    ) -> impl Future<Output = Result<RangeResponse, Error>> + Send;

    /// Carries out a transaction that writes nothing, on the store as it is applied here.
    ///
    /// # Errors
    /// As [`range`](Backend::range).
    fn read_txn(
        &self,
        caller: &Caller,
        request: TxnRequest,
    ) -> impl Future<Output = Result<TxnResponse, Error>> + Send;

    /// Gives a lease its full time again, and returns that time in seconds. Followers ask the leader.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`], or no answer of the leader.
    fn keep_alive(&self, caller: &Caller, id: i64) -> impl Future<Output = Result<i64, Error>> + Send;

    /// What is left of a lease; its keys if `keys`. Followers ask the leader.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`], a lack of permission, or no answer of the leader.
    fn time_to_live(
        &self,
        caller: &Caller,
        id: i64,
        keys: bool,
    ) -> impl Future<Output = Result<LeaseTime, Error>> + Send;

    /// The ids of all leases, in the order of their expiry.
    ///
    /// # Errors
    /// A lack of permission.
    fn leases(&self, caller: &Caller) -> impl Future<Output = Result<Vec<i64>, Error>> + Send;

    /// The members of the cluster as of the last applied entry, by their ids.
    fn members(&self) -> Vec<Member>;

    /// The users and roles.
    ///
    /// # Errors
    /// If they cannot be read.
    fn auth_lists(&self) -> Result<AuthLists, Error>;

    /// The alarms of a kind that are on, or all for the kind `NONE`.
    fn alarms(&self, kind: i32) -> Vec<AlarmMember>;

    /// The state of this member, without a header.
    fn status(&self) -> StatusResponse;

    /// Gives back what the database does not need, as far as it has not done so by itself.
    ///
    /// # Errors
    /// When the server stops.
    fn defragment(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// The hash of the keys up to a revision, 0 for the current one, without a header.
    ///
    /// # Errors
    /// A revision that is compacted or in the future.
    fn hash_kv(&self, revision: i64) -> impl Future<Output = Result<HashKvResponse, Error>> + Send;

    /// Opens a stream for watches.
    ///
    /// # Errors
    /// When the server stops.
    fn watch(&self, caller: Caller) -> Result<Self::WatchStream, Error>;
}

/// The watches of one client stream. None of the commands waits: what they lead to comes out of
/// [`poll_next`](WatchStream::poll_next), in the order of the commands.
///
/// Nothing is lost and nothing grows without bound while a slow client does not poll: its watches catch up from the
/// store later. Dropping the stream ends its watches.
pub trait WatchStream: Send + 'static {
    /// An encoded response.
    type Message: WatchMessage;

    /// Begins a watch. The answer has `created`; a refusal has `canceled` and a reason too. With `fragment` responses
    /// that are longer than a message may be are split.
    fn create(&mut self, request: WatchCreateRequest);

    /// Ends a watch, answered by `canceled`. Unknown ids are ignored.
    fn cancel(&mut self, watch_id: i64);

    /// Asks for a response without events once all watches have caught up.
    fn request_progress(&mut self);

    /// Whether a further command may be given: not while too many of their answers wait to be polled.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The next response, with a complete header.
    ///
    /// # Errors
    /// Why the server ends the stream. Nothing comes after that.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::Message, Error>>;
}

/// A `WatchResponse` in its form on the wire. Watches with the same events share the bytes.
pub trait WatchMessage: Send + 'static {
    /// Its length in bytes.
    fn encoded_len(&self) -> usize;

    /// Appends it.
    fn write_to(&self, buffer: &mut impl BufMut);
}

impl WatchMessage for WatchResponse {
    fn encoded_len(&self) -> usize {
        prost::Message::encoded_len(self)
    }

    fn write_to(&self, buffer: &mut impl BufMut) {
        self.encode_raw(buffer);
    }
}

/// The users and roles by name, and the revision of both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthLists {
    /// The users.
    pub users: Vec<String>,
    /// The roles.
    pub roles: Vec<String>,
    /// Counts the changes.
    pub revision: u64,
}

/// What is left of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseTime {
    /// Seconds left.
    pub ttl: i64,
    /// Seconds that it was granted, or gets at each keep-alive.
    pub granted_ttl: i64,
    /// The keys attached to it, if they were asked for.
    pub keys: Vec<bytes::Bytes>,
}

/// Who sent a request, and what its metadata ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The token of an `Authenticate`, as it came.
    pub token: Option<Arc<str>>,
    /// The common name of the client's certificate, where certificates are demanded.
    pub common_name: Option<Arc<str>>,
    /// The client wants an error instead of a wait while there is no leader.
    pub needs_leader: bool,
    /// The version of the client's API, as it calls itself.
    pub api_version: Option<Arc<str>>,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident($request:ident -> $response:ident),)*) => {
        /// What goes through the log.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Operation {
            $($(#[$doc])* $name($request),)*
        }

        /// The answer to an [`Operation`], of the same kind.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(missing_docs, reason = "the names are those of the operations")]
        pub enum OperationResponse {
            $($name($response),)*
        }

        /// A request that is an [`Operation`].
        pub trait Proposal: Send + 'static {
            /// The message that answers it.
            type Response;

            /// The operation.
            fn into_operation(self) -> Operation;

            /// The answer; `None` if it is that of another kind of operation.
            fn answer(response: OperationResponse) -> Option<Self::Response>;
        }

        $(impl Proposal for $request {
            type Response = $response;

            fn into_operation(self) -> Operation {
                Operation::$name(self)
            }

            fn answer(response: OperationResponse) -> Option<$response> {
                match response {
                    OperationResponse::$name(response) => Some(response),
                    _ => None,
                }
            }
        })*
    };
}

operations! {
    /// Writes a key.
    Put(PutRequest -> PutResponse),
    /// Deletes keys.
    DeleteRange(DeleteRangeRequest -> DeleteRangeResponse),
    /// A transaction that writes.
    Txn(TxnRequest -> TxnResponse),
    /// Forgets what was before a revision. With `physical` the answer comes after the deletion.
    Compaction(CompactionRequest -> CompactionResponse),
    /// Makes a lease; the id 0 stands for one that the backend chooses.
    LeaseGrant(LeaseGrantRequest -> LeaseGrantResponse),
    /// Ends a lease and deletes its keys.
    LeaseRevoke(LeaseRevokeRequest -> LeaseRevokeResponse),
    /// Raises or ends an alarm.
    Alarm(AlarmRequest -> AlarmResponse),
}
