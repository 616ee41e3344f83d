//! Metrics of the communication with one peer, for `/metrics`.
//!
//! They belong to the peer: when a member is removed, its lines disappear from the page.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};
use std::time::Duration;

use node::member::Kind;
use prometheus::core::Collector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts};
use shared::id::MemberId;

use super::frames::StreamKind;
use crate::metrics::families::{float, labelled};

/// The channels of messages to a peer, named as in Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Appends,
    Messages,
    Pipeline,
}

impl Channel {
    pub(super) const ALL: [Channel; 3] = [Channel::Appends, Channel::Messages, Channel::Pipeline];

    pub(super) fn name(self) -> &'static str {
        match self {
            Channel::Appends => "msgappv2",
            Channel::Messages => "message",
            Channel::Pipeline => "pipeline",
        }
    }
}

impl From<StreamKind> for Channel {
    fn from(kind: StreamKind) -> Channel {
        match kind {
            StreamKind::Append => Channel::Appends,
            StreamKind::Message => Channel::Messages,
        }
    }
}

/// All kinds of messages with the names of their types in Go.
const KINDS: [(Kind, &str); 10] = [
    (Kind::Propose, "MsgProp"),
    (Kind::Append, "MsgApp"),
    (Kind::AppendResponse, "MsgAppResp"),
    (Kind::Vote, "MsgVote"),
    (Kind::VoteResponse, "MsgVoteResp"),
    (Kind::Snapshot, "MsgSnap"),
    (Kind::Heartbeat, "MsgHeartbeat"),
    (Kind::HeartbeatResponse, "MsgHeartbeatResp"),
    (Kind::Extension, "MsgExtension"),
    // A member does not send messages to itself, so this slot counts the keep-alive frames of streams.
    (Kind::Local, "MsgLinkHeartbeat"),
];

const SLOTS: usize = Channel::ALL.len() * KINDS.len();

// `queued_slots` has a bit for each slot.
const _: () = assert!(SLOTS <= 32);

/// The slot that counts messages of a kind on a channel.
fn slot(channel: Channel, kind: Kind) -> usize {
    channel as usize * KINDS.len() + kind as usize
}

/// The metrics of one peer.
#[derive(Debug)]
pub(super) struct Measures {
    id: MemberId,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    /// How often the connection with the peer was lost.
    losses: AtomicU64,
    failed: [AtomicU64; SLOTS],
    latency: [OnceLock<Histogram>; SLOTS],
    /// Messages that were queued for a stream since the last flush, and a bit for each slot that is not 0.
    queued: [AtomicU32; SLOTS],
    queued_slots: AtomicU32,
    round_trip: OnceLock<Histogram>,
    /// Our clock minus the peer's, in nanoseconds.
    clock_difference: AtomicI64,
}

impl Measures {
    pub(super) fn new(id: MemberId) -> Measures {
        Measures {
            id,
            sent_bytes: AtomicU64::default(),
            received_bytes: AtomicU64::default(),
            losses: AtomicU64::default(),
            failed: array::from_fn(|_| AtomicU64::default()),
            latency: array::from_fn(|_| OnceLock::default()),
            queued: array::from_fn(|_| AtomicU32::default()),
            queued_slots: AtomicU32::default(),
            round_trip: OnceLock::default(),
            clock_difference: AtomicI64::default(),
        }
    }

    /// Counts a message that was queued for a stream. The next flush counts it as sent.
    pub(super) fn queued(&self, channel: Channel, kind: Kind, bytes: usize) {
        let slot = slot(channel, kind);
        self.sent_bytes.fetch_add(bytes as u64, Relaxed);
        self.queued[slot].fetch_add(1, Relaxed);
        self.queued_slots.fetch_or(1 << slot, Relaxed);
    }

    /// Records that the queued messages were written to the socket, `took` after they were queued.
    pub(super) fn flushed(&self, took: Duration) {
        let mut slots = self.queued_slots.swap(0, Relaxed);
        while slots != 0 {
            let slot = slots.trailing_zeros() as usize;
            slots &= slots - 1;
            for _ in 0..self.queued[slot].swap(0, Relaxed) {
                self.observe(slot, took);
            }
        }
    }

    /// Whether messages were queued since the last flush.
    pub(super) fn is_queued(&self) -> bool {
        self.queued_slots.load(Relaxed) != 0
    }

    /// Records a message that was delivered by a post, and how long the post took.
    pub(super) fn posted(&self, kind: Kind, bytes: u64, took: Duration) {
        self.sent_bytes.fetch_add(bytes, Relaxed);
        self.observe(slot(Channel::Pipeline, kind), took);
    }

    /// Records a keep-alive frame, and how long its write took.
    pub(super) fn sent_keep_alive(&self, channel: Channel, took: Duration) {
        self.observe(slot(channel, Kind::Local), took);
    }

    /// Counts a message that was not delivered.
    pub(super) fn failed(&self, channel: Channel, kind: Kind) {
        self.failed[slot(channel, kind)].fetch_add(1, Relaxed);
    }

    /// Counts the bytes of a message from the peer.
    pub(super) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts the loss of a connection.
    pub(super) fn disconnected(&self) {
        self.losses.fetch_add(1, Relaxed);
    }

    /// Records the response to a probe. `clock_difference` is our clock minus the peer's, in nanoseconds.
    pub(super) fn probed(&self, round_trip: Duration, clock_difference: i64) {
        self.clock_difference.store(clock_difference, Relaxed);
        let histogram = self.round_trip.get_or_init(|| {
            let options = options("etcd_network_peer_round_trip_time_seconds", 0.0001, 16)
                .const_label("To", self.id.to_string());
            histogram(options, "Time that a peer took to answer a probe.")
        });
        histogram.observe(round_trip.as_secs_f64());
    }

    fn observe(&self, slot: usize, took: Duration) {
        let histogram = self.latency[slot].get_or_init(|| {
            let (channel, kind) = (Channel::ALL[slot / KINDS.len()], KINDS[slot % KINDS.len()].1);
            let options = options("etcd_rafthttp_message_sent_latency_seconds", 0.0005, 13)
                .const_label("msgType", kind)
                .const_label("remoteID", self.id.to_string())
                .const_label("sendingType", channel.name());
            histogram(
                options,
                "Time until a message was written to its stream, or until its post was answered.",
            )
        });
        histogram.observe(took.as_secs_f64());
    }

    /// All metrics. `waiting` has the number and the bytes of the messages that are queued on each channel.
    pub(super) fn families(
        &self,
        local: MemberId,
        is_active: bool,
        waiting: [(usize, usize); Channel::ALL.len()],
    ) -> Vec<MetricFamily> {
        let id = self.id.to_string();
        let to = || vec![("To", id.clone())];
        let both = || vec![("Local", local.to_string()), ("Remote", id.clone())];
        let sum = |counts: &[AtomicU64]| counts.iter().map(|count| count.load(Relaxed)).sum::<u64>();
        let (counter, gauge) = (MetricType::COUNTER, MetricType::GAUGE);
        let failed = self.failed.iter().enumerate().filter_map(|(slot, count)| {
            let (channel, kind) = (Channel::ALL[slot / KINDS.len()], KINDS[slot % KINDS.len()].1);
            let labels = vec![
                ("msgType", kind.to_owned()),
                ("remoteID", id.clone()),
                ("sendingType", channel.name().to_owned()),
            ];
            Some((labels, float(count.load(Relaxed)))).filter(|(_, count)| *count > 0.0)
        });
        let waiting = |of: fn((usize, usize)) -> usize| {
            Channel::ALL.map(|channel| {
                let labels = vec![("To", id.clone()), ("sendingType", channel.name().to_owned())];
                (labels, float(of(waiting[channel as usize]) as u64))
            })
        };
        #[expect(clippy::cast_precision_loss, reason = "the difference does not need that precision")]
        let clock_difference = self.clock_difference.load(Relaxed) as f64 / 1e9;
        let one = |name, help, kind, labels, value| labelled(name, help, kind, [(labels, value)]);
        let mut families = vec![
            labelled(
                "etcd_rafthttp_message_sent_failed_total",
                "Messages to a peer that were not delivered.",
                counter,
                failed,
            ),
            one(
                "etcd_network_peer_sent_bytes_total",
                "Bytes of messages sent to a peer.",
                counter,
                to(),
                float(self.sent_bytes.load(Relaxed)),
            ),
            one(
                "etcd_network_peer_received_bytes_total",
                "Bytes of messages received from a peer on streams.",
                counter,
                vec![("From", id.clone())],
                float(self.received_bytes.load(Relaxed)),
            ),
            one(
                "etcd_network_peer_sent_failures_total",
                "Messages to a peer that were not delivered.",
                counter,
                to(),
                float(sum(&self.failed)),
            ),
            one(
                "etcd_network_active_peers",
                "Whether a peer is connected: 1 or 0.",
                gauge,
                both(),
                if is_active { 1.0 } else { 0.0 },
            ),
            one(
                "etcd_network_disconnected_peers_total",
                "How often a connected peer was lost.",
                counter,
                both(),
                float(self.losses.load(Relaxed)),
            ),
            labelled(
                "etcd_rs_peer_queue_messages",
                "Messages that wait to be sent to a peer.",
                gauge,
                waiting(|(messages, _)| messages),
            ),
            labelled(
                "etcd_rs_peer_queue_bytes",
                "Bytes of messages that wait to be sent to a peer.",
                gauge,
                waiting(|(_, bytes)| bytes),
            ),
        ];
        if let Some(round_trip) = self.round_trip.get() {
            families.push(one(
                "etcd_rs_peer_clock_difference_seconds",
                "Clock of this member minus the clock of a peer.",
                gauge,
                to(),
                clock_difference,
            ));
            families.extend(round_trip.collect().into_iter().map(Some));
        }
        let latencies = self.latency.iter().filter_map(OnceLock::get);
        families.into_iter().flatten().chain(latencies.flat_map(Collector::collect)).collect()
    }
}

/// A histogram with this number of buckets; the first bound is `first`, and each further one is twice the previous.
fn options(name: &str, first: f64, buckets: i32) -> HistogramOpts {
    let bounds = (0..buckets).map(|power| first * 2f64.powi(power)).collect();
    HistogramOpts::new(name, " ").buckets(bounds)
}

fn histogram(mut options: HistogramOpts, help: &str) -> Histogram {
    options.common_opts.help = help.to_owned();
    Histogram::with_opts(options).unwrap_or_else(|error| panic!("a metric is defined wrongly: {error}"))
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn page(measures: &Measures) -> String {
        let families = measures.families(MemberId(1), true, [(3, 300), (0, 0), (0, 0)]);
        TextEncoder::new().encode_to_string(&crate::metrics::families::merged(families)).unwrap()
    }

    #[test]
    fn kinds_stand_at_their_own_place() {
        for (position, (kind, name)) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, position, "{name}");
        }
        for (position, channel) in Channel::ALL.iter().enumerate() {
            assert_eq!(*channel as usize, position, "{channel:?}");
        }
    }

    #[test]
    fn messages_count_by_way_and_kind() {
        let measures = Measures::new(MemberId(0x2a));
        measures.queued(Channel::Appends, Kind::Append, 100);
        measures.queued(Channel::Appends, Kind::Append, 50);
        measures.queued(Channel::Messages, Kind::Heartbeat, 7);
        assert!(measures.is_queued());
        measures.flushed(Duration::from_micros(700));
        assert!(!measures.is_queued());
        measures.flushed(Duration::from_secs(9));
        measures.posted(Kind::Snapshot, 1000, Duration::from_millis(3));
        measures.failed(Channel::Pipeline, Kind::Vote);
        measures.received(11);
        measures.disconnected();
        measures.probed(Duration::from_micros(150), -2_500_000_000);
        let page = page(&measures);
        let latency = "etcd_rafthttp_message_sent_latency_seconds";
        let append = r#"{msgType="MsgApp",remoteID="2a",sendingType="msgappv2""#;
        for line in [
            format!("{latency}_bucket{append},le=\"0.0005\"}} 0"),
            format!("{latency}_bucket{append},le=\"0.001\"}} 2"),
            format!("{latency}_bucket{append},le=\"2.048\"}} 2"),
            format!("{latency}_count{append}}} 2"),
            format!(
                "{latency}_count{{msgType=\"MsgHeartbeat\",remoteID=\"2a\",sendingType=\"message\"}} 1"
            ),
            format!("{latency}_count{{msgType=\"MsgSnap\",remoteID=\"2a\",sendingType=\"pipeline\"}} 1"),
            r#"etcd_rafthttp_message_sent_failed_total{msgType="MsgVote",remoteID="2a",sendingType="pipeline"} 1"#
                .to_owned(),
            "etcd_network_peer_sent_bytes_total{To=\"2a\"} 1157".to_owned(),
            "etcd_network_peer_received_bytes_total{From=\"2a\"} 11".to_owned(),
            "etcd_network_peer_sent_failures_total{To=\"2a\"} 1".to_owned(),
            "etcd_network_active_peers{Local=\"1\",Remote=\"2a\"} 1".to_owned(),
            "etcd_network_disconnected_peers_total{Local=\"1\",Remote=\"2a\"} 1".to_owned(),
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"2a\",le=\"0.0001\"} 0".to_owned(),
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"2a\",le=\"3.2768\"} 1".to_owned(),
            "etcd_rs_peer_clock_difference_seconds{To=\"2a\"} -2.5".to_owned(),
            "etcd_rs_peer_queue_messages{To=\"2a\",sendingType=\"msgappv2\"} 3".to_owned(),
            "etcd_rs_peer_queue_bytes{To=\"2a\",sendingType=\"msgappv2\"} 300".to_owned(),
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert_eq!(page.matches(&format!("# TYPE {latency} ")).count(), 1);
    }
}
