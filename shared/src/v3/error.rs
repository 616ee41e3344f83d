//! The errors of the v3 API: gRPC status code and text, as etcd 3.5 has them. Clients compare the texts.
//!
//! Source: `api/v3rpc/rpctypes/error.go` of etcd 3.5, and answers recorded from 3.5.30.

use std::fmt;

use crate::lease::LeaseError;
use crate::mvcc;

/// The status codes of gRPC; the numbers are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
#[expect(missing_docs, reason = "the names are defined by gRPC")]
pub enum StatusCode {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl StatusCode {
    /// The code with this number; other numbers mean `Unknown`, as gRPC has it.
    #[must_use]
    pub fn from_number(number: i32) -> StatusCode {
        use StatusCode::*;
        const ALL: [StatusCode; 17] = [
            Ok,
            Canceled,
            Unknown,
            InvalidArgument,
            DeadlineExceeded,
            NotFound,
            AlreadyExists,
            PermissionDenied,
            ResourceExhausted,
            FailedPrecondition,
            Aborted,
            OutOfRange,
            Unimplemented,
            Internal,
            Unavailable,
            DataLoss,
            Unauthenticated,
        ];
        usize::try_from(number).ok().and_then(|number| ALL.get(number).copied()).unwrap_or(Unknown)
    }

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The HTTP status of the JSON gateway's answer, as 3.5.30 maps it.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            StatusCode::Ok => 200,
            StatusCode::Canceled => 499,
            StatusCode::InvalidArgument | StatusCode::FailedPrecondition | StatusCode::OutOfRange => 400,
            StatusCode::DeadlineExceeded => 504,
            StatusCode::NotFound => 404,
            StatusCode::AlreadyExists | StatusCode::Aborted => 409,
            StatusCode::PermissionDenied => 403,
            StatusCode::ResourceExhausted => 429,
            StatusCode::Unimplemented => 501,
            StatusCode::Unavailable => 503,
            StatusCode::Unauthenticated => 401,
            StatusCode::Unknown | StatusCode::Internal | StatusCode::DataLoss => 500,
        }
    }
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $text:literal;)*) => {
        /// What a request of the v3 API is refused with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Error {
            $($(#[$doc])* $name,)*
        }

        impl Error {
            /// All of them.
            pub const ALL: &'static [Error] = &[$(Error::$name),*];

            /// The status code.
            #[must_use]
            pub fn code(self) -> StatusCode {
                match self {
                    $(Error::$name => StatusCode::$code,)*
                }
            }

            /// The message of the status.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self {
                    $(Error::$name => concat!("etcdserver: ", $text),)*
                }
            }

            /// The error with this code and message, if there is one: for clients.
            #[must_use]
            pub fn from_status(code: StatusCode, message: &str) -> Option<Error> {
                Error::ALL.iter().copied().find(|error| error.code() == code && error.message() == message)
            }
        }
    };
}

errors! {
    /// A key is empty.
    KeyNotProvided = InvalidArgument, "key is not provided";
    /// A put keeps the value or the lease of a key that is missing, or an operation of a transaction has no content.
    KeyNotFound = InvalidArgument, "key not found";
    /// A put keeps the value and brings one.
    ValueProvided = InvalidArgument, "value is provided";
    /// A put keeps the lease and brings one.
    LeaseProvided = InvalidArgument, "lease is provided";
    /// A transaction has more operations than `--max-txn-ops`.
    TooManyOps = InvalidArgument, "too many operations in txn request";
    /// A transaction writes a key twice.
    DuplicateKey = InvalidArgument, "duplicate key given in txn request";
    /// Keys cannot be sorted by this. The original ends on it.
    InvalidSortOption = InvalidArgument, "invalid sort option";
    /// The peer URLs of a member are malformed or missing.
    BadMemberUrls = InvalidArgument, "given member URLs are invalid";
    /// The entry for the log would be longer than `--max-request-bytes`.
    RequestTooLarge = InvalidArgument, "request is too large";
    /// No user is given, or a request without a user while auth is on.
    UserEmpty = InvalidArgument, "user name is empty";
    /// No role is given.
    RoleEmpty = InvalidArgument, "role name is empty";
    /// Wrong name or password.
    AuthFailed = InvalidArgument, "authentication failed, invalid user ID or password";
    /// A grant without a permission.
    PermissionNotGiven = InvalidArgument, "permission not given";
    /// A change that would take root away.
    InvalidAuthManagement = InvalidArgument, "invalid auth management";
    /// Users or roles changed since the token was made.
    AuthOldRevision = InvalidArgument, "revision of auth store is old";
    /// The version to go back to is malformed.
    WrongDowngradeVersionFormat = InvalidArgument, "wrong downgrade target version format";
    /// The version to go back to is not the one before.
    InvalidDowngradeTargetVersion = InvalidArgument, "invalid downgrade target version";

    /// No lease has this id.
    LeaseNotFound = NotFound, "requested lease not found";
    /// No member has this id.
    MemberNotFound = NotFound, "member not found";

    /// The user lacks a permission.
    PermissionDenied = PermissionDenied, "permission denied";

    /// The database has reached its quota.
    NoSpace = ResourceExhausted, "mvcc: database space exceeded";

    /// A lease has this id already.
    LeaseExists = FailedPrecondition, "lease already exists";
    /// A member has this id already.
    MemberExists = FailedPrecondition, "member ID already exist";
    /// A member has these peer URLs already.
    PeerUrlExists = FailedPrecondition, "Peer URLs already exists";
    /// The member to promote is not a learner.
    MemberNotLearner = FailedPrecondition, "can only promote a learner member";
    /// The learner to promote is too far behind.
    LearnerNotReady = FailedPrecondition, "can only promote a learner member which is in sync with leader";
    /// There is a learner already.
    TooManyLearners = FailedPrecondition, "too many learner members in cluster";
    /// Auth cannot be enabled without the user root.
    RootUserMissing = FailedPrecondition, "root user does not exist";
    /// Auth cannot be enabled while root lacks its role.
    RootRoleMissing = FailedPrecondition, "root user does not have root role";
    /// A user has this name already.
    UserExists = FailedPrecondition, "user name already exists";
    /// No user has this name.
    UserNotFound = FailedPrecondition, "user name not found";
    /// A role has this name already.
    RoleExists = FailedPrecondition, "role name already exists";
    /// No role has this name.
    RoleNotFound = FailedPrecondition, "role name not found";
    /// The user does not have the role.
    RoleNotGranted = FailedPrecondition, "role is not granted to the user";
    /// The role does not have the permission.
    PermissionNotGranted = FailedPrecondition, "permission is not granted to the role";
    /// Auth is off.
    AuthNotEnabled = FailedPrecondition, "authentication is not enabled";
    /// This member does not lead.
    NotLeader = FailedPrecondition, "not leader";
    /// The leadership cannot be handed to this member.
    BadLeaderTransferee = FailedPrecondition, "bad leader transferee";
    /// The other side is of another cluster.
    ClusterIdMismatch = FailedPrecondition, "cluster ID mismatch";
    /// A downgrade is in progress already.
    DowngradeInProgress = FailedPrecondition, "cluster has a downgrade job in progress";
    /// There is no downgrade to cancel.
    NoDowngrade = FailedPrecondition, "no inflight downgrade job";

    /// The revision has been compacted away.
    Compacted = OutOfRange, "mvcc: required revision has been compacted";
    /// The revision does not exist yet.
    FutureRevision = OutOfRange, "mvcc: required revision is a future revision";
    /// The time to live is above 9,000,000,000 s.
    LeaseTtlTooLarge = OutOfRange, "too large lease TTL";

    /// The cluster has no leader.
    NoLeader = Unavailable, "no leader";
    /// Another member became leader before the entry was applied.
    LeaderChanged = Unavailable, "leader changed";
    /// The cluster's version does not have this.
    NotCapable = Unavailable, "not capable";
    /// The server stops.
    Stopped = Unavailable, "server stopped";
    /// There was no result in time.
    Timeout = Unavailable, "request timed out";
    /// The same, and the leader was lost meanwhile.
    TimeoutDueToLeaderFail = Unavailable, "request timed out, possibly due to previous leader failure";
    /// The same, and connections to most members were lost.
    TimeoutDueToConnectionLost = Unavailable, "request timed out, possibly due to connection lost";
    /// A read waited too long for what it must see.
    TimeoutWaitApplied = Unavailable, "request timed out, waiting for the applied index took too long";
    /// Too few members are healthy for the change.
    Unhealthy = Unavailable, "unhealthy cluster";
    /// A learner does not serve this.
    NotSupportedForLearner = Unavailable, "rpc not supported for learner";
    /// The cluster has no version yet.
    ClusterVersionUnavailable = Unavailable, "cluster version not found during downgrade";

    /// The members' data differ.
    Corrupt = DataLoss, "corrupt cluster";

    /// The token is unknown or has expired.
    InvalidAuthToken = Unauthenticated, "invalid auth token";

    /// The server has ended a watch.
    WatchCanceled = Canceled, "watch canceled";
    /// The client has ended a request.
    RequestCanceled = Canceled, "request canceled";
    /// The client's deadline passed.
    DeadlineExceeded = DeadlineExceeded, "context deadline exceeded";

    /// Too few members would be left. The original forgot its code.
    NotEnoughStarted = Unknown, "re-configuration failed due to not enough started members";
    /// More than 5000 entries wait to be applied. The original forgot its code.
    TooManyRequests = Unknown, "too many requests";
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}

impl From<mvcc::Error> for Error {
    fn from(error: mvcc::Error) -> Error {
        match error {
            mvcc::Error::EmptyKey => Error::KeyNotProvided,
            mvcc::Error::KeyNotFound => Error::KeyNotFound,
            mvcc::Error::ValueProvided => Error::ValueProvided,
            mvcc::Error::LeaseProvided => Error::LeaseProvided,
            mvcc::Error::TooManyOperations => Error::TooManyOps,
            mvcc::Error::DuplicateKey => Error::DuplicateKey,
            mvcc::Error::InvalidSortOption => Error::InvalidSortOption,
            mvcc::Error::LeaseNotFound => Error::LeaseNotFound,
            mvcc::Error::Compacted(_) => Error::Compacted,
            mvcc::Error::FutureRevision(_) => Error::FutureRevision,
        }
    }
}

impl From<LeaseError> for Error {
    fn from(error: LeaseError) -> Error {
        match error {
            LeaseError::NotFound | LeaseError::Expired => Error::LeaseNotFound,
            LeaseError::Exists => Error::LeaseExists,
            LeaseError::TtlTooLarge => Error::LeaseTtlTooLarge,
            LeaseError::NotPrimary => Error::NotLeader,
        }
    }
}

#[cfg(feature = "grpc")]
impl From<Error> for tonic::Status {
    fn from(error: Error) -> tonic::Status {
        tonic::Status::new(tonic::Code::from_i32(error.code().number()), error.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_errors_are_alike_and_each_is_found_by_its_status() {
        for error in Error::ALL {
            assert_eq!(Error::from_status(error.code(), error.message()), Some(*error));
        }
        assert_eq!(Error::from_status(StatusCode::Unknown, "etcdserver: key is not provided"), None);
    }

    #[test]
    fn codes_are_known_by_their_numbers() {
        for number in 0..=16 {
            assert_eq!(StatusCode::from_number(number).number(), number);
        }
        assert_eq!([StatusCode::from_number(-1), StatusCode::from_number(17)], [StatusCode::Unknown; 2]);
    }

    #[test]
    fn the_gateway_maps_codes_as_recorded() {
        let mapped: Vec<u16> = (1..=16).map(|number| StatusCode::from_number(number).http_status()).collect();
        let wanted =
            [499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401].to_vec();
        assert_eq!(mapped, wanted);
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn a_status_has_the_code_and_the_text() {
        let status = tonic::Status::from(Error::Compacted);
        assert_eq!(status.code(), tonic::Code::OutOfRange);
        assert_eq!(status.message(), "etcdserver: mvcc: required revision has been compacted");
    }
}
