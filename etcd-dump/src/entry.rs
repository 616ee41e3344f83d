//! The content of an entry of a log of 2.x or 3.x, as fields.

use serde::{Deserialize, Deserializer};
use shared::entry::{EntryContent, V3Membership, V3Request, content};
use shared::pb;
use shared::wal::Frames;

use crate::fields::{Fields, Value};

/// The context of a configuration change: the member that it adds or updates.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Context {
    pub(crate) name: String,
    #[serde(rename = "peerURLs", deserialize_with = "null_as_none")]
    pub(crate) peer_urls: Vec<String>,
    #[serde(rename = "clientURLs", deserialize_with = "null_as_none")]
    pub(crate) client_urls: Vec<String>,
    is_promote: bool,
}

/// Go writes `null` for a list without elements.
fn null_as_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Adds the fields for the content of an entry.
pub(crate) fn describe(entry: &pb::Entry, out: &mut Fields) {
    match content(entry, Frames::Any) {
        Ok(EntryContent::Empty) => out.add("kind", Value::Word("empty")),
        Ok(EntryContent::Request(request)) => request_fields(&request, out),
        Ok(EntryContent::V3(request)) => v3_fields(request, out),
        Ok(EntryContent::Change(change)) => change_fields(&change, out),
        Ok(EntryContent::Changes) => out.add("kind", Value::Word("changes")),
        Err(_) => {
            out.add("kind", Value::Word("unreadable"));
            if entry.kind != pb::ENTRY_NORMAL {
                out.add("entryKind", Value::Signed(entry.kind.into()));
            }
            out.add("data", Value::Long(entry.data.clone().unwrap_or_default()));
        }
    }
}

/// Of a v3 request: its name, and the membership data that it changes in the v2 store.
fn v3_fields(request: V3Request, out: &mut Fields) {
    out.add("kind", Value::Word("v3"));
    out.add("method", Value::Text(request.name().into()));
    match request.membership {
        Some(V3Membership::Version(version)) => out.add("version", Value::Text(version)),
        Some(V3Membership::Attributes { member, name, client_urls }) => {
            out.add("member", Value::Id(member));
            out.add("name", Value::Text(name.into()));
            out.add("clientURLs", Value::Texts(client_urls));
        }
        None => {}
    }
    if request.id != 0 {
        out.add("id", Value::Id(request.id));
    }
}

/// Fields with their default value are left out, except the value of a write.
fn request_fields(request: &pb::Request, out: &mut Fields) {
    out.add("kind", Value::Word("request"));
    out.add("method", Value::Text(request.method.clone()));
    let writes = matches!(&request.method[..], b"PUT" | b"POST");
    let refreshes = request.refresh == Some(true);
    if !request.path.is_empty() {
        out.add("path", Value::Text(request.path.clone()));
    }
    if !request.val.is_empty() || writes && !request.dir && !refreshes {
        out.add("value", Value::Long(request.val.clone()));
    }
    out.add_flag("dir", request.dir);
    if let Some(exist) = request.prev_exist {
        out.add("prevExist", Value::Flag(exist));
    }
    if !request.prev_value.is_empty() {
        out.add("prevValue", Value::Long(request.prev_value.clone()));
    }
    if request.prev_index != 0 {
        out.add("prevIndex", Value::Number(request.prev_index));
    }
    if request.expiration != 0 {
        out.add("expiration", Value::Time(request.expiration));
    }
    if let Some(refresh) = request.refresh {
        out.add("refresh", Value::Flag(refresh));
    }
    out.add_flag("recursive", request.recursive);
    out.add_flag("sorted", request.sorted);
    out.add_flag("quorum", request.quorum);
    out.add_flag("wait", request.wait);
    out.add_flag("stream", request.stream);
    if request.since != 0 {
        out.add("since", Value::Number(request.since));
    }
    if request.time != 0 {
        out.add("time", Value::Time(request.time));
    }
    if request.id != 0 {
        out.add("id", Value::Id(request.id));
    }
}

fn change_fields(change: &pb::ConfChange, out: &mut Fields) {
    out.add("kind", Value::Word("change"));
    let what = match change.kind {
        pb::ADD_NODE => Value::Word("add"),
        pb::REMOVE_NODE => Value::Word("remove"),
        pb::UPDATE_NODE => Value::Word("update"),
        pb::ADD_LEARNER_NODE => Value::Word("addLearner"),
        other => Value::Signed(other.into()),
    };
    out.add("change", what);
    out.add("member", Value::Id(change.node_id));
    if let Some(context) = change.context.as_ref().filter(|context| !context.is_empty()) {
        match serde_json::from_slice::<Context>(context) {
            Ok(member) => member.fields(out),
            Err(_) => out.add("context", Value::Long(context.clone())),
        }
    }
    if change.id != 0 {
        out.add("id", Value::Id(change.id));
    }
}

impl Context {
    fn fields(self, out: &mut Fields) {
        if !self.name.is_empty() {
            out.add("name", Value::Text(self.name.into()));
        }
        if !self.is_promote {
            out.add("peerURLs", Value::Texts(self.peer_urls));
        }
        out.add_flag("promote", self.is_promote);
        if !self.client_urls.is_empty() {
            out.add("clientURLs", Value::Texts(self.client_urls));
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::dump_flags::Lengths;

    fn full(kind: i32, data: Vec<u8>) -> String {
        let entry = pb::Entry { kind, term: 1, index: 1, data: Some(data.into()) };
        let mut fields = Fields::default();
        describe(&entry, &mut fields);
        let mut out = Vec::new();
        fields.write_full("entry", Lengths::Cut, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn request(request: pb::Request) -> String {
        full(0, request.encode_to_vec())
    }

    #[test]
    fn every_field_that_says_something_is_shown() {
        let put = pb::Request { id: 255, method: "PUT".into(), path: "/1/a".into(), ..Default::default() };
        assert_eq!(request(put.clone()), "entry kind=request method=PUT path=\"/1/a\" value=\"\" id=ff\n");
        let all = pb::Request {
            val: "v".into(),
            dir: true,
            prev_exist: Some(false),
            prev_value: "w".into(),
            prev_index: 7,
            expiration: 1_500_000_000_120_000_000,
            refresh: Some(true),
            recursive: true,
            sorted: true,
            quorum: true,
            wait: true,
            stream: true,
            since: 3,
            time: 1,
            ..put.clone()
        };
        assert_eq!(
            request(all),
            "entry kind=request method=PUT path=\"/1/a\" value=\"v\" dir=true prevExist=false prevValue=\"w\" \
             prevIndex=7 expiration=2017-07-14T02:40:00.12Z refresh=true recursive=true sorted=true quorum=true \
             wait=true stream=true since=3 time=1970-01-01T00:00:00.000000001Z id=ff\n"
        );
        let delete = pb::Request { method: "DELETE".into(), recursive: true, ..put };
        assert_eq!(request(delete), "entry kind=request method=DELETE path=\"/1/a\" recursive=true id=ff\n");
    }

    #[test]
    fn a_change_shows_the_member() {
        let context =
            br#"{"id":255,"peerURLs":["http://a:1","http://b:2"],"name":"m","clientURLs":["http://c:3"]}"#;
        let change =
            pb::ConfChange { kind: 0, node_id: 255, context: Some(context[..].into()), ..Default::default() };
        assert_eq!(
            full(1, change.encode_to_vec()),
            "entry kind=change change=add member=ff name=\"m\" peerURLs=\"http://a:1\",\"http://b:2\" \
             clientURLs=\"http://c:3\"\n"
        );
        let promote = pb::ConfChange {
            context: Some(r#"{"id":255,"peerURLs":null,"isPromote":true}"#.into()),
            ..change.clone()
        };
        assert_eq!(full(1, promote.encode_to_vec()), "entry kind=change change=add member=ff promote=true\n");
        let odd = pb::ConfChange { kind: 9, context: Some("{".into()), ..change };
        assert_eq!(full(1, odd.encode_to_vec()), "entry kind=change change=9 member=ff context=\"{\"\n");
    }

    #[test]
    fn requests_of_v3_are_named() {
        // The union with its field 4.
        assert_eq!(full(0, b"\x08\x05\x22\x00".to_vec()), "entry kind=v3 method=\"v3 put\" id=5\n");
        assert_eq!(
            full(0, b"\xa2\x51\x07\x0a\x053.5.0".to_vec()),
            "entry kind=v3 method=\"v3 cluster version set\" version=\"3.5.0\"\n"
        );
        assert_eq!(full(2, vec![]), "entry kind=changes\n");
    }

    #[test]
    fn what_cannot_be_read_is_shown_as_it_is() {
        assert_eq!(full(0, vec![]), "entry kind=empty\n");
        assert_eq!(full(0, vec![0xff]), "entry kind=unreadable data=\"\\xff\"\n");
        assert_eq!(full(1, vec![8]), "entry kind=unreadable entryKind=1 data=\"\\b\"\n");
    }
}
