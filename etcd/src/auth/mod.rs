//! Users, roles, and what they may do: the v2 API's authentication.
//!
//! ```text
//! request ─▶ gate ─▶ basic (who?) ─▶ accounts (which user?) ─▶ passwords (is it them?) ─▶ rights (may they?)
//!                                        │
//!                                        ▼ store: /2/enabled, /2/users/NAME, /2/roles/NAME
//! ```
//!
//! All of it stands in the store, below `/2`, as the original keeps it: who changes it submits a request to the
//! log, and who checks looks into this member's store. So what was changed at one member holds at another as soon
//! as the entry is applied there. Whether rights are checked at all is one load of a [`Switch`].
//!
//! **Invariant:** what is joined into a path of the store is a [`UserName`](shared::account::UserName) or a
//! [`RoleName`](shared::account::RoleName), and a record counts only if it names itself so.
//!
//! **Invariant:** a page through which keys can be reached asks [`check_access`] before it does anything, one that changes the
//! cluster asks [`check_root`]. What does the work takes an [`Authorized`] request, which only the gate makes. The
//! `Authorization` header is kept for them only while auth is on.

mod accounts;
mod basic;
pub mod fuzz;
mod gate;
mod passwords;
mod queue;
mod records;
mod rights;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use http::{HeaderValue, StatusCode};
use shared::account::NameError;
use shared::error::ApiError;

use crate::backend::{SubmitError, Unavailable};
use crate::connections::Presence;

pub(crate) use self::accounts::{Accounts, UserChange};
pub(crate) use self::gate::{
    Authorized, Denied, Restricted, admit, admit_root, check_access, check_root, check_user, only_reads,
};
pub(crate) use self::records::{RecordError, Role, User, is_empty};
pub(crate) use self::rights::Access;

use self::passwords::{Busy, Passwords};

/// What all requests share.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    passwords: Passwords,
    /// This process has seen to it that the directories are there.
    directories: std::sync::atomic::AtomicBool,
}

impl Auth {
    /// No password is checked any more: the process ends, and nobody is to wait for it.
    pub(crate) fn close(&self) {
        self.passwords.close();
    }
}

/// Who sends a request, as far as its connection and its head tell.
#[derive(Clone, Copy, Default)]
pub(crate) struct Caller<'a> {
    /// The `Authorization` header.
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// Where the connection comes from.
    pub(crate) source: Option<IpAddr>,
    /// Whether its client is still there, if that is to be seen.
    pub(crate) connection: Option<&'a Presence>,
}

impl Caller<'_> {
    /// Whether the client has closed the connection, or its half of it.
    async fn has_left(self) -> bool {
        match self.connection {
            Some(connection) => connection.has_left().await,
            None => false,
        }
    }
}

/// Why users or roles were not read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    /// The client's doing; it is told.
    #[error(transparent)]
    Refused(#[from] AuthRefusal),
    /// The store refused it, most likely because another client was quicker.
    #[error("{}: {}", .0.message(), String::from_utf8_lossy(&.0.cause))]
    Store(ApiError),
    /// There is no answer. The change may have been made, or may still be.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// What stands in the store is none of ours.
    #[error("{path} in the store holds no user or role: {why}")]
    Record {
        /// Where it stands.
        path: String,
        /// What is wrong with it.
        why: RecordError,
    },
    /// The password cannot be hashed.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
    /// Too many passwords are hashed and compared.
    #[error(transparent)]
    Busy(#[from] Busy),
}

impl From<SubmitError> for AuthError {
    fn from(error: SubmitError) -> AuthError {
        match error {
            SubmitError::Api(error) => AuthError::Store(error),
            SubmitError::Unavailable(why) => AuthError::Unavailable(why),
        }
    }
}

/// Why users, roles or the switch stay as they are. The texts are the original's, its commas and stops too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthRefusal {
    #[error("auth: invalid {kind} name {text:?}: {why}")]
    BadName { kind: &'static str, text: String, why: NameError },
    #[error("auth: already enabled")]
    AlreadyOn,
    #[error("auth: already disabled")]
    AlreadyOff,
    #[error("auth: No root user available, please create one")]
    NoRootUser,
    #[error("auth: Cannot delete root user while auth is enabled.")]
    RootUserNeeded,
    #[error("auth: User {0} does not exist.")]
    NoUser(String),
    #[error("auth: User {0} does not exist")]
    NoUserToDelete(String),
    #[error("auth: User {0} already exists.")]
    UserExists(String),
    #[error("auth: Cannot create user {0} with an empty password")]
    PasswordEmpty(String),
    #[error("auth: User not updated. Use grant/revoke/password to update the user.")]
    UserUnchanged,
    #[error("auth: Merging user data with conflicting usernames: {stored} {named}")]
    OtherUser { stored: String, named: String },
    #[error("auth: Granting duplicate role {role} for user {user}")]
    RoleGranted { role: String, user: String },
    #[error("auth: Revoking ungranted role {role} for user {user}")]
    RoleNotGranted { role: String, user: String },
    #[error("auth: Role {0} does not exist.")]
    NoRole(String),
    #[error("auth: Role {0} doesn't exist.")]
    NoRoleToDelete(String),
    #[error("auth: Role {0} already exists.")]
    RoleExists(String),
    #[error("auth: Cannot modify role {0}: is root role.")]
    RootRole(String),
    #[error("auth: Role not updated. Use grant/revoke to update the role.")]
    RoleUnchanged,
    #[error("auth: Merging role with conflicting names: {stored} {named}")]
    OtherRole { stored: String, named: String },
    #[error("auth: Granting duplicate {kind} permission {pattern}")]
    PatternGranted { kind: &'static str, pattern: String },
}

impl AuthRefusal {
    /// A text that is not the name of a user.
    pub(crate) fn user_name(text: &[u8], why: NameError) -> AuthRefusal {
        AuthRefusal::BadName { kind: "user", text: String::from_utf8_lossy(text).into_owned(), why }
    }

    /// A text that is not the name of a role.
    pub(crate) fn role_name(text: &[u8], why: NameError) -> AuthRefusal {
        AuthRefusal::BadName { kind: "role", text: String::from_utf8_lossy(text).into_owned(), why }
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            AuthRefusal::NoUser(_)
            | AuthRefusal::NoUserToDelete(_)
            | AuthRefusal::NoRole(_)
            | AuthRefusal::NoRoleToDelete(_) => StatusCode::NOT_FOUND,
            AuthRefusal::RootUserNeeded | AuthRefusal::RootRole(_) => StatusCode::FORBIDDEN,
            AuthRefusal::BadName { .. }
            | AuthRefusal::PasswordEmpty(_)
            | AuthRefusal::UserUnchanged
            | AuthRefusal::RoleUnchanged => StatusCode::BAD_REQUEST,
            AuthRefusal::AlreadyOn
            | AuthRefusal::AlreadyOff
            | AuthRefusal::NoRootUser
            | AuthRefusal::UserExists(_)
            | AuthRefusal::OtherUser { .. }
            | AuthRefusal::RoleGranted { .. }
            | AuthRefusal::RoleNotGranted { .. }
            | AuthRefusal::RoleExists(_)
            | AuthRefusal::OtherRole { .. }
            | AuthRefusal::PatternGranted { .. } => StatusCode::CONFLICT,
        }
    }
}
