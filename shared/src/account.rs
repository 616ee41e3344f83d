//! Names of users and roles.
//!
//! A name becomes a part of a path in the store and of a URL. So it is a type: its value is always a single part of a
//! path. Servers and clients use the same types.

use std::fmt;

use serde::{Serialize, Serializer};

/// The longest name, in bytes. It bounds a line of the log and an entry in the queue for password checks.
pub const NAME_BYTES_MAX: usize = 1024;

/// The user that must exist before authentication is switched on, and the role that allows everything.
const ROOT: &str = "root";

/// The role of requests that name no user.
const GUEST: &str = "guest";

/// Why a text is not the name of a user or of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has no characters.
    #[error("a name cannot be empty")]
    Empty,
    /// It is `.` or `..`, which lead to other paths.
    #[error("a name cannot be . or ..")]
    Dots,
    /// It would be several parts of a path.
    #[error("a name cannot contain /")]
    Slash,
    /// Neither a header nor a line of a log may contain it.
    #[error("a name cannot contain control characters")]
    Control,
    /// It has more than [`NAME_BYTES_MAX`] bytes.
    #[error("a name cannot have more than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// Records are JSON, and JSON is UTF-8.
    #[error("a name must be UTF-8")]
    NotUtf8,
    /// It starts with `_`. Only for new names: nodes of such names are hidden in listings of the store.
    #[error("a new name cannot start with _")]
    Hidden,
    /// It starts or ends with white space. Only for new names.
    #[error("a new name cannot start or end with white space")]
    Blank,
    /// It contains `:`, which ends the name in a request. Only for new users.
    #[error("the name of a new user cannot contain :")]
    Colon,
}

fn check(text: &str) -> Result<(), NameError> {
    match text {
        "" => Err(NameError::Empty),
        "." | ".." => Err(NameError::Dots),
        _ if text.len() > NAME_BYTES_MAX => Err(NameError::TooLong),
        _ if text.contains('/') => Err(NameError::Slash),
        _ if text.contains(char::is_control) => Err(NameError::Control),
        _ => Ok(()),
    }
}

fn check_new(text: &str) -> Result<(), NameError> {
    if text.starts_with('_') {
        return Err(NameError::Hidden);
    }
    if text.trim() == text { Ok(()) } else { Err(NameError::Blank) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The name in a text.
            ///
            /// # Errors
            /// When the text is not a name.
            pub fn new(text: &str) -> Result<$name, NameError> {
                check(text).map(|()| $name(text.into()))
            }

            /// The name in bytes of a request or of a path.
            ///
            /// # Errors
            /// As [`new`](Self::new), and when they are not UTF-8.
            pub fn from_bytes(bytes: &[u8]) -> Result<$name, NameError> {
                $name::new(std::str::from_utf8(bytes).map_err(|_| NameError::NotUtf8)?)
            }

            /// `root`.
            #[must_use]
            pub fn root() -> $name {
                $name(ROOT.into())
            }

            /// Whether it is `root`.
            #[must_use]
            pub fn is_root(&self) -> bool {
                &*self.0 == ROOT
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a user: UTF-8 without `/` and control characters, of 1 to [`NAME_BYTES_MAX`] bytes, and neither
    /// `.` nor `..`.
    UserName
}

name! {
    /// The name of a role, of the same form as that of a [user](UserName).
    RoleName
}

impl UserName {
    /// Whether a user may be made under this name. Users that exist keep theirs.
    ///
    /// # Errors
    /// [`NameError::Hidden`], [`NameError::Blank`] or [`NameError::Colon`].
    pub fn check_new(&self) -> Result<(), NameError> {
        check_new(&self.0)?;
        if self.0.contains(':') { Err(NameError::Colon) } else { Ok(()) }
    }
}

impl RoleName {
    /// `guest`: the role of requests that name no user.
    #[must_use]
    pub fn guest() -> RoleName {
        RoleName(GUEST.into())
    }

    /// Whether a role may be made under this name. Roles that exist keep theirs.
    ///
    /// # Errors
    /// [`NameError::Hidden`] or [`NameError::Blank`].
    pub fn check_new(&self) -> Result<(), NameError> {
        check_new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_use_are_names() {
        let longest = "x".repeat(NAME_BYTES_MAX);
        for text in [
            "root",
            "a.b",
            "...",
            ".a",
            "..a",
            "ann@example.com",
            "Ann Smith",
            "é",
            "用户",
            "a%2fb",
            "%2e%2e",
            "a\\b",
            "_x",
            " x",
            "a:b",
            "~",
            "*",
            &longest,
        ] {
            assert_eq!(UserName::new(text).as_ref().map(UserName::as_str), Ok(text));
            assert_eq!(RoleName::from_bytes(text.as_bytes()).as_ref().map(RoleName::as_str), Ok(text));
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_not_a_name() {
        let too_long = "é".repeat(NAME_BYTES_MAX / 2 + 1);
        for (text, why) in [
            ("", NameError::Empty),
            (".", NameError::Dots),
            ("..", NameError::Dots),
            ("/", NameError::Slash),
            ("../../1/pub/evil", NameError::Slash),
            ("a/", NameError::Slash),
            ("/a", NameError::Slash),
            ("a\0", NameError::Control),
            ("a\nb", NameError::Control),
            ("\u{7f}", NameError::Control),
            ("\u{85}", NameError::Control),
            (&too_long, NameError::TooLong),
        ] {
            assert_eq!(UserName::new(text), Err(why), "{text:?}");
            assert_eq!(RoleName::new(text), Err(why), "{text:?}");
        }
        assert_eq!(UserName::from_bytes(b"\xff"), Err(NameError::NotUtf8));
    }

    #[test]
    fn new_names_are_seen_and_can_log_in() {
        let user = |text| UserName::new(text).and_then(|name| name.check_new());
        let role = |text| RoleName::new(text).and_then(|name| name.check_new());
        for (text, why) in [
            ("_x", Err(NameError::Hidden)),
            ("x ", Err(NameError::Blank)),
            ("\u{a0}x", Err(NameError::Blank)),
            ("x y_", Ok(())),
        ] {
            assert_eq!((user(text), role(text)), (why, why), "{text:?}");
        }
        assert_eq!((user("a:b"), role("a:b")), (Err(NameError::Colon), Ok(())));
        assert!(UserName::root().is_root() && !RoleName::guest().is_root());
    }
}
