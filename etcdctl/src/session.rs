//! A session with a cluster: from settings to a client that knows the members.

use std::future::Future;
use std::time::Duration;

use shared::client::{Client, ClientError, Credentials, Options, discover};

use crate::error::CliError;
use crate::output::{self, Output};
use crate::password;
use crate::settings::Settings;

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    /// The settings of the run.
    pub(crate) settings: &'a Settings,
    /// The output of the run.
    pub(crate) out: &'a mut Output,
    /// Whether the given endpoints have answered as a cluster does.
    pub(crate) endpoints_answered: bool,
    /// Whether the members published URLs of a scheme that none of the given endpoints has.
    pub(crate) scheme_differs: bool,
}

impl Session<'_> {
    /// A client whose endpoints are the URLs that the members publish now.
    pub(crate) async fn connect(&mut self) -> Result<Client, CliError> {
        let client = self.client().await?;
        if self.settings.sync {
            self.debug(|| format!("start to sync cluster using endpoints({})", client.endpoints().join(",")));
            self.sync(&client).await?;
            self.endpoints_answered = true;
            self.scheme_differs = self.published_scheme_differs(&client);
            self.debug(|| format!("got endpoints({}) after sync", client.endpoints().join(",")));
        }
        self.show_endpoints(&client);
        Ok(client)
    }

    fn published_scheme_differs(&self, client: &Client) -> bool {
        let is_tls = |url: &String| url.starts_with("https:");
        let given = |tls: bool| self.settings.endpoints.iter().any(|url| is_tls(url) == tls);
        client.endpoints().iter().any(|url| !given(is_tls(url)))
    }

    /// A client of the given endpoints.
    pub(crate) async fn connect_unsynced(&mut self) -> Result<Client, CliError> {
        let client = self.client().await?;
        self.show_endpoints(&client);
        Ok(client)
    }

    /// Prints the endpoints, if requests are printed.
    pub(crate) fn show_endpoints(&self, client: &Client) {
        self.debug(|| format!("Cluster-Endpoints: {}", client.endpoints().join(", ")));
    }

    /// Limits a call to the time of a whole command.
    pub(crate) async fn limit<T>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        within(self.settings.total_timeout, call).await
    }

    /// A client of the given endpoints whose requests to single members have no time limit.
    pub(crate) async fn patient_client(&mut self) -> Result<Client, CliError> {
        let client = self.client_with(None).await?;
        self.show_endpoints(&client);
        Ok(client)
    }

    async fn client(&mut self) -> Result<Client, CliError> {
        self.client_with(self.settings.timeout).await
    }

    async fn client_with(&mut self, header_timeout: Option<Duration>) -> Result<Client, CliError> {
        let mut endpoints = Vec::new();
        if let Some(domain) = &self.settings.discovery {
            endpoints = self.limit(discover(domain)).await.map_err(CliError::failed)?;
        }
        if endpoints.is_empty() {
            endpoints.clone_from(&self.settings.endpoints);
        }
        let options = Options {
            endpoints,
            tls: self.settings.tls.clone(),
            header_timeout,
            dial_timeout: Some(self.settings.total_timeout).filter(|limit| !limit.is_zero()),
            credentials: self.credentials()?,
            trace: self.settings.debug.then(|| {
                Box::new(|curl: &str| output::note(&format!("cURL Command: {curl}\n")))
                    as shared::client::Trace
            }),
            ..Options::default()
        };
        Client::new(options).map_err(CliError::failed)
    }

    fn credentials(&mut self) -> Result<Option<Credentials>, CliError> {
        let Some(username) = &self.settings.username else { return Ok(None) };
        let (user, password) = password::split_or_ask(username, "Password: ", self.out)?;
        Ok(Some(Credentials { user, password }))
    }

    /// Replaces the endpoints with those that the cluster publishes.
    async fn sync(&self, client: &Client) -> Result<(), CliError> {
        let error = match self.limit(client.sync()).await {
            Ok(()) => return Ok(()),
            Err(error @ ClientError::NoEndpoints) => {
                return Err(CliError::Unpublished { endpoints: client.endpoints(), error });
            }
            Err(error) if error.is_connection() => return Err(CliError::Unreachable(error)),
            Err(error) => error,
        };
        // The answer is not a list of members: a cluster of etcd 0.4 has another list.
        let asked = async { client.legacy_endpoints().await.map_err(|other| other.unwrap_or(error)) };
        match self.limit(asked).await {
            Ok(endpoints) => client.set_endpoints(&endpoints).map_err(CliError::Server),
            Err(error) if error.is_connection() => Err(CliError::Unreachable(error)),
            Err(error) => Err(CliError::Server(error)),
        }
    }

    fn debug(&self, line: impl FnOnce() -> String) {
        if self.settings.debug {
            output::note(&format!("{}\n", line()));
        }
    }
}

/// Limits the time of a call.
pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(ClientError::DeadlineExceeded))
}
