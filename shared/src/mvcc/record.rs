//! The records of the bucket `key`: a `KeyValue` each.

use bytes::Bytes;
use prost::Message;
use prost::encoding::encoded_len_varint;

use crate::v3::pb::mvccpb::KeyValue;

/// Encodes a version of a key. The returned message has slices of the record, so that nothing holds on to the
/// request that they came with.
pub(super) fn encode(kv: KeyValue) -> (Bytes, KeyValue) {
    let record = Bytes::from(kv.encode_to_vec());
    let key_at = 1 + encoded_len_varint(kv.key.len() as u64);
    let lease = if kv.lease == 0 { 0 } else { 1 + encoded_len_varint(kv.lease.cast_unsigned()) };
    let slice = |from: usize, like: &Bytes| {
        if like.is_empty() { Bytes::new() } else { record.slice(from..from + like.len()) }
    };
    let key = slice(key_at, &kv.key);
    let value = slice((record.len() - lease).saturating_sub(kv.value.len()), &kv.value);
    let kv = KeyValue { key, value, ..kv };
    (record, kv)
}

/// The record of a deletion: the key alone.
pub(super) fn tombstone(key: Bytes) -> (Bytes, KeyValue) {
    encode(KeyValue { key, ..KeyValue::default() })
}

/// Decodes a record; its fields are slices of it.
pub(super) fn decode(record: Bytes) -> Option<KeyValue> {
    KeyValue::decode(record).ok()
}
