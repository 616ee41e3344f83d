//! The findings as text.

use std::fmt::{self, Display};

use super::findings::{Findings, V2Node, is_user_or_role};

/// How many nodes of each kind are listed without `--all`.
const NAMED: usize = 20;

/// The findings as text.
pub(super) struct TextReport<'a> {
    pub(super) findings: &'a Findings,
    /// Whether all nodes are listed.
    pub(super) all: bool,
}

impl Display for TextReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { dir, release, keys, auth, other, log, .. } = self.findings;
        let directories = keys.iter().filter(|node| node.dir).count();
        let records = auth.iter().filter(|node| is_user_or_role(node)).count();
        self.write_verdict(f)?;
        writeln!(f)?;
        writeln!(f, "directory   {dir}, written by etcd {release}")?;
        match &self.findings.snapshot {
            Some(snapshot) => writeln!(
                f,
                "snapshot    {} (index {}, term {})",
                snapshot.file, snapshot.index, snapshot.term
            )?,
            None => writeln!(f, "snapshot    none")?,
        }
        write!(f, "log         {} entries after it, the last is {}", log.entries, log.last_index)?;
        writeln!(f, "; {} v2 requests, {} v3", log.v2_requests, log.v3_requests)?;
        if let (Some(first), Some(last)) = (&log.first_v2_request, &log.last_v2_request) {
            writeln!(
                f,
                "            the first v2 request is entry {}: {} {}",
                first.index, first.method, first.path
            )?;
            writeln!(
                f,
                "            the last v2 request is entry {}: {} {}",
                last.index, last.method, last.path
            )?;
        }
        writeln!(f, "v2 keys     {} in {directories} directories", keys.len() - directories)?;
        writeln!(f, "v2 auth     {records} users and roles")?;
        if let Some(since) = self.findings.since {
            writeln!(f, "since       index {since} of the v2 store")?;
        }
        for (title, nodes) in [("keys", keys), ("auth records", auth), ("other nodes", other)] {
            self.write_nodes(f, title, nodes)?;
        }
        if !self.findings.notices.is_empty() {
            writeln!(f, "\nnotes:")?;
        }
        for notice in &self.findings.notices {
            writeln!(f, "  {notice}")?;
        }
        self.write_advice(f)
    }
}

impl TextReport<'_> {
    /// Whether there is v2 data, or v2 requests or a snapshot that 3.6 refuses.
    fn is_v2(&self) -> bool {
        let Findings { snapshot, log, keys, auth, other, .. } = self.findings;
        let is_refused = snapshot.as_ref().is_some_and(|snapshot| snapshot.refused);
        let any = !keys.is_empty() || !other.is_empty() || auth.iter().any(is_user_or_role);
        any || is_refused || log.v2_requests > 0
    }

    fn write_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { found, refused, unreadable, snapshot, log, keys, auth, other, members, .. } =
            self.findings;
        let any = !keys.is_empty() || !other.is_empty() || auth.iter().any(is_user_or_role);
        match (found, refused) {
            (true, true) if !self.is_v2() => {
                writeln!(
                    f,
                    "There is no v2 data, but a member that etcd 3.6 cannot read: it refuses to start."
                )?;
            }
            (true, true) if !any => {
                writeln!(
                    f,
                    "No v2 data is left, but the files still hold old v2 data: etcd 3.6 refuses to start on them."
                )?;
            }
            (true, true) => writeln!(f, "There is v2 data: etcd 3.6 refuses to start on it.")?,
            (true, false) => {
                writeln!(f, "There is v2 data: etcd 3.6 would start, but no client could read it any more.")?
            }
            (false, _) if unreadable.is_none() => {
                writeln!(f, "There is no v2 data that etcd 3.6 would refuse.")?
            }
            (false, _) => writeln!(f, "No v2 data was found, but not all could be read.")?,
        }
        if snapshot.as_ref().is_some_and(|snapshot| snapshot.refused) {
            writeln!(f, "  The snapshot holds v2 keys, users or roles.")?;
        }
        if log.v2_requests > 0 {
            let place = if snapshot.is_some() { " after the snapshot" } else { "" };
            writeln!(f, "  The log{place} holds v2 requests, which 3.6 does not replay.")?;
        }
        for fault in members {
            writeln!(f, "  3.6 stops at a record of a member: {fault}")?;
        }
        if !self.findings.is_start_known {
            writeln!(f, "  The log cannot be read, so it is not known which snapshot counts.")?;
        }
        if let Some(error) = unreadable {
            writeln!(f, "  Not read to the end: {error}")?;
        }
        Ok(())
    }

    fn write_nodes(&self, f: &mut fmt::Formatter<'_>, title: &str, nodes: &[V2Node]) -> fmt::Result {
        if nodes.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n{title}:\n   created  modified")?;
        let shown = if self.all { nodes.len() } else { nodes.len().min(NAMED) };
        for V2Node { key, dir, created_index, modified_index, expiration } in &nodes[..shown] {
            let slash = if *dir { "/" } else { "" };
            write!(f, "{created_index:>10}{modified_index:>10}  {}{slash}", key.escape_debug())?;
            match expiration {
                Some(time) => writeln!(f, "  until {time}")?,
                None => writeln!(f)?,
            }
        }
        match nodes.len() - shown {
            0 => Ok(()),
            left => writeln!(f, "  and {left} more: --all lists them"),
        }
    }

    fn write_advice(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { found, keys, auth, other, members, dir, .. } = self.findings;
        if self.findings.unreadable.is_some() {
            writeln!(
                f,
                "\nWhat could not be read may hold v2 data. `etcd-dump --verify {dir}` tells what is damaged; look\n\
                 again once that is mended or the member replaced."
            )?;
        }
        if !found {
            return Ok(());
        }
        writeln!(f, "\nwhat to do before the upgrade to 3.6:")?;
        if !members.is_empty() {
            writeln!(
                f,
                "  The record of a member that has left, or a damaged one, is still in the v2 store. Bring all members to\n  \
                 the newest 3.5, compare with `etcdctl member list`, let the server take a snapshot, and look again."
            )?;
        }
        if self.findings.release == "2.x" {
            writeln!(
                f,
                "  0. Upgrade from 2.x to 3.0 first, and on to 3.5, one minor version after the other."
            )?;
        }
        if keys.is_empty() && !auth.iter().any(is_user_or_role) && other.is_empty() {
            if !self.is_v2() {
                return Ok(());
            }
            return writeln!(
                f,
                "  The keys are gone already; only the files still tell of them. Let the server (3.5) take a\n  \
                 snapshot: restart it with --snapshot-count=1, write a few v3 keys, and look again."
            );
        }
        writeln!(
            f,
            "  1. Keep what is needed: etcd-dump export {} -o v2-keys.json\n  \
             2. Remove the v2 keys, users and roles by the v2 API of 3.4 or 3.5 (--enable-v2=true).\n  \
             3. Let the server take a snapshot: restart it with --snapshot-count=1, write a few v3 keys.\n  \
             4. Look again, at each member.",
            self.findings.dir
        )
    }
}
