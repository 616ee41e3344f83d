//! Answers as `"Name" : value` lines.

use std::io::Write as _;

use shared::quote::quote;
use shared::v3::pb::authpb::permission;
use shared::v3::pb::etcdserverpb::*;
use shared::v3::pb::mvccpb::KeyValue;

/// What can be written as lines with names.
pub(crate) trait Fields {
    /// Writes the lines; `false` if the original has none for this answer.
    fn fields(&self, out: &mut Vec<u8>) -> bool;
}

/// Writes a line. Writing to a vector cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{ let _ = writeln!($out, $($text)*); }};
}

/// Writes the header; one that is missing has zeros.
pub(crate) fn header(header: Option<&ResponseHeader>, out: &mut Vec<u8>) {
    let header = header.copied().unwrap_or_default();
    line!(out, "\"ClusterID\" : {}", header.cluster_id);
    line!(out, "\"MemberID\" : {}", header.member_id);
    line!(out, "\"Revision\" : {}", header.revision);
    line!(out, "\"RaftTerm\" : {}", header.raft_term);
}

/// Writes a key with its value.
pub(crate) fn key_value(prefix: &str, kv: &KeyValue, out: &mut Vec<u8>) {
    line!(out, "\"{prefix}Key\" : {}", quote(&kv.key));
    line!(out, "\"{prefix}CreateRevision\" : {}", kv.create_revision);
    line!(out, "\"{prefix}ModRevision\" : {}", kv.mod_revision);
    line!(out, "\"{prefix}Version\" : {}", kv.version);
    line!(out, "\"{prefix}Value\" : {}", quote(&kv.value));
    line!(out, "\"{prefix}Lease\" : {}", kv.lease);
}

impl Fields for RangeResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        self.kvs.iter().for_each(|kv| key_value("", kv, out));
        line!(out, "\"More\" : {}", self.more);
        line!(out, "\"Count\" : {}", self.count);
        true
    }
}

impl Fields for PutResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        self.prev_kv.iter().for_each(|kv| key_value("Prev", kv, out));
        true
    }
}

impl Fields for DeleteRangeResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        line!(out, "\"Deleted\" : {}", self.deleted);
        self.prev_kvs.iter().for_each(|kv| key_value("Prev", kv, out));
        true
    }
}

impl Fields for TxnResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        use response_op::Response;
        header(self.header.as_ref(), out);
        line!(out, "\"Succeeded\" : {}", self.succeeded);
        for answer in &self.responses {
            match &answer.response {
                Some(Response::ResponseRange(answer)) => answer.fields(out),
                Some(Response::ResponsePut(answer)) => answer.fields(out),
                Some(Response::ResponseDeleteRange(answer)) => answer.fields(out),
                Some(Response::ResponseTxn(answer)) => answer.fields(out),
                None => true,
            };
        }
        true
    }
}

impl Fields for WatchResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        for event in &self.events {
            line!(out, "\"Type\" : {}", event.r#type().as_str_name());
            event.prev_kv.iter().for_each(|kv| key_value("Prev", kv, out));
            event.kv.iter().for_each(|kv| key_value("", kv, out));
        }
        true
    }
}

impl Fields for LeaseGrantResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        line!(out, "\"ID\" : {}", self.id);
        line!(out, "\"TTL\" : {}", self.ttl);
        true
    }
}

impl Fields for LeaseKeepAliveResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        line!(out, "\"ID\" : {}", self.id);
        line!(out, "\"TTL\" : {}", self.ttl);
        true
    }
}

impl Fields for LeaseTimeToLiveResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        line!(out, "\"ID\" : {}", self.id);
        line!(out, "\"TTL\" : {}", self.ttl);
        line!(out, "\"GrantedTTL\" : {}", self.granted_ttl);
        self.keys.iter().for_each(|key| line!(out, "\"Key\" : {}", quote(key)));
        true
    }
}

impl Fields for LeaseLeasesResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        self.leases.iter().for_each(|lease| line!(out, "\"ID\" : {}", lease.id));
        true
    }
}

impl Fields for MemberListResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        for member in &self.members {
            line!(out, "\"ID\" : {}", member.id);
            line!(out, "\"Name\" : {}", quote(&member.name));
            member.peer_ur_ls.iter().for_each(|url| line!(out, "\"PeerURL\" : {}", quote(url)));
            member.client_ur_ls.iter().for_each(|url| line!(out, "\"ClientURL\" : {}", quote(url)));
            line!(out, "\"IsLearner\" : {}\n", member.is_learner);
        }
        true
    }
}

impl Fields for AlarmResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        for alarm in &self.alarms {
            line!(out, "\"MemberID\" : {}", alarm.member_id);
            line!(out, "\"AlarmType\" : {}\n", alarm.alarm().as_str_name());
        }
        true
    }
}

impl Fields for AuthRoleGetResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        for permission in &self.perm {
            let kind = permission::Type::try_from(permission.perm_type);
            line!(out, "\"PermType\" :  {}", kind.map_or("UNKNOWN", |kind| kind.as_str_name()));
            line!(out, "\"Key\" : {}", quote(&permission.key));
            line!(out, "\"RangeEnd\" : {}", quote(&permission.range_end));
        }
        true
    }
}

impl Fields for AuthRoleListResponse {
    fn fields(&self, out: &mut Vec<u8>) -> bool {
        header(self.header.as_ref(), out);
        let roles: Vec<String> = self.roles.iter().map(quote).collect();
        line!(out, "\"Roles\" : {}", roles.join(" "));
        true
    }
}

/// Answers whose header is all there is to say.
macro_rules! header_only {
    ($($message:ident)*) => {
        $(impl Fields for $message {
            fn fields(&self, out: &mut Vec<u8>) -> bool {
                header(self.header.as_ref(), out);
                true
            }
        })*
    };
}

header_only! {
    LeaseRevokeResponse MemberAddResponse MemberRemoveResponse MemberUpdateResponse MemberPromoteResponse
    AuthUserAddResponse AuthUserDeleteResponse AuthUserChangePasswordResponse AuthUserGrantRoleResponse
    AuthUserRevokeRoleResponse AuthRoleAddResponse AuthRoleDeleteResponse AuthRoleGrantPermissionResponse
    AuthRoleRevokePermissionResponse
}

/// Answers that the original does not show in this form.
macro_rules! unsupported {
    ($($message:ident)*) => {
        $(impl Fields for $message {
            fn fields(&self, _: &mut Vec<u8>) -> bool {
                false
            }
        })*
    };
}

unsupported! { MoveLeaderResponse AuthStatusResponse AuthUserGetResponse AuthUserListResponse }
