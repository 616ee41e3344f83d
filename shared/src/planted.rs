//! Mistakes that are made on purpose, one at a time, so that the simulator can be seen to notice them.
//!
//! Each stands in the code that it spoils, behind [`is_planted`]. Without the feature `planted-bugs`, which only tests
//! turn on, that is always false and nothing of it is compiled; with it a mistake is made on the thread that
//! [`plant`]ed it, and nowhere else.

use std::fmt;
use std::str::FromStr;

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bug {
    /// Entries count as durable, and promises leave, though the log was not synced.
    AckBeforeSync,
    /// The log does not hold for whom a member voted.
    VoteNotSaved,
    /// A follower takes one entry more for committed than the leader says.
    CommitOffByOne,
    /// A follower takes entries from a leader of a term that is over.
    NoTermCheck,
    /// Who takes itself for the leader answers quorum reads from its store, and asks nobody.
    StaleRead,
    /// A quorum read is answered though not all is applied that was committed before it.
    ReadBeforeApply,
    /// The first entry after a restart from a snapshot is applied twice.
    AppliedTwice,
    /// The state of a snapshot takes the place of the old one, and counts as safe, before its file is.
    InstallBeforeSync,
    /// Segments of the log go before the snapshot is saved that replaces them.
    LogCutEarly,
    /// Snapshots still count a member that was removed.
    LostRemoval,
    /// Each member lets keys expire by its own clock.
    OwnExpiry,
    /// Who watches is not told of what a received snapshot brought.
    WatcherSkipped,
    /// Request ids begin anew with each start.
    RequestIdReused,
    /// A compare with an index takes the index at which the node was made.
    CompareWrongIndex,
    /// Folders are not synced after a name was given.
    NoFolderSync,
    /// What is left of a record that was cut off stays in the log, and the next record comes behind it.
    TornTailKept,
    /// Zeros at the end of the log stay, and the next record comes behind them.
    ZeroTailKept,
    /// A leader appends forwarded proposals that were meant for another term.
    LateProposals,
    /// A leader says up to where to read without asking whether it still leads.
    OldLeaderReads,
    /// A follower's answer counts for another one, too.
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

/// There is no mistake of that name.
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

    /// Makes this mistake on this thread from now on, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this mistake is to be made.
    #[must_use]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::{is_planted, plant};

/// Whether this mistake is to be made: never.
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
