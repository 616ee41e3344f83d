//! What a discovery service refuses, in the words of the original.

use shared::client::{ApiFailure, ClientError};

use crate::config::{Config, Discovery};
use crate::log::{Level, LogLine};

/// Why discovery does not lead to a cluster. What passes by itself is none of these: it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The URL of the token, or of the proxy, is none.
    #[error("{0}")]
    Url(String),
    /// The token's size is not a number from 1 on.
    #[error("discovery: size key is bad")]
    BadSize,
    /// Something else than an etcd answers.
    #[error("discovery: bad discovery endpoint")]
    BadEndpoint,
    /// As many members as wanted have registered before.
    #[error("discovery: cluster is full")]
    Full,
    /// This member has registered in an earlier life.
    #[error("discovery: found duplicate id")]
    DuplicateId,
    /// Two members registered with one name.
    #[error("discovery: found duplicate name")]
    DuplicateName,
    /// A member registered with something that is no list of URLs.
    #[error("discovery: invalid URL")]
    InvalidUrl,
    /// The service says no. A missing size is `100: Key not found (/TOKEN) [INDEX]`.
    #[error("{0}")]
    Refused(#[from] ApiFailure),
    /// The service cannot be asked at all.
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
    /// What the log says before the process ends with status 1, and what to do.
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
