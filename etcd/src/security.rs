//! From the TLS flags to what accepts and dials connections. What the original logs about them is logged here.

use shared::net::{Acceptor, Dialer, TlsFileError};
use shared::url::{Scheme, Url, Urls};

use crate::config::{Config, TlsFlags};
use crate::log;

/// What takes connections in at a list of URLs.
#[derive(Debug, Clone)]
pub struct Door {
    /// For the `https` ones.
    tls: Option<Acceptor>,
}

impl Door {
    /// For other members.
    ///
    /// # Errors
    /// When a file is needed and cannot be used.
    pub fn of_peers(config: &Config) -> Result<Door, TlsFileError> {
        if !config.peer_tls.is_empty() {
            log::info!("etcdmain", "peerTLS: {}", config.peer_tls);
        }
        Door::new(&config.peer_tls, &config.listen_peer_urls, "peer")
    }

    /// For clients.
    ///
    /// # Errors
    /// When a file is needed and cannot be used.
    pub fn of_clients(config: &Config) -> Result<Door, TlsFileError> {
        if !config.client_tls.is_empty() {
            log::info!("etcdmain", "clientTLS: {}", config.client_tls);
        }
        Door::new(&config.client_tls, &config.listen_client_urls, "client")
    }

    fn new(flags: &TlsFlags, urls: &Urls, whose: &str) -> Result<Door, TlsFileError> {
        for url in urls.iter().filter(|url| url.scheme() == Scheme::Http && !flags.is_empty()) {
            log::warning!(
                "etcdmain",
                "The scheme of {whose} url {url} is http while {whose} key/cert files are presented. Ignored {whose} \
                 key/cert files."
            );
        }
        let encrypts = urls.iter().any(|url| url.scheme() == Scheme::Https);
        let tls = encrypts.then(|| Acceptor::tls(&flags.server_files())).transpose()?;
        Ok(Door { tls })
    }

    /// What takes connections in at one of the URLs.
    pub fn at(&self, url: &Url) -> Acceptor {
        match &self.tls {
            Some(tls) if url.scheme() == Scheme::Https => tls.clone(),
            _ => Acceptor::plain(),
        }
    }
}

/// What reaches other members. The files are read even if no URL of theirs is `https` yet.
///
/// # Errors
/// When a file cannot be used.
pub fn dialer(config: &Config) -> Result<Dialer, TlsFileError> {
    if config.peer_tls.accept_common_name {
        log::warning!(
            "etcdmain",
            "-tls-accept-common-name is on: members are known by a common name where their certificates have no DNS \
             names; use it until there are certificates with subjectAltName, and no longer"
        );
    }
    Dialer::new(&config.peer_tls.client_files())
}
