//! What members of our kind can beyond those of 2.3, told in a header that others ignore.

use std::fmt;

/// The header of requests and of answers to requests for a stream.
pub(super) const FEATURES_HEADER: &str = "X-Etcd-Features";

/// What a member understands. None of it for a member of 2.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Votes that are asked for before a term is raised.
    pub pre_vote: bool,
    /// A leader that hears from no majority steps down, and others refuse votes while they hear from it.
    pub check_quorum: bool,
    /// Reads that a follower asks the leader's leave for.
    pub read_index: bool,
    /// A leader that hands over.
    pub transfer: bool,
    /// Proposals that one leader takes, in one term: see `member/proposals.rs`.
    pub bound_proposals: bool,
}

impl Features {
    /// What this program understands.
    pub const OURS: Features = Features {
        pre_vote: true,
        check_quorum: true,
        read_index: true,
        transfer: true,
        bound_proposals: true,
    };

    /// Reads a header. What is not known is passed over; no header is none.
    pub(super) fn parse(header: Option<&str>) -> Features {
        let mut features = Features::default();
        for name in header.unwrap_or_default().split(',') {
            match name.trim() {
                "pre-vote" => features.pre_vote = true,
                "check-quorum" => features.check_quorum = true,
                "read-index" => features.read_index = true,
                "transfer" => features.transfer = true,
                "bound-proposals" => features.bound_proposals = true,
                _ => {}
            }
        }
        features
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            (self.pre_vote, "pre-vote"),
            (self.check_quorum, "check-quorum"),
            (self.read_index, "read-index"),
            (self.transfer, "transfer"),
            (self.bound_proposals, "bound-proposals"),
        ];
        let mut separator = "";
        for (_, name) in all.iter().filter(|(has, _)| *has) {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_what_a_member_can() {
        assert_eq!(Features::OURS.to_string(), "pre-vote,check-quorum,read-index,transfer,bound-proposals");
        assert_eq!(Features::parse(Some(&Features::OURS.to_string())), Features::OURS);
        assert_eq!(Features::parse(None), Features::default());
        let some = Features::parse(Some("transfer, time-travel"));
        assert_eq!(some, Features { transfer: true, ..Features::default() });
    }
}
