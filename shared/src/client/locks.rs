//! Locks and elections: `/mod/v2/lock` and `/mod/v2/leader`.

use http::{Method, StatusCode};

use super::error::ClientError;
use super::keys::path as below;
use super::request::{FORM, Request};
use super::text::Form;
use super::{Client, Reply};

/// The queue that a client waits in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queue {
    /// That of a lock.
    Lock(Vec<u8>),
    /// That of an election.
    Leader(Vec<u8>),
}

/// Why a request to a module failed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The module refused, with this text: the lock was not free, or the entry in the queue is gone.
    #[error("{0}")]
    Refused(String),
    /// The members answer, but have no such module: they are Go members.
    #[error("the cluster has no locks: /mod/v2/lock is not served by the members that answered (404)")]
    Missing,
    /// The user has no right to the directory of the queue.
    #[error(
        "insufficient credentials: a lock takes the right to write /_etcd/mod/lock/KEY; name a user with --username"
    )]
    Unauthorized,
    /// There is no answer, or it is not that of a module.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Queue {
    /// The path of the queue in the lock API, which takes indexes.
    fn lock_path(&self) -> Vec<u8> {
        let (Queue::Lock(key) | Queue::Leader(key)) = self;
        below("/mod/v2/lock", key)
    }

    fn path(&self) -> Vec<u8> {
        match self {
            Queue::Lock(_) => self.lock_path(),
            Queue::Leader(name) => below("/mod/v2/leader", name),
        }
    }
}

impl Client {
    /// Waits until `value` is the first in the queue, and returns its index. A repeated call with the same value,
    /// also to another member, keeps its position. `wait_seconds` limits the wait; dropping the future ends it.
    ///
    /// # Errors
    /// [`LockError::Refused`] if it was not the first in time. The calls below fail in the same way.
    pub async fn acquire(
        &self,
        queue: &Queue,
        value: &[u8],
        ttl_seconds: u64,
        wait_seconds: Option<u64>,
    ) -> Result<u64, LockError> {
        let (method, name) = match queue {
            Queue::Lock(_) => (Method::POST, "value"),
            Queue::Leader(_) => (Method::PUT, "name"),
        };
        let mut form = Form::default();
        form.add(name, value);
        form.add("ttl", ttl_seconds.to_string());
        if let Some(seconds) = wait_seconds {
            form.add("timeout", seconds.to_string());
        }
        let mut request = Request::new(method, queue.path()).with_body(FORM, form.encode());
        request.wait = true;
        let text = self.module(request).await?;
        text.trim().parse().map_err(|_| ClientError::InvalidJson.into())
    }

    /// Renews the TTL of the queue entry with this index.
    ///
    /// # Errors
    /// [`LockError::Refused`] if there is no such entry any more.
    pub async fn renew(&self, queue: &Queue, index: u64, ttl_seconds: u64) -> Result<(), LockError> {
        let mut form = Form::default();
        form.add("index", index.to_string());
        form.add("ttl", ttl_seconds.to_string());
        self.module(Request::new(Method::PUT, queue.lock_path()).with_body(FORM, form.encode())).await?;
        Ok(())
    }

    /// Removes the queue entry with this index.
    ///
    /// # Errors
    /// [`LockError::Refused`] if there is no such entry any more.
    pub async fn release(&self, queue: &Queue, index: u64) -> Result<(), LockError> {
        let mut request = Request::new(Method::DELETE, queue.lock_path());
        request.query.add("index", index.to_string());
        self.module(request).await?;
        Ok(())
    }

    /// The value of the first entry in the queue; empty if the queue is empty.
    ///
    /// # Errors
    /// When no member answers.
    pub async fn first(&self, queue: &Queue) -> Result<String, LockError> {
        self.module(Request::new(Method::GET, queue.path())).await
    }

    async fn module(&self, mut request: Request) -> Result<String, LockError> {
        request.takes_500 = true;
        let Reply { status, body, .. } = self.send(&request).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        match status {
            StatusCode::OK => Ok(text),
            StatusCode::INTERNAL_SERVER_ERROR => Err(LockError::Refused(text.trim_end().to_owned())),
            StatusCode::NOT_FOUND => Err(LockError::Missing),
            StatusCode::UNAUTHORIZED => Err(LockError::Unauthorized),
            status => Err(ClientError::UnexpectedStatus(status.as_u16()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_renewed_as_a_lock() {
        let path = |queue: Queue| String::from_utf8(queue.path()).unwrap();
        assert_eq!(path(Queue::Lock(b"/a/b".to_vec())), "/mod/v2/lock/a/b");
        let leader = Queue::Leader(b"a".to_vec());
        assert_eq!(leader.lock_path(), b"/mod/v2/lock/a");
        assert_eq!(path(leader), "/mod/v2/leader/a");
        assert_eq!(path(Queue::Lock(b"../../../v2/auth/enable".to_vec())), "/mod/v2/lock/v2/auth/enable");
    }
}
