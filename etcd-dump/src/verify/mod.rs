//! `--verify`: reads every file of a directory to its end and reports what is wrong with it.

mod log;
mod snapshots;
mod terms;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use shared::disk::{Disk as _, RealDisk};
use shared::wal::SegmentName;

use crate::dump_flags::{Format, Lengths};
use crate::fields::Value;
use crate::lines::Lines;
use crate::paths::MemberFiles;

/// The checks, in the order of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    /// Files exist, can be read and end where they should.
    Files,
    /// Checksums of records and files.
    Sums,
    /// Segments follow one another.
    Chain,
    /// All segments belong to one member.
    Metadata,
    /// Entries have no gap.
    Indexes,
    /// Terms never fall.
    Terms,
    /// Entries can be decoded.
    Entries,
    /// Terms and commit indexes of the states.
    States,
    /// Snapshots can be read, and the log has their marks.
    Snapshots,
}

impl Check {
    /// The name in the output.
    fn name(self) -> &'static str {
        match self {
            Check::Files => "files",
            Check::Sums => "sums",
            Check::Chain => "chain",
            Check::Metadata => "metadata",
            Check::Indexes => "indexes",
            Check::Terms => "terms",
            Check::Entries => "entries",
            Check::States => "states",
            Check::Snapshots => "snapshots",
        }
    }
}

/// Prints and counts what the checks find.
pub(crate) struct VerifyReport<'a, W> {
    lines: Lines<'a, W>,
    /// For each check, how many items were checked, and how many flaws were found.
    checked: BTreeMap<Check, [u64; 2]>,
}

impl<'a, W: Write> VerifyReport<'a, W> {
    pub(crate) fn new(format: Format, out: &'a mut W) -> VerifyReport<'a, W> {
        VerifyReport { lines: Lines::new(format, Lengths::Whole, out), checked: BTreeMap::new() }
    }

    /// Counts an item that was checked.
    pub(crate) fn count_check(&mut self, check: Check) {
        self.checked.entry(check).or_default()[0] += 1;
    }

    /// Reports a flaw.
    pub(crate) fn flaw(
        &mut self,
        check: Check,
        file: &Path,
        offset: Option<u64>,
        flaw: String,
    ) -> Result<()> {
        self.checked.entry(check).or_default()[1] += 1;
        self.place(file, offset);
        self.lines.add("check", Value::Word(check.name()));
        self.lines.add("flaw", Value::Text(flaw.into()));
        self.lines.write("flaw")
    }

    /// Reports something that is not a flaw.
    pub(crate) fn note(&mut self, file: &Path, note: String) -> Result<()> {
        self.place(file, None);
        self.lines.add("note", Value::Text(note.into()));
        self.lines.write("note")
    }

    fn place(&mut self, file: &Path, offset: Option<u64>) {
        self.lines.add("file", Value::Text(file.as_os_str().as_encoded_bytes().to_vec().into()));
        if let Some(offset) = offset {
            self.lines.add("offset", Value::Number(offset));
        }
    }

    /// Reports a file that was read.
    pub(crate) fn file(&mut self, what: &str, file: &Path, about: &[(&'static str, u64)]) -> Result<()> {
        self.count_check(Check::Files);
        self.place(file, None);
        for (name, number) in about {
            self.lines.add(name, Value::Number(*number));
        }
        self.lines.write(what)
    }

    /// Prints the totals; returns whether there are no flaws.
    pub(crate) fn finish(mut self) -> Result<bool> {
        for (check, [count_check, flaws]) in std::mem::take(&mut self.checked) {
            self.lines.add("check", Value::Word(check.name()));
            self.lines.add("looked", Value::Number(count_check));
            self.lines.add("flaws", Value::Number(flaws));
            self.lines.write("checked")?;
            self.checked.insert(check, [count_check, flaws]);
        }
        let flaws = self.checked.values().map(|[_, flaws]| flaws).sum();
        self.lines.add("good", Value::Flag(flaws == 0));
        self.lines.add("flaws", Value::Number(flaws));
        self.lines.write("result")?;
        Ok(flaws == 0)
    }
}

/// Checks the files of a member.
///
/// # Errors
/// If the output cannot be written. What is wrong with the files is a finding.
pub(crate) fn member(files: &MemberFiles, format: Format, out: &mut impl Write) -> Result<bool> {
    let mut findings = VerifyReport::new(format, out);
    let known = snapshots::check(&files.snap, &mut findings)?;
    log::check(&files.wal, &known, &mut findings)?;
    for dir in [&files.snap, &files.wal] {
        passed_over(dir, &mut findings)?;
    }
    findings.finish()
}

/// Notes the files that no check covers, so that they do not count as good.
fn passed_over(dir: &Path, findings: &mut VerifyReport<'_, impl Write>) -> Result<()> {
    // A folder that cannot be listed is a flaw already.
    for name in RealDisk.list(dir).unwrap_or_default() {
        let is_checked = name.as_encoded_bytes().ends_with(b".snap") || SegmentName::parse(&name).is_some();
        if is_checked {
            continue;
        }
        let note = match name.as_encoded_bytes() {
            b"db" => "the database of the v3 API is not looked at",
            name if name.ends_with(b".broken") => "was set aside as damaged, and is not looked at",
            _ => "is not looked at",
        };
        findings.note(&dir.join(&name), note.to_owned())?;
    }
    Ok(())
}
