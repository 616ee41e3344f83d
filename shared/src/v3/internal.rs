//! The v3 requests in the log: a union with a head, one of whose fields is set (`etcdserverpb.InternalRaftRequest`).

use bytes::{Buf, Bytes};
use prost::DecodeError;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::pb::etcdserverpb as pb;

/// A request that an entry of the log holds.
#[derive(Debug, Clone, PartialEq)]
pub struct InternalRequest {
    /// Identifies the waiting client.
    pub id: u64,
    /// Who asks, with auth on; empty for nobody.
    pub username: String,
    /// The revision of users and roles at which the permission was checked, with auth on.
    pub auth_revision: u64,
    /// What is asked for.
    pub operation: Operation,
}

/// Why bytes hold no v3 request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InternalError {
    /// They are no message, or a part of them is not the message that its field says.
    #[error(transparent)]
    Message(#[from] DecodeError),
    /// No request is set that this program knows.
    #[error("no known request is in it")]
    NoOperation,
    /// Several requests are set.
    #[error("it has two requests, in the fields {0} and {1}")]
    Two(u32, u32),
}

const ID: u32 = 1;
const HEADER: u32 = 100;

/// Defines [`Operation`] from the union's fields.
macro_rules! operations {
    ($($(#[$doc:meta])* $field:literal $name:ident($message:ty) $shown:literal;)*) => {
        /// The requests of the union.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Operation {
            $($(#[$doc])* $name($message),)*
        }

        impl Operation {
            /// The number of its field in the union.
            #[must_use]
            pub fn field(&self) -> u32 {
                match self {
                    $(Operation::$name(_) => $field,)*
                }
            }

            /// Its name for people: `put`.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self {
                    $(Operation::$name(_) => $shown,)*
                }
            }

            /// The name of the operation in a field of the union; `None` if no version known here has that field.
            #[must_use]
            pub fn name_of(field: u32) -> Option<&'static str> {
                match field {
                    $($field => Some($shown),)*
                    _ => None,
                }
            }

            fn decode(field: u32, message: Bytes) -> Result<Option<Operation>, DecodeError> {
                Ok(Some(match field {
                    $($field => Operation::$name(Message::decode(message)?),)*
                    _ => return Ok(None),
                }))
            }

            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Operation::$name(message) => prost::encoding::message::encode($field, message, out),)*
                }
            }

            fn encoded_len(&self) -> usize {
                match self {
                    $(Operation::$name(message) => prost::encoding::message::encoded_len($field, message),)*
                }
            }
        }
    };
}

operations! {
    /// Reads keys. No server of 3.5 writes it.
    3 Range(pb::RangeRequest) "range";
    /// Sets a key.
    4 Put(pb::PutRequest) "put";
    /// Deletes keys.
    5 DeleteRange(pb::DeleteRangeRequest) "delete range";
    /// Several operations in one revision.
    6 Txn(pb::TxnRequest) "txn";
    /// Forgets old versions.
    7 Compaction(pb::CompactionRequest) "compaction";
    /// Makes a lease. Its id is set.
    8 LeaseGrant(pb::LeaseGrantRequest) "lease grant";
    /// Ends a lease and deletes its keys.
    9 LeaseRevoke(pb::LeaseRevokeRequest) "lease revoke";
    /// Raises or ends an alarm.
    10 Alarm(pb::AlarmRequest) "alarm";
    /// Records how long leases still have.
    11 LeaseCheckpoint(pb::LeaseCheckpointRequest) "lease checkpoint";
    /// Turns auth on.
    1000 AuthEnable(pb::AuthEnableRequest) "auth enable";
    /// Turns auth off.
    1011 AuthDisable(pb::AuthDisableRequest) "auth disable";
    /// Records the token of a user whose password was checked.
    1012 Authenticate(pb::InternalAuthenticateRequest) "authenticate";
    /// Asks whether auth is on.
    1013 AuthStatus(pb::AuthStatusRequest) "auth status";
    /// Adds a user.
    1100 UserAdd(pb::AuthUserAddRequest) "auth user add";
    /// Removes a user.
    1101 UserDelete(pb::AuthUserDeleteRequest) "auth user delete";
    /// Asks for a user's roles.
    1102 UserGet(pb::AuthUserGetRequest) "auth user get";
    /// Gives a user another password.
    1103 UserChangePassword(pb::AuthUserChangePasswordRequest) "auth user change password";
    /// Gives a user a role.
    1104 UserGrantRole(pb::AuthUserGrantRoleRequest) "auth user grant role";
    /// Takes a role from a user.
    1105 UserRevokeRole(pb::AuthUserRevokeRoleRequest) "auth user revoke role";
    /// Asks for all users.
    1106 UserList(pb::AuthUserListRequest) "auth user list";
    /// Asks for all roles.
    1107 RoleList(pb::AuthRoleListRequest) "auth role list";
    /// Adds a role.
    1200 RoleAdd(pb::AuthRoleAddRequest) "auth role add";
    /// Removes a role.
    1201 RoleDelete(pb::AuthRoleDeleteRequest) "auth role delete";
    /// Asks for a role's permissions.
    1202 RoleGet(pb::AuthRoleGetRequest) "auth role get";
    /// Gives a role a permission.
    1203 RoleGrantPermission(pb::AuthRoleGrantPermissionRequest) "auth role grant permission";
    /// Takes a permission from a role.
    1204 RoleRevokePermission(pb::AuthRoleRevokePermissionRequest) "auth role revoke permission";
    /// Sets the cluster's version. Servers of 3.6 write it.
    1300 ClusterVersionSet(pb::ClusterVersionSetRequest) "cluster version set";
    /// Sets a member's name and client URLs. Servers of 3.6 write it.
    1301 MemberAttributesSet(pb::ClusterMemberAttrSetRequest) "member attributes set";
    /// Begins or ends a downgrade.
    1302 DowngradeInfoSet(pb::DowngradeInfoSetRequest) "downgrade info set";
}

impl InternalRequest {
    /// A request of nobody.
    #[must_use]
    pub fn new(operation: Operation) -> InternalRequest {
        InternalRequest { id: 0, username: String::new(), auth_revision: 0, operation }
    }

    /// Decodes what an entry of the log holds.
    ///
    /// # Errors
    /// If it is no such message, or not exactly one known request is set in it.
    pub fn decode(mut data: Bytes) -> Result<InternalRequest, InternalError> {
        let (mut old_id, mut header) = (0, pb::RequestHeader::default());
        let mut found: Option<Operation> = None;
        while data.has_remaining() {
            let (field, wire_type) = decode_key(&mut data)?;
            match (field, wire_type) {
                (ID, WireType::Varint) => old_id = decode_varint(&mut data)?,
                (_, WireType::LengthDelimited) => {
                    let message = length_delimited(&mut data)?;
                    if field == HEADER {
                        header = Message::decode(message)?;
                    } else if let Some(operation) = Operation::decode(field, message)?
                        && let Some(earlier) = found.replace(operation)
                    {
                        return Err(InternalError::Two(earlier.field(), field));
                    }
                }
                // No version writes another type in one of these fields.
                (..=HEADER, _) => return Err(InternalError::NoOperation),
                _ => skip_field(wire_type, field, &mut data, DecodeContext::default())?,
            }
        }
        Ok(InternalRequest {
            id: if header.id == 0 { old_id } else { header.id },
            username: header.username,
            auth_revision: header.auth_revision,
            operation: found.ok_or(InternalError::NoOperation)?,
        })
    }

    /// The number of its bytes in the log.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.operation.encoded_len() + prost::encoding::message::encoded_len(HEADER, &self.header())
    }

    fn header(&self) -> pb::RequestHeader {
        pb::RequestHeader { id: self.id, username: self.username.clone(), auth_revision: self.auth_revision }
    }

    /// Its bytes in the log, as the original writes them: fields by number, so the head stands behind the requests
    /// with lower numbers.
    #[must_use]
    pub fn encode_to_vec(&self) -> Vec<u8> {
        let header = self.header();
        let len = self.operation.encoded_len() + prost::encoding::message::encoded_len(HEADER, &header);
        let mut out = Vec::with_capacity(len);
        if self.operation.field() < HEADER {
            self.operation.encode(&mut out);
        }
        prost::encoding::message::encode(HEADER, &header, &mut out);
        if self.operation.field() > HEADER {
            self.operation.encode(&mut out);
        }
        out
    }
}

/// Takes a length and as many bytes, which are shared.
fn length_delimited(data: &mut Bytes) -> Result<Bytes, DecodeError> {
    let len = decode_varint(data)?;
    match usize::try_from(len) {
        Ok(len) if len <= data.remaining() => Ok(data.split_to(len)),
        // The library's error for it, which cannot be made from outside.
        _ => pb::RequestHeader::decode(&b"\x12\x01"[..]).map(|_| Bytes::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put() -> pb::PutRequest {
        pb::PutRequest { key: "k".into(), value: "v".into(), lease: 7, ..pb::PutRequest::default() }
    }

    /// The same as the whole message of the definitions.
    fn whole(request: &InternalRequest) -> pb::InternalRaftRequest {
        let header = pb::RequestHeader {
            id: request.id,
            username: request.username.clone(),
            auth_revision: request.auth_revision,
        };
        pb::InternalRaftRequest { header: Some(header), ..pb::InternalRaftRequest::default() }
    }

    #[test]
    fn bytes_are_those_of_the_definitions() {
        let request = InternalRequest {
            id: 0x1234_5678_9abc,
            username: "root".into(),
            auth_revision: 3,
            operation: Operation::Put(put()),
        };
        let expected = pb::InternalRaftRequest { put: Some(put()), ..whole(&request) }.encode_to_vec();
        assert_eq!(request.encode_to_vec(), expected);
        assert_eq!(InternalRequest::decode(expected.into()), Ok(request));

        let user = pb::AuthUserAddRequest { name: "a".into(), ..pb::AuthUserAddRequest::default() };
        let request = InternalRequest::new(Operation::UserAdd(user.clone()));
        let expected = pb::InternalRaftRequest { auth_user_add: Some(user), ..whole(&request) };
        let expected = expected.encode_to_vec();
        assert_eq!(request.encode_to_vec(), expected);
        assert_eq!(InternalRequest::decode(expected.into()), Ok(request));
    }

    #[test]
    fn the_old_place_of_the_id_counts_without_a_head() {
        let old = pb::InternalRaftRequest { id: 9, put: Some(put()), ..pb::InternalRaftRequest::default() };
        let found = InternalRequest::decode(old.encode_to_vec().into()).unwrap();
        assert_eq!(found, InternalRequest { id: 9, ..InternalRequest::new(Operation::Put(put())) });
    }

    #[test]
    fn what_is_no_single_request_is_refused() {
        let empty = pb::InternalRaftRequest::default();
        assert_eq!(InternalRequest::decode(empty.encode_to_vec().into()), Err(InternalError::NoOperation));
        let range = pb::RangeRequest { key: "k".into(), ..pb::RangeRequest::default() };
        let two = pb::InternalRaftRequest { range: Some(range), put: Some(put()), ..empty };
        assert_eq!(InternalRequest::decode(two.encode_to_vec().into()), Err(InternalError::Two(3, 4)));
        // A field that no version has is passed over.
        let mut later = InternalRequest::new(Operation::Put(put())).encode_to_vec();
        prost::encoding::uint64::encode(5000, &1, &mut later);
        assert!(InternalRequest::decode(later.into()).is_ok());
        for bytes in [&b"\x22\x05ab"[..], b"\x20\x01", b"\xff", b"\x22\x02\x0a\x05"] {
            assert!(InternalRequest::decode(Bytes::copy_from_slice(bytes)).is_err(), "{bytes:02x?}");
        }
    }
}
