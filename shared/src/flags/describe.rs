//! The definitions as help text and as a `clap` command.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, builder::PossibleValuesParser};

use super::{Flag, FlagSet, Kind};

/// Columns of the help; longer lines are broken between words.
const HELP_COLUMNS: usize = 96;

impl FlagSet {
    /// How to call the program, in a few lines.
    pub fn usage(&self) -> String {
        let program = self.program;
        let operands = if self.operands.is_empty() { String::new() } else { format!(" {}", self.operands) };
        format!(
            "usage: {program} [flags]{operands}\n       {program} --version\n       {program} --help\n\n{}\n",
            self.about
        )
    }

    /// The help: the groups that are not hidden, each flag with its default and its text.
    pub fn help(&self) -> String {
        let mut out = String::new();
        for group in self.groups.iter().filter(|group| !group.hidden) {
            push_line(&mut out, &format!("\n{}:", group.title));
            if !group.remark.is_empty() {
                push_wrapped(&mut out, group.remark, "  ");
            }
            for flag in group.flags {
                push_line(&mut out, &format!("\n  --{} '{}'", flag.name, flag.default));
                push_wrapped(&mut out, flag.help, "      ");
            }
        }
        out
    }

    /// The same flags as a `clap` command, for manual pages and completions.
    ///
    /// It reads any command line in the form `--name=value` as [`FlagSet::parse`] does, but for what `clap`
    /// does not know: the other forms of Go's flags, and the checks of values.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program)
            .about(self.about)
            .disable_help_flag(true)
            .disable_version_flag(true)
            .args_override_self(true);
        for group in self.groups {
            for flag in group.flags {
                command = command.arg(arg(flag).help_heading(group.title).hide(group.hidden));
            }
        }
        if self.operands.is_empty() {
            command
        } else {
            command.arg(Arg::new("operands").value_name(self.operands).num_args(0..).trailing_var_arg(true))
        }
    }
}

fn arg(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name).help(flag.help).action(ArgAction::Set);
    let arg = if flag.default.is_empty() { arg } else { arg.default_value(flag.default) };
    match flag.kind {
        Kind::Bool => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_default_value(true)
            .value_name("BOOL"),
        Kind::Ignored => {
            arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("ANY")
        }
        Kind::Choice(words) => {
            arg.value_parser(PossibleValuesParser::new(words.iter().copied())).value_name("WORD")
        }
        Kind::Number | Kind::Bounded(..) | Kind::Signed => arg.value_name("NUMBER"),
        Kind::Text | Kind::Checked(_) | Kind::Removed => arg.value_name("TEXT"),
    }
}

fn push_line(out: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

fn push_wrapped(out: &mut String, text: &str, indent: &str) {
    let mut line = indent.to_owned();
    for word in text.split_whitespace() {
        if line.len() > indent.len() {
            if line.len() + 1 + word.len() > HELP_COLUMNS {
                push_line(out, &line);
                line.truncate(indent.len());
            } else {
                line.push(' ');
            }
        }
        line.push_str(word);
    }
    push_line(out, &line);
}
