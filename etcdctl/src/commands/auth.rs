//! `user`, `role` and `auth`: users, their roles and rights in a cluster with authentication.

use std::ffi::OsString;

use shared::account::{NameError, RoleName, UserName};
use shared::client::{Change, Client, KeyPatterns, canonical_path};

use crate::error::CliError;
use crate::password;
use crate::session::Session;

/// Users, and the roles they have
#[derive(Debug, clap::Args)]
#[command(override_usage = "etcdctl user <COMMAND> [FLAGS] [ARGUMENTS]")]
pub(crate) struct User {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, clap::Subcommand)]
enum UserCommand {
    /// Add a user; without :PASSWORD, it is asked for
    #[command(override_usage = "etcdctl user add <NAME[:PASSWORD]>")]
    Add(Arguments),
    /// Show a user's roles
    #[command(override_usage = "etcdctl user get <NAME>")]
    Get(Arguments),
    /// List the names of all users
    List(Arguments),
    /// Remove a user
    #[command(override_usage = "etcdctl user remove <NAME>")]
    Remove(Arguments),
    /// Give a user roles
    #[command(override_usage = "etcdctl user grant --roles <ROLE> <NAME>")]
    Grant(Roles),
    /// Take roles from a user
    #[command(override_usage = "etcdctl user revoke --roles <ROLE> <NAME>")]
    Revoke(Roles),
    /// Give a user another password; it is asked for
    #[command(override_usage = "etcdctl user passwd <NAME>")]
    Passwd(Arguments),
}

/// Roles, and what users who have them may do
#[derive(Debug, clap::Args)]
#[command(override_usage = "etcdctl role <COMMAND> [FLAGS] [ARGUMENTS]")]
pub(crate) struct Role {
    #[command(subcommand)]
    command: RoleCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RoleCommand {
    /// Add a role that may do nothing yet
    #[command(override_usage = "etcdctl role add <ROLE>")]
    Add(Arguments),
    /// Show what a role may do
    #[command(override_usage = "etcdctl role get <ROLE>")]
    Get(Arguments),
    /// List the names of all roles
    List(Arguments),
    /// Remove a role
    #[command(override_usage = "etcdctl role remove <ROLE>")]
    Remove(Arguments),
    /// Allow a role to read or write keys
    #[command(override_usage = "etcdctl role grant --path <PATH> --read|--write|--readwrite <ROLE>")]
    Grant(Permission),
    /// Take such a permission back
    #[command(override_usage = "etcdctl role revoke --path <PATH> --read|--write|--readwrite <ROLE>")]
    Revoke(Permission),
}

/// Switch authentication on and off
///
/// Before it is switched on there must be a user `root`; from then on only root may change users and roles.
#[derive(Debug, clap::Args)]
#[command(override_usage = "etcdctl auth <COMMAND>")]
pub(crate) struct Auth {
    #[command(subcommand)]
    command: AuthCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuthCommand {
    /// Switch authentication on
    Enable(Arguments),
    /// Switch authentication off
    Disable(Arguments),
}

#[derive(Debug, clap::Args)]
struct Arguments {
    #[arg(hide = true)]
    words: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct Roles {
    /// The role; may be given several times
    #[arg(long, value_name = "ROLE", action = clap::ArgAction::Append)]
    roles: Vec<String>,
    #[command(flatten)]
    user: Arguments,
}

#[derive(Debug, clap::Args)]
struct Permission {
    /// The key; one that ends in * stands for all that begin so
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    path: String,
    /// To read only
    #[arg(long)]
    read: bool,
    /// To write only
    #[arg(long)]
    write: bool,
    /// To read and to write
    #[arg(long)]
    readwrite: bool,
    #[command(flatten)]
    role: Arguments,
}

impl Arguments {
    fn none(self) -> Result<(), CliError> {
        if self.words.is_empty() { Ok(()) } else { Err(CliError::failed("No arguments accepted")) }
    }

    fn one(mut self, otherwise: &str) -> Result<String, CliError> {
        match (self.words.pop(), self.words.is_empty()) {
            (Some(name), true) => Ok(name.to_string_lossy().into_owned()),
            _ => Err(CliError::failed(otherwise)),
        }
    }

    fn user(self) -> Result<UserName, CliError> {
        user_name(&self.one("Please provide a username")?)
    }

    fn role(self) -> Result<RoleName, CliError> {
        role_name(&self.one("Please provide a role name")?)
    }
}

/// Refuses texts that are not names: as a part of a URL they would lead to another page.
fn user_name(text: &str) -> Result<UserName, CliError> {
    UserName::new(text).map_err(|why| bad_name("user", text, why))
}

fn role_name(text: &str) -> Result<RoleName, CliError> {
    RoleName::new(text).map_err(|why| bad_name("role", text, why))
}

fn bad_name(kind: &str, text: &str, why: NameError) -> CliError {
    match why {
        NameError::Empty => CliError::Failed(format!("The {kind} name is empty")),
        why => CliError::Failed(format!("Invalid {kind} name {text:?}: {why}")),
    }
}

impl User {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        match self.command {
            UserCommand::Add(arguments) => {
                add_user(session, &arguments.one("Please provide a username")?).await
            }
            UserCommand::Get(arguments) => {
                let name = arguments.user()?;
                let client = connect(session).await?;
                let user = session.limit(client.user(&name)).await.map_err(CliError::failed)?;
                // The original prints a space for each role first.
                let spaces = " ".repeat(user.roles.len());
                session.out.line(&format!("User: {}\nRoles: {spaces}{}", user.user, user.roles.join(" ")))
            }
            UserCommand::List(arguments) => {
                arguments.none()?;
                let client = connect(session).await?;
                let users = session.limit(client.users()).await.map_err(CliError::failed)?;
                users.iter().try_for_each(|user| session.out.line(user))
            }
            UserCommand::Remove(arguments) => {
                let name = arguments.user()?;
                let client = connect(session).await?;
                session.limit(client.remove_user(&name)).await.map_err(CliError::failed)?;
                session.out.line(&format!("User {name} removed"))
            }
            UserCommand::Grant(roles) => change_roles(session, Change::Grant, roles).await,
            UserCommand::Revoke(roles) => change_roles(session, Change::Revoke, roles).await,
            UserCommand::Passwd(arguments) => change_password(session, &arguments.user()?).await,
        }
    }
}

async fn add_user(session: &mut Session<'_>, text: &str) -> Result<(), CliError> {
    let name = user_name(text.split(':').next().unwrap_or_default())?;
    name.check_new().map_err(|why| bad_name("user", name.as_str(), why))?;
    let client = connect(session).await?;
    if session.limit(client.user(&name)).await.is_ok() {
        return Err(CliError::Failed(format!("User {name} already exists")));
    }
    let (_, password) = password::split_or_ask(text, "New password: ", session.out)?;
    session.limit(client.set_password(&name, &password)).await.map_err(CliError::failed)?;
    session.out.line(&format!("User {name} created"))
}

async fn change_password(session: &mut Session<'_>, name: &UserName) -> Result<(), CliError> {
    let client = connect(session).await?;
    session.limit(client.user(name)).await.map_err(CliError::failed)?;
    let password = password::ask("New password: ", session.out)?;
    session.limit(client.set_password(name, &password)).await.map_err(CliError::failed)?;
    session.out.line("Password updated")
}

async fn change_roles(session: &mut Session<'_>, change: Change, roles: Roles) -> Result<(), CliError> {
    if roles.roles.is_empty() {
        return Err(CliError::failed("No roles specified; please use `-roles`"));
    }
    let name = roles.user.user()?;
    let granted = roles.roles.iter().map(|role| role_name(role)).collect::<Result<Vec<_>, _>>()?;
    let client = connect(session).await?;
    session.limit(client.user(&name)).await.map_err(CliError::failed)?;
    session.limit(client.change_user(&name, change, &granted)).await.map_err(CliError::failed)?;
    session.out.line(&format!("User {name} updated"))
}

impl Role {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        match self.command {
            RoleCommand::Add(arguments) => {
                let name = arguments.role()?;
                name.check_new().map_err(|why| bad_name("role", name.as_str(), why))?;
                let client = connect(session).await?;
                if session.limit(client.role(&name)).await.is_ok() {
                    return Err(CliError::Failed(format!("Role {name} already exists")));
                }
                session.limit(client.add_role(&name)).await.map_err(CliError::failed)?;
                session.out.line(&format!("Role {name} created"))
            }
            RoleCommand::Get(arguments) => {
                let name = arguments.role()?;
                let client = connect(session).await?;
                let role = session.limit(client.role(&name)).await.map_err(CliError::failed)?;
                let KeyPatterns { read, write } = role.permissions.kv;
                let list =
                    |paths: Vec<String>| paths.iter().map(|path| format!("\t{path}\n")).collect::<String>();
                let (read, write) = (list(read), list(write));
                session.out.text(&format!("Role: {}\nKV Read:\n{read}KV Write:\n{write}", role.role))
            }
            RoleCommand::List(arguments) => {
                arguments.none()?;
                let client = connect(session).await?;
                let roles = session.limit(client.roles()).await.map_err(CliError::failed)?;
                roles.iter().try_for_each(|role| session.out.line(role))
            }
            RoleCommand::Remove(arguments) => {
                let name = arguments.role()?;
                let client = connect(session).await?;
                session.limit(client.remove_role(&name)).await.map_err(CliError::failed)?;
                session.out.line(&format!("Role {name} removed"))
            }
            RoleCommand::Grant(permission) => change_role(session, Change::Grant, permission).await,
            RoleCommand::Revoke(permission) => change_role(session, Change::Revoke, permission).await,
        }
    }
}

impl Permission {
    /// Checks the flags; the texts are the original's.
    fn access(&self) -> Result<KeyPatterns, CliError> {
        if self.path.is_empty() {
            return Err(CliError::failed("No path specified; please use `-path`"));
        }
        let canonical = String::from_utf8_lossy(&canonical_path(self.path.as_bytes())).into_owned();
        if canonical != self.path {
            return Err(CliError::Failed(format!("Not canonical path; please use `-path={canonical}`")));
        }
        if [self.read, self.write, self.readwrite].into_iter().filter(|set| *set).count() != 1 {
            return Err(CliError::failed("Please specify exactly one of -read, -write or -readwrite"));
        }
        let paths = |wanted: bool| if wanted { vec![self.path.clone()] } else { Vec::new() };
        Ok(KeyPatterns {
            read: paths(self.read || self.readwrite),
            write: paths(self.write || self.readwrite),
        })
    }
}

async fn change_role(
    session: &mut Session<'_>,
    change: Change,
    permission: Permission,
) -> Result<(), CliError> {
    let access = permission.access()?;
    let name = permission.role.role()?;
    let client = connect(session).await?;
    let before = session.limit(client.role(&name)).await.map_err(CliError::failed)?;
    let after = session.limit(client.change_role(&name, change, access)).await.map_err(CliError::failed)?;
    if before == after {
        // Without an end of the line, as the original has it.
        session.out.text(match change {
            Change::Grant => "Role unchanged; already granted",
            Change::Revoke => "Role unchanged; already revoked",
        })?;
    }
    session.out.line(&format!("Role {name} updated"))
}

impl Auth {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        let (enabled, arguments) = match self.command {
            AuthCommand::Enable(arguments) => (true, arguments),
            AuthCommand::Disable(arguments) => (false, arguments),
        };
        arguments.none()?;
        let client = connect(session).await?;
        session.limit(client.set_auth(enabled)).await.map_err(CliError::failed)?;
        session.out.line(if enabled { "Authentication Enabled" } else { "Authentication Disabled" })
    }
}

/// The original tells the endpoints once more here.
async fn connect(session: &mut Session<'_>) -> Result<Client, CliError> {
    let client = session.connect().await?;
    session.show_endpoints(&client);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(path: &str, read: bool, write: bool, readwrite: bool) -> Result<KeyPatterns, String> {
        let role = Arguments { words: Vec::new() };
        let permission = Permission { path: path.into(), read, write, readwrite, role };
        permission.access().map_err(|error| error.to_string())
    }

    #[test]
    fn a_permission_is_one_of_three_on_a_clean_path() {
        let paths = || vec!["/a/*".to_owned()];
        assert_eq!(permission("/a/*", true, false, false), Ok(KeyPatterns { read: paths(), write: vec![] }));
        assert_eq!(permission("/a/*", false, true, false), Ok(KeyPatterns { read: vec![], write: paths() }));
        assert_eq!(permission("/a/*", false, false, true), Ok(KeyPatterns { read: paths(), write: paths() }));
        assert!(permission("/a", true, true, false).unwrap_err().starts_with("Please specify exactly one"));
        assert!(permission("/a", false, false, false).is_err());
        assert_eq!(permission("", true, false, false).unwrap_err(), "No path specified; please use `-path`");
        assert_eq!(
            permission("//x/../y", true, false, false).unwrap_err(),
            "Not canonical path; please use `-path=/y`"
        );
    }

    #[test]
    fn a_name_is_exactly_one_argument() {
        let arguments = |words: &[&str]| Arguments { words: words.iter().map(OsString::from).collect() };
        assert_eq!(arguments(&["u"]).user().unwrap().as_str(), "u");
        assert_eq!(arguments(&[]).user().unwrap_err().to_string(), "Please provide a username");
        assert!(arguments(&["u", "v"]).role().is_err());
        assert!(arguments(&["u"]).none().is_err());
    }

    #[test]
    fn what_is_not_a_name_is_said_in_words() {
        let user = |text| user_name(text).unwrap_err().to_string();
        assert_eq!(user(""), "The user name is empty");
        assert_eq!(user(".."), "Invalid user name \"..\": a name cannot be . or ..");
        assert_eq!(user("a/b"), "Invalid user name \"a/b\": a name cannot contain /");
        assert_eq!(role_name("").unwrap_err().to_string(), "The role name is empty");
    }
}
