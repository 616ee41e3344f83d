//! What pages in a browser may do with this server.
//!
//! A browser sends requests on behalf of any page that its user opens, and from where that user may go: localhost, a
//! company's network. Two things give such a request away.
//!
//! - *Where it comes from.* `Sec-Fetch-Site`, or else `Origin`, names the page. What changes something is refused if
//!   that is a page of another origin, unless `-cors` names it. Keys are open unless `-keys-same-origin` closes them,
//!   as they always were.
//! - *Which host it names.* A page whose own DNS name is pointed at this server is of the same origin as the server. But
//!   its requests carry that name: `-host-whitelist` refuses it, and the dashboard always does. By TLS no check is
//!   needed: the certificate is not valid for that name.
//!
//! **Invariant:** [`BrowserRules::check`] stands before all pages, [`plain_get`](super::plain_get) aside, which leaves
//! requests to it while the list of hosts has an end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use shared::quote::quote;

use super::cors::Cors;
use super::path;
use super::reply::{self, Response};
use crate::config::Config;
use crate::log;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How often the log tells of refused requests.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Whose requests are answered. Clones share what was logged.
#[derive(Debug, Clone, Default)]
pub struct BrowserRules {
    /// Which pages of other origins may read answers, and change things.
    pub(crate) cors: Cors,
    hosts: HostWhitelist,
    /// The names of this server, for its dashboard; `None` if it has none of its own.
    dashboard: Option<Vec<String>>,
    /// Whether the keys are closed to pages of other origins, like everything else.
    keys_same_origin: bool,
    logged: Arc<Mutex<Option<Instant>>>,
}

/// `-host-whitelist`: the hosts that requests may name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostWhitelist {
    any: bool,
    names: Vec<String>,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// It names a host that is not in the list.
    Host(String),
    /// It names a host that this server's dashboard is not known by.
    DashboardHost(String),
    /// It comes from a page of another origin, and would change something.
    Origin(String),
}

/// What a page is about, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Area {
    Keys,
    Dashboard,
    Else,
}

impl Default for HostWhitelist {
    fn default() -> HostWhitelist {
        HostWhitelist { any: true, names: Vec::new() }
    }
}

impl HostWhitelist {
    /// Without a host or with a `*`, any host.
    fn new<S: AsRef<str>>(hosts: &[S]) -> HostWhitelist {
        let names = hosts.iter().map(AsRef::as_ref).filter(|host| *host != "*").map(normal).collect();
        HostWhitelist { any: hosts.is_empty() || hosts.iter().any(|host| host.as_ref() == "*"), names }
    }
}

impl BrowserRules {
    /// The rules that the settings of a member or a proxy make.
    pub(crate) fn new(config: &Config) -> BrowserRules {
        let own = config.listen_client_urls.iter().chain(config.advertise_client_urls.iter());
        let mut names: Vec<String> = own.map(|url| normal(url.host())).collect();
        names.push(normal(&rustix::system::uname().nodename().to_string_lossy()));
        BrowserRules {
            cors: Cors::new(&config.cors),
            hosts: HostWhitelist::new(&config.host_whitelist),
            dashboard: Some(names),
            keys_same_origin: config.keys_same_origin,
            logged: Arc::default(),
        }
    }

    /// The same for a process without a dashboard: what it passes on is checked where that is answered.
    pub(crate) fn without_dashboard(mut self) -> BrowserRules {
        self.dashboard = None;
        self
    }

    /// Whether requests for some hosts are refused, whatever they want.
    pub(crate) fn limits_hosts(&self) -> bool {
        !self.hosts.any
    }

    /// Whether to answer a request, which came by TLS or not. `area_of` tells what the page at a path is about.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(
        &self,
        head: &Parts,
        encrypted: bool,
        area_of: impl FnOnce(&[u8]) -> Area,
    ) -> Result<(), Forbidden> {
        let area = path::unescape(head.uri.path().as_bytes()).map_or(Area::Else, |path| area_of(&path));
        let checked = self.check_host(head, area, encrypted).and_then(|()| self.check_origin(head, area));
        if let Err(forbidden) = &checked {
            self.log(forbidden);
        }
        checked
    }

    fn check_host(&self, head: &Parts, area: Area, encrypted: bool) -> Result<(), Forbidden> {
        let own = self.dashboard.as_ref().filter(|_| area == Area::Dashboard);
        if encrypted || self.hosts.any && own.is_none() {
            return Ok(());
        }
        let host = host(head);
        if !self.hosts.any && !self.hosts.names.contains(&host) {
            return Err(Forbidden::Host(host));
        }
        // A number is no name that somebody could have pointed here.
        let is_known = |own: &Vec<String>| {
            host.parse::<IpAddr>().is_ok()
                || host == "localhost"
                || host.ends_with(".localhost")
                || own.contains(&host)
                || self.hosts.names.contains(&host)
        };
        if own.is_some_and(|own| !is_known(own)) { Err(Forbidden::DashboardHost(host)) } else { Ok(()) }
    }

    fn check_origin(&self, head: &Parts, area: Area) -> Result<(), Forbidden> {
        let only_reads = matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if only_reads || area == Area::Keys && !self.keys_same_origin {
            return Ok(());
        }
        let headers = &head.headers;
        let mut origins = headers.get_all(ORIGIN).iter().peekable();
        let is_another = match headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes()) {
            // The browser knows best: before a reverse proxy the host may have another name than here.
            Some(b"same-origin" | b"none") => return Ok(()),
            Some(_) => true,
            None => origins.peek().is_some(),
        };
        if !is_another || self.cors.any() {
            return Ok(());
        }
        let by_fetch_site = headers.contains_key(SEC_FETCH_SITE);
        let host = authority(head);
        let is_ours = |origin: &http::HeaderValue| {
            self.cors.names(origin) || !by_fetch_site && is_origin_of(origin.as_bytes(), host.as_bytes())
        };
        let refused = headers.get_all(ORIGIN).iter().find(|origin| !is_ours(origin));
        match (refused, origins.peek()) {
            (None, Some(_)) => Ok(()),
            (Some(origin), _) => {
                Err(Forbidden::Origin(String::from_utf8_lossy(origin.as_bytes()).into_owned()))
            }
            (None, None) => Err(Forbidden::Origin("another site".to_owned())),
        }
    }

    fn log(&self, forbidden: &Forbidden) {
        let (now, mut logged) = (Instant::now(), self.logged.lock());
        if logged.is_none_or(|last| now.duration_since(last) >= LOG_INTERVAL) {
            *logged = Some(now);
            log::warning!("etcdhttp", "refused a request: {}", forbidden.text());
        }
    }
}

impl Forbidden {
    /// What the client is told.
    pub(crate) fn response(&self, headers: HeaderMap) -> Response {
        let status = match self {
            Forbidden::Host(_) | Forbidden::DashboardHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Forbidden::Origin(_) => StatusCode::FORBIDDEN,
        };
        reply::message(headers, status, self.text())
    }

    fn text(&self) -> String {
        match self {
            Forbidden::Host(host) => format!(
                "the host {} is not one of -host-whitelist: add it there, use a host that is, or use TLS (web pages \
                 must not reach this server by DNS names of their own)",
                quote(host)
            ),
            Forbidden::DashboardHost(host) => format!(
                "the dashboard is not served at the host {}: use localhost, an IP address or a host of \
                 -advertise-client-urls, add the host to -host-whitelist ('*,{host}' leaves the rest open), or use \
                 TLS (web pages must not reach it by DNS names of their own)",
                quote(host)
            ),
            Forbidden::Origin(origin) => format!(
                "a page of {} may not change anything here: -cors names the origins that may",
                quote(origin)
            ),
        }
    }
}

/// The host that a request names, with its port if it has one.
fn authority(head: &Parts) -> &str {
    match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    }
}

fn host(head: &Parts) -> String {
    let text = authority(head);
    text.parse::<Authority>().map_or_else(|_| normal(text), |authority| normal(authority.host()))
}

/// A host as it is compared: in lower case, without brackets and without a dot at its end.
fn normal(host: &str) -> String {
    let host = host.trim();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether an origin is the one of a host and port. The scheme is left out: whoever can change that can do all the rest.
fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let rest = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
    rest.is_some_and(|rest| !host.is_empty() && rest.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    const LOCAL: &str = "127.0.0.1:2379";

    fn rules(hosts: &[&str], cors: &[&str], keys_same_origin: bool) -> BrowserRules {
        BrowserRules {
            cors: Cors::new(cors),
            hosts: HostWhitelist::new(hosts),
            dashboard: Some(vec!["etcd1.example".to_owned()]),
            keys_same_origin,
            ..BrowserRules::default()
        }
    }

    fn head(method: &str, target: &str, host: &str, headers: &[(&'static str, &'static str)]) -> Parts {
        let mut head = Request::builder().method(method).uri(target).body(()).unwrap().into_parts().0;
        head.headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        for (name, value) in headers {
            head.headers.append(*name, HeaderValue::from_static(value));
        }
        head
    }

    fn status(rules: &BrowserRules, head: &Parts) -> u16 {
        let checked = rules.check(head, false, crate::api::area);
        checked.map_or_else(|why| why.response(HeaderMap::new()).status().as_u16(), |()| 200)
    }

    #[test]
    fn what_changes_something_is_for_pages_of_our_own() {
        let rules = rules(&["*"], &["http://friend.example"], false);
        let changes = [
            ("PUT", "/mod/dashboard/api/keys/a"),
            ("DELETE", "/mod/dashboard/api/keys/a"),
            ("POST", "/mod/v2/lock/a"),
            ("PUT", "/mod/v2/leader/a"),
            ("POST", "/v2/members"),
            ("DELETE", "/v2/members/1"),
            ("PUT", "/v2/auth/enable"),
            ("PUT", "/v2/auth/users/root"),
            ("PUT", "/v2/admin/config"),
            ("PUT", "/config/local/log"),
            ("POST", "/debug/pprof/symbol"),
            ("PUT", "/what/is/to/come"),
        ];
        for (method, target) in changes {
            let asked = |headers: &[(&'static str, &'static str)]| {
                status(&rules, &head(method, target, LOCAL, headers))
            };
            for headers in [
                &[][..],
                &[("origin", "http://127.0.0.1:2379")],
                &[("origin", "http://friend.example")],
                &[("sec-fetch-site", "same-origin"), ("origin", "https://behind.a.proxy")],
                &[("sec-fetch-site", "none")],
                &[("sec-fetch-site", "cross-site"), ("origin", "http://friend.example")],
            ] {
                assert_eq!(asked(headers), 200, "{method} {target} {headers:?}");
            }
            for headers in [
                &[("origin", "http://evil.example")][..],
                &[("origin", "null")],
                &[("origin", "")],
                &[("origin", "http://127.0.0.1:2380")],
                &[("origin", "http://127.0.0.1:2379"), ("origin", "http://evil.example")],
                &[("sec-fetch-site", "cross-site")],
                &[("sec-fetch-site", "same-site"), ("origin", "http://127.0.0.1:80")],
                &[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:2379")],
                &[("sec-fetch-site", "what")],
            ] {
                assert_eq!(asked(headers), 403, "{method} {target} {headers:?}");
            }
        }
        let evil = [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")];
        for target in ["/mod/dashboard/api/cluster", "/v2/members", "/mod/v2/lock/a"] {
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert_eq!(status(&rules, &head(method, target, LOCAL, &evil)), 200, "{method} {target}");
            }
        }
        let all = BrowserRules { cors: Cors::new(["*"]), ..BrowserRules::default() };
        assert_eq!(status(&all, &head("POST", "/v2/members", LOCAL, &evil)), 200);
    }

    #[test]
    fn keys_are_open_unless_they_are_closed() {
        let evil = [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")];
        for target in ["/v2/keys/a", "/v2/keys", "/v1/keys/a", "/v1/watch/a"] {
            for (closed, wanted) in [(false, 200), (true, 403)] {
                let rules = rules(&["*"], &[], closed);
                assert_eq!(status(&rules, &head("POST", target, LOCAL, &evil)), wanted, "{target}");
                assert_eq!(status(&rules, &head("POST", target, LOCAL, &[])), 200, "{target}");
                assert_eq!(status(&rules, &head("GET", target, LOCAL, &evil)), 200, "{target}");
            }
        }
    }

    #[test]
    fn hosts_are_compared_without_their_ports() {
        let listed = rules(&["etcd.example", "10.0.0.1", "::1"], &[], false);
        for host in ["etcd.example", "ETCD.example:2379", "etcd.example.:80", "10.0.0.1:2379", "[::1]:2379"] {
            assert_eq!(status(&listed, &head("GET", "/v2/keys/a", host, &[])), 200, "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1:2379", "etcd.example.evil", "a.etcd.example", "10.0.0.1@evil", ""]
        {
            assert_eq!(status(&listed, &head("GET", "/v2/keys/a", host, &[])), 421, "{host}");
            assert_eq!(status(&listed, &head("OPTIONS", "/v2/keys/a", host, &[])), 421, "{host}");
        }
        // The target counts, if it is a whole URL.
        let absolute = head("GET", "http://evil.example/v2/keys", "etcd.example", &[]);
        assert_eq!(status(&listed, &absolute), 421);
        let encrypted = head("GET", "/v2/keys/a", "evil.example", &[]);
        assert_eq!(listed.check(&encrypted, true, crate::api::area), Ok(()));
        for open in [rules(&[], &[], false), rules(&["*"], &[], false), rules(&["a", "*"], &[], false)] {
            assert_eq!(status(&open, &head("GET", "/v2/keys/a", "evil.example", &[])), 200);
        }
    }

    #[test]
    fn the_dashboard_is_served_at_hosts_that_are_known() {
        let open = rules(&["*", "door.example"], &[], false);
        for target in ["/mod/dashboard/", "/mod/dashboard/api/cluster", "/mod/dashboard/api/keys/a"] {
            for host in [
                "localhost:2379",
                LOCAL,
                "[::1]",
                "10.1.2.3:80",
                "etcd1.example:1",
                "door.example",
                "x.localhost",
            ] {
                assert_eq!(status(&open, &head("GET", target, host, &[])), 200, "{target} {host}");
            }
            for host in ["evil.example:2379", "localhost.evil", "127.0.0.1.evil", "x"] {
                assert_eq!(status(&open, &head("GET", target, host, &[])), 421, "{target} {host}");
            }
        }
        assert_eq!(status(&open, &head("GET", "/v2/keys", "evil.example", &[])), 200);
        let proxy = rules(&["*"], &[], false).without_dashboard();
        assert_eq!(status(&proxy, &head("GET", "/mod/dashboard/", "evil.example", &[])), 200);
    }
}
