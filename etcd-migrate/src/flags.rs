//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use etcd_migrate::Options;
use shared::flags::{Flag, FlagError, FlagSet, Group, Values, document};

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Invocation {
    /// Print a text, such as the help.
    Text(String),
    /// Migrate a directory.
    Migrate(PathBuf, Options),
}

/// A command line that is not valid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UsageError {
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error("which directory? Give the data directory of the old member")]
    NoDirectory,
    #[error("one directory only: {0:?} is one too many")]
    TooMany(String),
    #[error("--original and --salvage exclude each other: etcd-migrate 2.0.13 takes no damaged directory")]
    OriginalAndSalvage,
}

const FLAGS: FlagSet = FlagSet {
    program: "etcd-migrate",
    about: "Makes the data directory of an etcd 0.x member that of a 2.x member",
    operands: "[DIR]",
    introduction: INTRODUCTION,
    environment: "",
    groups: &[Group {
        title: "flags",
        remark: "",
        hidden: false,
        flags: &[
            Flag::text("data-dir", "", "The data directory of the old member, the same as DIR."),
            Flag::text(
                "name",
                "",
                "The member's name. Without it, the name is derived from the directory if possible; if it is not, the \
                 error lists the names in the log.",
            ),
            Flag::switch(
                "dry-run",
                "Read and convert everything, print what would be done, and write nothing.",
            ),
            Flag::switch(
                "salvage",
                "Take all that can be read of a damaged directory, and list what is lost: file, bytes, entries.",
            ),
            Flag::switch(
                "original",
                "Convert byte for byte as etcd-migrate 2.0.13 did, which loses keys made by create and TTLs, and \
                 moves the indexes. For clusters of which it converted some members already.",
            ),
            Flag::switch("version", "Print the version and exit."),
        ],
    }],
};

const INTRODUCTION: &str = "\
etcd-migrate makes the data directory of an etcd 0.1, 0.2 or 0.4 member that of a 2.x member.

usage: etcd-migrate [flags] DIR

It replays the old log as the old server did and writes DIR/member, with every key, index, TTL and
member in it. The old files stay as they are: to go back, remove DIR/member and start the old server.
A directory that has DIR/member is left alone, so a second call does no harm. If it is interrupted,
call it again.

Stop the old server first. The members of a cluster are migrated one by one, each on its machine,
and started when all are done; they recognise each other by the peer URLs in the log.

Exit status: 0 when DIR is migrated (or was already), 1 when it cannot be, 2 for a wrong command line.

examples:
  etcd-migrate --dry-run /var/lib/etcd         what would be done
  etcd-migrate /var/lib/etcd                   do it
  etcd-migrate --data-dir=/var/lib/etcd --name=node3
  etcd-migrate --salvage /var/lib/etcd         a damaged directory
";

/// Reads the words after the program's name. Flags may stand before and after DIR.
pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let words: Vec<OsString> = words.into_iter().collect();
    if let Some(text) = document(&words, &[&FLAGS]) {
        return Ok(Invocation::Text(text?));
    }
    let values = match parse(words) {
        Err(FlagError::Help) => return Ok(Invocation::Text(FLAGS.help())),
        values => values?,
    };
    if values.switch("version") {
        return Ok(Invocation::Text(format!("etcd-migrate Version: {}\n", env!("CARGO_PKG_VERSION"))));
    }
    let flag = Some(values.text("data-dir")).filter(|dir| !dir.is_empty());
    let mut dirs = flag.into_iter().chain(values.rest().iter().map(String::as_str));
    let dir = dirs.next().ok_or(UsageError::NoDirectory)?;
    if let Some(more) = dirs.next() {
        return Err(UsageError::TooMany(more.to_owned()));
    }
    let options = Options {
        name: Some(values.text("name")).filter(|name| !name.is_empty()).map(str::to_owned),
        original: values.switch("original"),
        salvage: values.switch("salvage"),
        dry_run: values.switch("dry-run"),
    };
    if options.original && options.salvage {
        return Err(UsageError::OriginalAndSalvage);
    }
    Ok(Invocation::Migrate(PathBuf::from(dir), options))
}

/// What was probably meant, where a flag is not known.
pub(crate) fn hint(error: &UsageError) -> Option<String> {
    match error {
        UsageError::Flag(error) => FLAGS.hint(error),
        _ => None,
    }
}

/// Flag parsing stops at the first operand, so each operand is moved behind the flags after it.
fn parse(mut words: Vec<OsString>) -> Result<Values, FlagError> {
    for _ in 0..words.len() {
        let values = FLAGS.parse(words.iter().cloned())?;
        let rest = values.rest();
        if !rest.get(1).is_some_and(|next| next.starts_with('-')) {
            return Ok(values);
        }
        let first = words.len() - rest.len();
        words[first..].rotate_left(1);
    }
    FLAGS.parse(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: &[&str]) -> Result<Invocation, UsageError> {
        read(words.iter().map(OsString::from))
    }

    fn options(words: &[&str]) -> Options {
        match request(words) {
            Ok(Invocation::Migrate(dir, options)) if dir.as_os_str() == "/d" => options,
            other => panic!("{words:?}: {other:?}"),
        }
    }

    #[test]
    fn one_dash_two_dashes_and_a_bare_directory() {
        assert_eq!(options(&["-data-dir", "/d", "-name", ""]), Options::default());
        assert_eq!(options(&["--data-dir=/d", "--name=a"]).name.as_deref(), Some("a"));
        assert!(options(&["--dry-run", "/d"]).dry_run);
        let after = options(&["/d", "--salvage", "-name", "x", "--dry-run"]);
        assert!(after.salvage && after.dry_run && after.name.as_deref() == Some("x"));
        assert!(options(&["-original", "--", "/d"]).original);
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        assert_eq!(request(&[]), Err(UsageError::NoDirectory));
        assert_eq!(request(&["/d", "/e"]), Err(UsageError::TooMany("/e".to_owned())));
        assert_eq!(request(&["--data-dir=/d", "/e"]), Err(UsageError::TooMany("/e".to_owned())));
        assert!(matches!(request(&["--force", "/d"]), Err(UsageError::Flag(_))));
        assert_eq!(request(&["--original", "--salvage", "/d"]), Err(UsageError::OriginalAndSalvage));
    }

    #[test]
    fn the_help_teaches() {
        let Ok(Invocation::Text(help)) = request(&["--help"]) else { panic!() };
        for part in ["--salvage", "--dry-run", "examples:", "DIR/member", "one by one"] {
            assert!(help.contains(part), "{part}");
        }
    }
}
