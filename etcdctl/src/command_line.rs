//! From the words of a command line to a [`Cli`], by the rules of etcdctl 2.3.8.
//!
//! Its flags are Go's: one dash or two, `--name=value` or `--name value`, booleans with a value only after `=`.
//! Scripts depend on the peculiar order: global flags before the command; those of a command before or after all its
//! arguments; if they are in the middle, the arguments before them move to the end. `--` ends the flags.
//!
//! `clap` has none of these rules. So the words are reordered here, by `clap`'s definitions of each command, and
//! `clap` parses them in one plain form: `--name=value …  -- argument …`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, CommandFactory as _, Parser as _};

use crate::cli::Cli;
use crate::error::CliError;
use crate::suggest;
use shared::go_values;

/// A parsed command line.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// To run a command.
    Run(Box<Cli>),
    /// To print a help text.
    Help(String),
    /// To print the version.
    Version,
    /// An unknown command, and the command that was probably meant.
    NoTopic(String, Option<String>),
}

/// Reads a command line without the program's name.
///
/// # Errors
/// [`CliError::Usage`] for wrong flags, [`CliError::BadArguments`] for a missing argument.
pub(crate) fn read(words: Vec<OsString>) -> Result<Invocation, CliError> {
    let root = Cli::command();
    let mut plain = vec![OsString::from("etcdctl")];
    let mut names: Vec<&str> = Vec::new();
    let mut node = &root;

    let mut flags = read_flags(node, &words).map_err(|reason| usage(&names, reason))?;
    if flags.is_on("help") {
        return Ok(Invocation::Help(help(&names)));
    }
    if flags.is_on("version") {
        return Ok(Invocation::Version);
    }
    plain.append(&mut flags.plain);
    Cli::try_parse_from(&plain).map_err(|error| refusal(&names, &error))?;

    let mut words = flags.arguments;
    loop {
        let Some(name) = words.first() else {
            return Ok(Invocation::Help(help(&names)));
        };
        if name == "help" || name == "h" {
            return Ok(command_help(node, &names, &words));
        }
        let Some(command) = name.to_str().and_then(|name| node.find_subcommand(name)) else {
            return Ok(unknown_topic(node, &names, &name.to_string_lossy()));
        };
        names.push(command.get_name());
        plain.push(command.get_name().into());
        let group = command.has_subcommands();
        // A command with its own flags may follow the first argument.
        let keeps_order = group || command.get_arguments().any(Arg::is_trailing_var_arg_set);
        let ordered = if keeps_order { words[1..].to_vec() } else { reordered(&words) };
        let mut flags = read_flags(command, &ordered).map_err(|reason| usage(&names, reason))?;
        if flags.is_on("help") {
            return Ok(Invocation::Help(help(&names)));
        }
        plain.append(&mut flags.plain);
        if !group {
            plain.push("--".into());
            plain.append(&mut flags.arguments);
            let cli = Cli::try_parse_from(&plain).map_err(|error| refusal(&names, &error))?;
            return Ok(Invocation::Run(Box::new(cli)));
        }
        words = flags.arguments;
        node = command;
    }
}

/// Moves the words before a command's first flag behind its flags and what follows them.
///
/// The first word is the command. Up to `--`, every word that begins with a dash counts as a flag.
fn reordered(words: &[OsString]) -> Vec<OsString> {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let first_flag = words[..end].iter().position(|word| word.as_bytes().starts_with(b"-"));
    let Some(first_flag) = first_flag else {
        return words[1..].to_vec();
    };
    [&words[first_flag..end], &words[1..first_flag], &words[end..]].concat()
}

/// The flags before the first operand, and what follows.
#[derive(Debug, Default)]
struct Flags {
    /// `--name=value`, for `clap`.
    plain: Vec<OsString>,
    /// The names of the switches that are on.
    on: Vec<String>,
    arguments: Vec<OsString>,
}

impl Flags {
    fn is_on(&self, switch: &str) -> bool {
        self.on.iter().any(|name| name == switch)
    }
}

/// Reads flags as Go's `flag` package does, by the definitions of one command.
fn read_flags(command: &clap::Command, words: &[OsString]) -> Result<Flags, String> {
    let mut flags = Flags::default();
    let mut set: Vec<Setting<'_>> = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            break;
        }
        if bytes.len() < 2 || bytes[0] != b'-' {
            flags.arguments.push(word.clone());
            break;
        }
        let body = bytes.strip_prefix(b"--").unwrap_or(&bytes[1..]);
        if matches!(body.first(), None | Some(b'-' | b'=')) {
            return Err(format!("bad flag syntax: {}", word.to_string_lossy()));
        }
        let (name, inline) = match body.iter().position(|byte| *byte == b'=') {
            Some(at) => (&body[..at], Some(OsStr::from_bytes(&body[at + 1..]))),
            None => (body, None),
        };
        let name = String::from_utf8_lossy(name).into_owned();
        let flag = find_flag(command, &name).ok_or_else(|| suggest::unknown_flag(command, &name))?;
        let value = match (flag.takes_value(), inline) {
            (true, Some(value)) => value.to_owned(),
            (true, None) => rest.next().ok_or_else(|| format!("flag needs an argument: -{name}"))?.clone(),
            (false, None) => "true".into(),
            (false, Some(value)) => value.to_owned(),
        };
        let on = match flag.takes_value() {
            true => None,
            false => Some(value.to_str().and_then(go_values::boolean).ok_or_else(|| {
                format!("invalid boolean value \"{}\" for -{name}", value.to_string_lossy())
            })?),
        };
        set.push(Setting { flag, name, value, on });
    }
    flags.arguments.extend(rest.cloned());
    apply(&set, &mut flags)?;
    Ok(flags)
}

/// One flag as it was given.
struct Setting<'a> {
    flag: KnownFlag<'a>,
    name: String,
    value: OsString,
    /// For a switch, whether it is on.
    on: Option<bool>,
}

/// A flag that a command knows.
#[derive(Clone, Copy)]
enum KnownFlag<'a> {
    Defined(&'a Arg),
    Help,
}

impl KnownFlag<'_> {
    fn takes_value(self) -> bool {
        matches!(self, KnownFlag::Defined(arg) if arg.get_action().takes_values())
    }

    fn name(self) -> String {
        match self {
            KnownFlag::Help => "help".to_owned(),
            KnownFlag::Defined(arg) => match (arg.get_long(), arg.get_short()) {
                (Some(long), _) => long.to_owned(),
                (None, short) => short.map(String::from).unwrap_or_default(),
            },
        }
    }

    fn repeats(self) -> bool {
        matches!(self, KnownFlag::Defined(arg) if matches!(arg.get_action(), ArgAction::Append))
    }
}

fn find_flag<'a>(command: &'a clap::Command, name: &str) -> Option<KnownFlag<'a>> {
    if matches!(name, "help" | "h") {
        return Some(KnownFlag::Help);
    }
    command
        .get_arguments()
        .find(|arg| {
            arg.get_long().is_some_and(|long| long == name)
                || arg.get_short().is_some_and(|short| name.chars().eq([short]))
        })
        .map(KnownFlag::Defined)
}

/// Converts flags to the form for `clap`: the last one of a name counts, unless the flag can be repeated.
fn apply(set: &[Setting<'_>], flags: &mut Flags) -> Result<(), String> {
    for (at, setting) in set.iter().enumerate() {
        let name = setting.flag.name();
        let same = |other: &&Setting<'_>| other.flag.name() == name;
        if let Some(other) = set[at + 1..].iter().find(|other| same(other) && other.name != setting.name) {
            let mut forms = [setting.name.as_str(), other.name.as_str()];
            forms.sort_unstable_by_key(|form| form.len());
            return Err(format!("Cannot use two forms of the same flag: {} {}", forms[0], forms[1]));
        }
        let last = !set[at + 1..].iter().any(|other| same(&other));
        if !last && !setting.flag.repeats() {
            continue;
        }
        let dashes = if name.chars().count() == 1 { "-" } else { "--" };
        match setting.on {
            Some(true) => {
                if matches!(setting.flag, KnownFlag::Defined(_)) {
                    flags.plain.push(format!("{dashes}{name}").into());
                }
                flags.on.push(name);
            }
            Some(false) => {}
            None => {
                let mut word = format!("{dashes}{name}=").into_bytes();
                word.extend_from_slice(setting.value.as_bytes());
                flags.plain.push(OsString::from_vec(word));
            }
        }
    }
    Ok(())
}

/// The help of a command.
pub(crate) fn help(names: &[&str]) -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = render_help(&mut root, names);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn render_help(command: &mut clap::Command, names: &[&str]) -> String {
    let Some((name, below)) = names.split_first() else {
        return command.render_long_help().to_string();
    };
    match command.find_subcommand_mut(name) {
        Some(command) => render_help(command, below),
        None => String::new(),
    }
}

/// The help for the command names that follow `help`, below `node`.
fn command_help<'a>(mut node: &'a clap::Command, names: &[&'a str], words: &[OsString]) -> Invocation {
    let mut names = names.to_vec();
    for word in &words[1..] {
        let word = word.to_string_lossy();
        if word.starts_with('-') || matches!(word.as_ref(), "help" | "h") {
            break;
        }
        match node.find_subcommand(word.as_ref()) {
            Some(command) => {
                names.push(command.get_name());
                node = command;
            }
            // A command without sub-commands: the rest may be its arguments.
            None if !node.has_subcommands() => break,
            None => return unknown_topic(node, &names, &word),
        }
    }
    Invocation::Help(help(&names))
}

fn unknown_topic(node: &clap::Command, names: &[&str], word: &str) -> Invocation {
    Invocation::NoTopic(word.to_owned(), suggest::command(node, names, word))
}

fn usage(names: &[&str], reason: String) -> CliError {
    CliError::Usage { reason, help: help(names) }
}

/// Converts an error of `clap` about the ordered words: an invalid value, or a missing argument.
fn refusal(names: &[&str], error: &clap::Error) -> CliError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::MissingRequiredArgument => CliError::BadArguments("key required"),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let flag = text(ContextKind::InvalidArg);
            let flag = flag.split([' ', '=']).next().unwrap_or_default();
            let why = std::error::Error::source(error).map(|why| format!(": {why}")).unwrap_or_default();
            usage(
                names,
                format!("invalid value \"{}\" for flag {flag}{why}", text(ContextKind::InvalidValue)),
            )
        }
        _ => usage(names, error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain form that a command line comes to, or what is said instead.
    fn plain(line: &str) -> String {
        let words: Vec<OsString> =
            line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
        let root = Cli::command();
        let flags = match read_flags(&root, &words) {
            Ok(flags) => flags,
            Err(reason) => return reason,
        };
        let command = root.find_subcommand(flags.arguments[0].to_str().unwrap()).unwrap();
        let ordered = reordered(&flags.arguments);
        match read_flags(command, &ordered) {
            Ok(own) => {
                [flags.plain, own.plain, vec!["|".into()], own.arguments].concat().join(OsStr::new(" "))
            }
            Err(reason) => return reason,
        }
        .into_string()
        .unwrap()
    }

    fn asked(line: &str) -> Result<Invocation, CliError> {
        read(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect())
    }

    fn reason(line: &str) -> String {
        match asked(line) {
            Err(CliError::Usage { reason, help }) => {
                assert!(help.contains("Usage: etcdctl"), "{help}");
                reason
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn one_dash_or_two_and_the_value_here_or_next() {
        for line in ["set -ttl 5 /a v", "set --ttl=5 /a v", "set /a v --ttl 5", "set /a v -ttl=5"] {
            assert_eq!(plain(line), "--ttl=5 | /a v", "{line}");
        }
        assert_eq!(plain("-o json -no-sync get /a"), "--output=json --no-sync | /a");
        assert_eq!(plain("ls --p --sort=T --recursive=false /a"), "-p --sort | /a");
        assert_eq!(plain("--debug --debug=0 get /a"), "| /a");
        assert_eq!(plain("set --ttl 1 --ttl 2 /a v"), "--ttl=2 | /a v");
        assert_eq!(plain("set --swap-with-value --ttl /a v"), "--swap-with-value=--ttl | /a v");
    }

    #[test]
    fn arguments_in_front_of_a_flag_in_the_middle_move_to_the_end() {
        assert_eq!(plain("set /a --ttl 100 /b"), "--ttl=100 | /b /a");
        assert_eq!(plain("get /b --quorum /a"), "--quorum | /a /b");
        assert_eq!(plain("ls /a --sort --recursive x"), "--sort --recursive | x /a");
        assert_eq!(plain("set /a -"), "| - /a");
        // Behind the first argument nothing is a flag.
        assert_eq!(plain("watch --after-index 1 /a --recursive -h"), "--after-index=1 | /a --recursive -h");
    }

    #[test]
    fn two_dashes_end_the_flags() {
        assert_eq!(plain("set -- /a -1"), "| /a -1");
        assert_eq!(plain("set --ttl 5 -- /a -1"), "--ttl=5 | /a -1");
        assert_eq!(plain("set /a -- -3"), "| /a -- -3");
        assert_eq!(plain("set --ttl 5 -- -- x"), "--ttl=5 | -- x");
        assert_eq!(plain("-- get /a"), "| /a");
        assert_eq!(plain("ls -- --sort"), "| --sort");
        assert_eq!(plain("exec-watch /a --recursive -- sh -c x"), "--recursive | /a -- sh -c x");
        assert_eq!(plain("exec-watch --recursive /a -- sh -c x"), "--recursive | /a -- sh -c x");
    }

    #[test]
    fn wrong_flags_are_told() {
        for (line, text) in [
            ("get --nope /a", "flag provided but not defined: -nope"),
            (
                "get /a -o json",
                "flag provided but not defined: -o\n-o is a global flag: put it before the command",
            ),
            ("set --ttl", "flag needs an argument: -ttl"),
            ("get ---sort /a", "bad flag syntax: ---sort"),
            ("get -= /a", "bad flag syntax: -="),
            ("ls --recursiv /", "flag provided but not defined: -recursiv\nDid you mean --recursive?"),
            ("ls --sort=maybe", "invalid boolean value \"maybe\" for -sort"),
            ("-o json --output json get /a", "Cannot use two forms of the same flag: o output"),
        ] {
            assert_eq!(plain(line), text);
            assert_eq!(reason(line), text);
        }
        assert!(reason("set --ttl abc /a v").starts_with("invalid value \"abc\" for flag --ttl: it must be"));
        assert!(reason("set --ttl= /a v").starts_with("invalid value \"\" for flag --ttl"));
        assert!(reason("--timeout 5 ls").starts_with("invalid value \"5\" for flag --timeout: it must be"));
        assert!(reason("completion tcsh").starts_with("invalid value \"tcsh\""));
        assert!(reason("member --nope").starts_with("flag provided"));
        assert!(reason("member list --nope").starts_with("flag provided"));
    }

    #[test]
    fn values_and_arguments_may_be_empty_or_any_bytes() {
        let words = ["--ca-file=", "set", "--swap-with-value", "", ""].map(OsString::from).to_vec();
        assert!(matches!(read(words).unwrap(), Invocation::Run(_)));
        let words = vec!["set".into(), OsString::from_vec(vec![b'/', 0xff]), OsString::from_vec(vec![0xfe])];
        assert!(matches!(read(words).unwrap(), Invocation::Run(_)));
    }

    #[test]
    fn a_missing_key_is_told() {
        for line in ["get", "set", "mk --ttl 5", "watch --forever"] {
            assert!(matches!(asked(line), Err(CliError::BadArguments("key required"))), "{line}");
        }
        assert!(matches!(asked("ls"), Ok(Invocation::Run(_))));
    }

    #[test]
    fn help_is_given_where_it_is_asked_for() {
        let help = |line: &str| match asked(line) {
            Ok(Invocation::Help(text)) => text,
            other => panic!("{line}: {other:?}"),
        };
        for line in ["", "help", "h", "-h", "--help", "-h get /a", "help help"] {
            assert!(help(line).starts_with("Talks to an etcd cluster"), "{line}");
        }
        for line in ["help set", "set -h", "set /a v --help", "help set x"] {
            assert!(help(line).contains("--swap-with-index"), "{line}");
        }
        for line in ["member", "member help", "member h", "member -h", "help member"] {
            assert!(help(line).contains("Usage: etcdctl member <COMMAND>"), "{line}");
        }
        for line in ["member add -h", "member help add", "help member add"] {
            assert!(help(line).contains("Usage: etcdctl member add <NAME> <PEER_URLS>"), "{line}");
        }
        for line in
            ["nosuch", "nosuch get", "help nosuch", "member nosuch", "member help nosuch", "user h nosuch"]
        {
            assert!(matches!(asked(line), Ok(Invocation::NoTopic(name, None)) if name == "nosuch"), "{line}");
        }
        for line in ["--version", "-v", "-version", "-v get"] {
            assert!(matches!(asked(line), Ok(Invocation::Version)), "{line}");
        }
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }
}
