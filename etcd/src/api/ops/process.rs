//! What this process is and how much it logs: `/version`, `/debug/vars`, `/config/local/log`.

use std::fmt::Write;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use shared::json;

use super::stats::state_name;
use crate::api::page::{Context, PageRequest, gate};
use crate::auth::Authorized;
use crate::backend::Backend;
use crate::go_json;
use crate::log::{self, Level};
use crate::metrics::{Process, descriptor_limit};
use crate::transport::reply::{self, Response};
use crate::version::OWN;

const JSON_UTF8: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// `/version`: the version of this member, and the version of the cluster.
///
/// Only in allow-legacy mode, a third field has the version of the peer protocol. Standbys of 0.4 wait until it is 2
/// and then make room for a proxy; launchers use it to find out which version a cluster runs.
pub(crate) fn answer_version<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if *request.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    let membership = context.backend.members();
    let mut body = Vec::with_capacity(64);
    body.extend_from_slice(b"{\"etcdserver\":");
    json::write_string(&mut body, context.backend.level().spoken().as_bytes());
    body.extend_from_slice(b",\"etcdcluster\":");
    json::write_string(&mut body, membership.version.as_deref().unwrap_or("not_decided").as_bytes());
    if context.internal_version {
        body.extend_from_slice(b",\"internalVersion\":\"2\"");
    }
    body.push(b'}');
    reply::json(headers, StatusCode::OK, body)
}

/// `/debug/vars`: the state of the process and of raft, for diagnosis. With auth on, only `root` sees the command
/// line, because it may contain paths, addresses and passwords.
pub(crate) async fn answer_vars<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    mut headers: HeaderMap,
) -> Response {
    if *request.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    let shows_all = !context.backend.auth().is_on()
        || request.authorization.is_some() && gate::is_root(context, request, "/debug/vars").await.is_ok();
    let arguments: Vec<_> = if shows_all {
        std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect()
    } else {
        Vec::new()
    };
    let variables = [
        // Strings can always be serialized.
        ("cmdline", json::to_string(&arguments).unwrap_or_default()),
        ("etcd-rs.version", format!("\"{OWN}\"")),
        ("file_descriptor_limit", descriptor_limit().to_string()),
        ("memstats", memory()),
        ("raft.status", raft_status(&context.backend)),
    ];
    let mut body = String::from("{\n");
    for (number, (name, value)) in variables.iter().enumerate() {
        let comma = if number == 0 { "" } else { ",\n" };
        // Writing to a String cannot fail.
        let _ = write!(body, "{comma}\"{name}\": {value}");
    }
    body.push_str("\n}\n");
    headers.insert(CONTENT_TYPE, JSON_UTF8);
    reply::answer(headers, StatusCode::OK, body)
}

/// The resident and the virtual memory in bytes, under the nearest names of Go.
fn memory() -> String {
    let (alloc, sys) =
        Process::read().map_or((0, 0), |process| (process.resident_bytes, process.virtual_bytes));
    format!("{{\"Alloc\":{alloc},\"Sys\":{sys}}}")
}

fn raft_status<B: Backend>(backend: &B) -> String {
    let status = backend.status();
    let mut text = format!(
        "{{\"id\":\"{}\",\"term\":{},\"vote\":\"{}\",\"commit\":{},\"lead\":\"{}\",\"raftState\":\"{}\",\"progress\":{{",
        status.id,
        status.term,
        status.vote,
        status.commit,
        status.leader,
        state_name(status.role)
    );
    for (number, peer) in backend.progress().iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(
            text,
            "{comma}\"{}\":{{\"match\":{},\"next\":{},\"state\":\"{}\"}}",
            peer.id, peer.matched, peer.next, peer.state
        );
    }
    text.push_str("}}");
    text
}

/// `/config/local/log`: changes the log level of this member. With auth on, only for `root`: a verbose log fills
/// disks, and a silent one hides what happens.
pub(crate) async fn answer_log_level<B: Backend>(
    context: &Context<B>,
    request: &PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if *request.method != Method::PUT {
        return reply::method_not_allowed(headers, "PUT");
    }
    match Authorized::while_off(context.backend.auth(), request) {
        Ok(request) => set_log_level(context, &request, headers),
        Err(request) => match gate::admit_root(context, request, "/config/local/log").await {
            Ok(request) => set_log_level(context, &request, headers),
            Err(denied) => gate::refuse(headers, denied),
        },
    }
}

fn set_log_level<B>(
    context: &Context<B>,
    request: &Authorized<&PageRequest<'_>>,
    headers: HeaderMap,
) -> Response {
    let Some(level) = go_json::first_string_at(&request.body, "Level") else {
        return reply::message(headers, StatusCode::BAD_REQUEST, "Invalid json body");
    };
    match level.to_uppercase().parse::<Level>() {
        Ok(level) => {
            log::notice!("etcdhttp", "globalLogLevel set to \"{level}\"");
            context.log.set_all(level);
            reply::empty(headers, StatusCode::NO_CONTENT)
        }
        Err(_) => reply::message(headers, StatusCode::BAD_REQUEST, format!("Invalid log level {level}")),
    }
}
