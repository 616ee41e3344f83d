//! What can be wrong with a request, and with a stored lease.

use super::LeaseId;

/// Why a request for a lease failed. The texts are etcd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is no lease with this id.
    #[error("etcdserver: requested lease not found")]
    NotFound,
    /// The id of a new lease is in use.
    #[error("etcdserver: lease already exists")]
    Exists,
    /// More than [`TTL_MAX`](super::TTL_MAX).
    #[error("etcdserver: too large lease TTL")]
    TtlTooLarge,
    /// The lease expired, and its revocation is on its way: it cannot be kept alive any more. A client is told that
    /// there is no such lease.
    #[error("etcdserver: requested lease not found")]
    Expired,
    /// This member is not the leader and does not know how much time is left.
    #[error("etcdserver: not leader")]
    NotPrimary,
}

/// Why a record of the bucket `lease` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The key is not the eight bytes of an id.
    #[error("the key of a lease has {0} bytes instead of 8")]
    KeyLength(usize),
    /// The value is not a `leasepb.Lease`.
    #[error("lease {id:016x} cannot be decoded: {reason}")]
    Message {
        /// The id in the key.
        id: LeaseId,
        /// What the decoder says.
        reason: String,
    },
    /// Key and value disagree.
    #[error("the key says lease {key:016x}, its value says lease {value:016x}")]
    WrongId {
        /// The id in the key.
        key: LeaseId,
        /// The id in the value.
        value: LeaseId,
    },
}
