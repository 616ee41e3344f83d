//! Finds the page for a path.

use super::page::AccountKind;
use super::page::keys::Api;
use crate::transport::browsers::Area;

/// A page, or a group of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// `/v2/keys` and all below it; all below `/v1/keys/` and `/v1/watch/`.
    Keys(Api),
    /// `/v2/members` and all below it.
    Members,
    /// `/v2/auth/users`, `/v2/auth/roles` and all below them.
    Auth(AccountKind),
    /// `/v2/auth/enable`
    AuthEnable,
    /// All below `/v2/admin/` of 0.4.
    Admin,
    /// `/leader`, `/v1/leader` and `/v2/leader` of 0.x.
    LeaderUrl,
    /// `/machines`, `/v1/machines`, `/v1/peers` and `/v2/peers` of 0.x.
    Peers,
    /// `/v1/stats/self`
    V1StatsSelf,
    /// `/v1/stats/leader`
    V1StatsLeader,
    /// `/v1/stats/store`
    V1StatsStore,
    /// `/v2/machines`
    Machines,
    /// `/v2/stats/self`
    StatsSelf,
    /// `/v2/stats/leader`
    StatsLeader,
    /// `/v2/stats/store`
    StatsStore,
    /// `/mod/v2/lock` and all below it.
    Lock,
    /// `/mod/v2/leader` and all below it.
    Leader,
    /// `/mod/dashboard` and all below it, except the following.
    Dashboard,
    /// All below `/mod/dashboard/api`.
    DashboardApi,
    /// `/mod/dashboard/api/keys` and all below it, like `/v2/keys`.
    DashboardKeys,
    /// `/version`
    Version,
    /// `/health`
    Health,
    /// `/livez` and all below it.
    Live,
    /// `/readyz` and all below it.
    Ready,
    /// `/metrics`
    Metrics,
    /// `/debug/metrics`
    DebugMetrics,
    /// `/debug/pprof` and all below it.
    Pprof,
    /// `/debug/vars`
    DebugVars,
    /// `/config/local/log`
    LogLevel,
    /// All below `/v3/` and `/v3beta/`.
    V3,
    /// There is no page.
    NotFound,
}

/// Groups of pages. The most frequent ones come first.
const FAMILIES: [(&[u8], Route); 10] = [
    (b"/v2/keys", Route::Keys(Api::V2)),
    (b"/v2/members", Route::Members),
    (b"/v2/auth/users", Route::Auth(AccountKind::Users)),
    (b"/v2/auth/roles", Route::Auth(AccountKind::Roles)),
    (b"/mod/v2/lock", Route::Lock),
    (b"/mod/v2/leader", Route::Leader),
    (b"/livez", Route::Live),
    (b"/readyz", Route::Ready),
    (b"/mod/dashboard", Route::Dashboard),
    (b"/debug/pprof", Route::Pprof),
];

/// Paths below these that have no page.
const FAMILIES_OF_0_X: [(&[u8], Route); 3] = [
    (b"/v1/keys", Route::Keys(Api::V1Keys)),
    (b"/v1/watch", Route::Keys(Api::V1Watch)),
    (b"/v2/admin", Route::Admin),
];

impl Route {
    /// The page at a clean path, and the rest of the path for a group of pages: empty, or with a slash at its start.
    pub(super) fn of(path: &[u8]) -> (Route, &[u8]) {
        for (prefix, route) in FAMILIES {
            if let Some(rest) = below(path, prefix) {
                return if route == Route::Dashboard { Route::of_dashboard(rest) } else { (route, rest) };
            }
        }
        for (prefix, route) in FAMILIES_OF_0_X {
            if let Some(rest) = below(path, prefix).filter(|rest| !rest.is_empty()) {
                return (route, rest);
            }
        }
        if is_v3(path) {
            return (Route::V3, path);
        }
        let route = match path {
            b"/v2/auth/enable" => Route::AuthEnable,
            b"/v2/machines" => Route::Machines,
            b"/leader" | b"/v1/leader" | b"/v2/leader" => Route::LeaderUrl,
            b"/machines" | b"/v1/machines" | b"/v1/peers" | b"/v2/peers" => Route::Peers,
            b"/v1/stats/self" => Route::V1StatsSelf,
            b"/v1/stats/leader" => Route::V1StatsLeader,
            b"/v1/stats/store" => Route::V1StatsStore,
            b"/v2/stats/self" => Route::StatsSelf,
            b"/v2/stats/leader" => Route::StatsLeader,
            b"/v2/stats/store" => Route::StatsStore,
            b"/version" => Route::Version,
            b"/health" => Route::Health,
            b"/metrics" => Route::Metrics,
            b"/debug/metrics" => Route::DebugMetrics,
            b"/debug/vars" => Route::DebugVars,
            b"/config/local/log" => Route::LogLevel,
            _ => Route::NotFound,
        };
        (route, b"")
    }

    fn of_dashboard(rest: &[u8]) -> (Route, &[u8]) {
        let Some(api) = below(rest, b"/api") else { return (Route::Dashboard, rest) };
        match below(api, b"/keys") {
            Some(key) => (Route::DashboardKeys, key),
            None => (Route::DashboardApi, api),
        }
    }
}

/// Whether a path belongs to the v3 API as JSON.
pub(super) fn is_v3(path: &[u8]) -> bool {
    path.starts_with(b"/v3/") || path.starts_with(b"/v3beta/")
}

fn below<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(prefix).filter(|rest| matches!(rest.first(), None | Some(b'/')))
}

/// The kind of page at a path, for the rules about web pages.
pub(crate) fn area(path: &[u8]) -> Area {
    match Route::of(path).0 {
        Route::Keys(_) => Area::Keys,
        Route::Dashboard | Route::DashboardApi | Route::DashboardKeys => Area::Dashboard,
        _ => Area::Else,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_what_is_below_them_and_pages_do_not() {
        assert_eq!(Route::of(b"/v2/keys"), (Route::Keys(Api::V2), &b""[..]));
        assert_eq!(Route::of(b"/v2/keys/"), (Route::Keys(Api::V2), &b"/"[..]));
        assert_eq!(Route::of(b"/v2/keys/a/b"), (Route::Keys(Api::V2), &b"/a/b"[..]));
        assert_eq!(Route::of(b"/v2/members/leader"), (Route::Members, &b"/leader"[..]));
        assert_eq!(Route::of(b"/v2/auth/users/a"), (Route::Auth(AccountKind::Users), &b"/a"[..]));
        assert_eq!(Route::of(b"/v2/auth/roles/"), (Route::Auth(AccountKind::Roles), &b"/"[..]));
        assert_eq!(Route::of(b"/mod/v2/lock/a/b"), (Route::Lock, &b"/a/b"[..]));
        assert_eq!(Route::of(b"/mod/v2/leader/a"), (Route::Leader, &b"/a"[..]));
        assert_eq!(Route::of(b"/mod/dashboard"), (Route::Dashboard, &b""[..]));
        assert_eq!(Route::of(b"/mod/dashboard/assets/a"), (Route::Dashboard, &b"/assets/a"[..]));
        assert_eq!(Route::of(b"/mod/dashboard/api/node/a"), (Route::DashboardApi, &b"/node/a"[..]));
        assert_eq!(Route::of(b"/mod/dashboard/api/keys/a"), (Route::DashboardKeys, &b"/a"[..]));
        assert_eq!(Route::of(b"/v1/keys/"), (Route::Keys(Api::V1Keys), &b"/"[..]));
        assert_eq!(Route::of(b"/v1/watch/a/b"), (Route::Keys(Api::V1Watch), &b"/a/b"[..]));
        assert_eq!(Route::of(b"/v2/admin/machines/m"), (Route::Admin, &b"/machines/m"[..]));
        assert_eq!(Route::of(b"/v3/kv/put"), (Route::V3, &b"/v3/kv/put"[..]));
        assert_eq!(Route::of(b"/v3beta/watch").0, Route::V3);
        for nowhere in [
            "/v3",
            "/v3alpha/kv/put",
            "/",
            "/v1",
            "/v1/keys",
            "/v1/watch",
            "/v2/admin",
            "/v2",
            "/v2/",
            "/v2/keyspace",
            "/v2/KEYS/a",
            "/version/",
            "/v2/stats",
            "/v2/auth",
            "/v2/auth/",
            "/v2/auth/enable/",
        ] {
            assert_eq!(Route::of(nowhere.as_bytes()).0, Route::NotFound, "{nowhere}");
        }
    }
}
