//! `/debug/vars`: the process and its place in the group, for those who look for a fault.

use std::fmt::Write;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::stats::state_name;
use crate::api::page::Asked;
use crate::api::page::Context;
use crate::api::page::gate;
use crate::backend::Backend;
use crate::metrics::{Process, descriptor_limit};
use crate::transport::reply::{self, Response};
use crate::version::OWN;

const JSON_UTF8: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Shows them; with auth on the command line to `root` only, for it may tell of paths, addresses and passwords.
pub(crate) async fn answer<B: Backend>(
    context: &Context<B>,
    asked: &Asked<'_>,
    mut headers: HeaderMap,
) -> Response {
    if *asked.method != Method::GET {
        return reply::method_not_allowed(headers, "GET");
    }
    let shows_all = !context.backend.auth().is_on()
        || asked.authorization.is_some() && gate::is_root(context, asked, "/debug/vars").await.is_ok();
    let arguments: Vec<_> = if shows_all {
        std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect()
    } else {
        Vec::new()
    };
    let variables = [
        // Strings can always be written.
        ("cmdline", shared::json::to_string(&arguments).unwrap_or_default()),
        ("etcd-rs.version", format!("\"{OWN}\"")),
        ("file_descriptor_limit", descriptor_limit().to_string()),
        ("memstats", memory()),
        ("raft.status", raft_status(&context.backend)),
    ];
    let mut body = String::from("{\n");
    for (number, (name, value)) in variables.iter().enumerate() {
        let comma = if number == 0 { "" } else { ",\n" };
        // Writing into a String cannot fail.
        let _ = write!(body, "{comma}\"{name}\": {value}");
    }
    body.push_str("\n}\n");
    headers.insert(CONTENT_TYPE, JSON_UTF8);
    reply::answer(headers, StatusCode::OK, body)
}

/// Bytes in memory and bytes of address space, by the names nearest to them in Go.
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
