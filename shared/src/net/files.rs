//! Reads certificates, keys and authorities from PEM files for the TLS library.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider as _};
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{CertificateFields, date, public_key_is};
use super::io_reason;
use crate::disk::is_out_of_descriptors;

/// What connections are for. Error texts name flags and the other side accordingly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// A client of a cluster.
    #[default]
    Tool,
    /// A client of the v3 API, whose flags have other names.
    V3Tool,
    /// A server's requests to hosts that are not members, without own certificates.
    Outside,
    /// A server's connections with its clients.
    Clients,
    /// A server's connections with other members.
    Peers,
}

impl Role {
    pub(super) fn cert_flag(self) -> &'static str {
        match self {
            Role::Tool | Role::Outside => "--cert-file",
            Role::V3Tool => "--cert",
            Role::Clients => "-cert-file",
            Role::Peers => "-peer-cert-file",
        }
    }

    pub(super) fn key_flag(self) -> &'static str {
        match self {
            Role::Tool | Role::Outside => "--key-file",
            Role::V3Tool => "--key",
            Role::Clients => "-key-file",
            Role::Peers => "-peer-key-file",
        }
    }

    pub(super) fn ca_flag(self) -> &'static str {
        match self {
            Role::Tool => "--ca-file",
            Role::V3Tool => "--cacert",
            Role::Outside => "the system's authorities",
            Role::Clients => "-trusted-ca-file",
            Role::Peers => "-peer-trusted-ca-file",
        }
    }

    /// The flag that accepts common names.
    pub(super) fn common_name_flag(self) -> &'static str {
        match self {
            Role::Tool => "--tls-accept-common-name",
            Role::V3Tool | Role::Outside | Role::Clients | Role::Peers => "-tls-accept-common-name",
        }
    }

    /// The noun for the dialling side.
    pub(super) fn whom(self) -> &'static str {
        match self {
            Role::Tool | Role::V3Tool | Role::Outside | Role::Clients => "client",
            Role::Peers => "peer",
        }
    }
}

/// The files for dialling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTlsFiles {
    /// The certificate that is sent to servers that require one, followed by intermediate ones.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
    /// The authorities to verify the other side with; without them, the system's.
    pub ca: Vec<PathBuf>,
    /// Whether a certificate without DNS names is valid for the host that is its common name.
    pub accept_common_name: bool,
    /// What the connections are for.
    pub role: Role,
}

/// The files for accepting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerTlsFiles {
    /// The certificate that is sent, followed by intermediate ones.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
    /// The authorities to verify the other side with; without them, the system's.
    pub ca: Vec<PathBuf>,
    /// Whether clients must have a certificate.
    pub client_cert_auth: bool,
    /// What the connections are for.
    pub role: Role,
}

/// An error of a TLS file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFileError {
    /// One of a pair is missing.
    #[error("KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")]
    HalfPair {
        /// The key's file, or empty.
        key: String,
        /// The certificate's file, or empty.
        cert: String,
    },
    /// The file cannot be read.
    #[error("open {path}: {reason}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The file cannot be read now: the process or the machine has too many files open.
    #[error("open {path}: {reason}")]
    NoDescriptor {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The file does not hold what is needed.
    #[error("{path}: no {wanted} in it (it must be PEM, with \"-----BEGIN …\" lines)")]
    Nothing {
        /// The file.
        path: String,
        /// What is missing.
        wanted: &'static str,
    },
    /// The file's contents cannot be used.
    #[error("{path}: {reason}")]
    Broken {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Key and certificate do not belong together.
    #[error("{key}: this private key is not the key of the certificate in {cert}")]
    OtherKey {
        /// The key's file.
        key: String,
        /// The certificate's file.
        cert: String,
    },
    /// Certificates are required, but no authority is configured.
    #[error("certificates are asked for, but no authority is known: set {0}")]
    NoAuthorities(&'static str),
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) fields: CertificateFields,
    pub(super) path: PathBuf,
}

impl Identity {
    /// Reads both files; `None` if neither is given. `any_version` is for servers whose clients may be less strict
    /// than this program.
    pub(super) fn read(
        cert: Option<&Path>,
        key: Option<&Path>,
        any_version: bool,
        provider: &CryptoProvider,
    ) -> Result<Option<Identity>, TlsFileError> {
        match (cert, key) {
            (Some(cert), Some(key)) => Identity::from_pair(cert, key, any_version, provider).map(Some),
            (None, None) => Ok(None),
            (cert, key) => {
                let name = |path: Option<&Path>| path.map(show).unwrap_or_default();
                Err(TlsFileError::HalfPair { key: name(key), cert: name(cert) })
            }
        }
    }

    fn from_pair(
        cert: &Path,
        key: &Path,
        any_version: bool,
        provider: &CryptoProvider,
    ) -> Result<Identity, TlsFileError> {
        let certificates = read_certificates(cert)?;
        let broken =
            |path: &Path, reason: &str| TlsFileError::Broken { path: show(path), reason: reason.to_owned() };
        let fields = certificates.first().and_then(|der| CertificateFields::read(der));
        let fields = fields.ok_or_else(|| broken(cert, "the certificate in it is damaged"))?;
        if fields.version < 3 && !any_version {
            return Err(broken(cert, &format!("the certificate {} {VERSION_1}", fields.subject)));
        }
        let der = read_key(key)?;
        let pair = if fields.version < 3 {
            of_version_1(certificates, der, provider)
        } else {
            CertifiedKey::from_der(certificates, der, provider)
        };
        let key = pair.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsFileError::OtherKey { key: show(key), cert: show(cert) },
            rustls::Error::InvalidCertificate(reason) => {
                broken(cert, &format!("the certificate in it cannot be used: {reason}"))
            }
            _ => broken(
                key,
                "this private key is damaged or of a kind that cannot be used (RSA keys have 2048 bits or more, \
                 others are ECDSA on P-256 or P-384, or Ed25519)",
            ),
        })?;
        Ok(Identity { key: Arc::new(key), fields, path: cert.to_owned() })
    }

    /// Faults that may make others refuse the certificate, one sentence each.
    pub(super) fn faults(&self, as_server: bool, as_client: bool) -> Vec<String> {
        let now = DefaultTimeProvider.current_time().map_or(0, |now| now.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let fields = &self.fields;
        let mut faults = Vec::new();
        if now > fields.not_after {
            faults.push(format!("expired on {}", date(fields.not_after)));
        }
        if now < fields.not_before {
            faults.push(format!("is not valid until {}", date(fields.not_before)));
        }
        if as_server && !fields.server_auth {
            faults.push(no_usage("serverAuth"));
        }
        if as_client && !fields.client_auth {
            faults.push(no_usage("clientAuth"));
        }
        if let Some(hash) = fields.weak_hash {
            faults.push(weak(hash));
        }
        if fields.version < 3 {
            faults.push(VERSION_1.to_owned());
        }
        if as_server && !fields.has_dns_names && !fields.has_ip_addresses {
            faults.push(
                "has no subjectAltName, only a common name, by which many clients do not know a \
                 server: make one with subjectAltName"
                    .to_owned(),
            );
        }
        faults.iter().map(|fault| format!("{}: the certificate {fault}", self.path.display())).collect()
    }
}

/// A certificate of X.509 version 1, which the TLS library refuses to parse; it only has to be sent.
fn of_version_1(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, rustls::Error> {
    let key = provider.key_provider.load_private_key(key)?;
    let of_key = key.public_key();
    let matches = chain.first().zip(of_key.as_ref()).is_none_or(|(der, key)| public_key_is(der, key));
    if matches {
        Ok(CertifiedKey::new(chain, key))
    } else {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch))
    }
}

/// Why a certificate of version 1 is refused: it …
pub(super) const VERSION_1: &str = "is of X.509 version 1, which says neither for what nor for which names it \
                                    is valid: make one of version 3 (openssl x509 -req needs -extfile for it)";

/// Why a certificate does not do for a purpose: it …
pub(super) fn no_usage(usage: &str) -> String {
    format!(
        "has no {usage} in its extendedKeyUsage: make one with it, members need both serverAuth \
         and clientAuth"
    )
}

/// Why a certificate's signature is refused: it …
pub(super) fn weak(hash: &str) -> String {
    format!("is signed with {hash}, which can be forged: have it signed again with SHA-256")
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// The largest file; a device might never end.
const FILE_BYTES_MAX: u64 = 16 << 20;

fn read(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    let read = match read {
        Ok(len) if len as u64 > FILE_BYTES_MAX => Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => Ok(bytes),
        Err(error) => Err(error),
    };
    read.map_err(|error: io::Error| {
        let (path, reason) = (show(path), io_reason(&error));
        if is_out_of_descriptors(&error) {
            TlsFileError::NoDescriptor { path, reason }
        } else {
            TlsFileError::Read { path, reason }
        }
    })
}

pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsFileError::Broken { path: show(path), reason: error.to_string() })?;
    if certificates.is_empty() {
        return Err(TlsFileError::Nothing { path: show(path), wanted: "certificate" });
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let pem = read(path)?;
    let text = String::from_utf8_lossy(&pem);
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        let reason = "the private key is encrypted, and there is nobody to ask for its password: write it \
                      without (openssl pkey -in … -out …)";
        return Err(TlsFileError::Broken { path: show(path), reason: reason.to_owned() });
    }
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsFileError::Nothing { path: show(path), wanted: "private key" },
        error => TlsFileError::Broken { path: show(path), reason: error.to_string() },
    })
}

/// The authorities in all files; `None` without files.
pub(super) fn read_authorities(files: &[PathBuf]) -> Result<Option<RootCertStore>, TlsFileError> {
    if files.is_empty() {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    for path in files {
        for certificate in read_certificates(path)? {
            roots.add(certificate).map_err(|error| {
                let reason = match error {
                    rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
                        "a certificate in it is damaged".to_owned()
                    }
                    error => format!("a certificate in it cannot be used: {error}"),
                };
                TlsFileError::Broken { path: show(path), reason }
            })?;
        }
    }
    Ok(Some(roots))
}

/// The system's authorities. Costs milliseconds.
pub(super) fn system_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
