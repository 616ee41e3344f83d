//! The errors of discovery, with the original's texts.

use shared::client::{ApiFailure, ClientError};

use crate::config::{Config, Discovery};
use crate::log::{Level, LogLine};

/// Why discovery failed. Temporary failures are retried and are not errors.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The URL of the token or of the proxy is invalid.
    #[error("{0}")]
    Url(String),
    /// The token's size is not a number of at least 1.
    #[error("discovery: size key is bad")]
    BadSize,
    /// The endpoint is not an etcd.
    #[error("discovery: bad discovery endpoint")]
    BadEndpoint,
    /// As many other members as the cluster wants have registered.
    #[error("discovery: cluster is full")]
    Full,
    /// This member has registered before.
    #[error("discovery: found duplicate id")]
    DuplicateId,
    /// Two members have registered with the same name.
    #[error("discovery: found duplicate name")]
    DuplicateName,
    /// A member has registered with an invalid list of URLs.
    #[error("discovery: invalid URL")]
    InvalidUrl,
    /// The service refused a request. A missing size is `100: Key not found (/TOKEN) [INDEX]`.
    #[error("{0}")]
    Refused(#[from] ApiFailure),
    /// No request can be sent to the service.
    #[error("{0}")]
    Client(ClientError),
}

impl From<ClientError> for DiscoveryError {
    fn from(error: ClientError) -> DiscoveryError {
        match error {
            ClientError::InvalidJson => DiscoveryError::BadEndpoint,
            ClientError::Api(failure) => DiscoveryError::Refused(failure),
            ClientError::Url(text) => DiscoveryError::Url(text),
            error => DiscoveryError::Client(error),
        }
    }
}

impl DiscoveryError {
    /// The log lines before the process ends with status 1: the error, and what to do.
    pub fn lines(&self, config: &Config, discovery: &Discovery) -> Vec<LogLine> {
        let line = |level, text: String| LogLine { level, package: "etcdmain", text };
        let error = |text: String| line(Level::Error, text);
        let info = |text: String| line(Level::Info, text);
        let url = &discovery.url;
        match self {
            DiscoveryError::DuplicateId => vec![
                error(format!(
                    "member {} has previously registered with discovery service token ({url}).",
                    shared::quote::quote(&config.name)
                )),
                error(format!(
                    "But etcd could not find valid cluster configuration in the given data dir ({}).",
                    config.data_dir.display()
                )),
                info("Please check the given data dir path if the previous bootstrap succeeded".to_owned()),
                info("or use a new discovery token if the previous bootstrap failed.".to_owned()),
            ],
            DiscoveryError::DuplicateName => vec![
                error(format!(
                    "member with duplicated name has registered with discovery service token({url})."
                )),
                error("please check (cURL) the discovery token for more information.".to_owned()),
                error(
                    "please do not reuse the discovery token and generate a new one to bootstrap the cluster."
                        .to_owned(),
                ),
            ],
            _ => vec![
                error(format!("failed to join discovery cluster ({self})")),
                info(format!("discovery token {url} was used, but failed to bootstrap the cluster.")),
                info("please generate a new discovery token and try to bootstrap again.".to_owned()),
            ],
        }
    }
}
