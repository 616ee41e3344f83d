//! What a watch is of, and what it runs: from arguments, or from a line of an interactive watch.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;

use bytes::Bytes;
use shared::v3::pb::etcdserverpb::WatchCreateRequest;

use super::super::definition::Flag;
use super::super::failure::Failure;
use super::super::table::WATCH_FLAGS;
use super::super::words::{self, Flags};
use super::{range, txn_grammar};

const BAD_NUMBER: &str = "bad number of arguments";
const CONFLICT: &str = "bad number of arguments (found conflicting environment key)";
const NO_COMMAND: &str = "bad number of arguments (found separator --, but no commands)";
const EXCLUSIVE: &str = "`range_end` and `--prefix` are mutually exclusive";

/// The key and the end of the range that the environment names.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    /// `ETCDCTL_WATCH_KEY`.
    pub(super) key: Option<OsString>,
    /// `ETCDCTL_WATCH_RANGE_END`.
    pub(super) range_end: Option<OsString>,
}

/// A watch to create.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Watch {
    /// The request.
    pub(super) request: WatchCreateRequest,
    /// The command to run for each event, or nothing.
    pub(super) command: Vec<OsString>,
}

/// The watch that arguments and flags describe. `before` arguments stand before `--`.
pub(super) fn watch(
    flags: &Flags,
    arguments: &[OsString],
    before: Option<usize>,
    environment: &Environment,
) -> Result<Watch, Failure> {
    let (operands, command) = arguments.split_at(before.unwrap_or(arguments.len()).min(arguments.len()));
    if before.is_some() && command.is_empty() {
        return Err(Failure::arguments(NO_COMMAND));
    }
    let (key, range_end) = match (&environment.key, operands) {
        (Some(_), [_, ..]) => return Err(Failure::arguments(CONFLICT)),
        (Some(key), []) => (key, environment.range_end.as_ref()),
        (None, [key]) => (key, None),
        (None, [key, end]) => (key, Some(end)),
        (None, _) => return Err(Failure::arguments(BAD_NUMBER)),
    };
    let (key, range_end) = match range_end {
        Some(_) if flags.is_on("prefix") => return Err(Failure::arguments(EXCLUSIVE)),
        Some(end) => (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(end.as_bytes())),
        None if flags.is_on("prefix") => range::of_prefix(key.as_bytes()),
        None => (Bytes::copy_from_slice(key.as_bytes()), Bytes::new()),
    };
    Ok(Watch {
        request: WatchCreateRequest {
            key,
            range_end,
            start_revision: flags.number("rev"),
            progress_notify: flags.is_on("progress-notify"),
            prev_kv: flags.is_on("prev-kv"),
            ..WatchCreateRequest::default()
        },
        command: command.to_vec(),
    })
}

/// A line of an interactive watch.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    /// Create a watch.
    Watch(Box<Watch>),
    /// Ask up to which revision all events have been sent.
    Progress,
    /// Not valid: what to say.
    Invalid(String),
}

/// Reads a line of an interactive watch.
///
/// # Errors
/// For arguments that end the command, as in the original.
pub(super) fn line(text: &str, environment: &Environment) -> Result<Request, Failure> {
    let words = txn_grammar::words_of(text)?;
    let Some(first) = words.first() else {
        return Ok(Request::Invalid(format!("Invalid command: {text} (watch and progress supported)")));
    };
    match first.to_str() {
        Some("watch") if words.len() < 2 && environment.key.is_none() => {
            Ok(Request::Invalid(format!("Invalid command {text} (command type or key is not provided)")))
        }
        Some("watch") => {
            let known: Vec<&'static Flag> = WATCH_FLAGS.iter().collect();
            let (flags, arguments, before, has_dashes) =
                words::read_flags(&words[1..], &known).map_err(Failure::arguments)?;
            let watch = watch(&flags, &arguments, has_dashes.then_some(before), environment);
            match watch {
                Ok(watch) => Ok(Request::Watch(Box::new(watch))),
                Err(failure) if failure.to_string() == EXCLUSIVE => {
                    Ok(Request::Invalid(format!("Invalid command {text} ({failure})")))
                }
                Err(failure) => Err(failure),
            }
        }
        Some("progress") => Ok(Request::Progress),
        _ => Ok(Request::Invalid(format!("Invalid command {text} (only support watch)"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, key: Option<&str>, range_end: Option<&str>) -> Result<Watch, Failure> {
        let environment = Environment { key: key.map(Into::into), range_end: range_end.map(Into::into) };
        let words: Vec<OsString> = text.split(' ').filter(|word| !word.is_empty()).map(Into::into).collect();
        let known: Vec<&'static Flag> = WATCH_FLAGS.iter().collect();
        let (flags, arguments, before, has_dashes) = words::read_flags(&words, &known).unwrap();
        watch(&flags, &arguments, has_dashes.then_some(before), &environment)
    }

    #[test]
    fn keys_stand_before_the_dashes_and_a_command_behind() {
        let watch = read("foo bar --rev=5 --prev-kv -- sh -c x", None, None).unwrap();
        assert_eq!((&watch.request.key[..], &watch.request.range_end[..]), (&b"foo"[..], &b"bar"[..]));
        assert_eq!((watch.request.start_revision, watch.request.prev_kv), (5, true));
        assert_eq!(watch.command, ["sh", "-c", "x"]);
        let watch = read("p --prefix", None, None).unwrap();
        assert_eq!((&watch.request.range_end[..], watch.command.len()), (&b"q"[..], 0));
    }

    #[test]
    fn the_environment_names_the_key() {
        let watch = read("-- echo", Some("k"), Some("l")).unwrap();
        assert_eq!((&watch.request.key[..], &watch.request.range_end[..]), (&b"k"[..], &b"l"[..]));
        assert_eq!(watch.command, ["echo"]);
        assert_eq!(read("x", Some("k"), None).unwrap_err().to_string(), CONFLICT);
    }

    #[test]
    fn wrong_numbers_of_arguments_are_refused() {
        for (text, reason) in [
            ("", BAD_NUMBER),
            ("-- echo", BAD_NUMBER),
            ("a b c", BAD_NUMBER),
            ("a --", NO_COMMAND),
            ("a b --prefix -- echo", EXCLUSIVE),
        ] {
            let failure = read(text, None, None).unwrap_err();
            assert_eq!((failure.status(), failure.to_string().as_str()), (128, reason), "{text}");
        }
    }

    #[test]
    fn lines_are_commands() {
        let read = |text: &str| line(text, &Environment::default()).unwrap();
        let Request::Watch(watch) = read("watch \"a b\" --rev=1 -- echo hi") else { panic!() };
        assert_eq!((&watch.request.key[..], watch.request.start_revision), (&b"a b"[..], 1));
        assert_eq!(watch.command, ["echo", "hi"]);
        assert_eq!(read("progress"), Request::Progress);
        for (text, reason) in [
            ("junk", "Invalid command junk (only support watch)"),
            ("watch", "Invalid command watch (command type or key is not provided)"),
            ("", "Invalid command:  (watch and progress supported)"),
        ] {
            assert_eq!(read(text), Request::Invalid(reason.to_owned()));
        }
    }
}
