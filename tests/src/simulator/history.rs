//! Checks whether the operations on one key are linearizable: explained by a single copy that does one
//! operation at a time.
//!
//! The search of Wing and Gong, with the memory of Lowe, looks for an order of the operations in which each
//! stands between its call and its answer, and has the answer that the key would give in that order. A write
//! without an answer may have happened at any time after its call, or not at all.

use std::collections::HashSet;
use std::fmt;

/// Operations on one key that can be checked together.
pub(super) const OPERATIONS_MAX: usize = 128;

/// The most states that a check visits before it gives up.
const STATES_MAX: usize = 400_000;

/// A value. No value is written twice, so it identifies its write.
pub(super) type Value = u64;

/// An operation on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyCall {
    Read,
    Put(Value),
    /// Only if the key does not exist.
    Create(Value),
    /// Only if the key exists.
    Update(Value),
    /// Only if it has this value.
    Swap(Value, Value),
    Delete,
    DeleteIf(Value),
}

/// The answer to an operation on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyOutcome {
    /// A read's value.
    Found(Value),
    /// The write was done; the previous value.
    Done(Option<Value>),
    /// The key does not exist.
    Missing,
    /// The key exists already.
    Exists,
    /// It has another value: which one, if the answer contains it.
    Differs(Option<Value>),
}

/// One operation with its times, which are numbers of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Operation {
    pub(super) client: usize,
    pub(super) call: KeyCall,
    pub(super) called: u64,
    /// `None` for a write without an answer.
    pub(super) returned: Option<(u64, KeyOutcome)>,
}

/// The result of a check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There is a valid order.
    Linearizable,
    /// There is no valid order; the text shows the longest attempt.
    NotLinearizable(String),
    /// The search was too long.
    GaveUp,
}

impl Operation {
    /// The key after the operation, if its answer is possible for this key.
    fn after(&self, key: Option<Value>) -> Option<Option<Value>> {
        let effect = self.call.effect(key);
        let (answer, after) = effect;
        match self.returned {
            None => Some(after),
            Some((_, seen)) => {
                let alike = match (seen, answer) {
                    (KeyOutcome::Differs(None), KeyOutcome::Differs(_)) => true,
                    _ => seen == answer,
                };
                alike.then_some(after)
            }
        }
    }
}

impl KeyCall {
    /// The answer of a single copy of the key, and the key afterwards.
    fn effect(self, key: Option<Value>) -> (KeyOutcome, Option<Value>) {
        match (self, key) {
            (KeyCall::Read, Some(value)) => (KeyOutcome::Found(value), key),
            (KeyCall::Put(new), _) => (KeyOutcome::Done(key), Some(new)),
            (KeyCall::Create(new), None) => (KeyOutcome::Done(None), Some(new)),
            (KeyCall::Create(_), Some(_)) => (KeyOutcome::Exists, key),
            (KeyCall::Update(new), Some(_)) => (KeyOutcome::Done(key), Some(new)),
            (KeyCall::Swap(old, new), Some(value)) if old == value => (KeyOutcome::Done(key), Some(new)),
            (KeyCall::Delete, Some(_)) => (KeyOutcome::Done(key), None),
            (KeyCall::DeleteIf(old), Some(value)) if old == value => (KeyOutcome::Done(key), None),
            (KeyCall::Swap(..) | KeyCall::DeleteIf(_), Some(value)) => {
                (KeyOutcome::Differs(Some(value)), key)
            }
            (_, None) => (KeyOutcome::Missing, None),
        }
    }
}

/// Checks at most [`OPERATIONS_MAX`] operations.
pub(super) fn check(operations: &[Operation]) -> Verdict {
    let mut sorted: Vec<Operation> = operations.to_vec();
    // A read without an answer proves nothing.
    sorted.retain(|operation| operation.returned.is_some() || operation.call != KeyCall::Read);
    sorted.sort_by_key(|operation| operation.called);
    assert!(sorted.len() <= OPERATIONS_MAX, "{} operations are too many for one check", sorted.len());
    let mut search = Search { operations: &sorted, seen: HashSet::new(), best: (0, 0, None) };
    match search.from(0, None) {
        Some(true) => Verdict::Linearizable,
        Some(false) => Verdict::NotLinearizable(search.explain()),
        None => Verdict::GaveUp,
    }
}

struct Search<'a> {
    operations: &'a [Operation],
    /// Failed states: the operations done, and the key.
    seen: HashSet<(u128, Option<Value>)>,
    /// The longest attempt: the number of operations, which ones, and the key.
    best: (u32, u128, Option<Value>),
}

impl Search<'_> {
    /// Whether the remaining operations have a valid order; `None` if the search is too long.
    fn from(&mut self, done: u128, key: Option<Value>) -> Option<bool> {
        if !self.seen.insert((done, key)) {
            return Some(false);
        }
        if self.seen.len() > STATES_MAX {
            return None;
        }
        if done.count_ones() >= self.best.0 {
            self.best = (done.count_ones(), done, key);
        }
        let left = |i: &usize| done & (1 << i) == 0;
        let returned = |i: usize| self.operations[i].returned.map(|(at, _)| at);
        let Some(bound) = (0..self.operations.len()).filter(left).filter_map(returned).min() else {
            return Some(true);
        };
        for i in (0..self.operations.len()).filter(left) {
            let operation = self.operations[i];
            if operation.called > bound {
                break;
            }
            if let Some(after) = operation.after(key)
                && self.from(done | (1 << i), after)?
            {
                return Some(true);
            }
        }
        Some(false)
    }

    fn explain(&self) -> String {
        let (count, done, key) = self.best;
        let mut text =
            format!("after {count} operations the key is {}, and none of these fits:", describe(key));
        let left = (0..self.operations.len()).filter(|i| done & (1 << i) == 0);
        for i in left.take(6) {
            text.push_str(&format!("\n    {}", self.operations[i]));
        }
        text
    }
}

fn describe(value: Option<Value>) -> String {
    value.map_or("missing".to_owned(), |value| format!("v{value}"))
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}: {:?} called at {}", self.client, self.call, self.called)?;
        match self.returned {
            Some((at, outcome)) => write!(f, ", answered {outcome:?} at {at}"),
            None => f.write_str(", never answered"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(client: usize, call: KeyCall, called: u64, returned: u64, outcome: KeyOutcome) -> Operation {
        Operation { client, call, called, returned: Some((returned, outcome)) }
    }

    fn unanswered(client: usize, call: KeyCall, called: u64) -> Operation {
        Operation { client, call, called, returned: None }
    }

    fn is_impossible(operations: &[Operation]) -> bool {
        matches!(check(operations), Verdict::NotLinearizable(_))
    }

    #[test]
    fn a_read_sees_one_of_the_writes_that_overlap_it() {
        let put = |client, value, prev| operation(client, KeyCall::Put(value), 1, 11, KeyOutcome::Done(prev));
        let read = |at, value| operation(2, KeyCall::Read, at, at + 1, KeyOutcome::Found(value));
        for seen in [1, 2] {
            assert_eq!(check(&[put(0, 1, None), put(1, 2, Some(1)), read(5, seen)]), Verdict::Linearizable);
        }
        assert!(is_impossible(&[put(0, 1, None), put(1, 2, Some(1)), read(5, 3)]));
        assert!(is_impossible(&[put(0, 1, None), put(1, 2, Some(1)), read(12, 1)]));
    }

    #[test]
    fn a_stale_read_is_found() {
        let ops = [
            operation(0, KeyCall::Put(1), 1, 2, KeyOutcome::Done(None)),
            operation(0, KeyCall::Put(2), 3, 4, KeyOutcome::Done(Some(1))),
            operation(1, KeyCall::Read, 5, 6, KeyOutcome::Found(1)),
        ];
        assert!(is_impossible(&ops));
        // If the read had begun before the answer to the second write, it would be valid.
        let mut early = ops;
        early[2].called = 3;
        early[2].returned = Some((6, KeyOutcome::Found(1)));
        assert_eq!(check(&early), Verdict::Linearizable);
    }

    #[test]
    fn a_lost_write_is_found() {
        let ops = [
            operation(0, KeyCall::Put(1), 1, 2, KeyOutcome::Done(None)),
            operation(1, KeyCall::Read, 5, 6, KeyOutcome::Missing),
        ];
        assert!(is_impossible(&ops));
    }

    #[test]
    fn a_swap_succeeds_once() {
        let ops = [
            operation(0, KeyCall::Put(1), 1, 2, KeyOutcome::Done(None)),
            operation(0, KeyCall::Swap(1, 2), 3, 9, KeyOutcome::Done(Some(1))),
            operation(1, KeyCall::Swap(1, 3), 3, 9, KeyOutcome::Done(Some(1))),
        ];
        assert!(is_impossible(&ops));
        let mut good = ops;
        good[2].returned = Some((9, KeyOutcome::Differs(Some(2))));
        assert_eq!(check(&good), Verdict::Linearizable);
    }

    #[test]
    fn an_unanswered_write_may_happen_late_or_never_but_not_twice() {
        let put = operation(0, KeyCall::Put(1), 1, 2, KeyOutcome::Done(None));
        let read = |at, value| operation(2, KeyCall::Read, at, at + 1, KeyOutcome::Found(value));
        let lost = unanswered(1, KeyCall::Put(2), 3);
        assert_eq!(check(&[put, lost, read(5, 1)]), Verdict::Linearizable);
        assert_eq!(check(&[put, lost, read(5, 1), read(7, 2)]), Verdict::Linearizable);
        assert!(is_impossible(&[put, lost, read(5, 2), read(7, 1)]));
        let over = operation(0, KeyCall::Put(3), 7, 8, KeyOutcome::Done(Some(2)));
        assert!(is_impossible(&[put, lost, read(5, 2), over, read(9, 2)]));
    }

    #[test]
    fn creations_and_deletions_take_turns() {
        let ops = [
            operation(0, KeyCall::Create(1), 1, 2, KeyOutcome::Done(None)),
            operation(0, KeyCall::Create(2), 3, 4, KeyOutcome::Exists),
            operation(0, KeyCall::DeleteIf(2), 5, 6, KeyOutcome::Differs(None)),
            operation(0, KeyCall::Delete, 7, 8, KeyOutcome::Done(Some(1))),
            operation(0, KeyCall::Update(3), 9, 10, KeyOutcome::Missing),
            operation(0, KeyCall::Create(4), 11, 12, KeyOutcome::Done(None)),
        ];
        assert_eq!(check(&ops), Verdict::Linearizable);
        let other_way = operation(0, KeyCall::Create(2), 9, 10, KeyOutcome::Exists);
        assert!(is_impossible(&[ops[0], ops[3], other_way]));
    }
}
