//! The address of one member, as a user writes it.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use super::error::ClientError;
use super::text::{canonical_path, escape_path};
use crate::net::Target;
use crate::quote::quote;

/// The URL of one member: `http://10.0.0.1:2379`. A text without a scheme means `http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The user's text with the scheme, for messages.
    text: String,
    /// The part of `text` before the path.
    base_bytes: usize,
    /// The decoded path before the API's own (a proxy may serve etcd below `/etcd`).
    path: Vec<u8>,
    origin: Result<Origin, String>,
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) target: Target,
    /// `host:port` as it goes into the `Host` header.
    pub(super) authority: String,
}

impl Endpoint {
    /// Reads an endpoint.
    ///
    /// # Errors
    /// If the text is not a URL. One with an unknown scheme is an endpoint, but requests to it fail.
    pub fn parse(text: &str) -> Result<Endpoint, ClientError> {
        let text = text.trim();
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = parse_url(&text)?;
        let base_bytes = text
            .find("://")
            .map(|at| at + 3)
            .and_then(|host| text[host..].find(['/', '?', '#']).map(|at| host + at))
            .unwrap_or(text.len());
        let path = percent_decode_str(url.path()).collect();
        Ok(Endpoint { base_bytes, path, origin: Origin::of(&url), text })
    }

    /// The URL of a path of the API on this member, and the path alone.
    pub(super) fn url(&self, path: &[u8], query: &str) -> (String, String) {
        let whole = [&self.path, path].concat();
        let mut target = escape_path(&canonical_path(&whole));
        if !query.is_empty() {
            target.push('?');
            target.push_str(query);
        }
        (format!("{}{target}", &self.text[..self.base_bytes]), target)
    }

    /// Where to connect; `None` for an unknown scheme.
    pub fn target(&self) -> Option<&Target> {
        self.origin.as_ref().ok().map(|origin| &origin.target)
    }

    /// Where to connect.
    pub(super) fn origin(&self) -> Result<&Origin, &str> {
        self.origin.as_ref().map_err(String::as_str)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Origin {
    /// The target of a URL; an error with the scheme's name if that is unknown.
    pub(super) fn of(url: &Url) -> Result<Origin, String> {
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(other.to_owned()),
        };
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        Ok(Origin {
            authority: format!("{host}:{port}"),
            target: Target { tls, host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port },
        })
    }
}

/// Checks that a text is a URL.
pub(super) fn parse_url(text: &str) -> Result<Url, ClientError> {
    let refuse = |reason: &str| ClientError::Url(format!("parse {}: {reason}", quote(text)));
    if let Some(escape) = broken_escape(text) {
        return Err(refuse(&format!("invalid URL escape {}", quote(escape))));
    }
    Url::parse(text).map_err(|error| refuse(&error.to_string()))
}

/// The first `%` of the text that is not followed by two hexadecimal digits, with what follows it.
fn broken_escape(text: &str) -> Option<&str> {
    text.match_indices('%').find_map(|(at, _)| {
        let escape = text[at..].char_indices().nth(3).map_or(&text[at..], |(end, _)| &text[at..at + end]);
        let digits = &escape.as_bytes()[1..];
        (digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit)).then_some(escape)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> (bool, String, u16) {
        let endpoint = Endpoint::parse(text).unwrap();
        let origin = endpoint.origin().unwrap();
        (origin.target.tls, origin.target.host.clone(), origin.target.port)
    }

    #[test]
    fn a_scheme_is_optional() {
        assert_eq!(origin("127.0.0.1:4001"), (false, "127.0.0.1".into(), 4001));
        assert_eq!(origin("localhost:2379"), (false, "localhost".into(), 2379));
        assert_eq!(origin("etcd.example.com"), (false, "etcd.example.com".into(), 80));
        assert_eq!(origin(" https://[::1]:2379/ "), (true, "::1".into(), 2379));
        assert_eq!(Endpoint::parse("127.0.0.1:4001").unwrap().to_string(), "http://127.0.0.1:4001");
    }

    #[test]
    fn the_users_text_is_kept() {
        let endpoint = Endpoint::parse("http://Host:2379/").unwrap();
        assert_eq!(endpoint.to_string(), "http://Host:2379/");
        let (url, target) = endpoint.url(b"/v2/keys/a b", "x=1");
        assert_eq!(
            (url.as_str(), target.as_str()),
            ("http://Host:2379/v2/keys/a%20b?x=1", "/v2/keys/a%20b?x=1")
        );
        let below = Endpoint::parse("http://h:1/pre%20fix/").unwrap();
        assert_eq!(below.url(b"/v2/members", "").0, "http://h:1/pre%20fix/v2/members");
    }

    #[test]
    fn what_is_no_url_is_refused_and_a_foreign_scheme_is_not() {
        let error = Endpoint::parse("http://%zz").unwrap_err();
        assert_eq!(error.to_string(), r#"parse "http://%zz": invalid URL escape "%zz""#);
        assert!(Endpoint::parse("http://a:port").is_err());
        assert!(Endpoint::parse("http://é%").is_err());
        assert_eq!(Endpoint::parse("ftp://h:1").unwrap().origin(), Err("ftp"));
    }
}
