//! `etcd-dump --bolt FILE`: buckets, pages and flaws of the database of etcd 3.x.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use shared::bolt::{BucketStats, PageCounts, Report, check};
use shared::disk::RealDisk;

use crate::dump_flags::{Format, Lengths};
use crate::fields::Value;
use crate::lines::Lines;

/// Checks a file and prints what is in it; returns whether it is good.
///
/// # Errors
/// If it cannot be read, no meta page counts, or the output cannot be written.
pub(crate) fn show(file: &Path, format: Format, out: &mut impl Write) -> Result<bool> {
    let report = check(&RealDisk, file)?;
    let mut lines = Lines::new(format, Lengths::Whole, out);
    write_file(&report, &mut lines)?;
    for bucket in &report.buckets {
        write_bucket(bucket, &mut lines)?;
    }
    for finding in &report.findings {
        lines.add("page", Value::Number(finding.page));
        lines.add("flaw", Value::Text(finding.damage.to_string().into()));
        lines.write("flaw")?;
    }
    lines.fields.add("good", Value::Flag(report.is_sound()));
    lines.add("flaws", Value::Number(report.findings.len() as u64 + report.more_findings));
    lines.write("result")?;
    Ok(report.is_sound())
}

fn write_file(report: &Report, lines: &mut Lines<'_, impl Write>) -> Result<()> {
    let in_use = (report.high_water - report.free_pages) * u64::from(report.page_size);
    for (name, number) in [
        ("pageBytes", u64::from(report.page_size)),
        ("fileBytes", report.file_bytes),
        ("pages", report.high_water),
        ("freePages", report.free_pages),
        ("bytesInUse", in_use),
        ("freeListPages", report.free_list_pages),
        ("txid", report.txid),
    ] {
        lines.add(name, Value::Number(number));
    }
    lines.write("file")?;
    for (page, meta) in report.metas.iter().enumerate() {
        lines.add("page", Value::Number(page as u64));
        match meta {
            Ok(txid) => lines.add("txid", Value::Number(*txid)),
            Err(damage) => lines.add("flaw", Value::Text(damage.to_string().into())),
        }
        lines.write("meta")?;
    }
    add_pages(report.root_pages, lines);
    lines.add("keys", Value::Number(report.root_keys));
    lines.write("root")
}

fn write_bucket(bucket: &BucketStats, lines: &mut Lines<'_, impl Write>) -> Result<()> {
    lines.add("bucket", Value::Text(bucket.path.join(&b'/').into()));
    lines.add("keys", Value::Number(bucket.keys));
    lines.add("bytes", Value::Number(bucket.bytes));
    lines.add("depth", Value::Number(bucket.depth as u64));
    add_pages(bucket.pages, lines);
    lines.fields.add_flag("inline", bucket.inline);
    if bucket.nested > 0 {
        lines.add("nested", Value::Number(bucket.nested));
    }
    lines.write("bucket")
}

fn add_pages(pages: PageCounts, lines: &mut Lines<'_, impl Write>) {
    for (name, number) in
        [("branchPages", pages.branch), ("leafPages", pages.leaf), ("overflowPages", pages.overflow)]
    {
        lines.add(name, Value::Number(number));
    }
}

#[cfg(test)]
mod tests {
    use shared::bolt::{Bolt, Changes, Options};

    use super::*;

    fn shown(file: &Path, format: Format) -> (bool, String) {
        let mut out = Vec::new();
        let good = show(file, format, &mut out).unwrap();
        (good, String::from_utf8(out).unwrap())
    }

    #[test]
    fn buckets_pages_and_flaws_are_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("db");
        let mut bolt = Bolt::create(&RealDisk, &file, Options::default()).unwrap();
        let mut changes = Changes::new();
        for i in 0..100_u8 {
            changes.put(b"key", vec![i], vec![i; 100]);
        }
        changes.put(b"meta", "term", "1");
        bolt.commit(&changes).unwrap();
        drop(bolt);
        let (good, text) = shown(&file, Format::Text);
        assert!(good && text.ends_with("result good=true flaws=0\n"), "{text}");
        assert!(text.contains("bucket bucket=\"key\" keys=100 bytes=10100 depth=2 branchPages=1"), "{text}");
        assert!(text.contains("bucket bucket=\"meta\" keys=1 bytes=5 depth=1"), "{text}");
        let (_, json) = shown(&file, Format::Json);
        let lines: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.iter().any(|line| line["type"] == "bucket" && line["inline"] == true), "{json}");
        // The kind of page 3, a leaf, and the checksum of the older meta page.
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[3 * 4096 + 8] = 7;
        bytes[4096 + 75] ^= 1;
        let mut copy = shared::disk::OutputFile::create(&file).unwrap();
        copy.write_all(&bytes).unwrap();
        copy.finish().unwrap();
        let (good, text) = shown(&file, Format::Full);
        assert!(!good && text.contains("meta page=1 flaw=\"checksum error\""), "{text}");
        assert!(text.contains("flaw page=3 flaw=\"unexpected page type: 0x7\"\nresult good=false"), "{text}");
    }
}
