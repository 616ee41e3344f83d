//! Completions of shells, made by `clap_complete` from the definitions.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::Shell;

use super::{Flag, FlagSet, Kind};

/// The completion script for a shell, from the flags of the program and its sub-commands; `None` for an unknown
/// shell.
pub(super) fn script(sets: &[&FlagSet], shell: &str) -> Option<String> {
    let shell = match shell {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => return None,
    };
    let (root, below) = sets.split_first()?;
    let mut command = command(root);
    for set in below {
        command = command.subcommand(self::command(set));
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, root.program, &mut script);
    let script = String::from_utf8_lossy(&script);
    // clap_complete 4.6 takes the dash in a program's name for a sub-command where it names the branches of bash's
    // script, and not where it goes to them.
    let (wrong, right) = (root.program.replace('-', "__subcmd__"), root.program.replace('-', "__"));
    Some(script.replace(&wrong, &right))
}

/// The flags as `clap` sees them: enough to complete, not to parse. `clap` knows neither Go's spellings nor the
/// checks of values.
fn command(set: &FlagSet) -> Command {
    let name = set.program.rsplit(' ').next().unwrap_or(set.program);
    let mut command = Command::new(name)
        .about(set.about)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .arg(Arg::new("help").long("help").help("Show the help and leave.").action(ArgAction::SetTrue));
    for flag in set.groups.iter().filter(|group| !group.hidden).flat_map(|group| group.flags) {
        command = command.arg(arg(flag));
    }
    if set.operands.is_empty() {
        return command;
    }
    command.arg(Arg::new("operands").value_name(set.operands).num_args(0..).value_hint(ValueHint::AnyPath))
}

fn arg(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name).help(flag.help);
    match flag.kind {
        Kind::Bool | Kind::Ignored => arg.action(ArgAction::SetTrue),
        Kind::Choice(words) => arg.value_parser(PossibleValuesParser::new(words.iter().copied())),
        _ if flag.name.ends_with("-dir") => arg.value_hint(ValueHint::DirPath),
        _ if flag.name.ends_with("-file") || matches!(flag.name, "config" | "o") => {
            arg.value_hint(ValueHint::FilePath)
        }
        _ => arg.value_hint(ValueHint::Other),
    }
}
