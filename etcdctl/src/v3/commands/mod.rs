//! The commands: each checks its arguments, connects, calls and prints.

mod access;
mod alarms;
mod check;
mod endpoint;
mod kv;
mod lease;
mod lock;
mod member;
mod mirror;
mod range;
mod snapshot;
mod snapshot_status;
mod txn;
mod txn_grammar;
mod users;
mod watch;
mod watch_arguments;

use super::definition::Action;
use super::failure::Failure;
use super::run::Run;

/// Runs a command that talks to a cluster.
pub(crate) async fn run(action: Action, run: Run<'_>) -> Result<(), Failure> {
    match action {
        Action::Get => kv::get(run).await,
        Action::Put => kv::put(run).await,
        Action::Del => kv::del(run).await,
        Action::Compaction => kv::compaction(run).await,
        Action::Txn => txn::txn(run).await,
        Action::Watch => watch::watch(run).await,
        Action::LeaseGrant => lease::grant(run).await,
        Action::LeaseRevoke => lease::revoke(run).await,
        Action::LeaseTimeToLive => lease::time_to_live(run).await,
        Action::LeaseList => lease::list(run).await,
        Action::LeaseKeepAlive => lease::keep_alive(run).await,
        Action::Lock => lock::lock(run).await,
        Action::Elect => lock::elect(run).await,
        Action::MemberAdd => member::add(run).await,
        Action::MemberRemove => member::remove(run).await,
        Action::MemberUpdate => member::update(run).await,
        Action::MemberList => member::list(run).await,
        Action::MemberPromote => member::promote(run).await,
        Action::MoveLeader => member::move_leader(run).await,
        Action::EndpointHealth => endpoint::health(run).await,
        Action::EndpointStatus => endpoint::status(run).await,
        Action::EndpointHashKv => endpoint::hash_kv(run).await,
        Action::Defrag => endpoint::defrag(run).await,
        Action::AlarmList => alarms::list(run).await,
        Action::AlarmDisarm => alarms::disarm(run).await,
        Action::CheckPerf => check::perf(run).await,
        Action::CheckDataScale => check::data_scale(run).await,
        Action::MakeMirror => mirror::make(run).await,
        Action::SnapshotStatus => snapshot_status::status(run).await,
        Action::SnapshotSave => snapshot::save(run).await,
        Action::AuthEnable => access::enable(run).await,
        Action::AuthDisable => access::disable(run).await,
        Action::AuthStatus => access::status(run).await,
        Action::UserAdd => users::add(run).await,
        Action::UserDelete => users::delete(run).await,
        Action::UserGet => users::get(run).await,
        Action::UserList => users::list(run).await,
        Action::UserPasswd => users::passwd(run).await,
        Action::UserGrantRole => users::grant_role(run).await,
        Action::UserRevokeRole => users::revoke_role(run).await,
        Action::RoleAdd => access::role_add(run).await,
        Action::RoleDelete => access::role_delete(run).await,
        Action::RoleGet => access::role_get(run).await,
        Action::RoleList => access::role_list(run).await,
        Action::RoleGrantPermission => access::grant_permission(run).await,
        Action::RoleRevokePermission => access::revoke_permission(run).await,
        // These need no cluster: `v3::run` has done them.
        Action::Version | Action::Help | Action::Completion => Ok(()),
    }
}
