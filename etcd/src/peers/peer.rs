//! One other member: the state that all its tasks share, the channel that each message takes, the URL in use, and the
//! state of the connection.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use node::member::{Kind, Message};
use parking_lot::Mutex;
use shared::id::MemberId;
use shared::net::Dialer;
use shared::time::UnixNanos;
use shared::url::{Url, Urls};
use tokio::time::Instant;

use super::client::SenderHeaders;
use super::compatibility::Features;
use super::frames::StreamKind;
use super::local::{Inbound, LocalMember, Mailbox, SnapshotSource};
use super::measures::{Channel, Measures};
use super::pipeline::Pipeline;
use super::stream_queue::{PushError, StreamQueue};
use crate::log;
use crate::metrics::Timers;
use crate::metrics::traffic::{FollowerLatency, TrafficCounter};

/// The least time between two warnings about dropped messages.
const WARNING_PAUSE: Duration = Duration::from_secs(1);

/// What all tasks of a transport share.
pub(super) struct TransportContext {
    pub(super) local: LocalMember,
    pub(super) sender_headers: SenderHeaders,
    pub(super) dialer: Dialer,
    pub(super) snapshots: Arc<dyn SnapshotSource>,
    pub(super) mailbox: Mailbox,
    pub(super) dial_time_max: Duration,
    pub(super) received: TrafficCounter,
    /// Records how long followers take to answer, if that is enabled.
    pub(super) timers: OnceLock<Arc<Timers>>,
    pub(super) sent: TrafficCounter,
}

/// One other member.
pub(super) struct RemotePeer {
    pub(super) id: MemberId,
    pub(super) picker: UrlPicker,
    pub(super) status: ConnectionStatus,
    pub(super) follower: FollowerLatency,
    pub(super) pipeline: Pipeline,
    pub(super) measures: Arc<Measures>,
    pub(super) appends: StreamQueue,
    pub(super) messages: StreamQueue,
    warned: Mutex<Option<Instant>>,
}

impl TransportContext {
    /// Delivers a message from the network to the member, if it is addressed to it. `false` when the member is gone.
    pub(super) async fn deliver(
        &self,
        from: Option<&RemotePeer>,
        message: Message,
        bytes: usize,
        now: Instant,
    ) -> bool {
        if let Some(from) = from {
            from.measures.received(bytes);
        }
        match message.kind() {
            Kind::Local => return true,
            Kind::Append => self.received.add(1, bytes, now),
            Kind::AppendResponse => {
                if let Some(took) = from.and_then(|from| from.follower.answered(message.index(), now))
                    && let Some(timers) = self.timers.get()
                {
                    timers.heartbeat_answered(took);
                }
            }
            _ => {}
        }
        if message.to() != self.local.id {
            // The sender knows a former member at this address.
            let (kind, to) = (message.kind(), message.to());
            log::debug!("rafthttp", "ignored message {kind:?} (sent to {to}, not to this member)");
            return true;
        }
        self.mailbox.deliver(message).await.is_ok()
    }
}

impl RemotePeer {
    /// A peer without a connection.
    pub(super) fn new(context: &TransportContext, id: MemberId, urls: &[String]) -> RemotePeer {
        let measures = Arc::new(Measures::new(id));
        RemotePeer {
            id,
            picker: UrlPicker::new(id, urls),
            status: ConnectionStatus::new(id, context.mailbox.clone(), context.local.clock, measures.clone()),
            follower: FollowerLatency::default(),
            pipeline: Pipeline::default(),
            measures,
            appends: StreamQueue::new(StreamKind::Append),
            messages: StreamQueue::new(StreamKind::Message),
            warned: Mutex::default(),
        }
    }

    /// The queue of a stream to the peer.
    pub(super) fn queue(&self, kind: StreamKind) -> &StreamQueue {
        match kind {
            StreamKind::Append => &self.appends,
            StreamKind::Message => &self.messages,
        }
    }

    /// Queues a message on the first channel that is open. Returns its size in bytes, or 0 if it is dropped.
    pub(super) fn send(&self, context: &TransportContext, message: Message, now: Instant) -> usize {
        let kind = message.kind();
        if kind != Kind::Snapshot {
            let streams: &[&StreamQueue] = match kind {
                Kind::Append => &[&self.appends, &self.messages],
                _ => &[&self.messages],
            };
            for stream in streams {
                match stream.push(&message) {
                    Ok(bytes) => {
                        self.measures.queued(stream.kind().into(), kind, bytes);
                        if kind == Kind::Append {
                            self.follower.sent(last_entry_index(&message), now);
                        }
                        return bytes;
                    }
                    Err(PushError::Full) => {
                        self.measures.failed(stream.kind().into(), kind);
                        self.report_dropped(context, stream.kind().name(), now);
                        return 0;
                    }
                    Err(PushError::Detached) => {}
                }
            }
        }
        self.post(context, message, now)
    }

    /// Queues a message for a post.
    pub(super) fn post(&self, context: &TransportContext, message: Message, now: Instant) -> usize {
        let bytes = message.encoded_len_max();
        let (kind, last) = (message.kind(), last_entry_index(&message));
        if self.pipeline.push(message) {
            if kind == Kind::Append {
                self.follower.sent(last, now);
            }
            return bytes;
        }
        if kind == Kind::Snapshot {
            context.mailbox.notify(Inbound::SnapshotSent { to: self.id, ok: false });
        }
        self.measures.failed(Channel::Pipeline, kind);
        self.report_dropped(context, "pipeline", now);
        0
    }

    fn report_dropped(&self, context: &TransportContext, channel: &str, now: Instant) {
        let id = self.id;
        context.mailbox.notify_unreachable(id);
        let mut warned = self.warned.lock();
        let due = warned.is_none_or(|last| now.duration_since(last) >= WARNING_PAUSE);
        if due && self.status.active_since().is_some() {
            *warned = Some(now);
            log::warning!(
                "rafthttp",
                "dropped internal raft message to {id} since {channel}'s sending buffer is full (bad/overloaded network)"
            );
        }
    }
}

fn last_entry_index(message: &Message) -> u64 {
    message.index() + message.entries().len() as u64
}

/// The URLs of a peer. One is used until it fails.
#[derive(Debug)]
pub(super) struct UrlPicker(Mutex<PickerState>);

#[derive(Debug)]
struct PickerState {
    urls: Vec<Url>,
    at: usize,
}

impl UrlPicker {
    /// Starts with the first URL in the order of their texts.
    pub(super) fn new(id: MemberId, urls: &[String]) -> UrlPicker {
        UrlPicker(Mutex::new(PickerState { urls: parse_urls(id, urls), at: 0 }))
    }

    /// Replaces the URLs.
    pub(super) fn update(&self, id: MemberId, urls: &[String]) {
        *self.0.lock() = PickerState { urls: parse_urls(id, urls), at: 0 };
    }

    /// The URL to use now. `None` if the peer has no valid URL.
    pub(super) fn pick(&self) -> Option<Url> {
        let picked = self.0.lock();
        picked.urls.get(picked.at).cloned()
    }

    /// Switches to the next URL after a failure, unless another task did so already.
    pub(super) fn failed(&self, url: &Url) {
        let mut picked = self.0.lock();
        if picked.urls.get(picked.at) == Some(url) {
            picked.at = (picked.at + 1) % picked.urls.len();
        }
    }
}

fn parse_urls(id: MemberId, urls: &[String]) -> Vec<Url> {
    match Urls::from_texts(urls.iter().map(String::as_str)) {
        Ok(urls) => urls.iter().cloned().collect(),
        Err(error) => {
            log::error!("rafthttp", "cannot reach the peer {id}: its URLs are invalid ({error})");
            Vec::new()
        }
    }
}

/// What the connections with a peer tell about it.
pub(super) struct ConnectionStatus {
    id: MemberId,
    mailbox: Mailbox,
    clock: fn() -> UnixNanos,
    measures: Arc<Measures>,
    state: Mutex<ConnectionState>,
}

#[derive(Default)]
struct ConnectionState {
    active_since: Option<UnixNanos>,
    features: Features,
}

impl ConnectionStatus {
    /// The status of a peer that has not connected yet.
    pub(super) fn new(
        id: MemberId,
        mailbox: Mailbox,
        clock: fn() -> UnixNanos,
        measures: Arc<Measures>,
    ) -> ConnectionStatus {
        ConnectionStatus { id, mailbox, clock, measures, state: Mutex::default() }
    }

    /// A connection or a request succeeded.
    pub(super) fn activate(&self) {
        let mut state = self.state.lock();
        if state.active_since.is_none() {
            state.active_since = Some((self.clock)());
            drop(state);
            log::info!("rafthttp", "the connection with {} became active", self.id);
            self.mailbox.notify(Inbound::PeerChanged);
        }
    }

    /// A connection or a request failed. Logs `failed to ACTION ID on SOURCE (REASON)`.
    pub(super) fn deactivate(&self, action: &str, source: &str, reason: &str) {
        let id = self.id;
        if self.state.lock().active_since.take().is_some() {
            self.measures.disconnected();
            log::error!("rafthttp", "failed to {action} {id} on {source} ({reason})");
            log::info!("rafthttp", "the connection with {id} became inactive");
            self.mailbox.notify(Inbound::PeerChanged);
        } else {
            log::debug!("rafthttp", "failed to {action} {id} on {source} ({reason})");
        }
    }

    /// When the connection became active; `None` while there is none.
    pub(super) fn active_since(&self) -> Option<UnixNanos> {
        self.state.lock().active_since
    }

    /// Records the features that the peer announced. Another version of the program may have replaced it.
    pub(super) fn set_features(&self, features: Features) {
        let before = std::mem::replace(&mut self.state.lock().features, features);
        if before != features {
            self.mailbox.notify(Inbound::PeerChanged);
        }
    }

    /// The features that it announced last.
    pub(super) fn features(&self) -> Features {
        self.state.lock().features
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_moves_to_the_next_url_once() {
        let picker = UrlPicker::new(MemberId(1), &["http://b:1".to_owned(), "http://a:1".to_owned()]);
        let first = picker.pick().unwrap();
        assert_eq!(first.as_str(), "http://a:1");
        picker.failed(&first);
        picker.failed(&first);
        let second = picker.pick().unwrap();
        assert_eq!(second.as_str(), "http://b:1");
        picker.failed(&second);
        assert_eq!(picker.pick(), Some(first));
        picker.update(MemberId(1), &["nonsense".to_owned()]);
        assert_eq!(picker.pick(), None);
    }
}
