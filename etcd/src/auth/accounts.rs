//! Reads users, roles and the auth switch from the local store, and changes them through the log.
//!
//! The requests and their paths are exactly the original's, so Go members and ours write the same log.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde::Serialize;
use shared::account::{RoleName, UserName};
use shared::error::Code;
use shared::event::Event;
use shared::{json, v2};

use super::basic::Credentials;
use super::passwords::{self, Busy, PasswordCheck};
use super::{Auth, AuthError, AuthRefusal, Caller, RecordError, Role, User};
use crate::backend::Backend;
use crate::backend::{AUTH_SWITCH_PATH, AuthSwitch};
use crate::log;

/// The directories of auth's data, in the order in which they are created.
const DIRECTORIES: [&str; 3] = ["/2", "/2/users/", "/2/roles/"];

/// The result of creating or updating a user.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UserChange {
    /// The user after the change, with the hash of the password.
    pub(crate) user: User,
    pub(crate) created: bool,
}

/// Reads and changes users and roles on behalf of one caller. Reads see this member's store. Cheap to create.
pub(crate) struct Accounts<'a, B> {
    auth: &'a Auth,
    backend: &'a B,
    caller: Caller<'a>,
}

impl<'a, B: Backend> Accounts<'a, B> {
    pub(crate) fn new(auth: &'a Auth, backend: &'a B, caller: Caller<'a>) -> Accounts<'a, B> {
        Accounts { auth, backend, caller }
    }

    /// The client that sends the request.
    pub(super) fn caller(&self) -> Caller<'a> {
        self.caller
    }

    /// The generation of the users and roles in this member's store: it grows with every change.
    pub(super) fn generation(&self) -> u64 {
        self.backend.auth_generation().get()
    }

    /// Whether auth is on.
    pub(crate) fn switch(&self) -> AuthSwitch {
        self.backend.auth_counted()
    }

    /// The names of all users, sorted.
    pub(crate) fn users(&self) -> Result<Vec<UserName>, AuthError> {
        self.names(USERS, UserName::from_bytes)
    }

    /// The names of all roles, sorted.
    pub(crate) fn roles(&self) -> Result<Vec<RoleName>, AuthError> {
        let mut names = self.names(ROLES, RoleName::from_bytes)?;
        if let Err(at) = names.binary_search(&RoleName::root()) {
            names.insert(at, RoleName::root());
        }
        Ok(names)
    }

    /// The names in a directory, sorted. Names that start with `_` are included: a hidden account would be a trap.
    fn names<N: Ord, E>(&self, dir: &str, name: impl Fn(&[u8]) -> Result<N, E>) -> Result<Vec<N>, AuthError> {
        let found = self.backend.store_for_auth().get(dir.as_bytes(), false, false);
        let event = match found {
            Ok(event) => event,
            Err(error) if error.code == Code::KeyNotFound => return Ok(Vec::new()),
            Err(error) => return Err(AuthError::Store(error)),
        };
        let mut names: Vec<N> = event.node().children().filter_map(|child| name(child.name()).ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The user with this name, with the hash of the password.
    pub(crate) fn user(&self, name: &UserName) -> Result<User, AuthError> {
        let missing = || AuthRefusal::NoUser(name.to_string());
        self.read_record(user_path(name), missing, |record| User::from_record(name, record))
    }

    /// The role with this name.
    pub(crate) fn role(&self, name: &RoleName) -> Result<Role, AuthError> {
        if name.is_root() {
            return Ok(Role::root());
        }
        let missing = || AuthRefusal::NoRole(name.to_string());
        self.read_record(role_path(name), missing, |record| Role::from_record(name, record))
    }

    /// The role that a user's record names. The record may hold any text.
    pub(crate) fn role_of_user(&self, text: &str) -> Result<Role, AuthError> {
        let name = RoleName::new(text).map_err(|_| AuthRefusal::NoRole(text.to_owned()))?;
        self.role(&name)
    }

    fn read_record<T>(
        &self,
        path: String,
        missing: impl Fn() -> AuthRefusal,
        read: impl FnOnce(&[u8]) -> Result<T, RecordError>,
    ) -> Result<T, AuthError> {
        let found = self.backend.store_for_auth().get(path.as_bytes(), false, false);
        let event = match found {
            Ok(event) => event,
            Err(error) if error.code == Code::KeyNotFound => return Err(missing().into()),
            Err(error) => return Err(AuthError::Store(error)),
        };
        // A directory has no value, so it is not a user.
        match read(event.node().value().unwrap_or_default()) {
            Ok(record) => Ok(record),
            Err(RecordError::OtherName(name)) => {
                log::error!("auth", "the record {path} does not count: it names {name:?}");
                Err(missing().into())
            }
            Err(why) => Err(AuthError::Record { path, why }),
        }
    }

    /// Whether a password is this user's. Takes the same time if the user does not exist.
    pub(super) async fn password_matches(
        &self,
        credentials: &Credentials,
        user: Option<&User>,
    ) -> Result<bool, Busy> {
        let check = PasswordCheck {
            name: credentials.user.as_ref().map_or_else(String::as_str, UserName::as_str),
            password: &credentials.password,
            hash: user.map(|user| user.password.as_str()),
            usual_cost: self.usual_cost(),
            caller: self.caller,
        };
        self.auth.passwords.matches(check).await
    }

    /// The usual bcrypt cost in this cluster: that of the user `root`.
    fn usual_cost(&self) -> u32 {
        let root = UserName::root();
        // `peek` does not count in the store's statistics: the original does not read here.
        let record = self.backend.store_for_auth().peek(user_path(&root).as_bytes()).map(<[u8]>::to_vec);
        let user = record.and_then(|record| User::from_record(&root, &record).ok());
        user.and_then(|user| passwords::cost(&user.password)).unwrap_or(passwords::COST)
    }

    /// Creates a user, or updates the existing one.
    pub(crate) async fn create_or_update_user(&self, user: User) -> Result<UserChange, AuthError> {
        if self.user(&user.name).is_ok() {
            return Ok(UserChange { user: self.update_user(user).await?, created: false });
        }
        Ok(UserChange { user: self.create_user(user).await?, created: true })
    }

    /// Creates a user.
    pub(crate) async fn create_user(&self, user: User) -> Result<User, AuthError> {
        user.name.check_new().map_err(|why| AuthRefusal::user_name(user.name.as_str().as_bytes(), why))?;
        let mut user = if user.name.is_root() { user.with_root_role() } else { user };
        if user.password.is_empty() {
            return Err(AuthRefusal::PasswordEmpty(user.name.to_string()).into());
        }
        user.password = self.hash(&user).await?;
        self.set(&user_path(&user.name), &user, false).await.map_err(|error| {
            replace_error(Code::NodeExist, error, || AuthRefusal::UserExists(user.name.to_string()))
        })?;
        log::notice!("auth", "created user {}", user.name);
        Ok(user)
    }

    /// Changes a user's password or roles.
    pub(crate) async fn update_user(&self, change: User) -> Result<User, AuthError> {
        let before = self.user(&change.name)?;
        let mut after = before.changed(&change)?;
        if !change.password.is_empty() {
            after.password = self.hash(&change).await?;
        }
        if after == before {
            return Err(AuthRefusal::UserUnchanged.into());
        }
        self.set(&user_path(&after.name), &after, true).await?;
        log::notice!("auth", "updated user {}", after.name);
        Ok(after)
    }

    async fn hash(&self, user: &User) -> Result<String, AuthError> {
        self.auth.passwords.hash(user.name.as_str(), &user.password, self.caller).await
    }

    /// Deletes a user.
    pub(crate) async fn delete_user(&self, name: &UserName) -> Result<(), AuthError> {
        if self.switch().is_on() && name.is_root() {
            return Err(AuthRefusal::RootUserNeeded.into());
        }
        let missing = || AuthRefusal::NoUserToDelete(name.to_string());
        self.delete(&user_path(name))
            .await
            .map_err(|error| replace_error(Code::KeyNotFound, error, missing))?;
        log::notice!("auth", "deleted user {name}");
        Ok(())
    }

    /// Creates a role.
    pub(crate) async fn create_role(&self, role: &Role) -> Result<(), AuthError> {
        check_is_not_root(&role.name)?;
        role.name.check_new().map_err(|why| AuthRefusal::role_name(role.name.as_str().as_bytes(), why))?;
        let exists = || AuthRefusal::RoleExists(role.name.to_string());
        self.set(&role_path(&role.name), role, false)
            .await
            .map_err(|error| replace_error(Code::NodeExist, error, exists))?;
        log::notice!("auth", "created new role {}", role.name);
        Ok(())
    }

    /// Changes the permissions of a role.
    pub(crate) async fn update_role(&self, change: &Role) -> Result<Role, AuthError> {
        check_is_not_root(&change.name)?;
        let before = self.role(&change.name)?;
        let after = before.changed(change)?;
        if after == before {
            return Err(AuthRefusal::RoleUnchanged.into());
        }
        self.set(&role_path(&after.name), &after, true).await?;
        log::notice!("auth", "updated role {}", after.name);
        Ok(after)
    }

    /// Deletes a role. Users keep the role's name, so they have it again if it is created again.
    pub(crate) async fn delete_role(&self, name: &RoleName) -> Result<(), AuthError> {
        check_is_not_root(name)?;
        let missing = || AuthRefusal::NoRoleToDelete(name.to_string());
        self.delete(&role_path(name))
            .await
            .map_err(|error| replace_error(Code::KeyNotFound, error, missing))?;
        log::notice!("auth", "deleted role {name}");
        Ok(())
    }

    /// Enables auth. The user `root` must exist. Creates the role `guest` with all permissions if there is none.
    pub(crate) async fn enable(&self) -> Result<(), AuthError> {
        if self.switch().is_on() {
            return Err(AuthRefusal::AlreadyOn.into());
        }
        self.user(&UserName::root()).map_err(|_| AuthRefusal::NoRootUser)?;
        if self.role(&RoleName::guest()).is_err() {
            log::info!("auth", "no guest role access found, creating default");
            self.create_role(&Role::guest()).await.inspect_err(|_| {
                log::error!("auth", "error creating guest role. aborting auth enable.");
            })?;
        }
        let switched = self.set(AUTH_SWITCH_PATH, &true, true).await;
        switched.inspect_err(|error| log::error!("auth", "error enabling auth ({error})"))?;
        log::notice!("auth", "auth: enabled auth");
        Ok(())
    }

    /// Disables auth.
    pub(crate) async fn disable(&self) -> Result<(), AuthError> {
        if !self.switch().is_on() {
            return Err(AuthRefusal::AlreadyOff.into());
        }
        let switched = self.set(AUTH_SWITCH_PATH, &false, true).await;
        switched.inspect_err(|error| log::error!("auth", "error disabling auth ({error})"))?;
        log::notice!("auth", "auth: disabled auth");
        Ok(())
    }

    async fn set<T: Serialize>(&self, path: &str, value: &T, exists: bool) -> Result<Event, AuthError> {
        self.make_directories().await?;
        // Strings, lists and booleans can always be encoded.
        let value = json::to_vec(value).unwrap_or_default();
        self.submit_put(path, value.into(), false, exists).await
    }

    async fn delete(&self, path: &str) -> Result<Event, AuthError> {
        self.make_directories().await?;
        let request = v2::Request {
            verb: v2::Verb::Delete,
            path: Bytes::copy_from_slice(path.as_bytes()),
            prev_exist: Some(true),
            ..v2::Request::default()
        };
        Ok(self.backend.submit(request).await?)
    }

    /// Creates the directories and the switch if they are missing. Does so once per process.
    async fn make_directories(&self) -> Result<(), AuthError> {
        if self.auth.directories.load(Ordering::Relaxed) {
            return Ok(());
        }
        let made = |result: Result<Event, AuthError>| match result {
            Err(AuthError::Store(error)) if error.code == Code::NodeExist => Ok(()),
            other => other.map(drop),
        };
        for path in DIRECTORIES {
            made(self.submit_put(path, Bytes::new(), true, false).await).inspect_err(|error| {
                log::error!("auth", "failed to create auth directories in the store ({error})");
            })?;
        }
        made(self.submit_put(AUTH_SWITCH_PATH, Bytes::from_static(b"false"), false, false).await)?;
        self.auth.directories.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn submit_put(&self, path: &str, val: Bytes, dir: bool, exists: bool) -> Result<Event, AuthError> {
        let request = v2::Request {
            verb: v2::Verb::Put,
            path: Bytes::copy_from_slice(path.as_bytes()),
            val,
            dir,
            prev_exist: Some(exists),
            ..v2::Request::default()
        };
        Ok(self.backend.submit(request).await?)
    }
}

/// Replaces the store's error `code` by `refusal`; other errors stay.
fn replace_error(code: Code, error: AuthError, refusal: impl FnOnce() -> AuthRefusal) -> AuthError {
    match error {
        AuthError::Store(error) if error.code == code => refusal().into(),
        other => other,
    }
}

fn check_is_not_root(role: &RoleName) -> Result<(), AuthRefusal> {
    if role.is_root() { Err(AuthRefusal::RootRole(role.to_string())) } else { Ok(()) }
}

/// The store directories of users and roles.
const USERS: &str = "/2/users";
const ROLES: &str = "/2/roles";

/// The store path of a user's record.
fn user_path(name: &UserName) -> String {
    format!("{USERS}/{name}")
}

/// The store path of a role's record.
fn role_path(name: &RoleName) -> String {
    format!("{ROLES}/{name}")
}
