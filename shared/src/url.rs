//! Lists of URLs as flags and requests give them, and `-initial-cluster`.
//!
//! The rules are those of Go's parser and of etcd 2.x on top of it: scheme http or https, `host:port`, no path.
//! The text is kept as it was given (but for the scheme, which becomes lower case): it is hashed into ids and
//! compared as a string.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::quote::quote;

/// Why a list of URLs is refused; the texts are etcd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// There is none.
    #[error("no valid URLs given")]
    Empty,
    /// Not a URL at all.
    #[error("parse {}: {reason}", quote(url))]
    Malformed {
        /// The text.
        url: String,
        /// What is wrong with it, in the words of Go's parser.
        reason: String,
    },
    /// Another scheme, or none.
    #[error("URL scheme must be http or https: {0}")]
    Scheme(String),
    /// Without a port.
    #[error("URL address does not have the form \"host:port\": {0}")]
    Address(String),
    /// With a path, if only `/`.
    #[error("URL must not contain a path: {0}")]
    Path(String),
}

/// The two schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        })
    }
}

/// A URL that passed the rules. Ordered by its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url {
    text: String,
    scheme: Scheme,
    address: String,
}

impl Url {
    /// The whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its scheme.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// `host:port`; an IPv6 host is in brackets.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The host, without brackets; may be empty.
    #[must_use]
    pub fn host(&self) -> &str {
        split_host_port(&self.address).map_or("", |(host, _)| host)
    }

    /// The port as it was written; may be empty.
    #[must_use]
    pub fn port(&self) -> &str {
        split_host_port(&self.address).map_or("", |(_, port)| port)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let text = text.trim();
        let parts = split(text).map_err(|reason| UrlError::Malformed { url: text.to_owned(), reason })?;
        let scheme = match parts.scheme.as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(UrlError::Scheme(text.to_owned())),
        };
        if split_host_port(parts.address).is_none() {
            return Err(UrlError::Address(text.to_owned()));
        }
        if !parts.path.is_empty() {
            return Err(UrlError::Path(text.to_owned()));
        }
        let address = parts.address.to_owned();
        let text = format!("{scheme}{}", &text[parts.scheme.len()..]);
        Ok(Url { text, scheme, address })
    }
}

/// One or more URLs, sorted by their text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Urls(Vec<Url>);

impl Urls {
    /// Parses a list that is separated by commas; blanks around a URL are ignored.
    pub fn parse(list: &str) -> Result<Urls, UrlError> {
        Urls::from_texts(list.split(','))
    }

    /// Parses URLs one by one.
    pub fn from_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Urls, UrlError> {
        let mut urls = texts.into_iter().map(str::parse).collect::<Result<Vec<Url>, _>>()?;
        if urls.is_empty() {
            return Err(UrlError::Empty);
        }
        urls.sort();
        Ok(Urls(urls))
    }

    /// The URLs, sorted.
    pub fn iter(&self) -> std::slice::Iter<'_, Url> {
        self.0.iter()
    }

    /// Their texts, sorted.
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(|url| url.text.clone()).collect()
    }
}

impl<'a> IntoIterator for &'a Urls {
    type Item = &'a Url;
    type IntoIter = std::slice::Iter<'a, Url>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromStr for Urls {
    type Err = UrlError;

    fn from_str(list: &str) -> Result<Urls, UrlError> {
        Urls::parse(list)
    }
}

impl fmt::Display for Urls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, url) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(&url.text)?;
        }
        Ok(())
    }
}

/// The members that begin a cluster, by name: `one=http://…,two=http://…,two=http://…`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InitialCluster(BTreeMap<String, Urls>);

impl InitialCluster {
    /// Parses the value of `-initial-cluster`. Empty parts are ignored; a name given twice has all the URLs.
    pub fn parse(text: &str) -> Result<InitialCluster, UrlError> {
        let mut texts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            texts.entry(name).or_default().push(url);
        }
        let members = texts.into_iter().map(|(name, urls)| Ok((name.to_owned(), Urls::from_texts(urls)?)));
        Ok(InitialCluster(members.collect::<Result<_, UrlError>>()?))
    }

    /// The peer URLs of a member.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Urls> {
        self.0.get(name)
    }

    /// Names and URLs, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Urls)> {
        self.0.iter().map(|(name, urls)| (name.as_str(), urls))
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, Urls)> for InitialCluster {
    fn from_iter<I: IntoIterator<Item = (String, Urls)>>(members: I) -> InitialCluster {
        InitialCluster(members.into_iter().collect())
    }
}

impl FromStr for InitialCluster {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<InitialCluster, UrlError> {
        InitialCluster::parse(text)
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs: Vec<String> = self
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")))
            .collect();
        pairs.sort_unstable();
        f.write_str(&pairs.join(","))
    }
}

/// The parts of a URL that the rules look at.
struct Parts<'a> {
    /// In lower case.
    scheme: String,
    address: &'a str,
    path: &'a str,
}

/// Splits a URL as Go's `url.Parse` does.
fn split(text: &str) -> Result<Parts<'_>, String> {
    let text = text.split_once('#').map_or(text, |(before, _)| before);
    if text.bytes().any(|b| b.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = split_scheme(text)?;
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.split_once('?').map_or(rest, |(before, _)| before);
    if !rest.starts_with('/') && !scheme.is_empty() {
        // `http:a` is opaque to Go.
        return Ok(Parts { scheme, address: "", path: "" });
    }
    let first_segment = rest.split('/').next().unwrap_or_default();
    if first_segment.contains(':') {
        return Err("first path segment in URL cannot contain colon".to_owned());
    }
    let is_path = scheme.is_empty() && rest.starts_with("///");
    let (address, path) = match rest.strip_prefix("//") {
        Some(rest) if !is_path => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let (user, address) = authority.rsplit_once('@').unwrap_or(("", authority));
            check_host(address)?;
            check_user(user)?;
            (address, path)
        }
        _ => ("", rest),
    };
    check_escapes(path)?;
    Ok(Parts { scheme, address, path })
}

/// The scheme before the first colon; an error only if nothing is before it.
fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

/// Checks `host:port`, where the port may be missing and an IPv6 host stands in brackets.
fn check_host(address: &str) -> Result<(), String> {
    let port_at = match address.strip_prefix('[') {
        Some(_) => address.rfind(']').ok_or("missing ']' in host")? + 1,
        None => address.rfind(':').unwrap_or(address.len()),
    };
    let (host, port) = address.split_at(port_at);
    let good =
        port.is_empty() || port.strip_prefix(':').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    if !good {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    // The zone of an address may hold any escape, a host only those of other than ASCII characters.
    let zone_at = if host.starts_with('[') { host.find("%25") } else { None };
    let (host, zone) = address.split_at(zone_at.unwrap_or(address.len()));
    check_escapes(host)?;
    check_escapes(zone)?;
    if let Some((at, _)) = host.match_indices('%').find(|(at, _)| host.as_bytes()[at + 1] < b'8') {
        return Err(format!("invalid URL escape {}", quote(&host[at..at + 3])));
    }
    let bad = host.chars().chain(zone.chars()).find(|c| c.is_ascii() && !is_host_char(*c));
    bad.map_or(Ok(()), |bad| Err(format!("invalid character {} in host name", quote(bad.to_string()))))
}

/// What Go lets pass in a host.
fn is_host_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.~!$&'()*+,;=:[]<>\"%".contains(c)
}

/// Checks `user:password`.
fn check_user(user: &str) -> Result<(), String> {
    if user.chars().all(|c| c.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(c)) {
        check_escapes(user)
    } else {
        Err("net/url: invalid userinfo".to_owned())
    }
}

/// Every `%` must begin an escape of two hexadecimal digits.
fn check_escapes(text: &str) -> Result<(), String> {
    for (i, _) in text.match_indices('%') {
        let escape: String = text[i..].chars().take(3).collect();
        if escape.len() != 3 || !escape[1..].bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("invalid URL escape {}", quote(&escape)));
        }
    }
    Ok(())
}

/// Host, without brackets, and port, as Go's `net.SplitHostPort`; `None` if there is no colon or one too many.
fn split_host_port(address: &str) -> Option<(&str, &str)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':')?)
        }
        None => address.split_once(':')?,
    };
    let bracketed = address.starts_with('[');
    let bad = |part: &str| part.contains(['[', ']']);
    if port.contains(':') || bad(port) || bad(host) || (!bracketed && host.contains(':')) {
        return None;
    }
    Some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(list: &str) -> String {
        Urls::parse(list).unwrap_err().to_string()
    }

    #[test]
    fn lists_are_trimmed_and_sorted() {
        let urls = Urls::parse("http://b:2, https://a:1 ,HTTP://a:1").unwrap();
        assert_eq!(urls.to_string(), "http://a:1,http://b:2,https://a:1");
        assert_eq!(urls.iter().map(Url::scheme).filter(|s| *s == Scheme::Https).count(), 1);
        let url: Url = "http://[::1]:80".parse().unwrap();
        assert_eq!((url.address(), url.host(), url.port()), ("[::1]:80", "::1", "80"));
        let url: Url = "http://user@:80?x=/".parse().unwrap();
        assert_eq!((url.address(), url.host(), url.port()), (":80", "", "80"));
    }

    #[test]
    fn refusals_are_in_the_words_of_etcd() {
        assert_eq!(refused(""), "URL scheme must be http or https: ");
        assert_eq!(refused("a:1"), "URL scheme must be http or https: a:1");
        assert_eq!(refused("ftp://a:1"), "URL scheme must be http or https: ftp://a:1");
        assert_eq!(refused("http://a:1,"), "URL scheme must be http or https: ");
        let form = "URL address does not have the form \"host:port\": ";
        for bad in ["http://a", "http://", "http:a:1", "http://::1:80", "http://[::1]", "http://a:1:2"] {
            assert_eq!(refused(bad), format!("{form}{bad}"));
        }
        assert_eq!(refused("http://:1/"), "URL must not contain a path: http://:1/");
        assert_eq!(refused("http://a:1/b"), "URL must not contain a path: http://a:1/b");
        assert_eq!(Urls::from_texts([]).unwrap_err().to_string(), "no valid URLs given");
    }

    #[test]
    fn what_is_no_url_is_refused_in_the_words_of_go() {
        for (text, reason) in [
            (":1", "missing protocol scheme"),
            ("1http://a:1", "first path segment in URL cannot contain colon"),
            ("*:1", "first path segment in URL cannot contain colon"),
            ("http://%zz:1", r#"invalid URL escape "%zz""#),
            ("http://%4:1", r#"invalid URL escape "%4:""#),
            ("http://%41:1", r#"invalid URL escape "%41""#),
            ("http://a:1/%zz", r#"invalid URL escape "%zz""#),
            ("http://a b:1", r#"invalid character " " in host name"#),
            (r"http://a\b:1", r#"invalid character "\\" in host name"#),
            ("http://a:b", r#"invalid port ":b" after host"#),
            ("http://a:+1", r#"invalid port ":+1" after host"#),
            ("http://[::1]:x", r#"invalid port ":x" after host"#),
            ("http://[::1]a:1", r#"invalid port "a:1" after host"#),
            ("http://[::1", "missing ']' in host"),
            ("http://a b@c:1", "net/url: invalid userinfo"),
            ("http://a\u{7}:1", "net/url: invalid control character in URL"),
        ] {
            assert_eq!(refused(text), format!("parse {}: {reason}", quote(text)));
        }
        for good in
            ["http://a<b:1", "http://é:1", "http://:", "http://[fe80::1%25en0]:80", "http://a:1?x#%zz"]
        {
            assert_eq!(Urls::parse(good).map(|urls| urls.to_string()).as_deref(), Ok(good));
        }
    }

    #[test]
    fn initial_clusters_are_grouped_by_name() {
        let text = "b=http://b:1,a=http://a:2,,a=http://a:1";
        let cluster = InitialCluster::parse(text).unwrap();
        assert_eq!(cluster.len(), 2);
        assert_eq!(cluster.get("a").unwrap().to_string(), "http://a:1,http://a:2");
        assert_eq!(cluster.to_string(), "a=http://a:1,a=http://a:2,b=http://b:1");
        assert!(InitialCluster::parse("").unwrap().is_empty());
        let error = InitialCluster::parse("a").unwrap_err().to_string();
        assert_eq!(error, "URL scheme must be http or https: ");
    }
}
