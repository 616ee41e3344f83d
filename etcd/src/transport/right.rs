//! The right to a watch, which is looked at again when users, roles or the switch may have changed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use http::HeaderValue;

use super::site::Site;

/// Whether a watch may go on. It may take a while: the password may have to be checked.
pub(crate) type GoesOn = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Who watches what.
#[derive(Debug)]
pub(crate) struct Right {
    /// The path below `/v2/keys`, with the slash at its end if there is one.
    key: Box<[u8]>,
    recursive: bool,
    /// Boxed: most have none, and there may be many watches.
    authorization: Option<Box<HeaderValue>>,
    /// The generation in which the right was there.
    seen: u64,
}

impl Right {
    /// A right that was there in the generation `seen`.
    pub(crate) fn new(key: &[u8], recursive: bool, authorization: Option<&HeaderValue>, seen: u64) -> Right {
        Right { key: key.into(), recursive, authorization: authorization.cloned().map(Box::new), seen }
    }

    /// The path below `/v2/keys`.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether it is about all that is below as well.
    pub(crate) fn is_recursive(&self) -> bool {
        self.recursive
    }

    /// The `Authorization` that the watch came with.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_deref()
    }
}

/// A watch's right, and the look at it that goes on.
pub(super) struct Guard {
    right: Right,
    look: Option<Box<Look>>,
}

/// A look at a right.
struct Look {
    /// What it is about.
    generation: u64,
    goes_on: GoesOn,
}

impl Guard {
    /// Of a right that is there.
    pub(super) fn new(right: Right) -> Guard {
        Guard { right, look: None }
    }

    /// Whether the watch may go on. One load, as long as nothing has changed.
    pub(super) fn poll<S: Site>(&mut self, site: &Arc<S>, cx: &mut TaskContext<'_>) -> Poll<bool> {
        loop {
            if let Some(look) = &mut self.look {
                let Poll::Ready(goes_on) = look.goes_on.as_mut().poll(cx) else { return Poll::Pending };
                self.right.seen = look.generation;
                self.look = None;
                if !goes_on {
                    return Poll::Ready(false);
                }
            }
            let now = site.rights_generation();
            if now == self.right.seen {
                return Poll::Ready(true);
            }
            self.look = Some(Box::new(Look { generation: now, goes_on: site.may_go_on(&self.right) }));
        }
    }
}
