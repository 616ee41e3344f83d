//! What the services share: the member, the settings, and the rules before every request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use shared::v3::Error;
use shared::v3::pb::etcdserverpb::ResponseHeader;
use tokio::sync::watch;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::{Settings, metadata};
use crate::backend::v3::{Backend, Caller, Proposal};

/// A stream of responses.
pub(super) type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The services of the v3 API, in front of a member.
pub(super) struct Api<B> {
    pub(super) backend: Arc<B>,
    pub(super) settings: Settings,
    /// True once the server stops.
    pub(super) stopping: watch::Receiver<bool>,
}

/// What a learner answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Learner {
    Serves,
    Refuses,
}

impl<B: Backend> Api<B> {
    /// Reads the metadata of a request, and refuses one that this member cannot serve now.
    pub(super) fn admit(&self, metadata: &MetadataMap, learner: Learner) -> Result<Caller, Error> {
        let caller = metadata::caller(metadata);
        if learner == Learner::Refuses && self.backend.is_learner() {
            return Err(Error::NotSupportedForLearner);
        }
        if caller.needs_leader && !self.backend.has_leader() {
            return Err(Error::NoLeader);
        }
        Ok(caller)
    }

    /// Puts a request into the log, and waits for its answer.
    pub(super) async fn propose<P: Proposal>(
        &self,
        caller: &Caller,
        request: P,
    ) -> Result<P::Response, Error> {
        let response = self.backend.propose(caller, request.into_operation()).await?;
        Ok(P::answer(response).unwrap_or_else(|| unreachable!("an operation is answered by its own kind")))
    }

    /// Adds to a header from the store what the store does not know.
    pub(super) fn complete(&self, header: &mut Option<ResponseHeader>) {
        let now = self.backend.header();
        match header {
            Some(header) => {
                header.cluster_id = now.cluster_id;
                header.member_id = now.member_id;
                header.raft_term = now.raft_term;
            }
            None => *header = Some(now),
        }
    }

    /// Ends a stream of responses when the server stops, and when the leader is lost if the client wants that.
    pub(super) fn bounded<T: 'static>(
        &self,
        caller: &Caller,
        responses: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Responses<T> {
        let mut stopping = self.stopping.clone();
        let leader_lost = caller.needs_leader.then(|| self.backend.leader_lost());
        let cut = async move {
            let stopped = stopping.wait_for(|stopping| *stopping);
            match leader_lost {
                None => {
                    let _ = stopped.await;
                    Error::Stopped
                }
                Some(lost) => tokio::select! {
                    _ = stopped => Error::Stopped,
                    () = lost => Error::NoLeader,
                },
            }
        };
        Box::pin(Bounded { responses: Some(Box::pin(responses)), cut: Box::pin(cut) })
    }
}

/// A stream of responses that ends early by an error.
struct Bounded<T> {
    /// `None` after the end.
    responses: Option<Responses<T>>,
    cut: Pin<Box<dyn Future<Output = Error> + Send>>,
}

impl<T> Stream for Bounded<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(responses) = &mut this.responses else { return Poll::Ready(None) };
        if let Poll::Ready(error) = this.cut.as_mut().poll(cx) {
            this.responses = None;
            return Poll::Ready(Some(Err(error.into())));
        }
        let next = responses.as_mut().poll_next(cx);
        if matches!(next, Poll::Ready(None)) {
            this.responses = None;
        }
        next
    }
}
