//! Which API a command line is for.
//!
//! `ETCDCTL_API` says it. Without it, a command, sub-command, flag or variable that only one API has decides. What both
//! have goes to the API whose store holds keys of users: [`probe`](super::probe) asks the cluster.

use std::ffi::{OsStr, OsString};

use super::definition::{Command, Flag, Kind};
use super::table::{GLOBAL, ROOT};
use crate::cli::Cli;
use crate::suggest::VARIABLES;
use clap::CommandFactory as _;

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Version 2.
    V2,
    /// Version 3.
    V3,
    /// Both have it: the cluster decides.
    Either,
}

/// Decides from the words, without the program's name, and the environment.
pub(crate) fn choose(
    words: &[OsString],
    api: Option<&OsStr>,
    variables: impl IntoIterator<Item = OsString>,
) -> Choice {
    match api.and_then(OsStr::to_str) {
        Some("2") => return Choice::V2,
        Some("3") => return Choice::V3,
        _ => {}
    }
    let v2 = Cli::command();
    let read = Given::read(words, &v2);
    let mut operands = read.operands.iter().map(String::as_str).peekable();
    let mut first = operands.next();
    if first == Some("help") && operands.peek().is_some() {
        first = operands.next();
    }
    let Some(first) = first else { return Choice::V2 };
    let in_v3 = exact(&ROOT, first);
    let in_v2 = v2.find_subcommand(first);
    let (v3, v2_command) = match (in_v3, in_v2) {
        (Some(v3), Some(v2)) => (v3, v2),
        (Some(v3), None) if v3.name != "help" => return Choice::V3,
        // Typing errors are explained by version 2, as before.
        _ => return Choice::V2,
    };
    if read.operands.first().is_some_and(|word| word == "help") || read.asks_for_help() {
        return Choice::V2;
    }
    let mut v3_path = vec![v3];
    let mut v2_path = vec![&v2, v2_command];
    if !v3.below.is_empty() {
        // A group alone prints its help.
        let Some(second) = operands.next() else { return Choice::V2 };
        // Shells are arguments of version 2, and commands of version 3.
        let in_v2 = v2_command.find_subcommand(second);
        match exact(v3, second) {
            Some(below) if v3.name == "completion" => {
                return if below.name == "powershell" { Choice::V3 } else { Choice::V2 };
            }
            Some(below) => v3_path.push(below),
            None => return Choice::V2,
        }
        match in_v2 {
            Some(below) => v2_path.push(below),
            None => return Choice::V3,
        }
    }
    read.flags_decide(&v3_path, &v2_path).or_else(|| variables_decide(variables)).unwrap_or(Choice::Either)
}

fn exact(group: &'static Command, name: &str) -> Option<&'static Command> {
    group.below.iter().find(|command| command.name == name)
}

/// Flags and operands, as far as they can be told apart without knowing the API.
#[derive(Debug, Default)]
struct Given {
    flags: Vec<String>,
    operands: Vec<String>,
}

impl Given {
    fn read(words: &[OsString], v2: &clap::Command) -> Given {
        let mut given = Given::default();
        let mut words = words.iter().map(|word| word.to_string_lossy());
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            let Some(body) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                given.operands.push(word.into_owned());
                continue;
            };
            let (name, inline) = match body.split_once('=') {
                Some((name, _)) => (name, true),
                None => (body, false),
            };
            given.flags.push(name.to_owned());
            if !inline && takes_value(name, v2) {
                words.next();
            }
        }
        given
    }

    fn asks_for_help(&self) -> bool {
        self.flags.iter().any(|flag| matches!(flag.as_str(), "help" | "h"))
    }

    /// The API that has a flag which the other has not.
    fn flags_decide(&self, v3: &[&'static Command], v2: &[&clap::Command]) -> Option<Choice> {
        self.flags.iter().find_map(|name| {
            let mut known = v3.iter().flat_map(|command| command.flags).chain(GLOBAL);
            let in_v3 = known.any(|flag| is_named(flag, name));
            let in_v2 = v2.iter().any(|command| v2_flag(command, name).is_some());
            match (in_v3, in_v2) {
                (true, false) => Some(Choice::V3),
                (false, true) => Some(Choice::V2),
                _ => None,
            }
        })
    }
}

fn is_named(flag: &Flag, name: &str) -> bool {
    flag.name == name || flag.short.is_some_and(|letter| name.starts_with(letter) && name.len() == 1)
}

fn v2_flag<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_short().is_some_and(|letter| name.chars().eq([letter]))
    })
}

/// Whether a flag before the command takes the next word.
fn takes_value(name: &str, v2: &clap::Command) -> bool {
    let in_v3 = GLOBAL.iter().find(|flag| is_named(flag, name)).map(|flag| flag.kind != Kind::Switch);
    in_v3.or_else(|| v2_flag(v2, name).map(|arg| arg.get_action().takes_values())).unwrap_or(false)
}

/// Variables that stand for flags of version 3 alone.
fn variables_decide(variables: impl IntoIterator<Item = OsString>) -> Option<Choice> {
    let known: Vec<String> = GLOBAL.iter().map(Flag::variable).collect();
    let of_v3 = |name: &str| {
        !VARIABLES.contains(&name) && (known.iter().any(|known| known == name) || name == "ETCDCTL_WATCH_KEY")
    };
    variables.into_iter().any(|name| name.to_str().is_some_and(of_v3)).then_some(Choice::V3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(line: &str, api: Option<&str>, variables: &[&str]) -> Choice {
        let words: Vec<OsString> = line.split(' ').filter(|word| !word.is_empty()).map(Into::into).collect();
        choose(&words, api.map(OsStr::new), variables.iter().map(Into::into))
    }

    fn chosen(line: &str) -> Choice {
        with(line, None, &[])
    }

    #[test]
    fn the_variable_says_it() {
        assert_eq!(with("set a b", Some("3"), &[]), Choice::V3);
        assert_eq!(with("put a b", Some("2"), &[]), Choice::V2);
        assert_eq!(with("put a b", Some("7"), &[]), Choice::V3);
    }

    #[test]
    fn what_only_one_has_decides() {
        for line in [
            "put a b",
            "--endpoints x:1 put a b",
            "txn",
            "version",
            "lease grant 5",
            "endpoint health",
            "user grant-role a b",
            "role grant-permission r read a",
            "member promote 1",
            "auth status",
            "get a --prefix",
            "-w json get a",
            "get a -w json",
            "watch a --rev=5",
            "member add n --peer-urls=http://a:1",
            "help put",
            "completion powershell",
        ] {
            assert_eq!(chosen(line), Choice::V3, "{line}");
        }
        for line in [
            "set a b",
            "ls /",
            "cluster-health",
            "--no-sync get a",
            "-o json get a",
            "get --quorum a",
            "user grant u --roles r",
            "exec-watch a -- sh",
            "-u root:p user list",
            "",
            "--help",
            "get --help",
            "help get",
            "--version",
            "nosuch",
            "wacth a",
            "member",
            "completion bash",
        ] {
            assert_eq!(chosen(line), Choice::V2, "{line}");
        }
    }

    #[test]
    fn what_both_have_is_left_to_the_cluster() {
        for line in
            ["get a", "--endpoints=x:1 get a", "--debug watch a", "member list", "user list", "auth enable"]
        {
            assert_eq!(chosen(line), Choice::Either, "{line}");
        }
        assert_eq!(with("get a", None, &["PATH", "ETCDCTL_CACERT"]), Choice::V3);
        assert_eq!(with("get a", None, &["ETCDCTL_ENDPOINTS", "ETCDCTL_CA_FILE"]), Choice::Either);
    }
}
