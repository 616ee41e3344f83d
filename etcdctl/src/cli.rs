//! The command line: every command and flag with its help, once.
//!
//! Help, completions and manual pages all come from these definitions. [`crate::command_line`] converts the words to
//! flags and arguments: `clap` gets them in one order only, flags as `--name=value` first, then `--`.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands::auth;
use crate::commands::backup_flags::Backup;
use crate::commands::completion::{Completion, Man};
use crate::commands::doctor::Doctor;
use crate::commands::exec_watch::ExecWatch;
use crate::commands::get::{Get, List};
use crate::commands::health::ClusterHealth;
use crate::commands::import::Import;
use crate::commands::lock::{Elect, Lock};
use crate::commands::member::Member;
use crate::commands::upgrade::Upgrade;
use crate::commands::watch::Watch;
use crate::commands::{make, remove, set};
use shared::go_values;

/// Talks to an etcd cluster over its v2 API
///
/// Keys form a tree like files: `/config/db` is the key `db` in the directory `/config`. Write one with `etcdctl
/// set /config/db 10.0.0.1`, read it with `etcdctl get /config/db`, see what there is with `etcdctl ls
/// --recursive /`, and wait for changes with `etcdctl watch /config/db`.
///
/// Global flags stand before the command, a command's own flags before its arguments. One dash or two are the
/// same. `--` ends the flags: `etcdctl set -- /temperature -7`.
#[derive(Debug, Parser)]
#[command(
    name = "etcdctl",
    after_long_help = ENVIRONMENT,
    disable_version_flag = true,
    disable_help_flag = true,
    override_usage = "etcdctl [GLOBAL FLAGS] <COMMAND> [FLAGS] [ARGUMENTS]"
)]
pub(crate) struct Cli {
    /// Flags before the command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// The command.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

const ENVIRONMENT: &str = concat!(
    "\
Environment (each stands for a flag that is not given):
  ETCDCTL_ENDPOINTS, ETCDCTL_ENDPOINT, ETCDCTL_PEERS   --endpoints, --endpoint, --peers
  ETCDCTL_DISCOVERY_SRV                                --discovery-srv
  ETCDCTL_CERT_FILE, ETCDCTL_KEY_FILE, ETCDCTL_CA_FILE --cert-file, --key-file, --ca-file

Exit status:
  0  done
  1  wrong arguments, or an administrative command failed
  2  no such command, wrong flags, or no member could be reached
  4  the cluster refused or failed
  5  the cluster is unhealthy
  6  a lock was lost while it was held
  lock and elect that run a command: the command's own

`etcdctl help COMMAND` shows the help of one command. This is etcdctl of etcd-rs, version ",
    env!("CARGO_PKG_VERSION"),
    ".",
);

/// Flags that stand before the command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Show each request as a curl command on standard error
    #[arg(long)]
    pub(crate) debug: bool,

    /// Use the endpoints as given, without asking the cluster for its members first
    ///
    /// Needed where the members' advertised URLs cannot be reached from here, as behind a tunnel.
    #[arg(long)]
    pub(crate) no_sync: bool,

    /// Form of the answer: simple (the value), extended (all fields) or json
    #[arg(long, short = 'o', value_name = "FORM", default_value = "simple")]
    pub(crate) output: String,

    /// Find the endpoints in the SRV records of this domain
    #[arg(long, short = 'D', value_name = "DOMAIN")]
    pub(crate) discovery_srv: Option<String>,

    /// Old name of --endpoints
    #[arg(long, short = 'C', value_name = "URLS")]
    pub(crate) peers: Option<String>,

    /// Old name of --endpoints
    #[arg(long, value_name = "URLS")]
    pub(crate) endpoint: Option<String>,

    /// Client URLs of members, with commas between them; http:// may be left out
    ///
    /// When none are given anywhere: http://127.0.0.1:2379,http://127.0.0.1:4001
    #[arg(long, value_name = "URLS")]
    pub(crate) endpoints: Option<String>,

    /// Certificate (PEM) to show to servers that want one; needs --key-file
    #[arg(long, value_name = "FILE")]
    pub(crate) cert_file: Option<OsString>,

    /// Private key (PEM) of --cert-file
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<OsString>,

    /// Authorities (PEM) to check servers with, instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<OsString>,

    /// Take the common name of a server's certificate for its host name, where it has no DNS names
    #[arg(long)]
    pub(crate) tls_accept_common_name: bool,

    /// User for clusters with authentication; without a password, it is asked for
    #[arg(long, short = 'u', value_name = "NAME[:PASSWORD]")]
    pub(crate) username: Option<String>,

    /// Time for one request to one member, after which the next one is tried
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = go_values::duration)]
    pub(crate) timeout: Duration,

    /// Time for the whole command; watches are exempt
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = go_values::duration)]
    pub(crate) total_timeout: Duration,

    /// Show the version
    #[arg(long, short = 'v')]
    pub(crate) version: bool,

    /// Show this help
    #[arg(long, short = 'h', global = true, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Get(Get),
    Ls(List),
    Set(set::Set),
    Mk(make::Make),
    Update(set::Update),
    Rm(remove::Remove),
    Mkdir(make::MakeDir),
    Setdir(make::SetDir),
    Updatedir(make::UpdateDir),
    Rmdir(remove::RemoveDir),
    Watch(Watch),
    ExecWatch(ExecWatch),
    Lock(Lock),
    Elect(Elect),
    Member(Member),
    ClusterHealth(ClusterHealth),
    Doctor(Doctor),
    Backup(Backup),
    Import(Import),
    User(auth::User),
    Role(auth::Role),
    Auth(auth::Auth),
    Upgrade(Upgrade),
    Completion(Completion),
    #[command(hide = true)]
    Man(Man),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::CommandFactory as _;

    use super::*;

    const DOCUMENT: &str = include_str!("../../Documentation/etcdctl.md");

    /// The document's sections by their headings.
    fn sections() -> BTreeMap<&'static str, &'static str> {
        DOCUMENT
            .split("\n## ")
            .flat_map(|part| part.split("\n### "))
            .filter_map(|part| part.split_once('\n'))
            .collect()
    }

    /// The flags of a command as a user writes them.
    fn flags(command: &clap::Command) -> Vec<String> {
        let names = |arg: &clap::Arg| {
            let long = arg.get_long().map(|long| format!("`--{long}"));
            let short = arg.get_short().map(|short| format!("`-{short}"));
            long.into_iter().chain(short)
        };
        command.get_arguments().filter(|arg| !arg.is_hide_set()).flat_map(names).collect()
    }

    #[test]
    fn the_document_names_every_command_and_flag() {
        let (root, sections) = (Cli::command(), sections());
        let mut missing = Vec::new();
        let mut expect = |heading: &str, texts: Vec<String>| match sections.get(heading) {
            None => missing.push(format!("a section {heading}")),
            Some(section) => {
                missing.extend(texts.into_iter().filter(|text| !section.contains(text.as_str())));
            }
        };
        expect("Global flags", flags(&root));
        for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
            let mut texts = flags(command);
            for below in command.get_subcommands() {
                texts.push(format!("etcdctl {} {}", command.get_name(), below.get_name()));
                texts.extend(flags(below));
            }
            expect(&format!("etcdctl {}", command.get_name()), texts);
        }
        assert_eq!(missing, Vec::<String>::new(), "not in Documentation/etcdctl.md");
    }

    #[test]
    fn the_document_and_the_help_name_every_variable() {
        let help = ENVIRONMENT;
        let words = |text: &'static str| text.split(|c: char| c != '_' && !c.is_ascii_uppercase());
        let variables = words(help).filter(|word| word.starts_with("ETCDCTL_"));
        let section = sections()["Environment"];
        assert_eq!(variables.clone().count(), 7);
        for variable in variables {
            assert!(words(section).any(|word| word == variable), "{variable}");
            assert!(include_str!("settings.rs").contains(&format!("\"{variable}\"")), "{variable}");
        }
    }
}
