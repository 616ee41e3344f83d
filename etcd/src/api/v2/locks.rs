//! `/mod/v2/lock` and `/mod/v2/leader`, which were modules of 0.2.
//!
//! A response is a text: an index, a value, nothing, or an error. All errors have the status 500, as old clients
//! expect.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::api::page::Context;
use crate::api::page::keys::check_levels;
use crate::api::page::{Exchange, PageRequest, PageResult};
use crate::auth::{self, Accounts, Authorized, Caller, Denied, Restricted};
use crate::backend::Backend;
use crate::locks::lock::{
    AcquireRequest, EntrySelector, LockError, TTL_SECONDS_MAX, acquire, holder, release, renew,
};
use crate::locks::{LockPath, MemberHandle};
use crate::transport::form::{self, parse_u64};
use crate::transport::reply;
use crate::transport::takeover::PendingAnswer;

impl<B: Backend> MemberHandle for Arc<Context<B>> {
    type Member = B;

    fn member(&self) -> &B {
        &self.backend
    }
}

/// A request for a lock.
#[derive(Debug, PartialEq)]
enum LockCommand {
    Acquire(AcquireRequest),
    Renew(EntrySelector, u64),
    Release(EntrySelector),
    /// The value of the lock's holder, or with `index` its index.
    Read {
        index: bool,
    },
}

/// A lock and the permission to use it, which is that for its directory.
#[derive(Debug, Clone)]
pub(crate) struct LockUse {
    lock: LockPath,
    writes: bool,
    /// The generation of users and roles before the permission was checked.
    generation: u64,
}

impl Restricted for LockUse {
    fn access(&self) -> auth::Access<'_> {
        auth::Access { key: self.lock.key(), writes: self.writes, recursive: false }
    }
}

/// The lock of a request, if its client may use it; `None` if no lock can have this name.
pub(crate) async fn admit<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
) -> Result<Option<Authorized<LockUse>>, Denied> {
    let generation = context.backend.auth_generation().get();
    let switch = context.backend.auth_counted();
    let Some(lock) = LockPath::new(request.rest) else { return Ok(None) };
    let wanted = LockUse { lock, writes: !auth::only_reads(request.method), generation };
    match Authorized::while_off(switch, wanted) {
        Ok(lock_use) => Ok(Some(lock_use)),
        Err(wanted) => {
            let accounts = Accounts::new(&context.auth, &context.backend, request.caller());
            auth::admit(&accounts, wanted).await.map(Some).map_err(|(_, denied)| denied)
        }
    }
}

/// Waits until the client has lost its permission for this lock.
async fn permission_lost<B: Backend>(
    context: Arc<Context<B>>,
    LockUse { lock, writes, generation }: LockUse,
    authorization: Option<HeaderValue>,
) {
    let access = auth::Access { key: lock.key(), writes, recursive: false };
    let mut seen = generation;
    loop {
        context.backend.auth_generation().wait(seen).await;
        seen = context.backend.auth_generation().get();
        let caller = Caller { authorization: authorization.as_ref(), ..Caller::default() };
        let accounts = Accounts::new(&context.auth, &context.backend, caller);
        if context.backend.auth().is_on() && auth::check_access(&accounts, access).await.is_err() {
            return;
        }
    }
}

/// Answers a request for a lock or a leader, or starts to wait.
pub(crate) fn begin<B: Backend, S>(
    exchange: &Exchange<B>,
    leader: bool,
    mut request: PageRequest<'_>,
    headers: HeaderMap,
    lock_use: Option<Authorized<LockUse>>,
) -> PageResult<S> {
    let Some(lock_use) = lock_use else { return PageResult::Ready(reply::not_found(headers)) };
    let method = request.method.clone();
    if !matches!(method, Method::GET | Method::PUT | Method::POST | Method::DELETE) {
        return PageResult::Ready(reply::method_not_allowed(headers, "GET,PUT,POST,DELETE"));
    }
    if matches!(method, Method::PUT | Method::POST)
        && let Err(error) =
            check_levels(lock_use.lock.as_bytes(), 1, exchange.context.http_server.limits.key_levels_max)
    {
        return PageResult::Ready(reply::api_error(headers, &error));
    }
    let command = if leader { parse_leader(&request) } else { parse_lock(&request) };
    let context = exchange.context.clone();
    let permission_lost = permission_lost(context.clone(), (*lock_use).clone(), request.authorization.take());
    // All of these requests go through the log, so all of them wait.
    let work = async move {
        let done = match command {
            Err(LockRefusal::Whole(why)) => Err((StatusCode::INTERNAL_SERVER_ERROR, why)),
            Err(LockRefusal::OfLock(why)) => {
                Err((StatusCode::INTERNAL_SERVER_ERROR, of_leader(leader, &method, why)))
            }
            Ok(command) => carry_out(&context, lock_use, command).await.map_err(|(operation, why)| {
                let status = match why {
                    // Another member may be able to help: this is the only status that differs from the original's.
                    LockError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::INTERNAL_SERVER_ERROR,
                };
                (status, of_leader(leader, &method, format!("{operation} error: {why}")))
            }),
        };
        match done {
            Ok(text) => (StatusCode::OK, text),
            Err((status, why)) => (status, format!("{why}\n").into_bytes()),
        }
    };
    let work = async move {
        // In this order: a client that has lost its permission must not get the lock afterwards.
        tokio::select! {
            biased;
            () = permission_lost => (StatusCode::UNAUTHORIZED, br#"{"message":"Insufficient credentials"}"#.to_vec()),
            done = work => done,
        }
    };
    exchange.flow.hand_over_to_answer(PendingAnswer::new(work, request.framing, headers));
    PageResult::TakenOver
}

/// An election wraps the errors of its lock.
fn of_leader(leader: bool, method: &Method, why: String) -> String {
    let verb = match *method {
        _ if !leader => return why,
        Method::DELETE => "delete",
        Method::GET => "get",
        _ => "set",
    };
    format!("{verb} leader error: {why}")
}

/// Why a request is refused.
#[derive(Debug, PartialEq)]
enum LockRefusal {
    /// With this text.
    Whole(String),
    /// With this text as the error of a lock.
    OfLock(String),
}

fn refused(why: impl Into<String>) -> LockRefusal {
    LockRefusal::OfLock(why.into())
}

/// The values of these parameters. Empty ones count as missing.
fn values<'a, const N: usize>(
    request: &'a PageRequest<'_>,
    names: [&str; N],
) -> Result<[Cow<'a, [u8]>; N], LockRefusal> {
    let body = if matches!(*request.method, Method::PUT | Method::POST) { &request.body[..] } else { b"" };
    form::values(names, body, request.query.as_bytes()).map_err(|error| refused(error.to_string()))
}

fn parse_lock(request: &PageRequest<'_>) -> Result<LockCommand, LockRefusal> {
    let [value, index, ttl, timeout, field] = values(request, ["value", "index", "ttl", "timeout", "field"])?;
    match *request.method {
        Method::POST => Ok(LockCommand::Acquire(parse_acquire(&value, &ttl, &timeout)?)),
        Method::PUT => {
            let ttl_seconds = parse_ttl(&ttl)?;
            let which = match (index.is_empty(), value.is_empty()) {
                (true, true) => return Err(refused("renew lock error: index or value required")),
                (false, true) => EntrySelector::Index(index.into_owned()),
                (true, false) => EntrySelector::Value(value.into_owned()),
                (false, false) => EntrySelector::Both(index.into_owned(), value.into_owned()),
            };
            Ok(LockCommand::Renew(which, ttl_seconds))
        }
        Method::DELETE => match (index.is_empty(), value.is_empty()) {
            (true, true) => Err(refused("release lock error: index or value required")),
            (false, false) => Err(refused("release lock error: index and value cannot both be specified")),
            (false, true) => Ok(LockCommand::Release(EntrySelector::Index(index.into_owned()))),
            (true, false) => Ok(LockCommand::Release(EntrySelector::Value(value.into_owned()))),
        },
        _ => match &field[..] {
            b"" | b"value" => Ok(LockCommand::Read { index: false }),
            b"index" => Ok(LockCommand::Read { index: true }),
            other => {
                let other = String::from_utf8_lossy(other);
                Err(refused(format!("read lock error: invalid field: {other}")))
            }
        },
    }
}

fn parse_leader(request: &PageRequest<'_>) -> Result<LockCommand, LockRefusal> {
    if *request.method == Method::GET {
        return Ok(LockCommand::Read { index: false });
    }
    let [name, ttl, timeout] = values(request, ["name", "ttl", "timeout"])?;
    if name.is_empty() {
        return Err(LockRefusal::Whole("leader name required".to_owned()));
    }
    if *request.method == Method::DELETE {
        return Ok(LockCommand::Release(EntrySelector::Value(name.into_owned())));
    }
    Ok(LockCommand::Acquire(parse_acquire(&name, &ttl, &timeout)?))
}

fn parse_acquire(value: &[u8], ttl: &[u8], timeout: &[u8]) -> Result<AcquireRequest, LockRefusal> {
    let patience = match timeout {
        // The original uses -1 for "no limit".
        b"" | b"-1" => None,
        text => Some(
            parse_u64(text)
                .ok_or_else(|| refused(format!("invalid timeout: {}", String::from_utf8_lossy(text))))?,
        ),
    };
    Ok(AcquireRequest {
        value: value.to_vec(),
        ttl_seconds: parse_ttl(ttl)?,
        // No client can wait for longer than its place in the queue can be kept.
        wait_max: patience.map(|seconds| Duration::from_secs(seconds.min(TTL_SECONDS_MAX))),
    })
}

fn parse_ttl(text: &[u8]) -> Result<u64, LockRefusal> {
    parse_u64(text)
        .filter(|seconds| (1..=TTL_SECONDS_MAX).contains(seconds))
        .ok_or_else(|| refused(format!("invalid ttl: {}", String::from_utf8_lossy(text))))
}

/// Carries out a command. An error comes with the name of the operation that failed.
async fn carry_out<B: Backend>(
    context: &Arc<Context<B>>,
    lock_use: Authorized<LockUse>,
    command: LockCommand,
) -> Result<Vec<u8>, (&'static str, LockError)> {
    let LockUse { lock, .. } = lock_use.into_inner();
    match command {
        LockCommand::Acquire(request) => match acquire(context.clone(), lock, request).await {
            Ok(index) => Ok(index.to_string().into_bytes()),
            Err(why) => Err(("acquire lock", why)),
        },
        LockCommand::Renew(which, ttl_seconds) => match renew(context, &lock, &which, ttl_seconds).await {
            Ok(()) => Ok(Vec::new()),
            // Without a value, the original first looks for the value.
            Err(why @ LockError::Api(_)) if matches!(which, EntrySelector::Index(_)) => {
                Err(("renew lock value", why))
            }
            Err(why) => Err(("renew lock", why)),
        },
        LockCommand::Release(which) => {
            release(context, &lock, &which).await.map_err(|why| ("release lock", why))?;
            Ok(Vec::new())
        }
        LockCommand::Read { index } => match holder(context, &lock).await {
            Ok(None) => Ok(Vec::new()),
            Ok(Some((number, _))) if index => Ok(number.to_string().into_bytes()),
            Ok(Some((_, value))) => Ok(value),
            Err(why) => Err(("read lock", why)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Flow;
    use crate::transport::request::{Framing, WholeBody};

    fn request(method: Method, query: &str, body: &str, leader: bool) -> Result<LockCommand, LockRefusal> {
        let flow = Flow::default();
        let request = PageRequest {
            source: None,
            flow: &flow,
            method: &method,
            rest: b"/foo",
            query,
            content_type: b"application/x-www-form-urlencoded",
            authorization: None,
            body: WholeBody::of(body.as_bytes()),
            framing: Framing { chunked: true, keep_alive: true, head: false },
        };
        if leader { parse_leader(&request) } else { parse_lock(&request) }
    }

    fn acquiring(value: &str, ttl_seconds: u64, patience: Option<u64>) -> Result<LockCommand, LockRefusal> {
        let patience = patience.map(Duration::from_secs);
        Ok(LockCommand::Acquire(AcquireRequest { value: value.into(), ttl_seconds, wait_max: patience }))
    }

    #[test]
    fn reads_what_is_asked_of_a_lock() {
        let lock = |method, query, body| request(method, query, body, false);
        assert_eq!(lock(Method::POST, "ttl=60", ""), acquiring("", 60, None));
        assert_eq!(lock(Method::POST, "ttl=60", "value=a+b&timeout=0"), acquiring("a b", 60, Some(0)));
        assert_eq!(lock(Method::POST, "ttl=60&timeout=-1", ""), acquiring("", 60, None));
        let (index, value) = (|| EntrySelector::Index(b"2".to_vec()), || EntrySelector::Value(b"x".to_vec()));
        assert_eq!(lock(Method::PUT, "ttl=5", "index=2"), Ok(LockCommand::Renew(index(), 5)));
        assert_eq!(lock(Method::PUT, "ttl=5&value=x", ""), Ok(LockCommand::Renew(value(), 5)));
        assert_eq!(lock(Method::DELETE, "index=2", ""), Ok(LockCommand::Release(index())));
        assert_eq!(lock(Method::DELETE, "value=x", ""), Ok(LockCommand::Release(value())));
        assert_eq!(lock(Method::GET, "", ""), Ok(LockCommand::Read { index: false }));
        assert_eq!(lock(Method::GET, "field=index", ""), Ok(LockCommand::Read { index: true }));
    }

    #[test]
    fn refuses_in_the_originals_words() {
        let lock = |method, query| match request(method, query, "", false) {
            Err(LockRefusal::OfLock(why)) => why,
            other => panic!("{other:?}"),
        };
        for (query, why) in [
            ("", "invalid ttl: "),
            ("ttl=x", "invalid ttl: x"),
            ("ttl=0", "invalid ttl: 0"),
            ("ttl=-5", "invalid ttl: -5"),
            ("ttl=99999999999", "invalid ttl: 99999999999"),
            ("ttl=5&timeout=soon", "invalid timeout: soon"),
        ] {
            assert_eq!(lock(Method::POST, query), why);
        }
        assert_eq!(lock(Method::PUT, "ttl=5"), "renew lock error: index or value required");
        assert_eq!(lock(Method::DELETE, ""), "release lock error: index or value required");
        assert_eq!(
            lock(Method::DELETE, "index=1&value=a"),
            "release lock error: index and value cannot both be specified"
        );
        assert_eq!(lock(Method::GET, "field=ttl"), "read lock error: invalid field: ttl");
    }

    #[test]
    fn a_leader_has_a_name() {
        let leader = |method, query| request(method, query, "", true);
        assert_eq!(leader(Method::PUT, "name=me&ttl=10"), acquiring("me", 10, None));
        assert_eq!(leader(Method::POST, "name=me&ttl=10&timeout=3"), acquiring("me", 10, Some(3)));
        assert_eq!(
            leader(Method::DELETE, "name=me"),
            Ok(LockCommand::Release(EntrySelector::Value(b"me".to_vec())))
        );
        assert_eq!(leader(Method::PUT, "ttl=10"), Err(LockRefusal::Whole("leader name required".into())));
        assert_eq!(leader(Method::PUT, "name=me"), Err(refused("invalid ttl: ")));
        assert_eq!(of_leader(true, &Method::PUT, "x".into()), "set leader error: x");
    }
}
