//! Parses the `Authorization` header as Go does.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use shared::account::UserName;

/// Like Go's decoder: requires padding, and ignores extra bits in the last character.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

const SCHEME: &[u8] = b"Basic ";

/// A log line shows at most this many characters of an invalid name.
const SHOWN_CHARS_MAX: usize = 64;

/// The user name and the password of a request. The password is never logged.
#[derive(PartialEq, Eq)]
pub(super) struct Credentials {
    /// The name, or the raw text if it is not a valid name: then no user has it.
    pub(super) user: Result<UserName, String>,
    pub(super) password: Vec<u8>,
}

impl Credentials {
    /// The name, for a log line.
    pub(super) fn shown_user(&self) -> Cow<'_, str> {
        match &self.user {
            Ok(name) => Cow::Borrowed(name.as_str()),
            Err(text) => Cow::Owned(format!("{:?}", text.chars().take(SHOWN_CHARS_MAX).collect::<String>())),
        }
    }
}

/// The user and the password in a header value; `None` for another scheme or a malformed value.
pub(super) fn parse(value: &[u8]) -> Option<Credentials> {
    let (scheme, encoded) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let pair = BASE64.decode(encoded).ok()?;
    let colon = memchr::memchr(b':', &pair)?;
    let name = &pair[..colon];
    let user = UserName::from_bytes(name).map_err(|_| String::from_utf8_lossy(name).into_owned());
    Some(Credentials { user, password: pair[colon + 1..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(value: &str) -> Option<(String, Vec<u8>)> {
        let Credentials { user, password } = parse(value.as_bytes())?;
        Some((user.map_or_else(|text| text, |name| name.to_string()), password))
    }

    #[test]
    fn reads_what_go_reads() {
        let wanted = |user: &str, password: &str| Some((user.to_owned(), password.as_bytes().to_vec()));
        assert_eq!(pair("Basic cm9vdDpyb290cHc="), wanted("root", "rootpw"));
        assert_eq!(pair("bAsIc cm9vdDpyb290cHc="), wanted("root", "rootpw"));
        assert_eq!(pair("Basic YTpiOmM="), wanted("a", "b:c"), "the first colon counts");
        assert_eq!(pair("Basic Og=="), wanted("", ""));
        assert_eq!(pair("Basic YTo="), wanted("a", ""));
        assert_eq!(pair("Basic YTp="), wanted("a", ""), "bits that mean nothing");
        assert_eq!(pair("Basic YWI="), None, "no colon");
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Basic  cm9vdDpyb290cHc=",
            "Bearer cm9vdDpyb290cHc=",
            "Basic cm9vdA==",
            "Basic cm9vdDpyb290cHc",
            "Basic cm9vdDpyb290cHc=x",
            "Basic !",
            "cm9vdDpyb290cHc=",
        ] {
            assert_eq!(pair(bad), None, "{bad}");
        }
        assert_eq!(parse(b"Basic /zr/").map(|c| c.password), Some(vec![0xff]));
    }

    #[test]
    fn only_a_name_is_a_user() {
        let user = |text: &str| {
            let value = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text));
            let credentials = parse(value.as_bytes()).unwrap();
            (credentials.user.is_ok(), credentials.shown_user().into_owned())
        };
        assert_eq!(user("ann:x"), (true, "ann".to_owned()));
        for (text, shown) in [
            (":x", r#""""#),
            ("..:x", r#""..""#),
            ("../../1/pub/evil:wonder", r#""../../1/pub/evil""#),
            ("a\nb:x", r#""a\nb""#),
        ] {
            assert_eq!(user(text), (false, shown.to_owned()));
        }
        // Invalid UTF-8 is not the name of the user whose name has the replacement character.
        assert!(parse(b"Basic /zr/").is_some_and(|credentials| credentials.user.is_err()));
    }
}
