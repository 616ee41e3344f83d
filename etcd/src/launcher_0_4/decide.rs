//! Which version is to start. Pure: what must be looked up or asked for is a [`Step`], and the answer is handed in.
//!
//! ```text
//! flags of 2.x given ──────────────────────────────▶ 2.x
//! data of 2.x ─────────────────────────────────────▶ 2.x, of a proxy ─▶ proxy
//! data of 0.4 ── cluster was told to upgrade? ─ yes ▶ 2.x, which converts it     ─ no ▶ 0.4
//! standby of 0.4 ── what do its members speak? ─ 2 ─▶ proxy of them              ─ 1, or silence ▶ 0.4
//! no data ── what do the peers speak that are named? ─ 2, or none are ▶ 2.x      ─ 1 ▶ 0.4
//! ```

use shared::legacy::{StandbyInfo, StandbyMember};

use super::flags::Given;

/// The flags that only 2.x has and whose use says that 2.x is meant.
const FLAGS_OF_2: [&str; 4] = ["initial-cluster", "listen-peer-urls", "listen-client-urls", "proxy"];

/// The value of the key by which a cluster of 0.4 is told to upgrade.
const NEXT: &str = "2";

/// What is in a data directory.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    /// Nothing that a member left.
    Nothing,
    /// A member of 2.x.
    Member,
    /// A proxy of 2.x.
    Proxy,
    /// A member of 0.x, and which version its cluster was told to go on with, if it was.
    Old {
        /// The value of `/_etcd/next-internal-version`.
        next: Option<String>,
    },
    /// A standby of 0.4.
    Standby(StandbyInfo),
}

/// The protocol between members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Internal {
    /// That of 0.x.
    One,
    /// That of 2.x.
    Two,
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The program of 0.4, with everything as it is.
    Old,
    /// This one, as it was told to. Whether there are data, so that nobody must be joined.
    New { has_data: bool },
    /// This one as a proxy; of this cluster, if it was none before.
    Proxy { cluster: Option<String> },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// All is known.
    Start(Verdict),
    /// Ask these client URLs what is spoken there.
    AskMembers(Vec<String>),
    /// Ask the peers that the flags name.
    AskPeers,
}

/// What comes of looking into the data directory.
pub(super) fn step(given: &Given, data: &Data) -> Step {
    if means_2(given) {
        // The words are not touched: they are all for 2.x.
        return Step::Start(Verdict::New { has_data: false });
    }
    match data {
        Data::Member => Step::Start(Verdict::New { has_data: true }),
        Data::Proxy => Step::Start(Verdict::Proxy { cluster: None }),
        Data::Old { next } if next.as_deref() == Some(NEXT) => Step::Start(Verdict::New { has_data: true }),
        Data::Old { .. } => Step::Start(Verdict::Old),
        Data::Standby(info) => Step::AskMembers(client_urls(info)),
        Data::Nothing => Step::AskPeers,
    }
}

/// Whether the flags say that 2.x is meant, whatever the data.
pub(super) fn means_2(given: &Given) -> bool {
    FLAGS_OF_2.iter().any(|name| !given.text(name).is_empty())
}

/// What a standby is, now that its members were asked; `None` if nobody answered. A program of 0.4 goes on asking.
pub(super) fn standby(info: &StandbyInfo, spoken: Option<Internal>) -> Verdict {
    match spoken {
        Some(Internal::Two) => Verdict::Proxy { cluster: Some(initial_cluster(info)) },
        Some(Internal::One) | None => Verdict::Old,
    }
}

fn client_urls(info: &StandbyInfo) -> Vec<String> {
    let url = |member: &StandbyMember| member.client_url.clone();
    info.cluster.iter().map(url).filter(|url| !url.is_empty()).collect()
}

/// A standby's members as `-initial-cluster` has them.
fn initial_cluster(info: &StandbyInfo) -> String {
    let members = info.cluster.iter().filter(|member| !member.peer_url.is_empty());
    members.map(|member| format!("{}={}", member.name, member.peer_url)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(line: &str) -> Given {
        let words: Vec<_> = line.split_whitespace().map(Into::into).collect();
        Given::read(&words).unwrap()
    }

    fn info() -> StandbyInfo {
        let member = |name: &str, port: u16| StandbyMember {
            name: name.into(),
            client_url: format!("http://h:{port}"),
            peer_url: format!("http://h:{}", port + 1),
            ..StandbyMember::default()
        };
        let cluster = vec![member("a", 1), member("b", 3), StandbyMember::default()];
        StandbyInfo { running: true, cluster, ..StandbyInfo::default() }
    }

    #[test]
    fn flags_of_2_decide_whatever_the_data() {
        let old = Data::Old { next: None };
        for flag in
            ["-initial-cluster a=http://h:1", "-listen-peer-urls=x", "--listen-client-urls x", "-proxy off"]
        {
            for data in [&old, &Data::Nothing, &Data::Proxy, &Data::Standby(info())] {
                assert_eq!(
                    step(&given(flag), data),
                    Step::Start(Verdict::New { has_data: false }),
                    "{flag} {data:?}"
                );
            }
        }
        assert_eq!(step(&given("-addr h:1 -peer-addr h:2 -proxy="), &old), Step::Start(Verdict::Old));
    }

    #[test]
    fn data_decide() {
        let start = |data: &Data| match step(&given(""), data) {
            Step::Start(verdict) => verdict,
            other => panic!("{other:?}"),
        };
        let told = |next: Option<&str>| Data::Old { next: next.map(str::to_owned) };
        assert_eq!(start(&Data::Member), Verdict::New { has_data: true });
        assert_eq!(start(&Data::Proxy), Verdict::Proxy { cluster: None });
        assert_eq!(start(&told(Some("2"))), Verdict::New { has_data: true });
        for next in [None, Some("1"), Some("3"), Some("")] {
            assert_eq!(start(&told(next)), Verdict::Old, "{next:?}");
        }
    }

    #[test]
    fn a_standby_follows_its_members() {
        let urls = vec!["http://h:1".to_owned(), "http://h:3".to_owned()];
        assert_eq!(step(&given("-peers x"), &Data::Standby(info())), Step::AskMembers(urls));
        assert_eq!(standby(&info(), None), Verdict::Old);
        assert_eq!(standby(&info(), Some(Internal::One)), Verdict::Old);
        let cluster = Some("a=http://h:2,b=http://h:4".to_owned());
        assert_eq!(standby(&info(), Some(Internal::Two)), Verdict::Proxy { cluster });
    }

    #[test]
    fn without_data_the_peers_are_asked() {
        assert_eq!(step(&given("-discovery http://d/x"), &Data::Nothing), Step::AskPeers);
    }
}
