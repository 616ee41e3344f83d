//! The format of etcd-dump-logs 2.3.8, including its misspelt words: scripts read it.

use shared::entry::{EntryContent, content};
use shared::id::{ClusterId, MemberId};
use shared::pb;
use shared::wal::Frames;

use crate::dump_flags::Lengths;
use crate::go_text::{excerpt_into, quote_into, time, write_right};

/// How many bytes of a long path are shown at each end, and of a long value at its beginning.
const PATH_BYTES: usize = 64;
const VALUE_BYTES: usize = 128;

/// The lines about the snapshot, before the entries.
pub(crate) fn snapshot(snapshot: Option<&pb::SnapshotMetadata>) -> String {
    match snapshot {
        Some(at) => {
            let nodes: Vec<String> = at.conf_state.nodes.iter().map(|id| MemberId(*id).to_string()).collect();
            format!(
                "Snapshot:\nterm={} index={} nodes=[{}]\n{SNAPSHOT_START}",
                at.term,
                at.index,
                nodes.join(" ")
            )
        }
        None => format!("Snapshot:\nempty\n{SNAPSHOT_START}"),
    }
}

const SNAPSHOT_START: &str = "Start dupmping log entries from snapshot.\n";

/// The line that replaces them when the log is shown from an index.
pub(crate) fn index_start(index: u64) -> String {
    format!("Start dumping log entries from index {index}.\n")
}

/// The head of the log, and of the table of entries.
pub(crate) fn head(metadata: Option<pb::Metadata>, state: pb::HardState, last: u64) -> String {
    let metadata = metadata.unwrap_or_default();
    let (member, cluster) = (MemberId(metadata.node_id), ClusterId(metadata.cluster_id));
    let pb::HardState { term, vote, commit } = state;
    let vote = MemberId(vote);
    format!(
        "WAL metadata:\nnodeID={member} clusterID={cluster} term={term} commitIndex={commit} vote={vote}\n\
         WAL entries:\nlastIndex={last}\n{COLUMNS}"
    )
}

/// The heading of the table of entries.
pub(crate) const COLUMNS: &str = "term\t     index\ttype\tdata\n";

/// Appends term and index of an entry.
pub(crate) fn position(term: u64, index: u64, out: &mut Vec<u8>) {
    write_right(out, term, 4);
    out.push(b'\t');
    write_right(out, index, 10);
    out.push(b'\t');
}

/// Appends an entry.
pub(crate) fn entry(entry: &pb::Entry, lengths: Lengths, out: &mut Vec<u8>) {
    position(entry.term, entry.index, out);
    match content(entry, Frames::Any) {
        Ok(EntryContent::Empty) => out.extend_from_slice(b"norm\t"),
        Ok(EntryContent::Request(request)) => {
            out.extend_from_slice(b"norm\t");
            describe(&request, lengths, out);
        }
        Ok(EntryContent::Change(change)) => {
            let (name, id) = (change_name(change.kind), MemberId(change.node_id));
            out.extend_from_slice(format!("conf\tmethod={name} id={id}").as_bytes());
        }
        Ok(EntryContent::V3(request)) => {
            out.extend_from_slice(b"norm\t");
            out.extend_from_slice(request.name().as_bytes());
        }
        Ok(EntryContent::Changes) => out.extend_from_slice(b"conf\tseveral changes"),
        Err(_) => {
            let kind = match entry.kind {
                pb::ENTRY_NORMAL => "norm".to_owned(),
                pb::ENTRY_CONF_CHANGE => "conf".to_owned(),
                other => other.to_string(),
            };
            out.extend_from_slice(format!("{kind}\t???").as_bytes());
        }
    }
    out.push(b'\n');
}

fn describe(request: &pb::Request, lengths: Lengths, out: &mut Vec<u8>) {
    if request.method.is_empty() {
        return out.extend_from_slice(b"noop");
    }
    out.extend_from_slice(b"method=");
    // Go prints the bytes of the method as they are; a server only writes words.
    out.extend_from_slice(String::from_utf8_lossy(&request.method).as_bytes());
    if &request.method[..] == b"SYNC" {
        return out.extend_from_slice(format!(" time=\"{}\"", time(request.time)).as_bytes());
    }
    out.extend_from_slice(b" path=");
    path(&request.path, lengths, out);
    if !matches!(&request.method[..], b"QGET" | b"DELETE") {
        out.extend_from_slice(b" val=");
        value(&request.val, lengths, out);
    }
}

/// Appends a path, quoted.
pub(crate) fn path(path: &[u8], lengths: Lengths, out: &mut Vec<u8>) {
    match lengths {
        Lengths::Cut => excerpt_into(out, path, PATH_BYTES, PATH_BYTES),
        Lengths::Whole => quote_into(out, path),
    }
}

/// Appends a value, quoted.
pub(crate) fn value(value: &[u8], lengths: Lengths, out: &mut Vec<u8>) {
    match lengths {
        Lengths::Cut => excerpt_into(out, value, VALUE_BYTES, 0),
        Lengths::Whole => quote_into(out, value),
    }
}

fn change_name(kind: i32) -> String {
    match kind {
        pb::ADD_NODE => "ConfChangeAddNode".to_owned(),
        pb::REMOVE_NODE => "ConfChangeRemoveNode".to_owned(),
        pb::UPDATE_NODE => "ConfChangeUpdateNode".to_owned(),
        pb::ADD_LEARNER_NODE => "ConfChangeAddLearnerNode".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message as _;

    use super::*;

    fn shown(kind: i32, data: Option<Vec<u8>>) -> String {
        let mut out = Vec::new();
        entry(&pb::Entry { kind, term: 1, index: 1, data: data.map(Bytes::from) }, Lengths::Cut, &mut out);
        let line = String::from_utf8(out).unwrap();
        line.strip_prefix("   1\t         1\t").unwrap().strip_suffix('\n').unwrap().to_owned()
    }

    fn request(method: &'static str, val: &'static str) -> Option<Vec<u8>> {
        let request =
            pb::Request { method: method.into(), path: "/1/a".into(), val: val.into(), ..Default::default() };
        Some(request.encode_to_vec())
    }

    #[test]
    fn entries_are_shown_as_the_original_shows_them() {
        assert_eq!(shown(0, None), "norm\t");
        assert_eq!(shown(0, Some(vec![])), "norm\t");
        assert_eq!(shown(0, Some(vec![0xff])), "norm\t???");
        assert_eq!(shown(0, request("", "")), "norm\tnoop");
        assert_eq!(shown(0, request("PUT", "x y")), "norm\tmethod=PUT path=\"/1/a\" val=\"x y\"");
        assert_eq!(shown(0, request("DELETE", "")), "norm\tmethod=DELETE path=\"/1/a\"");
        assert_eq!(shown(0, request("SYNC", "")), "norm\tmethod=SYNC time=\"1970-01-01 00:00:00 +0000 UTC\"");
        let change = |kind| Some(pb::ConfChange { kind, node_id: 255, ..Default::default() }.encode_to_vec());
        assert_eq!(shown(1, change(2)), "conf\tmethod=ConfChangeUpdateNode id=ff");
        assert_eq!(shown(1, change(7)), "conf\tmethod=7 id=ff");
        assert_eq!(shown(1, Some(vec![0x08])), "conf\t???");
    }
}
