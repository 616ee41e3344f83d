//! The one error type of these tests: a sentence about what is wrong.

use std::fmt;

/// What a check found wrong, as text for the reader of the test's output.
#[derive(Clone)]
pub struct Failure(String);

/// The result of anything that may find a fault.
pub type Check<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Failure(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// What `main` and tests print when they return a failure: sentences, not a quoted string.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure(error.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Failure(error.to_string())
    }
}

impl From<regex::Error> for Failure {
    fn from(error: regex::Error) -> Self {
        Failure(error.to_string())
    }
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Failure(error.to_string())
    }
}

impl From<rustls::Error> for Failure {
    fn from(error: rustls::Error) -> Self {
        Failure(error.to_string())
    }
}

/// Adds what was being done in front of an error.
pub trait Context<T> {
    /// `doing: the error`.
    ///
    /// # Errors
    /// The error it was called on.
    fn context(self, doing: impl fmt::Display) -> Check<T>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, doing: impl fmt::Display) -> Check<T> {
        self.map_err(|error| Failure(format!("{doing}: {error}")))
    }
}

impl<T> Context<T> for Option<T> {
    fn context(self, doing: impl fmt::Display) -> Check<T> {
        self.ok_or_else(|| Failure(doing.to_string()))
    }
}

/// Leaves the function with a [`Failure`] made like `format!`.
#[macro_export]
macro_rules! fail {
    ($($text:tt)*) => { return Err($crate::Failure::new(format!($($text)*))) };
}
