//! Users and roles of a cluster with authentication.
//!
//! Servers answer a user with the names of the roles or with the roles themselves (2.2 and later); both are
//! read.

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::error::ClientError;
use super::members::{list_or_null, parse, refusal};
use super::request::{JSON, Request};
use super::{Client, Reply};
use crate::account::{RoleName, UserName};

/// The path of this API.
const AUTH: &str = "/v2/auth";

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct User {
    /// The name.
    pub user: String,
    /// The names of the roles.
    #[serde(default, deserialize_with = "role_names")]
    pub roles: Vec<String>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Role {
    /// The name.
    pub role: String,
    /// Its permissions.
    #[serde(default)]
    pub permissions: Permissions,
}

/// What a role may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions {
    /// Its permissions for keys.
    #[serde(default)]
    pub kv: KeyPatterns,
}

/// The keys that may be read and written; a key that ends in `*` is a prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPatterns {
    /// May be read.
    #[serde(default, deserialize_with = "list_or_null", serialize_with = "null_if_empty")]
    pub read: Vec<String>,
    /// May be written.
    #[serde(default, deserialize_with = "list_or_null", serialize_with = "null_if_empty")]
    pub write: Vec<String>,
}

/// A change of a user's roles or a role's permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Give.
    Grant,
    /// Take away.
    Revoke,
}

/// The body of a request that changes a user.
#[derive(Default, Serialize)]
struct UserUpdate<'a> {
    user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    password: &'a str,
    roles: (),
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    grant: &'a [RoleName],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    revoke: &'a [RoleName],
}

/// The body of a request that changes a role.
#[derive(Default, Serialize)]
struct RoleUpdate<'a> {
    role: &'a str,
    permissions: Permissions,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<Permissions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoke: Option<Permissions>,
}

fn role_names<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum RoleOrName {
        Name(String),
        Whole { role: String },
    }
    let roles: Vec<RoleOrName> = list_or_null(deserializer)?;
    Ok(roles
        .into_iter()
        .map(|role| match role {
            RoleOrName::Name(name) | RoleOrName::Whole { role: name } => name,
        })
        .collect())
}

fn null_if_empty<S: serde::Serializer>(list: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    (!list.is_empty()).then_some(list).serialize(serializer)
}

impl Client {
    /// Switches authentication on or off.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words, also for the calls below.
    pub async fn set_auth(&self, enabled: bool) -> Result<(), ClientError> {
        let method = if enabled { Method::PUT } else { Method::DELETE };
        self.update(Request::new(method, format!("{AUTH}/enable"))).await.map(drop)
    }

    /// The names of all users.
    pub async fn users(&self) -> Result<Vec<String>, ClientError> {
        #[derive(Deserialize)]
        struct Users {
            #[serde(default, deserialize_with = "list_or_null")]
            users: Vec<User>,
        }
        let users: Users = parse(&self.update(Request::new(Method::GET, format!("{AUTH}/users"))).await?)?;
        Ok(users.users.into_iter().map(|user| user.user).collect())
    }

    /// One user.
    pub async fn user(&self, name: &UserName) -> Result<User, ClientError> {
        parse(&self.update(Request::new(Method::GET, user_path(name))).await?)
    }

    /// Adds a user, or gives one another password.
    pub async fn set_password(&self, name: &UserName, password: &str) -> Result<(), ClientError> {
        let update = UserUpdate { user: name.as_str(), password, ..UserUpdate::default() };
        self.update(json(user_path(name), &update)?).await.map(drop)
    }

    /// Removes a user.
    pub async fn remove_user(&self, name: &UserName) -> Result<(), ClientError> {
        self.update(Request::new(Method::DELETE, user_path(name))).await.map(drop)
    }

    /// Changes the roles of a user.
    pub async fn change_user(
        &self,
        name: &UserName,
        how: Change,
        roles: &[RoleName],
    ) -> Result<(), ClientError> {
        let mut update = UserUpdate { user: name.as_str(), ..UserUpdate::default() };
        match how {
            Change::Grant => update.grant = roles,
            Change::Revoke => update.revoke = roles,
        }
        self.update(json(user_path(name), &update)?).await.map(drop)
    }

    /// The names of all roles.
    ///
    /// # Errors
    /// A refusal has only its status, as in the original.
    pub async fn roles(&self) -> Result<Vec<String>, ClientError> {
        #[derive(Deserialize)]
        struct Roles {
            #[serde(default, deserialize_with = "list_or_null")]
            roles: Vec<Role>,
        }
        let reply = self.send(&Request::new(Method::GET, format!("{AUTH}/roles"))).await?;
        if reply.status != StatusCode::OK {
            return Err(ClientError::UnexpectedStatus(reply.status.as_u16()));
        }
        Ok(parse::<Roles>(&reply)?.roles.into_iter().map(|role| role.role).collect())
    }

    /// One role.
    pub async fn role(&self, name: &RoleName) -> Result<Role, ClientError> {
        parse(&self.update(Request::new(Method::GET, role_path(name))).await?)
    }

    /// Adds a role that may do nothing.
    pub async fn add_role(&self, name: &RoleName) -> Result<(), ClientError> {
        let update = RoleUpdate { role: name.as_str(), ..RoleUpdate::default() };
        self.update(json(role_path(name), &update)?).await.map(drop)
    }

    /// Removes a role.
    pub async fn remove_role(&self, name: &RoleName) -> Result<(), ClientError> {
        self.update(Request::new(Method::DELETE, role_path(name))).await.map(drop)
    }

    /// Changes a role's permissions for keys; returns the changed role.
    pub async fn change_role(
        &self,
        name: &RoleName,
        how: Change,
        access: KeyPatterns,
    ) -> Result<Role, ClientError> {
        let permissions = Some(Permissions { kv: access });
        let mut update = RoleUpdate { role: name.as_str(), ..RoleUpdate::default() };
        match how {
            Change::Grant => update.grant = permissions,
            Change::Revoke => update.revoke = permissions,
        }
        parse(&self.update(json(role_path(name), &update)?).await?)
    }

    /// Sends a request of this API; a refusal has a text.
    async fn update(&self, request: Request) -> Result<Reply, ClientError> {
        let reply = self.send(&request).await?;
        match reply.status {
            StatusCode::OK | StatusCode::CREATED => Ok(reply),
            _ => Err(refusal(&reply)),
        }
    }
}

fn user_path(name: &UserName) -> String {
    format!("{AUTH}/users/{name}")
}

fn role_path(name: &RoleName) -> String {
    format!("{AUTH}/roles/{name}")
}

fn json(path: String, update: &impl Serialize) -> Result<Request, ClientError> {
    let body = crate::json::to_string(update).map_err(|_| ClientError::InvalidJson)?;
    Ok(Request::new(Method::PUT, path).with_body(JSON, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_roles_or_their_names() {
        let names = |text| serde_json::from_str::<User>(text).unwrap().roles;
        assert_eq!(names(r#"{"user":"u","roles":["a","b"]}"#), ["a", "b"]);
        assert_eq!(names(r#"{"user":"u","roles":[{"role":"a","permissions":{"kv":{"read":null}}}]}"#), ["a"]);
        assert!(names(r#"{"user":"u","roles":null}"#).is_empty());
    }

    #[test]
    fn orders_are_those_of_the_original() {
        let text = |update: &UserUpdate<'_>| serde_json::to_string(update).unwrap();
        let add = UserUpdate { user: "u", password: "p", ..UserUpdate::default() };
        assert_eq!(text(&add), r#"{"user":"u","password":"p","roles":null}"#);
        let roles = [RoleName::new("r").unwrap()];
        let grant = UserUpdate { user: "u", grant: &roles, ..UserUpdate::default() };
        assert_eq!(text(&grant), r#"{"user":"u","roles":null,"grant":["r"]}"#);
        let read = KeyPatterns { read: vec!["/a/*".into()], write: vec![] };
        let role = RoleUpdate { role: "r", grant: Some(Permissions { kv: read }), ..RoleUpdate::default() };
        assert_eq!(
            serde_json::to_string(&role).unwrap(),
            r#"{"role":"r","permissions":{"kv":{"read":null,"write":null}},"grant":{"kv":{"read":["/a/*"],"write":null}}}"#
        );
    }
}
