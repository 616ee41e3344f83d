//! Applies an entry as 0.x did, and converts it into an entry of 2.x. Pure.
//!
//! The keys are below `/1` and the members, as in 0.x, below `/1/_etcd/machines`, so that every index is that of 0.x.
//! Only the image for the new snapshot has the members where 2.x has them.
//!
//! The converted entry depends only on the entry and the state before it, so all members produce the same.

use std::collections::BTreeMap;

use prost::Message as _;
use shared::id::MemberId;
use shared::legacy::command::{CompareAndSwap, Create, Join, TestAndSet};
use shared::legacy::{Command, Time};
use shared::pb;
use shared::store::{Expiry, Image, Store, clean_path};
use shared::time::UnixNanos;
use shared::v2::{Request, Verb};

use crate::registry::{JoinOutcome, MACHINES, Registry};

/// New nodes with an earlier expiration never expire, in 0.x as in 2.x: 0.1 wrote the start of 1970 for "never".
const EXPIRATION_MIN: UnixNanos = UnixNanos(946_684_800_000_000_000);
/// One event: a watch from an earlier index gets the error that its events are gone.
pub(crate) const HISTORY: usize = 1;
/// The state depends on no clock; only answers, which are dropped here, would show the time.
const NOW: UnixNanos = UnixNanos::ZERO;

/// The store and the members after some entry.
pub(crate) struct LegacyReplay {
    store: Store,
    registry: Registry,
    /// The removed members, with the store's index at the removal.
    removed: BTreeMap<MemberId, u64>,
    /// Expirations that 2.x cannot express: after the year 2262.
    clamped: u64,
    /// Whether a command of 0.1 with an expiration was seen: 0.1 let keys expire without an entry.
    has_0_1_expirations: bool,
    data: Vec<u8>,
}

/// The entry of 2.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Converted<'a> {
    /// [`pb::ENTRY_NORMAL`] or [`pb::ENTRY_CONF_CHANGE`].
    pub(crate) kind: i32,
    /// Its data.
    pub(crate) data: Option<&'a [u8]>,
}

/// The content of a converted entry.
enum Conversion {
    Nothing,
    Request(Box<Request>),
    Members(pb::ConfChange),
}

impl LegacyReplay {
    /// Starts from the store of a snapshot, or an empty one, in a cluster that has `members` members at the end of
    /// the log.
    pub(crate) fn new(store: Store, members: usize) -> LegacyReplay {
        let mut registry = Registry::from_store(&store);
        registry.raise_active_size(members);
        LegacyReplay {
            store,
            registry,
            removed: BTreeMap::new(),
            clamped: 0,
            has_0_1_expirations: false,
            data: Vec::new(),
        }
    }

    /// The members now.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The store's index now.
    pub(crate) fn index(&self) -> u64 {
        self.store.index()
    }

    /// The store with the members where 0.x has them.
    pub(crate) fn into_store(self) -> Store {
        self.store
    }

    /// How many expirations are too late for 2.x.
    pub(crate) fn clamped(&self) -> u64 {
        self.clamped
    }

    /// Whether 0.1 wrote expirations.
    pub(crate) fn has_0_1_expirations(&self) -> bool {
        self.has_0_1_expirations
    }

    /// The present store, with the members where 0.x has them.
    pub(crate) fn old_image(&self) -> Image {
        self.store.image()
    }

    /// The store as 2.x has it: members below `/0`, the settings of 0.4 still below `/1/_etcd`.
    pub(crate) fn image(&self) -> Image {
        let mut image = self.store.image();
        let indexes: Vec<_> = self
            .registry
            .machines()
            .keys()
            .map(|name| image.indexes(format!("{MACHINES}/{name}").as_bytes()).unwrap_or_default())
            .collect();
        let (created, modified) = image.indexes(MACHINES.as_bytes()).unwrap_or_default();
        image.remove_node(MACHINES.as_bytes());
        if image.is_empty_dir(b"/1/_etcd") {
            image.remove_node(b"/1/_etcd");
        }
        let mut place = |path: &str, value: Option<&[u8]>, created, modified| {
            // Nothing but directories is ever made above these paths.
            let placed = image.put_node(path.as_bytes(), value, created, modified);
            assert!(placed.is_ok(), "a key stands in the way of {path}");
        };
        place("/0/members", None, created, modified);
        for ((name, machine), (created, modified)) in self.registry.machines().iter().zip(indexes) {
            let member = format!("/0/members/{}", machine.id());
            place(&member, None, created, modified);
            place(&format!("{member}/attributes"), Some(&machine.attributes(name)), created, modified);
            place(&format!("{member}/raftAttributes"), Some(&machine.raft_attributes()), created, modified);
        }
        if let Some(first) = self.removed.values().min() {
            place("/0/removed_members", None, *first, *first);
        }
        for (id, index) in &self.removed {
            place(&format!("/0/removed_members/{id}"), Some(b""), *index, *index);
        }
        image
    }

    /// The ids of the members, sorted.
    pub(crate) fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.registry.machines().values().map(|machine| machine.id().0).collect();
        ids.sort_unstable();
        // 0.2 let two members have one address.
        ids.dedup();
        ids
    }

    /// Applies a command and returns the entry of 2.x for it.
    pub(crate) fn apply(&mut self, command: &Command<'_>) -> Converted<'_> {
        let change = match command {
            Command::Nop | Command::Watch(_) => Conversion::Nothing,
            Command::Join(join) => self.join(join),
            Command::Remove(remove) => self.remove(&remove.name),
            Command::SetClusterConfig(config) => {
                let val = self.registry.configure(*config);
                self.request(Request { val: val.into(), ..put("/_etcd/config") })
            }
            Command::Set(set) => {
                self.has_0_1_expirations |= set.dir.is_none() && set.expire_time.unix_seconds() > 0;
                let expiration = self.expiration_of_new(set.expire_time);
                let val = text(&set.value);
                self.request(Request { val, dir: set.dir == Some(true), expiration, ..put(&set.key) })
            }
            Command::Create(create) => self.create(create),
            Command::Update(update) => {
                let expiration = self.expiration_of_change(update.expire_time);
                let val = text(&update.value);
                self.request(Request { val, expiration, prev_exist: Some(true), ..put(&update.key) })
            }
            Command::Delete(delete) => {
                let (dir, recursive) = (delete.dir, delete.recursive);
                self.request(Request { verb: Verb::Delete, dir, recursive, ..put(&delete.key) })
            }
            Command::TestAndSet(swap) => self.test_and_set(swap),
            Command::CompareAndSwap(swap) => self.compare_and_swap(swap),
            Command::CompareAndDelete(delete) => {
                let prev_value = text(&delete.prev_value);
                let prev_index = delete.prev_index;
                self.request(Request { verb: Verb::Delete, prev_value, prev_index, ..put(&delete.key) })
            }
            Command::Sync(sync) => {
                let time = sync.time.unix_nanos().0;
                self.request(Request { verb: Verb::Sync, time, ..Request::default() })
            }
            Command::Get(get) => Conversion::Request(Box::new(Request {
                verb: Verb::QuorumGet,
                recursive: get.recursive,
                sorted: get.sorted,
                ..put(&get.key)
            })),
        };
        self.encode(&change)
    }

    fn encode(&mut self, change: &Conversion) -> Converted<'_> {
        self.data.clear();
        let kind = match change {
            Conversion::Nothing => return Converted { kind: pb::ENTRY_NORMAL, data: None },
            Conversion::Request(request) => {
                request.encode(&mut self.data);
                pb::ENTRY_NORMAL
            }
            Conversion::Members(change) => {
                assert!(change.encode(&mut self.data).is_ok(), "a vector takes all");
                pb::ENTRY_CONF_CHANGE
            }
        };
        Converted { kind, data: Some(&self.data) }
    }

    /// Applies a request. Its answer is ignored: a refused write is an entry of the log as well.
    fn request(&mut self, request: Request) -> Conversion {
        let _ = self.store.apply_quietly(&request, NOW);
        Conversion::Request(Box::new(request))
    }

    fn create(&mut self, create: &Create<'_>) -> Conversion {
        let expiration = self.expiration_of_new(create.expire_time);
        let mut request = Request {
            val: text(&create.value),
            dir: create.dir,
            expiration,
            prev_exist: Some(false),
            ..put(&create.key)
        };
        if create.unique {
            // The name that 0.x chose; 2.x would choose a name of 20 digits.
            request.path = below_1(&format!("{}/{}", create.key, self.store.index() + 1));
        }
        self.request(request)
    }

    fn compare_and_swap(&mut self, swap: &CompareAndSwap<'_>) -> Conversion {
        let expiration = self.expiration_of_change(swap.expire_time);
        let mut request = Request {
            val: text(&swap.value),
            expiration,
            prev_value: text(&swap.prev_value),
            prev_index: swap.prev_index,
            ..put(&swap.key)
        };
        if request.prev_value.is_empty() && request.prev_index == 0 {
            // Matches any key but no directory; 2.x has no such request.
            if self.value(&request.path).is_none() {
                return Conversion::Nothing;
            }
            request.prev_exist = Some(true);
        }
        self.request(request)
    }

    /// 0.1's swap: an empty previous value also matches a missing key, which is then created.
    fn test_and_set(&mut self, swap: &TestAndSet<'_>) -> Conversion {
        self.has_0_1_expirations |= swap.expire_time.unix_seconds() > 0;
        let expiration = self.expiration_of_new(swap.expire_time);
        let mut request = Request {
            val: text(&swap.value),
            expiration,
            prev_value: text(&swap.prev_value),
            ..put(&swap.key)
        };
        if request.prev_value.is_empty() {
            let is_empty = self.value(&request.path).is_some_and(|value| value.is_empty());
            request.prev_exist = Some(is_empty);
        }
        self.request(request)
    }

    fn join(&mut self, join: &Join<'_>) -> Conversion {
        let key = format!("{MACHINES}/{}", join.name);
        let (machine, kind, id) = match self.registry.join(join) {
            JoinOutcome::Known | JoinOutcome::Refused => return Conversion::Nothing,
            JoinOutcome::Added(machine) => {
                self.write_machine(&key, machine.query().as_bytes(), true);
                self.removed.remove(&machine.id());
                let id = machine.id();
                (machine, pb::ADD_NODE, id)
            }
            JoinOutcome::Moved { from, to } => {
                self.write_machine(&key, to.query().as_bytes(), false);
                (to, pb::UPDATE_NODE, from)
            }
        };
        let context = Some(machine.context(id, &join.name).into());
        Conversion::Members(pb::ConfChange { id: 0, kind, node_id: id.0, context })
    }

    fn remove(&mut self, name: &str) -> Conversion {
        let Some(machine) = self.registry.remove(name) else { return Conversion::Nothing };
        let key = format!("{MACHINES}/{name}");
        let _ = self.store.delete(key.as_bytes(), false, false, NOW);
        let id = machine.id();
        self.removed.insert(id, self.store.index());
        Conversion::Members(pb::ConfChange { id: 0, kind: pb::REMOVE_NODE, node_id: id.0, context: None })
    }

    /// Writes a member's key. It can only fail if a client has written below `/_etcd`.
    fn write_machine(&mut self, key: &str, value: &[u8], new: bool) {
        let (key, expiry) = (key.as_bytes(), Expiry::default());
        let _ = match new {
            true => self.store.create(key, false, value, false, expiry, NOW),
            false => self.store.update(key, value, expiry, NOW),
        };
    }

    /// The value of a key; `None` if the key is missing or a directory.
    fn value(&self, path: &[u8]) -> Option<Vec<u8>> {
        let event = self.store.get(path, false, false).ok()?;
        event.node().value().map(<[u8]>::to_vec)
    }

    /// The expiration of a new node, 0 for none.
    fn expiration_of_new(&mut self, time: Time) -> i64 {
        let nanos = self.nanos(time);
        if nanos < EXPIRATION_MIN { 0 } else { nanos.0 }
    }

    /// The expiration of a changed node: any time is valid, and 0 means "never".
    fn expiration_of_change(&mut self, time: Time) -> i64 {
        match self.nanos(time) {
            _ if time.is_zero() => 0,
            UnixNanos(0) => 1,
            UnixNanos(nanos) => nanos,
        }
    }

    fn nanos(&mut self, time: Time) -> UnixNanos {
        self.clamped += u64::from(!time.fits_nanos() && time.unix_seconds() > 0);
        time.unix_nanos()
    }
}

/// A `PUT` of a key of 0.x; the base of most requests.
fn put(key: &str) -> Request {
    Request::new(Verb::Put, below_1(key))
}

/// The path of 2.x for a key of 0.x, which may lack its first slash.
pub(crate) fn below_1(key: &str) -> bytes::Bytes {
    let clean = clean_path(key.as_bytes());
    if *clean == *b"/" { "/1".into() } else { [b"/1", &*clean].concat().into() }
}

fn text(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}
