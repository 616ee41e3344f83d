//! What web pages in a browser may do with this server.
//!
//! A browser sends requests for any page that its user opens, from the user's place in the network: localhost, or a
//! company's network. Two properties identify such requests.
//!
//! - *The origin.* `Sec-Fetch-Site`, or else `Origin`, tells where the page comes from. Requests that change
//!   something are refused if they come from another origin, unless `-cors` lists it. Requests for keys are allowed
//!   as in etcd 2.3, unless `-keys-same-origin` forbids them.
//! - *The host.* A page whose own DNS name points to this server has the same origin as the server. But its requests
//!   carry that name: `-host-whitelist` refuses it, and the dashboard always does. With TLS no check is needed,
//!   because the certificate is not valid for that name.
//!
//! **Invariant:** [`BrowserRules::check`] runs before all pages except `api/v2/plain_get.rs`, which leaves all
//! requests to it when hosts are limited.

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

/// The least time between two log lines about refused requests.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The rules for requests from browsers. Clones share the time of the last log line.
#[derive(Debug, Clone, Default)]
pub struct BrowserRules {
    /// Which pages of other origins may read responses and change things.
    pub(crate) cors: Cors,
    hosts: HostWhitelist,
    /// The names of this server, for its dashboard; `None` if it serves no dashboard.
    dashboard: Option<Vec<String>>,
    /// Whether pages of other origins may not change keys.
    keys_same_origin: bool,
    logged: Arc<Mutex<Option<Instant>>>,
}

/// `-host-whitelist`: the hosts that requests may name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostWhitelist {
    any: bool,
    names: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// The host is not in the list.
    Host(String),
    /// The dashboard is not served at this host.
    DashboardHost(String),
    /// The request would change something and comes from a page of another origin.
    Origin(String),
}

/// The kind of page, as far as the rules differ.
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
    /// Without a host, or with a `*`, all hosts are allowed.
    fn new<S: AsRef<str>>(hosts: &[S]) -> HostWhitelist {
        let names = hosts.iter().map(AsRef::as_ref).filter(|host| *host != "*").map(normal).collect();
        HostWhitelist { any: hosts.is_empty() || hosts.iter().any(|host| host.as_ref() == "*"), names }
    }
}

impl BrowserRules {
    /// The rules from the configuration of a member or a proxy.
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

    /// The same rules without a dashboard: a proxy leaves that check to the member.
    pub(crate) fn without_dashboard(mut self) -> BrowserRules {
        self.dashboard = None;
        self
    }

    /// Whether requests for some hosts are always refused.
    pub(crate) fn limits_hosts(&self) -> bool {
        !self.hosts.any
    }

    /// Checks whether to answer a request. `encrypted` means TLS; `area_of` tells which kind of page is at a path.
    ///
    /// # Errors
    /// Why the request is refused.
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
        // An IP address is not a DNS name that an attacker could point here.
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
            // The browser's own verdict counts: behind a reverse proxy the host may have another name.
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
    /// The response to the client.
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

/// The host in the request, with its port if there is one.
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

/// A host in the form for comparison: lower case, without brackets and without a dot at its end.
fn normal(host: &str) -> String {
    let host = host.trim();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Whether an origin belongs to this host and port. The scheme does not matter: an attacker who can change it can do
/// everything else too.
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
            let status_with = |headers: &[(&'static str, &'static str)]| {
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
                assert_eq!(status_with(headers), 200, "{method} {target} {headers:?}");
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
                assert_eq!(status_with(headers), 403, "{method} {target} {headers:?}");
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
        // In an absolute target the host of the target counts.
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
