//! What the member hears from the transport.

use shared::id::MemberId;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use node::member::Message;

/// What the transport tells the member.
#[derive(Debug)]
pub enum Inbound {
    /// Another member says something. It has passed all checks that need no knowledge of the log.
    Message(Message),
    /// Messages to this peer were lost, and more may be.
    Unreachable(MemberId),
    /// This peer was connected, and now no program listens where it was.
    Gone(MemberId),
    /// The snapshot that was sent has arrived, or has not.
    SnapshotSent {
        /// Where to.
        to: MemberId,
        /// Whether the peer took it.
        ok: bool,
    },
    /// A peer came, went, or can do other things than before.
    PeerChanged,
    /// The member must stop: this is why.
    Fatal(String),
}

/// Where all that comes in is put. Bounded: who reads from a peer waits for room, so that the peer waits too.
#[derive(Debug, Clone)]
pub(super) struct Mailbox(pub(super) mpsc::Sender<Inbound>);

/// The member is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl Mailbox {
    /// Hands a message over; waits for room.
    pub(super) async fn deliver(&self, message: Message) -> Result<(), Gone> {
        match self.0.try_send(Inbound::Message(message)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(message)) => self.0.send(message).await.map_err(|_| Gone),
            Err(TrySendError::Closed(_)) => Err(Gone),
        }
    }

    /// Tells that messages were lost, unless the member has more to read than that anyway.
    pub(super) fn tell_unreachable(&self, id: MemberId) {
        let _ = self.0.try_send(Inbound::Unreachable(id));
    }

    /// Tells something that must not get lost, and is rare. Never waits.
    pub(super) fn tell(&self, what: Inbound) {
        if let Err(TrySendError::Full(what)) = self.0.try_send(what) {
            let sender = self.0.clone();
            tokio::spawn(async move {
                // A member that is gone needs to know nothing.
                let _ = sender.send(what).await;
            });
        }
    }
}
