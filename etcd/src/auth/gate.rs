//! Who may do what: the two questions that pages ask before they do anything.

use http::Method;
use shared::account::RoleName;

use super::accounts::Accounts;
use super::basic::{self, Credentials};
use super::passwords::Busy;
use super::{Access, User};
use crate::backend::{Backend, Switch};
use crate::log;

/// Why somebody is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// They have no right to it, or are not who they say.
    NoRight,
    /// It cannot be found out now: too many passwords are being checked.
    Busy,
}

impl From<Busy> for Denied {
    fn from(_: Busy) -> Denied {
        Denied::Busy
    }
}

/// Something that takes a right.
pub(crate) trait Restricted {
    /// The right.
    fn access(&self) -> Access<'_>;
}

/// What somebody asks for who has the right to it.
///
/// **Invariant:** made in this file only, after a look at the switch, the user and the roles. What works for a client takes
/// this and not the request, so that no page can forget to ask.
#[derive(Debug)]
pub(crate) struct Authorized<T>(T);

impl<T> Authorized<T> {
    /// While auth is off everybody may do everything.
    ///
    /// # Errors
    /// The request itself, if auth is on.
    pub(crate) fn while_off(switch: Switch, request: T) -> Result<Authorized<T>, T> {
        if switch.is_on() { Err(request) } else { Ok(Authorized(request)) }
    }

    /// A part of it, or the same in another form.
    pub(crate) fn map<U>(self, form: impl FnOnce(T) -> U) -> Authorized<U> {
        Authorized(form(self.0))
    }

    /// What was asked for, to do it.
    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}

impl<T> std::ops::Deref for Authorized<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Lets a request pass if the caller has the right that it takes. Whoever asks has seen that auth is on.
///
/// # Errors
/// The request, and why it is not let through.
pub(crate) async fn admit<B: Backend, T: Restricted>(
    accounts: &Accounts<'_, B>,
    request: T,
) -> Result<Authorized<T>, (T, Denied)> {
    match check_access(accounts, request.access()).await {
        Ok(()) => Ok(Authorized(request)),
        Err(denied) => Err((request, denied)),
    }
}

/// Lets a request for a page pass if the caller has the role `root`. Everybody does while auth is off.
pub(crate) async fn admit_root<B: Backend, T>(
    accounts: &Accounts<'_, B>,
    page: &str,
    request: T,
) -> Result<Authorized<T>, Denied> {
    check_root(accounts, page).await.map(|()| Authorized(request))
}

/// Whether the caller has the role `root`. Everybody does while auth is off.
pub(crate) async fn check_root<B: Backend>(accounts: &Accounts<'_, B>, page: &str) -> Result<(), Denied> {
    if !accounts.switch().is_on() {
        return Ok(());
    }
    let authorization = accounts.caller().authorization;
    let credentials =
        authorization.and_then(|value| basic::parse(value.as_bytes())).ok_or(Denied::NoRight)?;
    let user = authenticate(accounts, &credentials).await?;
    if user.is_root() {
        return Ok(());
    }
    log::warning!("etcdhttp", "auth: user {} does not have the root role for {page}.", user.name);
    Err(Denied::NoRight)
}

/// Whether the caller, who is a guest without an `Authorization`, has the right to do this. Whoever asks has seen that
/// auth is on.
pub(crate) async fn check_access<B: Backend>(
    accounts: &Accounts<'_, B>,
    access: Access<'_>,
) -> Result<(), Denied> {
    let key = || String::from_utf8_lossy(access.key);
    let Some(value) = accounts.caller().authorization.filter(|value| !value.is_empty()) else {
        // The original does not ask guests for the right to all that is below.
        let access = Access { recursive: false, ..access };
        if accounts.role(&RoleName::guest()).is_ok_and(|guest| guest.allows(access)) {
            return Ok(());
        }
        log::warning!("etcdhttp", "auth: invalid access for unauthenticated user on resource {}.", key());
        return Err(Denied::NoRight);
    };
    let Some(credentials) = basic::parse(value.as_bytes()) else {
        log::warning!("etcdhttp", "auth: malformed basic auth encoding");
        return Err(Denied::NoRight);
    };
    let user = authenticate(accounts, &credentials).await?;
    let mut roles = user.roles.iter().flatten();
    if roles.any(|role| accounts.role_of_user(role).is_ok_and(|role| role.allows(access))) {
        return Ok(());
    }
    log::warning!("etcdhttp", "auth: invalid access for user {} on key {}.", user.name, key());
    Err(Denied::NoRight)
}

/// Whether the caller names a user, with the right password.
pub(crate) async fn check_user<B: Backend>(accounts: &Accounts<'_, B>) -> Result<(), Denied> {
    let authorization = accounts.caller().authorization;
    let credentials =
        authorization.and_then(|value| basic::parse(value.as_bytes())).ok_or(Denied::NoRight)?;
    authenticate(accounts, &credentials).await.map(drop)
}

/// Whether a request of this method only reads.
pub(crate) fn only_reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The user with these credentials, if there is one.
async fn authenticate<B: Backend>(
    accounts: &Accounts<'_, B>,
    credentials: &Credentials,
) -> Result<User, Denied> {
    loop {
        let generation = accounts.generation();
        let user = credentials.user.as_ref().ok().and_then(|name| accounts.user(name).ok());
        let password_matches =
            accounts.password_matches(credentials, user.as_ref()).await.inspect_err(|why| {
                log::warning!("etcdhttp", "auth: user {}: {why}.", credentials.shown_user());
            })?;
        let Some(user) = user else {
            log::warning!("etcdhttp", "auth: no such user: {}.", credentials.shown_user());
            return Err(Denied::NoRight);
        };
        if !password_matches {
            log::warning!("etcdhttp", "auth: incorrect password for user: {}.", user.name);
            return Err(Denied::NoRight);
        }
        // While this one waited for its turn, its user may have been changed.
        if accounts.generation() == generation {
            return Ok(user);
        }
    }
}
