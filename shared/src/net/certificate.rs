//! The fields of a certificate, for error texts and for names that the TLS library does not check.
//!
//! Nothing here decides whether a certificate is trusted.

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The longest name in a log line, in characters.
const NAME_CHARS_MAX: usize = 120;

/// The fields of a certificate.
#[derive(Debug, Clone)]
pub(super) struct CertificateFields {
    /// `O=scenario, CN=alice`.
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) common_name: Option<String>,
    pub(super) has_dns_names: bool,
    pub(super) has_ip_addresses: bool,
    /// Seconds since 1970.
    pub(super) not_before: i64,
    /// Seconds since 1970.
    pub(super) not_after: i64,
    /// Whether it is valid for a server.
    pub(super) server_auth: bool,
    /// Whether it is valid for a client.
    pub(super) client_auth: bool,
    /// 1 or 3.
    pub(super) version: u32,
    /// The hash of its signature, if that is one that TLS libraries refuse.
    pub(super) weak_hash: Option<&'static str>,
}

impl CertificateFields {
    /// `None` if the bytes are not a certificate.
    pub(super) fn read(der: &[u8]) -> Option<CertificateFields> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let usage = certificate.extended_key_usage().ok().flatten().map(|extension| extension.value);
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let common_name = certificate.subject().iter_common_name().find_map(|name| name.as_str().ok());
        Some(CertificateFields {
            subject: printable(&certificate.subject().to_string()),
            issuer: printable(&certificate.issuer().to_string()),
            common_name: common_name.map(str::to_owned),
            has_dns_names: names.iter().any(|name| matches!(name, GeneralName::DNSName(_))),
            has_ip_addresses: names.iter().any(|name| matches!(name, GeneralName::IPAddress(_))),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            server_auth: usage.is_none_or(|usage| usage.server_auth),
            client_auth: usage.is_none_or(|usage| usage.client_auth),
            version: certificate.version().0.saturating_add(1),
            weak_hash: weak_hash(&certificate.signature_algorithm.algorithm.to_id_string()),
        })
    }

    /// Whether the common name is this host's. As in the original, not for IP addresses, and only if the certificate
    /// has no DNS names.
    pub(super) fn common_name_is(&self, host: &str) -> bool {
        !self.has_dns_names && self.common_name.as_deref().is_some_and(|name| matches_host(name, host))
    }
}

/// Whether a certificate is for this public key, given in the encoding of certificates.
pub(super) fn public_key_is(der: &[u8], key: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, certificate)| certificate.public_key().raw == key)
}

/// The hash of a signature algorithm, if it is refused.
fn weak_hash(oid: &str) -> Option<&'static str> {
    match oid {
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.2.840.10040.4.3" | "1.3.14.3.2.29" => Some("SHA-1"),
        "1.2.840.113549.1.1.4" => Some("MD5"),
        "1.2.840.113549.1.1.2" => Some("MD2"),
        _ => None,
    }
}

/// Whether a name, whose first label may be `*`, matches a host.
fn matches_host(pattern: &str, host: &str) -> bool {
    let labels = |name: &str| -> Vec<String> {
        name.trim_end_matches('.').split('.').map(str::to_ascii_lowercase).collect()
    };
    let (pattern, host) = (labels(pattern), labels(host));
    let pairs = pattern.iter().zip(&host).enumerate();
    pattern.len() == host.len()
        && pairs.fold(true, |same, (at, (a, b))| same && !b.is_empty() && (a == b || (at == 0 && a == "*")))
}

/// A name from a certificate, safe to print.
fn printable(name: &str) -> String {
    let mut out: String =
        name.chars().map(|c| if c.is_control() { '?' } else { c }).take(NAME_CHARS_MAX).collect();
    if out.is_empty() {
        out.push_str("(no name)");
    }
    out
}

/// `2016-01-01T00:00:00Z`.
pub(super) fn date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_match_as_the_original_matched_them() {
        for (pattern, host) in
            [("a.example", "A.example"), ("*.example", "b.example"), ("a.example.", "a.example")]
        {
            assert!(matches_host(pattern, host), "{pattern} {host}");
        }
        for (pattern, host) in
            [("*", ""), ("*.example", "a.b.example"), ("a.*", "a.b"), ("example", "a.example"), ("", "")]
        {
            assert!(!matches_host(pattern, host), "{pattern} {host}");
        }
    }

    #[test]
    fn names_cannot_break_lines() {
        assert_eq!(printable("CN=a\nb\u{1b}"), "CN=a?b?");
        assert_eq!(printable(&"x".repeat(1000)).len(), NAME_CHARS_MAX);
        assert_eq!(printable(""), "(no name)");
        assert!(CertificateFields::read(b"").is_none());
    }
}
