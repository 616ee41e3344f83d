//! From the words of a command line to a command with its flags, by the rules of etcdctl 3.5.
//!
//! Flags may stand anywhere before `--`. A name may be cut to a beginning that only one command has.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::time::Duration;

use shared::quote::quote;

use super::definition::{Command, Flag, HELP, Kind};
use super::failure::Failure;
use super::table::{GLOBAL, ROOT};
use super::{help, numbers};
use shared::go_values;

/// The greatest distance of a word to a command that is suggested for it.
const DISTANCE_MAX: usize = 2;

/// A read command line.
#[derive(Debug)]
pub(crate) struct Line {
    /// The names of the command.
    pub(crate) path: Vec<&'static Command>,
    /// The flags that were given.
    pub(crate) flags: Flags,
    /// The other words.
    pub(crate) arguments: Vec<OsString>,
    /// How many of the arguments stand before `--`; all without it.
    pub(crate) before_dashes: usize,
    /// Whether there is a `--`.
    pub(crate) has_dashes: bool,
}

/// The values of flags. All are valid for their kinds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Flags {
    given: BTreeMap<&'static str, OsString>,
}

impl Flags {
    /// Whether the flag was given.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// A value as a text; `None` without the flag.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.given.get(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// Whether a switch is on that is off by default.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| go_values::boolean(&value) == Some(true))
    }

    /// A number; 0 without the flag.
    pub(crate) fn number(&self, name: &str) -> i64 {
        self.text(name).and_then(|value| go_values::integer(&value).ok()).unwrap_or(0)
    }
}

impl Line {
    /// The words that a help text is for.
    pub(crate) fn help(&self) -> String {
        help::text(&self.path)
    }

    /// An argument as a text.
    pub(crate) fn argument(&self, at: usize) -> String {
        self.arguments.get(at).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// The value of a duration flag.
pub(crate) fn duration(text: &str) -> Duration {
    go_values::duration(text).unwrap_or_default()
}

/// Reads a command line without the program's name.
///
/// # Errors
/// For unknown commands and flags, and values that are not of their flag's kind.
pub(crate) fn read(words: Vec<OsString>) -> Result<Line, Failure> {
    let mut path: Vec<&'static Command> = Vec::new();
    let mut rest = words;
    loop {
        let command = path.last().copied().unwrap_or(&ROOT);
        let Some(at) = first_operand(&rest, &known(&path)) else { break };
        let name = rest[at].to_string_lossy().into_owned();
        match command.find(&name) {
            Some(below) => {
                rest.remove(at);
                path.push(below);
            }
            None if path.is_empty() => return Err(unknown_command(&name)),
            None => break,
        }
    }
    let known = known(&path);
    let mut line =
        Line { path, flags: Flags::default(), arguments: vec![], before_dashes: 0, has_dashes: false };
    match read_flags(&rest, &known) {
        Ok(read) => {
            (line.flags, line.arguments, line.before_dashes, line.has_dashes) = read;
            Ok(line)
        }
        Err(reason) => Err(Failure::Usage { reason, help: line.help() }),
    }
}

/// The flags that a command has.
fn known(path: &[&'static Command]) -> Vec<&'static Flag> {
    let (own, above) = match path.split_last() {
        Some((own, above)) => (Some(own), above),
        None => (None, path),
    };
    let inherited = above.iter().filter(|command| command.hands_down).flat_map(|command| command.flags);
    own.into_iter().flat_map(|command| command.flags).chain(inherited).chain(GLOBAL).collect()
}

/// Where the first word is that is no flag and not the value of one.
fn first_operand(words: &[OsString], known: &[&'static Flag]) -> Option<usize> {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let word = word.to_string_lossy();
        if word == "--" {
            return None;
        }
        let takes_next = match word.strip_prefix("--") {
            Some(name) if !name.contains('=') => {
                !is_switch(known.iter().find(|flag| flag.name == name), name)
            }
            Some(_) => false,
            None if word.len() == 2 && word.starts_with('-') => {
                let letter = word.chars().nth(1);
                let flag = known.iter().find(|flag| flag.short == letter);
                !is_switch(flag, if letter == Some('h') { HELP } else { "" })
            }
            None if word.starts_with('-') => false,
            None if word.is_empty() => false,
            None => return Some(at),
        };
        at += if takes_next { 2 } else { 1 };
    }
    None
}

fn is_switch(flag: Option<&&'static Flag>, name: &str) -> bool {
    name == HELP || flag.is_some_and(|flag| flag.kind == Kind::Switch)
}

type Read = (Flags, Vec<OsString>, usize, bool);

/// Reads the flags among words.
///
/// # Errors
/// With the reason.
pub(crate) fn read_flags(words: &[OsString], known: &[&'static Flag]) -> Result<Read, String> {
    let mut flags = Flags::default();
    let mut arguments = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            let before = arguments.len();
            arguments.extend(words.cloned());
            return Ok((flags, arguments, before, true));
        }
        match bytes {
            [b'-', b'-', name @ ..] => long_flag(name, &mut words, known, &mut flags)?,
            [b'-', _, ..] => short_flags(&word.to_string_lossy(), &mut words, known, &mut flags)?,
            _ => arguments.push(word.clone()),
        }
    }
    let before = arguments.len();
    Ok((flags, arguments, before, false))
}

type Words<'a> = std::slice::Iter<'a, OsString>;

fn long_flag(
    body: &[u8],
    words: &mut Words<'_>,
    known: &[&'static Flag],
    flags: &mut Flags,
) -> Result<(), String> {
    let (name, inline) = match body.iter().position(|byte| *byte == b'=') {
        Some(at) => (&body[..at], Some(OsStr::from_bytes(&body[at + 1..]).to_owned())),
        None => (body, None),
    };
    let text = String::from_utf8_lossy(name).into_owned();
    if text.is_empty() || text.starts_with('-') {
        return Err(format!("bad flag syntax: --{}", String::from_utf8_lossy(body)));
    }
    if text == HELP {
        return set_help(inline, flags);
    }
    let flag = known.iter().find(|flag| flag.name == text);
    let flag = flag.ok_or_else(|| format!("unknown flag: --{text}"))?;
    let value = match (inline, flag.kind) {
        (Some(value), _) => value,
        (None, Kind::Switch) => "true".into(),
        (None, _) => words.next().cloned().ok_or_else(|| format!("flag needs an argument: --{text}"))?,
    };
    set(flag, value, flags)
}

fn set_help(inline: Option<OsString>, flags: &mut Flags) -> Result<(), String> {
    const FLAG: Flag = Flag::switch(HELP, "").short('h');
    set(&FLAG, inline.unwrap_or_else(|| "true".into()), flags)
}

/// Letters in one word: switches, and at the end one that takes a value.
fn short_flags(
    word: &str,
    words: &mut Words<'_>,
    known: &[&'static Flag],
    flags: &mut Flags,
) -> Result<(), String> {
    let mut letters = &word[1..];
    while let Some(letter) = letters.chars().next() {
        let shown = letters;
        letters = &letters[letter.len_utf8()..];
        let flag = known.iter().find(|flag| flag.short == Some(letter));
        if flag.is_none() && letter == 'h' {
            set_help(None, flags)?;
            continue;
        }
        let flag = flag.ok_or_else(|| format!("unknown shorthand flag: {letter:?} in -{shown}"))?;
        if let Some(value) = letters.strip_prefix('=') {
            return set(flag, value.into(), flags);
        }
        if flag.kind == Kind::Switch {
            set(flag, "true".into(), flags)?;
            continue;
        }
        let value = match letters {
            "" => words
                .next()
                .cloned()
                .ok_or_else(|| format!("flag needs an argument: {letter:?} in -{shown}"))?,
            value => value.into(),
        };
        return set(flag, value, flags);
    }
    Ok(())
}

fn set(flag: &Flag, value: OsString, flags: &mut Flags) -> Result<(), String> {
    let text = value.to_string_lossy().into_owned();
    check(flag, &text).map_err(|reason| {
        let letter = flag.short.map_or(String::new(), |letter| format!("-{letter}, "));
        format!("invalid argument {} for \"{letter}--{}\" flag: {reason}", quote(&text), flag.name)
    })?;
    // A list grows with each flag.
    let value = match flags.given.get(flag.name) {
        Some(before) if flag.kind == Kind::List => {
            OsString::from_vec([before.as_bytes(), b",", value.as_bytes()].concat())
        }
        _ => value,
    };
    // The name of a definition lives as long as the program; a flag of the help is the only other one.
    let name: &'static str = flag.name;
    flags.given.insert(name, value);
    Ok(())
}

/// Whether a value is of its flag's kind.
///
/// # Errors
/// With the reason, in Go's words.
pub(crate) fn check(flag: &Flag, value: &str) -> Result<(), String> {
    match flag.kind {
        Kind::Text | Kind::List => Ok(()),
        Kind::Switch => match go_values::boolean(value) {
            Some(_) => Ok(()),
            None => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quote(value))),
        },
        Kind::Number => numbers::integer(value).map(|_| ()).map_err(|error| error.to_string()),
        Kind::Duration => match go_values::duration(value) {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("time: invalid duration {}", quote(value))),
        },
    }
}

fn unknown_command(name: &str) -> Failure {
    let lower = name.to_lowercase();
    let close = ROOT.below.iter().map(|command| command.name).filter(|known| {
        known.starts_with(&lower) || strsim::levenshtein(&lower, &known.to_lowercase()) <= DISTANCE_MAX
    });
    let close: String = close.map(|name| format!("\t{name}\n")).collect();
    let mut reason = format!("unknown command {} for \"etcdctl\"", quote(name));
    if !close.is_empty() {
        reason.push_str(&format!("\n\nDid you mean this?\n{close}"));
    }
    Failure::UnknownCommand(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Line, Failure> {
        read(text.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect())
    }

    fn names(line: &Line) -> String {
        line.path.iter().map(|command| command.name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn flags_stand_anywhere_before_the_dashes() {
        for text in [
            "get foo bar --limit=5 -w json",
            "--write-out json get --limit 5 foo bar",
            "get -wjson foo --limit 0x5 bar",
            "-w=json ge foo bar --limit=5",
        ] {
            let line = line(text).unwrap();
            assert_eq!(names(&line), "get", "{text}");
            assert_eq!(line.arguments, ["foo", "bar"], "{text}");
            assert_eq!(line.flags.number("limit"), 5, "{text}");
            assert_eq!(line.flags.text("write-out").as_deref(), Some("json"), "{text}");
        }
        let line = line("watch a -- sh -c x").unwrap();
        assert_eq!((line.before_dashes, line.has_dashes), (1, true));
        assert_eq!(line.arguments, ["a", "sh", "-c", "x"]);
    }

    #[test]
    fn a_beginning_that_is_the_only_one_names_a_command() {
        assert_eq!(names(&line("le g 5").unwrap()), "lease grant");
        assert_eq!(names(&line("pu a b").unwrap()), "put");
        assert_eq!(names(&line("endpoint nosuch").unwrap()), "endpoint");
        let Err(Failure::UnknownCommand(reason)) = line("d foo") else { panic!() };
        assert_eq!(reason, "unknown command \"d\" for \"etcdctl\"\n\nDid you mean this?\n\tdel\n\tdefrag\n");
        let Err(Failure::UnknownCommand(reason)) = line("nosuchcommand") else { panic!() };
        assert_eq!(reason, "unknown command \"nosuchcommand\" for \"etcdctl\"");
    }

    #[test]
    fn wrong_flags_are_told_as_the_original_does() {
        for (text, wanted) in [
            ("get --nosuchflag", "unknown flag: --nosuchflag"),
            ("get -xw", "unknown shorthand flag: 'x' in -xw"),
            ("put foo --lease", "flag needs an argument: --lease"),
            ("put foo -w", "flag needs an argument: 'w' in -w"),
            ("get --=x", "bad flag syntax: --=x"),
            (
                "get --rev=abc",
                "invalid argument \"abc\" for \"--rev\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax",
            ),
            (
                "get --prefix=maybe",
                "invalid argument \"maybe\" for \"--prefix\" flag: strconv.ParseBool: parsing \"maybe\": invalid \
                 syntax",
            ),
            (
                "get --command-timeout=abc",
                "invalid argument \"abc\" for \"--command-timeout\" flag: time: invalid duration \"abc\"",
            ),
        ] {
            let Err(Failure::Usage { reason, help }) = line(text) else { panic!("{text}") };
            assert_eq!(reason, wanted);
            assert!(help.starts_with("NAME:\n"), "{help}");
        }
    }

    #[test]
    fn a_switch_can_be_set_off() {
        assert!(line("get --prefix x").unwrap().flags.is_on("prefix"));
        assert!(!line("get --prefix=false x").unwrap().flags.is_on("prefix"));
        assert!(line("get -h").unwrap().flags.is_on("help"));
        assert!(line("--help").unwrap().flags.is_on("help"));
    }
}
