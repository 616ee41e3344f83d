//! The history of the store, as watches read it.

use super::db::Committed;
use super::error::{Error, Failure};
use super::reader::Reader;
use super::store::{Event, EventKind};
use crate::v3::pb::mvccpb::KeyValue;
use crate::watch::{self, Batch, History, HistoryError, Limits};

impl From<Event> for watch::Event {
    fn from(event: Event) -> watch::Event {
        match event.kind {
            EventKind::Put => watch::Event::put(event.kv),
            EventKind::Delete => watch::Event::delete(event.kv.key, event.kv.mod_revision),
        }
    }
}

impl<C: Committed> History for Reader<C> {
    type Error = Failure<C::Error>;

    fn current_revision(&self) -> i64 {
        self.revision()
    }

    fn compact_revision(&self) -> i64 {
        Reader::compact_revision(self)
    }

    fn events(&self, from: i64, limits: Limits) -> Result<Batch, HistoryError<Self::Error>> {
        match Reader::events(self, from, limits.revisions, limits.bytes) {
            Ok(found) => {
                let events = found.events.into_iter().map(watch::Event::from).collect();
                Ok(Batch { events, last: found.next_revision - 1 })
            }
            Err(Failure::Refused(Error::Compacted(compact_revision))) => {
                Err(HistoryError::Compacted { compact_revision })
            }
            Err(failure) => Err(HistoryError::Storage(failure)),
        }
    }

    fn prev_kv(&self, event: &watch::Event) -> Result<Option<KeyValue>, Self::Error> {
        let kind = match event.kind {
            watch::EventKind::Put => EventKind::Put,
            watch::EventKind::Delete => EventKind::Delete,
        };
        Reader::prev_kv(self, &Event { kind, kv: event.kv.clone() })
    }
}
