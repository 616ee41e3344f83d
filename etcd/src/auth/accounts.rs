//! Users, roles and the switch in the store: reading them here, changing them through the log.
//!
//! The requests are the original's, to the letter of their paths: members of both kinds write the same log.

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
use crate::backend::{SWITCH_PATH, Switch};
use crate::log;

/// The directories of auth's data, in the order in which they are made.
const DIRECTORIES: [&str; 3] = ["/2", "/2/users/", "/2/roles/"];

/// What became of a user that was to be there in the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UserChange {
    /// The user as it is now, with the password's hash.
    pub(crate) user: User,
    pub(crate) created: bool,
}

/// Users and roles, as this member knows them, for somebody who wants to know or change something. Cheap to make.
pub(crate) struct Accounts<'a, B> {
    auth: &'a Auth,
    backend: &'a B,
    caller: Caller<'a>,
}

impl<'a, B: Backend> Accounts<'a, B> {
    pub(crate) fn new(auth: &'a Auth, backend: &'a B, caller: Caller<'a>) -> Accounts<'a, B> {
        Accounts { auth, backend, caller }
    }

    /// Who sends the request.
    pub(super) fn caller(&self) -> Caller<'a> {
        self.caller
    }

    /// Of what is stored here.
    pub(super) fn generation(&self) -> u64 {
        self.backend.auth_generation().get()
    }

    /// Whether auth is on.
    pub(crate) fn switch(&self) -> Switch {
        self.backend.look_for_auth()
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

    /// The names in a directory, sorted. Those that start with `_` are shown: an account that nobody sees is a trap.
    fn names<N: Ord, E>(&self, dir: &str, name: impl Fn(&[u8]) -> Result<N, E>) -> Result<Vec<N>, AuthError> {
        let event = match self.backend.store_for_auth().get(dir.as_bytes(), false, false) {
            Ok(event) => event,
            Err(error) if error.code == Code::KeyNotFound => return Ok(Vec::new()),
            Err(error) => return Err(AuthError::Store(error)),
        };
        let mut names: Vec<N> = event.node().children().filter_map(|child| name(child.name()).ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// The user of this name, with the password's hash.
    pub(crate) fn user(&self, name: &UserName) -> Result<User, AuthError> {
        let missing = || AuthRefusal::NoUser(name.to_string());
        self.read_record(user_path(name), missing, |record| User::from_record(name, record))
    }

    /// The role of this name.
    pub(crate) fn role(&self, name: &RoleName) -> Result<Role, AuthError> {
        if name.is_root() {
            return Ok(Role::root());
        }
        let missing = || AuthRefusal::NoRole(name.to_string());
        self.read_record(role_path(name), missing, |record| Role::from_record(name, record))
    }

    /// The role that a user's record names, which may be any text.
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
        let event = match self.backend.store_for_auth().get(path.as_bytes(), false, false) {
            Ok(event) => event,
            Err(error) if error.code == Code::KeyNotFound => return Err(missing().into()),
            Err(error) => return Err(AuthError::Store(error)),
        };
        // A directory has no value, and holds no user.
        match read(event.node().value().unwrap_or_default()) {
            Ok(record) => Ok(record),
            Err(RecordError::OtherName(name)) => {
                log::error!("auth", "the record {path} does not count: it names {name:?}");
                Err(missing().into())
            }
            Err(why) => Err(AuthError::Record { path, why }),
        }
    }

    /// Whether a password is this user's. That takes the same time if there is no user.
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

    /// What the hashes of this cluster cost: those of the user `root`.
    fn usual_cost(&self) -> u32 {
        let root = UserName::root();
        // A look that the store's statistics do not show, since the original does not look.
        let record = self.backend.store_for_auth().peek(user_path(&root).as_bytes()).map(<[u8]>::to_vec);
        let user = record.and_then(|record| User::from_record(&root, &record).ok());
        user.and_then(|user| passwords::cost(&user.password)).unwrap_or(passwords::COST)
    }

    /// Makes a user, or changes the one that is there.
    pub(crate) async fn create_or_update_user(&self, user: User) -> Result<UserChange, AuthError> {
        if self.user(&user.name).is_ok() {
            return Ok(UserChange { user: self.update_user(user).await?, created: false });
        }
        Ok(UserChange { user: self.create_user(user).await?, created: true })
    }

    /// Makes a user.
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

    /// Gives a user another password, or other roles.
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

    /// Removes a user.
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

    /// Makes a role.
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

    /// Changes what those may do who have a role.
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

    /// Removes a role. Users may go on having it, for when it comes back.
    pub(crate) async fn delete_role(&self, name: &RoleName) -> Result<(), AuthError> {
        check_is_not_root(name)?;
        let missing = || AuthRefusal::NoRoleToDelete(name.to_string());
        self.delete(&role_path(name))
            .await
            .map_err(|error| replace_error(Code::KeyNotFound, error, missing))?;
        log::notice!("auth", "deleted role {name}");
        Ok(())
    }

    /// Switches auth on. There must be a user `root`; a role `guest` that may do everything is made unless it is
    /// there.
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
        let switched = self.set(SWITCH_PATH, &true, true).await;
        switched.inspect_err(|error| log::error!("auth", "error enabling auth ({error})"))?;
        log::notice!("auth", "auth: enabled auth");
        Ok(())
    }

    /// Switches auth off.
    pub(crate) async fn disable(&self) -> Result<(), AuthError> {
        if !self.switch().is_on() {
            return Err(AuthRefusal::AlreadyOff.into());
        }
        let switched = self.set(SWITCH_PATH, &false, true).await;
        switched.inspect_err(|error| log::error!("auth", "error disabling auth ({error})"))?;
        log::notice!("auth", "auth: disabled auth");
        Ok(())
    }

    async fn set<T: Serialize>(&self, path: &str, value: &T, exists: bool) -> Result<Event, AuthError> {
        self.make_directories().await?;
        // Texts, lists and booleans can always be written.
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

    /// Sees to it, once in a process, that the directories and the switch are there.
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
        made(self.submit_put(SWITCH_PATH, Bytes::from_static(b"false"), false, false).await)?;
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

/// `refusal`, if the store gave this error.
fn replace_error(code: Code, error: AuthError, refusal: impl FnOnce() -> AuthRefusal) -> AuthError {
    match error {
        AuthError::Store(error) if error.code == code => refusal().into(),
        other => other,
    }
}

fn check_is_not_root(role: &RoleName) -> Result<(), AuthRefusal> {
    if role.is_root() { Err(AuthRefusal::RootRole(role.to_string())) } else { Ok(()) }
}

/// Where users and roles are in the store.
const USERS: &str = "/2/users";
const ROLES: &str = "/2/roles";

/// Where a user's record is.
fn user_path(name: &UserName) -> String {
    format!("{USERS}/{name}")
}

/// Where a role's record is.
fn role_path(name: &RoleName) -> String {
    format!("{ROLES}/{name}")
}
