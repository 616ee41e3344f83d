//! Ranges of keys as requests have them.

use bytes::Bytes;

/// All keys from the first one on.
const FROM: &[u8] = b"\0";

/// Key and end of the keys that begin with `prefix`.
pub(crate) fn of_prefix(prefix: &[u8]) -> (Bytes, Bytes) {
    if prefix.is_empty() {
        return (Bytes::from_static(FROM), Bytes::from_static(FROM));
    }
    (Bytes::copy_from_slice(prefix), end_of_prefix(prefix))
}

/// Key and end of the keys from `key` on.
pub(crate) fn from(key: &[u8]) -> (Bytes, Bytes) {
    let key = if key.is_empty() { FROM } else { key };
    (Bytes::copy_from_slice(key), Bytes::from_static(FROM))
}

/// The first key behind those that begin with `prefix`.
pub(crate) fn end_of_prefix(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|byte| *byte != u8::MAX) {
        Some(at) => {
            let mut end = prefix[..=at].to_vec();
            end[at] += 1;
            end.into()
        }
        None => Bytes::from_static(FROM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_behind_its_last_key() {
        for (prefix, end) in
            [(&b"a"[..], &b"b"[..]), (b"pre/", b"pre0"), (b"a\xff\xff", b"b"), (b"\xff", b"\0")]
        {
            assert_eq!(end_of_prefix(prefix), end, "{prefix:?}");
        }
        assert_eq!(of_prefix(b""), (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")));
        assert_eq!(from(b""), (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")));
        assert_eq!(from(b"k"), (Bytes::from_static(b"k"), Bytes::from_static(b"\0")));
    }
}
