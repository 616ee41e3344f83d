//! The members of the cluster in the database. The v2 tree has them too, and is what counts.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use serde::Serialize;
use shared::mvcc::db::{Bucket, Committed, Database};
use shared::version::Level;

use super::V3;
use super::meta::{self, OpenError};
use crate::member::{MemberInfo, Membership};

/// A member in the bucket `members`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

/// The voters in the bucket `meta`, since 3.5.
#[derive(Serialize)]
struct ConfState {
    voters: Vec<u64>,
    auto_leave: bool,
}

fn record(member: &MemberInfo) -> Vec<u8> {
    let record = Record {
        id: member.id.0,
        peer_urls: &member.peer_urls,
        name: &member.name,
        client_urls: &member.client_urls,
    };
    // A struct of texts and numbers always has a form in JSON.
    shared::json::to_vec(&record).unwrap_or_default()
}

/// The members that a database holds.
pub(super) fn read<C: Committed>(database: &Database<C>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, OpenError> {
    let mut members = BTreeMap::new();
    let scanned = database.view().scan(Bucket::Members, b"", None, &mut |key, value| {
        members.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    });
    scanned.map_err(OpenError::database)?;
    Ok(members)
}

impl<C: Committed> V3<C> {
    /// Writes the members as they are after an entry. The entry may be older than the database: then the later entries
    /// lead to the members that it has.
    pub(crate) fn follow_members(&mut self, membership: &Membership, voters: &[u64]) {
        let wanted: BTreeMap<Vec<u8>, Vec<u8>> = membership
            .members
            .values()
            .map(|member| (format!("{:x}", member.id.0).into_bytes(), record(member)))
            .collect();
        let database = self.store.database_mut();
        for key in self.members.keys().filter(|key| !wanted.contains_key(*key)) {
            database.delete(Bucket::Members, key);
        }
        for (key, json) in wanted.iter().filter(|(key, json)| self.members.get(*key) != Some(json)) {
            database.put(Bucket::Members, key, Bytes::copy_from_slice(json));
        }
        for id in &membership.removed {
            database.put(
                Bucket::MembersRemoved,
                format!("{:x}", id.0).as_bytes(),
                Bytes::from_static(b"removed"),
            );
        }
        if let Some(version) = &membership.version {
            database.put(Bucket::Cluster, b"clusterVersion", Bytes::copy_from_slice(version.as_bytes()));
        }
        if self.level >= Level::V3_5 {
            let state = ConfState { voters: voters.to_vec(), auto_leave: false };
            database.put(Bucket::Meta, meta::VOTERS, shared::json::to_vec(&state).unwrap_or_default().into());
        }
        self.members = wanted;
    }
}
