//! Where the members of a cluster listen.

use crate::net::Target;
use crate::url::{Scheme, Url};

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// There are no endpoints.
    #[error("etcdclient: no available endpoints")]
    Empty,
    /// This one is not valid.
    #[error("endpoint {text:?} is not valid: {reason}")]
    Invalid {
        /// The endpoint.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads an endpoint. One without a scheme uses TLS if `tls_by_default`.
pub(super) fn target(text: &str, tls_by_default: bool) -> Result<Target, EndpointError> {
    let invalid = |reason: String| EndpointError::Invalid { text: text.to_owned(), reason };
    let trimmed = text.trim();
    let with_scheme = match trimmed.contains("://") {
        true => trimmed.to_owned(),
        false if tls_by_default => format!("https://{trimmed}"),
        false => format!("http://{trimmed}"),
    };
    let url: Url = with_scheme.parse().map_err(|error: crate::url::UrlError| invalid(error.to_string()))?;
    if !matches!(url.scheme(), Scheme::Http | Scheme::Https) {
        return Err(invalid("its scheme must be http or https".to_owned()));
    }
    Target::of(&url).map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_may_be_missing() {
        for (text, by_default, tls, authority) in [
            ("127.0.0.1:2379", false, false, "127.0.0.1:2379"),
            ("127.0.0.1:2379", true, true, "127.0.0.1:2379"),
            ("http://a:1", true, false, "a:1"),
            ("https://[::1]:2", false, true, "[::1]:2"),
            (" b:3 ", false, false, "b:3"),
        ] {
            let target = target(text, by_default).unwrap();
            assert_eq!((target.tls, target.authority().as_str()), (tls, authority), "{text}");
        }
        for text in ["ftp://a:1", "http://a:99999", "", "a b"] {
            assert!(target(text, false).is_err(), "{text:?}");
        }
    }
}
