//! Looks at the other side's certificate: as the TLS library does, and noting whose certificate is refused.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::certificate::Facts;

tokio::task_local! {
    /// Whose certificate was refused in the handshake that runs. The library's errors have no place for it.
    static REFUSED: RefCell<Option<Facts>>;
}

/// Runs a handshake; when it fails because of a certificate, also tells whose that is.
pub(super) async fn noting<T>(handshake: impl Future<Output = T>) -> (T, Option<Facts>) {
    REFUSED.scope(RefCell::default(), async { (handshake.await, REFUSED.with(RefCell::take)) }).await
}

fn note(certificate: &CertificateDer<'_>) {
    // Outside of `noting` nobody asks.
    let _ = REFUSED.try_with(|refused| *refused.borrow_mut() = Facts::read(certificate));
}

/// Checks servers.
#[derive(Debug)]
pub(super) struct CheckServer {
    pub(super) inner: Arc<WebPkiServerVerifier>,
    /// Whether a common name counts where there are no DNS names.
    pub(super) accept_common_name: bool,
}

impl CheckServer {
    /// Whether all is well but for the name, and the common name makes up for that.
    fn common_name_counts(
        &self,
        error: &Error,
        certificate: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> bool {
        // The library looks at the name last, when all else is well.
        let Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }) = error else {
            return false;
        };
        let ServerName::DnsName(host) = name else { return false };
        self.accept_common_name
            && Facts::read(certificate).is_some_and(|facts| facts.common_name_is(host.as_ref()))
    }
}

impl ServerCertVerifier for CheckServer {
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
        self.inner.supported_verify_schemes()
    }
}

/// Checks clients, all of which must show a certificate.
#[derive(Debug)]
pub(super) struct CheckClient(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for CheckClient {
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
