//! The log levels, and the level of each package.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use tracing::Metadata;
use tracing::level_filters::LevelFilter;

/// The severity of a line, most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The process ends.
    Critical,
    /// Something failed.
    Error,
    /// Something is not as it should be.
    Warning,
    /// Normal but rare.
    Notice,
    /// Normal.
    Info,
    /// For debugging.
    Debug,
    /// Every step, for debugging.
    Trace,
}

impl Level {
    /// The level's letter in a line.
    pub fn letter(self) -> char {
        match self {
            Level::Critical => 'C',
            Level::Error => 'E',
            Level::Warning => 'W',
            Level::Notice => 'N',
            Level::Info => 'I',
            Level::Debug => 'D',
            Level::Trace => 'T',
        }
    }

    /// The level of a `tracing` event: a field marks CRITICAL and NOTICE.
    pub(super) fn of(event: &Metadata<'_>) -> Level {
        let marked = |name| event.fields().field(name).is_some();
        match *event.level() {
            tracing::Level::ERROR if marked("critical") => Level::Critical,
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            tracing::Level::INFO if marked("notice") => Level::Notice,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        }
    }

    /// The `tracing` filter that lets events of this level through.
    fn filter(self) -> LevelFilter {
        match self {
            Level::Critical | Level::Error => LevelFilter::ERROR,
            Level::Warning => LevelFilter::WARN,
            Level::Notice | Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
            Level::Trace => LevelFilter::TRACE,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Critical => "CRITICAL",
            Level::Error => "ERROR",
            Level::Warning => "WARNING",
            Level::Notice => "NOTICE",
            Level::Info => "INFO",
            Level::Debug => "DEBUG",
            Level::Trace => "TRACE",
        })
    }
}

impl FromStr for Level {
    type Err = LevelsError;

    /// A name in capitals, its first letter, or the number that the original gives to all but CRITICAL.
    fn from_str(text: &str) -> Result<Level, LevelsError> {
        Ok(match text {
            "CRITICAL" | "C" => Level::Critical,
            "ERROR" | "0" | "E" => Level::Error,
            "WARNING" | "1" | "W" => Level::Warning,
            "NOTICE" | "2" | "N" => Level::Notice,
            "INFO" | "3" | "I" => Level::Info,
            "DEBUG" | "4" | "D" => Level::Debug,
            "TRACE" | "5" | "T" => Level::Trace,
            _ => return Err(LevelsError::Level(text.to_owned())),
        })
    }
}

/// Why a list of levels is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelsError {
    /// No level has this name.
    #[error("couldn't parse log level {0}")]
    Level(String),
    /// An item of the list is not of the form `package=LEVEL`.
    #[error("oddly structured `pkg=level` option: {0}")]
    Item(String),
}

/// The level of every package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    default: Level,
    packages: BTreeMap<String, Level>,
}

impl Levels {
    /// One level for all.
    pub fn all(level: Level) -> Levels {
        Levels { default: level, packages: BTreeMap::new() }
    }

    /// Applies a list such as `etcdmain=CRITICAL,etcdserver=DEBUG`; `*` stands for all packages.
    pub fn with(mut self, list: &str) -> Result<Levels, LevelsError> {
        let mut packages = BTreeMap::new();
        for item in list.split(',') {
            match item.split('=').collect::<Vec<_>>()[..] {
                [package, level] => packages.insert(package.to_owned(), level.parse()?),
                _ => return Err(LevelsError::Item(item.to_owned())),
            };
        }
        if let Some(level) = packages.remove("*") {
            self = Levels::all(level);
        }
        self.packages.extend(packages);
        Ok(self)
    }

    /// The level of a package.
    pub fn of(&self, package: &str) -> Level {
        self.packages.get(package).copied().unwrap_or(self.default)
    }

    /// The `tracing` filter that lets the events of all packages' levels through.
    pub(super) fn widest(&self) -> LevelFilter {
        self.packages.values().fold(self.default, |a, b| a.max(*b)).filter()
    }
}
