//! Probes each peer regularly and warns the operator about peers that do not respond or whose clocks differ.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use shared::time::UnixNanos;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::client::{PeerConnection, STALL_TIME_MAX, write_all};
use super::peer::{RemotePeer, TransportContext};
use crate::log;

/// The time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(4);

/// The time between two warnings.
const WARN_INTERVAL: Duration = Duration::from_secs(30);

/// A greater clock difference causes a warning: one member's clock decides when keys expire.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(1);

/// The weight of the latest round trip in the average.
const SMOOTHING: f64 = 0.125;

#[derive(Deserialize)]
struct ProbeReply {
    #[serde(rename = "OK")]
    ok: bool,
    #[serde(rename = "Now")]
    now: String,
}

#[derive(Debug, Default)]
struct PeerHealth {
    healthy: bool,
    /// In seconds.
    round_trip: f64,
    /// Our clock minus the peer's, in nanoseconds.
    clock_difference: i64,
}

impl PeerHealth {
    fn record(&mut self, round_trip: Duration, theirs: UnixNanos, ours: UnixNanos) {
        self.healthy = true;
        self.round_trip += SMOOTHING * (round_trip.as_secs_f64() - self.round_trip);
        let one_way = i64::try_from(Duration::from_secs_f64(self.round_trip / 2.0).as_nanos()).unwrap_or(0);
        self.clock_difference = ours.0.saturating_sub(theirs.0).saturating_sub(one_way);
    }

    /// The warnings for the operator.
    fn warnings(&self, id: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.healthy {
            warnings.push(format!("the connection to peer {id} is unhealthy"));
        }
        let difference = Duration::from_nanos(self.clock_difference.unsigned_abs());
        if difference > CLOCK_DIFFERENCE_MAX {
            let sign = if self.clock_difference < 0 { "-" } else { "" };
            let difference = format!("{sign}{}", go_duration(difference));
            warnings.push(format!("the clock difference against peer {id} is too high [{difference} > 1s]"));
        }
        warnings
    }
}

/// Probes a peer for ever.
pub(super) async fn probe(context: Arc<TransportContext>, peer: Arc<RemotePeer>) {
    let start = Instant::now();
    let mut probes = interval_at(start + PROBE_INTERVAL, PROBE_INTERVAL);
    let mut warnings = interval_at(start + WARN_INTERVAL, WARN_INTERVAL);
    probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut health, mut connection) = (PeerHealth::default(), None);
    loop {
        tokio::select! {
            _ = probes.tick() => {
                let begin = Instant::now();
                match probe_once(&context, &peer, connection.take()).await {
                    Ok((theirs, kept)) => {
                        let took = begin.elapsed();
                        health.record(took, theirs, (context.local.clock)());
                        peer.measures.probed(took, health.clock_difference);
                        connection = kept;
                    }
                    Err(_) => health.healthy = false,
                }
            }
            _ = warnings.tick() => {
                for warning in health.warnings(&peer.id.to_string()) {
                    log::warning!("rafthttp", "{warning}");
                }
            }
        }
    }
}

/// Sends one probe. Returns the peer's time, and the connection if it can be used again.
async fn probe_once(
    context: &TransportContext,
    peer: &RemotePeer,
    connection: Option<PeerConnection>,
) -> io::Result<(UnixNanos, Option<PeerConnection>)> {
    let url = peer.picker.pick().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let mut connection = match connection {
        Some(connection) => connection,
        None => {
            let dialled = PeerConnection::dial(&context.dialer, &url, context.dial_time_max).await;
            dialled.inspect_err(|_| peer.picker.failed(&url))?
        }
    };
    let request = format!("GET /raft/probing HTTP/1.1\r\nHost: {}\r\n\r\n", url.address());
    write_all(&mut connection.stream, request.as_bytes()).await?;
    let mut response = connection.read_response(STALL_TIME_MAX).await?;
    let (text, reusable) = connection.read_body(&mut response).await?;
    let reply: ProbeReply = serde_json::from_slice(&text)?;
    let now: jiff::Timestamp = reply.now.parse().map_err(io::Error::other)?;
    if !reply.ok {
        return Err(io::Error::other("the peer reports that it is unhealthy"));
    }
    let now = i64::try_from(now.as_nanosecond()).map_err(io::Error::other)?;
    Ok((UnixNanos(now), reusable.then_some(connection)))
}

/// A duration of a second or more in Go's format: `1m2.5s`.
fn go_duration(duration: Duration) -> String {
    let (minutes, hours) = (duration.as_secs() / 60 % 60, duration.as_secs() / 3600);
    let seconds = duration.as_secs() % 60;
    let fraction = match duration.subsec_nanos() {
        0 => String::new(),
        nanos => format!(".{nanos:09}").trim_end_matches('0').to_owned(),
    };
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_well_is_not_talked_about() {
        let mut health = PeerHealth::default();
        assert_eq!(health.warnings("a"), ["the connection to peer a is unhealthy"]);
        health.record(Duration::from_millis(8), UnixNanos(10), UnixNanos(500_010));
        assert_eq!(health.clock_difference, 0);
        assert!(health.warnings("a").is_empty());
    }

    #[test]
    fn clocks_that_differ_are_told_of() {
        let mut health = PeerHealth::default();
        health.record(Duration::ZERO, UnixNanos(0), UnixNanos(62_500_000_000));
        assert_eq!(health.warnings("a"), ["the clock difference against peer a is too high [1m2.5s > 1s]"]);
        health.record(Duration::ZERO, UnixNanos(1_500_000_000), UnixNanos(0));
        assert_eq!(health.warnings("a"), ["the clock difference against peer a is too high [-1.5s > 1s]"]);
    }
}
