//! Reading the words of a command line.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::value::{Kind, Value, ValueError};
use super::{Flag, FlagSet};
use crate::quote::quote;

/// Why a command line could not be read. The texts are those of Go's `flag` package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// `-h` or `--help`: print the help.
    #[error("help requested")]
    Help,
    /// No flag of this name.
    #[error("flag provided but not defined: -{0}")]
    NotDefined(String),
    /// The command line ends where the flag's value should be.
    #[error("flag needs an argument: -{0}")]
    NeedsArgument(&'static str),
    /// A word such as `---x` or `-=`.
    #[error("bad flag syntax: {0}")]
    BadSyntax(String),
    /// A word that is not UTF-8.
    #[error("argument is not valid UTF-8: {0}")]
    NotText(String),
    /// A value that the flag does not take.
    #[error("invalid value {} for flag -{name}: {reason}", quote(.value))]
    InvalidValue {
        /// The flag.
        name: &'static str,
        /// What was given.
        value: String,
        /// Why it was refused.
        reason: ValueError,
    },
    /// A value that is no boolean.
    #[error("invalid boolean value {} for -{name}: {reason}", quote(.value))]
    InvalidBool {
        /// The flag.
        name: &'static str,
        /// What was given.
        value: String,
        /// Why it was refused.
        reason: ValueError,
    },
}

impl FlagError {
    /// The exit status of a program that meets this: 0 for [`FlagError::Help`], else 2.
    pub fn exit_status(&self) -> u8 {
        if *self == FlagError::Help { 0 } else { 2 }
    }
}

/// The values of a program's flags: those that were set, and the defaults of the others.
#[derive(Debug, Clone)]
pub struct Values {
    definitions: FlagSet,
    set: BTreeMap<&'static str, Value>,
    /// All texts that were given to flags, in their order.
    given: Vec<(&'static str, String)>,
    ignored: Vec<&'static str>,
    rest: Vec<String>,
}

impl FlagSet {
    /// Parses a command line (without the program's name) up to the first operand.
    ///
    /// The last occurrence of a flag wins.
    pub fn parse(&self, words: impl IntoIterator<Item = OsString>) -> Result<Values, FlagError> {
        let mut values = self.no_values();
        let mut words = words.into_iter().map(into_text);
        while let Some(word) = words.next().transpose()? {
            let Some((name, inline)) = split(&word)? else {
                if word != "--" {
                    values.rest.push(word);
                }
                break;
            };
            let Some(flag) = self.find(name) else {
                return Err(match name {
                    "h" | "help" => FlagError::Help,
                    _ => FlagError::NotDefined(name.to_owned()),
                });
            };
            let text = match inline {
                Some(text) => text.to_owned(),
                None if flag.kind.stands_alone() => "true".to_owned(),
                None => words.next().transpose()?.ok_or(FlagError::NeedsArgument(flag.name))?,
            };
            values.set(flag, &text).map_err(|reason| refuse(flag, text, reason))?;
        }
        for word in words {
            values.rest.push(word?);
        }
        Ok(values)
    }

    /// The defaults alone: what an empty command line gives.
    pub fn no_values(&self) -> Values {
        Values {
            definitions: *self,
            set: BTreeMap::new(),
            given: Vec::new(),
            ignored: Vec::new(),
            rest: Vec::new(),
        }
    }
}

fn into_text(word: OsString) -> Result<String, FlagError> {
    word.into_string().map_err(|word| FlagError::NotText(quote(&*word.to_string_lossy())))
}

/// Splits a word into a flag's name and the value in the same word; `None` if it is not a flag.
fn split(word: &str) -> Result<Option<(&str, Option<&str>)>, FlagError> {
    let Some(body) = word.strip_prefix('-') else { return Ok(None) };
    if body.is_empty() || body == "-" {
        return Ok(None);
    }
    let body = body.strip_prefix('-').unwrap_or(body);
    if body.starts_with(['-', '=']) {
        return Err(FlagError::BadSyntax(word.to_owned()));
    }
    Ok(Some(match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    }))
}

fn refuse(flag: &Flag, value: String, reason: ValueError) -> FlagError {
    let name = flag.name;
    match flag.kind {
        Kind::Bool => FlagError::InvalidBool { name, value, reason },
        _ => FlagError::InvalidValue { name, value, reason },
    }
}

impl Values {
    /// Sets a flag from a text, as a source other than the command line does (environment, file).
    pub fn set(&mut self, flag: &'static Flag, text: &str) -> Result<(), ValueError> {
        let value = flag.kind.read(flag.name, text)?;
        if matches!(flag.kind, Kind::Ignored) {
            self.ignored.push(flag.name);
        }
        self.set.insert(flag.name, value);
        self.given.push((flag.name, text.to_owned()));
        Ok(())
    }

    /// Whether the flag was set, even if to its default.
    pub fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// The words after the flags.
    pub fn rest(&self) -> &[String] {
        &self.rest
    }

    /// The flags of [`Kind::Ignored`] that were set, once for each time.
    pub fn ignored(&self) -> &[&'static str] {
        &self.ignored
    }

    /// The value of a flag that is neither a boolean nor a number.
    ///
    /// # Panics
    /// If no such flag is defined: the name stands in the program's source.
    pub fn text(&self, name: &str) -> &str {
        match self.set.get(name) {
            Some(Value::Text(text)) => text,
            Some(_) => wrong_kind(name),
            None => self.definition(name).default,
        }
    }

    /// The texts of a flag that may be given several times.
    pub fn texts<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(flag, _)| *flag == name).map(|(_, text)| text.as_str())
    }

    /// The value of a boolean flag.
    ///
    /// # Panics
    /// If no such flag is defined: the name stands in the program's source.
    pub fn switch(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(on) => on,
            _ => wrong_kind(name),
        }
    }

    /// The value of a flag of [`Kind::Number`] or [`Kind::Bounded`].
    ///
    /// # Panics
    /// If no such flag is defined: the name stands in the program's source.
    pub fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Number(number) => number,
            _ => wrong_kind(name),
        }
    }

    /// The value of a flag of [`Kind::Signed`].
    ///
    /// # Panics
    /// If no such flag is defined: the name stands in the program's source.
    pub fn signed(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Signed(number) => number,
            _ => wrong_kind(name),
        }
    }

    fn value(&self, name: &str) -> Value {
        self.set.get(name).cloned().unwrap_or_else(|| {
            let flag = self.definition(name);
            flag.kind.read(name, flag.default).unwrap_or_else(|error| {
                panic!("the default {:?} of the flag -{name} is wrong: {error}", flag.default)
            })
        })
    }

    fn definition(&self, name: &str) -> &'static Flag {
        self.definitions.find(name).unwrap_or_else(|| panic!("no flag -{name} is defined"))
    }
}

fn wrong_kind(name: &str) -> ! {
    panic!("the flag -{name} is of another kind than its reader takes it for")
}
