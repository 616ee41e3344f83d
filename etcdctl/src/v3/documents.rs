//! Completions and manual pages, made by `clap_complete` and `clap_mangen` from the definitions.

use clap::{Arg, ArgAction, ValueHint};
use clap_complete::Shell;

use super::definition::{Command, Flag, Kind};
use super::table::ROOT;

/// The completion script for a shell.
pub(crate) fn completion(shell: &str) -> String {
    let shell = match shell {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        "powershell" => Shell::PowerShell,
        _ => Shell::Bash,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(&ROOT), ROOT.name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The commands as `clap` sees them: enough to complete and describe, not to parse.
pub(crate) fn command(definition: &'static Command) -> clap::Command {
    let mut command = clap::Command::new(definition.name)
        .about(definition.about)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .arg(Arg::new("help").long("help").short('h').help("Show the help").action(ArgAction::SetTrue));
    if !definition.description.is_empty() {
        command = command.long_about(format!("{}\n\n{}", definition.about, definition.description));
    }
    for flag in definition.flags {
        command = command.arg(arg(flag).global(definition.hands_down));
    }
    for below in definition.below {
        command = command.subcommand(self::command(below));
    }
    if definition.below.is_empty() && !definition.usage.is_empty() {
        command = command.arg(Arg::new("arguments").value_name(definition.usage).num_args(0..));
    }
    command
}

fn arg(flag: &'static Flag) -> Arg {
    let mut arg = Arg::new(flag.name).long(flag.name).help(flag.help);
    if let Some(letter) = flag.short {
        arg = arg.short(letter);
    }
    match flag.kind {
        Kind::Switch => arg.action(ArgAction::SetTrue),
        _ if flag.name == "write-out" => arg.value_parser(["fields", "json", "protobuf", "simple", "table"]),
        _ if matches!(flag.name, "cert" | "key" | "cacert") => arg.value_hint(ValueHint::FilePath),
        _ => arg.value_hint(ValueHint::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_knows_every_command_and_flag() {
        for shell in ["bash", "zsh", "fish", "powershell"] {
            let script = completion(shell);
            for word in ["grant-permission", "keep-alive", "print-value-only", "write-out", "cluster"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        command(&ROOT).debug_assert();
    }
}
