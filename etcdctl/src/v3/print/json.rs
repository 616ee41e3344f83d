//! Answers as JSON, as Go's `encoding/json` writes them: numbers bare, bytes in base64, empty fields left out.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use shared::json;
use shared::v3::pb::authpb::Permission;
use shared::v3::pb::etcdserverpb::*;
use shared::v3::pb::mvccpb::{Event, KeyValue};

/// What can be a JSON object.
pub(crate) trait Json {
    /// Writes the fields.
    fn json(&self, object: &mut Object<'_>);
}

/// Writes an object.
pub(crate) fn write(value: &impl Json, out: &mut Vec<u8>) {
    let mut object = Object::new(out);
    value.json(&mut object);
    object.end();
}

/// An object that is being written.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, empty: true }
    }

    /// Ends it.
    pub(crate) fn end(self) {
        self.out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        json::write_string(self.out, name.as_bytes());
        self.out.push(b':');
    }

    /// A field with JSON as it is given.
    pub(crate) fn raw(&mut self, name: &str, text: &str) {
        self.name(name);
        self.out.extend_from_slice(text.as_bytes());
    }

    /// A number, or no field for 0.
    pub(crate) fn int(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.raw(name, &value.to_string());
        }
    }

    /// A number, or no field for 0.
    pub(crate) fn uint(&mut self, name: &str, value: u64) {
        if value != 0 {
            self.raw(name, &value.to_string());
        }
    }

    /// No field for false.
    pub(crate) fn bool(&mut self, name: &str, value: bool) {
        if value {
            self.raw(name, "true");
        }
    }

    /// Bytes, or no field without any.
    pub(crate) fn bytes(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.raw(name, &format!("\"{}\"", BASE64_STANDARD.encode(value)));
        }
    }

    /// A text, or no field for an empty one.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.name(name);
            json::write_string(self.out, value.as_bytes());
        }
    }

    /// Texts, or no field without any.
    pub(crate) fn texts(&mut self, name: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        self.list(name, values, |out, text| json::write_string(out, text.as_bytes()));
    }

    /// A list, even an empty one.
    pub(crate) fn list<T>(&mut self, name: &str, values: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
        self.name(name);
        self.out.push(b'[');
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            write(self.out, value);
        }
        self.out.push(b']');
    }

    /// An object, or no field without one.
    pub(crate) fn message<T: Json>(&mut self, name: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.name(name);
            write(value, self.out);
        }
    }

    /// Objects, or no field without any.
    pub(crate) fn messages<T: Json>(&mut self, name: &str, values: &[T]) {
        if !values.is_empty() {
            self.list(name, values, |out, value| write(value, out));
        }
    }
}

impl Json for ResponseHeader {
    fn json(&self, object: &mut Object<'_>) {
        object.uint("cluster_id", self.cluster_id);
        object.uint("member_id", self.member_id);
        object.int("revision", self.revision);
        object.uint("raft_term", self.raft_term);
    }
}

impl Json for KeyValue {
    fn json(&self, object: &mut Object<'_>) {
        object.bytes("key", &self.key);
        object.int("create_revision", self.create_revision);
        object.int("mod_revision", self.mod_revision);
        object.int("version", self.version);
        object.bytes("value", &self.value);
        object.int("lease", self.lease);
    }
}

impl Json for Event {
    fn json(&self, object: &mut Object<'_>) {
        object.int("type", self.r#type.into());
        object.message("kv", self.kv.as_ref());
        object.message("prev_kv", self.prev_kv.as_ref());
    }
}

impl Json for ResponseOp {
    fn json(&self, object: &mut Object<'_>) {
        use response_op::Response;
        // Go shows the wrapper that it has for a choice.
        object.name("Response");
        let mut inner = Object::new(object.out);
        match &self.response {
            Some(Response::ResponseRange(answer)) => inner.message("response_range", Some(answer)),
            Some(Response::ResponsePut(answer)) => inner.message("response_put", Some(answer)),
            Some(Response::ResponseDeleteRange(answer)) => {
                inner.message("response_delete_range", Some(answer));
            }
            Some(Response::ResponseTxn(answer)) => inner.message("response_txn", Some(answer)),
            None => {}
        }
        inner.end();
    }
}

impl Json for StatusResponse {
    fn json(&self, object: &mut Object<'_>) {
        object.message("header", self.header.as_ref());
        object.text("version", &self.version);
        object.int("dbSize", self.db_size);
        object.uint("leader", self.leader);
        object.uint("raftIndex", self.raft_index);
        object.uint("raftTerm", self.raft_term);
        object.uint("raftAppliedIndex", self.raft_applied_index);
        object.texts("errors", &self.errors);
        object.int("dbSizeInUse", self.db_size_in_use);
        object.bool("isLearner", self.is_learner);
    }
}

impl Json for Member {
    fn json(&self, object: &mut Object<'_>) {
        object.uint("ID", self.id);
        object.text("name", &self.name);
        object.texts("peerURLs", &self.peer_ur_ls);
        object.texts("clientURLs", &self.client_ur_ls);
        object.bool("isLearner", self.is_learner);
    }
}

impl Json for AlarmMember {
    fn json(&self, object: &mut Object<'_>) {
        object.uint("memberID", self.member_id);
        object.int("alarm", self.alarm.into());
    }
}

impl Json for Permission {
    fn json(&self, object: &mut Object<'_>) {
        object.int("permType", self.perm_type.into());
        object.bytes("key", &self.key);
        object.bytes("range_end", &self.range_end);
    }
}

/// Messages that are a header and some fields: `Message { method "name" = field; }`.
macro_rules! answers {
    ($($message:ident { $($method:ident $name:literal = $field:ident $(as $into:ident)?;)* })*) => {
        $(impl Json for $message {
            fn json(&self, object: &mut Object<'_>) {
                object.message("header", self.header.as_ref());
                $(answers!(@field object, self, $method, $name, $field);)*
            }
        })*
    };
    (@field $object:ident, $self:ident, message, $name:literal, $field:ident) => {
        $object.message($name, $self.$field.as_ref());
    };
    (@field $object:ident, $self:ident, int, $name:literal, $field:ident) => {
        $object.int($name, i64::from($self.$field));
    };
    (@field $object:ident, $self:ident, uint, $name:literal, $field:ident) => {
        $object.uint($name, u64::from($self.$field));
    };
    (@field $object:ident, $self:ident, bool, $name:literal, $field:ident) => {
        $object.bool($name, $self.$field);
    };
    (@field $object:ident, $self:ident, $method:ident, $name:literal, $field:ident) => {
        $object.$method($name, &$self.$field);
    };
}

answers! {
    RangeResponse { messages "kvs" = kvs; bool "more" = more; int "count" = count; }
    PutResponse { message "prev_kv" = prev_kv; }
    DeleteRangeResponse { int "deleted" = deleted; messages "prev_kvs" = prev_kvs; }
    TxnResponse { bool "succeeded" = succeeded; messages "responses" = responses; }
    LeaseRevokeResponse {}
    AlarmResponse { messages "alarms" = alarms; }
    HashKvResponse { uint "hash" = hash; int "compact_revision" = compact_revision; }
    MoveLeaderResponse {}
    MemberListResponse { messages "members" = members; }
    MemberAddResponse { message "member" = member; messages "members" = members; }
    MemberRemoveResponse { messages "members" = members; }
    MemberUpdateResponse { messages "members" = members; }
    MemberPromoteResponse { messages "members" = members; }
    AuthStatusResponse { bool "enabled" = enabled; uint "authRevision" = auth_revision; }
    AuthUserAddResponse {}
    AuthUserDeleteResponse {}
    AuthUserChangePasswordResponse {}
    AuthUserGrantRoleResponse {}
    AuthUserRevokeRoleResponse {}
    AuthUserGetResponse { texts "roles" = roles; }
    AuthUserListResponse { texts "users" = users; }
    AuthRoleAddResponse {}
    AuthRoleDeleteResponse {}
    AuthRoleGrantPermissionResponse {}
    AuthRoleRevokePermissionResponse {}
    AuthRoleGetResponse { messages "perm" = perm; }
    AuthRoleListResponse { texts "roles" = roles; }
}
