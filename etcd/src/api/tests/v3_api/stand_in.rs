//! A member without a log: a few keys in memory, each request carried out at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use shared::v3::pb::etcdserverpb::request_op::Request;
use shared::v3::pb::etcdserverpb::response_op::Response;
use shared::v3::pb::etcdserverpb::{
    AlarmMember, AlarmResponse, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvResponse,
    LeaseGrantResponse, LeaseRevokeResponse, Member, PutRequest, PutResponse, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, ResponseOp, StatusResponse, TxnRequest, TxnResponse, WatchCreateRequest,
    WatchResponse, compare,
};
use shared::v3::pb::mvccpb::event::EventType;
use shared::v3::pb::mvccpb::{Event, KeyValue};
use shared::v3::{Error, Level};

use crate::backend::v3::{AuthLists, Backend, Caller, LeaseTime, Operation, OperationResponse, WatchStream};

/// The most responses that wait for a slow client before its requests wait.
const ANSWERS_MAX: usize = 16;

#[derive(Default)]
pub(super) struct Store {
    keys: BTreeMap<Bytes, KeyValue>,
    revision: i64,
    events: Vec<Event>,
    leases: BTreeMap<i64, i64>,
    wakers: Vec<Waker>,
}

/// A member alone in its cluster.
pub(super) struct StandIn {
    store: Arc<Mutex<Store>>,
    pub(super) level: AtomicU8,
    pub(super) leads: AtomicBool,
    pub(super) learns: AtomicBool,
    /// The last caller of each request.
    pub(super) caller: Mutex<Caller>,
    /// Open streams of watches.
    pub(super) streams: Arc<()>,
}

impl StandIn {
    pub(super) fn new() -> StandIn {
        StandIn {
            store: Arc::new(Mutex::new(Store { revision: 1, ..Store::default() })),
            level: AtomicU8::new(35),
            leads: AtomicBool::new(true),
            learns: AtomicBool::new(false),
            caller: Mutex::default(),
            streams: Arc::new(()),
        }
    }
}

fn matches(key: &[u8], first: &[u8], end: &[u8]) -> bool {
    match end {
        b"" => key == first,
        b"\0" => key >= first,
        end => key >= first && key < end,
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

impl Store {
    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        if request.revision > self.revision {
            return Err(Error::FutureRevision);
        }
        let kvs: Vec<KeyValue> = self
            .keys
            .values()
            .filter(|kv| matches(&kv.key, &request.key, &request.range_end))
            .cloned()
            .collect();
        let count = i64::try_from(kvs.len()).unwrap();
        Ok(RangeResponse { header: header(self.revision), kvs, more: false, count })
    }

    fn put(&mut self, request: PutRequest, revision: i64) -> PutResponse {
        let old = self.keys.get(&request.key).cloned();
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            value: request.value,
            lease: request.lease,
        };
        self.events.push(Event { r#type: EventType::Put.into(), kv: Some(kv.clone()), prev_kv: None });
        self.keys.insert(request.key, kv);
        PutResponse { header: header(revision), prev_kv: old.filter(|_| request.prev_kv) }
    }

    fn delete(&mut self, request: &DeleteRangeRequest, revision: i64) -> DeleteRangeResponse {
        let found: Vec<Bytes> =
            self.keys.keys().filter(|key| matches(key, &request.key, &request.range_end)).cloned().collect();
        for key in &found {
            self.keys.remove(key);
            let kv = KeyValue { key: key.clone(), mod_revision: revision, ..KeyValue::default() };
            self.events.push(Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None });
        }
        let deleted = i64::try_from(found.len()).unwrap();
        DeleteRangeResponse { header: header(revision), deleted, prev_kvs: Vec::new() }
    }

    fn txn(&mut self, request: TxnRequest, revision: i64) -> Result<TxnResponse, Error> {
        let succeeded = request.compare.iter().all(|compare| {
            let found = self.keys.get(&compare.key);
            match &compare.target_union {
                Some(compare::TargetUnion::Value(value)) => found.is_some_and(|kv| kv.value == *value),
                Some(compare::TargetUnion::ModRevision(wanted)) => {
                    found.map_or(0, |kv| kv.mod_revision) == *wanted
                }
                _ => found.map_or(0, |kv| kv.version) == 0,
            }
        });
        let ops = if succeeded { request.success } else { request.failure };
        let responses = ops.into_iter().map(|op| self.op(op, revision)).collect::<Result<_, _>>()?;
        Ok(TxnResponse { header: header(self.revision), succeeded, responses })
    }

    fn op(&mut self, op: RequestOp, revision: i64) -> Result<ResponseOp, Error> {
        let response = match op.request {
            Some(Request::RequestRange(request)) => Response::ResponseRange(self.range(&request)?),
            Some(Request::RequestPut(request)) => Response::ResponsePut(self.put(request, revision)),
            Some(Request::RequestDeleteRange(request)) => {
                Response::ResponseDeleteRange(self.delete(&request, revision))
            }
            Some(Request::RequestTxn(request)) => Response::ResponseTxn(self.txn(request, revision)?),
            None => return Err(Error::KeyNotFound),
        };
        Ok(ResponseOp { response: Some(response) })
    }

    fn apply(&mut self, operation: Operation) -> Result<OperationResponse, Error> {
        let (next, events) = (self.revision + 1, self.events.len());
        let mut response = match operation {
            Operation::Put(request) => OperationResponse::Put(self.put(request, next)),
            Operation::DeleteRange(request) => OperationResponse::DeleteRange(self.delete(&request, next)),
            Operation::Txn(request) => OperationResponse::Txn(self.txn(request, next)?),
            Operation::Compaction(request) if request.revision > self.revision => {
                return Err(Error::FutureRevision);
            }
            Operation::Compaction(_) => OperationResponse::Compaction(CompactionResponse { header: None }),
            Operation::LeaseGrant(request) => {
                let id = if request.id == 0 { 7000 + next } else { request.id };
                if self.leases.contains_key(&id) {
                    return Err(Error::LeaseExists);
                }
                self.leases.insert(id, request.ttl);
                let (ttl, error) = (request.ttl, String::new());
                OperationResponse::LeaseGrant(LeaseGrantResponse { header: None, id, ttl, error })
            }
            Operation::LeaseRevoke(request) => {
                self.leases.remove(&request.id).ok_or(Error::LeaseNotFound)?;
                OperationResponse::LeaseRevoke(LeaseRevokeResponse { header: None })
            }
            Operation::Alarm(_) => OperationResponse::Alarm(AlarmResponse::default()),
        };
        if self.events.len() > events {
            self.revision = next;
            if let OperationResponse::Txn(response) = &mut response {
                response.header = header(next);
            }
            self.wakers.drain(..).for_each(Waker::wake);
        } else if let OperationResponse::DeleteRange(response) = &mut response {
            response.header = header(self.revision);
        }
        Ok(response)
    }
}

impl Backend for StandIn {
    type WatchStream = Watches;

    fn level(&self) -> Level {
        if self.level.load(Relaxed) == 23 { Level::V2_3 } else { Level::V3_5 }
    }

    fn is_learner(&self) -> bool {
        self.learns.load(Relaxed)
    }

    fn has_leader(&self) -> bool {
        self.leads.load(Relaxed)
    }

    fn leader_lost(&self) -> impl Future<Output = ()> + Send + 'static {
        std::future::pending()
    }

    fn header(&self) -> ResponseHeader {
        let revision = self.store.lock().revision;
        ResponseHeader { cluster_id: 11, member_id: 22, revision, raft_term: 2 }
    }

    async fn propose(&self, caller: &Caller, operation: Operation) -> Result<OperationResponse, Error> {
        *self.caller.lock() = caller.clone();
        tokio::task::yield_now().await;
        self.store.lock().apply(operation)
    }

    async fn linearizable_point(&self) -> Result<(), Error> {
        if self.leads.load(Relaxed) { Ok(()) } else { Err(Error::Timeout) }
    }

    async fn range(&self, caller: &Caller, request: RangeRequest) -> Result<RangeResponse, Error> {
        *self.caller.lock() = caller.clone();
        self.store.lock().range(&request)
    }

    async fn read_txn(&self, _: &Caller, request: TxnRequest) -> Result<TxnResponse, Error> {
        self.store.lock().txn(request, 0)
    }

    async fn keep_alive(&self, _: &Caller, id: i64) -> Result<i64, Error> {
        self.store.lock().leases.get(&id).copied().ok_or(Error::LeaseNotFound)
    }

    async fn time_to_live(&self, _: &Caller, id: i64, _: bool) -> Result<LeaseTime, Error> {
        let granted_ttl = self.store.lock().leases.get(&id).copied().ok_or(Error::LeaseNotFound)?;
        Ok(LeaseTime { ttl: granted_ttl - 1, granted_ttl, keys: vec![Bytes::from_static(b"k")] })
    }

    async fn leases(&self, _: &Caller) -> Result<Vec<i64>, Error> {
        Ok(self.store.lock().leases.keys().copied().collect())
    }

    fn members(&self) -> Vec<Member> {
        Vec::new()
    }

    fn auth_lists(&self) -> Result<AuthLists, Error> {
        Ok(AuthLists::default())
    }

    fn alarms(&self, _: i32) -> Vec<AlarmMember> {
        Vec::new()
    }

    fn status(&self) -> StatusResponse {
        StatusResponse::default()
    }

    async fn defragment(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn hash_kv(&self, _: i64) -> Result<HashKvResponse, Error> {
        Err(Error::NotCapable)
    }

    fn watch(&self, caller: Caller) -> Result<Watches, Error> {
        *self.caller.lock() = caller;
        let store = self.store.clone();
        Ok(Watches {
            store,
            answers: Vec::new(),
            watches: BTreeMap::new(),
            next: 0,
            _open: self.streams.clone(),
        })
    }
}

/// The watches of a stream: each looks through the events from its position on.
pub(super) struct Watches {
    store: Arc<Mutex<Store>>,
    answers: Vec<WatchResponse>,
    watches: BTreeMap<i64, (WatchCreateRequest, usize)>,
    next: i64,
    _open: Arc<()>,
}

impl Watches {
    fn answer(&mut self, watch_id: i64, change: impl FnOnce(&mut WatchResponse)) {
        let revision = self.store.lock().revision;
        let header = Some(ResponseHeader { cluster_id: 11, member_id: 22, revision, raft_term: 2 });
        let mut response = WatchResponse { header, watch_id, ..WatchResponse::default() };
        change(&mut response);
        self.answers.push(response);
    }
}

impl WatchStream for Watches {
    type Message = WatchResponse;

    fn create(&mut self, request: WatchCreateRequest) {
        let id = self.next;
        self.next += 1;
        let from = {
            let store = self.store.lock();
            let is_old = |event: &&Event| {
                let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                request.start_revision == 0 || revision < request.start_revision
            };
            store.events.iter().take_while(is_old).count()
        };
        self.watches.insert(id, (request, from));
        self.answer(id, |response| response.created = true);
    }

    fn cancel(&mut self, watch_id: i64) {
        if self.watches.remove(&watch_id).is_some() {
            self.answer(watch_id, |response| response.canceled = true);
        }
    }

    fn request_progress(&mut self) {
        self.answer(-1, |_| {});
    }

    fn poll_room(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.answers.len() < ANSWERS_MAX { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<WatchResponse, Error>> {
        if !self.answers.is_empty() {
            return Poll::Ready(Ok(self.answers.remove(0)));
        }
        let mut store = self.store.lock();
        for (id, (request, position)) in &mut self.watches {
            let new = &store.events[*position..];
            let wanted = |event: &&Event| {
                event.kv.as_ref().is_some_and(|kv| matches(&kv.key, &request.key, &request.range_end))
            };
            let events: Vec<Event> = new.iter().filter(wanted).cloned().collect();
            *position = store.events.len();
            if !events.is_empty() {
                let header = Some(ResponseHeader {
                    cluster_id: 11,
                    member_id: 22,
                    revision: store.revision,
                    raft_term: 2,
                });
                let response = WatchResponse { header, watch_id: *id, events, ..WatchResponse::default() };
                return Poll::Ready(Ok(response));
            }
        }
        store.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}
