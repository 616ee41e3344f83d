//! Command lines by the rules of Go's `flag` package, from one list of definitions.
//!
//! `-name` and `--name` are the same flag; its value stands in the same word after `=` or is the next word, whatever
//! that looks like; a boolean takes its value after `=` only. Reading stops at `--` and at the first word that is no
//! flag. Scripts depend on these rules and on the texts and exit statuses of the refusals. `clap` knows neither, so
//! [`FlagSet::parse`] reads the words itself. The help, manual pages and completions of shells are made from the same
//! definitions ([`document`]).
//!
//! A program states its flags once, as a static [`FlagSet`] of [`Group`]s: name, kind, default and help stand
//! together. Used by `etcd`, `etcd-dump` and `etcd-migrate`; `etcdctl` has rules of its own.

mod completion;
mod describe;
mod documents;
mod manual;
mod parse;
mod value;

pub use documents::document;
pub use parse::{FlagError, Values};
pub use value::{Kind, ValueError};

use crate::suggest::closest;

/// One flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The default, as it would be typed. A value of the flag's kind, or empty.
    pub default: &'static str,
    /// One or more sentences for the help.
    pub help: &'static str,
}

impl Flag {
    /// A flag of any kind.
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
        Flag { name, kind, default, help }
    }

    /// A flag with any text as its value.
    pub const fn text(name: &'static str, default: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Text, default, help)
    }

    /// A boolean, false unless set.
    pub const fn switch(name: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Bool, "false", help)
    }

    /// A whole number, not negative.
    pub const fn number(name: &'static str, default: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Number, default, help)
    }

    /// The environment variable of this flag: `max-wals` with the prefix `ETCD_` is `ETCD_MAX_WALS`.
    pub fn env_name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.name.to_uppercase().replace('-', "_"))
    }
}

/// Flags that stand under one heading of the help.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The heading.
    pub title: &'static str,
    /// A remark under the heading, or empty.
    pub remark: &'static str,
    /// Whether the help leaves the group out.
    pub hidden: bool,
    /// The flags in the order of the help.
    pub flags: &'static [Flag],
}

/// All flags of a program.
#[derive(Debug, Clone, Copy)]
pub struct FlagSet {
    /// The program's name.
    pub program: &'static str,
    /// What the program is, in a sentence.
    pub about: &'static str,
    /// Its operands for the usage line (`[DIR]`), or empty.
    pub operands: &'static str,
    /// The help up to the flags: what the program is for, `usage:`, `examples:` and the like. Empty for the usage
    /// alone.
    pub introduction: &'static str,
    /// The prefix of the environment variables of its flags; empty if it has none.
    pub environment: &'static str,
    /// The flags by heading.
    pub groups: &'static [Group],
}

impl FlagSet {
    /// Every flag, in the order of the groups.
    pub fn flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.groups.iter().flat_map(|group| group.flags)
    }

    /// The flag of this name.
    pub fn find(&self, name: &str) -> Option<&'static Flag> {
        self.flags().find(|flag| flag.name == name)
    }

    /// A "did you mean" sentence, if [`FlagSet::parse`] found an unknown flag.
    pub fn hint(&self, error: &FlagError) -> Option<String> {
        let FlagError::NotDefined(name) = error else { return None };
        // Do not suggest flags without effect.
        let known = self.flags().filter(|flag| !matches!(flag.kind, Kind::Ignored | Kind::Removed));
        let names = known.map(|flag| flag.name).chain(["help"]);
        closest(name, names).map(|name| format!("Did you mean -{name}?"))
    }
}

#[cfg(test)]
mod tests;
