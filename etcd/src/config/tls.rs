//! The flags of one kind of connections: with clients, or with other members.

use std::fmt;
use std::path::{Path, PathBuf};

use shared::net::{ClientTlsFiles, Role, ServerTlsFiles};

use super::Settings;

/// Files and rules for the connections with clients or with other members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFlags {
    /// Whom the connections are with.
    pub role: Role,
    /// The certificate that is shown.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// An authority; who dials here must show a certificate of it.
    pub ca: Option<PathBuf>,
    /// An authority.
    pub trusted_ca: Option<PathBuf>,
    /// Whether who dials here must show a certificate, even without `ca`.
    pub client_cert_auth: bool,
    /// Whether who is dialled may be known by a common name.
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

    /// Whether there is neither certificate nor key.
    pub fn is_empty(&self) -> bool {
        self.cert.is_none() && self.key.is_none()
    }

    /// For connections that come in.
    pub fn server_files(&self) -> ServerTlsFiles {
        ServerTlsFiles {
            cert: self.cert.clone(),
            key: self.key.clone(),
            ca: self.authorities(),
            client_cert_auth: self.client_cert_auth || self.ca.is_some(),
            role: self.role,
        }
    }

    /// For connections that go out.
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

/// As the original shows them in its log.
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
