//! The leases of the database, and the keys that the store attaches to them.

use std::ops::ControlFlow;

use bytes::Bytes;
use shared::lease::{self, LeaseId, Lessor, Settings};
use shared::mvcc::Leases;
use shared::mvcc::db::{Bucket, Committed, Database};

use super::meta::OpenError;

/// The lessor, as the store sees it.
pub(super) struct Attachments<'a>(pub(super) &'a mut Lessor);

impl Leases for Attachments<'_> {
    fn exists(&self, lease: LeaseId) -> bool {
        self.0.contains(lease)
    }

    fn attach(&mut self, lease: LeaseId, key: &Bytes) {
        // The store attaches to leases that exist.
        let _ = self.0.attach(key.clone(), lease);
    }

    fn detach(&mut self, _: LeaseId, key: &[u8]) {
        self.0.detach(key);
    }
}

/// The leases of a database, without keys.
pub(super) fn restore<C: Committed>(database: &Database<C>, settings: Settings) -> Result<Lessor, OpenError> {
    let mut records = Ok(Vec::new());
    let scanned = database.view().scan(Bucket::Lease, b"", None, &mut |key, value| {
        match (&mut records, lease::decode(key, value)) {
            (Ok(records), Ok(record)) => records.push(record),
            (records, Err(error)) => {
                *records = Err(error);
                return ControlFlow::Break(());
            }
            (Err(_), Ok(_)) => {}
        }
        ControlFlow::Continue(())
    });
    scanned.map_err(OpenError::database)?;
    Ok(Lessor::restore(settings, records?, []).lessor)
}
