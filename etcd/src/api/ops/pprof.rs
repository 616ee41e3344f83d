//! `/debug/pprof`: profiles of the process, for `go tool pprof` and similar tools, if `-enable-pprof` is set.
//!
//! Slow work runs on the blocking pool. With auth on, the pages are for `root`: a profile shows only code paths, not
//! keys, but taking one costs CPU and memory.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use shared::time::UnixNanos;

use crate::api::page::Context;
use crate::api::page::PageRequest;
use crate::api::page::gate;
use crate::auth::Authorized;
use crate::backend::Backend;
use crate::profiles::cpu::{CpuError, CpuSampling};
use crate::profiles::threads::{self, Thread};
use crate::profiles::{self, heap};
use crate::transport::reply::{self, Response};

/// The default duration of a CPU profile, in seconds.
const SECONDS: u64 = 30;

/// The longest duration: no other client can take a profile meanwhile.
const SECONDS_MAX: u64 = 300;

/// The most addresses that are resolved in one request.
const SYMBOLS_MAX: usize = 10_000;

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
/// With this header, `go tool pprof` shows the text of an error.
const X_GO_PPROF: HeaderName = HeaderName::from_static("x-go-pprof");

/// The pages and their descriptions.
const PAGES: [(&str, &str); 7] = [
    ("block", "blocked threads. This server does not record them: the profile is always empty."),
    ("cmdline", "the command line, its arguments separated by zero bytes."),
    ("goroutine", "the number of tasks, and the threads that run them."),
    ("heap", "memory in use and allocations, by call stack: a sample since the start."),
    ("profile", "CPU time by call stack, for 30 seconds or the number in ?seconds=, up to 300."),
    ("symbol", "the names of the functions at the addresses in the query, separated by '+'."),
    ("threadcreate", "the threads of the process."),
];

/// The content of a response, before it has headers.
enum PprofResponse {
    Html(String),
    Text(Vec<u8>),
    /// A profile, with the name of its file.
    Profile(&'static str, Vec<u8>),
    Error(StatusCode, String),
    NotFound,
}

impl PprofResponse {
    fn failed(what: &str, why: &dyn std::fmt::Display) -> PprofResponse {
        PprofResponse::Error(StatusCode::INTERNAL_SERVER_ERROR, format!("{what}: {why}"))
    }

    fn with(self, mut headers: HeaderMap) -> Response {
        let (status, kind, body) = match self {
            PprofResponse::NotFound => return reply::not_found(headers),
            PprofResponse::Html(text) => (StatusCode::OK, HTML, text.into_bytes()),
            PprofResponse::Text(text) => (StatusCode::OK, reply::TEXT, text),
            PprofResponse::Profile(name, bytes) => {
                let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
                if let Ok(disposition) = disposition {
                    headers.insert(CONTENT_DISPOSITION, disposition);
                }
                (StatusCode::OK, BINARY, bytes)
            }
            PprofResponse::Error(status, text) => {
                headers.insert(X_GO_PPROF, HeaderValue::from_static("1"));
                (status, reply::TEXT, format!("{text}\n").into_bytes())
            }
        };
        headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        headers.insert(CONTENT_TYPE, kind);
        reply::answer(headers, status, body)
    }
}

pub(crate) async fn answer<B: Backend>(
    context: &Context<B>,
    request: PageRequest<'_>,
    headers: HeaderMap,
) -> Response {
    if !context.pprof {
        return reply::not_found(headers);
    }
    match gate::admit_root(context, &request, "/debug/pprof").await {
        Ok(request) => page(&request, context.backend.clock()).await.with(headers),
        Err(denied) => gate::refuse(headers, denied),
    }
}

/// Whether the page reads the body of such a request.
pub(crate) fn wants_body(method: &Method) -> bool {
    *method == Method::POST
}

async fn page(request: &Authorized<&PageRequest<'_>>, now: UnixNanos) -> PprofResponse {
    let query = Query::of(request.query);
    match request.rest {
        b"" | b"/" => PprofResponse::Html(index()),
        b"/cmdline" => PprofResponse::Text(cmdline()),
        b"/profile" => cpu(&query, now).await,
        b"/symbol" => {
            let words = match *request.method {
                Method::POST => request.body.clone().into_bytes(),
                _ => Bytes::copy_from_slice(request.query.as_bytes()),
            };
            run_blocking(move || PprofResponse::Text(symbols(&words).into_bytes())).await
        }
        b"/heap" => snapshot(&query, move |text| heap_page(text, now)).await,
        b"/goroutine" => {
            let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
            snapshot(&query, move |text| threads_page("goroutine", Some(tasks), text, now)).await
        }
        b"/threadcreate" => snapshot(&query, move |text| threads_page("threadcreate", None, text, now)).await,
        b"/block" => snapshot(&query, move |text| block_page(text, now)).await,
        _ => PprofResponse::NotFound,
    }
}

/// Runs work that may block.
async fn run_blocking(work: impl FnOnce() -> PprofResponse + Send + 'static) -> PprofResponse {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| PprofResponse::failed("Could not make the profile", &error))
}

/// A profile of the current state rather than of a period. `work` gets whether the client wants text.
async fn snapshot(query: &Query, work: impl FnOnce(bool) -> PprofResponse + Send + 'static) -> PprofResponse {
    if query.seconds.is_some() {
        let why = "\"seconds\" parameter is not supported for this profile type";
        return PprofResponse::Error(StatusCode::BAD_REQUEST, why.to_owned());
    }
    let text = query.text;
    run_blocking(move || work(text)).await
}

/// The parameters of the query.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    seconds: Option<String>,
    /// `debug` is a number other than 0.
    text: bool,
}

impl Query {
    fn of(query: &str) -> Query {
        let first = |name: &str| {
            let mut pairs = url::form_urlencoded::parse(query.as_bytes());
            pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let text = first("debug").and_then(|text| text.parse::<i64>().ok()).is_some_and(|debug| debug != 0);
        Query { seconds: first("seconds").filter(|text| !text.is_empty()), text }
    }

    /// The duration. As in the original, a malformed one means thirty seconds.
    fn duration(&self) -> Result<Duration, PprofResponse> {
        let digits = self.seconds.as_deref().map(|text| text.strip_prefix('+').unwrap_or(text));
        let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match digits.map(|text| text.parse().unwrap_or(u64::MAX)) {
            None | Some(0) => Ok(Duration::from_secs(SECONDS)),
            Some(seconds @ 1..=SECONDS_MAX) => Ok(Duration::from_secs(seconds)),
            Some(_) => {
                let why =
                    format!("profile duration exceeds {SECONDS_MAX} seconds, the longest that there is");
                Err(PprofResponse::Error(StatusCode::BAD_REQUEST, why))
            }
        }
    }
}

fn index() -> String {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html>\n<head><title>/debug/pprof/</title></head>\n<body>\n<h1>Profiles</h1>\n<dl>\n",
    );
    for (name, description) in PAGES {
        // Absolute paths: the page is served with and without a slash at its end. Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "<dt><a href=\"/debug/pprof/{name}?debug=1\">{name}</a></dt><dd>{description}</dd>"
        );
    }
    page.push_str(
        "</dl>\n<p>Profiles without <code>?debug=1</code> are for <code>go tool pprof</code>.</p>\n",
    );
    page.push_str("</body>\n</html>\n");
    page
}

fn cmdline() -> Vec<u8> {
    let words: Vec<Vec<u8>> = std::env::args_os().map(std::os::unix::ffi::OsStringExt::into_vec).collect();
    words.join(&0)
}

async fn cpu(query: &Query, now: UnixNanos) -> PprofResponse {
    let duration = match query.duration() {
        Ok(duration) => duration,
        Err(refused) => return refused,
    };
    let failed = |why: &dyn std::fmt::Display| PprofResponse::failed("Could not enable CPU profiling", why);
    let sampling = match tokio::task::spawn_blocking(move || CpuSampling::start(now)).await {
        Ok(Ok(sampling)) => sampling,
        Ok(Err(error)) => return failed(&error),
        Err(error) => return failed(&error),
    };
    tokio::time::sleep(duration).await;
    run_blocking(move || match sampling.finish() {
        Ok(bytes) => PprofResponse::Profile("profile", bytes),
        Err(error @ (CpuError::InUse | CpuError::System(_) | CpuError::Pack(_))) => {
            PprofResponse::failed("Could not finish the CPU profile", &error)
        }
    })
    .await
}

fn heap_page(text: bool, now: UnixNanos) -> PprofResponse {
    let made = if text {
        heap::text().map(PprofResponse::Text)
    } else {
        heap::profile(now).map(|bytes| PprofResponse::Profile("heap", bytes))
    };
    made.unwrap_or_else(|error| PprofResponse::failed("Could not make the heap profile", &error))
}

fn threads_page(name: &'static str, tasks: Option<usize>, text: bool, now: UnixNanos) -> PprofResponse {
    let threads = Thread::all();
    if text {
        return PprofResponse::Text(
            threads::text(name, tasks.unwrap_or(threads.len()), &threads).into_bytes(),
        );
    }
    match threads::profile(name, tasks, &threads, now) {
        Ok(bytes) => PprofResponse::Profile(name, bytes),
        Err(error) => PprofResponse::failed("Could not make the profile", &error),
    }
}

fn block_page(text: bool, now: UnixNanos) -> PprofResponse {
    if text {
        return PprofResponse::Text(b"--- contention:\ncycles/second=1000000000\n".to_vec());
    }
    match profiles::empty(&[("contentions", "count"), ("delay", "nanoseconds")], now) {
        Ok(bytes) => PprofResponse::Profile("block", bytes),
        Err(error) => PprofResponse::failed("Could not make the profile", &error),
    }
}

/// A line for each address in a function. The first line says that there are symbols.
fn symbols(words: &[u8]) -> String {
    let mut text = String::from("num_symbols: 1\n");
    for (number, word) in words.split(|byte| *byte == b'+').enumerate() {
        if number == SYMBOLS_MAX {
            let _ = writeln!(text, "reading request: more than {SYMBOLS_MAX} addresses");
            break;
        }
        let address = std::str::from_utf8(word).ok().and_then(address).filter(|address| *address != 0);
        if let Some((address, name)) =
            address.and_then(|address| Some((address, profiles::function_at(address)?)))
        {
            let _ = writeln!(text, "{address:#x} {name}");
        }
    }
    text
}

/// Parses a number in one of Go's forms.
fn address(word: &str) -> Option<u64> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_profile_takes() {
        let seconds = |query: &str| Query::of(query).duration().map(|duration| duration.as_secs()).ok();
        for (query, wanted) in [
            ("", Some(30)),
            ("seconds=", Some(30)),
            ("seconds=0", Some(30)),
            ("seconds=-5", Some(30)),
            ("seconds=x", Some(30)),
            ("seconds=1.5", Some(30)),
            ("seconds=1", Some(1)),
            ("a=b&seconds=7&seconds=9", Some(7)),
            ("seconds=%2B300", Some(300)),
            ("seconds=301", None),
            ("seconds=99999999999999999999999", None),
        ] {
            assert_eq!(seconds(query), wanted, "{query}");
        }
    }

    #[test]
    fn when_text_is_wanted() {
        for (query, wanted) in
            [("", false), ("debug=0", false), ("debug=1", true), ("debug=2", true), ("debug=x", false)]
        {
            assert_eq!(Query::of(query).text, wanted, "{query}");
        }
    }

    #[test]
    fn functions_are_named_by_their_addresses() {
        let function: fn(&[u8]) -> String = symbols;
        let at = function as usize + 1;
        let text = symbols(format!("{at:#x}+{at}+0x+17+0+x+").as_bytes());
        let lines: Vec<&str> = text.lines().collect();
        let wanted = format!("{at:#x} etcd::api::ops::pprof::symbols");
        assert_eq!(lines, ["num_symbols: 1", &wanted, &wanted]);
        let many = "1+".repeat(SYMBOLS_MAX + 1);
        assert_eq!(symbols(many.as_bytes()), "num_symbols: 1\nreading request: more than 10000 addresses\n");
    }
}
