//! Random histories of a log against a plain list of entries.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use shared::disk::SimDisk;
use shared::pb;
use shared::wal::{Form, Options, Wal};

use crate::common::{METADATA, START, dir, refs};

#[derive(Debug, Clone)]
enum Step {
    /// Entries that go back so far behind the end, with their data, and a state with them.
    Append {
        back: u64,
        data: Vec<Option<Vec<u8>>>,
        state: Option<(u64, u64)>,
    },
    Sync,
    Snapshot,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let data = prop_oneof![
        1 => Just(None),
        8 => vec(any::<u8>(), 0..60).prop_map(Some),
        1 => vec(Just(0u8), 0..2000).prop_map(Some),
    ];
    prop_oneof![
        6 => (0..4u64, vec(data, 0..5), proptest::option::of((0..3u64, any::<u64>())))
            .prop_map(|(back, data, state)| Step::Append { back, data, state }),
        3 => Just(Step::Sync),
        1 => Just(Step::Snapshot),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_says_what_was_appended(steps in vec(step(), 1..40), segment_bytes in 1u64..3000, form in prop_oneof![Just(Form::V2), Just(Form::V3_5)]) {
        let options = Options { form, segment_bytes };
        let disk = SimDisk::new(1);
        let mut wal = Wal::create_with(disk.clone(), dir(), METADATA, options).unwrap();
        let mut entries: Vec<pb::Entry> = Vec::new();
        let mut state = pb::HardState::default();
        let mut fixed = 0u64;
        let mut term = 1;
        for step in steps {
            match step {
                Step::Append { back, data, state: next } => {
                    let from = (entries.len() as u64).saturating_sub(back).max(fixed);
                    if !data.is_empty() {
                        entries.truncate(usize::try_from(from).unwrap());
                    }
                    let added: Vec<pb::Entry> = data
                        .into_iter()
                        .zip(from + 1..)
                        .map(|(data, index)| {
                            let kind = i32::from(index % 5 == 0 && data.is_some());
                            pb::Entry { kind, term, index, data: data.map(Bytes::from) }
                        })
                        .collect();
                    if let Some((higher, vote)) = next {
                        term += higher;
                        state = pb::HardState { term, vote, commit: fixed };
                    }
                    wal.append(refs(&added), next.map(|_| state));
                    entries.extend(added);
                }
                Step::Sync => wal.sync().unwrap(),
                Step::Snapshot => {
                    fixed = entries.len() as u64;
                    wal.append_snapshot(pb::WalSnapshot { index: fixed, term: 9 }).unwrap();
                }
                Step::Reopen => {
                    wal.close().unwrap();
                    let (opened, recovered) = Wal::open_with(disk.clone(), dir(), START, options).unwrap();
                    prop_assert_eq!(&recovered.entries, &entries);
                    prop_assert_eq!(recovered.state, state);
                    prop_assert_eq!(recovered.repaired, None);
                    wal = opened;
                }
            }
        }
        wal.close().unwrap();
        let (_, recovered) = Wal::open_with(disk, dir(), START, options).unwrap();
        prop_assert_eq!(&recovered.entries, &entries);
        prop_assert_eq!(recovered.state, state);
    }
}
