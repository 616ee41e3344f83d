//! Verifies the other side's certificate with the TLS library, and records a refused certificate.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::CertificateFields;

/// What is recorded of a handshake. The library's calls and errors cannot carry it.
#[derive(Debug, Default)]
struct HandshakeRecord {
    /// Set when this side begins to speak TLS.
    begun: Arc<AtomicBool>,
    /// The certificate that was refused.
    refused: RefCell<Option<CertificateFields>>,
}

tokio::task_local! {
    /// The record of the running handshake.
    static HANDSHAKE: HandshakeRecord;
}

/// Runs a handshake; also returns the certificate that was refused, if any.
pub(super) async fn recording<T>(handshake: impl Future<Output = T>) -> (T, Option<CertificateFields>) {
    recording_from(Arc::default(), handshake).await
}

/// As [`recording`], for a future that connects first; sets `begun` when the handshake begins.
pub(super) async fn recording_from<T>(
    begun: Arc<AtomicBool>,
    handshake: impl Future<Output = T>,
) -> (T, Option<CertificateFields>) {
    let record = HandshakeRecord { begun, refused: RefCell::default() };
    HANDSHAKE.scope(record, async { (handshake.await, HANDSHAKE.with(|record| record.refused.take())) }).await
}

fn note(certificate: &CertificateDer<'_>) {
    // Outside of `recording` there is no record.
    let _ = HANDSHAKE.try_with(|record| *record.refused.borrow_mut() = CertificateFields::read(certificate));
}

/// Verifies servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) inner: Arc<dyn ServerCertVerifier>,
    /// Whether a common name counts if there are no DNS names.
    pub(super) accept_common_name: bool,
}

impl ServerVerifier {
    /// Whether the certificate is valid except for its DNS names, and the common name matches.
    fn common_name_counts(
        &self,
        error: &Error,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> bool {
        // The library checks the name last.
        let Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) = error else {
            return false;
        };
        let ServerName::DnsName(host) = name else { return false };
        self.accept_common_name
            && CertificateFields::read(certificate).is_some_and(|fields| fields.common_name_is(host.as_ref()))
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).or_else(
            |error| {
                if self.common_name_counts(&error, end_entity, server_name) {
                    return Ok(ServerCertVerified::assertion());
                }
                note(end_entity);
                Err(error)
            },
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // The library calls this for the first message of the handshake.
        let _ = HANDSHAKE.try_with(|record| record.begun.store(true, Ordering::Relaxed));
        self.inner.supported_verify_schemes()
    }
}

/// A verifier without authorities: it refuses every certificate.
#[derive(Debug)]
pub(super) struct RejectAllVerifier(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for RejectAllVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Err(CertificateError::UnknownIssuer.into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A verifier that accepts every certificate, for users who say so; who sends it must have its key.
#[derive(Debug)]
pub(super) struct AcceptAllVerifier(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAllVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Verifies clients, all of which must have a certificate.
#[derive(Debug)]
pub(super) struct ClientVerifier(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.verify_client_cert(end_entity, intermediates, now).inspect_err(|_| note(end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
