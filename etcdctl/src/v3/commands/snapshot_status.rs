//! `snapshot status`: what a database file holds.

use std::path::Path;

use shared::bolt::{self, BoltError, View};
use shared::disk::RealDisk;

use super::super::failure::Failure;
use super::super::print::table::table;
use super::super::print::{Format, Object, Printer};
use super::super::run::Run;
use super::super::settings::Settings;
use super::endpoint::human_size;

/// Pages that are kept while the file is read once.
const CACHE_BYTES: usize = 4 << 20;
/// The bucket with the versions of keys, whose names are revisions.
const KEYS: &[u8] = b"key";

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Contents {
    /// CRC-32C of the names of all buckets, and of all keys and values in them.
    hash: u32,
    revision: i64,
    keys: u64,
    bytes: u64,
}

pub(super) async fn status(run: Run<'_>) -> Result<(), Failure> {
    let [path] = run.line.arguments.as_slice() else {
        return Err(Failure::arguments("snapshot status requires exactly one argument"));
    };
    run.out.note("Deprecated: Use `etcdutl snapshot status` instead.\n\n")?;
    let path = Path::new(path);
    let settings = Settings::new(run.line)?;
    if let Err(error) = std::fs::metadata(path) {
        let reason = shared::net::io_reason(&error);
        return Err(Failure::server(format!("stat {}: {reason}", path.display())));
    }
    let contents = bolt::read(&RealDisk, path, CACHE_BYTES).and_then(|view| contents(&view));
    let contents = contents.map_err(Failure::server)?;
    show(&contents, &mut Printer::new(run.out, settings.format, settings.hex))
}

/// Reads every key. O(size of the file).
fn contents(view: &View) -> Result<Contents, BoltError> {
    let mut contents = Contents { hash: 0, revision: 0, keys: 0, bytes: view.size() };
    for name in view.buckets()? {
        contents.hash = crc32c::crc32c_append(contents.hash, &name);
        let Some(bucket) = view.bucket(&name)? else { continue };
        for entry in bucket.range(..) {
            let (key, value) = entry?;
            contents.hash = crc32c::crc32c_append(contents.hash, &key);
            contents.hash = crc32c::crc32c_append(contents.hash, &value);
            contents.keys += 1;
            if name == KEYS
                && let Some(main) = key.first_chunk()
            {
                contents.revision = i64::from_be_bytes(*main);
            }
        }
    }
    Ok(contents)
}

fn show(contents: &Contents, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let Contents { hash, revision, keys, bytes } = contents;
    let size = human_size(i64::try_from(*bytes).unwrap_or(i64::MAX));
    let row = vec![format!("{hash:x}"), revision.to_string(), keys.to_string(), size];
    let text = match printer.format {
        Format::Simple => row.join(", ") + "\n",
        Format::Table => table(&["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"], &[row]),
        Format::Fields => {
            format!("\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {keys}\n\"Size\" : {bytes}\n")
        }
        Format::Json => {
            let mut out = Vec::new();
            let mut object = Object::new(&mut out);
            object.raw("hash", &hash.to_string());
            object.raw("revision", &revision.to_string());
            object.raw("totalKey", &keys.to_string());
            object.raw("totalSize", &bytes.to_string());
            object.end();
            String::from_utf8_lossy(&out).into_owned() + "\n"
        }
        format @ Format::Protobuf => return Err(format.unsupported()),
    };
    printer.bytes(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use shared::bolt::{Bolt, Changes, Options};

    use super::*;

    #[test]
    fn all_buckets_are_counted_and_the_last_key_has_the_revision() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let mut bolt = Bolt::create(&RealDisk, &path, Options::default()).unwrap();
        let mut changes = Changes::new();
        for bucket in [&b"key"[..], b"meta"] {
            changes.create_bucket(bucket.to_vec());
        }
        for revision in [2_i64, 3] {
            let key = [&revision.to_be_bytes()[..], b"_", &[0; 8]].concat();
            changes.put(b"key", key, b"v".to_vec());
        }
        changes.put(b"meta", b"term".to_vec(), b"1".to_vec());
        bolt.commit(&changes).unwrap();
        let found = contents(&bolt.view()).unwrap();
        let all: Vec<u8> = [
            &b"key"[..],
            &2_i64.to_be_bytes(),
            b"_",
            &[0; 8],
            b"v",
            &3_i64.to_be_bytes(),
            b"_",
            &[0; 8],
            b"v",
            b"meta",
            b"term",
            b"1",
        ]
        .concat();
        assert_eq!((found.hash, found.revision, found.keys), (crc32c::crc32c(&all), 3, 3));
    }
}
