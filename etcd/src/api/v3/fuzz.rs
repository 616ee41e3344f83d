//! Bodies for fuzzers: messages and JSON from clients cause no panic, and the results keep their rules.

use std::sync::LazyLock;

use bytes::Buf as _;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use shared::mvcc;
use shared::v3::pb::DESCRIPTORS;
use shared::v3::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, WatchRequest};

use super::gateway::{self, Gateway};

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(DESCRIPTORS)
        .unwrap_or_else(|error| unreachable!("the descriptors are compiled in: {error}"))
});
static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| Gateway::new(&POOL));

/// Reads `input` as every request of every service, and checks those that are checked.
///
/// # Panics
/// If a rule is broken: that is a finding.
pub fn fuzz_request_messages(input: &[u8]) {
    for method in POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let Ok(message) = DynamicMessage::decode(method.input(), input) else { continue };
        let written = message.encode_to_vec();
        let again = DynamicMessage::decode(method.input(), &written[..]).map(|again| again.encode_to_vec());
        assert_eq!(again, Ok(written), "what was written is read again");
    }
    let range = RangeRequest::decode(input).map(|request| mvcc::check_range(&request));
    let put = PutRequest::decode(input).map(|request| mvcc::check_put(&request));
    let delete = DeleteRangeRequest::decode(input).map(|request| mvcc::check_delete_range(&request));
    assert!(
        [range, put, delete]
            .iter()
            .all(|checked| input.is_empty() <= checked.as_ref().is_ok_and(Result::is_err)),
        "a request without a key is refused"
    );
    if let Ok(request) = TxnRequest::decode(input) {
        let checked = mvcc::check_txn(&request, 128);
        let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
        assert!(ops <= 128 || checked.is_err(), "{ops} operations");
        assert!(mvcc::is_read_only(&request) || !mvcc::is_serializable(&request));
    }
    let _ = WatchRequest::decode(input);
}

/// Reads `input` as the body of a request of the gateway; its first byte chooses the path.
///
/// # Panics
/// If a rule is broken: that is a finding.
pub fn fuzz_gateway(input: &[u8]) {
    let Some((choice, body)) = input.split_first() else { return };
    let method = GATEWAY.method(usize::from(*choice));
    let Ok(framed) = gateway::requests(&method, body) else { return };
    let mut rest = &framed[..];
    while rest.has_remaining() {
        assert_eq!(rest.get_u8(), 0, "nothing is compressed");
        let length = rest.get_u32() as usize;
        let (message, after) = rest.split_at(length);
        rest = after;
        let mut json = Vec::new();
        // A message within the bound of the one decoder may be beyond that of the other.
        if gateway::to_json(&method.input(), message, &mut json).is_err() {
            continue;
        }
        let again = gateway::requests(&method, &json);
        let again = again.unwrap_or_else(|status| panic!("{status}: {}", String::from_utf8_lossy(&json)));
        assert_eq!(&again[5..], message, "JSON says the same again");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes that look like fields of messages.
    fn fields() -> impl Strategy<Value = Vec<u8>> {
        let field =
            (0_u8..16, 0_u8..6, prop::collection::vec(any::<u8>(), 0..6)).prop_map(|(number, kind, rest)| {
                let mut field = vec![number << 3 | kind];
                if kind == 2 {
                    field.push(u8::try_from(rest.len()).unwrap());
                }
                field.extend(rest);
                field
            });
        prop::collection::vec(field, 0..12).prop_map(|fields| fields.concat())
    }

    /// JSON that looks like requests.
    fn json() -> impl Strategy<Value = Vec<u8>> {
        let part = prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"key\":",
            "\"value\":",
            "\"Zm9v\"",
            "\"rangeEnd\":",
            "\"limit\":",
            "1",
            "\"-1\"",
            "1e3",
            "null",
            "true",
            "\"success\":[{\"request_put\":{",
            "\"requestTxn\":",
            "\"\\u00e9\"",
            "\"create_request\":{",
            "\"filters\":[\"NOPUT\",7,\"x\"]",
            "\"sort_order\":\"DESCEND\"",
            " ",
            "\n",
            "é",
            "\"\\ud800\":",
            "{}",
        ]);
        prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn messages(input in fields()) {
            fuzz_request_messages(&input);
        }

        #[test]
        fn any_bytes(input in prop::collection::vec(any::<u8>(), 0..64)) {
            fuzz_request_messages(&input);
            fuzz_gateway(&input);
        }

        #[test]
        fn json_of_any_shape(choice in any::<u8>(), input in json()) {
            fuzz_gateway(&[&[choice][..], &input].concat());
        }

        #[test]
        fn json_of_one_object(choice in any::<u8>(), input in json()) {
            fuzz_gateway(&[&[choice, b'{'][..], &input, b"}"].concat());
        }
    }
}
