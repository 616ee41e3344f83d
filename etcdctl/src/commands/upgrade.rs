//! `upgrade`: tells a running cluster of etcd 0.4 to change over to 2.x together.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use shared::client::{Client, ClientError, Options, RequestError, Trace};
use shared::net::{ClientTlsFiles, Role};
use tokio::time::{sleep, timeout};

use super::{fail_with_line, until_interrupted};
use crate::error::CliError;
use crate::output;
use crate::session::Session;

/// The time limit: longer than a leader of 0.4 waits for all members to find a program of 2.x, which is 50 times 5 s.
const ANSWER_MAX: Duration = Duration::from_secs(300);

/// After this time the reason for the missing answer is printed.
const PATIENCE: Duration = Duration::from_secs(8);

/// Tell a running cluster of etcd 0.4 to change over to 2.x
///
/// Asks one member (0.4.7 or 0.4.8) to write down, for all, that the next start is one of 2.x. The members stop 10
/// seconds later. Start each again as a 2.x server: it takes over the data of the old one, and a standby becomes a
/// proxy. Nothing is written until each member has told, by itself, that it finds a program of 2.x in its
/// ETCD_BINARY_DIR; that may take some minutes.
#[derive(Debug, clap::Args)]
#[command(override_usage = "etcdctl upgrade [--peer-url <URL>] [OPTIONS]")]
pub(crate) struct Upgrade {
    /// The protocol that the members speak now; 1 is that of etcd 0.4, and there is no other choice
    #[arg(long, value_name = "VERSION", default_value = "1")]
    old_version: String,
    /// The protocol that they are to speak; 2 is that of etcd 2.x, and there is no other choice
    #[arg(long, value_name = "VERSION", default_value = "2")]
    new_version: String,
    /// The peer URL of any member
    #[arg(long, value_name = "URL", default_value = "http://localhost:7001")]
    peer_url: String,
    /// Certificate (PEM) to show to the member; without it, the global --cert-file
    #[arg(long, value_name = "FILE")]
    peer_cert_file: Option<OsString>,
    /// Private key (PEM) of --peer-cert-file
    #[arg(long, value_name = "FILE")]
    peer_key_file: Option<OsString>,
    /// Authorities (PEM) to check the member with; without it, the global --ca-file
    #[arg(long, value_name = "FILE")]
    peer_ca_file: Option<OsString>,
    #[arg(hide = true)]
    ignored: Vec<OsString>,
}

impl Upgrade {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        for (wanted, known, which) in [(&self.old_version, "1", "from"), (&self.new_version, "2", "to")] {
            if wanted != known {
                return fail_with_line(
                    session.out,
                    &format!("Do not support upgrade {which} version {wanted}"),
                );
            }
        }
        let client = Client::new(Options {
            endpoints: vec![self.peer_url.clone()],
            tls: self.tls_files(&session.settings.tls),
            trace: session
                .settings
                .debug
                .then(|| Box::new(|curl: &str| output::note(&format!("cURL Command: {curl}\n"))) as Trace),
            ..Options::default()
        })
        .map_err(CliError::failed)?;
        let mut answer = None;
        until_interrupted(async {
            answer = Some(ask(&client, &self.peer_url).await);
            Ok(())
        })
        .await?;
        // The spelling of the last but one text is the original's.
        match answer {
            None => Ok(()),
            Some(Ok(200)) => {
                session.out.line("Cluster will start upgrading from internal version 1 to 2 in 10 seconds.")
            }
            Some(Ok(404)) => fail_with_line(session.out, "Cluster cannot upgrade to 2: version is not 0.4.7"),
            Some(Ok(_)) => {
                session.out.line(&format!("Faild upgrade cluster via {}", self.peer_url))?;
                fail_with_line(session.out, "run etcdctl cluster-health to check")
            }
            Some(Err(error)) => {
                let text = format!("Failed to send upgrade request to {}: {error}", self.peer_url);
                fail_with_line(session.out, &text)
            }
        }
    }

    /// The certificates for members; without them, those for clients.
    fn tls_files(&self, global: &ClientTlsFiles) -> ClientTlsFiles {
        let file = |flag: &Option<OsString>| flag.clone().filter(|name| !name.is_empty()).map(PathBuf::from);
        let (cert, key) = match (file(&self.peer_cert_file), file(&self.peer_key_file)) {
            (None, None) => (global.cert.clone(), global.key.clone()),
            pair => pair,
        };
        let ca = match file(&self.peer_ca_file) {
            Some(ca) => vec![ca],
            None => global.ca.clone(),
        };
        ClientTlsFiles { cert, key, ca, accept_common_name: global.accept_common_name, role: Role::Tool }
    }
}

/// Sends the request, and prints a note if the answer takes long.
async fn ask(client: &Client, peer_url: &str) -> Result<u16, ClientError> {
    let answer = async {
        match timeout(ANSWER_MAX, client.request_next_internal_version(peer_url)).await {
            Ok(answer) => answer,
            Err(_) => Err(RequestError::HeaderTimeout { endpoint: peer_url.to_owned() }.into()),
        }
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => return answer,
        () = sleep(PATIENCE) => {}
    }
    output::note(
        "the cluster has taken the request and waits: for a leader, or for members that have not found a program of \
         2.x in their ETCD_BINARY_DIR yet\n",
    );
    answer.await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade(cert: &str, ca: &str) -> Upgrade {
        let file = |name: &str| Some(OsString::from(name));
        Upgrade {
            old_version: "1".into(),
            new_version: "2".into(),
            peer_url: String::new(),
            peer_cert_file: file(cert),
            peer_key_file: file(cert),
            peer_ca_file: file(ca),
            ignored: Vec::new(),
        }
    }

    #[test]
    fn certificates_for_members_go_before_those_for_clients() {
        let global = ClientTlsFiles {
            cert: Some("c".into()),
            key: Some("k".into()),
            ca: vec!["a".into()],
            ..ClientTlsFiles::default()
        };
        assert_eq!(upgrade("", "").tls_files(&global), global);
        let files = upgrade("p", "").tls_files(&global);
        assert_eq!(
            (files.cert, files.key, files.ca),
            (Some("p".into()), Some("p".into()), global.ca.clone())
        );
        let files = upgrade("", "q").tls_files(&global);
        assert_eq!((files.cert, files.ca), (global.cert, vec!["q".into()]));
    }
}
