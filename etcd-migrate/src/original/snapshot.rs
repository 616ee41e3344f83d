//! The snapshot of the original conversion.

use std::collections::BTreeMap;
use std::path::Path;

use shared::disk::{Disk, Kind};
use shared::id::MemberId;
use shared::legacy::{SnapshotError, snapshot};
use shared::pb;
use shared::store::{Image, Store};

use super::refuse;
use crate::engine::TERM_OFFSET;
use crate::error::MigrateError;
use crate::registry::{MACHINES, Registry};

/// The newest snapshot, converted.
pub(super) struct OriginalSnapshot {
    pub(super) at: pb::WalSnapshot,
    pub(super) ids: Vec<u64>,
    pub(super) names: BTreeMap<String, MemberId>,
    pub(super) image: Image,
}

impl OriginalSnapshot {
    pub(super) fn newest<D: Disk>(disk: &D, dir: &Path) -> Result<Option<OriginalSnapshot>, MigrateError> {
        if disk.kind(dir)? != Some(Kind::Dir) {
            return Ok(None);
        }
        for name in disk.list(dir)? {
            if snapshot::SnapshotName::parse(&name).is_none() {
                let name = name.to_string_lossy();
                return refuse(match name.strip_suffix(".ss") {
                    None => format!("file {name:?} does not have .ss extension"),
                    Some(_) => format!("unrecognized file name format {name:?}"),
                });
            }
        }
        let Some(file) = snapshot::newest(disk, dir)? else { return Ok(None) };
        let read = snapshot::read(disk, &file);
        let snapshot = match read {
            Ok(snapshot) => snapshot,
            Err(SnapshotError::Disk(error)) => return Err(error.into()),
            Err(error) => return refuse(error.to_string()),
        };
        let store = Store::recover_legacy(&snapshot.state, 1, false);
        let store = match store {
            Ok(store) => store,
            Err(error) => return refuse(format!("{}: {error}", file.display())),
        };
        let registry = Registry::from_store(&store);
        registry.check_urls()?;
        let names: BTreeMap<_, _> =
            registry.machines().iter().map(|(name, machine)| (name.clone(), machine.id())).collect();
        let mut ids: Vec<u64> = names.values().map(|id| id.0).collect();
        ids.sort_unstable();
        let image = members_below_0(store.image(), &registry)?;
        let at = pb::WalSnapshot { index: snapshot.last_index, term: snapshot.last_term + TERM_OFFSET };
        Ok(Some(OriginalSnapshot { at, ids, names, image }))
    }
}

/// Adds the members to the tree; those below `/1/_etcd` stay.
fn members_below_0(mut image: Image, registry: &Registry) -> Result<Image, MigrateError> {
    let Some((created, modified)) = image.indexes(b"/1/_etcd") else {
        return refuse("it has no answer to a snapshot without members".to_owned());
    };
    let members = image.indexes(MACHINES.as_bytes());
    let machines: Vec<_> = registry
        .machines()
        .iter()
        .map(|(name, machine)| {
            (name, machine, image.indexes(format!("{MACHINES}/{name}").as_bytes()).unwrap_or_default())
        })
        .collect();
    let mut place = |path: &str, value: Option<&[u8]>, (created, modified)| {
        let placed = image.put_node(path.as_bytes(), value, created, modified);
        assert!(placed.is_ok(), "a key stands in the way of {path}");
    };
    place("/0", None, (created, modified));
    if let Some(indexes) = members {
        place("/0/members", None, indexes);
    }
    for (name, machine, indexes) in machines {
        let member = format!("/0/members/{}", machine.id());
        place(&member, None, indexes);
        place(&format!("{member}/attributes"), Some(&machine.attributes(name)), indexes);
        place(&format!("{member}/raftAttributes"), Some(&machine.raft_attributes()), indexes);
    }
    Ok(image)
}
