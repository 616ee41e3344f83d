//! Whether there is a connection with a peer, and what it can.

use std::sync::Arc;

use parking_lot::Mutex;
use shared::id::MemberId;
use shared::time::UnixNanos;

use super::compatibility::Features;
use super::local::{Inbound, Mailbox};
use super::measures::Measures;
use crate::log;

/// What is known of a peer from its connections.
pub(super) struct Status {
    id: MemberId,
    mailbox: Mailbox,
    clock: fn() -> UnixNanos,
    measures: Arc<Measures>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    active_since: Option<UnixNanos>,
    features: Features,
}

impl Status {
    /// Of a peer that nothing is known about.
    pub(super) fn new(
        id: MemberId,
        mailbox: Mailbox,
        clock: fn() -> UnixNanos,
        measures: Arc<Measures>,
    ) -> Status {
        Status { id, mailbox, clock, measures, state: Mutex::default() }
    }

    /// Something got through.
    pub(super) fn activate(&self) {
        let mut state = self.state.lock();
        if state.active_since.is_none() {
            state.active_since = Some((self.clock)());
            drop(state);
            log::info!("rafthttp", "the connection with {} became active", self.id);
            self.mailbox.tell(Inbound::PeerChanged);
        }
    }

    /// Something did not: `failed to ACTION ID on SOURCE (REASON)`.
    pub(super) fn deactivate(&self, action: &str, source: &str, reason: &str) {
        let id = self.id;
        if self.state.lock().active_since.take().is_some() {
            self.measures.lost();
            log::error!("rafthttp", "failed to {action} {id} on {source} ({reason})");
            log::info!("rafthttp", "the connection with {id} became inactive");
            self.mailbox.tell(Inbound::PeerChanged);
        } else {
            log::debug!("rafthttp", "failed to {action} {id} on {source} ({reason})");
        }
    }

    /// Since when there is a connection.
    pub(super) fn active_since(&self) -> Option<UnixNanos> {
        self.state.lock().active_since
    }

    /// The peer says what it can. A program of another kind may have taken its place.
    pub(super) fn set_features(&self, features: Features) {
        let before = std::mem::replace(&mut self.state.lock().features, features);
        if before != features {
            self.mailbox.tell(Inbound::PeerChanged);
        }
    }

    /// What it said last.
    pub(super) fn features(&self) -> Features {
        self.state.lock().features
    }
}
