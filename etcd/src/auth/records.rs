//! Users and roles as clients send them and as the store keeps them: JSON in the original's format.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};
use shared::account::{NameError, RoleName, UserName};

use super::AuthRefusal;
use super::rights::{Access, KeyPatterns, PatternList, Permissions, added};
use crate::go_json;

/// Why a text is not a valid user or role with the expected name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    /// It is not JSON, or has the wrong structure.
    #[error("it is not JSON of the right form")]
    Malformed,
    /// It contains another name.
    #[error("it names {0:?}")]
    OtherName(String),
    /// It gives the user a role with an invalid name. Checked in requests only.
    #[error("invalid role name {text:?}: {why}")]
    BadRole {
        /// The invalid role name.
        text: String,
        /// What is wrong with it.
        why: NameError,
    },
}

/// A user: name, password and roles.
///
/// In a client's request the password is plain text, and `grant` and `revoke` list the changes; in the store the
/// password is a hash. Roles are plain strings: records may contain invalid role names, which can be revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct User {
    #[serde(rename = "user")]
    pub(crate) name: UserName,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) password: String,
    pub(crate) roles: PatternList,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) grant: PatternList,
    #[serde(skip_serializing_if = "is_empty")]
    pub(crate) revoke: PatternList,
}

/// A role: its name and permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Role {
    #[serde(rename = "role")]
    pub(crate) name: RoleName,
    pub(crate) permissions: Permissions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grant: Option<Permissions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revoke: Option<Permissions>,
}

/// Whether a list is missing or has no elements.
pub(crate) fn is_empty(list: &PatternList) -> bool {
    list.as_ref().is_none_or(Vec::is_empty)
}

impl User {
    /// Parses the user `name` from the first JSON value of a body; ignores what follows.
    pub(crate) fn from_body(name: &UserName, body: &[u8]) -> Result<User, RecordError> {
        let user = User::from_value(name, go_json::first_value(body).ok_or(RecordError::Malformed)?)?;
        for role in [&user.roles, &user.grant].into_iter().flatten().flatten() {
            RoleName::new(role).map_err(|why| RecordError::BadRole { text: role.clone(), why })?;
        }
        Ok(user)
    }

    /// Parses the user `name` from its record in the store. The user `root` always has the role `root`.
    pub(crate) fn from_record(name: &UserName, record: &[u8]) -> Result<User, RecordError> {
        let user =
            User::from_value(name, serde_json::from_slice(record).map_err(|_| RecordError::Malformed)?)?;
        Ok(if user.name.is_root() { user.with_root_role() } else { user })
    }

    fn from_value(name: &UserName, value: Value) -> Result<User, RecordError> {
        let members = object(&value)?;
        let own_name = string(members, "user")?;
        let user = User {
            name: name.clone(),
            password: string(members, "password")?,
            roles: strings(members, "roles")?,
            grant: strings(members, "grant")?,
            revoke: strings(members, "revoke")?,
        };
        if own_name == name.as_str() { Ok(user) } else { Err(RecordError::OtherName(own_name)) }
    }

    /// Appends the role `root` unless the user has it.
    pub(crate) fn with_root_role(mut self) -> User {
        let roles = self.roles.get_or_insert_default();
        let root = RoleName::root();
        if !roles.iter().any(|role| role == root.as_str()) {
            roles.push(root.to_string());
        }
        self
    }

    /// Whether the user has the role `root`.
    pub(crate) fn is_root(&self) -> bool {
        let root = RoleName::root();
        self.roles.iter().flatten().any(|role| role == root.as_str())
    }

    /// Applies the grants and revocations of `change`. The password stays as it is: the caller hashes a new one.
    pub(crate) fn changed(&self, change: &User) -> Result<User, AuthRefusal> {
        if self.name != change.name {
            return Err(AuthRefusal::OtherUser {
                stored: self.name.to_string(),
                named: change.name.to_string(),
            });
        }
        let roles = added(&self.roles, &change.grant)
            .map_err(|role| AuthRefusal::RoleGranted { role, user: change.name.to_string() })?;
        let mut roles: BTreeSet<String> = roles.into_iter().collect();
        for role in change.revoke.iter().flatten() {
            if !roles.remove(role) {
                return Err(AuthRefusal::RoleNotGranted {
                    role: role.clone(),
                    user: change.name.to_string(),
                });
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
    /// The role with all permissions. It is not in the store.
    pub(crate) fn root() -> Role {
        Role { name: RoleName::root(), permissions: Permissions::all(), grant: None, revoke: None }
    }

    /// The role of clients without credentials, as it is created when auth is enabled.
    pub(crate) fn guest() -> Role {
        Role { name: RoleName::guest(), permissions: Permissions::all(), grant: None, revoke: None }
    }

    /// Parses the role `name` from the first JSON value of a body; ignores what follows.
    pub(crate) fn from_body(name: &RoleName, body: &[u8]) -> Result<Role, RecordError> {
        Role::from_value(name, go_json::first_value(body).ok_or(RecordError::Malformed)?)
    }

    /// Parses the role `name` from its record in the store.
    pub(crate) fn from_record(name: &RoleName, record: &[u8]) -> Result<Role, RecordError> {
        Role::from_value(name, serde_json::from_slice(record).map_err(|_| RecordError::Malformed)?)
    }

    fn from_value(name: &RoleName, value: Value) -> Result<Role, RecordError> {
        let members = object(&value)?;
        let own_name = string(members, "role")?;
        let role = Role {
            name: name.clone(),
            permissions: permissions(members, "permissions")?.unwrap_or_default(),
            grant: permissions(members, "grant")?,
            revoke: permissions(members, "revoke")?,
        };
        if own_name == name.as_str() { Ok(role) } else { Err(RecordError::OtherName(own_name)) }
    }

    /// Whether the request changes a role, rather than creating one.
    pub(crate) fn is_change(&self) -> bool {
        [&self.grant, &self.revoke].into_iter().flatten().any(|permissions| !permissions.is_empty())
    }

    pub(crate) fn allows(&self, access: Access<'_>) -> bool {
        self.name.is_root() || self.permissions.allows(access)
    }

    /// Applies the grants and revocations of `change`.
    pub(crate) fn changed(&self, change: &Role) -> Result<Role, AuthRefusal> {
        if self.name != change.name {
            return Err(AuthRefusal::OtherRole {
                stored: self.name.to_string(),
                named: change.name.to_string(),
            });
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

/// The members of a JSON object; `None` for `null`.
fn object(value: &Value) -> Result<Option<&Map<String, Value>>, RecordError> {
    match value {
        Value::Null => Ok(None),
        Value::Object(members) => Ok(Some(members)),
        _ => Err(RecordError::Malformed),
    }
}

fn member<'a>(members: Option<&'a Map<String, Value>>, name: &str) -> Option<&'a Value> {
    go_json::member(members?, name).filter(|value| !value.is_null())
}

fn string(members: Option<&Map<String, Value>>, name: &str) -> Result<String, RecordError> {
    match member(members, name) {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(RecordError::Malformed),
    }
}

fn strings(members: Option<&Map<String, Value>>, name: &str) -> Result<PatternList, RecordError> {
    let items = match member(members, name) {
        None => return Ok(None),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(RecordError::Malformed),
    };
    let text = |item: &Value| match item {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Ok(String::new()),
        _ => Err(RecordError::Malformed),
    };
    items.iter().map(text).collect::<Result<_, _>>().map(Some)
}

fn permissions(members: Option<&Map<String, Value>>, name: &str) -> Result<Option<Permissions>, RecordError> {
    let Some(value) = member(members, name) else { return Ok(None) };
    let kv = match member(object(value)?, "kv") {
        None => return Ok(Some(Permissions::default())),
        Some(kv) => object(kv)?,
    };
    Ok(Some(Permissions { kv: KeyPatterns { read: strings(kv, "read")?, write: strings(kv, "write")? } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a user under the name that the text itself contains.
    fn try_user(json: &[u8]) -> Result<User, RecordError> {
        match User::from_body(&UserName::root(), json) {
            Err(RecordError::OtherName(name)) => User::from_body(&UserName::new(&name).unwrap(), json),
            other => other,
        }
    }

    fn user(json: &str) -> User {
        try_user(json.as_bytes()).unwrap()
    }

    /// Parses a role under the name that the text itself contains.
    fn try_role(json: &[u8]) -> Result<Role, RecordError> {
        match Role::from_body(&RoleName::root(), json) {
            Err(RecordError::OtherName(name)) => Role::from_body(&RoleName::new(&name).unwrap(), json),
            other => other,
        }
    }

    fn role(json: &str) -> Role {
        try_role(json.as_bytes()).unwrap()
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
            (r#"{"user":"a","roles":["r"],"grant":[]}"#, r#"{"user":"a","roles":["r"]}"#),
            (r#"{"user":"a","roles":null,"grant":["g"]}"#, r#"{"user":"a","roles":null,"grant":["g"]}"#),
        ] {
            assert_eq!(json(&user(given)), wanted, "{given}");
        }
        for bad in ["", "{", "[]", "5", r#"{"user":5}"#, r#"{"roles":"r"}"#, r#"{"roles":[1]}"#] {
            assert_eq!(try_user(bad.as_bytes()), Err(RecordError::Malformed), "{bad}");
        }
        let a = UserName::new("a").unwrap();
        assert!(User::from_record(&a, br#"{"user":"a"} rest"#).is_err());
        let odd = User::from_record(&a, br#"{"user":"a","roles":["r",null,"../users/root"]}"#).unwrap();
        assert_eq!(
            json(&odd),
            r#"{"user":"a","roles":["r","","../users/root"]}"#,
            "a record may hold anything"
        );
    }

    #[test]
    fn a_record_of_another_name_is_not_the_one_that_was_wanted() {
        let other = |name: &str| Err(RecordError::OtherName(name.to_owned()));
        let user = |json: &str| User::from_record(&UserName::new("ann").unwrap(), json.as_bytes()).map(drop);
        assert_eq!(user(r#"{"user":"ann"}"#), Ok(()));
        assert_eq!(user(r#"{"user":"bob","password":"h","roles":["root"]}"#), other("bob"));
        for nameless in ["null", "{}", r#"{"user":null}"#] {
            assert_eq!(user(nameless), other(""), "{nameless}");
        }
        let role = |json: &str| Role::from_record(&RoleName::new("app").unwrap(), json.as_bytes()).map(drop);
        assert_eq!(role(r#"{"role":"root"}"#), other("root"));
        assert_eq!(role(r#"{"role":"app"}"#), Ok(()));
    }

    #[test]
    fn roles_are_given_by_their_names_and_taken_by_any_text() {
        for text in ["", "..", "../users/root", "a/b", "a\\u0000"] {
            for list in ["roles", "grant"] {
                let given = try_user(format!(r#"{{"user":"ann","{list}":["{text}"]}}"#).as_bytes());
                assert!(matches!(given, Err(RecordError::BadRole { .. })), "{text} {given:?}");
            }
            assert!(
                try_user(format!(r#"{{"user":"ann","revoke":["{text}"]}}"#).as_bytes()).is_ok(),
                "{text}"
            );
        }
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
            assert_eq!(try_role(bad.as_bytes()), Err(RecordError::Malformed), "{bad}");
        }
    }

    #[test]
    fn root_is_root() {
        let read = |name: &str, record: &[u8]| User::from_record(&UserName::new(name).unwrap(), record);
        let roles = |record: &[u8]| read("root", record).unwrap().roles.unwrap_or_default();
        assert_eq!(roles(br#"{"user":"root","roles":null}"#), ["root"]);
        assert_eq!(roles(br#"{"user":"root","roles":["x","root"]}"#), ["x", "root"]);
        assert_eq!(read("ruth", br#"{"user":"ruth"}"#).unwrap().roles, None);
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
        // For a user who never had roles, an empty change turns a missing list into an empty one: that is a change.
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
