//! How the original conversion translates each command, and what it gets wrong.

use std::collections::BTreeMap;

use prost::Message as _;
use shared::id::MemberId;
use shared::legacy::{Command, Time};
use shared::pb;
use shared::url::Urls;
use shared::v2::{Request, Verb};

use super::refuse;
use crate::error::MigrateError;
use crate::legacy_replay::below_1;
use crate::registry::Machine;

/// The kind and the data of the entry for a command.
pub(super) fn translate(
    command: &Command<'_>,
    ids: &mut BTreeMap<String, MemberId>,
) -> Result<(i32, Vec<u8>), MigrateError> {
    let request = match command {
        Command::Nop | Command::SetClusterConfig(_) => return Ok((pb::ENTRY_NORMAL, Vec::new())),
        Command::Join(join) => {
            let machine = machine(&join.raft_url, &join.etcd_url)?;
            let id = machine.id();
            ids.insert(join.name.clone().into_owned(), id);
            let context = Some(machine.context(id, &join.name).into());
            let change = pb::ConfChange { id: 0, kind: pb::ADD_NODE, node_id: id.0, context };
            return Ok((pb::ENTRY_CONF_CHANGE, change.encode_to_vec()));
        }
        Command::Remove(remove) => {
            let Some(id) = ids.remove(&*remove.name) else {
                return refuse(format!("removing a node named {} before it joined", remove.name));
            };
            // 2.0 writes an empty context where there is none.
            let context = Some(bytes(""));
            let change = pb::ConfChange { id: 0, kind: pb::REMOVE_NODE, node_id: id.0, context };
            return Ok((pb::ENTRY_CONF_CHANGE, change.encode_to_vec()));
        }
        Command::Set(set) => Request {
            val: bytes(&set.value),
            dir: set.dir == Some(true),
            expiration: seconds(set.expire_time),
            ..request(Verb::Put, &set.key)
        },
        Command::Create(create) => Request {
            val: bytes(&create.value),
            dir: create.dir,
            expiration: seconds(create.expire_time),
            // The original writes true by mistake.
            prev_exist: (!create.unique).then_some(true),
            ..request(if create.unique { Verb::Post } else { Verb::Put }, &create.key)
        },
        Command::Update(update) => Request {
            val: bytes(&update.value),
            prev_exist: Some(true),
            expiration: seconds(update.expire_time),
            ..request(Verb::Put, &update.key)
        },
        Command::Delete(delete) => {
            Request { dir: delete.dir, recursive: delete.recursive, ..request(Verb::Delete, &delete.key) }
        }
        Command::CompareAndSwap(swap) => Request {
            val: bytes(&swap.value),
            prev_value: bytes(&swap.prev_value),
            prev_index: swap.prev_index,
            expiration: seconds(swap.expire_time),
            ..request(Verb::Put, &swap.key)
        },
        Command::CompareAndDelete(delete) => Request {
            prev_value: bytes(&delete.prev_value),
            prev_index: delete.prev_index,
            ..request(Verb::Delete, &delete.key)
        },
        Command::Sync(sync) => {
            Request { verb: Verb::Sync, time: sync.time.unix_nanos().0, ..Request::default() }
        }
        Command::TestAndSet(_) | Command::Get(_) | Command::Watch(_) => {
            return refuse(format!("unregistered command type {}", command.name()));
        }
    };
    Ok((pb::ENTRY_NORMAL, request.encode_to_vec()))
}

fn request(verb: Verb, key: &str) -> Request {
    Request::new(verb, below_1(key))
}

fn bytes(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}

/// Seconds, where 2.0 reads nanoseconds; 0 for none.
fn seconds(time: Time) -> i64 {
    if time.is_zero() { 0 } else { time.unix_seconds() }
}

/// The member of a join.
pub(super) fn machine(peer_url: &str, client_url: &str) -> Result<Machine, MigrateError> {
    if Urls::parse(peer_url).is_err() {
        return refuse(format!("Invalid Raft URL {peer_url} -- this log could never have worked"));
    }
    Ok(Machine { peer_url: peer_url.to_owned(), client_url: client_url.to_owned() })
}

/// Counts what the conversion gets wrong.
#[derive(Default)]
pub(super) struct LossCounts {
    creations: u64,
    expirations: u64,
    settings: u64,
}

impl LossCounts {
    pub(super) fn count(&mut self, command: &Command<'_>) {
        match command {
            Command::Create(create) => {
                self.creations += u64::from(!create.unique);
                self.time(create.expire_time);
            }
            Command::Set(set) => self.time(set.expire_time),
            Command::Update(update) => self.time(update.expire_time),
            Command::CompareAndSwap(swap) => self.time(swap.expire_time),
            Command::SetClusterConfig(_) => self.settings += 1,
            _ => {}
        }
    }

    fn time(&mut self, time: Time) {
        self.expirations += u64::from(time.unix_seconds() > 0);
    }

    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        [
            (self.creations, "creations became updates: a key that is made only by one is lost"),
            (self.expirations, "expirations are written in seconds: the keys become permanent or go at once"),
            (self.settings, "settings of the cluster take no index any more: comparisons by index may fail"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("as with etcd-migrate 2.0.13, {count} {what}"))
    }
}
