//! The commands in the entries of the log: JSON, in every form that etcd 0.1 to 0.4 wrote.
//!
//! | name | since | fields |
//! |---|---|---|
//! | `raft:nop` | 0.1 | none |
//! | `etcd:join` | 0.1 | name, raftURL, etcdURL; raftVersion (0.1) or minVersion, maxVersion (0.2) |
//! | `etcd:remove` | 0.1 | name |
//! | `etcd:setClusterConfig` | 0.4 | config {activeSize, removeDelay, syncInterval} |
//! | `etcd:set` | 0.1 | key, value, expireTime; dir (0.2) |
//! | `etcd:create` | 0.2 | key, value, expireTime, unique, dir |
//! | `etcd:update` | 0.2 | key, value, expireTime |
//! | `etcd:delete` | 0.1 | key; recursive, dir (0.2) |
//! | `etcd:testAndSet` | 0.1 only | key, value, PrevValue, expireTime |
//! | `etcd:compareAndSwap` | 0.2 | key, value, expireTime, prevValue, prevIndex |
//! | `etcd:compareAndDelete` | 0.3 | key, prevValue, prevIndex |
//! | `etcd:sync` | 0.2 | time |
//! | `etcd:get` | 0.1, 0.4.6 | key; recursive, Sorted (0.4.6) |
//! | `etcd:watch` | 0.1 only | key, sinceIndex |
//!
//! An unknown field is refused, and so is a missing one that all versions wrote: the log has no checksum, and Go's
//! decoder would take a damaged name for an empty value.

use std::borrow::Cow;

use serde::Deserialize;

use super::Time;

/// A command of the log. Borrows from the entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Command<'a> {
    /// A leader's first entry.
    Nop,
    /// A member joins, for the first time or again.
    Join(Join<'a>),
    /// A member is removed.
    Remove(Remove<'a>),
    /// The cluster's settings.
    SetClusterConfig(ClusterConfig),
    /// Makes or replaces a key, or makes a directory.
    Set(Set<'a>),
    /// Makes a node that must not exist.
    Create(Create<'a>),
    /// Changes a node that must exist.
    Update(Update<'a>),
    /// Removes a node.
    Delete(Delete<'a>),
    /// Changes a key that has a value, as 0.1 did it.
    TestAndSet(TestAndSet<'a>),
    /// Changes a key that has a value or an index.
    CompareAndSwap(CompareAndSwap<'a>),
    /// Removes a key that has a value or an index.
    CompareAndDelete(CompareAndDelete<'a>),
    /// The leader's clock: expired keys are removed.
    Sync(Sync),
    /// A read through the log.
    Get(Get<'a>),
    /// A watch through the log; it changed nothing.
    Watch(Watch<'a>),
}

/// `etcd:join`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join<'a> {
    /// The member's name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Where other members reach it.
    #[serde(rename = "raftURL", borrow)]
    pub raft_url: Cow<'a, str>,
    /// Where clients reach it.
    #[serde(rename = "etcdURL", borrow)]
    pub etcd_url: Cow<'a, str>,
    /// The version of 0.1, such as `v0.1.2`; later ones have none.
    #[serde(rename = "raftVersion", borrow)]
    pub raft_version: Option<Cow<'a, str>>,
    /// The lowest version of the store that it speaks; none in 0.1.
    #[serde(rename = "minVersion")]
    pub min_version: Option<i64>,
    /// The highest version of the store that it speaks; none in 0.1.
    #[serde(rename = "maxVersion")]
    pub max_version: Option<i64>,
}

/// `etcd:remove`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remove<'a> {
    /// The member's name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
}

/// The settings of a cluster of 0.4.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// How many machines may be members; the others are standbys.
    #[serde(rename = "activeSize")]
    pub active_size: i64,
    /// After how many seconds of silence a member becomes a standby.
    #[serde(rename = "removeDelay")]
    pub remove_delay: f64,
    /// How often a standby looks at the cluster, in seconds.
    #[serde(rename = "syncInterval")]
    pub sync_interval: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetClusterConfig {
    config: ClusterConfig,
}

/// `etcd:set`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set<'a> {
    /// The key, with or without a slash before it.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The value.
    #[serde(borrow)]
    pub value: Cow<'a, str>,
    /// When it expires.
    #[serde(rename = "expireTime")]
    pub expire_time: Time,
    /// Whether it is a directory; 0.1 does not say.
    pub dir: Option<bool>,
}

/// `etcd:create`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create<'a> {
    /// The key, or with `unique` the directory of it.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The value.
    #[serde(borrow)]
    pub value: Cow<'a, str>,
    /// When it expires.
    #[serde(rename = "expireTime")]
    pub expire_time: Time,
    /// Whether the store chooses the name: its next index.
    pub unique: bool,
    /// Whether it is a directory.
    #[serde(default)]
    pub dir: bool,
}

/// `etcd:update`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The new value.
    #[serde(borrow)]
    pub value: Cow<'a, str>,
    /// When it expires.
    #[serde(rename = "expireTime")]
    pub expire_time: Time,
}

/// `etcd:delete`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// Whether a directory may go with all below it.
    #[serde(default)]
    pub recursive: bool,
    /// Whether it may be a directory.
    #[serde(default)]
    pub dir: bool,
}

/// `etcd:testAndSet`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestAndSet<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The new value.
    #[serde(borrow)]
    pub value: Cow<'a, str>,
    /// The value that it must have; empty also for a key that is not there.
    #[serde(rename = "PrevValue", alias = "prevValue", borrow)]
    pub prev_value: Cow<'a, str>,
    /// When it expires.
    #[serde(rename = "expireTime")]
    pub expire_time: Time,
}

/// `etcd:compareAndSwap`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareAndSwap<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The new value.
    #[serde(borrow)]
    pub value: Cow<'a, str>,
    /// When it expires.
    #[serde(rename = "expireTime")]
    pub expire_time: Time,
    /// The value that it must have, unless empty.
    #[serde(rename = "prevValue", borrow)]
    pub prev_value: Cow<'a, str>,
    /// The modified index that it must have, unless 0.
    #[serde(rename = "prevIndex")]
    pub prev_index: u64,
}

/// `etcd:compareAndDelete`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareAndDelete<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The value that it must have, unless empty.
    #[serde(rename = "prevValue", borrow)]
    pub prev_value: Cow<'a, str>,
    /// The modified index that it must have, unless 0.
    #[serde(rename = "prevIndex")]
    pub prev_index: u64,
}

/// `etcd:sync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// The leader's clock.
    pub time: Time,
}

/// `etcd:get`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Get<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// With all below it.
    #[serde(default)]
    pub recursive: bool,
    /// In the order of the names. (0.4's declaration has a typing error, so the name has a capital.)
    #[serde(rename = "Sorted", alias = "sorted", default)]
    pub sorted: bool,
}

/// `etcd:watch`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch<'a> {
    /// The key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The first index of interest.
    #[serde(rename = "sinceIndex")]
    pub since_index: u64,
}

/// Why a command cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// No etcd wrote such a command into its log.
    #[error("no etcd from 0.1 to 0.4 knows the command {name:?}")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// Its text is not the JSON that belongs to it.
    #[error("the text of {name} is not what etcd writes: {problem}")]
    Text {
        /// The command's name.
        name: &'static str,
        /// What the JSON reader says.
        problem: String,
    },
}

/// The names of all commands.
pub const NAMES: [&str; 14] = [
    "raft:nop",
    "etcd:join",
    "etcd:remove",
    "etcd:setClusterConfig",
    "etcd:set",
    "etcd:create",
    "etcd:update",
    "etcd:delete",
    "etcd:testAndSet",
    "etcd:compareAndSwap",
    "etcd:compareAndDelete",
    "etcd:sync",
    "etcd:get",
    "etcd:watch",
];

impl<'a> Command<'a> {
    /// Decodes the command of an entry.
    ///
    /// # Errors
    /// Where the name is unknown or the text is not that of this command.
    pub fn decode(name: &[u8], text: &'a [u8]) -> Result<Command<'a>, CommandError> {
        let unknown = || CommandError::Unknown { name: String::from_utf8_lossy(name).into_owned() };
        let name = *NAMES.iter().find(|known| known.as_bytes() == name).ok_or_else(unknown)?;
        Ok(match name {
            "raft:nop" if text.is_empty() => Command::Nop,
            "raft:nop" => return Err(CommandError::Text { name, problem: "it has none".to_owned() }),
            "etcd:join" => Command::Join(parse(name, text)?),
            "etcd:remove" => Command::Remove(parse(name, text)?),
            "etcd:setClusterConfig" => {
                Command::SetClusterConfig(parse::<SetClusterConfig>(name, text)?.config)
            }
            "etcd:set" => Command::Set(parse(name, text)?),
            "etcd:create" => Command::Create(parse(name, text)?),
            "etcd:update" => Command::Update(parse(name, text)?),
            "etcd:delete" => Command::Delete(parse(name, text)?),
            "etcd:testAndSet" => Command::TestAndSet(parse(name, text)?),
            "etcd:compareAndSwap" => Command::CompareAndSwap(parse(name, text)?),
            "etcd:compareAndDelete" => Command::CompareAndDelete(parse(name, text)?),
            "etcd:sync" => Command::Sync(parse(name, text)?),
            "etcd:get" => Command::Get(parse(name, text)?),
            "etcd:watch" => Command::Watch(parse(name, text)?),
            _ => return Err(unknown()),
        })
    }

    /// The name under which it stands in the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAMES[match self {
            Command::Nop => 0,
            Command::Join(_) => 1,
            Command::Remove(_) => 2,
            Command::SetClusterConfig(_) => 3,
            Command::Set(_) => 4,
            Command::Create(_) => 5,
            Command::Update(_) => 6,
            Command::Delete(_) => 7,
            Command::TestAndSet(_) => 8,
            Command::CompareAndSwap(_) => 9,
            Command::CompareAndDelete(_) => 10,
            Command::Sync(_) => 11,
            Command::Get(_) => 12,
            Command::Watch(_) => 13,
        }]
    }
}

fn parse<'a, T: Deserialize<'a>>(name: &'static str, text: &'a [u8]) -> Result<T, CommandError> {
    // serde_json bounds its own recursion, and no command nests.
    serde_json::from_slice(text).map_err(|error| CommandError::Text { name, problem: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<'a>(name: &str, text: &'a str) -> Command<'a> {
        let command = Command::decode(name.as_bytes(), text.as_bytes()).unwrap();
        assert_eq!(command.name(), name);
        command
    }

    #[test]
    fn commands_of_0_4() {
        let never = "\"expireTime\":\"0001-01-01T00:00:00Z\"";
        let join = decode(
            "etcd:join",
            "{\"minVersion\":2,\"maxVersion\":2,\"name\":\"o1\",\"raftURL\":\"http://a:1\",\"etcdURL\":\"http://a:2\"}\n",
        );
        let Command::Join(join) = join else { panic!("{join:?}") };
        assert_eq!((&*join.name, &*join.raft_url, &*join.etcd_url), ("o1", "http://a:1", "http://a:2"));
        assert_eq!((join.min_version, join.raft_version), (Some(2), None));
        let text = format!("{{\"key\":\"/\\u003c\",\"value\":\"\\n\",{never},\"dir\":false}}\n");
        let Command::Set(set) = decode("etcd:set", &text) else { panic!() };
        assert_eq!((&*set.key, &*set.value, set.dir), ("/<", "\n", Some(false)));
        assert!(set.expire_time.is_zero());
        let text = format!("{{\"key\":\"/q\",\"value\":\"x\",{never},\"unique\":true,\"dir\":false}}\n");
        assert!(matches!(decode("etcd:create", &text), Command::Create(Create { unique: true, .. })));
        let text = format!("{{\"key\":\"/q\",\"value\":\"x\",{never},\"prevValue\":\"\",\"prevIndex\":7}}\n");
        let Command::CompareAndSwap(swap) = decode("etcd:compareAndSwap", &text) else { panic!() };
        assert_eq!((&*swap.prev_value, swap.prev_index), ("", 7));
        let text = "{\"key\":\"/n\",\"recursive\":true,\"dir\":false}\n";
        assert!(matches!(decode("etcd:delete", text), Command::Delete(Delete { recursive: true, .. })));
        let text = "{\"config\":{\"activeSize\":9,\"removeDelay\":1800,\"syncInterval\":5}}\n";
        let config = ClusterConfig { active_size: 9, remove_delay: 1800.0, sync_interval: 5.0 };
        assert_eq!(decode("etcd:setClusterConfig", text), Command::SetClusterConfig(config));
        let text = "{\"key\":\"/a\",\"recursive\":false,\"Sorted\":true}\n";
        assert!(matches!(decode("etcd:get", text), Command::Get(Get { sorted: true, .. })));
        assert!(matches!(
            decode("etcd:sync", "{\"time\":\"2026-11-21T08:05:09.29781254Z\"}\n"),
            Command::Sync(_)
        ));
        assert_eq!(decode("raft:nop", ""), Command::Nop);
    }

    #[test]
    fn commands_of_0_1() {
        let text = "{\"raftVersion\":\"v0.1.2\",\"name\":\"old\",\"raftURL\":\"http://a:1\",\"etcdURL\":\"http://a:2\"}\n";
        let Command::Join(join) = decode("etcd:join", text) else { panic!() };
        assert_eq!(join.raft_version.as_deref(), Some("v0.1.2"));
        let text =
            "{\"key\":\"m\",\"value\":\"v\",\"PrevValue\":\"p\",\"expireTime\":\"1970-01-01T00:00:00Z\"}\n";
        let Command::TestAndSet(swap) = decode("etcd:testAndSet", text) else { panic!() };
        assert_eq!((&*swap.prev_value, swap.expire_time.unix_seconds()), ("p", 0));
        let text = "{\"key\":\"m\",\"value\":\"v\",\"expireTime\":\"1970-01-01T00:00:00Z\"}\n";
        assert!(matches!(decode("etcd:set", text), Command::Set(Set { dir: None, .. })));
        assert!(matches!(decode("etcd:delete", "{\"key\":\"m\"}\n"), Command::Delete(_)));
        assert!(matches!(decode("etcd:watch", "{\"key\":\"m\",\"sinceIndex\":4}\n"), Command::Watch(_)));
    }

    #[test]
    fn what_no_etcd_wrote_is_refused() {
        let refused = |name: &str, text: &str| Command::decode(name.as_bytes(), text.as_bytes()).unwrap_err();
        for (name, text) in [
            ("etcd:sett", "{}"),
            ("raft:join", "{\"name\":\"a\",\"connectionString\":\"\"}"),
            ("raft:nop", "{}"),
            ("etcd:delete", ""),
            ("etcd:delete", "{\"kex\":\"/a\",\"recursive\":false,\"dir\":false}"),
            ("etcd:delete", "{\"key\":\"/a\",\"recursive\":false,\"dir\":false} x"),
            ("etcd:remove", "{\"name\":7}"),
            ("etcd:sync", "{\"time\":\"now\"}"),
            ("etcd:set", "{\"key\":\"/a\",\"value\":\"\\ud800\",\"expireTime\":\"0001-01-01T00:00:00Z\"}"),
        ] {
            let error = refused(name, text).to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
