//! What a user probably meant by a command, flag or variable that there is not.
//!
//! The first line of each refusal stays the original's; the hint follows it.

use std::ffi::OsString;

use clap::{Arg, Command, CommandFactory as _};
use shared::suggest::closest;

use crate::cli::Cli;

/// What all variables of this program begin with.
const PREFIX: &str = "ETCDCTL_";
/// The variables that stand for flags. `ETCDCTL_API` is a question of clients of 3.x; the answer is 2.
pub(crate) const VARIABLES: [&str; 8] = [
    "ETCDCTL_ENDPOINTS",
    "ETCDCTL_ENDPOINT",
    "ETCDCTL_PEERS",
    "ETCDCTL_DISCOVERY_SRV",
    "ETCDCTL_CERT_FILE",
    "ETCDCTL_KEY_FILE",
    "ETCDCTL_CA_FILE",
    "ETCDCTL_API",
];

/// The command below `node` that a word is close to. `names` are the commands that lead to `node`.
pub(crate) fn command(node: &Command, names: &[&str], word: &str) -> Option<String> {
    let known = node.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name);
    let meant = closest(word, known.chain(["help"]))?;
    let path: Vec<&str> = ["etcdctl"].iter().chain(names).copied().chain([meant]).collect();
    Some(format!("Did you mean '{}'?", path.join(" ")))
}

/// The error for a flag that a command does not have.
pub(crate) fn unknown_flag(command: &Command, name: &str) -> String {
    let refusal = format!("flag provided but not defined: -{name}");
    let root = Cli::command();
    let known = |command: &Command| -> Vec<String> {
        let longs = command.get_arguments().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
        longs.map(str::to_owned).collect()
    };
    let (own, global) = (known(command), known(&root));
    let is_root = command.get_name() == root.get_name();
    if !is_root && root.get_arguments().any(|arg| is_named(arg, name)) {
        let dashes = if name.chars().count() == 1 { "-" } else { "--" };
        return format!("{refusal}\n{dashes}{name} is a global flag: put it before the command");
    }
    if let Some(meant) = closest(name, own.iter().map(String::as_str).chain(["help"])) {
        return format!("{refusal}\nDid you mean --{meant}?");
    }
    if let Some(meant) = closest(name, global.iter().map(String::as_str)) {
        return format!("{refusal}\nDid you mean --{meant}? It is a global flag: put it before the command");
    }
    // A command's flag before the command.
    let takes = |command: &&Command| command.get_arguments().any(|arg| is_named(arg, name));
    match root.get_subcommands().find(takes) {
        Some(_) if is_root => {
            format!("{refusal}\n--{name} is a flag of a command: put it behind the command")
        }
        _ => refusal,
    }
}

fn is_named(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_short().is_some_and(|short| name.chars().eq([short]))
}

/// Warnings about names in the environment. Values are not printed: they may be passwords.
pub(crate) fn about_variables(names: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let mut warnings = Vec::new();
    for name in names {
        let Some(name) = name.to_str() else { continue };
        // Only names with the exact prefix are checked.
        if !name.starts_with(PREFIX) || VARIABLES.contains(&name) {
            continue;
        }
        let warning = format!("unrecognized environment variable {name}");
        let flag = name[PREFIX.len()..].to_lowercase().replace('_', "-");
        let has_flag = Cli::command().get_arguments().any(|arg| arg.get_long() == Some(flag.as_str()));
        warnings.push(match closest(name, VARIABLES) {
            _ if has_flag => format!("{warning}: use the flag --{flag}"),
            Some(meant) => format!("{warning}: did you mean {meant}?"),
            None => warning,
        });
    }
    warnings.sort_unstable();
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(command: &str, name: &str) -> String {
        let root = Cli::command();
        let command = root.find_subcommand(command).unwrap_or(&root);
        let text = unknown_flag(command, name);
        let (refusal, hint) = text.split_once('\n').unwrap_or((&text, ""));
        assert_eq!(refusal, format!("flag provided but not defined: -{name}"));
        hint.to_owned()
    }

    #[test]
    fn commands_are_recognised_at_each_level() {
        let root = Cli::command();
        assert_eq!(command(&root, &[], "wacth").as_deref(), Some("Did you mean 'etcdctl watch'?"));
        assert_eq!(command(&root, &[], "nosuch"), None);
        let member = root.find_subcommand("member").unwrap();
        assert_eq!(
            command(member, &["member"], "repalce").as_deref(),
            Some("Did you mean 'etcdctl member replace'?")
        );
        assert_eq!(command(member, &["member"], "get"), None);
    }

    #[test]
    fn flags_are_recognised_where_they_belong() {
        assert_eq!(flag("ls", "recursiv"), "Did you mean --recursive?");
        assert_eq!(flag("ls", "debug"), "--debug is a global flag: put it before the command");
        assert_eq!(flag("get", "o"), "-o is a global flag: put it before the command");
        assert_eq!(
            flag("get", "endpoitns"),
            "Did you mean --endpoints? It is a global flag: put it before the command"
        );
        assert_eq!(flag("", "recursive"), "--recursive is a flag of a command: put it behind the command");
        for (command, name) in [("get", "nope"), ("", "nope"), ("ls", "dir")] {
            assert_eq!(flag(command, name), "", "{command} {name}");
        }
    }

    #[test]
    fn variables_are_recognised_and_values_kept_secret() {
        let warnings = |names: &[&str]| about_variables(names.iter().map(OsString::from));
        assert_eq!(
            warnings(&["PATH", "ETCDCTL_ENDPIONTS", "ETCDCTL_PEERS", "ETCDCTL_API", "ETCDCTL_USERNAME"]),
            [
                "unrecognized environment variable ETCDCTL_ENDPIONTS: did you mean ETCDCTL_ENDPOINTS?",
                "unrecognized environment variable ETCDCTL_USERNAME: use the flag --username",
            ]
        );
        assert_eq!(warnings(&["ETCDCTL_FOO"]), ["unrecognized environment variable ETCDCTL_FOO"]);
        assert!(warnings(&["ETCD_NAME", "ETCDCTL", "etcdctl_peers"]).is_empty());
    }

    #[test]
    fn the_known_variables_are_those_that_are_read() {
        let read = include_str!("settings.rs");
        for name in VARIABLES.iter().filter(|name| **name != "ETCDCTL_API") {
            assert!(read.contains(&format!("\"{name}\"")), "{name}");
        }
    }
}
