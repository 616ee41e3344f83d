//! What is still found of a damaged segment, and segments of 3.x.

use bytes::Bytes;
use prost::Message as _;
use shared::disk::SimDisk;
use shared::entry::EntryContent;
use shared::pb;
use shared::wal::{self, Damage, Frames, Reader, Record, RecordSpan, SegmentEnd, Survey, Wal, WalError};

use crate::common::{FIRST, GO_2_3, GO_2_3_FRESH, START, dir, records};

fn survey(bytes: &[u8], sum: Option<u32>) -> (Vec<(RecordSpan, Record)>, Survey) {
    let mut found = Vec::new();
    let bytes = Bytes::copy_from_slice(bytes);
    let survey = wal::survey(bytes, sum, Frames::V2, &mut |place, record| found.push((place, record)));
    (found, survey.unwrap())
}

/// Where each record begins.
fn offsets(bytes: &[u8]) -> Vec<usize> {
    let mut offsets = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        offsets.push(at);
        at += 8 + usize::try_from(u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())).unwrap();
    }
    offsets
}

/// Checks that nothing was found but what there was, in its order; gives how many records are lost.
fn lost(found: &[(RecordSpan, Record)], all: &[Record], what: &str) -> usize {
    let mut rest = all.iter();
    for (_, record) in found {
        // The sum of a segment's head is nothing that is used of what was found.
        let is_it = |other: &&Record| {
            **other == *record || matches!((*other, record), (Record::Crc(_), Record::Crc(_)))
        };
        assert!(rest.any(|other| is_it(&other)), "{what}: {record:?} was never written there");
    }
    all.len() - found.len()
}

#[test]
fn a_good_segment_is_found_whole() {
    let (found, told) = survey(GO_2_3, Some(0));
    assert_eq!(lost(&found, &records(GO_2_3), "whole"), 0);
    assert_eq!(
        (told.end, told.damaged_ranges.len(), told.end_offset),
        (SegmentEnd::Clean, 0, GO_2_3.len() as u64)
    );
    assert!(found.iter().all(|(place, _)| place.proven));
    // In the middle of a log the segment itself says with which sum it begins.
    let (again, _) = survey(GO_2_3, None);
    assert_eq!(lost(&again, &records(GO_2_3), "unknown sum"), 0);
}

#[test]
fn every_truncation_loses_the_tail_only() {
    let all = records(GO_2_3);
    for len in 0..GO_2_3.len() {
        let (found, told) = survey(&GO_2_3[..len], Some(0));
        let whole = offsets(GO_2_3).iter().filter(|at| **at <= len).count() - 1;
        assert_eq!(found.len(), whole, "cut at {len}");
        assert_eq!(lost(&found, &all, &format!("cut at {len}")), all.len() - whole);
        assert!(told.damaged_ranges.is_empty(), "cut at {len}");
    }
}

#[test]
fn a_flipped_bit_costs_one_record() {
    for original in [GO_2_3_FRESH, GO_2_3] {
        let all = records(original);
        let starts = offsets(original);
        let last = *starts.last().unwrap();
        for at in 0..original.len() {
            for bit in 0..8 {
                let mut bytes = original.to_vec();
                bytes[at] ^= 1 << bit;
                let what = format!("bit {bit} of byte {at}");
                let (found, told) = survey(&bytes, Some(0));
                let gone = lost(&found, &all, &what);
                assert!(gone <= 1, "{what}: {gone} records are gone");
                assert!(
                    gone == 0 || told.end != SegmentEnd::Clean || !told.damaged_ranges.is_empty(),
                    "{what}: not told"
                );
                let start = starts.iter().rev().find(|start| **start <= at).unwrap();
                if at - start < 8 && at < last {
                    assert_eq!(gone, 0, "{what}: the length of a record can be made out");
                }
            }
        }
    }
}

#[test]
fn a_hole_costs_what_was_in_it() {
    let all = records(GO_2_3);
    let starts = offsets(GO_2_3);
    for from in 1..starts.len() - 3 {
        // Cut out, and written over.
        let cut = [&GO_2_3[..starts[from] + 3], &GO_2_3[starts[from + 2]..]].concat();
        let mut over = GO_2_3.to_vec();
        over[starts[from] + 3..starts[from + 2]].fill(0xee);
        for (what, bytes) in [("cut", cut), ("over", over)] {
            let (found, told) = survey(&bytes, Some(0));
            assert_eq!(lost(&found, &all, what), 2, "{what} from record {from}");
            assert_eq!(told.damaged_ranges.len(), 1, "{what} from record {from}");
            let first = found.iter().position(|(place, _)| !place.proven);
            assert_eq!(first, Some(from), "{what}: nothing proves the first record behind a hole");
            assert_eq!(found.iter().filter(|(place, _)| !place.proven).count(), 1, "{what}");
        }
    }
}

#[test]
fn records_side_by_side_may_be_damaged() {
    let starts = offsets(GO_2_3);
    let all = records(GO_2_3);
    let mut bytes = GO_2_3.to_vec();
    // The last byte of two records: in their data.
    bytes[starts[5] - 1] ^= 1;
    bytes[starts[6] - 1] ^= 1;
    let (found, told) = survey(&bytes, Some(0));
    assert_eq!(lost(&found, &all, "two"), 2);
    assert!(found.iter().all(|(place, _)| place.proven), "{:?}", told.damaged_ranges);
}

/// The records of a segment as 3.x writes them; a mark names the members too, as in 3.5.
fn padded(records: &[Record], zeros: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut crc = 0;
    for record in records {
        let (kind, data) = match record {
            Record::Metadata(metadata) => (1, Some(metadata.encode_to_vec())),
            Record::Entry(entry) => (2, Some(entry.encode_to_vec())),
            Record::State(state) => (3, Some(state.encode_to_vec())),
            Record::Crc(_) => (4, None),
            Record::Snapshot(at) => {
                (5, Some([&at.encode_to_vec()[..], b"\x1a\x04\x08\x05\x28\x00"].concat()))
            }
        };
        crc = crc32c::crc32c_append(crc, data.as_deref().unwrap_or_default());
        let mut body = vec![8, kind, 16];
        prost::encoding::encode_varint(crc.into(), &mut body);
        if let Some(data) = data {
            body.push(26);
            prost::encoding::encode_varint(data.len() as u64, &mut body);
            body.extend(data);
        }
        let pad = (8 - body.len() % 8) % 8;
        let mark = if pad > 0 { (0x80 | pad as u64) << 56 } else { 0 };
        bytes.extend((body.len() as u64 | mark).to_le_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len() + pad, 0);
    }
    bytes.resize(bytes.len() + zeros, 0);
    bytes
}

#[test]
fn segments_of_3_x_are_read_and_never_opened() {
    let all = records(GO_2_3);
    for zeros in [0, 4096] {
        let bytes = padded(&all, zeros);
        let mut reader = Reader::of(Bytes::copy_from_slice(&bytes), 0, Frames::Any);
        for wanted in &all {
            let record = reader.next_record().unwrap().unwrap();
            assert!(record == *wanted || matches!(wanted, Record::Crc(_)), "{record:?}");
        }
        assert_eq!(reader.next_record().unwrap(), None);
        assert!(reader.is_padded());
        assert_eq!(reader.end(), Some(if zeros > 0 { SegmentEnd::Zeros } else { SegmentEnd::Clean }));

        let disk = SimDisk::new(1);
        disk.plant(FIRST.as_ref(), &bytes).unwrap();
        let (inspected, damage) = wal::inspect_any(&disk, dir(), 0).unwrap();
        assert!(damage.is_none() && inspected.padded);
        let entries = all.iter().filter(|record| matches!(record, Record::Entry(_))).count();
        assert_eq!(inspected.entries.len(), entries);
        // A server of 2.x must not write behind them.
        let refused = Wal::open(disk.clone(), dir(), START).map(drop).unwrap_err();
        assert!(
            matches!(refused, WalError::Damaged { offset: 0, damage: Damage::Length(_), .. }),
            "{refused}"
        );
        assert!(wal::inspect(&disk, dir(), 0).is_err());
        assert_eq!(disk.contents(FIRST.as_ref()).unwrap(), bytes);
    }
}

#[test]
fn a_write_of_3_x_that_was_cut_off_behind_zeros_is_a_torn_end() {
    let all = records(GO_2_3);
    let mut bytes = padded(&all, 512);
    bytes.extend([7; 64]);
    let mut reader = Reader::of(Bytes::from(bytes), 0, Frames::Any);
    while reader.next_record().unwrap().is_some() {}
    assert_eq!(reader.end(), Some(SegmentEnd::Torn));
    // Of 2.x it is a write that has lost a sector.
    let mut bytes = GO_2_3.to_vec();
    bytes.extend([0; 512]);
    bytes.extend([7; 64]);
    let mut reader = Reader::of(Bytes::from(bytes), 0, Frames::Any);
    while reader.next_record().unwrap().is_some() {}
    assert_eq!((reader.end(), reader.offset()), (Some(SegmentEnd::Torn), GO_2_3.len() as u64));
}

#[test]
fn a_log_of_2_x_may_go_on_as_one_of_3_x() {
    let all = records(GO_2_3);
    let (old, new) = all.split_at(all.len() / 2);
    let cut = offsets(GO_2_3)[old.len()];
    let whole = padded(&all, 64);
    let behind = padded(old, 0).len();
    let bytes = [&GO_2_3[..cut], &whole[behind..]].concat();
    let mut reader = Reader::of(Bytes::from(bytes), 0, Frames::Any);
    let mut count = 0;
    // The marks of 2.x do not name the members, so its sums are others from there on; up to it all is good.
    while let Ok(Some(record)) = reader.next_record() {
        assert!(record == all[count] || matches!(record, Record::Crc(_)));
        count += 1;
    }
    let has_mark = old.iter().any(|record| matches!(record, Record::Snapshot(pb::WalSnapshot { .. })));
    assert_eq!(count, if has_mark { old.len() } else { old.len() + new.len() });
}

#[test]
fn a_log_that_go_3_4_wrote() {
    let bytes = include_bytes!("../corpus/wal/go-3.4.wal");
    let mut reader = Reader::of(Bytes::from_static(bytes), 0, Frames::Any);
    let mut said = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        let Record::Entry(entry) = record else { continue };
        said.push(match shared::entry::content(&entry, Frames::Any).unwrap() {
            EntryContent::Empty => "empty".to_owned(),
            EntryContent::Request(request) => {
                String::from_utf8([&request.method[..], b" ", &request.path].concat()).unwrap()
            }
            EntryContent::Change(change) => format!("change of {:x}", change.node_id),
            other => panic!("{other:?}"),
        });
    }
    let attributes = "PUT /0/members/b5aa2546e8364707/attributes";
    assert_eq!(said, ["change of b5aa2546e8364707", "empty", attributes, "PUT /0/version", "QGET "]);
    assert_eq!((reader.end(), reader.is_padded()), (Some(SegmentEnd::Zeros), true));
}
