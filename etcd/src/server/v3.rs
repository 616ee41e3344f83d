//! The running member, for the v3 API.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BufMut;
use node::Call;
use node::member::MemberInfo;
use node::v3::Response;
use shared::mvcc::db::Bucket;
use shared::mvcc::{self, Failure, Reader};
use shared::v3::internal::{InternalRequest, Operation as LogOperation};
use shared::v3::pb::etcdserverpb::alarm_request::AlarmAction;
use shared::v3::pb::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, HashKvResponse, Member, RangeRequest, RangeResponse,
    ResponseHeader, StatusResponse, TxnRequest, TxnResponse, WatchCreateRequest,
};
use shared::v3::{Error, Level};
use shared::watch::{Create, Ended, Message, Origin, WatchHub};
use tokio::sync::oneshot;

use super::clock;
use super::database::DatabaseView;
use super::handle::{Handle, Inner, LoopRequest};
use super::node_loop::{Caller as Waiting, V3Failure};
use crate::backend::v3::{
    AuthLists, Backend, Caller, LeaseTime, Operation, OperationResponse, WatchMessage, WatchStream,
};
use crate::backend::{Backend as _, Unavailable};
use crate::config::Config;
use crate::log;

/// So many committed entries may wait to be applied before requests are refused, as in the original.
const ENTRIES_BEHIND_MAX: u64 = 5000;

/// How long the leader may be lost before streams end that want one, in election timeouts.
const LEADER_LOST_TIMEOUTS: u32 = 3;

/// How often a lost leader is looked for.
const LEADER_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How often a watch that has fallen behind reads the history.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(10);

/// How often it is checked whether a notice of progress is due.
const NOTICE_INTERVAL: Duration = Duration::from_millis(50);

/// Settings of the v3 side of a member.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    /// The size of the database from which on keys are refused; `None` for no bound.
    pub(super) quota_bytes: Option<u64>,
    /// The longest entry of a request, in bytes.
    pub(super) request_bytes_max: usize,
    /// The longest message of a watch; longer ones are split if the client allows it.
    pub(super) message_bytes_max: usize,
    /// The election timeout.
    pub(super) election: Duration,
}

/// What a message may have beside the longest entry: the client's envelope around it.
const ENVELOPE_BYTES: usize = 512 * 1024;

impl Settings {
    /// The settings of a configuration.
    pub(super) fn of(config: &Config) -> Settings {
        Settings {
            quota_bytes: config.quota_backend_bytes,
            request_bytes_max: config.entry_bytes_max,
            message_bytes_max: config.entry_bytes_max.saturating_add(ENVELOPE_BYTES),
            election: config.election(),
        }
    }
}

/// The running member, for the v3 API. Cheap to clone.
#[derive(Clone)]
pub(super) struct V3Handle {
    handle: Handle,
    settings: Settings,
    /// The member has asked for the alarm that there is no space.
    raises_alarm: Arc<AtomicBool>,
}

impl V3Handle {
    pub(super) fn new(handle: Handle, settings: Settings) -> V3Handle {
        V3Handle { handle, settings, raises_alarm: Arc::default() }
    }

    fn inner(&self) -> &Inner {
        self.handle.inner()
    }

    /// The keys as they are applied here.
    fn reader(&self) -> Result<Reader<DatabaseView>, Error> {
        let machine = self.inner().machine.read();
        machine.v3.as_ref().map(|v3| v3.reader()).ok_or(Error::NotCapable)
    }

    fn revision(&self) -> i64 {
        self.inner().machine.read().v3.as_ref().map_or(0, |v3| v3.revision())
    }

    async fn call(&self, operation: LogOperation) -> Result<Response, Error> {
        let request = InternalRequest::new(operation);
        if request.encoded_len() > self.settings.request_bytes_max {
            return Err(Error::RequestTooLarge);
        }
        let status = self.handle.status();
        if status.commit > status.applied + ENTRIES_BEHIND_MAX {
            return Err(Error::TooManyRequests);
        }
        let (reply, answer) = oneshot::channel();
        let command = node::Command::V3(Box::new(request));
        let call = Call::Propose { command, began: None, caller: Waiting::V3(reply) };
        self.inner().requests_since_write.fetch_add(1, Ordering::Relaxed);
        if self.inner().loop_requests.send(LoopRequest::Call(call)).await.is_err() {
            return Err(Error::Stopped);
        }
        match answer.await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(V3Failure::Refused(error))) => Err(error),
            Ok(Err(V3Failure::Unavailable(why))) => Err(error_of(why)),
            Err(_) => Err(Error::Stopped),
        }
    }

    /// Refuses what would take more space than there is, and raises the alarm.
    async fn check_quota(&self, operation: &Operation) -> Result<(), Error> {
        let Some(quota) = self.settings.quota_bytes else { return Ok(()) };
        let cost = match operation {
            Operation::Put(put) => mvcc::put_cost_bytes(put),
            Operation::Txn(txn) => mvcc::txn_cost_bytes(txn),
            Operation::LeaseGrant(_) => mvcc::LEASE_COST_BYTES,
            _ => 0,
        };
        if cost == 0 {
            return Ok(());
        }
        let (size, has_alarm) = {
            let machine = self.inner().machine.read();
            let Some(v3) = &machine.v3 else { return Err(Error::NotCapable) };
            let database = v3.store().database();
            // Free pages are used again: they take no space from the keys to come.
            let size = database.view().committed().size_in_use() + database.pending_bytes() as u64;
            (size, v3.alarms().has(AlarmType::Nospace))
        };
        if has_alarm {
            return Err(Error::NoSpace);
        }
        if size + (cost as u64) < quota {
            return Ok(());
        }
        if !self.raises_alarm.swap(true, Ordering::Relaxed) {
            let alarm = AlarmRequest {
                action: AlarmAction::Activate.into(),
                member_id: self.handle.id().0,
                alarm: AlarmType::Nospace.into(),
            };
            log::warning!(
                "etcdserver",
                "the database has {size} bytes and the quota is {quota}: alarm NOSPACE"
            );
            let raised = self.call(LogOperation::Alarm(alarm)).await;
            self.raises_alarm.store(false, Ordering::Relaxed);
            if let Err(error) = raised {
                log::warning!("etcdserver", "the alarm NOSPACE could not be raised: {error}");
            }
        }
        Err(Error::NoSpace)
    }

    /// Waits until the old versions of all compactions so far are removed.
    async fn compacted(&self) -> Result<(), Error> {
        let mut rounds = self.inner().compacted.subscribe();
        while self.is_compacting() {
            rounds.changed().await.map_err(|_| Error::Stopped)?;
        }
        Ok(())
    }

    fn is_hashing(&self) -> bool {
        self.inner().machine.read().v3.as_ref().is_some_and(|v3| v3.is_hashing())
    }

    fn is_compacting(&self) -> bool {
        self.inner().machine.read().v3.as_ref().is_some_and(|v3| v3.is_compacting() || v3.is_hashing())
    }
}

fn error_of(why: Unavailable) -> Error {
    match why {
        Unavailable::Timeout => Error::Timeout,
        Unavailable::LeaderLost => Error::TimeoutDueToLeaderFail,
        Unavailable::Stopped => Error::Stopped,
    }
}

/// The error for the client. A database that cannot be read is a matter for the log.
fn refused<E: std::error::Error + 'static>(failure: Failure<E>) -> Error {
    match failure {
        Failure::Refused(error) => error.into(),
        failure => {
            log::error!("etcdserver", "cannot read keys: {failure}");
            Error::Stopped
        }
    }
}

impl Backend for V3Handle {
    type WatchStream = Watches;

    fn level(&self) -> Level {
        self.inner().level
    }

    fn is_learner(&self) -> bool {
        false
    }

    fn has_leader(&self) -> bool {
        self.handle.status().leader.0 != 0
    }

    fn leader_lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let (handle, patience) = (self.handle.clone(), self.settings.election * LEADER_LOST_TIMEOUTS);
        async move {
            let mut lost_for = Duration::ZERO;
            while lost_for < patience {
                tokio::time::sleep(LEADER_CHECK_INTERVAL).await;
                let has_leader = handle.status().leader.0 != 0;
                lost_for = if has_leader { Duration::ZERO } else { lost_for + LEADER_CHECK_INTERVAL };
            }
        }
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.inner().cluster_id.0,
            member_id: self.handle.id().0,
            revision: self.revision(),
            raft_term: self.handle.status().term,
        }
    }

    async fn propose(&self, _: &Caller, operation: Operation) -> Result<OperationResponse, Error> {
        self.check_quota(&operation).await?;
        let physical = matches!(&operation, Operation::Compaction(compaction) if compaction.physical);
        let response = self.call(in_log(operation)).await?;
        if physical {
            self.compacted().await?;
        }
        answer(response).ok_or(Error::Stopped)
    }

    async fn linearizable_point(&self) -> Result<(), Error> {
        let status = self.handle.status();
        if status.alone && status.current {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        let call = Call::ReadPoint { caller: Waiting::ReadPoint(reply) };
        if self.inner().loop_requests.send(LoopRequest::Call(call)).await.is_err() {
            return Err(Error::Stopped);
        }
        answer.await.map_err(|_| Error::Stopped)?.map_err(error_of)
    }

    async fn range(&self, _: &Caller, request: RangeRequest) -> Result<RangeResponse, Error> {
        self.reader()?.range(&request).map_err(refused)
    }

    async fn read_txn(&self, _: &Caller, request: TxnRequest) -> Result<TxnResponse, Error> {
        self.reader()?.txn(&request).map_err(refused)
    }

    async fn keep_alive(&self, _: &Caller, id: i64) -> Result<i64, Error> {
        let kept = {
            let mut machine = self.inner().machine.write();
            let v3 = machine.v3.as_mut().ok_or(Error::NotCapable)?;
            v3.lessor_mut().keep_alive(id, clock::moment())?
        };
        if let Some(checkpoint) = kept.checkpoint {
            let request =
                shared::v3::pb::etcdserverpb::LeaseCheckpointRequest { checkpoints: vec![checkpoint] };
            self.call(LogOperation::LeaseCheckpoint(request)).await?;
        }
        Ok(kept.ttl)
    }

    async fn time_to_live(&self, _: &Caller, id: i64, keys: bool) -> Result<LeaseTime, Error> {
        let machine = self.inner().machine.read();
        let v3 = machine.v3.as_ref().ok_or(Error::NotCapable)?;
        let time = v3.lessor().time_to_live(id, clock::moment())?;
        let keys = if keys { v3.lessor().keys(id).cloned().collect() } else { Vec::new() };
        Ok(LeaseTime { ttl: time.remaining, granted_ttl: time.granted, keys })
    }

    async fn leases(&self, _: &Caller) -> Result<Vec<i64>, Error> {
        let machine = self.inner().machine.read();
        Ok(machine.v3.as_ref().ok_or(Error::NotCapable)?.lessor().leases())
    }

    fn members(&self) -> Vec<Member> {
        let members = self.handle.members();
        let member = |member: &MemberInfo| Member {
            id: member.id.0,
            name: member.name.clone(),
            peer_ur_ls: member.peer_urls.clone(),
            client_ur_ls: member.client_urls.clone(),
            is_learner: false,
        };
        members.members.values().map(member).collect()
    }

    fn auth_lists(&self) -> Result<AuthLists, Error> {
        let reader = self.reader()?;
        let unreadable = |error| refused(Failure::Database(error));
        let names = |bucket| {
            let mut names = Vec::new();
            reader
                .view()
                .scan(bucket, b"", None, &mut |name, _| {
                    names.push(String::from_utf8_lossy(name).into_owned());
                    ControlFlow::Continue(())
                })
                .map_err(unreadable)?;
            Ok::<_, Error>(names)
        };
        let revision = reader.view().get(Bucket::Auth, b"authRevision").map_err(unreadable)?;
        let revision = revision.and_then(|bytes| bytes[..].try_into().ok()).map(u64::from_be_bytes);
        Ok(AuthLists {
            users: names(Bucket::AuthUsers)?,
            roles: names(Bucket::AuthRoles)?,
            // It counts from 1, and is written with the first change.
            revision: revision.unwrap_or(1),
        })
    }

    fn alarms(&self, kind: i32) -> Vec<AlarmMember> {
        let machine = self.inner().machine.read();
        machine.v3.as_ref().map(|v3| v3.alarms().list(kind)).unwrap_or_default()
    }

    fn status(&self) -> StatusResponse {
        let status = self.handle.status();
        let machine = self.inner().machine.read();
        let (size, in_use, alarms) = machine.v3.as_ref().map_or((0, 0, Vec::new()), |v3| {
            let view = v3.store().database().view().committed();
            (view.size(), view.size_in_use(), v3.alarms().list(AlarmType::None.into()))
        });
        let name = |alarm: &AlarmMember| {
            let kind = AlarmType::try_from(alarm.alarm).map_or("", |kind| kind.as_str_name());
            format!("memberID:{} alarm:{kind} ", alarm.member_id)
        };
        let mut errors: Vec<String> = alarms.iter().map(name).collect();
        if status.leader.0 == 0 {
            errors.insert(0, Error::NoLeader.to_string());
        }
        StatusResponse {
            header: None,
            version: self.inner().level.spoken().to_owned(),
            db_size: i64::try_from(size).unwrap_or(i64::MAX),
            leader: status.leader.0,
            raft_index: status.commit,
            raft_term: status.term,
            raft_applied_index: status.applied,
            errors,
            db_size_in_use: i64::try_from(in_use).unwrap_or(i64::MAX),
            is_learner: false,
        }
    }

    async fn defragment(&self) -> Result<(), Error> {
        let (done, answer) = oneshot::channel();
        if self.inner().loop_requests.send(LoopRequest::Commit(done)).await.is_err() {
            return Err(Error::Stopped);
        }
        answer.await.map_err(|_| Error::Stopped)
    }

    async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        let mut rounds = self.inner().compacted.subscribe();
        while self.is_hashing() {
            rounds.changed().await.map_err(|_| Error::Stopped)?;
        }
        let reader = self.reader()?;
        let hashed = tokio::task::spawn_blocking(move || reader.hash_kv(revision)).await;
        let hashed = hashed.map_err(|_| Error::Stopped)?.map_err(refused)?;
        Ok(HashKvResponse { header: None, hash: hashed.hash, compact_revision: hashed.compact_revision })
    }

    fn watch(&self, _: Caller) -> Result<Watches, Error> {
        let machine = self.inner().machine.read();
        let hub = machine.v3.as_ref().ok_or(Error::NotCapable)?.watches();
        // The API ends streams that want a leader.
        Ok(Watches { stream: hub.open(false), member: self.clone(), parts: Vec::new() })
    }
}

fn in_log(operation: Operation) -> LogOperation {
    match operation {
        Operation::Put(request) => LogOperation::Put(request),
        Operation::DeleteRange(request) => LogOperation::DeleteRange(request),
        Operation::Txn(request) => LogOperation::Txn(request),
        Operation::Compaction(request) => LogOperation::Compaction(request),
        Operation::LeaseGrant(mut request) => {
            while request.id == 0 {
                // A positive number: clients show it as such.
                request.id = rand::random::<i64>() & i64::MAX;
            }
            LogOperation::LeaseGrant(request)
        }
        Operation::LeaseRevoke(request) => LogOperation::LeaseRevoke(request),
        Operation::Alarm(request) => LogOperation::Alarm(request),
    }
}

/// The answer to one of the API's operations.
fn answer(response: Response) -> Option<OperationResponse> {
    Some(match response {
        Response::Put(response) => OperationResponse::Put(response),
        Response::DeleteRange(response) => OperationResponse::DeleteRange(response),
        Response::Txn(response) => OperationResponse::Txn(response),
        Response::Compaction(response) => OperationResponse::Compaction(response),
        Response::LeaseGrant(response) => OperationResponse::LeaseGrant(response),
        Response::LeaseRevoke(response) => OperationResponse::LeaseRevoke(response),
        Response::Alarm(response) => OperationResponse::Alarm(response),
        Response::LeaseCheckpoint(_) => return None,
    })
}

/// The watches of one client stream.
pub(super) struct Watches {
    stream: shared::watch::WatchStream,
    member: V3Handle,
    /// The parts of a response that are not sent yet, last first.
    parts: Vec<Message>,
}

impl WatchStream for Watches {
    type Message = Message;

    fn create(&mut self, request: WatchCreateRequest) {
        let create = Create::from(&request);
        self.stream.create(&request.key, &request.range_end, &create, clock::moment());
    }

    fn cancel(&mut self, watch_id: i64) {
        self.stream.cancel(watch_id);
    }

    fn request_progress(&mut self) {
        self.stream.request_progress();
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_room(cx)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        if let Some(part) = self.parts.pop() {
            return Poll::Ready(Ok(part));
        }
        let response = match self.stream.poll_next(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(Ended::NoLeader)) => return Poll::Ready(Err(Error::NoLeader)),
            Poll::Ready(Err(Ended::Stopped)) => return Poll::Ready(Err(Error::Stopped)),
            Poll::Ready(Ok(response)) => response,
        };
        let origin = Origin {
            cluster_id: self.member.inner().cluster_id.0,
            member_id: self.member.handle.id().0,
            raft_term: self.member.handle.status().term,
        };
        let reader = self.member.reader()?;
        let message_bytes_max = self.member.settings.message_bytes_max;
        self.parts = response.encode(&origin, &reader, message_bytes_max).map_err(refused)?.into_vec();
        self.parts.reverse();
        Poll::Ready(self.parts.pop().ok_or(Error::Stopped))
    }
}

impl WatchMessage for Message {
    fn encoded_len(&self) -> usize {
        self.len()
    }

    fn write_to(&self, buffer: &mut impl BufMut) {
        Message::write_to(self, buffer);
    }
}

/// Lets watches that are behind catch up, and sends notices of progress, without end.
pub(super) async fn serve_watches(member: V3Handle, hub: WatchHub) {
    let mut notices = tokio::time::interval(NOTICE_INTERVAL);
    loop {
        let mut wakers: Vec<Waker> = Vec::new();
        tokio::select! {
            _ = notices.tick() => {
                let now = clock::moment();
                if hub.next_notices().is_some_and(|due| due <= now) {
                    hub.send_notices(now, &mut wakers);
                }
            }
            () = std::future::poll_fn(|cx| hub.poll_catch_up(cx)) => {
                let Ok(reader) = member.reader() else { return };
                match hub.catch_up(&reader, &mut wakers) {
                    Ok(round) if round.advanced > 0 => tokio::task::yield_now().await,
                    Ok(_) => tokio::time::sleep(CATCH_UP_INTERVAL).await,
                    Err(failure) => {
                        log::error!("etcdserver", "cannot read the history for watches: {failure}");
                        tokio::time::sleep(LEADER_CHECK_INTERVAL).await;
                    }
                }
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}
