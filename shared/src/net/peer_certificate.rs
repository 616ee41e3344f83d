//! Reads certificates for tools that report on them. Nothing here decides whether they are trusted.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::certificate::{CertificateFields, date};
use super::dial::{DialError, Target, connect_tcp};
use super::explain::TlsFailure;
use super::files::{TlsFileError, read_certificates};

/// The fields of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its subject: `O=scenario, CN=alice`.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// The start of its validity, in seconds since 1970.
    pub not_before: i64,
    /// The end of its validity, in seconds since 1970.
    pub not_after: i64,
}

impl PeerCertificate {
    fn of(fields: CertificateFields) -> PeerCertificate {
        let CertificateFields { subject, issuer, not_before, not_after, .. } = fields;
        PeerCertificate { subject, issuer, not_before, not_after }
    }

    /// `not_after` as a date: `2016-01-01T00:00:00Z`.
    #[must_use]
    pub fn ends(&self) -> String {
        date(self.not_after)
    }
}

/// The certificates in a PEM file.
///
/// # Errors
/// When the file cannot be read, or there is none in it.
pub fn certificates_in(path: &Path) -> Result<Vec<PeerCertificate>, TlsFileError> {
    let certificates = read_certificates(path)?;
    Ok(certificates.iter().filter_map(|der| CertificateFields::read(der)).map(PeerCertificate::of).collect())
}

/// The certificate that a server sends, without verifying it. Closes the connection without sending a request. Takes
/// twice `time_max` at most.
///
/// # Errors
/// If there is no connection, or the other side does not speak TLS.
pub async fn peer_certificate(target: &Target, time_max: Duration) -> Result<PeerCertificate, DialError> {
    let socket = connect_tcp(target, time_max).await?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let seen = Arc::new(RecordingVerifier { provider: provider.clone(), seen: Mutex::default() });
    let tls = |reason: String| DialError::Tls(TlsFailure::other(format!("tls: {reason}")));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| tls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let name =
        ServerName::try_from(target.host_or_own().to_owned()).map_err(|error| tls(error.to_string()))?;
    let handshake = timeout(time_max, TlsConnector::from(Arc::new(config)).connect(name, socket)).await;
    // If a client certificate is required the handshake fails, but only after the server has sent its own.
    let shown = seen.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    match (shown, handshake) {
        (Some(shown), _) => Ok(shown),
        (None, Ok(Err(error))) => Err(tls(error.to_string())),
        (None, _) => Err(tls("no certificate was shown".to_owned())),
    }
}

/// A verifier that records a server's certificate and accepts it, for connections without requests.
#[derive(Debug)]
struct RecordingVerifier {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Option<PeerCertificate>>,
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *seen = CertificateFields::read(end_entity).map(PeerCertificate::of);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
