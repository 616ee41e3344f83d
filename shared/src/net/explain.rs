//! Explains TLS errors: the cause, and what to do.

use rustls::{AlertDescription, CertificateError, ExtendedKeyPurpose, OtherError};
use webpki::Error as ChainError;

use super::certificate::{CertificateFields, date};
use super::files::{Identity, Role, VERSION_1, no_usage, weak};

/// A failure of TLS: its cause, as far as a program can act on it, and the text for people.
///
/// With TLS 1.3 a server refuses a certificate only after the handshake, so reads and writes of a
/// [`Stream`](super::Stream) may fail with it, too: it is the source of their [`std::io::Error`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct TlsFailure {
    cause: TlsCause,
    text: String,
}

/// The cause of a TLS failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsCause {
    /// The other side does not speak TLS.
    NotTls,
    /// No trusted authority has signed the other side's certificate.
    UnknownAuthority,
    /// The server requires a certificate, and none is configured on this side.
    CertificateWanted,
    /// Anything else.
    Other,
}

impl TlsFailure {
    pub(super) fn other(text: impl Into<String>) -> TlsFailure {
        TlsFailure { cause: TlsCause::Other, text: text.into() }
    }

    /// Its cause.
    #[must_use]
    pub fn cause(&self) -> TlsCause {
        self.cause
    }
}

/// What this side of a connection knows for its error texts.
#[derive(Debug)]
pub(super) struct LocalSide {
    pub(super) role: Role,
    /// Whether this side dialled.
    pub(super) dialled: bool,
    /// The own certificate.
    pub(super) own: Option<Identity>,
}

impl LocalSide {
    /// Explains an error: in the words of Go, with advice. `other` is the other side's certificate, if it was
    /// refused.
    pub(super) fn explain(&self, error: &rustls::Error, other: Option<&CertificateFields>) -> TlsFailure {
        TlsFailure { cause: self.cause(error), text: self.text(error, other) }
    }

    fn cause(&self, error: &rustls::Error) -> TlsCause {
        match error {
            rustls::Error::InvalidMessage(_) => TlsCause::NotTls,
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => TlsCause::UnknownAuthority,
            rustls::Error::AlertReceived(alert) if self.lacks_certificate(*alert) => {
                TlsCause::CertificateWanted
            }
            _ => TlsCause::Other,
        }
    }

    /// Whether an alert may mean that the server requires a certificate, and this side could have one but has none.
    fn lacks_certificate(&self, alert: AlertDescription) -> bool {
        let may_be = matches!(
            alert,
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::HandshakeFailure
        );
        may_be && self.dialled && self.own.is_none() && self.role != Role::Outside
    }

    fn text(&self, error: &rustls::Error, other: Option<&CertificateFields>) -> String {
        match error {
            rustls::Error::InvalidCertificate(reason) => format!("x509: {}", self.refused(reason, other)),
            rustls::Error::AlertReceived(alert) => {
                format!("remote error: tls: {}{}", alert_words(*alert), self.hint(*alert))
            }
            rustls::Error::NoCertificatesPresented => format!(
                "tls: client didn't provide a certificate (it needs one that is signed by an authority in {})",
                self.role.ca_flag()
            ),
            rustls::Error::InvalidMessage(_) if self.dialled => {
                "tls: first record does not look like a TLS handshake (does the other side speak plain http?)"
                    .to_owned()
            }
            rustls::Error::InvalidMessage(_) => {
                "tls: first record does not look like a TLS handshake".to_owned()
            }
            rustls::Error::PeerIncompatible(reason) => format!(
                "tls: nothing in common with the other side ({reason:?}): it must speak TLS 1.2 or 1.3, with ECDHE \
                 and an AEAD cipher"
            ),
            error => format!("tls: {error}"),
        }
    }

    /// Why this side refused the other's certificate.
    fn refused(&self, reason: &CertificateError, other: Option<&CertificateFields>) -> String {
        let whose = match other {
            Some(fields) => format!("the certificate {}", fields.subject),
            None => "the other side's certificate".to_owned(),
        };
        match reason {
            CertificateError::UnknownIssuer => match other {
                Some(fields) => format!(
                    "certificate signed by unknown authority ({whose} is signed by {}; see {})",
                    fields.issuer,
                    self.role.ca_flag()
                ),
                None => format!("certificate signed by unknown authority (see {})", self.role.ca_flag()),
            },
            CertificateError::Expired => {
                format!("certificate has expired or is not yet valid: {whose} has expired")
            }
            CertificateError::ExpiredContext { not_after, .. } => format!(
                "certificate has expired or is not yet valid: {whose} expired on {}",
                date(i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX))
            ),
            CertificateError::NotValidYet => {
                format!("certificate has expired or is not yet valid: {whose} is not yet valid")
            }
            CertificateError::NotValidYetContext { not_before, .. } => format!(
                "certificate has expired or is not yet valid: {whose} is not valid until {}",
                date(i64::try_from(not_before.as_secs()).unwrap_or(i64::MAX))
            ),
            CertificateError::NotValidForNameContext { expected, presented } => {
                self.other_name(&expected.to_str(), presented, other)
            }
            CertificateError::InvalidPurposeContext { required, .. } => {
                let usage = match required {
                    ExtendedKeyPurpose::ClientAuth => "clientAuth",
                    _ => "serverAuth",
                };
                format!("certificate specifies an incompatible key usage: {whose} {}", no_usage(usage))
            }
            CertificateError::UnsupportedSignatureAlgorithmContext { signature_algorithm_id, .. } => {
                let hash =
                    other.and_then(|fields| fields.weak_hash).or_else(|| weak_hash(signature_algorithm_id));
                match hash {
                    Some(hash) => format!("cannot verify signature: {whose} {}", weak(hash)),
                    None => format!(
                        "cannot verify signature: {whose} or one above it is signed by an algorithm that is not \
                         known here: use RSA, ECDSA or Ed25519 with SHA-256 or better"
                    ),
                }
            }
            CertificateError::BadSignature => format!(
                "cannot verify signature: {whose} is not signed by who it says, or by an RSA key of less than 2048 \
                 bits"
            ),
            reason => match chain_error(reason) {
                Some(ChainError::UnsupportedCertVersion) => {
                    format!("certificate cannot be used: {whose} {VERSION_1}")
                }
                Some(ChainError::CaUsedAsEndEntity) => format!(
                    "certificate cannot be used: {whose} is an authority's own (CA:TRUE): use one that the \
                     authority has signed"
                ),
                Some(ChainError::EndEntityUsedAsCa) => format!(
                    "certificate cannot be used: {whose} is signed by one that is no authority's (not CA:TRUE)"
                ),
                _ => format!("certificate cannot be used: {whose}: {reason}"),
            },
        }
    }

    /// Why a certificate is not valid for the dialled host.
    fn other_name(&self, host: &str, presented: &[String], other: Option<&CertificateFields>) -> String {
        let is_ip = host.parse::<std::net::IpAddr>().is_ok();
        let names: Vec<&str> = presented.iter().map(|name| bare_name(name)).collect();
        let names = names.join(", ");
        match other {
            Some(fields) if is_ip && !fields.has_ip_addresses => {
                let mut text =
                    format!("cannot validate certificate for {host} because it doesn't contain any IP SANs");
                if !names.is_empty() {
                    text.push_str(&format!(" (it is valid for {names})"));
                }
                text + ": make one whose subjectAltName has this address"
            }
            Some(fields)
                if fields.common_name_is(host) && !matches!(self.role, Role::Outside | Role::V3Tool) =>
            {
                format!(
                    "certificate is not valid for {host}: it has no subjectAltName, and its common name alone does not \
                 count: make one with subjectAltName, or see {}",
                    self.role.common_name_flag()
                )
            }
            _ if names.is_empty() => format!(
                "certificate is not valid for {host}: it has no subjectAltName: make one with this name in it"
            ),
            _ => format!("certificate is valid for {names}, not {host}"),
        }
    }

    /// The likely reason for an alert from the other side.
    fn hint(&self, alert: AlertDescription) -> String {
        match alert {
            AlertDescription::ProtocolVersion => " (TLS 1.2 and 1.3 are spoken here)".to_owned(),
            alert if self.lacks_certificate(alert) => {
                let (cert, key) = (self.role.cert_flag(), self.role.key_flag());
                format!(" (the server may ask for a certificate: set {cert} and {key})")
            }
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::UnknownCA => {
                self.own.as_ref().map_or_else(String::new, |own| self.likely_refusal_reason(own, alert))
            }
            _ => String::new(),
        }
    }

    /// Why the other side may have refused the own certificate.
    fn likely_refusal_reason(&self, own: &Identity, alert: AlertDescription) -> String {
        let faults = own.faults(!self.dialled, self.dialled);
        if !faults.is_empty() {
            return format!(" ({})", faults.join("; "));
        }
        let path = own.path.display();
        if alert == AlertDescription::UnknownCA {
            format!(" (the other side does not know {}, the authority that signed {path})", own.fields.issuer)
        } else {
            format!(" (the other side refuses {path})")
        }
    }
}

/// The error of the library that checks certificate chains, if the TLS library has no variant of its own for it.
/// Always `None` if the versions of the two libraries do not belong together.
fn chain_error(error: &CertificateError) -> Option<&ChainError> {
    match error {
        CertificateError::Other(OtherError(inner)) => inner.downcast_ref(),
        _ => None,
    }
}

/// `DnsName("example.com")` → `example.com`.
fn bare_name(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inside.trim_matches('"')
}

/// The hash of an algorithm's identifier (DER), if it is refused.
fn weak_hash(identifier: &[u8]) -> Option<&'static str> {
    const SHA1_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5];
    const SHA1_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
    const MD5_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4];
    let is = |oid: &[u8]| identifier.windows(oid.len()).any(|window| window == oid);
    if is(SHA1_RSA) || is(SHA1_ECDSA) {
        Some("SHA-1")
    } else if is(MD5_RSA) {
        Some("MD5")
    } else {
        None
    }
}

/// `BadCertificate` → `bad certificate`.
fn alert_words(alert: AlertDescription) -> String {
    if alert == AlertDescription::UnknownCA {
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
    use std::sync::Arc;

    use super::*;

    #[test]
    fn alerts_are_words_and_names_are_bare() {
        assert_eq!(bare_name("DnsName(\"a.example\")"), "a.example");
        assert_eq!(bare_name("IpAddress(127.0.0.9)"), "127.0.0.9");
        assert_eq!(alert_words(AlertDescription::UnknownCA), "unknown certificate authority");
        assert_eq!(alert_words(AlertDescription::CertificateRequired), "certificate required");
    }

    #[test]
    fn who_has_nothing_to_show_is_told_what_to_set() {
        let side = LocalSide { role: Role::Tool, dialled: true, own: None };
        let text = side.explain(&rustls::Error::AlertReceived(AlertDescription::CertificateRequired), None);
        assert_eq!(
            text.to_string(),
            "remote error: tls: certificate required (the server may ask for a certificate: set --cert-file and \
             --key-file)"
        );
        assert_eq!(text.cause(), TlsCause::CertificateWanted);
        let text = side.explain(&rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer), None);
        assert_eq!(text.to_string(), "x509: certificate signed by unknown authority (see --ca-file)");
        assert_eq!(text.cause(), TlsCause::UnknownAuthority);
    }

    #[test]
    fn what_a_chain_is_refused_for_has_a_text_of_its_own() {
        let side = LocalSide { role: Role::Tool, dialled: true, own: None };
        let refusal = |reason: ChainError| {
            let reason = CertificateError::Other(OtherError(Arc::new(reason)));
            side.explain(&rustls::Error::InvalidCertificate(reason), None)
        };
        let start = "x509: certificate cannot be used: the other side's certificate";
        for (reason, rest) in [
            (ChainError::UnsupportedCertVersion, " is of X.509 version 1"),
            (
                ChainError::CaUsedAsEndEntity,
                " is an authority's own (CA:TRUE): use one that the authority has signed",
            ),
            (ChainError::EndEntityUsedAsCa, " is signed by one that is no authority's (not CA:TRUE)"),
            (ChainError::BadDer, ": "),
        ] {
            let refusal = refusal(reason);
            assert!(refusal.to_string().starts_with(&format!("{start}{rest}")), "{refusal}");
            assert_eq!(refusal.cause(), TlsCause::Other);
        }
    }
}
