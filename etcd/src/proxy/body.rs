//! Response bodies: the proxy's own, and those forwarded from a member.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::premature_close::PrematureCloseLog;
use super::upstream::Lease;
use crate::transport::{Flow, reply};

/// Resolves when a forwarded body must end early.
pub(super) type StopSignal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The body of a response.
#[derive(Debug)]
pub(crate) enum Body {
    /// A response of the proxy itself.
    Own(reply::Body),
    /// A member's response, streamed.
    Forwarded(ForwardedBody),
}

/// The body of a member's response.
pub(crate) struct ForwardedBody {
    incoming: Incoming,
    /// Whether the body has ended.
    ended: bool,
    lease: Option<Lease>,
    flow: Arc<Flow>,
    /// For watches: ends the body when the proxy stops.
    stop: Option<StopSignal>,
    premature: PrematureCloseLog,
}

impl ForwardedBody {
    pub(super) fn new(
        incoming: Incoming,
        lease: Lease,
        flow: Arc<Flow>,
        stop: Option<StopSignal>,
        premature: PrematureCloseLog,
    ) -> ForwardedBody {
        ForwardedBody { incoming, ended: false, lease: Some(lease), flow, stop, premature }
    }
}

impl Drop for ForwardedBody {
    fn drop(&mut self) {
        if self.incoming.is_end_stream() {
            self.ended = true;
        }
        if let (true, Some(lease)) = (self.ended, self.lease.take()) {
            lease.give_back();
            self.premature.disarm();
        }
        self.flow.ends();
    }
}

impl std::fmt::Debug for ForwardedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passed").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Body::Own(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Body::Forwarded(forwarded) => {
                let polled = Pin::new(&mut forwarded.incoming).poll_frame(cx);
                match &polled {
                    Poll::Ready(None) => forwarded.ended = true,
                    // The member's connection broke: the client did not close early.
                    Poll::Ready(Some(Err(_))) => forwarded.premature.disarm(),
                    Poll::Pending => {
                        let stopped =
                            forwarded.stop.as_mut().is_some_and(|stop| stop.as_mut().poll(cx).is_ready());
                        if stopped {
                            // Dropping the lease closes the connection to the member.
                            forwarded.lease = None;
                            forwarded.premature.disarm();
                            return Poll::Ready(None);
                        }
                    }
                    Poll::Ready(Some(Ok(_))) => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Own(body) => body.is_end_stream(),
            Body::Forwarded(forwarded) => forwarded.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Own(body) => body.size_hint(),
            Body::Forwarded(forwarded) => forwarded.incoming.size_hint(),
        }
    }
}
