//! `get`, `put`, `del` and `compaction`. The requests of the first three are those of transactions too.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;

use bytes::Bytes;
use shared::v3::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use shared::v3::pb::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse,
};

use super::super::failure::Failure;
use super::super::numbers;
use super::super::print::{Format, KeyStyle};
use super::super::run::Run;
use super::super::words::Flags;
use super::range;

const BOTH: &str = "`--prefix` and `--from-key` cannot be set at the same time, choose one";
const TOO_MANY: &str = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
const PUT_ARGUMENTS: &str = "put command needs 1 argument and input from stdin or 2 arguments";
/// What the original says before it deletes a range that was not called one.
const RANGE_NOTE: &str = "In etcd v3.6, the operation will be suspended for a few seconds to provide the user time to \
                          verify range.\n";

pub(super) async fn get(run: Run<'_>) -> Result<(), Failure> {
    let request = get_request(&run.line.flags, &run.line.arguments)?;
    let mut session = run.connect().await?;
    if request.count_only && session.settings.format != Format::Fields {
        return Err(Failure::arguments("--count-only is only for `--write-out=fields`"));
    }
    let answer = session.call(session.client.range(request)).await?;
    session.printer.answer(&answer, |style, out| simple_range(&answer, style, out))
}

pub(super) async fn put(run: Run<'_>) -> Result<(), Failure> {
    let request = put_request(&run.line.flags, &run.line.arguments, || {
        let mut value = Vec::new();
        // What cannot be read is as good as nothing.
        let _ = std::io::stdin().read_to_end(&mut value);
        value
    })?;
    let mut session = run.connect().await?;
    let answer = session.call(session.client.put(request)).await?;
    session.printer.answer(&answer, |style, out| simple_put(&answer, style, out))
}

pub(super) async fn del(run: Run<'_>) -> Result<(), Failure> {
    let request = del_request(&run.line.flags, &run.line.arguments)?;
    if run.line.arguments.len() > 1 && !run.line.flags.is_on("range") {
        run.out.note(RANGE_NOTE)?;
    }
    let mut session = run.connect().await?;
    let answer = session.call(session.client.delete_range(request)).await?;
    session.printer.answer(&answer, |style, out| simple_del(&answer, style, out))
}

pub(super) async fn compaction(run: Run<'_>) -> Result<(), Failure> {
    if run.line.arguments.len() != 1 {
        return Err(Failure::arguments("compaction command needs 1 argument"));
    }
    let revision = numbers::decimal(&run.line.argument(0)).map_err(Failure::server)?;
    let physical = run.line.flags.is_on("physical");
    let mut session = run.connect().await?;
    session.call(session.client.compact(CompactionRequest { revision, physical })).await?;
    session.printer.bytes(format!("compacted revision {revision}\n").as_bytes())
}

/// The range that `--prefix`, `--from-key` and the arguments name.
fn key_range(flags: &Flags, arguments: &[OsString], needs_key: &str) -> Result<(Bytes, Bytes), Failure> {
    let (prefix, from_key) = (flags.is_on("prefix"), flags.is_on("from-key"));
    let Some(key) = arguments.first() else { return Err(Failure::arguments(needs_key)) };
    if prefix && from_key {
        return Err(Failure::arguments(BOTH));
    }
    let key = key.as_bytes();
    match arguments.get(1) {
        Some(_) if prefix || from_key => Err(Failure::arguments(TOO_MANY)),
        Some(end) => Ok((Bytes::copy_from_slice(key), Bytes::copy_from_slice(end.as_bytes()))),
        None if prefix => Ok(range::of_prefix(key)),
        None if from_key => Ok(range::from(key)),
        None => Ok((Bytes::copy_from_slice(key), Bytes::new())),
    }
}

/// The request of `get`.
pub(super) fn get_request(flags: &Flags, arguments: &[OsString]) -> Result<RangeRequest, Failure> {
    let needs = "get command needs one argument as key and an optional argument as range_end";
    let (key, range_end) = key_range(flags, arguments, needs)?;
    let serializable = match flags.text("consistency").as_deref() {
        None | Some("l") => false,
        Some("s") => true,
        Some(other) => return Err(Failure::feature(format!("unknown consistency flag {other:?}"))),
    };
    let order = flags.text("order").unwrap_or_default().to_uppercase();
    let sort_order = match order.as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        other => return Err(Failure::feature(format!("bad sort order {other}"))),
    };
    let target = flags.text("sort-by").unwrap_or_default().to_uppercase();
    let sort_target = match target.as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        other => return Err(Failure::feature(format!("bad sort target {other}"))),
    };
    // Keys come in ascending order by themselves; sent with the order, a server would sort before it cuts at the limit.
    let sort_order = match (sort_target, sort_order) {
        (SortTarget::Key, SortOrder::Ascend) => SortOrder::None,
        (_, order) => order,
    };
    Ok(RangeRequest {
        key,
        range_end,
        limit: flags.number("limit"),
        revision: flags.number("rev"),
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only: flags.is_on("keys-only"),
        count_only: flags.is_on("count-only"),
        ..RangeRequest::default()
    })
}

/// The request of `put`; `input` is where a value comes from that is not an argument.
pub(super) fn put_request(
    flags: &Flags,
    arguments: &[OsString],
    input: impl FnOnce() -> Vec<u8>,
) -> Result<PutRequest, Failure> {
    let Some(key) = arguments.first() else { return Err(Failure::arguments(PUT_ARGUMENTS)) };
    let ignore_value = flags.is_on("ignore-value");
    let value = match arguments.get(1) {
        Some(_) if ignore_value => {
            return Err(Failure::arguments("put command needs only 1 argument when 'ignore-value' is set"));
        }
        Some(value) => Bytes::copy_from_slice(value.as_bytes()),
        None if ignore_value => Bytes::new(),
        None => input().into(),
    };
    if arguments.len() == 1 && !ignore_value && value.is_empty() {
        return Err(Failure::arguments(PUT_ARGUMENTS));
    }
    let lease = flags.text("lease").map_or(Ok(0), |text| numbers::lease(&text));
    let lease =
        lease.map_err(|error| Failure::arguments(format!("bad lease ID ({error}), expecting ID in Hex")))?;
    Ok(PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value,
        lease,
        prev_kv: flags.is_on("prev-kv"),
        ignore_value,
        ignore_lease: flags.is_on("ignore-lease"),
    })
}

/// The request of `del`.
pub(super) fn del_request(flags: &Flags, arguments: &[OsString]) -> Result<DeleteRangeRequest, Failure> {
    let needs = "del command needs one argument as key and an optional argument as range_end";
    if arguments.len() > 2 {
        return Err(Failure::arguments(needs));
    }
    let (key, range_end) = key_range(flags, arguments, needs)?;
    Ok(DeleteRangeRequest { key, range_end, prev_kv: flags.is_on("prev-kv") })
}

pub(super) fn simple_range(answer: &RangeResponse, style: &KeyStyle, out: &mut Vec<u8>) {
    answer.kvs.iter().for_each(|kv| style.write(kv, out));
}

pub(super) fn simple_put(answer: &PutResponse, style: &KeyStyle, out: &mut Vec<u8>) {
    out.extend_from_slice(b"OK\n");
    answer.prev_kv.iter().for_each(|kv| style.write(kv, out));
}

pub(super) fn simple_del(answer: &DeleteRangeResponse, style: &KeyStyle, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}\n", answer.deleted).as_bytes());
    answer.prev_kvs.iter().for_each(|kv| style.write(kv, out));
}
