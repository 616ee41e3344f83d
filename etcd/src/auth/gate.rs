//! Who may do what: the two questions that pages ask before they do anything.

use http::{HeaderValue, Method};
use shared::account::RoleName;

use super::accounts::Accounts;
use super::basic::{self, Credentials};
use super::{Access, User};
use crate::http::Backend;
use crate::log;

/// Whether somebody with this `Authorization` has the role `root`. Everybody does while auth is off.
pub(crate) async fn is_root<B: Backend>(
    accounts: &Accounts<'_, B>,
    authorization: Option<&HeaderValue>,
    page: &str,
) -> bool {
    if !accounts.look().is_on() {
        return true;
    }
    let Some(credentials) = authorization.and_then(|value| basic::parse(value.as_bytes())) else {
        return false;
    };
    let Some(user) = authenticated(accounts, &credentials).await else { return false };
    let is_root = user.is_root();
    if !is_root {
        log::warning!("etcdhttp", "auth: user {} does not have the root role for {page}.", user.name);
    }
    is_root
}

/// Whether somebody with this `Authorization`, or as a guest without one, has the right to do this. The caller has
/// seen that auth is on.
pub(crate) async fn may<B: Backend>(
    accounts: &Accounts<'_, B>,
    authorization: Option<&HeaderValue>,
    access: Access<'_>,
) -> bool {
    let key = || String::from_utf8_lossy(access.key);
    let Some(value) = authorization.filter(|value| !value.is_empty()) else {
        // The original does not ask guests for the right to all that is below.
        let access = Access { recursive: false, ..access };
        let may = accounts.role(&RoleName::guest()).is_ok_and(|guest| guest.allows(access));
        if !may {
            log::warning!("etcdhttp", "auth: invalid access for unauthenticated user on resource {}.", key());
        }
        return may;
    };
    let Some(credentials) = basic::parse(value.as_bytes()) else {
        log::warning!("etcdhttp", "auth: malformed basic auth encoding");
        return false;
    };
    let Some(user) = authenticated(accounts, &credentials).await else { return false };
    let mut roles = user.roles.iter().flatten();
    let may = roles.any(|role| accounts.role_of_user(role).is_ok_and(|role| role.allows(access)));
    if !may {
        log::warning!("etcdhttp", "auth: invalid access for user {} on key {}.", user.name, key());
    }
    may
}

/// Whether this `Authorization` names a user, with the right password.
pub(crate) async fn is_known<B: Backend>(
    accounts: &Accounts<'_, B>,
    authorization: Option<&HeaderValue>,
) -> bool {
    match authorization.and_then(|value| basic::parse(value.as_bytes())) {
        Some(credentials) => authenticated(accounts, &credentials).await.is_some(),
        None => false,
    }
}

/// Whether a request of this method only reads.
pub(crate) fn only_reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// The user with these credentials, if there is one.
async fn authenticated<B: Backend>(accounts: &Accounts<'_, B>, credentials: &Credentials) -> Option<User> {
    let user = credentials.user.as_ref().ok().and_then(|name| accounts.user(name).ok());
    let Some(user) = user else {
        log::warning!("etcdhttp", "auth: no such user: {}.", credentials.shown_user());
        return None;
    };
    if !accounts.fits(&credentials.password, &user).await {
        log::warning!("etcdhttp", "auth: incorrect password for user: {}.", user.name);
        return None;
    }
    Some(user)
}
