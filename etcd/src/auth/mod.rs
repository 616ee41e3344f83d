//! Authentication and authorization of the v2 API: users, roles and permissions.
//!
//! ```text
//! request ─▶ gate ─▶ basic (who?) ─▶ accounts (which user?) ─▶ passwords (is it them?) ─▶ rights (may they?)
//!                                        │
//!                                        ▼ store: /2/enabled, /2/users/NAME, /2/roles/NAME
//! ```
//!
//! Users and roles are kept in the store below `/2`, as in the original. A change is a request to the log; a check
//! reads this member's store. So a change takes effect on each member when that member applies the entry. Whether
//! auth is on is one load of a [`AuthSwitch`].
//!
//! **Invariant:** only a [`UserName`](shared::account::UserName) or a [`RoleName`](shared::account::RoleName) is
//! joined into a store path, and a record is valid only if it contains that same name.
//!
//! **Invariant:** a page that reaches keys calls [`check_access`] before it does anything; a page that changes the
//! cluster calls [`check_root`]. The code behind takes an [`Authorized`] request, which only the gate constructs. The
//! `Authorization` header is kept for these checks only while auth is on.

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
use crate::connections::ClientPresence;

pub(crate) use self::accounts::{Accounts, UserChange};
pub(crate) use self::gate::{
    Authorized, Denied, Restricted, admit, admit_root, check_access, check_root, check_user, only_reads,
};
pub(crate) use self::records::{RecordError, Role, User, is_empty};
pub(crate) use self::rights::Access;

use self::passwords::{Busy, Passwords};

/// The auth state that all requests share.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    passwords: Passwords,
    /// Whether this process has created the directories or found them.
    directories: std::sync::atomic::AtomicBool,
}

impl Auth {
    /// Stops all password checks: the process is ending and must not wait for them.
    pub(crate) fn close(&self) {
        self.passwords.close();
    }
}

/// The sender of a request, as far as the connection and the headers show.
#[derive(Clone, Copy, Default)]
pub(crate) struct Caller<'a> {
    /// The `Authorization` header.
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// The address that the connection comes from.
    pub(crate) source: Option<IpAddr>,
    /// Shows whether the client is still connected; `None` if that is not known.
    pub(crate) connection: Option<&'a ClientPresence>,
}

impl Caller<'_> {
    /// Whether the client has closed the connection, or its sending half.
    async fn has_left(self) -> bool {
        match self.connection {
            Some(connection) => connection.has_left().await,
            None => false,
        }
    }
}

/// Why users or roles could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    /// The client's request is refused; the response says why.
    #[error(transparent)]
    Refused(#[from] AuthRefusal),
    /// The store refused the change, most likely because another client was faster.
    #[error("{}: {}", .0.message(), String::from_utf8_lossy(&.0.cause))]
    Store(ApiError),
    /// The cluster gave no answer. The change may have been made, or may still be made.
    #[error(transparent)]
    Unavailable(Unavailable),
    /// The record in the store is not a valid user or role.
    #[error("{path} in the store holds no user or role: {why}")]
    Record {
        /// The path of the record.
        path: String,
        /// What is wrong with the record.
        why: RecordError,
    },
    /// The password cannot be hashed.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
    /// Too many password checks are waiting.
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

/// Why a change of users, roles or the switch is refused. The texts are the original's, including punctuation.
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
    /// The refusal of an invalid user name.
    pub(crate) fn user_name(text: &[u8], why: NameError) -> AuthRefusal {
        AuthRefusal::BadName { kind: "user", text: String::from_utf8_lossy(text).into_owned(), why }
    }

    /// The refusal of an invalid role name.
    pub(crate) fn role_name(text: &[u8], why: NameError) -> AuthRefusal {
        AuthRefusal::BadName { kind: "role", text: String::from_utf8_lossy(text).into_owned(), why }
    }

    /// The HTTP status of the response.
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
