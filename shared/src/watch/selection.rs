//! The keys of a watch.

use std::sync::Arc;

/// Which keys a watch is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selection {
    key: Arc<[u8]>,
    end: End,
}

/// The end of a range of keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// The key itself.
    Key,
    /// All keys before this one.
    Before(Arc<[u8]>),
    /// All keys.
    Unbounded,
}

/// Why a watch is not created. The texts are etcd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The end of the range is not after its key.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The stream has a watch with this id.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
    /// A start before all history.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    NegativeRevision,
}

impl Selection {
    /// The keys of a request: `key` alone without `range_end`, all from `key` on if that is a zero byte, else
    /// `key <= k < range_end`. An empty key stands for the first one, a zero byte.
    ///
    /// # Errors
    /// [`EmptyRange`](Refusal::EmptyRange).
    pub fn new(key: &[u8], range_end: &[u8]) -> Result<Selection, Refusal> {
        let key: &[u8] = if key.is_empty() { b"\0" } else { key };
        let end = match range_end {
            [] => End::Key,
            [0] => End::Unbounded,
            end if end <= key => return Err(Refusal::EmptyRange),
            end => End::Before(Arc::from(end)),
        };
        Ok(Selection { key: Arc::from(key), end })
    }

    /// The first key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The end in the form of a request.
    pub fn range_end(&self) -> &[u8] {
        match &self.end {
            End::Key => b"",
            End::Before(end) => end,
            End::Unbounded => b"\0",
        }
    }

    /// Whether a key is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Key => *key == *self.key,
            End::Before(end) => *self.key <= *key && *key < **end,
            End::Unbounded => *self.key <= *key,
        }
    }

    pub(super) fn shared_key(&self) -> &Arc<[u8]> {
        &self.key
    }

    pub(super) fn end(&self) -> &End {
        &self.end
    }
}
