//! The `Authorization` header, as Go reads it.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

/// As Go's decoder: padded, and lenient about the bits that the last character has too many.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

const SCHEME: &[u8] = b"Basic ";

/// Who somebody says to be, and how they prove it. Never written to a log.
#[derive(PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: Vec<u8>,
}

/// The user and the password in a header's value; `None` if it is of another scheme, or malformed.
pub(super) fn parse(value: &[u8]) -> Option<Credentials> {
    let (scheme, encoded) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let pair = BASE64.decode(encoded).ok()?;
    let colon = memchr::memchr(b':', &pair)?;
    let user = String::from_utf8_lossy(&pair[..colon]).into_owned();
    Some(Credentials { user, password: pair[colon + 1..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(value: &str) -> Option<(String, Vec<u8>)> {
        parse(value.as_bytes()).map(|credentials| (credentials.user, credentials.password))
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
}
