//! Users and roles, as clients send them and as they stand in the store: JSON in the shapes of the original.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::rights::{Access, Patterned, Patterns, Permissions, added};
use super::{GUEST, ROOT, Refusal};
use crate::http::go_json;

/// Text that is no user or no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is no JSON of the right form")]
pub(crate) struct Malformed;

/// Somebody with a password, and what they are.
///
/// In a client's request the password is plain, and `grant` and `revoke` say what to change; in the store it is
/// a hash.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct User {
    #[serde(rename = "user")]
    pub(crate) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) password: String,
    pub(crate) roles: Patterns,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) grant: Patterns,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) revoke: Patterns,
}

/// What those may do who have the role.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Role {
    #[serde(rename = "role")]
    pub(crate) name: String,
    pub(crate) permissions: Permissions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grant: Option<Permissions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revoke: Option<Permissions>,
}

/// Whether a list names nothing.
pub(crate) fn is_empty(list: &Patterns) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

impl User {
    /// Reads the first JSON value of a body; what follows it does not matter.
    pub(crate) fn from_body(body: &[u8]) -> Result<User, Malformed> {
        User::from_value(go_json::first_value(body).ok_or(Malformed)?)
    }

    /// Reads what stands in the store. The user `root` has the role of that name, whatever stands there.
    pub(crate) fn from_record(record: &[u8]) -> Result<User, Malformed> {
        let user = User::from_value(serde_json::from_slice(record).map_err(|_| Malformed)?)?;
        Ok(if user.name == ROOT { user.with_root_role() } else { user })
    }

    fn from_value(value: Value) -> Result<User, Malformed> {
        let members = object(&value)?;
        Ok(User {
            name: string(members, "user")?,
            password: string(members, "password")?,
            roles: strings(members, "roles")?,
            grant: strings(members, "grant")?,
            revoke: strings(members, "revoke")?,
        })
    }

    /// With the role `root`, at the end unless it is there.
    pub(crate) fn with_root_role(mut self) -> User {
        let roles = self.roles.get_or_insert_default();
        if !roles.iter().any(|role| role == ROOT) {
            roles.push(ROOT.to_owned());
        }
        self
    }

    /// With the roles that `change` grants and without those that it revokes. The password stays: who has a new
    /// one hashes it first.
    pub(crate) fn changed(&self, change: &User) -> Result<User, Refusal> {
        if self.name != change.name {
            return Err(Refusal::OtherUser { stored: self.name.clone(), named: change.name.clone() });
        }
        let roles = added(&self.roles, &change.grant)
            .map_err(|role| Refusal::RoleGranted { role, user: change.name.clone() })?;
        let mut roles: BTreeSet<String> = roles.into_iter().collect();
        for role in change.revoke.iter().flatten() {
            if !roles.remove(role) {
                return Err(Refusal::RoleNotGranted { role: role.clone(), user: change.name.clone() });
            }
        }
        let roles = Some(roles.into_iter().collect());
        Ok(User {
            name: self.name.clone(),
            password: self.password.clone(),
            roles,
            grant: None,
            revoke: None,
        })
    }
}

impl Role {
    /// The role that may do everything. It stands in no store.
    pub(crate) fn root() -> Role {
        Role { name: ROOT.to_owned(), permissions: Permissions::all(), ..Role::default() }
    }

    /// The role of those who show no password, as it is made when auth is switched on.
    pub(crate) fn guest() -> Role {
        Role { name: GUEST.to_owned(), permissions: Permissions::all(), ..Role::default() }
    }

    /// Reads the first JSON value of a body; what follows it does not matter.
    pub(crate) fn from_body(body: &[u8]) -> Result<Role, Malformed> {
        Role::from_value(go_json::first_value(body).ok_or(Malformed)?)
    }

    /// Reads what stands in the store.
    pub(crate) fn from_record(record: &[u8]) -> Result<Role, Malformed> {
        Role::from_value(serde_json::from_slice(record).map_err(|_| Malformed)?)
    }

    fn from_value(value: Value) -> Result<Role, Malformed> {
        let members = object(&value)?;
        Ok(Role {
            name: string(members, "role")?,
            permissions: permissions(members, "permissions")?.unwrap_or_default(),
            grant: permissions(members, "grant")?,
            revoke: permissions(members, "revoke")?,
        })
    }

    /// Whether it asks to change a role, not to make one.
    pub(crate) fn is_change(&self) -> bool {
        [&self.grant, &self.revoke].into_iter().flatten().any(|permissions| !permissions.is_empty())
    }

    pub(crate) fn allows(&self, access: Access<'_>) -> bool {
        self.name == ROOT || self.permissions.allow(access)
    }

    /// With what `change` grants and without what it revokes.
    pub(crate) fn changed(&self, change: &Role) -> Result<Role, Refusal> {
        if self.name != change.name {
            return Err(Refusal::OtherRole { stored: self.name.clone(), named: change.name.clone() });
        }
        let mut permissions = self.permissions.clone();
        if let Some(grant) = &change.grant {
            permissions = permissions.granted(grant)?;
        }
        if let Some(revoke) = &change.revoke {
            permissions = permissions.revoked(revoke);
        }
        Ok(Role { name: self.name.clone(), permissions, grant: None, revoke: None })
    }
}

/// The members of an object; `null` has none.
fn object(value: &Value) -> Result<Option<&Map<String, Value>>, Malformed> {
    match value {
        Value::Null => Ok(None),
        Value::Object(members) => Ok(Some(members)),
        _ => Err(Malformed),
    }
}

fn member<'a>(members: Option<&'a Map<String, Value>>, name: &str) -> Option<&'a Value> {
    go_json::member(members?, name).filter(|value| !value.is_null())
}

fn string(members: Option<&Map<String, Value>>, name: &str) -> Result<String, Malformed> {
    match member(members, name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Malformed),
    }
}

fn strings(members: Option<&Map<String, Value>>, name: &str) -> Result<Patterns, Malformed> {
    let items = match member(members, name) {
        None => return Ok(None),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(Malformed),
    };
    let text = |item: &Value| match item {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        _ => Err(Malformed),
    };
    items.iter().map(text).collect::<Result<_, _>>().map(Some)
}

fn permissions(members: Option<&Map<String, Value>>, name: &str) -> Result<Option<Permissions>, Malformed> {
    let Some(value) = member(members, name) else { return Ok(None) };
    let kv = match member(object(value)?, "kv") {
        None => return Ok(Some(Permissions::default())),
        Some(kv) => object(kv)?,
    };
    Ok(Some(Permissions { kv: Patterned { read: strings(kv, "read")?, write: strings(kv, "write")? } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(json: &str) -> User {
        User::from_body(json.as_bytes()).unwrap()
    }

    fn role(json: &str) -> Role {
        Role::from_body(json.as_bytes()).unwrap()
    }

    fn json<T: Serialize>(value: &T) -> String {
        shared::json::to_string(value).unwrap()
    }

    #[test]
    fn users_are_read_and_written_as_go_does() {
        for (given, wanted) in [
            (r#"{"user":"a"}"#, r#"{"user":"a","roles":null}"#),
            (r#"{"USER":"a","Roles":[]} rest"#, r#"{"user":"a","roles":[]}"#),
            (
                r#"{"user":"a","password":"<p>","x":1}"#,
                r#"{"user":"a","password":"\u003cp\u003e","roles":null}"#,
            ),
            (r#"{"user":"a","roles":["r",null],"grant":[]}"#, r#"{"user":"a","roles":["r",""]}"#),
            (r#"{"user":null,"roles":null,"grant":["g"]}"#, r#"{"user":"","roles":null,"grant":["g"]}"#),
            ("null", r#"{"user":"","roles":null}"#),
        ] {
            assert_eq!(json(&user(given)), wanted, "{given}");
        }
        for bad in ["", "{", "[]", "5", r#"{"user":5}"#, r#"{"roles":"r"}"#, r#"{"roles":[1]}"#] {
            assert_eq!(User::from_body(bad.as_bytes()), Err(Malformed), "{bad}");
        }
        assert!(User::from_record(br#"{"user":"a"} rest"#).is_err());
    }

    #[test]
    fn roles_are_read_and_written_as_go_does() {
        for (given, wanted) in [
            (r#"{"role":"r"}"#, r#"{"role":"r","permissions":{"kv":{"read":null,"write":null}}}"#),
            (
                r#"{"role":"r","permissions":{"kv":{"read":["/*"],"write":[]}}}"#,
                r#"{"role":"r","permissions":{"kv":{"read":["/*"],"write":[]}}}"#,
            ),
            (
                r#"{"role":"r","grant":{},"revoke":null}"#,
                r#"{"role":"r","permissions":{"kv":{"read":null,"write":null}},"grant":{"kv":{"read":null,"write":null}}}"#,
            ),
        ] {
            assert_eq!(json(&role(given)), wanted, "{given}");
        }
        for bad in [r#"{"role":1}"#, r#"{"permissions":[]}"#, r#"{"grant":{"kv":{"read":"/x"}}}"#] {
            assert_eq!(Role::from_body(bad.as_bytes()), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn root_is_root() {
        let roles = |record: &[u8]| User::from_record(record).unwrap().roles.unwrap_or_default();
        assert_eq!(roles(br#"{"user":"root","roles":null}"#), ["root"]);
        assert_eq!(roles(br#"{"user":"root","roles":["x","root"]}"#), ["x", "root"]);
        assert_eq!(roles(br#"{"user":"ruth"}"#), [""; 0]);
        assert!(Role::root().allows(Access { key: b"", writes: true, recursive: true }));
        assert!(!Role::guest().allows(Access { key: b"", writes: false, recursive: false }));
    }

    #[test]
    fn roles_of_users_change_all_at_once() {
        let ann = user(r#"{"user":"ann","password":"h","roles":["b"]}"#);
        let change = |text: &str| ann.changed(&user(text)).map_err(|refusal| refusal.to_string());
        let changed = change(r#"{"user":"ann","grant":["c","a"],"revoke":["b"]}"#).unwrap();
        assert_eq!(json(&changed), r#"{"user":"ann","password":"h","roles":["a","c"]}"#);
        assert_eq!(change(r#"{"user":"ann"}"#), Ok(ann.clone()));
        assert_eq!(change(r#"{"user":"ann","grant":["x"],"revoke":["x"]}"#), Ok(ann.clone()));
        for (text, wanted) in [
            (r#"{"user":"ann","grant":["b"]}"#, "auth: Granting duplicate role b for user ann"),
            (r#"{"user":"ann","revoke":["z"]}"#, "auth: Revoking ungranted role z for user ann"),
            (r#"{"user":"bob"}"#, "auth: Merging user data with conflicting usernames: ann bob"),
        ] {
            assert_eq!(change(text), Err(wanted.to_owned()));
        }
        // A user who never had roles has an empty list after a change of nothing, which is a change.
        let none = user(r#"{"user":"ann"}"#);
        assert_ne!(none.changed(&none).unwrap(), none);
    }

    #[test]
    fn a_role_that_is_changed_forgets_how() {
        let before = role(r#"{"role":"r","permissions":{"kv":{"read":["/x"]}},"grant":{}}"#);
        let after = before.changed(&role(r#"{"role":"r","revoke":{"kv":{"read":["/y"]}}}"#)).unwrap();
        assert_eq!(json(&after), r#"{"role":"r","permissions":{"kv":{"read":["/x"],"write":[]}}}"#);
        assert!(!before.is_change());
        assert!(role(r#"{"role":"r","revoke":{"kv":{"write":["/y"]}}}"#).is_change());
    }
}
