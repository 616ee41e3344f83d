//! A body for transactions of version 3.

use std::convert::Infallible;

use prost::Message;

use crate::mvcc::db::Database;
use crate::mvcc::{Failure, MemoryState, PlainLeases, Progress, Store, check_txn, txn_cost_bytes};
use crate::v3::pb::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest};

/// Runs transactions: of each the length (two bytes, little endian) and the protobuf message. They run whether or not
/// the checks before proposing let them pass, as what is in a log runs. Then compacts, and opens the store again.
///
/// # Panics
/// If a refused transaction has an effect, the revision does not grow with the changes, or the store that was opened
/// again has other keys.
pub fn transactions(mut bytes: &[u8]) {
    let mut leases = PlainLeases([(1, Default::default()), (2, Default::default())].into());
    let mut store = open(Database::new(MemoryState::default()), &mut leases);
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (message, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*length).into()));
        bytes = rest;
        let Ok(txn) = TxnRequest::decode(message) else { continue };
        let _ = (check_txn(&txn, 128), txn_cost_bytes(&txn));
        let (before, all, attached) = (store.revision(), everything(&store), leases.clone());
        match store.txn(&txn, &mut leases) {
            Ok(applied) => {
                assert_eq!(store.revision(), before + i64::from(!applied.events.is_empty()));
                assert!(applied.events.iter().all(|event| event.kv.mod_revision == store.revision()));
            }
            Err(Failure::Refused(_)) => {
                assert_eq!((store.revision(), everything(&store), leases.clone()), (before, all, attached));
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    let all = everything(&store);
    // An empty store can be compacted at revision 1 only once.
    let _ = store.compact(store.revision());
    while store.compact_step(3) == Progress::Unfinished {}
    let mut again = PlainLeases([(1, Default::default()), (2, Default::default())].into());
    let opened = open(store.database().clone(), &mut again);
    assert_eq!((everything(&store), &leases), (all.clone(), &again));
    assert_eq!(everything(&opened), all);
}

fn open(database: Database<MemoryState>, leases: &mut PlainLeases) -> Store<MemoryState> {
    Store::open(database, leases).unwrap_or_else(|failure| panic!("{failure}"))
}

fn everything(store: &Store<MemoryState>) -> RangeResponse {
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    let answer: Result<RangeResponse, Failure<Infallible>> = store.range(&all);
    answer.unwrap_or_else(|failure| panic!("{failure}"))
}
