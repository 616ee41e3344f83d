//! Builds the TLS acceptors and dialers from the flags, and writes the original's log lines about them.

use shared::net::{Acceptor, Dialer, TlsFileError};
use shared::url::{Scheme, Url, Urls};

use crate::config::{Config, TlsFlags};
use crate::log;

/// What a member speaks with clients. A client that speaks both, such as a browser or curl, gets HTTP/1.1, which has all
/// pages; gRPC clients name HTTP/2 alone.
const CLIENT_PROTOCOLS: &[&[u8]] = &[b"http/1.1", b"h2"];

/// Why the acceptors cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum AcceptorsError {
    /// There is an `https` URL but no certificate.
    #[error("cannot listen on TLS for {0}: KeyFile and CertFile are not presented")]
    NoCertificate(String),
    /// A TLS file cannot be used.
    #[error(transparent)]
    Files(#[from] TlsFileError),
}

/// The acceptors for a list of URLs.
#[derive(Debug, Clone)]
pub struct Acceptors {
    /// The acceptor for the `https` URLs.
    tls: Option<Acceptor>,
}

impl Acceptors {
    /// The acceptors of a member for other members.
    ///
    /// # Errors
    /// If there is an `https` URL and the TLS files are missing or unusable.
    pub fn of_peers(config: &Config) -> Result<Acceptors, AcceptorsError> {
        let (flags, urls) = (&config.peer_tls, &config.listen_peer_urls);
        if !flags.is_empty() {
            log::info!("etcdmain", "peerTLS: {flags}");
        }
        warn_of_unused_files(flags, urls, "peer");
        Acceptors::new(flags, urls, |url| format!("https://{}", url.address()))
    }

    /// The acceptors of a member for clients.
    ///
    /// # Errors
    /// If there is an `https` URL and the TLS files are missing or unusable.
    pub fn of_clients(config: &Config) -> Result<Acceptors, AcceptorsError> {
        let (flags, urls) = (&config.client_tls, &config.listen_client_urls);
        if !flags.is_empty() {
            log::info!("etcdmain", "clientTLS: {flags}");
        }
        warn_of_unused_files(flags, urls, "client");
        Acceptors::offering(flags, urls, CLIENT_PROTOCOLS, |_| "given listener".to_owned())
    }

    /// The acceptors of a proxy for clients.
    ///
    /// # Errors
    /// If there is an `https` URL and the TLS files are missing or unusable.
    pub fn of_proxy(config: &Config) -> Result<Acceptors, AcceptorsError> {
        Acceptors::new(&config.client_tls, &config.listen_client_urls, |url| {
            format!("https://{}", url.address())
        })
    }

    /// `name` is the original's name for the listener of a URL, which differs between its two kinds of listeners.
    fn new(
        flags: &TlsFlags,
        urls: &Urls,
        name: impl Fn(&Url) -> String,
    ) -> Result<Acceptors, AcceptorsError> {
        Acceptors::offering(flags, urls, &[], name)
    }

    /// As [`new`](Acceptors::new), with these protocols in ALPN.
    fn offering(
        flags: &TlsFlags,
        urls: &Urls,
        protocols: &'static [&'static [u8]],
        name: impl Fn(&Url) -> String,
    ) -> Result<Acceptors, AcceptorsError> {
        let Some(encrypted) = urls.iter().find(|url| url.scheme() == Scheme::Https) else {
            return Ok(Acceptors { tls: None });
        };
        if flags.is_empty() {
            return Err(AcceptorsError::NoCertificate(name(encrypted)));
        }
        Ok(Acceptors { tls: Some(Acceptor::tls_offering(&flags.server_files(), protocols)?) })
    }

    /// The acceptor for one of the URLs.
    pub fn at(&self, url: &Url) -> Acceptor {
        match &self.tls {
            Some(tls) if url.scheme() == Scheme::Https => tls.clone(),
            _ => Acceptor::plain(),
        }
    }
}

/// Warns of `http` URLs that do not use the given certificates.
fn warn_of_unused_files(flags: &TlsFlags, urls: &Urls, kind: &str) {
    for url in urls.iter().filter(|url| url.scheme() == Scheme::Http && !flags.is_empty()) {
        log::warning!(
            "etcdmain",
            "The scheme of {kind} url {url} is http while {kind} key/cert files are presented. Ignored {kind} \
             key/cert files."
        );
    }
}

/// The dialer for other members. The files are read even if no member has an `https` URL yet.
///
/// # Errors
/// If a file cannot be used.
pub fn dialer(config: &Config) -> Result<Dialer, TlsFileError> {
    if config.peer_tls.accept_common_name {
        log::warning!(
            "etcdmain",
            "-tls-accept-common-name is on: members are known by a common name if their certificates have no DNS \
             names; switch it off once all certificates have a subjectAltName"
        );
    }
    Dialer::new(&config.peer_tls.client_files())
}

/// The dialer for the client URLs of other members. Uses the client TLS files if they contain an authority and are
/// usable, else the dialer for members.
pub fn dialer_of_clients(config: &Config, of_members: &Dialer) -> Dialer {
    let files = config.client_tls.client_files();
    let own = (!files.ca.is_empty()).then(|| Dialer::new(&files).ok()).flatten();
    own.unwrap_or_else(|| of_members.clone())
}

#[cfg(test)]
mod tests {
    use shared::net::Role;

    use super::*;

    fn acceptors(urls: &str, cert: &str, key: &str) -> Result<Acceptors, String> {
        let path = |text: &str| Some(text.into()).filter(|_| !text.is_empty());
        let flags = TlsFlags {
            role: Role::Clients,
            cert: path(cert),
            key: path(key),
            ca: None,
            trusted_ca: None,
            client_cert_auth: false,
            accept_common_name: false,
        };
        let urls = Urls::parse(urls).unwrap();
        Acceptors::new(&flags, &urls, |url| url.address().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_https_url_needs_a_certificate_and_its_key() {
        let text = "cannot listen on TLS for b:2: KeyFile and CertFile are not presented";
        assert_eq!(acceptors("http://a:1,https://b:2", "", "").unwrap_err(), text);
        let text = "KeyFile and CertFile must both be present[key: , cert: c]";
        assert_eq!(acceptors("https://b:2", "c", "").unwrap_err(), text);
        let text = "open /nonexistent/c: no such file or directory";
        assert_eq!(acceptors("https://b:2", "/nonexistent/c", "k").unwrap_err(), text);
    }

    #[test]
    fn files_are_not_read_for_http_urls() {
        let acceptors = acceptors("http://a:1", "/nonexistent/c", "").unwrap();
        assert!(acceptors.tls.is_none());
    }
}
