//! The definitions as help text.

use std::fmt::Write as _;

use super::FlagSet;

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

    /// The help: the introduction, and the groups that are not hidden, each flag with its default, its variable and
    /// its text.
    pub fn help(&self) -> String {
        let mut out = if self.introduction.is_empty() { self.usage() } else { self.introduction.to_owned() };
        for group in self.groups.iter().filter(|group| !group.hidden) {
            push_line(&mut out, &format!("\n{}:", group.title));
            if !group.remark.is_empty() {
                push_wrapped(&mut out, group.remark, "  ");
            }
            for flag in group.flags {
                let variable = match self.environment {
                    "" => String::new(),
                    prefix => format!("    {}", flag.env_name(prefix)),
                };
                push_line(&mut out, &format!("\n  --{} '{}'{variable}", flag.name, flag.default));
                push_wrapped(&mut out, flag.help, "      ");
            }
        }
        out
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
