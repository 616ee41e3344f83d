//! The TLS flags for one kind of connections: with clients, or with other members.

use std::fmt;
use std::path::{Path, PathBuf};

use shared::net::{ClientTlsFiles, Role, ServerTlsFiles};

use super::Settings;

/// The TLS files and rules for connections with clients or with other members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFlags {
    /// The kind of connections.
    pub role: Role,
    /// The own certificate.
    pub cert: Option<PathBuf>,
    /// The certificate's key.
    pub key: Option<PathBuf>,
    /// An authority; incoming connections must have a certificate signed by it.
    pub ca: Option<PathBuf>,
    /// An authority.
    pub trusted_ca: Option<PathBuf>,
    /// Whether incoming connections must have a certificate, even without `ca`.
    pub client_cert_auth: bool,
    /// Whether a dialed member may be identified by its certificate's common name.
    pub accept_common_name: bool,
}

impl TlsFlags {
    pub(super) fn new(settings: &Settings, role: Role) -> TlsFlags {
        let prefix = if role == Role::Peers { "peer-" } else { "" };
        let values = &settings.values;
        let file = |name: &str| {
            let path = values.text(&format!("{prefix}{name}"));
            (!path.is_empty()).then(|| PathBuf::from(path))
        };
        TlsFlags {
            role,
            cert: file("cert-file"),
            key: file("key-file"),
            ca: file("ca-file"),
            trusted_ca: file("trusted-ca-file"),
            client_cert_auth: values.switch(&format!("{prefix}client-cert-auth")),
            accept_common_name: values.switch("tls-accept-common-name"),
        }
    }

    /// Whether neither a certificate nor a key is given.
    pub fn is_empty(&self) -> bool {
        self.cert.is_none() && self.key.is_none()
    }

    /// The files for incoming connections.
    pub fn server_files(&self) -> ServerTlsFiles {
        ServerTlsFiles {
            cert: self.cert.clone(),
            key: self.key.clone(),
            ca: self.authorities(),
            client_cert_auth: self.client_cert_auth || self.ca.is_some(),
            role: self.role,
        }
    }

    /// The files for outgoing connections.
    pub fn client_files(&self) -> ClientTlsFiles {
        ClientTlsFiles {
            cert: self.cert.clone(),
            key: self.key.clone(),
            ca: self.authorities(),
            accept_common_name: self.accept_common_name,
            role: self.role,
        }
    }

    fn authorities(&self) -> Vec<PathBuf> {
        self.ca.iter().chain(&self.trusted_ca).cloned().collect()
    }
}

/// The format of the original's log.
impl fmt::Display for TlsFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |path: &Option<PathBuf>| {
            path.as_deref().map(Path::display).map_or_else(String::new, |d| d.to_string())
        };
        write!(
            f,
            "cert = {}, key = {}, ca = {}, trusted-ca = {}, client-cert-auth = {}",
            show(&self.cert),
            show(&self.key),
            show(&self.ca),
            show(&self.trusted_ca),
            self.client_cert_auth
        )
    }
}
