//! Answers whose JSON is not the message's: the original prints structures of its client, with the header's fields among
//! the others or with other names.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use shared::v3::pb::etcdserverpb::*;

use super::json::{Json, Object, write};

fn header(header: Option<&ResponseHeader>, object: &mut Object<'_>) {
    if let Some(header) = header {
        header.json(object);
    }
}

impl Json for LeaseGrantResponse {
    fn json(&self, object: &mut Object<'_>) {
        header(self.header.as_ref(), object);
        object.raw("ID", &self.id.to_string());
        object.raw("TTL", &self.ttl.to_string());
        match self.error.is_empty() {
            true => object.raw("Error", "\"\""),
            false => object.text("Error", &self.error),
        }
    }
}

impl Json for LeaseKeepAliveResponse {
    fn json(&self, object: &mut Object<'_>) {
        header(self.header.as_ref(), object);
        object.raw("ID", &self.id.to_string());
        object.raw("TTL", &self.ttl.to_string());
    }
}

impl Json for LeaseTimeToLiveResponse {
    fn json(&self, object: &mut Object<'_>) {
        header(self.header.as_ref(), object);
        object.raw("id", &self.id.to_string());
        object.raw("ttl", &self.ttl.to_string());
        object.raw("granted-ttl", &self.granted_ttl.to_string());
        if self.keys.is_empty() {
            return object.raw("keys", "null");
        }
        object.list("keys", &self.keys, |out, key| {
            out.extend_from_slice(format!("\"{}\"", BASE64_STANDARD.encode(key)).as_bytes());
        });
    }
}

impl Json for LeaseLeasesResponse {
    fn json(&self, object: &mut Object<'_>) {
        header(self.header.as_ref(), object);
        object.list("leases", &self.leases, |out, lease| {
            out.extend_from_slice(format!("{{\"id\":{}}}", lease.id).as_bytes());
        });
    }
}

impl Json for WatchResponse {
    fn json(&self, object: &mut Object<'_>) {
        object.message("Header", Some(&self.header.unwrap_or_default()));
        match self.events.is_empty() {
            true => object.raw("Events", "null"),
            false => object.list("Events", &self.events, |out, event| write(event, out)),
        }
        object.raw("CompactRevision", &self.compact_revision.to_string());
        object.raw("Canceled", if self.canceled { "true" } else { "false" });
        object.raw("Created", if self.created { "true" } else { "false" });
    }
}
