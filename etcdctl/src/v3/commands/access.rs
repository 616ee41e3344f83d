//! The commands for authentication and roles.

use std::os::unix::ffi::OsStrExt as _;

use bytes::Bytes;
use shared::v3::pb::authpb::{Permission, permission};
use shared::v3::pb::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest,
    AuthRoleGetResponse, AuthRoleGrantPermissionRequest, AuthRoleListRequest,
    AuthRoleRevokePermissionRequest, AuthStatusRequest, AuthUserGrantRoleRequest,
};

use super::super::failure::Failure;
use super::super::run::Run;
use super::range;

const NO_ROOT_ROLE: &str = "etcdserver: root user does not have root role";
const ROOT: &str = "root";

fn no_arguments(run: &Run<'_>, command: &str) -> Result<(), Failure> {
    match run.line.arguments.is_empty() {
        true => Ok(()),
        false => Err(Failure::arguments(format!("{command} command does not accept any arguments"))),
    }
}

pub(super) async fn enable(run: Run<'_>) -> Result<(), Failure> {
    no_arguments(&run, "auth enable")?;
    let mut session = run.connect().await?;
    let enable = || session.call(session.client.auth_enable(AuthEnableRequest {}));
    match enable().await {
        // The original makes root what it has to be.
        Err(error) if error.is(NO_ROOT_ROLE) => {
            let role = AuthRoleAddRequest { name: ROOT.to_owned() };
            match session.call(session.client.role_add(role)).await {
                Err(error) if !error.is("etcdserver: role name already exists") => return Err(error.into()),
                _ => {}
            }
            let grant = AuthUserGrantRoleRequest { user: ROOT.to_owned(), role: ROOT.to_owned() };
            session.call(session.client.user_grant_role(grant)).await?;
            enable().await?;
        }
        outcome => drop(outcome?),
    }
    session.printer.bytes(b"Authentication Enabled\n")
}

pub(super) async fn disable(run: Run<'_>) -> Result<(), Failure> {
    no_arguments(&run, "auth disable")?;
    let mut session = run.connect().await?;
    session.call(session.client.auth_disable(AuthDisableRequest {})).await?;
    session.printer.bytes(b"Authentication Disabled\n")
}

pub(super) async fn status(run: Run<'_>) -> Result<(), Failure> {
    no_arguments(&run, "auth status")?;
    let mut session = run.connect().await?;
    let answer = session.call(session.client.auth_status(AuthStatusRequest {})).await?;
    session.printer.answer(&answer, |_, out| {
        let text =
            format!("Authentication Status: {}\nAuthRevision: {}\n", answer.enabled, answer.auth_revision);
        out.extend_from_slice(text.as_bytes());
    })
}

/// The role that is the only argument.
fn role(run: &Run<'_>, command: &str) -> Result<String, Failure> {
    match run.line.arguments.len() {
        1 => Ok(run.line.argument(0)),
        _ => Err(Failure::arguments(format!("{command} command requires role name as its argument"))),
    }
}

pub(super) async fn role_add(run: Run<'_>) -> Result<(), Failure> {
    let name = role(&run, "role add")?;
    let mut session = run.connect().await?;
    let answer = session.call(session.client.role_add(AuthRoleAddRequest { name: name.clone() })).await?;
    session.printer.answer(&answer, |_, out| out.extend(format!("Role {name} created\n").into_bytes()))
}

pub(super) async fn role_delete(run: Run<'_>) -> Result<(), Failure> {
    let role = role(&run, "role delete")?;
    let mut session = run.connect().await?;
    let answer =
        session.call(session.client.role_delete(AuthRoleDeleteRequest { role: role.clone() })).await?;
    session.printer.answer(&answer, |_, out| out.extend(format!("Role {role} deleted\n").into_bytes()))
}

pub(super) async fn role_list(run: Run<'_>) -> Result<(), Failure> {
    if !run.line.arguments.is_empty() {
        return Err(Failure::arguments("role list command requires no arguments"));
    }
    let mut session = run.connect().await?;
    let answer = session.call(session.client.role_list(AuthRoleListRequest {})).await?;
    session.printer.answer(&answer, |_, out| {
        answer.roles.iter().for_each(|role| out.extend(format!("{role}\n").into_bytes()));
    })
}

pub(super) async fn role_get(run: Run<'_>) -> Result<(), Failure> {
    let role = role(&run, "role get")?;
    let mut session = run.connect().await?;
    let answer = session.call(session.client.role_get(AuthRoleGetRequest { role: role.clone() })).await?;
    session.printer.answer(&answer, |_, out| simple_role(&role, &answer, out))
}

/// A role with its permissions, those for reading first.
pub(super) fn simple_role(role: &str, answer: &AuthRoleGetResponse, out: &mut Vec<u8>) {
    out.extend(format!("Role {role}\n").into_bytes());
    for (title, other) in [("KV Read:", permission::Type::Write), ("KV Write:", permission::Type::Read)] {
        out.extend(format!("{title}\n").into_bytes());
        for permission in answer.perm.iter().filter(|permission| permission.perm_type() != other) {
            out.extend_from_slice(b"\t");
            write_range(&permission.key, &permission.range_end, out);
            out.push(b'\n');
        }
    }
}

/// `key`, `[key, end)`, with the prefix if it is one, or `[key, <open ended>`.
fn write_range(key: &[u8], end: &[u8], out: &mut Vec<u8>) {
    match end {
        b"" => return out.extend_from_slice(key),
        b"\0" => {
            out.push(b'[');
            out.extend_from_slice(key);
            return out.extend_from_slice(b", <open ended>");
        }
        _ => {}
    }
    out.extend([b"[", key, b", ", end, b")"].concat());
    if range::end_of_prefix(key) == end {
        out.extend([&b" (prefix "[..], key, b")"].concat());
    }
}

/// The keys that `--prefix`, `--from-key` and the arguments name.
fn keys(run: &Run<'_>, at: usize) -> Result<(Bytes, Bytes), Failure> {
    let flags = &run.line.flags;
    let (prefix, from_key) = (flags.is_on("prefix"), flags.is_on("from-key"));
    let bytes = |at: usize| run.line.arguments.get(at).map(|word| Bytes::copy_from_slice(word.as_bytes()));
    let key = bytes(at).unwrap_or_default();
    if prefix && from_key {
        return Err(Failure::arguments("--from-key and --prefix flags are mutually exclusive"));
    }
    match bytes(at + 1) {
        Some(_) if prefix => Err(Failure::arguments("unexpected endkey argument with --prefix flag")),
        Some(_) if from_key => Err(Failure::arguments("unexpected endkey argument with --from-key flag")),
        Some(end) => Ok((key, end)),
        None if prefix => Ok(range::of_prefix(&key)),
        None if from_key => Ok(range::from(&key)),
        None => Ok((key, Bytes::new())),
    }
}

pub(super) async fn grant_permission(run: Run<'_>) -> Result<(), Failure> {
    if run.line.arguments.len() < 3 {
        return Err(Failure::arguments(
            "role grant command requires role name, permission type, and key [endkey] as its argument",
        ));
    }
    let name = run.line.argument(0);
    let kind = run.line.argument(1);
    let Some(perm_type) = permission::Type::from_str_name(&kind.to_uppercase()) else {
        return Err(Failure::arguments(format!("invalid permission type: {kind}")));
    };
    let (key, range_end) = keys(&run, 2)?;
    let perm = Some(Permission { perm_type: perm_type.into(), key, range_end });
    let mut session = run.connect().await?;
    let request = AuthRoleGrantPermissionRequest { name: name.clone(), perm };
    let answer = session.call(session.client.role_grant_permission(request)).await?;
    session.printer.answer(&answer, |_, out| out.extend(format!("Role {name} updated\n").into_bytes()))
}

pub(super) async fn revoke_permission(run: Run<'_>) -> Result<(), Failure> {
    if run.line.arguments.len() < 2 {
        return Err(Failure::arguments(
            "role revoke-permission command requires role name and key [endkey] as its argument",
        ));
    }
    let role = run.line.argument(0);
    let (key, range_end) = keys(&run, 1)?;
    let mut session = run.connect().await?;
    let request = AuthRoleRevokePermissionRequest {
        role: role.clone(),
        key: key.clone(),
        range_end: range_end.clone(),
    };
    let answer = session.call(session.client.role_revoke_permission(request)).await?;
    session.printer.answer(&answer, |_, out| match &range_end[..] {
        b"" => out.extend([&b"Permission of key "[..], &key, b" is revoked from role "].concat()),
        b"\0" => out
            .extend([&b"Permission of range ["[..], &key, b", <open ended> is revoked from role "].concat()),
        end => {
            out.extend([&b"Permission of range ["[..], &key, b", ", end, b") is revoked from role "].concat())
        }
    })?;
    if session.settings.format == super::super::print::Format::Simple {
        session.printer.bytes(format!("{role}\n").as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_shown_as_ranges() {
        let permission = |kind: permission::Type, key: &'static str, range_end: &'static str| Permission {
            perm_type: kind.into(),
            key: key.into(),
            range_end: range_end.into(),
        };
        let answer = AuthRoleGetResponse {
            header: None,
            perm: vec![
                permission(permission::Type::Readwrite, "a", "c"),
                permission(permission::Type::Read, "pre/", "pre0"),
                permission(permission::Type::Write, "w", "\0"),
                permission(permission::Type::Read, "one", ""),
            ],
        };
        let mut out = Vec::new();
        simple_role("r", &answer, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Role r\nKV Read:\n\t[a, c)\n\t[pre/, pre0) (prefix pre/)\n\tone\nKV Write:\n\t[a, c)\n\t[w, <open ended>\n"
        );
    }
}
