//! The permission checks of the pages, and the responses to clients without a permission.

use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use shared::error::{ApiError, Code};

use super::{Context, PageRequest};
use crate::auth::{self, Access, Accounts, Authorized, Caller, Denied};
use crate::backend::Backend;
use crate::transport::reply::{self, Response};
use crate::transport::watch::{PermissionCheck, WatchPermission};

/// Whether the client may change members, users and roles. A refusal is logged.
pub(crate) async fn is_root<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    page: &str,
) -> Result<(), Denied> {
    auth::check_root(&Accounts::new(&context.auth, &context.backend, request.caller()), page).await
}

/// Admits a request if its client may change members, users and roles. A refusal is logged.
pub(crate) async fn admit_root<'a, B: Backend>(
    context: &Context<B>,
    request: &'a PageRequest<'a>,
    page: &str,
) -> Result<Authorized<&'a PageRequest<'a>>, Denied> {
    auth::admit_root(&Accounts::new(&context.auth, &context.backend, request.caller()), page, request).await
}

/// Whether the client of a watch still has its permission.
pub(crate) fn may_still_watch<B: Backend>(
    permission: &WatchPermission,
    context: Arc<Context<B>>,
) -> PermissionCheck {
    let (key, recursive) = (Box::<[u8]>::from(permission.key()), permission.is_recursive());
    let authorization = permission.authorization().cloned().map(Box::new);
    Box::pin(async move {
        if !context.backend.auth().is_on() {
            return true;
        }
        let caller = Caller { authorization: authorization.as_deref(), ..Caller::default() };
        let accounts = Accounts::new(&context.auth, &context.backend, caller);
        auth::check_access(&accounts, Access { key: &key, writes: false, recursive }).await.is_ok()
    })
}

/// The status and the text of a refusal.
fn status_and_text(denied: Denied) -> (StatusCode, &'static str) {
    match denied {
        Denied::NoRight => (StatusCode::UNAUTHORIZED, "Insufficient credentials"),
        Denied::Busy => (StatusCode::SERVICE_UNAVAILABLE, BUSY),
    }
}

const BUSY: &str = "too many passwords are being checked, try again later";

/// When the client may try again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

fn with_retry(mut headers: HeaderMap, status: StatusCode) -> HeaderMap {
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    headers
}

/// The refusal of a page.
pub(crate) fn refuse(headers: HeaderMap, denied: Denied) -> Response {
    let (status, text) = status_and_text(denied);
    reply::message(with_retry(headers, status), status, text)
}

/// The refusal of a key.
pub(crate) fn refuse_key(headers: HeaderMap, denied: Denied) -> Response {
    let (status, text) = status_and_text(denied);
    let error = ApiError::new(Code::Unauthorized, text, 0);
    reply::api_error_as(with_retry(headers, status), status, &error)
}
