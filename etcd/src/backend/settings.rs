//! The cluster-wide settings of 0.4.
//!
//! They are stored as in 0.4, in a hidden key, so that all members and a migrated cluster have them. This server has
//! no standbys: it uses only the remove delay, and only with `-remove-dead-members`.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use shared::store::Store;
use shared::{json, v2};

use super::Backend;
use crate::go_json::{self, Number, number};

/// The key of the settings in the store.
const CONFIG: &[u8] = b"/1/_etcd/config";

/// The cluster-wide settings of 0.4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ClusterConfig {
    /// The most members; further ones are standbys.
    active_size: f64,
    /// Seconds of silence after which a member becomes a standby.
    remove_delay: f64,
    /// Seconds between two requests of a standby to the cluster.
    sync_interval: f64,
}

impl Default for ClusterConfig {
    fn default() -> ClusterConfig {
        ClusterConfig { active_size: 9.0, remove_delay: 1800.0, sync_interval: 5.0 }
    }
}

impl ClusterConfig {
    /// These settings, changed by `members` and raised to their least values.
    pub(crate) fn with(self, members: &serde_json::Map<String, Value>) -> ClusterConfig {
        let given = |name, otherwise| members.get(name).and_then(Value::as_f64).unwrap_or(otherwise);
        ClusterConfig {
            active_size: given("activeSize", self.active_size).trunc().max(3.0),
            remove_delay: given("removeDelay", self.remove_delay).max(2.0),
            sync_interval: given("syncInterval", self.sync_interval).max(1.0),
        }
    }

    /// The current settings.
    pub(crate) fn read<B: Backend>(backend: &B) -> ClusterConfig {
        ClusterConfig::of(&backend.store())
    }

    fn of(store: &Store) -> ClusterConfig {
        let event = store.get(CONFIG, false, false).ok();
        let text = event.as_ref().and_then(|event| event.node().value());
        match text.map(go_json::first_object) {
            Some(Ok(members)) => ClusterConfig::default().with(&members),
            _ => ClusterConfig::default(),
        }
    }

    /// The settings as JSON in 0.4's form.
    pub(crate) fn to_json(self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Form {
            active_size: Number,
            remove_delay: Number,
            sync_interval: Number,
        }
        let form = Form {
            active_size: number(self.active_size),
            remove_delay: number(self.remove_delay),
            sync_interval: number(self.sync_interval),
        };
        // Numbers can always be written.
        json::to_vec(&form).unwrap_or_default()
    }

    /// The request that stores the settings.
    pub(crate) fn request(self) -> v2::Request {
        v2::Request {
            verb: v2::Verb::Put,
            path: Bytes::from_static(CONFIG),
            val: self.to_json().into(),
            ..v2::Request::default()
        }
    }
}

/// The time of silence after which a member is removed, according to the cluster's settings.
pub(crate) fn remove_delay(store: &Store) -> Duration {
    Duration::try_from_secs_f64(ClusterConfig::of(store).remove_delay).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_taken_by_their_exact_names_and_held_above_the_least() {
        let with = |text: &str| {
            let members = go_json::first_object(text.as_bytes()).unwrap();
            String::from_utf8(ClusterConfig::default().with(&members).to_json()).unwrap()
        };
        assert_eq!(with("{}"), r#"{"activeSize":9,"removeDelay":1800,"syncInterval":5}"#);
        assert_eq!(
            with(r#"{"activeSize":5.9,"removeDelay":2.5,"ActiveSize":7}"#),
            r#"{"activeSize":5,"removeDelay":2.5,"syncInterval":5}"#
        );
        assert_eq!(
            with(r#"{"activeSize":-1,"removeDelay":0,"syncInterval":0.1}"#),
            r#"{"activeSize":3,"removeDelay":2,"syncInterval":1}"#
        );
        assert_eq!(with(r#"{"activeSize":"5"}"#), r#"{"activeSize":9,"removeDelay":1800,"syncInterval":5}"#);
    }
}
