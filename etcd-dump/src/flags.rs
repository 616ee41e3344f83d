//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use shared::flags::{Flag, FlagError, FlagSet, Group};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// To be shown the help.
    Help(String),
    /// To be shown a directory.
    Dump(What),
}

/// Which directory, and from where on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct What {
    pub(crate) data_dir: PathBuf,
    pub(crate) from: From,
}

/// Where the log begins to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// After the newest snapshot that is good, or at its beginning if there is none.
    NewestSnapshot,
    /// After the snapshot in the file of this name.
    Snapshot(String),
    /// After the entry of this index.
    Index(u64),
}

/// A command line that cannot be carried out.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error("which directory? Give the data directory of a member")]
    NoDirectory,
    #[error("one directory only: {0:?} is one too many")]
    TooMany(String),
    #[error("-start-snap and -index exclude each other")]
    SnapshotAndIndex,
}

const FLAGS: FlagSet = FlagSet {
    program: "etcd-dump",
    about: "Shows what is in an etcd data directory",
    operands: "[DIR]",
    groups: &[
        Group {
            title: "flags",
            remark: "",
            hidden: false,
            flags: &[
                Flag::text("data-dir", "", "The data directory of a member, the same as DIR."),
                Flag::text(
                    "start-snap",
                    "",
                    "Begin after the snapshot in this file (a name in member/snap) instead of the newest good one.",
                ),
                Flag::number(
                    "index",
                    "0",
                    "Begin after the entry of this index and leave the snapshots alone.",
                ),
            ],
        },
        Group {
            title: "other spellings",
            remark: "",
            hidden: true,
            flags: &[Flag::number("start-index", "0", "The name that -index has in etcd-dump-logs.")],
        },
    ],
};

const INTRODUCTION: &str = "\
etcd-dump shows what is in the data directory of an etcd 2.x member.

usage: etcd-dump [flags] DIR

It prints the newest snapshot (term, index, members), the head of the write-ahead log (ids, term, commit
index, vote) and a line for each log entry after the snapshot:

  term       index  type  data
     2          12  norm  method=PUT path=\"/1/message\" val=\"Hello world\"

  norm  a request to the store; clients' keys stand below /1, members below /0, users below /2.
        Nothing after it: the first entry of a new leader.
  conf  a change of the members

Texts are quoted as in Go, long ones cut short. Times are in UTC.

Nothing is changed, locked or repaired, so the member may be running.

examples:
  etcd-dump default.etcd                 the newest snapshot and the log after it
  etcd-dump -index 100 default.etcd      all entries after the 100th
  etcd-dump default.etcd | grep SYNC     when the clock moved in the log

exit status:
  0  all was shown
  1  something is missing or damaged, which stderr names; what could be read was shown
  2  the command line makes no sense
";

/// Reads the command line, without the program's name. The directory may stand before, between or after flags.
pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Request, UsageError> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let mut dirs: Vec<String> = Vec::new();
    let values = loop {
        let values = match FLAGS.parse(words.iter().cloned()) {
            Err(FlagError::Help) => return Ok(Request::Help(format!("{INTRODUCTION}{}", FLAGS.help()))),
            result => result?,
        };
        // Go's rules end the flags at the first other word: take it out and go on behind it.
        match values.rest() {
            [] => break values,
            [dir, ..] => {
                dirs.push(dir.clone());
                let at = words.len() - values.rest().len();
                words.remove(at);
            }
        }
    };
    if values.is_set("data-dir") {
        dirs.insert(0, values.text("data-dir").to_owned());
    }
    dirs.retain(|dir| !dir.is_empty());
    let data_dir = match dirs.as_slice() {
        [] => return Err(UsageError::NoDirectory),
        [dir] => PathBuf::from(dir),
        [_, other, ..] => return Err(UsageError::TooMany(other.clone())),
    };
    let index = values.number("index").max(values.number("start-index"));
    let from = match (values.text("start-snap"), index) {
        ("", 0) => From::NewestSnapshot,
        ("", index) => From::Index(index),
        (name, 0) => From::Snapshot(name.to_owned()),
        _ => return Err(UsageError::SnapshotAndIndex),
    };
    Ok(Request::Dump(What { data_dir, from }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Request, UsageError> {
        read(words.iter().map(OsString::from))
    }

    fn dump(from: From) -> Result<Request, UsageError> {
        Ok(Request::Dump(What { data_dir: PathBuf::from("d"), from }))
    }

    #[test]
    fn the_directory_may_stand_anywhere() {
        for words in [&["d"][..], &["-data-dir", "d"], &["--data-dir=d"], &["--", "d"]] {
            assert_eq!(parse(words), dump(From::NewestSnapshot), "{words:?}");
        }
        for words in [
            &["-index", "7", "d"][..],
            &["d", "-index=7"],
            &["--start-index", "7", "-data-dir", "d"],
            &["-index", "3", "d", "--index", "7"],
        ] {
            assert_eq!(parse(words), dump(From::Index(7)), "{words:?}");
        }
        assert_eq!(parse(&["d", "-start-snap", "x.snap"]), dump(From::Snapshot("x.snap".into())));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(parse(&[]), Err(UsageError::NoDirectory));
        assert_eq!(parse(&["-data-dir="]), Err(UsageError::NoDirectory));
        assert_eq!(parse(&["a", "b"]), Err(UsageError::TooMany("b".into())));
        assert_eq!(parse(&["-data-dir", "a", "b"]), Err(UsageError::TooMany("b".into())));
        assert_eq!(parse(&["-index", "1", "-start-snap", "x", "d"]), Err(UsageError::SnapshotAndIndex));
        assert!(matches!(parse(&["-index", "x", "d"]), Err(UsageError::Flag(_))));
        assert!(matches!(parse(&["-nope", "d"]), Err(UsageError::Flag(_))));
    }

    #[test]
    fn help_is_found_everywhere_and_names_every_flag() {
        for words in [&["--help"][..], &["-h"], &["d", "-help"]] {
            let Ok(Request::Help(text)) = parse(words) else { panic!("{words:?}") };
            for flag in ["data-dir", "start-snap", "index"] {
                assert!(text.contains(&format!("--{flag}")), "{flag}");
            }
        }
    }
}
