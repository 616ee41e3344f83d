//! The end of a run: after the faults the cluster must recover, and nothing may be missing.

use super::oracle::Violation;
use super::plan::{MILLISECOND, Micros, SECOND};
use super::queue::SimEvent;
use super::world::{World, name};

/// How long a healthy cluster may take to have a leader, accept writes and have equal members.
const RECOVERY_MAX: Micros = 60 * SECOND;

impl World {
    /// Checks whether the cluster has recovered; if so, compares everything for the last time.
    pub(super) fn inspect(&mut self) -> Result<(), Violation> {
        let since = self.now - self.healed_at.unwrap_or(self.now);
        let Some(applied) = self.all_equal() else {
            if since > RECOVERY_MAX {
                return Err(Violation::new(format!(
                    "no progress after faults have ended: {}",
                    self.describe()
                )));
            }
            self.after(200 * MILLISECOND, SimEvent::Inspect);
            return Ok(());
        };
        if applied < self.oracle.acknowledged() {
            return Err(Violation::new(format!(
                "acknowledged writes are lost: entry {} was applied, and all members end at {applied}",
                self.oracle.acknowledged()
            )));
        }
        // A removed member may not know of its removal yet.
        for (id, host) in &self.hosts {
            if let Some(process) = &host.process
                && process.node.member().status().applied == applied
            {
                self.oracle.compare(*id, applied, &process.store)?;
            }
        }
        self.trace_line(|| format!("all is well: {}", self.describe()));
        self.done = true;
        Ok(())
    }

    /// The applied index of all members, if it is equal, there is a leader that has applied an entry of its term, and
    /// clients are done. Before that entry a new leader may not have applied what the one before it had acknowledged.
    pub(super) fn all_equal(&self) -> Option<u64> {
        if !self.clients.is_finished() {
            return None;
        }
        let (mut found, mut has_current_leader) = (None, false);
        for id in self.oracle.members() {
            let status = self.process(*id)?.node.member().status();
            if status.leader.0 == 0 || *found.get_or_insert(status.applied) != status.applied {
                return None;
            }
            has_current_leader |= status.current;
        }
        found.filter(|_| has_current_leader)
    }

    pub(super) fn describe(&self) -> String {
        let mut text = String::new();
        for (id, host) in &self.hosts {
            text.push_str(&format!("\n  {}: ", name(*id)));
            match &host.process {
                Some(process) => {
                    let s = process.node.member().status();
                    text.push_str(&format!(
                        "{:?}, term {}, leader {}, committed {}, applied {}",
                        s.role,
                        s.term,
                        name(s.leader),
                        s.commit,
                        s.applied
                    ));
                }
                None if host.removed => text.push_str("removed"),
                None => text.push_str("does not run"),
            }
        }
        text
    }
}
