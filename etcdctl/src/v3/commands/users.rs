//! The commands for users.

use std::io::{BufRead as _, stdin};

use shared::v3::pb::authpb::UserAddOptions;
use shared::v3::pb::etcdserverpb::{
    AuthRoleGetRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
    AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest,
};

use super::super::failure::Failure;
use super::super::print::Format;
use super::super::run::Run;
use super::super::words::Line;
use super::access;
use crate::output::Output;
use crate::password;

/// The user that is the only argument.
fn user(line: &Line, command: &str) -> Result<String, Failure> {
    match line.arguments.len() {
        1 => Ok(line.argument(0)),
        _ => Err(Failure::arguments(format!("{command} command requires user name as its argument"))),
    }
}

/// User and role.
fn user_and_role(line: &Line, command: &str) -> Result<(String, String), Failure> {
    match line.arguments.len() {
        2 => Ok((line.argument(0), line.argument(1))),
        _ => Err(Failure::arguments(format!(
            "{command} command requires user name and role name as its argument"
        ))),
    }
}

pub(super) async fn add(run: Run<'_>) -> Result<(), Failure> {
    let line = run.line;
    let argument = user(line, "user add")?;
    let no_password = line.flags.is_on("no-password");
    let given = line.flags.text("new-user-password").filter(|password| !password.is_empty());
    let (name, password) = match (given, argument.split_once(':')) {
        (Some(password), _) => (argument, password),
        (None, Some(("", _))) => return Err(Failure::arguments("empty user name is not allowed")),
        (None, Some((name, password))) => (name.to_owned(), password.to_owned()),
        (None, None) if no_password => (argument, String::new()),
        (None, None) => {
            let password = new_password(line, &argument, run.out)?;
            (argument, password)
        }
    };
    let mut session = run.connect().await?;
    let request = AuthUserAddRequest {
        name: name.clone(),
        password,
        options: Some(UserAddOptions { no_password }),
        ..AuthUserAddRequest::default()
    };
    let answer = session.call(session.client.user_add(request)).await?;
    session.printer.answer(&answer, |_, out| out.extend(format!("User {name} created\n").into_bytes()))
}

/// Asks twice, or reads a line from standard input.
fn new_password(line: &Line, name: &str, out: &mut Output) -> Result<String, Failure> {
    let interactive = !line.flags.is_given("interactive") || line.flags.is_on("interactive");
    if !interactive {
        let mut text = String::new();
        stdin().lock().read_line(&mut text).map_err(Failure::arguments)?;
        return Ok(text.split_whitespace().next().unwrap_or_default().to_owned());
    }
    let first = password::ask(&format!("Password of {name}: "), out)?;
    let second = password::ask(&format!("Type password of {name} again for confirmation: "), out)?;
    match first == second {
        true => Ok(first),
        false => Err(Failure::arguments("given passwords are different.")),
    }
}

pub(super) async fn delete(run: Run<'_>) -> Result<(), Failure> {
    let name = user(run.line, "user delete")?;
    let mut session = run.connect().await?;
    let request = AuthUserDeleteRequest { name: name.clone() };
    let answer = session.call(session.client.user_delete(request)).await?;
    session.printer.answer(&answer, |_, out| out.extend(format!("User {name} deleted\n").into_bytes()))
}

pub(super) async fn get(run: Run<'_>) -> Result<(), Failure> {
    let name = user(run.line, "user get")?;
    let detail = run.line.flags.is_on("detail");
    let mut session = run.connect().await?;
    let answer = session.call(session.client.user_get(AuthUserGetRequest { name: name.clone() })).await?;
    if !detail {
        return session.printer.answer(&answer, |_, out| {
            let roles: String = answer.roles.iter().map(|role| format!(" {role}")).collect();
            out.extend(format!("User: {name}\nRoles:{roles}\n").into_bytes());
        });
    }
    if session.settings.format != Format::Simple {
        return Err(Failure::feature("--detail is only for simple output"));
    }
    let mut out = format!("User: {name}\n").into_bytes();
    for role in answer.roles {
        let answer = session.call(session.client.role_get(AuthRoleGetRequest { role: role.clone() })).await?;
        out.push(b'\n');
        access::simple_role(&role, &answer, &mut out);
    }
    session.printer.bytes(&out)
}

pub(super) async fn list(run: Run<'_>) -> Result<(), Failure> {
    if !run.line.arguments.is_empty() {
        return Err(Failure::arguments("user list command requires no arguments"));
    }
    let mut session = run.connect().await?;
    let answer = session.call(session.client.user_list(AuthUserListRequest {})).await?;
    session.printer.answer(&answer, |_, out| {
        answer.users.iter().for_each(|user| out.extend(format!("{user}\n").into_bytes()));
    })
}

pub(super) async fn passwd(run: Run<'_>) -> Result<(), Failure> {
    let name = user(run.line, "user passwd")?;
    let password = new_password(run.line, &name, run.out)?;
    let mut session = run.connect().await?;
    let request =
        AuthUserChangePasswordRequest { name, password, ..AuthUserChangePasswordRequest::default() };
    let answer = session.call(session.client.user_change_password(request)).await?;
    session.printer.answer(&answer, |_, out| out.extend_from_slice(b"Password updated\n"))
}

pub(super) async fn grant_role(run: Run<'_>) -> Result<(), Failure> {
    let (user, role) = user_and_role(run.line, "user grant")?;
    let mut session = run.connect().await?;
    let request = AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
    let answer = session.call(session.client.user_grant_role(request)).await?;
    session.printer.answer(&answer, |_, out| {
        out.extend(format!("Role {role} is granted to user {user}\n").into_bytes());
    })
}

pub(super) async fn revoke_role(run: Run<'_>) -> Result<(), Failure> {
    let (name, role) = user_and_role(run.line, "user revoke-role")?;
    let mut session = run.connect().await?;
    let request = AuthUserRevokeRoleRequest { name: name.clone(), role: role.clone() };
    let answer = session.call(session.client.user_revoke_role(request)).await?;
    session.printer.answer(&answer, |_, out| {
        out.extend(format!("Role {role} is revoked from user {name}\n").into_bytes());
    })
}
