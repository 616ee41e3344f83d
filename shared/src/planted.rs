//! Bugs that tests plant on purpose, one at a time, to show that the simulator detects them.
//!
//! Each is in the code that it breaks, behind [`is_planted`]. Without the feature `planted-bugs`, which only tests
//! turn on, that is always false and no bug is compiled; with it a bug is active only on the thread that [`plant`]ed
//! it.

use std::fmt;
use std::str::FromStr;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bug {
    /// Entries count as durable, and acknowledgements are sent, before the log is synced.
    AckBeforeSync,
    /// The log does not have a member's vote.
    VoteNotSaved,
    /// A follower treats one entry more as committed than the leader says.
    CommitOffByOne,
    /// A follower accepts entries from a leader of an older term.
    NoTermCheck,
    /// A leader answers quorum reads from its store without confirming its leadership.
    StaleRead,
    /// A quorum read is answered before all entries that were committed before it are applied.
    ReadBeforeApply,
    /// The first entry after a restart from a snapshot is applied twice.
    AppliedTwice,
    /// The state of a snapshot is installed, and counts as durable, before its file is.
    InstallBeforeSync,
    /// Segments of the log are removed before the snapshot that replaces them is saved.
    LogCutEarly,
    /// Snapshots still have a removed member.
    LostRemoval,
    /// Each member expires keys by its own clock.
    OwnExpiry,
    /// Watchers do not get the events of a received snapshot.
    WatcherSkipped,
    /// Request ids start over with each start of a member.
    RequestIdReused,
    /// A compare with an index uses the created index.
    CompareWrongIndex,
    /// Folders are not synced after a rename.
    NoFolderSync,
    /// A torn record stays in the log, and the next record is written after it.
    TornTailKept,
    /// Zeros at the end of the log stay, and the next record is written after them.
    ZeroTailKept,
    /// A leader appends forwarded proposals that were meant for another term.
    LateProposals,
    /// A leader answers read-index requests without confirming its leadership.
    OldLeaderReads,
    /// A follower's acknowledgement counts for another follower, too.
    CountedTwice,
}

impl Bug {
    /// All of them.
    pub const ALL: [Bug; 20] = [
        Bug::AckBeforeSync,
        Bug::VoteNotSaved,
        Bug::CommitOffByOne,
        Bug::NoTermCheck,
        Bug::StaleRead,
        Bug::ReadBeforeApply,
        Bug::AppliedTwice,
        Bug::InstallBeforeSync,
        Bug::LogCutEarly,
        Bug::LostRemoval,
        Bug::OwnExpiry,
        Bug::WatcherSkipped,
        Bug::RequestIdReused,
        Bug::CompareWrongIndex,
        Bug::NoFolderSync,
        Bug::TornTailKept,
        Bug::ZeroTailKept,
        Bug::LateProposals,
        Bug::OldLeaderReads,
        Bug::CountedTwice,
    ];

    fn name(self) -> &'static str {
        match self {
            Bug::AckBeforeSync => "ack-before-sync",
            Bug::VoteNotSaved => "vote-not-saved",
            Bug::CommitOffByOne => "commit-off-by-one",
            Bug::NoTermCheck => "no-term-check",
            Bug::StaleRead => "stale-read",
            Bug::ReadBeforeApply => "read-before-apply",
            Bug::AppliedTwice => "applied-twice",
            Bug::InstallBeforeSync => "install-before-sync",
            Bug::LogCutEarly => "log-cut-early",
            Bug::LostRemoval => "lost-removal",
            Bug::OwnExpiry => "own-expiry",
            Bug::WatcherSkipped => "watcher-skipped",
            Bug::RequestIdReused => "request-id-reused",
            Bug::CompareWrongIndex => "compare-wrong-index",
            Bug::NoFolderSync => "no-folder-sync",
            Bug::TornTailKept => "torn-tail-kept",
            Bug::ZeroTailKept => "zero-tail-kept",
            Bug::LateProposals => "late-proposals",
            Bug::OldLeaderReads => "old-leader-reads",
            Bug::CountedTwice => "counted-twice",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no bug with this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no bug is called {0:?}; there are {names}", names = Bug::ALL.map(Bug::name).join(", "))]
pub struct UnknownBug(String);

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<Bug, UnknownBug> {
        Bug::ALL.into_iter().find(|bug| bug.name() == name).ok_or_else(|| UnknownBug(name.to_owned()))
    }
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug on this thread from now on, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is planted.
    #[must_use]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::{is_planted, plant};

/// Whether this bug is planted: never.
#[cfg(not(feature = "planted-bugs"))]
#[inline]
#[must_use]
pub const fn is_planted(_: Bug) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bugs_are_known_by_their_names() {
        for bug in Bug::ALL {
            assert_eq!(bug.to_string().parse(), Ok(bug));
        }
        assert!("none".parse::<Bug>().unwrap_err().to_string().contains("stale-read"));
    }
}
