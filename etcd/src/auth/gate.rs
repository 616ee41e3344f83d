//! Access checks. Each page runs one of them before it does anything.

use http::Method;
use shared::account::RoleName;

use super::accounts::Accounts;
use super::basic::{self, Credentials};
use super::passwords::Busy;
use super::{Access, User};
use crate::backend::{AuthSwitch, Backend};
use crate::log;

/// Why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The user has no permission, or the credentials are wrong.
    NoRight,
    /// The credentials cannot be checked now: too many password checks are waiting.
    Busy,
}

impl From<Busy> for Denied {
    fn from(_: Busy) -> Denied {
        Denied::Busy
    }
}

/// A request that needs a permission.
pub(crate) trait Restricted {
    /// The access that needs permission.
    fn access(&self) -> Access<'_>;
}

/// A request whose permission has been checked.
///
/// **Invariant:** constructed in this file only, after a check of the switch, the user and the roles. Code that acts
/// for a client takes an `Authorized` request, so that no page can forget the check.
#[derive(Debug)]
pub(crate) struct Authorized<T>(T);

impl<T> Authorized<T> {
    /// Authorizes any request while auth is off.
    ///
    /// # Errors
    /// Returns the request itself if auth is on.
    pub(crate) fn while_off(switch: AuthSwitch, request: T) -> Result<Authorized<T>, T> {
        if switch.is_on() { Err(request) } else { Ok(Authorized(request)) }
    }

    /// Converts the request, or takes a part of it.
    pub(crate) fn map<U>(self, form: impl FnOnce(T) -> U) -> Authorized<U> {
        Authorized(form(self.0))
    }

    /// The request, to carry it out.
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

/// Authorizes a request if the caller has the permission that it needs. Call it only while auth is on.
///
/// # Errors
/// The request, and why it is denied.
pub(crate) async fn admit<B: Backend, T: Restricted>(
    accounts: &Accounts<'_, B>,
    request: T,
) -> Result<Authorized<T>, (T, Denied)> {
    match check_access(accounts, request.access()).await {
        Ok(()) => Ok(Authorized(request)),
        Err(denied) => Err((request, denied)),
    }
}

/// Authorizes a request for a page if the caller has the role `root`, or if auth is off.
pub(crate) async fn admit_root<B: Backend, T>(
    accounts: &Accounts<'_, B>,
    page: &str,
    request: T,
) -> Result<Authorized<T>, Denied> {
    check_root(accounts, page).await.map(|()| Authorized(request))
}

/// Checks that the caller has the role `root`. Always succeeds while auth is off.
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

/// Checks that the caller may do this. A caller without an `Authorization` header is a guest. Call it only while auth
/// is on.
pub(crate) async fn check_access<B: Backend>(
    accounts: &Accounts<'_, B>,
    access: Access<'_>,
) -> Result<(), Denied> {
    let key = || String::from_utf8_lossy(access.key);
    let Some(value) = accounts.caller().authorization.filter(|value| !value.is_empty()) else {
        // The original does not require the recursive permission of guests.
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

/// Checks that the caller gives the name and the password of a user.
pub(crate) async fn check_user<B: Backend>(accounts: &Accounts<'_, B>) -> Result<(), Denied> {
    let authorization = accounts.caller().authorization;
    let credentials =
        authorization.and_then(|value| basic::parse(value.as_bytes())).ok_or(Denied::NoRight)?;
    authenticate(accounts, &credentials).await.map(drop)
}

/// Whether a request with this method only reads.
pub(crate) fn only_reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The user with these credentials.
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
        // The user may have been changed while the check waited for its turn.
        if accounts.generation() == generation {
            return Ok(user);
        }
    }
}
