//! The members, after joins and removals as etcd 0.x applied them. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use shared::id::MemberId;
use shared::legacy::command::{ClusterConfig, Join};
use shared::store::Store;
use shared::url::Urls;

use crate::error::MigrateError;

/// The most members of a cluster whose settings were never changed.
const ACTIVE_SIZE_DEFAULT: i64 = 9;
/// 0.4 raises lower settings to this.
const ACTIVE_SIZE_MIN: i64 = 3;
/// The token that member ids are made with: 0.x clusters have none.
const TOKEN: &str = "etcd-cluster";
/// Where 0.x keeps its members, as a path of 2.x.
pub(crate) const MACHINES: &str = "/1/_etcd/machines";

/// A member's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) peer_url: String,
    pub(crate) client_url: String,
}

impl Machine {
    /// The id that 2.x gives a member with this address. Each member of a cluster computes it independently.
    pub(crate) fn id(&self) -> MemberId {
        MemberId::compute(std::slice::from_ref(&self.peer_url), TOKEN, None)
    }

    /// The value of its key below [`MACHINES`].
    pub(crate) fn query(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new())
            .append_pair("etcd", &self.client_url)
            .append_pair("raft", &self.peer_url)
            .finish()
    }

    fn from_query(value: &[u8]) -> Machine {
        let mut machine = Machine { peer_url: String::new(), client_url: String::new() };
        for (name, value) in url::form_urlencoded::parse(value) {
            match &*name {
                "raft" => machine.peer_url = value.into_owned(),
                "etcd" => machine.client_url = value.into_owned(),
                _ => {}
            }
        }
        machine
    }

    /// `/0/members/ID/raftAttributes`.
    pub(crate) fn raft_attributes(&self) -> Vec<u8> {
        json(&RaftAttributes { peer_urls: [&self.peer_url] })
    }

    /// `/0/members/ID/attributes`.
    pub(crate) fn attributes(&self, name: &str) -> Vec<u8> {
        json(&Attributes { name, client_urls: [&self.client_url] })
    }

    /// The context of a configuration change about the member.
    pub(crate) fn context(&self, id: MemberId, name: &str) -> Vec<u8> {
        json(&Context { id: id.0, peer_urls: [&self.peer_url], name, client_urls: [&self.client_url] })
    }
}

#[derive(Serialize)]
struct RaftAttributes<'a> {
    #[serde(rename = "peerURLs")]
    peer_urls: [&'a str; 1],
}

#[derive(Serialize)]
struct Attributes<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs")]
    client_urls: [&'a str; 1],
}

#[derive(Serialize)]
struct Context<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: [&'a str; 1],
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs")]
    client_urls: [&'a str; 1],
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    match shared::json::to_vec(value) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("strings and numbers are always JSON: {error}"),
    }
}

/// The result of a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum JoinOutcome {
    /// A new member.
    Added(Machine),
    /// A known member came back with another peer URL. Its client URL stays, as in 0.4.
    Moved {
        /// Its id with the old URL.
        from: MemberId,
        /// Its new addresses.
        to: Machine,
    },
    /// A known member came back.
    Known,
    /// 0.4 refused it: the cluster is full, or another member has that peer URL.
    Refused,
}

/// The members by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registry {
    machines: BTreeMap<String, Machine>,
    active_size: i64,
    /// Whether the log or the snapshot has set the limit.
    is_configured: bool,
}

impl Default for Registry {
    fn default() -> Registry {
        Registry { machines: BTreeMap::new(), active_size: ACTIVE_SIZE_DEFAULT, is_configured: false }
    }
}

impl Registry {
    /// The members in a 0.x store that was recovered below `/1`.
    pub(crate) fn from_store(store: &Store) -> Registry {
        let mut registry = Registry::default();
        if let Ok(event) = store.get(MACHINES.as_bytes(), false, false) {
            for child in event.node().children() {
                if let (Ok(name), Some(value)) = (std::str::from_utf8(child.name()), child.value()) {
                    registry.machines.insert(name.to_owned(), Machine::from_query(value));
                }
            }
        }
        let config = store.get(b"/1/_etcd/config", false, false).ok();
        let config = config.as_ref().and_then(|event| event.node().value());
        if let Some(config) = config.and_then(|text| serde_json::from_slice::<ClusterConfig>(text).ok()) {
            registry.active_size = config.active_size;
            registry.is_configured = true;
        }
        registry
    }

    /// Raises the limit to at least `members`, unless it was set: in 0.2 the limit was a flag, so only the number of
    /// members in `conf` shows what it was.
    pub(crate) fn raise_active_size(&mut self, members: usize) {
        if !self.is_configured {
            self.active_size = self.active_size.max(i64::try_from(members).unwrap_or(i64::MAX));
        }
    }

    /// The members by name.
    pub(crate) fn machines(&self) -> &BTreeMap<String, Machine> {
        &self.machines
    }

    /// The name of the only member, if there is just one.
    pub(crate) fn sole(&self) -> Option<&str> {
        match self.machines.len() {
            1 => self.machines.keys().next().map(String::as_str),
            _ => None,
        }
    }

    /// Applies the join of a machine.
    pub(crate) fn join(&mut self, join: &Join<'_>) -> JoinOutcome {
        if let Some(known) = self.machines.get_mut(&*join.name) {
            if known.peer_url == join.raft_url {
                return JoinOutcome::Known;
            }
            let from = known.id();
            known.peer_url = join.raft_url.clone().into_owned();
            return JoinOutcome::Moved { from, to: known.clone() };
        }
        // Names that begin with `_` are hidden, and 0.x does not count hidden nodes.
        let visible = self.machines.iter().filter(|(name, _)| !name.starts_with('_'));
        let taken = visible.clone().any(|(_, machine)| machine.peer_url == join.raft_url);
        let count = i64::try_from(visible.count()).unwrap_or(i64::MAX);
        if join.name.is_empty() || taken || count > 0 && count >= self.active_size {
            return JoinOutcome::Refused;
        }
        let machine = Machine {
            peer_url: join.raft_url.clone().into_owned(),
            client_url: join.etcd_url.clone().into_owned(),
        };
        self.machines.insert(join.name.clone().into_owned(), machine.clone());
        JoinOutcome::Added(machine)
    }

    /// Removes a member; `None` if no member has the name.
    pub(crate) fn remove(&mut self, name: &str) -> Option<Machine> {
        self.machines.remove(name)
    }

    /// Changes the settings; returns them in the form in which 0.4 stores them.
    pub(crate) fn configure(&mut self, config: ClusterConfig) -> String {
        self.active_size = config.active_size.max(ACTIVE_SIZE_MIN);
        self.is_configured = true;
        let (remove_delay, sync_interval) = (config.remove_delay.max(2.0), config.sync_interval.max(1.0));
        format!(
            "{{\"activeSize\":{},\"removeDelay\":{remove_delay},\"syncInterval\":{sync_interval}}}",
            self.active_size
        )
    }

    /// Whether 2.x can use the addresses of all members.
    ///
    /// # Errors
    /// Names the first member whose address it cannot use.
    pub(crate) fn check_urls(&self) -> Result<(), MigrateError> {
        for (name, machine) in &self.machines {
            Urls::parse(&machine.peer_url).map_err(|problem| MigrateError::Url {
                name: name.clone(),
                url: machine.peer_url.clone(),
                problem: problem.to_string(),
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(name: &'static str, url: &'static str) -> Join<'static> {
        Join {
            name: name.into(),
            raft_url: url.into(),
            etcd_url: "http://client:1".into(),
            raft_version: None,
            min_version: Some(2),
            max_version: Some(2),
        }
    }

    #[test]
    fn joins_as_0_4_took_them() {
        let mut registry = Registry::default();
        assert!(matches!(registry.join(&join("a", "http://a:1")), JoinOutcome::Added(_)));
        assert_eq!(registry.sole(), Some("a"));
        assert_eq!(registry.join(&join("a", "http://a:1")), JoinOutcome::Known);
        assert_eq!(registry.join(&join("b", "http://a:1")), JoinOutcome::Refused, "the URL is taken");
        assert!(matches!(registry.join(&join("b", "http://b:1")), JoinOutcome::Added(_)));
        let JoinOutcome::Moved { from, to } = registry.join(&join("b", "http://b:2")) else { panic!() };
        assert!(from != to.id() && registry.machines()["b"].id() == to.id());
        let config = ClusterConfig { active_size: 1, remove_delay: 0.5, sync_interval: 1800.0 };
        let text = registry.configure(config);
        assert_eq!(text, r#"{"activeSize":3,"removeDelay":2,"syncInterval":1800}"#);
        assert!(matches!(registry.join(&join("c", "http://c:1")), JoinOutcome::Added(_)));
        assert_eq!(registry.join(&join("d", "http://d:1")), JoinOutcome::Refused, "the cluster is full");
        assert!(registry.remove("a").is_some() && registry.remove("a").is_none());
        assert!(matches!(registry.join(&join("d", "http://d:1")), JoinOutcome::Added(_)));
    }

    #[test]
    fn a_limit_of_0_2_is_known_by_its_members_only() {
        let names: Vec<&'static str> = vec!["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let urls = [
            "http://a:1",
            "http://b:1",
            "http://c:1",
            "http://d:1",
            "http://e:1",
            "http://f:1",
            "http://g:1",
            "http://h:1",
            "http://i:1",
            "http://j:1",
        ];
        let fill = |registry: &mut Registry| {
            names.iter().zip(urls).for_each(|(name, url)| drop(registry.join(&join(name, url))));
            registry.machines().len()
        };
        assert_eq!(fill(&mut Registry::default()), 9);
        let mut told = Registry::default();
        told.raise_active_size(10);
        assert_eq!(fill(&mut told), 10);
        let mut set = Registry::default();
        set.configure(ClusterConfig { active_size: 4, remove_delay: 2.0, sync_interval: 1.0 });
        set.raise_active_size(10);
        assert_eq!(fill(&mut set), 4);
    }

    #[test]
    fn ids_and_texts_are_those_of_2_0() {
        let machine = Machine {
            peer_url: "http://localhost:22632".to_owned(),
            client_url: "http://localhost:22631".to_owned(),
        };
        assert_eq!(machine.id().to_string(), "63ab4153b1509f63");
        assert_eq!(
            machine.query(),
            "etcd=http%3A%2F%2Flocalhost%3A22631&raft=http%3A%2F%2Flocalhost%3A22632"
        );
        assert_eq!(Machine::from_query(machine.query().as_bytes()), machine);
        // As 0.1 wrote it.
        let old = b"raft=http://localhost:22632&etcd=http://localhost:22631&raftVersion=v0.1.2";
        assert_eq!(Machine::from_query(old), machine);
        assert_eq!(machine.attributes("o1"), br#"{"name":"o1","clientURLs":["http://localhost:22631"]}"#);
        assert_eq!(machine.raft_attributes(), br#"{"peerURLs":["http://localhost:22632"]}"#);
    }

    #[test]
    fn addresses_that_2_x_cannot_use_are_told() {
        let mut registry = Registry::default();
        registry.join(&join("a", "localhost"));
        let error = registry.check_urls().unwrap_err().to_string();
        assert!(error.contains("member a has the peer URL \"localhost\""), "{error}");
    }
}
