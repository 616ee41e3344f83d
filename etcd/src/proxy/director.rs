//! The endpoints, and which of them failed recently.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use rand::seq::SliceRandom as _;
use shared::url::{Url, Urls};
use tokio::time::Instant;

use super::hops;
use super::upstream::Upstream;
use crate::log;

/// The current endpoints. Each refresh replaces the whole list, so that requests take no lock.
#[derive(Debug)]
pub(super) struct Director {
    began: Instant,
    failure_wait: Duration,
    /// The most idle connections to all endpoints together.
    idle_max: usize,
    /// The proxy's own listen URLs.
    listening: Urls,
    endpoints: ArcSwap<Vec<Endpoint>>,
}

/// A client URL of a member, and its state.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) upstream: Arc<Upstream>,
    /// The time of the failure: milliseconds since the director's start plus 1; 0 if the endpoint has not failed or
    /// may be tried again.
    failed_at: AtomicU64,
    /// Requests to it came back to this proxy or an earlier one. It is not tried before the next refresh.
    loops: AtomicBool,
}

impl Endpoint {
    /// Whether requests to this endpoint come back.
    pub(super) fn loops(&self) -> bool {
        self.loops.load(Relaxed)
    }

    /// Records that requests to this endpoint come back.
    pub(super) fn mark_looping(&self) {
        if !self.loops.swap(true, Relaxed) {
            log::error!(
                "proxy",
                "requests to the endpoint {} come back: {}",
                self.upstream.url(),
                hops::ADVICE
            );
        }
    }
}

impl Director {
    /// A director without endpoints yet. A failed endpoint is not used for `failure_wait`.
    pub(super) fn new(failure_wait: Duration, idle_max: usize, listening: Urls) -> Director {
        Director { began: Instant::now(), failure_wait, idle_max, listening, endpoints: ArcSwap::default() }
    }

    /// All endpoints, available or not, in the order in which they are tried.
    pub(super) fn endpoints(&self) -> Arc<Vec<Endpoint>> {
        self.endpoints.load_full()
    }

    /// The URLs of the available endpoints.
    pub(super) fn available(&self, now: Instant) -> Vec<String> {
        let endpoints = self.endpoints();
        endpoints
            .iter()
            .filter(|endpoint| !endpoint.loops() && self.is_available(endpoint, now))
            .map(|endpoint| endpoint.upstream.url().to_string())
            .collect()
    }

    /// Whether an endpoint has not failed, or failed at least `failure_wait` ago.
    pub(super) fn is_available(&self, endpoint: &Endpoint, now: Instant) -> bool {
        let failed_at = endpoint.failed_at.load(Relaxed);
        if failed_at == 0 {
            return true;
        }
        if self.clock(now) < failed_at.saturating_add(millis(self.failure_wait)) {
            return false;
        }
        if endpoint.failed_at.compare_exchange(failed_at, 0, Relaxed, Relaxed).is_ok() {
            let url = endpoint.upstream.url();
            log::info!("proxy", "marked endpoint {url} available, to retest connectivity");
        }
        true
    }

    /// Records that an endpoint gave no response.
    pub(super) fn failed(&self, endpoint: &Endpoint, now: Instant) {
        if endpoint.failed_at.compare_exchange(0, self.clock(now), Relaxed, Relaxed).is_ok() {
            log::info!("proxy", "marked endpoint {} unavailable", endpoint.upstream.url());
        }
    }

    /// Replaces the endpoints. All are available, in random order, so that the proxies do not all load the same member.
    /// Keeps the connections of endpoints that were known.
    pub(super) fn replace(&self, urls: &[String]) {
        let before = self.endpoints();
        let mut endpoints: Vec<Endpoint> = urls
            .iter()
            .filter_map(|text| match text.parse::<Url>() {
                Ok(url) => {
                    let known = before.iter().find(|endpoint| *endpoint.upstream.url() == url);
                    match known {
                        Some(endpoint) => Some(endpoint.upstream.clone()),
                        None => Upstream::new(url).map(Arc::new),
                    }
                }
                Err(error) => {
                    log::warning!("proxy", "upstream URL invalid: {error}");
                    None
                }
            })
            .map(|upstream| Endpoint {
                upstream,
                failed_at: AtomicU64::new(0),
                loops: AtomicBool::new(false),
            })
            .collect();
        for endpoint in &endpoints {
            if hops::is_own_url(endpoint.upstream.url(), &self.listening) {
                endpoint.mark_looping();
            }
            endpoint.upstream.keep_idle(self.idle_max / endpoints.len());
        }
        endpoints.shuffle(&mut rand::rng());
        self.endpoints.store(Arc::new(endpoints));
    }

    fn clock(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.began)).saturating_add(1)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn urls(count: usize) -> Vec<String> {
        (1..=count).map(|port| format!("http://127.0.0.1:{port}")).collect()
    }

    #[tokio::test]
    async fn a_failed_endpoint_is_left_alone_for_a_while() {
        let director = Director::new(WAIT, 128, Urls::parse("http://10.0.0.1:1").unwrap());
        director.replace(&urls(2));
        let endpoints = director.endpoints();
        let failed = Instant::now();
        director.failed(&endpoints[0], failed);
        assert_eq!(director.available(failed), [endpoints[1].upstream.url().to_string()]);
        let almost = failed + WAIT - Duration::from_millis(1);
        // A second failure does not make it longer.
        director.failed(&endpoints[0], almost);
        assert!(!director.is_available(&endpoints[0], almost));
        assert!(director.is_available(&endpoints[0], failed + WAIT));
        assert_eq!(director.available(failed).len(), 2);
    }

    #[tokio::test]
    async fn a_refresh_forgives_and_keeps_connections() {
        let director = Director::new(WAIT, 128, Urls::parse("http://10.0.0.1:1").unwrap());
        director.replace(&urls(2));
        let before = director.endpoints();
        let now = Instant::now();
        director.failed(&before[0], now);
        director.failed(&before[1], now);
        assert_eq!(director.available(now), [""; 0]);
        director.replace(&urls(3));
        let mut available = director.available(now);
        available.sort();
        assert_eq!(available, urls(3));
        let after = director.endpoints();
        let kept =
            |endpoint: &Endpoint| after.iter().any(|new| Arc::ptr_eq(&new.upstream, &endpoint.upstream));
        assert!(before.iter().all(kept));
        director.replace(&[]);
        assert_eq!(director.endpoints().len(), 0);
    }

    #[tokio::test]
    async fn the_order_is_one_of_chance_and_what_is_no_url_is_left_out() {
        let director = Director::new(WAIT, 128, Urls::parse("http://10.0.0.1:1").unwrap());
        let mut firsts = std::collections::BTreeSet::new();
        for _ in 0..100 {
            director.replace(&urls(3));
            firsts.insert(director.available(Instant::now()).swap_remove(0));
        }
        assert_eq!(firsts.len(), 3);
        director.replace(&["ftp://h:1".to_owned(), "http://h:1".to_owned()]);
        assert_eq!(director.available(Instant::now()), ["http://h:1"]);
    }
}
