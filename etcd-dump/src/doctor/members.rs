//! Member records in a store that 3.6 cannot read. It stops at the first of them.

use serde_json::Value;
use shared::event::NodeView;
use shared::id::MemberId;
use shared::store::Store;

const MEMBERS: &[u8] = b"/0/members";
const REMOVED: &[u8] = b"/0/removed_members";
const VERSION: &[u8] = b"/0/version";

/// Describes each member record in a store that 3.6 cannot read.
pub(crate) fn faults(store: &Store) -> Vec<String> {
    let mut faults = Vec::new();
    if let Ok(listing) = store.get(MEMBERS, true, false) {
        for member in listing.node().children() {
            let name = String::from_utf8_lossy(member.name()).into_owned();
            faults.extend(member_faults(&member).map(|fault| format!("/0/members/{name}: {fault}")));
        }
    }
    if let Ok(listing) = store.get(REMOVED, false, false) {
        for name in listing.node().children().filter(|child| !is_id(child.name())).map(|child| child.name()) {
            let name = String::from_utf8_lossy(name).into_owned();
            faults.push(format!("/0/removed_members/{name}: the name is not the id of a member"));
        }
    }
    if let Ok(node) = store.get(VERSION, false, false)
        && !node.node().value().is_some_and(is_version)
    {
        faults.push("/0/version: it is not a version such as 3.5.0".to_owned());
    }
    faults
}

/// What is wrong with one member record.
fn member_faults(member: &NodeView<'_>) -> impl Iterator<Item = String> {
    let mut faults = Vec::new();
    if !is_id(member.name()) {
        faults.push("the name is not the id of a member".to_owned());
    }
    for child in member.children() {
        let name = String::from_utf8_lossy(child.name()).into_owned();
        match (child.name(), child.value()) {
            (b"raftAttributes" | b"attributes", Some(value)) if is_attributes(value) => {}
            (b"raftAttributes" | b"attributes", Some(_)) => {
                faults.push(format!("its {name} are not a JSON object with lists of URLs"));
            }
            (b"raftAttributes" | b"attributes", None) => faults.push(format!("its {name} are a directory")),
            (name, _) if name.starts_with(b"_") => {}
            _ => faults.push(format!("{name:?} is not a part of a member")),
        }
    }
    if member.child(b"raftAttributes").is_none() {
        faults.push("it has no raftAttributes".to_owned());
    }
    faults.into_iter()
}

fn is_id(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|name| name.parse::<MemberId>().is_ok())
}

/// Whether Go decodes a text as the attributes of a member: an object, or `null`, whose known fields have the right
/// types.
pub(super) fn is_attributes(text: &[u8]) -> bool {
    let is_urls = |value: &Value| match value {
        Value::Null => true,
        Value::Array(urls) => urls.iter().all(|url| url.is_string() || url.is_null()),
        _ => false,
    };
    match serde_json::from_slice(text) {
        Ok(Value::Null) => true,
        Ok(Value::Object(fields)) => {
            fields.iter().all(|(name, value)| match name.to_ascii_lowercase().as_str() {
                "peerurls" | "clienturls" => is_urls(value),
                "name" => value.is_string() || value.is_null(),
                "islearner" => value.is_boolean() || value.is_null(),
                _ => true,
            })
        }
        _ => false,
    }
}

/// Whether a text is a version of three numbers, possibly with a suffix.
pub(super) fn is_version(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let mut parts = 0;
    for part in numbers.split('.') {
        parts += 1;
        if part.is_empty() || part.parse::<u64>().is_err() {
            return false;
        }
    }
    parts == 3
}

#[cfg(test)]
mod tests {
    use shared::store::Expiry;
    use shared::time::UnixNanos;

    use super::*;

    fn set(store: &mut Store, path: &str, value: &str) {
        store.set(path.as_bytes(), false, value.as_bytes(), Expiry::default(), UnixNanos::ZERO).unwrap();
    }

    #[test]
    fn what_a_server_writes_is_good_and_anything_else_is_named() {
        let mut store = Store::new(1);
        assert_eq!(faults(&store), Vec::<String>::new());
        set(&mut store, "/0/members/ff/raftAttributes", "{\"peerURLs\":[\"http://p:1\"],\"isLearner\":true}");
        set(&mut store, "/0/members/ff/attributes", "{\"name\":\"m\",\"clientURLs\":null}");
        set(&mut store, "/0/members/10/raftAttributes", "{\"peerURLs\":null}");
        set(&mut store, "/0/removed_members/3", "");
        set(&mut store, "/0/version", "3.5.0");
        assert_eq!(faults(&store), Vec::<String>::new());

        set(&mut store, "/0/members/a1/attributes", "{\"name\":\"ghost\"}");
        set(&mut store, "/0/members/ff/attributes", "{\"name\":");
        set(&mut store, "/0/members/10/raftAttributes", "{\"peerURLs\":\"http://p:1\"}");
        set(&mut store, "/0/members/10/more", "x");
        set(&mut store, "/0/members/none/raftAttributes", "{}");
        set(&mut store, "/0/removed_members/who", "");
        set(&mut store, "/0/version", "3.5");
        assert_eq!(
            faults(&store),
            [
                "/0/members/10: \"more\" is not a part of a member",
                "/0/members/10: its raftAttributes are not a JSON object with lists of URLs",
                "/0/members/a1: it has no raftAttributes",
                "/0/members/ff: its attributes are not a JSON object with lists of URLs",
                "/0/members/none: the name is not the id of a member",
                "/0/removed_members/who: the name is not the id of a member",
                "/0/version: it is not a version such as 3.5.0",
            ]
        );
    }
}
