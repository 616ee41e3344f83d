//! Certificates and keys of a client, from PEM files to a configuration of rustls.
//!
//! Files are read when the client is made, so that a wrong one is reported even where no endpoint uses TLS.
//! The system's roots are read at the first TLS connection only: they cost milliseconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::error::io_reason;

/// Where the certificates and keys are.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The client's certificate, with the intermediate ones behind it.
    pub cert: Option<PathBuf>,
    /// The key of `cert`.
    pub key: Option<PathBuf>,
    /// The authorities that servers are checked with; the system's when absent.
    pub ca: Option<PathBuf>,
}

/// What is wrong with which file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
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
    /// The file holds nothing of the kind that is needed.
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
    /// Key and certificate are of two different pairs.
    #[error("{key}: this is not the key of the certificate in {cert}")]
    OtherKey {
        /// The key's file.
        key: String,
        /// The certificate's file.
        cert: String,
    },
}

/// All that a TLS connection needs.
#[derive(Debug)]
pub(super) struct Tls {
    provider: Arc<CryptoProvider>,
    identity: Option<Arc<CertifiedKey>>,
    /// `None`: the system's.
    roots: Option<RootCertStore>,
    config: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Tls {
    /// Reads the files.
    pub(super) fn load(files: &TlsFiles) -> Result<Tls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let identity = match (&files.cert, &files.key) {
            (Some(cert), Some(key)) => Some(Arc::new(read_identity(cert, key, &provider)?)),
            (None, None) => None,
            (cert, key) => {
                let name = |path: &Option<PathBuf>| path.as_deref().map(show).unwrap_or_default();
                return Err(TlsError::HalfPair { key: name(key), cert: name(cert) });
            }
        };
        let roots = files.ca.as_deref().map(read_roots).transpose()?;
        Ok(Tls { provider, identity, roots, config: OnceLock::new() })
    }

    /// The configuration for connections. The first call may read the system's roots.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, String> {
        self.config.get_or_init(|| self.build()).clone()
    }

    fn build(&self) -> Result<Arc<ClientConfig>, String> {
        let roots = match &self.roots {
            Some(roots) => roots.clone(),
            None => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                roots
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let config = match &self.identity {
            Some(identity) => {
                let resolver = SingleCertAndKey::from(Arc::clone(identity));
                builder.with_client_cert_resolver(Arc::new(resolver) as Arc<dyn ResolvesClientCert>)
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read { path: show(path), reason: io_reason(&error) })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Broken { path: show(path), reason: error.to_string() })?;
    if certificates.is_empty() {
        return Err(TlsError::Nothing { path: show(path), wanted: "certificate" });
    }
    Ok(certificates)
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::Broken { path: show(path), reason: describe(&error) })?;
    }
    Ok(roots)
}

fn read_identity(cert: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let certificates = read_certificates(cert)?;
    let der = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => {
            TlsError::Nothing { path: show(key), wanted: "private key (an encrypted one cannot be used)" }
        }
        error => TlsError::Broken { path: show(key), reason: error.to_string() },
    })?;
    CertifiedKey::from_der(certificates, der, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::OtherKey { key: show(key), cert: show(cert) },
        rustls::Error::InvalidCertificate(_) => {
            TlsError::Broken { path: show(cert), reason: describe(&error) }
        }
        error => TlsError::Broken { path: show(key), reason: error.to_string() },
    })
}

/// What went wrong between two sides of a TLS connection, and what to look at.
pub(super) fn describe(error: &rustls::Error) -> String {
    let reason = match error {
        rustls::Error::InvalidCertificate(reason) => reason,
        rustls::Error::AlertReceived(alert) => return format!("remote error: tls: {}", alert_words(*alert)),
        error => return format!("tls: {error}"),
    };
    let words = match reason {
        CertificateError::UnknownIssuer => {
            "certificate signed by unknown authority (see --ca-file)".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid: it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid: it is not yet valid".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => format!(
            "certificate is not valid for {}: it has no subjectAltName, and a common name alone does not count",
            expected.to_str()
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare_name(name)).collect();
            format!("certificate is valid for {}, not {}", names.join(", "), expected.to_str())
        }
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "certificate is an authority's own (CA:TRUE): a server needs one that the authority has signed"
                .to_owned()
        }
        other => format!("certificate cannot be used: {other}"),
    };
    format!("x509: {words}")
}

/// `DnsName("example.com")` → `example.com`.
fn bare_name(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inside.trim_matches('"')
}

/// `BadCertificate` → `bad certificate`.
fn alert_words(alert: rustls::AlertDescription) -> String {
    if alert == rustls::AlertDescription::UnknownCA {
        return "unknown certificate authority".to_owned();
    }
    let mut out = String::new();
    for c in format!("{alert:?}").chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Files {
        _dir: tempfile::TempDir,
        cert: PathBuf,
        key: PathBuf,
        other_key: PathBuf,
        text: PathBuf,
    }

    fn files() -> Files {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
            fs::write(&path, text).unwrap();
            path
        };
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Files {
            cert: write("cert.pem", &pair.cert.pem()),
            key: write("key.pem", &pair.signing_key.serialize_pem()),
            other_key: write("other.pem", &other.signing_key.serialize_pem()),
            text: write("notes.txt", "no PEM here"),
            _dir: dir,
        }
    }

    fn refusal(cert: Option<&PathBuf>, key: Option<&PathBuf>, ca: Option<&PathBuf>) -> String {
        let files = TlsFiles { cert: cert.cloned(), key: key.cloned(), ca: ca.cloned() };
        Tls::load(&files).unwrap_err().to_string()
    }

    #[test]
    fn a_pair_and_an_authority_make_a_configuration() {
        let f = files();
        let tls = Tls::load(&TlsFiles {
            cert: Some(f.cert.clone()),
            key: Some(f.key.clone()),
            ca: Some(f.cert.clone()),
        })
        .unwrap();
        assert!(tls.config().is_ok());
        assert!(Tls::load(&TlsFiles::default()).is_ok());
    }

    #[test]
    fn an_error_names_the_file_and_the_fault() {
        let f = files();
        let missing = PathBuf::from("/nonexistent/ca.pem");
        assert_eq!(
            refusal(None, None, Some(&missing)),
            "open /nonexistent/ca.pem: no such file or directory"
        );
        assert_eq!(
            refusal(Some(&f.cert), None, None),
            format!("KeyFile and CertFile must both be present[key: , cert: {}]", f.cert.display())
        );
        let expect = |text: String, path: &PathBuf, words: &str| {
            assert!(text.starts_with(&path.display().to_string()) && text.contains(words), "{text}");
        };
        expect(refusal(Some(&f.cert), Some(&f.other_key), None), &f.other_key, "not the key of");
        expect(refusal(Some(&f.text), Some(&f.key), None), &f.text, "no certificate in it");
        expect(refusal(Some(&f.cert), Some(&f.cert), None), &f.cert, "no private key");
        expect(refusal(None, None, Some(&f.text)), &f.text, "no certificate in it");
    }

    #[test]
    fn alerts_are_words_and_names_are_bare() {
        assert_eq!(bare_name("DnsName(\"a.example\")"), "a.example");
        assert_eq!(bare_name("IpAddress(127.0.0.9)"), "127.0.0.9");
        assert_eq!(alert_words(rustls::AlertDescription::UnknownCA), "unknown certificate authority");
        assert_eq!(alert_words(rustls::AlertDescription::CertificateRequired), "certificate required");
    }
}
