//! Decides which version to start. Pure: it returns a [`NextStep`] when other members must be asked, and takes their
//! answer as an argument.
//!
//! ```text
//! flags of 2.x given ──────────────────────────────▶ 2.x
//! data of 2.x ─────────────────────────────────────▶ 2.x, of a proxy ─▶ proxy
//! data of 0.4 ── `etcdctl upgrade` was run? ──── yes ─▶ 2.x, which converts it    ─ no ▶ 0.4
//! standby of 0.4 ── protocol of its members? ─── 2 ───▶ proxy of them             ─ 1, or no answer ▶ 0.4
//! no data ── protocol of the given peers? ────── 2, or no peers given ▶ 2.x       ─ 1 ▶ 0.4
//! ```

use shared::legacy::{StandbyInfo, StandbyMember};

use super::flags::LauncherFlags;

/// Flags that exist only in 2.x: using one selects 2.x.
const FLAGS_OF_2: [&str; 4] = ["initial-cluster", "listen-peer-urls", "listen-client-urls", "proxy"];

/// The value of the next-version key after `etcdctl upgrade`.
const NEXT_VERSION: &str = "2";

/// The content of a data directory.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DataDirContent {
    /// No data of a member.
    Nothing,
    /// A 2.x member.
    Member,
    /// A 2.x proxy.
    Proxy,
    /// A 0.x member, and the next version that was written in its cluster, if any.
    Old {
        /// The value of `/_etcd/next-internal-version`.
        next: Option<String>,
    },
    /// A 0.4 standby.
    Standby(StandbyInfo),
}

/// The protocol between members (0.4's `internalVersion`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The protocol of 0.x.
    One,
    /// The protocol of 2.x.
    Two,
}

/// What to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StartTarget {
    /// The 0.4 program, with unchanged arguments and environment.
    Old,
    /// This server. `has_data`: a member with data does not join anything, so flags for joining are dropped.
    New { has_data: bool },
    /// This server as a proxy; `cluster` is the cluster to use if it was not a proxy before.
    Proxy { cluster: Option<String> },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Start this.
    Start(StartTarget),
    /// Ask the members at these client URLs for their protocol.
    AskMembers(Vec<String>),
    /// Ask the peers given by flags.
    AskPeers,
}

/// The next step, given the flags and the content of the data directory.
pub(super) fn next_step(flags: &LauncherFlags, data: &DataDirContent) -> NextStep {
    if selects_2x(flags) {
        // The arguments stay unchanged: they are all for 2.x.
        return NextStep::Start(StartTarget::New { has_data: false });
    }
    match data {
        DataDirContent::Member => NextStep::Start(StartTarget::New { has_data: true }),
        DataDirContent::Proxy => NextStep::Start(StartTarget::Proxy { cluster: None }),
        DataDirContent::Old { next } if next.as_deref() == Some(NEXT_VERSION) => {
            NextStep::Start(StartTarget::New { has_data: true })
        }
        DataDirContent::Old { .. } => NextStep::Start(StartTarget::Old),
        DataDirContent::Standby(info) => NextStep::AskMembers(client_urls(info)),
        DataDirContent::Nothing => NextStep::AskPeers,
    }
}

/// Whether the flags select 2.x, independent of the data.
pub(super) fn selects_2x(flags: &LauncherFlags) -> bool {
    FLAGS_OF_2.iter().any(|name| !flags.value_of(name).is_empty())
}

/// What to start for a standby, given its members' protocol; `None` if no member answered. A 0.4 standby keeps asking.
pub(super) fn standby_target(info: &StandbyInfo, protocol: Option<Protocol>) -> StartTarget {
    match protocol {
        Some(Protocol::Two) => StartTarget::Proxy { cluster: Some(initial_cluster(info)) },
        Some(Protocol::One) | None => StartTarget::Old,
    }
}

fn client_urls(info: &StandbyInfo) -> Vec<String> {
    let url = |member: &StandbyMember| member.client_url.clone();
    info.cluster.iter().map(url).filter(|url| !url.is_empty()).collect()
}

/// A standby's members in the form of `-initial-cluster`.
fn initial_cluster(info: &StandbyInfo) -> String {
    let members = info.cluster.iter().filter(|member| !member.peer_url.is_empty());
    members.map(|member| format!("{}={}", member.name, member.peer_url)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> LauncherFlags {
        let words: Vec<_> = line.split_whitespace().map(Into::into).collect();
        LauncherFlags::read(&words).unwrap()
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
        let old = DataDirContent::Old { next: None };
        for flag in
            ["-initial-cluster a=http://h:1", "-listen-peer-urls=x", "--listen-client-urls x", "-proxy off"]
        {
            for data in
                [&old, &DataDirContent::Nothing, &DataDirContent::Proxy, &DataDirContent::Standby(info())]
            {
                assert_eq!(
                    next_step(&flags(flag), data),
                    NextStep::Start(StartTarget::New { has_data: false }),
                    "{flag} {data:?}"
                );
            }
        }
        assert_eq!(
            next_step(&flags("-addr h:1 -peer-addr h:2 -proxy="), &old),
            NextStep::Start(StartTarget::Old)
        );
    }

    #[test]
    fn data_decide() {
        let start = |data: &DataDirContent| match next_step(&flags(""), data) {
            NextStep::Start(target) => target,
            other => panic!("{other:?}"),
        };
        let told = |next: Option<&str>| DataDirContent::Old { next: next.map(str::to_owned) };
        assert_eq!(start(&DataDirContent::Member), StartTarget::New { has_data: true });
        assert_eq!(start(&DataDirContent::Proxy), StartTarget::Proxy { cluster: None });
        assert_eq!(start(&told(Some("2"))), StartTarget::New { has_data: true });
        for next in [None, Some("1"), Some("3"), Some("")] {
            assert_eq!(start(&told(next)), StartTarget::Old, "{next:?}");
        }
    }

    #[test]
    fn a_standby_follows_its_members() {
        let urls = vec!["http://h:1".to_owned(), "http://h:3".to_owned()];
        assert_eq!(
            next_step(&flags("-peers x"), &DataDirContent::Standby(info())),
            NextStep::AskMembers(urls)
        );
        assert_eq!(standby_target(&info(), None), StartTarget::Old);
        assert_eq!(standby_target(&info(), Some(Protocol::One)), StartTarget::Old);
        let cluster = Some("a=http://h:2,b=http://h:4".to_owned());
        assert_eq!(standby_target(&info(), Some(Protocol::Two)), StartTarget::Proxy { cluster });
    }

    #[test]
    fn without_data_the_peers_are_asked() {
        assert_eq!(next_step(&flags("-discovery http://d/x"), &DataDirContent::Nothing), NextStep::AskPeers);
    }
}
