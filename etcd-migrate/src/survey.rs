//! The first pass over the log: whether it is complete, what it holds, and who its members are at each entry.

use std::collections::BTreeMap;
use std::path::Path;

use shared::disk::{Disk, Open};
use shared::legacy::command::{Command, CommandError};
use shared::legacy::log::{LogEnd, Reader, TornPart};
use shared::legacy::{LogError, log_path};

use crate::error::MigrateError;
use crate::registry::{JoinOutcome, Registry};
use crate::report::Loss;

/// A summary of the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Survey {
    /// Index of the first entry, 0 if there is none.
    pub(crate) first: u64,
    /// Index of the last entry, 0 if there is none.
    pub(crate) last: u64,
    /// Term of the last entry.
    pub(crate) last_term: u64,
    /// How many entries there are.
    pub(crate) entries: u64,
    /// The length of the file in bytes.
    pub(crate) bytes: u64,
    /// The members after the last entry.
    pub(crate) registry: Registry,
    /// Every name that ever was a member, with the entry that removed it (unless it came back), and its last peer
    /// URL.
    pub(crate) names: BTreeMap<String, (Option<u64>, String)>,
    /// The entries that changed the members, in order, each with the only member after it, if there was just one; an
    /// empty name if no member was known.
    pub(crate) soles: Vec<(u64, Option<String>)>,
    /// The peer URLs of the members, each with the entry that set it.
    addresses: Vec<(u64, String, String)>,
    /// What the operator should know.
    pub(crate) warnings: Vec<String>,
    /// What could not be read.
    pub(crate) lost: Vec<Loss>,
}

impl Survey {
    /// Reads the log, if there is one. `registry` has the members after entry `after`; entries up to that one do not
    /// change them.
    ///
    /// # Errors
    /// If the log is damaged, without `salvage`.
    pub(crate) fn read<D: Disk>(
        disk: &D,
        data_dir: &Path,
        after: u64,
        registry: Registry,
        salvage: bool,
    ) -> Result<Survey, MigrateError> {
        let names = registry
            .machines()
            .iter()
            .map(|(name, machine)| (name.clone(), (None, machine.peer_url.clone())));
        let addresses =
            registry.machines().iter().map(|(name, machine)| (after, name.clone(), machine.peer_url.clone()));
        let mut survey = Survey {
            names: names.collect(),
            addresses: addresses.collect(),
            soles: vec![(after, sole(&registry))],
            registry,
            ..Survey::default()
        };
        let path = log_path(data_dir);
        if disk.kind(&path)?.is_none() {
            survey.warnings.push(format!("{} is missing: only the snapshot was taken", path.display()));
            return Ok(survey);
        }
        let mut reader = Reader::new(disk.open(&path, Open::Read)?)?;
        survey.bytes = reader.len();
        loop {
            let entry = match reader.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(LogError::Damaged { problem, .. }) if salvage => {
                    let skipped = reader.skip_damage()?;
                    let indexes = skipped.next.map(|next| (skipped.after + 1, next - 1));
                    survey.lost.push(Loss {
                        file: path.clone(),
                        from: skipped.from,
                        to: skipped.to,
                        indexes: indexes.filter(|(first, last)| first <= last && survey.entries > 0),
                        problem: problem.to_string(),
                    });
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if survey.entries == 0 {
                survey.first = entry.index;
            }
            survey.entries += 1;
            (survey.last, survey.last_term) = (entry.index, entry.term);
            if entry.index > after
                && matches!(&*entry.name, b"etcd:join" | b"etcd:remove" | b"etcd:setClusterConfig")
            {
                let result = Command::decode(&entry.name, &entry.command)
                    .map(|command| survey.note_members(entry.index, &command));
                // With `salvage` the second pass reports it.
                if let Err(error) = result
                    && !salvage
                {
                    return Err(command_error(&path, entry.offset, entry.index, error));
                }
            }
        }
        if reader.is_empty() {
            survey.warnings.push(empty_log(&path));
        }
        if let LogEnd::Torn { offset, bytes, rest } = reader.end() {
            survey.warnings.push(format!(
                "{} ends with {} at byte {offset}: {bytes} bytes were left out, as etcd 0.x does when it starts",
                path.display(),
                match rest {
                    TornPart::Zeros => "zeros instead of an entry",
                    TornPart::Length | TornPart::Body { .. } => "an entry that was never written in full",
                }
            ));
        }
        Ok(survey)
    }

    /// Records what an entry does to the members.
    fn note_members(&mut self, index: u64, command: &Command<'_>) {
        match command {
            Command::Join(join) => match self.registry.join(join) {
                JoinOutcome::Added(machine) | JoinOutcome::Moved { to: machine, .. } => {
                    let name = join.name.clone().into_owned();
                    self.addresses.push((index, name.clone(), machine.peer_url.clone()));
                    self.names.insert(name, (None, machine.peer_url));
                }
                JoinOutcome::Known | JoinOutcome::Refused => return,
            },
            Command::Remove(remove) => {
                if self.registry.remove(&remove.name).is_none() {
                    return;
                }
                if let Some((removed, _)) = self.names.get_mut(&*remove.name) {
                    *removed = Some(index);
                }
            }
            Command::SetClusterConfig(config) => {
                self.registry.configure(*config);
                return;
            }
            _ => return,
        }
        self.soles.push((index, sole(&self.registry)));
    }

    /// The peer URL of a member after an entry, or its first one if it joined later.
    pub(crate) fn address(&self, name: &str, at: u64) -> Option<&str> {
        let mut own = self.addresses.iter().filter(|(_, known, _)| known == name);
        let before = own.clone().take_while(|(index, ..)| *index <= at).last();
        before.or_else(|| own.find(|(index, ..)| *index > at)).map(|(.., url)| url.as_str())
    }

    /// The index up to which the log is certainly committed, given that it is up to `known`: a single member commits
    /// its entries alone, up to and including the one that adds a second member.
    pub(crate) fn commit_from(&self, known: u64, own: &str) -> u64 {
        let mut commit = known;
        loop {
            let at = self.soles.partition_point(|(index, _)| *index <= commit);
            // There is always a member: if none is known, its join is a later entry.
            let sole = at.checked_sub(1).and_then(|at| self.soles[at].1.as_deref());
            if !sole.is_some_and(|sole| sole == own || sole.is_empty()) {
                return commit;
            }
            match self.soles.get(at) {
                Some((next, _)) => commit = *next,
                None => return commit.max(self.last),
            }
        }
    }
}

/// The warning about a log of 0 bytes beside a snapshot.
pub(crate) fn empty_log(path: &Path) -> String {
    format!(
        "{} is empty (0 bytes): only the snapshot was taken. Entries after it are missing, unless the member stopped \
         right behind it; another member's directory may have them",
        path.display()
    )
}

fn sole(registry: &Registry) -> Option<String> {
    if registry.machines().is_empty() { Some(String::new()) } else { registry.sole().map(str::to_owned) }
}

/// An error about the command of an entry.
pub(crate) fn command_error(path: &Path, offset: u64, index: u64, error: CommandError) -> MigrateError {
    MigrateError::Command { file: path.to_owned(), offset, index, error }
}
