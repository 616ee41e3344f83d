//! The alarms of the cluster, which entries of the log raise and end.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;
use shared::mvcc::db::{Bucket, Committed, Database};
use shared::v3::pb::etcdserverpb::alarm_request::AlarmAction;
use shared::v3::pb::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};

use super::meta::OpenError;

/// An alarm: a member, and the number of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Alarm {
    /// The kind, see [`AlarmType`].
    pub kind: i32,
    /// The member that has it.
    pub member: u64,
}

/// The alarms that are on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alarms(BTreeSet<Alarm>);

impl Alarm {
    fn record(self) -> AlarmMember {
        AlarmMember { member_id: self.member, alarm: self.kind }
    }
}

impl Alarms {
    /// The alarms of a database.
    pub(super) fn read<C: Committed>(database: &Database<C>) -> Result<Alarms, OpenError> {
        let mut alarms = Alarms::default();
        let mut bad = None;
        let scanned = database.view().scan(Bucket::Alarm, b"", None, &mut |key, _| {
            let Ok(AlarmMember { member_id, alarm }) = AlarmMember::decode(key) else {
                bad = Some(OpenError::form(Bucket::Alarm, key, "alarm"));
                return ControlFlow::Break(());
            };
            alarms.0.insert(Alarm { kind: alarm, member: member_id });
            ControlFlow::Continue(())
        });
        scanned.map_err(OpenError::database)?;
        bad.map_or(Ok(alarms), Err)
    }

    /// Whether some member has this alarm.
    pub fn has(&self, kind: AlarmType) -> bool {
        self.0.iter().any(|alarm| alarm.kind == kind as i32)
    }

    /// Whether this member has this alarm.
    pub fn has_of(&self, member: u64, kind: AlarmType) -> bool {
        self.0.contains(&Alarm { kind: kind as i32, member })
    }

    /// All alarms of a kind, or all for [`AlarmType::None`].
    pub fn list(&self, kind: i32) -> Vec<AlarmMember> {
        let wanted = |alarm: &&Alarm| kind == AlarmType::None as i32 || alarm.kind == kind;
        self.0.iter().filter(wanted).map(|alarm| alarm.record()).collect()
    }

    /// Carries a request out, and lists what it concerned.
    pub(super) fn apply<C: Committed>(
        &mut self,
        request: &AlarmRequest,
        database: &mut Database<C>,
    ) -> Vec<AlarmMember> {
        let alarm = Alarm { kind: request.alarm, member: request.member_id };
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.list(request.alarm),
            Ok(AlarmAction::Activate) if request.alarm == AlarmType::None as i32 => Vec::new(),
            Ok(AlarmAction::Activate) => {
                if self.0.insert(alarm) {
                    database.put(Bucket::Alarm, &alarm.record().encode_to_vec(), Bytes::new());
                }
                vec![alarm.record()]
            }
            Ok(AlarmAction::Deactivate) => {
                if !self.0.remove(&alarm) {
                    return Vec::new();
                }
                database.delete(Bucket::Alarm, &alarm.record().encode_to_vec());
                vec![alarm.record()]
            }
            Err(_) => Vec::new(),
        }
    }
}
