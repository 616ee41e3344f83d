//! Finds a cluster in the DNS: its members are in SRV records of a domain.
//!
//! ```text
//! _etcd-server-ssl._tcp.DOMAIN, _etcd-server._tcp.DOMAIN   peers, for a member that begins (and for proxies)
//! _etcd-client-ssl._tcp.DOMAIN, _etcd-client._tcp.DOMAIN   clients, for etcdctl
//! ```

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::system_conf::read_system_conf;

use super::error::ClientError;

/// The services that clients look for and the scheme that each means.
const SERVICES: [(&str, &str); 2] = [("_etcd-client-ssl", "https"), ("_etcd-client", "http")];

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvRecord {
    /// Lower ones first.
    pub priority: u16,
    /// The host, without the dot at its end.
    pub target: String,
    /// The port.
    pub port: u16,
}

/// Why a domain has no such records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SrvError {
    /// The resolver cannot be set up.
    #[error("dns settings of this system: {0}")]
    Settings(String),
    /// The resolver has no answer.
    #[error("lookup {name}{server}: {reason}")]
    Lookup {
        /// The name of the query.
        name: String,
        /// The name server, after ` on `; empty if not known.
        server: String,
        /// The resolver's error.
        reason: String,
    },
}

/// Looks for SRV records as the system's settings say.
#[derive(Debug)]
pub struct SrvLookup {
    resolver: TokioResolver,
    /// ` on 127.0.0.1:53`.
    server: String,
}

impl SrvLookup {
    /// Reads the settings of the system.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn new() -> Result<SrvLookup, SrvError> {
        let settings = |error: NetError| SrvError::Settings(error.to_string());
        let (config, _) = read_system_conf().map_err(settings)?;
        let server = config.name_servers().first();
        let server = server.map(|server| format!(" on {}:53", server.ip)).unwrap_or_default();
        let resolver =
            TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(settings)?;
        Ok(SrvLookup { resolver, server })
    }

    /// The records of a service (`_etcd-server`) over TCP in a domain, by priority. Weights do not matter: all
    /// members of a cluster are needed, and clients choose a random order.
    ///
    /// # Errors
    /// When there are none. Takes as long as the system's resolver settings allow.
    pub async fn records(&self, service: &str, domain: &str) -> Result<Vec<SrvRecord>, SrvError> {
        let name = format!("{service}._tcp.{}", domain.trim_end_matches('.'));
        let lookup = self.resolver.srv_lookup(format!("{name}.")).await.map_err(|error| {
            SrvError::Lookup { name, server: self.server.clone(), reason: reason(&error) }
        })?;
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(SrvRecord {
                priority: srv.priority,
                target: srv.target.to_utf8().trim_end_matches('.').to_owned(),
                port: srv.port,
            }),
            _ => None,
        });
        Ok(by_priority(records.collect()))
    }
}

/// Records of one priority stay in the order of the answer.
fn by_priority(mut records: Vec<SrvRecord>) -> Vec<SrvRecord> {
    records.sort_by_key(|record| record.priority);
    records
}

/// What the resolver says, in the words of Go where it has them.
fn reason(error: &NetError) -> String {
    match error {
        error if error.is_no_records_found() => "no such host".to_owned(),
        NetError::Timeout => "i/o timeout".to_owned(),
        error => error.to_string(),
    }
}

/// The client URLs that a domain publishes in SRV records, those with TLS first.
///
/// # Errors
/// When neither service is there. Takes as long as the system's resolver settings allow.
pub async fn discover(domain: &str) -> Result<Vec<String>, ClientError> {
    let lookup = SrvLookup::new().map_err(|error| ClientError::Discovery(error.to_string()))?;
    let mut urls = Vec::new();
    let mut errors = Vec::new();
    for (service, scheme) in SERVICES {
        match lookup.records(service, domain).await {
            Ok(records) => urls.extend(records.iter().map(|record| url(scheme, record))),
            Err(error) => errors.push(error.to_string()),
        }
    }
    if errors.len() == SERVICES.len() {
        return Err(ClientError::Discovery(format!("dns lookup errors: {}", errors.join(" and "))));
    }
    Ok(urls)
}

fn url(scheme: &str, record: &SrvRecord) -> String {
    format!("{scheme}://{}:{}", record.target, record.port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_urls() {
        let record = |priority, target: &str| SrvRecord { priority, target: target.to_owned(), port: 2379 };
        let records = by_priority(vec![record(20, "b"), record(10, "c"), record(10, "a.example.com")]);
        let urls: Vec<String> = records.iter().map(|record| url("https", record)).collect();
        assert_eq!(urls, ["https://c:2379", "https://a.example.com:2379", "https://b:2379"]);
    }
}
