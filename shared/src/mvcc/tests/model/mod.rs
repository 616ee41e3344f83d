//! The store against a naive list of versions: random requests, compactions, commits, crashes and old readers.

mod naive;
mod requests;

use std::convert::Infallible;
use std::fmt::Debug;

use proptest::prelude::*;

use self::naive::Naive;
use crate::mvcc::db::{Batch, Bucket, Database};
use crate::mvcc::{
    Applied, Error, Event, EventKind, Failure, MemoryState, PlainLeases, Progress, Reader, Revision, Store,
};
use crate::v3::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest};

#[derive(Clone, Debug)]
enum Step {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Revoke(i64),
    /// Compacts at so many revisions before the current one.
    Compact(i64),
    CompactSteps(usize, usize),
    /// Hands the pending changes to a commit.
    TakeBatch,
    /// The commit is done.
    Committed,
    Range(RangeRequest),
    /// Keeps a reader until the end.
    KeepReader,
    /// All that is not committed is lost; what came after is applied again, as out of a log.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => requests::put().prop_map(Step::Put),
        3 => requests::delete().prop_map(Step::Delete),
        5 => requests::txn().prop_map(Step::Txn),
        1 => (1..4_i64).prop_map(Step::Revoke),
        2 => (-1..12_i64).prop_map(Step::Compact),
        3 => (1..4_usize, 1..6_usize).prop_map(|(budget, times)| Step::CompactSteps(budget, times)),
        3 => Just(Step::TakeBatch),
        3 => Just(Step::Committed),
        5 => requests::range().prop_map(Step::Range),
        1 => Just(Step::KeepReader),
        1 => Just(Step::Crash),
    ]
}

/// A state of everything that a crash can bring back.
#[derive(Clone)]
struct Saved {
    state: MemoryState,
    model: Naive,
    /// How many steps were applied before.
    applied: usize,
}

struct Run {
    store: Store<MemoryState>,
    leases: PlainLeases,
    model: Naive,
    saved: Saved,
    /// The batch that is being committed, and what it will bring.
    committing: Option<(Batch, Naive, usize)>,
    readers: Vec<(Reader<MemoryState>, Naive)>,
}

fn refused<T>(result: Result<T, Failure<Infallible>>) -> Result<T, Error> {
    result.map_err(|failure| match failure {
        Failure::Refused(error) => error,
        other => panic!("{other}"),
    })
}

impl Run {
    fn new() -> Run {
        let model = Naive::default();
        let (store, leases) = open(MemoryState::default(), &model);
        let saved = Saved { state: MemoryState::default(), model: model.clone(), applied: 0 };
        Run { store, leases, model, saved, committing: None, readers: Vec::new() }
    }

    fn applied<R: PartialEq + Debug>(
        &self,
        ours: Result<Applied<R>, Failure<Infallible>>,
        wanted: Result<(R, Vec<Event>), Error>,
    ) {
        assert_eq!(refused(ours).map(|applied| (applied.response, applied.events)), wanted);
        assert_eq!(self.store.revision(), self.model.current);
        assert_eq!(self.leases.0, self.model.attached());
    }

    fn step(&mut self, steps: &[Step], at: usize) {
        match &steps[at] {
            Step::Put(put) => {
                let ours = self.store.put(put, &mut self.leases);
                let wanted = self.model.apply(|model| model.put(put));
                self.applied(ours, wanted);
            }
            Step::Delete(delete) => {
                let ours = self.store.delete_range(delete, &mut self.leases);
                let wanted = self.model.apply(|model| model.delete_range(delete));
                self.applied(ours, wanted);
            }
            Step::Txn(txn) => {
                let ours = self.store.txn(txn, &mut self.leases);
                let wanted = self.model.apply(|model| model.txn(txn));
                self.applied(ours, wanted);
            }
            Step::Revoke(lease) => {
                let keys: Vec<_> = self.leases.0.remove(lease).unwrap_or_default().into_iter().collect();
                let events = self.store.revoke(&keys);
                let wanted = self.model.apply(|model| model.revoke(*lease));
                self.applied(Ok(Applied { response: (), events }), wanted);
            }
            Step::Compact(back) => {
                let revision = self.model.current - back;
                let ours = self.store.compact(revision);
                assert_eq!(ours, self.model.compact(revision));
            }
            Step::CompactSteps(budget, times) => {
                for _ in 0..*times {
                    self.store.compact_step(*budget);
                }
            }
            Step::TakeBatch => {
                if let Some(batch) = self.store.database_mut().take_batch() {
                    self.committing = Some((batch, self.model.clone(), at + 1));
                }
            }
            Step::Committed => {
                if let Some((batch, model, applied)) = self.committing.take() {
                    let state = self.saved.state.clone().with(&batch);
                    self.store.database_mut().committed(state.clone());
                    self.saved = Saved { state, model, applied };
                }
            }
            Step::Range(range) => {
                assert_eq!(refused(self.store.range(range)), self.model.range(range), "{range:?}");
            }
            Step::KeepReader => self.readers.push((self.store.reader(), self.model.clone())),
            Step::Crash => {
                self.committing = None;
                let Saved { state, model, applied } = self.saved.clone();
                (self.store, self.leases) = open(state, &model);
                self.model = model;
                for again in applied..at {
                    if !matches!(
                        steps[again],
                        Step::TakeBatch | Step::Committed | Step::Crash | Step::KeepReader
                    ) {
                        self.step(steps, again);
                    }
                }
            }
        }
    }

    fn finish(mut self) {
        check_reader(&self.store.reader(), &self.model);
        while self.store.compact_step(2) == Progress::Unfinished {}
        check_reader(&self.store.reader(), &self.model);
        if self.model.compacted >= 0 {
            let mut left = Vec::new();
            let _ = self.store.database().view().scan(Bucket::Key, b"", None, &mut |key, _| {
                let (revision, _) = Revision::parse(key).expect("a revision");
                left.push((revision.main, usize::try_from(revision.sub).expect("a few")));
                std::ops::ControlFlow::Continue(())
            });
            assert_eq!(left, self.model.left());
        }
        for (reader, model) in &self.readers {
            check_reader(reader, model);
        }
    }
}

fn open(state: MemoryState, model: &Naive) -> (Store<MemoryState>, PlainLeases) {
    let ids = model.leases.iter().map(|lease| (*lease, Default::default()));
    let mut leases = PlainLeases(ids.collect());
    let store = Store::open(Database::new(state), &mut leases).expect("what the store itself wrote");
    assert_eq!(leases.0, model.attached());
    assert_eq!((store.revision(), store.compact_revision()), (model.current, model.compacted));
    (store, leases)
}

/// All keys at all revisions, and all changes that can still be read.
fn check_reader(reader: &Reader<MemoryState>, model: &Naive) {
    for revision in 1..=model.current + 1 {
        for (count_only, limit) in [(false, 0), (true, 0), (false, 2)] {
            let range = RangeRequest {
                key: "\0".into(),
                range_end: "\0".into(),
                revision,
                limit,
                count_only,
                ..RangeRequest::default()
            };
            assert_eq!(refused(reader.range(&range)), model.range(&range), "at {revision}");
        }
    }
    for from in 0..=model.current + 1 {
        let ours = refused(reader.events(from, 3, 200));
        if from < model.compacted {
            assert_eq!(ours, Err(Error::Compacted(model.compacted)));
        } else {
            check_events(reader, model, from);
        }
    }
}

fn check_events(reader: &Reader<MemoryState>, model: &Naive, from: i64) {
    let mut next = from;
    let mut ours = Vec::new();
    while next <= model.current {
        let batch = refused(reader.events(next, 3, 200)).expect("not compacted");
        assert!(batch.next_revision > next, "{} after {next}", batch.next_revision);
        next = batch.next_revision;
        ours.extend(batch.events);
    }
    let is_left = |record: &naive::Record| {
        record.main > model.compacted || model.left().contains(&(record.main, record.sub))
    };
    let wanted: Vec<Event> = model
        .records
        .iter()
        .filter(|record| record.main >= from && is_left(record))
        .map(|record| record.event.clone())
        .collect();
    // Two changes of a key in the revision of the compaction itself: the first goes as soon as it is compacted.
    ours.retain(|event| event.kv.mod_revision > model.compacted || wanted.contains(event));
    assert_eq!(ours, wanted);
    let previous = refused(reader.prev_kvs(&ours)).expect("memory can be read");
    for (event, previous) in ours.iter().zip(previous) {
        let before = event.kv.mod_revision - 1;
        let wanted = (before >= model.compacted).then(|| model.at(before).remove(&event.kv.key)).flatten();
        assert_eq!(previous, wanted);
        assert_eq!(refused(reader.prev_kv(event)), Ok(wanted));
        assert!(event.kind == EventKind::Put || event.kv.value.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_a_list_of_versions(steps in prop::collection::vec(step(), 1..50)) {
        let mut run = Run::new();
        for at in 0..steps.len() {
            run.step(&steps, at);
        }
        run.finish();
    }
}
