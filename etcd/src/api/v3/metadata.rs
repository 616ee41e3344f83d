//! What the metadata of a request ask for.

use std::sync::Arc;

use tonic::metadata::MetadataMap;

use crate::backend::v3::Caller;

/// The token that `Authenticate` answered.
const TOKEN: &str = "token";

/// The same as clients of the JSON gateway send it: bare, without a scheme.
const AUTHORIZATION: &str = "authorization";

/// `true` asks for an error while the cluster has no leader.
const HAS_LEADER: &str = "hasleader";

/// The version of the client's API.
const API_VERSION: &str = "client-api-version";

/// Reads the metadata of a request. Values that are not text count as absent.
pub(super) fn caller(metadata: &MetadataMap) -> Caller {
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    let shared = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(Arc::from);
    Caller {
        token: shared(text(TOKEN).or_else(|| text(AUTHORIZATION))),
        common_name: None,
        needs_leader: text(HAS_LEADER) == Some("true"),
        api_version: shared(text(API_VERSION)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller_of(pairs: &[(&'static str, &'static str)]) -> Caller {
        let mut metadata = MetadataMap::new();
        for (name, value) in pairs {
            metadata.insert(*name, value.parse().unwrap());
        }
        caller(&metadata)
    }

    #[test]
    fn metadata_are_read_as_clients_send_them() {
        assert_eq!(caller_of(&[]), Caller::default());
        let all = caller_of(&[("token", "t.1"), ("hasleader", "true"), ("client-api-version", "3.5")]);
        assert_eq!((all.token.as_deref(), all.needs_leader), (Some("t.1"), true));
        assert_eq!(all.api_version.as_deref(), Some("3.5"));
        assert_eq!(caller_of(&[("authorization", "a")]).token.as_deref(), Some("a"));
        assert_eq!(caller_of(&[("authorization", "a"), ("token", "t")]).token.as_deref(), Some("t"));
        assert!(!caller_of(&[("hasleader", "yes")]).needs_leader);
    }
}
