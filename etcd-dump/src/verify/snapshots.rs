//! Checks snapshot files.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use shared::disk::RealDisk;
use shared::pb::WalSnapshot;
use shared::snap::{self, SnapError, Snapshots};
use shared::store::Store;

use super::{Check, VerifyReport};
use crate::doctor::member_faults;

/// A good snapshot.
#[derive(Debug, Clone)]
pub(crate) struct GoodSnapshot {
    pub(crate) file: PathBuf,
    pub(crate) at: WalSnapshot,
}

/// Reads all snapshots in a folder; returns the good ones, oldest first.
pub(crate) fn check(dir: &Path, findings: &mut VerifyReport<'_, impl Write>) -> Result<Vec<GoodSnapshot>> {
    let names = match Snapshots::new(RealDisk, dir).names() {
        Ok(names) => names,
        Err(error) => {
            findings.flaw(Check::Files, dir, None, error.to_string())?;
            return Ok(Vec::new());
        }
    };
    let mut known = Vec::new();
    for name in names {
        let file = dir.join(&name);
        findings.count_check(Check::Sums);
        findings.count_check(Check::Snapshots);
        let snapshot = match snap::read(&RealDisk, &file) {
            Ok(snapshot) => snapshot,
            Err(SnapError::Broken { damage, .. }) => {
                findings.flaw(Check::Sums, &file, None, damage.to_string())?;
                continue;
            }
            Err(error) => {
                findings.flaw(Check::Files, &file, None, error.to_string())?;
                continue;
            }
        };
        let at = WalSnapshot { index: snapshot.metadata.index, term: snapshot.metadata.term };
        let members = snapshot.metadata.conf_state.nodes.len() as u64;
        let store = snapshot.data.unwrap_or_default();
        let about = [
            ("index", at.index),
            ("term", at.term),
            ("members", members),
            ("storeBytes", store.len() as u64),
        ];
        findings.file("snapshot", &file, &about)?;
        if name != *snap::file_name(at.term, at.index) {
            let flaw = format!("the name is not that of its entry (index {}, term {})", at.index, at.term);
            findings.flaw(Check::Snapshots, &file, None, flaw)?;
        }
        match Store::recover(&store, 1) {
            Ok(store) => {
                for fault in member_faults(&store) {
                    findings.flaw(Check::Snapshots, &file, None, fault)?;
                }
                known.push(GoodSnapshot { file, at });
            }
            Err(error) => findings.flaw(Check::Snapshots, &file, None, error.to_string())?,
        }
    }
    Ok(known)
}
