//! Traffic statistics for `/v2/stats/leader` and `/v2/stats/self`.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use shared::id::MemberId;
use tokio::time::{Duration, Instant};

/// How long an unanswered append is timed before another one replaces it.
const SAMPLE_TIME_MAX: Duration = Duration::from_secs(5);

/// The number of points in time that rates are computed from, and their minimum distance.
const POINTS_MAX: usize = 200;
const POINT_DISTANCE: Duration = Duration::from_millis(10);

/// After this time without traffic, the rate is 0.
const RATE_TIME_MAX: Duration = Duration::from_secs(1);

/// The traffic between this member and the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PeerStats {
    /// Statistics of the appends to each member.
    pub followers: BTreeMap<MemberId, FollowerStats>,
    /// Appends sent.
    pub sent: Traffic,
    /// Appends received.
    pub received: Traffic,
}

/// Statistics of the appends to one member. Times are in milliseconds, from handing an append to the transport until
/// its answer; of several appends in flight, one is timed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FollowerStats {
    /// The latency of the last timed append.
    pub latency_current: f64,
    /// Of all timed appends.
    pub latency_average: f64,
    /// Of all timed appends.
    pub latency_standard_deviation: f64,
    /// The shortest latency; 2^63 before the first one.
    pub latency_minimum: f64,
    /// The longest latency.
    pub latency_maximum: f64,
    /// Appends that could not be delivered.
    pub fail: u64,
    /// Appends handed to the transport.
    pub success: u64,
}

impl Default for FollowerStats {
    fn default() -> FollowerStats {
        FollowerStats {
            latency_current: 0.0,
            latency_average: 0.0,
            latency_standard_deviation: 0.0,
            // Go's 1 << 63.
            latency_minimum: 9_223_372_036_854_775_808.0,
            latency_maximum: 0.0,
            fail: 0,
            success: 0,
        }
    }
}

/// Appends in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Traffic {
    /// The number of appends.
    pub count: u64,
    /// The recent rate of appends.
    pub messages_per_second: f64,
    /// The recent rate in bytes.
    pub bytes_per_second: f64,
}

/// Computes a member's [`FollowerStats`].
#[derive(Debug, Default)]
pub(crate) struct FollowerLatency(Mutex<LatencyState>);

#[derive(Debug, Default)]
struct LatencyState {
    stats: FollowerStats,
    /// The append being timed: its last index, and the time it was sent.
    sample: Option<(u64, Instant)>,
    samples: f64,
    square_average: f64,
}

impl FollowerLatency {
    /// Records that an append with entries up to `index` is sent.
    pub(crate) fn sent(&self, index: u64, now: Instant) {
        let mut timing = self.0.lock();
        timing.stats.success += 1;
        if timing.sample.is_none_or(|(_, since)| now.duration_since(since) > SAMPLE_TIME_MAX) {
            timing.sample = Some((index, now));
        }
    }

    /// Records that an append could not be delivered.
    pub(crate) fn failed(&self) {
        let mut timing = self.0.lock();
        timing.stats.fail += 1;
        timing.sample = None;
    }

    /// Records that the member has all entries up to `index`. Returns the latency if this append was timed.
    pub(crate) fn answered(&self, index: u64, now: Instant) -> Option<Duration> {
        let mut timing = self.0.lock();
        let (_, since) = timing.sample.take_if(|(wanted, _)| index >= *wanted)?;
        let took = now.duration_since(since);
        let latency = took.as_secs_f64() * 1000.0;
        let LatencyState { stats, samples, square_average, .. } = &mut *timing;
        let before = *samples;
        *samples += 1.0;
        stats.latency_current = latency;
        stats.latency_maximum = stats.latency_maximum.max(latency);
        stats.latency_minimum = stats.latency_minimum.min(latency);
        stats.latency_average = (before * stats.latency_average + latency) / *samples;
        *square_average = (before * *square_average + latency * latency) / *samples;
        let variance = *square_average - stats.latency_average * stats.latency_average;
        stats.latency_standard_deviation = variance.max(0.0).sqrt();
        Some(took)
    }

    pub(crate) fn stats(&self) -> FollowerStats {
        self.0.lock().stats
    }
}

/// Computes the [`Traffic`] of one direction.
#[derive(Debug, Default)]
pub(crate) struct TrafficCounter(Mutex<TrafficCounts>);

#[derive(Debug, Default)]
struct TrafficCounts {
    messages: u64,
    bytes: u64,
    /// Times with the totals of messages and bytes.
    points: VecDeque<(Instant, u64, u64)>,
}

impl TrafficCounter {
    /// Counts appends.
    pub(crate) fn add(&self, messages: u64, bytes: usize, now: Instant) {
        let mut counts = self.0.lock();
        counts.messages += messages;
        counts.bytes += bytes as u64;
        if counts.points.back().is_none_or(|(last, ..)| now - *last >= POINT_DISTANCE) {
            if counts.points.len() == POINTS_MAX {
                counts.points.pop_front();
            }
            let point = (now, counts.messages, counts.bytes);
            counts.points.push_back(point);
        }
    }

    pub(crate) fn traffic(&self, now: Instant) -> Traffic {
        let mut counts = self.0.lock();
        if counts.points.back().is_some_and(|(last, ..)| now.duration_since(*last) > RATE_TIME_MAX) {
            counts.points.clear();
        }
        let count = counts.messages;
        let (Some(first), Some(last)) = (counts.points.front(), counts.points.back()) else {
            return Traffic { count, ..Traffic::default() };
        };
        let seconds = (last.0 - first.0).as_secs_f64();
        if seconds <= 0.0 {
            return Traffic { count, ..Traffic::default() };
        }
        #[expect(clippy::cast_precision_loss, reason = "differences within two seconds")]
        let rate = |from: u64, to: u64| (to - from) as f64 / seconds;
        Traffic { count, messages_per_second: rate(first.1, last.1), bytes_per_second: rate(first.2, last.2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn an_append_is_timed_until_it_is_answered() {
        let (follower, start) = (FollowerLatency::default(), Instant::now());
        follower.sent(5, start);
        follower.sent(6, after(start, 2));
        follower.answered(4, after(start, 2));
        assert_eq!(follower.stats().latency_current, 0.0);
        follower.answered(6, after(start, 4));
        follower.sent(7, after(start, 10));
        follower.answered(7, after(start, 18));
        follower.failed();
        let stats = follower.stats();
        assert_eq!((stats.success, stats.fail), (3, 1));
        assert_eq!((stats.latency_minimum, stats.latency_maximum, stats.latency_current), (4.0, 8.0, 8.0));
        assert!((stats.latency_average - 6.0).abs() < 1e-9);
        assert!((stats.latency_standard_deviation - 2.0).abs() < 1e-6);
    }

    #[test]
    fn a_rate_is_that_of_the_last_moments() {
        let (counter, start) = (TrafficCounter::default(), Instant::now());
        for ms in 0..1000 {
            counter.add(1, 100, after(start, ms));
        }
        let traffic = counter.traffic(after(start, 1000));
        assert_eq!(traffic.count, 1000);
        assert!((traffic.messages_per_second - 1000.0).abs() < 20.0, "{traffic:?}");
        assert!((traffic.bytes_per_second - 100_000.0).abs() < 2000.0, "{traffic:?}");
        let later = counter.traffic(after(start, 3000));
        assert_eq!(later, Traffic { count: 1000, ..Traffic::default() });
    }
}
