//! `/v2/auth/*`: users, roles, and the switch that puts them into force.

use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use shared::account::{RoleName, UserName};
use shared::json;

use crate::api::page::Context;
use crate::api::page::gate::{admit_root, refuse};
use crate::api::page::{AccountKind, PageRequest};
use crate::auth::{
    Accounts, AuthError, AuthRefusal, Authorized, Denied, RecordError, Role, User, UserChange, is_empty,
};
use crate::backend::{Backend, Unavailable};
use crate::log;
use crate::transport::form::Form;
use crate::transport::reply::{self, Response};

/// A user in a response, with the permissions of each role.
#[derive(Serialize)]
struct UserWithRoles {
    user: UserName,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    roles: Vec<Role>,
}

#[derive(Serialize)]
struct Users {
    /// Go writes a list that was never created as `null`.
    users: Option<Vec<UserWithRoles>>,
}

#[derive(Serialize)]
struct Roles {
    roles: Vec<Role>,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

/// The resource at a path below `/v2/auth/users` or `/v2/auth/roles`.
enum AccountPath {
    All(AccountKind),
    User(UserName),
    Role(RoleName),
}

impl AccountPath {
    fn of(family: AccountKind, rest: &[u8]) -> Result<AccountPath, String> {
        let name = rest.strip_prefix(b"/").unwrap_or(rest);
        let name = name.strip_suffix(b"/").unwrap_or(name);
        if name.contains(&b'/') {
            return Err("Invalid path".to_owned());
        }
        let path = match family {
            _ if name.is_empty() => Ok(AccountPath::All(family)),
            AccountKind::Users => UserName::from_bytes(name)
                .map(AccountPath::User)
                .map_err(|why| AuthRefusal::user_name(name, why)),
            AccountKind::Roles => RoleName::from_bytes(name)
                .map(AccountPath::Role)
                .map_err(|why| AuthRefusal::role_name(name, why)),
        };
        path.map_err(|refusal| refusal.to_string())
    }
}

/// A request that may be answered: the cluster supports auth, and the client has the permission.
struct Admitted<'a, B> {
    accounts: Authorized<Accounts<'a, B>>,
    headers: HeaderMap,
}

/// Answers a request for users or roles.
pub(crate) async fn answer_family<B: Backend>(
    context: &Context<B>,
    family: AccountKind,
    request: PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if !is_known(context) {
        return not_capable(headers);
    }
    let path = match AccountPath::of(family, request.rest) {
        Err(why) => return reply::message(headers, StatusCode::BAD_REQUEST, why),
        Ok(AccountPath::All(_)) if *request.method != Method::GET => {
            return reply::method_not_allowed(headers, "GET");
        }
        Ok(AccountPath::User(_) | AccountPath::Role(_)) if !is_any_of(&request) => {
            return reply::method_not_allowed(headers, METHODS);
        }
        Ok(path) => path,
    };
    let admitted = match admit(context, &request, headers).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused,
    };
    match path {
        AccountPath::All(AccountKind::Users) => list_users(&request, admitted),
        AccountPath::All(AccountKind::Roles) => list_roles(&request, admitted),
        AccountPath::User(name) => answer_user(&request, admitted, &name).await,
        AccountPath::Role(name) => answer_role(&request, admitted, &name).await,
    }
}

async fn answer_user<B: Backend>(
    request: &PageRequest<'_>,
    Admitted { accounts, headers }: Admitted<'_, B>,
    name: &UserName,
) -> Response {
    match *request.method {
        Method::GET => show_user(request, &accounts, name, headers),
        Method::PUT => put_user(request, &accounts, name, headers).await,
        _ => done(headers, accounts.delete_user(name).await),
    }
}

async fn answer_role<B: Backend>(
    request: &PageRequest<'_>,
    Admitted { accounts, headers }: Admitted<'_, B>,
    name: &RoleName,
) -> Response {
    match *request.method {
        Method::GET => match accounts.role(name) {
            Ok(role) => show(headers, StatusCode::OK, &role),
            Err(error) => failed(headers, &error),
        },
        Method::PUT => put_role(request, &accounts, name, headers).await,
        _ => done(headers, accounts.delete_role(name).await),
    }
}

/// Answers a request for the switch. Every client may read it.
pub(crate) async fn answer_switch<B: Backend>(
    context: &Context<B>,
    request: PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if !is_known(context) {
        return not_capable(headers);
    }
    if !is_any_of(&request) {
        return reply::method_not_allowed(headers, METHODS);
    }
    if *request.method == Method::GET {
        let headers = with_cluster(context, headers);
        let enabled = context.backend.auth_counted().is_on();
        return show(headers, StatusCode::OK, &Enabled { enabled });
    }
    let Admitted { accounts, headers } = match admit(context, &request, headers).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused,
    };
    // The original reads the switch once more, which its statistics show.
    let _ = accounts.switch();
    let switched =
        if *request.method == Method::PUT { accounts.enable().await } else { accounts.disable().await };
    done(headers, switched)
}

const METHODS: &str = "GET,PUT,DELETE";

fn is_any_of(request: &PageRequest<'_>) -> bool {
    matches!(*request.method, Method::GET | Method::PUT | Method::DELETE)
}

/// Admits root, and every client while auth is off.
async fn admit<'a, B: Backend>(
    context: &'a Context<B>,
    request: &'a PageRequest<'_>,
    headers: HeaderMap,
) -> Result<Admitted<'a, B>, Response> {
    let request = match admit_root(context, request, "/v2/auth").await {
        Ok(request) => request,
        Err(denied) => return Err(refuse(headers, denied)),
    };
    let accounts = request.map(|request| Accounts::new(&context.auth, &context.backend, request.caller()));
    Ok(Admitted { accounts, headers: with_cluster(context, headers) })
}

fn with_cluster<B>(context: &Context<B>, mut headers: HeaderMap) -> HeaderMap {
    headers.insert(reply::X_ETCD_CLUSTER_ID, context.cluster_id.clone());
    headers
}

/// Whether all members support auth. Members of 2.0 do not.
fn is_known<B: Backend>(context: &Context<B>) -> bool {
    let membership = context.backend.members();
    let mut parts = membership.version.as_deref().unwrap_or_default().split('.').map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (2, 1),
        _ => false,
    }
}

fn not_capable(headers: HeaderMap) -> Response {
    let text = "Not capable of accessing auth feature during rolling upgrades.";
    reply::message(headers, StatusCode::INTERNAL_SERVER_ERROR, text)
}

fn list_users<B: Backend>(
    request: &PageRequest<'_>,
    Admitted { accounts, headers }: Admitted<'_, B>,
) -> Response {
    let names = match accounts.users() {
        Ok(_) if !has_query(request) => return internal_error(headers),
        Ok(names) => names,
        Err(error) => return failed(headers, &error),
    };
    let listed = names.iter().filter_map(|name| match accounts.user(name) {
        Ok(User { name: user, roles, .. }) => {
            // The list omits roles that do not exist any more; on the page of one user they are an error.
            let roles = roles.iter().flatten().filter_map(|role| accounts.role_of_user(role).ok()).collect();
            Some(Ok(UserWithRoles { user, roles }))
        }
        // A record that is not valid.
        Err(AuthError::Refused(AuthRefusal::NoUser(_))) => None,
        Err(error) => Some(Err(error)),
    });
    match listed.collect::<Result<Vec<UserWithRoles>, AuthError>>() {
        Ok(listed) => {
            let users = Some(listed).filter(|listed| !listed.is_empty());
            show(headers, StatusCode::OK, &Users { users })
        }
        Err(error) => failed(headers, &error),
    }
}

fn list_roles<B: Backend>(
    request: &PageRequest<'_>,
    Admitted { accounts, headers }: Admitted<'_, B>,
) -> Response {
    let names = match accounts.roles() {
        Ok(_) if !has_query(request) => return internal_error(headers),
        Ok(names) => names,
        Err(error) => return failed(headers, &error),
    };
    let listed = names.iter().filter_map(|name| match accounts.role(name) {
        Err(AuthError::Refused(AuthRefusal::NoRole(_))) => None,
        other => Some(other),
    });
    match listed.collect() {
        Ok(roles) => show(headers, StatusCode::OK, &Roles { roles }),
        Err(error) => failed(headers, &error),
    }
}

fn show_user<B: Backend>(
    request: &PageRequest<'_>,
    accounts: &Authorized<Accounts<'_, B>>,
    name: &UserName,
    headers: HeaderMap,
) -> Response {
    let user = match accounts.user(name) {
        Ok(_) if !has_query(request) => return internal_error(headers),
        Ok(user) => user,
        Err(error) => return failed(headers, &error),
    };
    match user.roles.iter().flatten().map(|role| accounts.role_of_user(role)).collect() {
        Ok(roles) => show(headers, StatusCode::OK, &UserWithRoles { user: user.name, roles }),
        Err(error) => failed(headers, &error),
    }
}

/// Whether the query is well-formed. It is not used, but the original fails if it is malformed.
fn has_query(request: &PageRequest<'_>) -> bool {
    Form::parse(b"", request.query.as_bytes()).is_ok()
}

/// Creates or changes a user. With `grant` or `revoke` in the body the user must exist, with `roles` it must not.
async fn put_user<B: Backend>(
    request: &PageRequest<'_>,
    accounts: &Authorized<Accounts<'_, B>>,
    name: &UserName,
    headers: HeaderMap,
) -> Response {
    let user = match User::from_body(name, &request.body) {
        Ok(user) => user,
        Err(why) => return bad_body(headers, "User", &why),
    };
    let changes = !is_empty(&user.grant) || !is_empty(&user.revoke);
    let unchanged = |user| UserChange { user, created: false };
    let result = match (changes, is_empty(&user.roles)) {
        (true, false) => {
            let text = "User JSON contains both roles and grant/revoke";
            return reply::message(headers, StatusCode::BAD_REQUEST, text);
        }
        (true, true) => accounts.update_user(user).await.map(unchanged),
        // The original responds with 200 here, not 201.
        (false, false) => accounts.create_user(user).await.map(unchanged),
        (false, true) => accounts.create_or_update_user(user).await,
    };
    match result {
        Ok(UserChange { user, created }) => {
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            show(headers, status, &User { password: String::new(), ..user })
        }
        Err(error) => failed(headers, &error),
    }
}

/// Creates a role, or changes one if the body grants or revokes something.
async fn put_role<B: Backend>(
    request: &PageRequest<'_>,
    accounts: &Authorized<Accounts<'_, B>>,
    name: &RoleName,
    headers: HeaderMap,
) -> Response {
    let role = match Role::from_body(name, &request.body) {
        Ok(role) => role,
        Err(why) => return bad_body(headers, "Role", &why),
    };
    let result = if !role.is_change() {
        accounts.create_role(&role).await.map(|()| (StatusCode::CREATED, role))
    } else if !role.permissions.is_empty() {
        let text = "Role JSON contains both permissions and grant/revoke";
        return reply::message(headers, StatusCode::BAD_REQUEST, text);
    } else {
        accounts.update_role(&role).await.map(|role| (StatusCode::OK, role))
    };
    match result {
        Ok((status, role)) => show(headers, status, &role),
        Err(error) => failed(headers, &error),
    }
}

/// The response to a body that does not describe the user or role of the page.
fn bad_body(headers: HeaderMap, kind: &str, why: &RecordError) -> Response {
    let text = match why {
        RecordError::Malformed => "Invalid JSON in request body.".to_owned(),
        RecordError::OtherName(_) => format!("{kind} JSON name does not match the name in the URL"),
        RecordError::BadRole { .. } => format!("auth: {why}"),
    };
    reply::message(headers, StatusCode::BAD_REQUEST, text)
}

fn show<T: Serialize>(headers: HeaderMap, status: StatusCode, value: &T) -> Response {
    // Texts, lists and booleans can always be serialized.
    let mut body = json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    reply::json(headers, status, body)
}

/// The response to a change without a result.
fn done(headers: HeaderMap, result: Result<(), AuthError>) -> Response {
    match result {
        Ok(()) => reply::json(headers, StatusCode::OK, Vec::new()),
        Err(error) => failed(headers, &error),
    }
}

fn failed(headers: HeaderMap, error: &AuthError) -> Response {
    match error {
        AuthError::Refused(refusal) => reply::message(headers, refusal.status(), refusal.to_string()),
        AuthError::Store(error) => reply::api_error(headers, error),
        AuthError::Unavailable(Unavailable::LeaderLost) => {
            log::error!("etcdhttp", "{error}");
            internal_error(headers)
        }
        AuthError::Busy(_) => refuse(headers, Denied::Busy),
        AuthError::Unavailable(_) | AuthError::Record { .. } | AuthError::Hash(_) => {
            log::error!("etcdhttp", "got unexpected response error ({error})");
            internal_error(headers)
        }
    }
}

fn internal_error(headers: HeaderMap) -> Response {
    reply::message(headers, StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}
