//! The command line of `etcd-dump DIR`.

use std::path::PathBuf;

use shared::flags::{Flag, FlagSet, Group, Kind};

use crate::command_line::{Command, CommandLine, UsageError};

/// The options of `etcd-dump DIR`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DumpOptions {
    pub(crate) data_dir: PathBuf,
    /// The folder of the log, if it is not in the data directory.
    pub(crate) wal_dir: Option<PathBuf>,
    /// Whether to read the files of 0.x even if there are files of 2.x.
    pub(crate) old: bool,
    pub(crate) from: LogStart,
    /// The last index that is shown.
    pub(crate) to: u64,
    pub(crate) view: View,
    pub(crate) format: Format,
    pub(crate) lengths: Lengths,
}

/// The first entry that is shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LogStart {
    /// From the beginning of the log.
    Beginning,
    /// After the newest good snapshot, or from the beginning if there is none.
    NewestSnapshot,
    /// After the snapshot in the file of this name.
    Snapshot(String),
    /// After the entry of this index.
    Index(u64),
}

/// What to show of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum View {
    /// The entries of the log.
    Log,
    /// The store after the committed entries.
    Store,
    /// The result of checking the files.
    Verify,
    /// The buckets and pages of a bolt file, which stands in place of the directory.
    Bolt,
}

impl View {
    /// The flag that asks for it.
    fn flag(self) -> &'static str {
        match self {
            View::Log => "index",
            View::Store => "store",
            View::Verify => "verify",
            View::Bolt => "bolt",
        }
    }
}

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// The format of etcd-dump-logs 2.3.8.
    Text,
    /// A line for each item, `name=value`, with all its fields.
    Full,
    /// The same as JSON lines.
    Json,
}

/// How much of a long value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lengths {
    /// Its beginning.
    Cut,
    /// All of it.
    Whole,
}

pub(crate) const COMMAND: Command = Command {
    flags: FlagSet {
        program: "etcd-dump",
        about: "Shows what is in an etcd data directory",
        operands: "[DIR]",
        introduction: INTRODUCTION,
        environment: "",
        groups: &[
            Group {
                title: "which entries",
                remark: "",
                hidden: false,
                flags: &[
                    Flag::number("from", "0", "Begin with the entry of this index."),
                    Flag::number("to", "0", "End with the entry of this index. 0: with the last one."),
                    Flag::switch(
                        "after-snapshot",
                        "Begin after the newest good snapshot. The text form does so by itself; the others begin \
                         where the log does.",
                    ),
                    Flag::text(
                        "start-snap",
                        "",
                        "Begin after the snapshot in this file (a name in member/snap).",
                    ),
                    Flag::number(
                        "index",
                        "0",
                        "Begin after the entry of this index and leave the snapshots alone.",
                    ),
                ],
            },
            Group {
                title: "what is shown of them, and how",
                remark: "",
                hidden: false,
                flags: &[
                    Flag::new(
                        "format",
                        Kind::Choice(&["text", "full", "json"]),
                        "text",
                        "text: the lines of etcd-dump-logs. full: a line for each entry with all its fields. json: \
                         the same as JSON lines.",
                    ),
                    Flag::new(
                        "values",
                        Kind::Choice(&["cut", "whole"]),
                        "",
                        "cut: the first 128 bytes of each value. whole: all of it. Without this flag json is whole, \
                         the other forms are cut.",
                    ),
                    Flag::switch(
                        "store",
                        "Show the tree of keys and the members that the newest good snapshot and the committed \
                         entries after it make. With -to: as they were at that entry.",
                    ),
                    Flag::switch(
                        "verify",
                        "Check all files instead: sums, order, what must fit together. Say what was checked and \
                         each flaw with its place. Status 0 if all is good, 1 if not.",
                    ),
                ],
            },
            Group {
                title: "the database of 3.x",
                remark: "",
                hidden: false,
                flags: &[Flag::text(
                    "bolt",
                    "",
                    "Check this bolt file (member/snap/db, or a copy) instead of a directory: its buckets with their \
                     keys and bytes, its pages by kind, and each flaw with its page. Status 0 if all is good, 1 if \
                     not. A member that runs changes the file meanwhile: check a copy.",
                )],
            },
            Group {
                title: "other flags",
                remark: "",
                hidden: false,
                flags: &[
                    Flag::switch(
                        "old",
                        "Show the files of 0.x, which a migration leaves beside those of 2.x.",
                    ),
                    Flag::text("wal-dir", "", "Where the log is, if it is not in DIR/member/wal."),
                    Flag::text("data-dir", "", "The data directory of a member, the same as DIR."),
                ],
            },
            Group {
                title: "other spellings",
                remark: "",
                hidden: true,
                flags: &[Flag::number("start-index", "0", "The name that -index has in etcd-dump-logs.")],
            },
        ],
    },
    run: crate::dump::run,
};

const INTRODUCTION: &str = "\
etcd-dump shows what is in the data directory of an etcd member, of 2.x, of 0.x, or (its v2
part) of 3.x, healthy or damaged.

usage: etcd-dump [flags] DIR                    the log: this help
       etcd-dump export DIR | --endpoint URL    all keys as JSON lines, for etcdctl import
       etcd-dump doctor DIR                     is there v2 data in a directory of 3.x?
       etcd-dump salvage DIR OUT                a directory that starts, out of a damaged one

Each of them has a --help of its own. A directory of such a name is written ./export.

It prints the newest snapshot (term, index, members), the head of the write-ahead log (ids, term, commit
index, vote) and a line for each log entry after the snapshot:

  term       index  type  data
     2          12  norm  method=PUT path=\"/1/message\" val=\"Hello world\"

  norm  a request to the store; clients' keys stand below /1, members below /0, users below /2.
        Nothing after it: the first entry of a new leader.
  conf  a change of the members

Texts are quoted as in Go, long ones cut short. Times are in UTC. That is the form that scripts know;
--format full shows every field of every entry, and --format json is for programs.

Nothing is changed, locked or repaired, so the member may be running.

examples:
  etcd-dump default.etcd                             the newest snapshot and the log after it
  etcd-dump --format full default.etcd               all entries that are still there, in full
  etcd-dump --format full --from 100 --to 120 default.etcd
  etcd-dump --format json default.etcd | jq 'select(.path == \"/1/a\")'
                                                     the life of a key
  etcd-dump --store default.etcd                     all keys and members as they are now
  etcd-dump --store --to 100 default.etcd            and as they were at entry 100
  etcd-dump --verify default.etcd && echo good       before a backup is trusted
  etcd-dump --bolt default.etcd/member/snap/db       buckets and pages of the database of 3.x

exit status:
  0  all was shown
  1  something is missing or damaged, which stderr names; what could be read was shown
  2  the command line makes no sense
";

impl DumpOptions {
    /// Converts a command line to options.
    pub(crate) fn new(line: &CommandLine) -> Result<DumpOptions, UsageError> {
        let values = &line.values;
        let data_dir = match values.text("bolt") {
            "" => line.data_dir()?,
            file => match line.operands.first() {
                None => PathBuf::from(file),
                Some(word) => return Err(UsageError::TooMany(word.clone())),
            },
        };
        exclude(line, &["from", "index", "start-index", "start-snap", "after-snapshot"])?;
        exclude(line, &["store", "verify", "bolt"])?;
        let view = match (values.switch("store"), values.switch("verify"), is_given(line, "bolt")) {
            (true, ..) => View::Store,
            (_, true, _) => View::Verify,
            (.., true) => View::Bolt,
            _ => View::Log,
        };
        let format = match values.text("format") {
            "full" => Format::Full,
            "json" => Format::Json,
            _ => Format::Text,
        };
        let lengths = match values.text("values") {
            "whole" => Lengths::Whole,
            "" if format == Format::Json => Lengths::Whole,
            _ => Lengths::Cut,
        };
        let index = values.number("index").max(values.number("start-index"));
        let from = match values.text("start-snap") {
            "" if index > 0 => LogStart::Index(index),
            "" if values.is_set("from") => LogStart::Index(values.number("from").saturating_sub(1)),
            "" if format == Format::Text || values.switch("after-snapshot") => LogStart::NewestSnapshot,
            "" => LogStart::Beginning,
            name => LogStart::Snapshot(name.to_owned()),
        };
        let to = match values.number("to") {
            0 => u64::MAX,
            to => to,
        };
        if view != View::Log {
            // The store needs all entries, and a check reads all of them.
            let name = view.flag();
            let starts = ["from", "index", "start-index", "start-snap", "after-snapshot"];
            if let Some(start) = starts.into_iter().find(|start| is_given(line, start)) {
                return Err(UsageError::Both(name, start));
            }
        }
        let others: &[_] = match view {
            View::Verify => &["to", "values"],
            View::Bolt => &["to", "values", "old", "wal-dir", "data-dir"],
            View::Log | View::Store => &[],
        };
        if let Some(other) = others.iter().find(|flag| is_given(line, flag)) {
            return Err(UsageError::Both(view.flag(), other));
        }
        let old = values.switch("old");
        let wal_dir = Some(values.text("wal-dir")).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Ok(DumpOptions { data_dir, wal_dir, old, from, to, view, format, lengths })
    }
}

/// Whether a flag is set to a value other than an empty, false or zero one.
fn is_given(line: &CommandLine, flag: &str) -> bool {
    let values = &line.values;
    values.is_set(flag)
        && match COMMAND.flags.find(flag).map(|flag| flag.kind) {
            Some(Kind::Bool) => values.switch(flag),
            Some(Kind::Number) => values.number(flag) > 0,
            _ => !values.text(flag).is_empty(),
        }
}

/// Refuses two of these flags together, except two names of the same flag.
fn exclude(line: &CommandLine, flags: &[&'static str]) -> Result<(), UsageError> {
    let is_repeated = |flag: &str| flag == "start-index" && is_given(line, "index");
    let mut given = flags.iter().filter(|flag| is_given(line, flag) && !is_repeated(flag));
    match (given.next(), given.next()) {
        (Some(first), Some(second)) => Err(UsageError::Both(first, second)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use shared::flags::FlagError;

    use super::*;

    fn parse(words: &[&str]) -> Result<DumpOptions, UsageError> {
        COMMAND.read(words.iter().map(OsString::from)).and_then(|line| DumpOptions::new(&line))
    }

    fn text(from: LogStart) -> Result<DumpOptions, UsageError> {
        Ok(DumpOptions {
            data_dir: PathBuf::from("d"),
            wal_dir: None,
            old: false,
            from,
            to: u64::MAX,
            view: View::Log,
            format: Format::Text,
            lengths: Lengths::Cut,
        })
    }

    #[test]
    fn the_directory_may_stand_anywhere() {
        for words in [&["d"][..], &["-data-dir", "d"], &["--data-dir=d"], &["--", "d"]] {
            assert_eq!(parse(words), text(LogStart::NewestSnapshot), "{words:?}");
        }
        for words in [
            &["-index", "7", "d"][..],
            &["d", "-index=7"],
            &["--start-index", "7", "-data-dir", "d"],
            &["-index", "3", "d", "--index", "7"],
            &["--from", "8", "d"],
        ] {
            assert_eq!(parse(words), text(LogStart::Index(7)), "{words:?}");
        }
        assert_eq!(parse(&["d", "-start-snap", "x.snap"]), text(LogStart::Snapshot("x.snap".into())));
    }

    #[test]
    fn the_form_decides_what_is_shown_if_nothing_else_does() {
        let shown = |words: &[&str]| parse(words).map(|what| (what.from, what.lengths)).unwrap();
        assert_eq!(shown(&["d"]), (LogStart::NewestSnapshot, Lengths::Cut));
        assert_eq!(shown(&["--format=full", "d"]), (LogStart::Beginning, Lengths::Cut));
        assert_eq!(shown(&["--format=json", "d"]), (LogStart::Beginning, Lengths::Whole));
        assert_eq!(
            shown(&["--format=json", "--after-snapshot", "--values=cut", "d"]),
            (LogStart::NewestSnapshot, Lengths::Cut)
        );
        assert_eq!(shown(&["--from", "0", "d"]).0, LogStart::Index(0));
        assert_eq!(parse(&["--to", "9", "d"]).unwrap().to, 9);
        assert_eq!(parse(&["--store", "d"]).unwrap().view, View::Store);
        assert_eq!(parse(&["--verify", "d"]).unwrap().view, View::Verify);
        let bolt = parse(&["--bolt", "db"]).unwrap();
        assert_eq!((bolt.view, bolt.data_dir), (View::Bolt, PathBuf::from("db")));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(parse(&[]), Err(UsageError::NoDirectory));
        assert_eq!(parse(&["-data-dir="]), Err(UsageError::NoDirectory));
        assert_eq!(parse(&["--bolt", "db", "d"]), Err(UsageError::TooMany("d".into())));
        assert_eq!(parse(&["a", "b"]), Err(UsageError::TooMany("b".into())));
        assert_eq!(parse(&["-data-dir", "a", "b"]), Err(UsageError::TooMany("b".into())));
        for (words, first, second) in [
            (&["-index", "1", "-start-snap", "x", "d"][..], "index", "start-snap"),
            (&["--from", "1", "--after-snapshot", "d"], "from", "after-snapshot"),
            (&["--store", "--verify", "d"], "store", "verify"),
            (&["--store", "--from", "2", "d"], "store", "from"),
            (&["--verify", "--to", "2", "d"], "verify", "to"),
            (&["--verify", "--bolt", "db"], "verify", "bolt"),
            (&["--bolt", "db", "--from", "2"], "bolt", "from"),
            (&["--bolt", "db", "-data-dir", "d"], "bolt", "data-dir"),
        ] {
            assert_eq!(parse(words), Err(UsageError::Both(first, second)), "{words:?}");
        }
        for words in [&["-index", "x", "d"][..], &["-nope", "d"], &["--format", "xml", "d"]] {
            assert!(matches!(parse(words), Err(UsageError::Flag(_))), "{words:?}");
        }
    }

    #[test]
    fn help_is_found_everywhere_and_names_every_flag() {
        for words in [&["--help"][..], &["-h"], &["d", "-help"]] {
            assert_eq!(parse(words), Err(UsageError::Flag(FlagError::Help)), "{words:?}");
        }
        let help = COMMAND.flags.help();
        for flag in COMMAND.flags.flags().filter(|flag| flag.name != "start-index") {
            assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
        }
    }
}
