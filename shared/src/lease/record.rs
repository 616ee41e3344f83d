//! Leases in the bucket `lease` of the database: eight bytes big endian id → `leasepb.Lease`.

use prost::Message;

use super::LeaseId;
use super::error::RecordError;
use crate::v3::pb::leasepb::Lease;

/// The key of a lease in the bucket.
pub const fn record_key(id: LeaseId) -> [u8; 8] {
    id.to_be_bytes()
}

/// The value of a lease in the bucket.
pub fn encode(lease: &Lease) -> Vec<u8> {
    lease.encode_to_vec()
}

/// Reads a record.
///
/// # Errors
/// A precise [`RecordError`] if the key is not an id, the value not a lease, or they do not belong together.
pub fn decode(key: &[u8], value: &[u8]) -> Result<Lease, RecordError> {
    let bytes: [u8; 8] = key.try_into().map_err(|_| RecordError::KeyLength(key.len()))?;
    let id = LeaseId::from_be_bytes(bytes);
    let lease =
        Lease::decode(value).map_err(|error| RecordError::Message { id, reason: error.to_string() })?;
    if lease.id != id {
        return Err(RecordError::WrongId { key: id, value: lease.id });
    }
    Ok(lease)
}
