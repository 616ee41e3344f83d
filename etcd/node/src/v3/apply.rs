//! Carries out the requests of the log.

use shared::lease;
use shared::mvcc::db::{Bucket, Committed};
use shared::mvcc::{self, Failure};
use shared::time::Moment;
use shared::v3::Error;
use shared::v3::internal::{InternalRequest, Operation};
use shared::v3::pb::etcdserverpb::{
    AlarmResponse, AlarmType, CompactionRequest, CompactionResponse, LeaseCheckpointRequest,
    LeaseCheckpointResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    ResponseHeader,
};
use shared::watch;

use super::leases::Attachments;
use super::{Response, StateError, V3};
use crate::machine::Position;

impl<C: Committed> V3<C> {
    /// Applies the request of the entry at `position`. `None` if the state has its effects already, or cannot be
    /// continued ([`V3::failure`]).
    pub fn apply(
        &mut self,
        position: Position,
        request: &InternalRequest,
        now: Moment,
    ) -> Option<Result<Response, Error>> {
        if position.index <= self.position.index || self.failure.is_some() {
            return None;
        }
        if let Err(refused) = self.check_alarms(&request.operation) {
            return Some(Err(refused));
        }
        let result = match &request.operation {
            Operation::Put(put) => {
                let applied = self.store.put(put, &mut Attachments(&mut self.lessor));
                self.written(applied).map(Response::Put)
            }
            Operation::DeleteRange(delete) => {
                let applied = self.store.delete_range(delete, &mut Attachments(&mut self.lessor));
                self.written(applied).map(Response::DeleteRange)
            }
            Operation::Txn(txn) => {
                let applied = self.store.txn(txn, &mut Attachments(&mut self.lessor));
                self.written(applied).map(Response::Txn)
            }
            Operation::Compaction(compaction) => self.compact(compaction).map(Response::Compaction),
            Operation::LeaseGrant(grant) => self.grant(grant, now).map(Response::LeaseGrant),
            Operation::LeaseRevoke(revoke) => self.revoke(revoke).map(Response::LeaseRevoke),
            Operation::LeaseCheckpoint(checkpoint) => {
                Ok(Response::LeaseCheckpoint(self.checkpoint(checkpoint)))
            }
            Operation::Alarm(request) => {
                let alarms = self.alarms.apply(request, self.store.database_mut());
                Ok(Response::Alarm(AlarmResponse { header: self.header(), alarms }))
            }
            // The v2 tree has the members and the version; these come from later versions only.
            other => {
                let (index, name) = (position.index, other.name());
                self.failure.get_or_insert(StateError::NotApplied { index, name });
                return None;
            }
        };
        if self.failure.is_some() {
            return None;
        }
        Some(result)
    }

    /// The entry at `position` is applied, whatever it was.
    pub fn passed(&mut self, position: Position) {
        if position.index > self.position.index && self.failure.is_none() {
            self.position = position;
        }
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.store.revision(), ..ResponseHeader::default() })
    }

    /// Refuses what the alarms forbid.
    fn check_alarms(&self, operation: &Operation) -> Result<(), Error> {
        let writes = match operation {
            Operation::Put(_) | Operation::LeaseGrant(_) => true,
            Operation::Txn(txn) => mvcc::has_puts(txn),
            _ => false,
        };
        let changes = writes
            || match operation {
                Operation::DeleteRange(_) | Operation::LeaseRevoke(_) | Operation::Compaction(_) => true,
                Operation::Txn(txn) => !mvcc::is_read_only(txn),
                _ => false,
            };
        if changes && self.alarms.has(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        if writes && self.alarms.has(AlarmType::Nospace) {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Passes the events of a write on to the watches.
    fn written<R>(&mut self, applied: Result<mvcc::Applied<R>, Failure<C::Error>>) -> Result<R, Error> {
        match applied {
            Ok(applied) => {
                self.notify(applied.events);
                Ok(applied.response)
            }
            Err(Failure::Refused(error)) => Err(error.into()),
            Err(failure) => {
                self.fail(&failure);
                // Nobody gets it: the member ends.
                Err(Error::Stopped)
            }
        }
    }

    fn notify(&mut self, events: Vec<mvcc::Event>) {
        let Some(first) = events.first() else { return };
        let revision = first.kv.mod_revision;
        let events: Vec<watch::Event> = events.into_iter().map(watch::Event::from).collect();
        self.watches.notify(revision, &events, &mut self.wakers);
    }

    fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, Error> {
        let before = self.store.reader();
        self.store.compact(request.revision)?;
        self.to_hash = Some((before, request.revision));
        Ok(CompactionResponse { header: self.header() })
    }

    fn grant(&mut self, request: &LeaseGrantRequest, now: Moment) -> Result<LeaseGrantResponse, Error> {
        let grant = self.lessor.grant(request.id, request.ttl, now)?;
        let record = lease::encode(&grant.record);
        self.database_mut().put(Bucket::Lease, &lease::record_key(request.id), record.into());
        let header = self.header();
        Ok(LeaseGrantResponse { header, id: request.id, ttl: grant.ttl, error: String::new() })
    }

    fn revoke(&mut self, request: &LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Error> {
        let keys = self.lessor.revoke(request.id)?;
        let events = self.store.revoke(&keys);
        self.database_mut().delete(Bucket::Lease, &lease::record_key(request.id));
        self.notify(events);
        Ok(LeaseRevokeResponse { header: self.header() })
    }

    fn checkpoint(&mut self, request: &LeaseCheckpointRequest) -> LeaseCheckpointResponse {
        for checkpoint in &request.checkpoints {
            // A lease may have ended meanwhile.
            if let Ok(Some(record)) = self.lessor.checkpoint(checkpoint) {
                let (key, record) = (lease::record_key(record.id), lease::encode(&record));
                self.database_mut().put(Bucket::Lease, &key, record.into());
            }
        }
        LeaseCheckpointResponse { header: self.header() }
    }
}

/// Whether this version carries such a request out. A member that finds another one in its log ends.
pub(crate) fn is_applied(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Put(_)
            | Operation::DeleteRange(_)
            | Operation::Txn(_)
            | Operation::Compaction(_)
            | Operation::LeaseGrant(_)
            | Operation::LeaseRevoke(_)
            | Operation::LeaseCheckpoint(_)
            | Operation::Alarm(_)
    )
}
