//! What a command works with.

use std::io::{IsTerminal as _, stderr};

use shared::client::SrvLookup;
use shared::client::v3::{Client, RpcError};

use super::failure::Failure;
use super::print::Printer;
use super::settings::Settings;
use super::words::Line;
use crate::output::Output;

/// A run of one command.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// The command line.
    pub(crate) line: &'a Line,
    /// The output.
    pub(crate) out: &'a mut Output,
}

/// A run that is connected, or rather will be at its first call.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    /// The client.
    pub(crate) client: Client,
    /// The settings.
    pub(crate) settings: Settings,
    /// Prints the answers.
    pub(crate) printer: Printer<'a>,
    /// The command line.
    pub(crate) line: &'a Line,
}

impl<'a> Run<'a> {
    /// Reads the settings and gets a token, if there is a user. Commands check their arguments before.
    pub(crate) async fn connect(self) -> Result<Session<'a>, Failure> {
        let mut settings = Settings::new(self.line)?;
        if let Some(endpoints) = discovered(&settings).await? {
            settings.endpoints = endpoints;
        }
        let options = settings.options(settings.endpoints.clone(), self.out)?;
        let client = Client::new(options).map_err(Failure::connection)?;
        let mut printer = Printer::new(self.out, settings.format, settings.hex);
        printer.keys_only_values = self.line.flags.is_on("print-value-only");
        let session = Session { client, settings, printer, line: self.line };
        session.limited(&session.client, session.client.authenticate()).await.map_err(Failure::connection)?;
        Ok(session)
    }
}

async fn discovered(settings: &Settings) -> Result<Option<Vec<String>>, Failure> {
    let Some((domain, name)) = &settings.discovery else { return Ok(None) };
    let suffix = if name.is_empty() { String::new() } else { format!("-{name}") };
    let lookup = SrvLookup::new().map_err(Failure::feature)?;
    let mut endpoints = Vec::new();
    let mut last = None;
    for (service, scheme) in [("_etcd-client-ssl", "https"), ("_etcd-client", "http")] {
        match lookup.records(&format!("{service}{suffix}"), domain).await {
            Ok(records) => {
                let urls =
                    records.iter().map(|record| format!("{scheme}://{}:{}", record.target, record.port));
                endpoints.extend(urls);
            }
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if endpoints.is_empty() => Err(Failure::feature(error)),
        _ => Ok(Some(endpoints)),
    }
}

impl Session<'_> {
    /// A client of one endpoint alone.
    pub(crate) fn client_of(&mut self, endpoint: &str) -> Result<Client, Failure> {
        let options = self.settings.options(vec![endpoint.to_owned()], self.printer.out)?;
        Client::new(options).map_err(Failure::connection)
    }

    /// Makes a call, within the time of a command.
    pub(crate) async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, RpcError>>,
    ) -> Result<T, RpcError> {
        self.limited(&self.client, call).await
    }

    /// As [`Session::call`], with another client.
    pub(crate) async fn limited<T>(
        &self,
        client: &Client,
        call: impl Future<Output = Result<T, RpcError>>,
    ) -> Result<T, RpcError> {
        match tokio::time::timeout(self.settings.command_timeout, call).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // Scripts compare standard error; people want to know why.
                if (self.settings.debug || stderr().is_terminal())
                    && let Some(reason) = client.unreachable()
                {
                    crate::output::note(&format!("hint: {reason}\n"));
                }
                Err(RpcError::DeadlineExceeded)
            }
        }
    }
}
