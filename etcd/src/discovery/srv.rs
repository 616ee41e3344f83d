//! Discovers the members of a new cluster from the SRV records of a domain.
//!
//! `_etcd-server-ssl._tcp.DOMAIN` lists members with TLS, `_etcd-server._tcp.DOMAIN` those without. The records contain
//! no member names: each member uses its own name for itself and numbers for the others. Different names for the same
//! member do no harm, since ids are computed from URLs alone.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use shared::client::{SrvError, SrvLookup, SrvRecord};
use shared::quote::quote;
use shared::url::{InitialCluster, UrlError, Urls};

use crate::config::Config;
use crate::log;

/// The services to query and the scheme of each.
const SERVICES: [(&str, &str); 2] = [("etcd-server-ssl", "https"), ("etcd-server", "http")];

/// Why a domain does not describe a cluster.
#[derive(Debug, thiserror::Error)]
pub enum SrvClusterError {
    /// The DNS does not resolve the member's own host.
    #[error("lookup {host}: {reason}")]
    Own {
        /// The host of a peer URL.
        host: String,
        /// The resolver's error.
        reason: String,
    },
    /// The domain has neither service.
    #[error("{0}")]
    Srv(#[from] SrvError),
    /// A record contains an invalid host or port.
    #[error("{0}")]
    Url(#[from] UrlError),
    /// The member is not in the records.
    #[error("cannot find local etcd member {} in SRV records", quote(.0))]
    NotNamed(String),
}

/// The cluster that `domain` describes. With `must_be_in_it` (a member, not a proxy), this process must be in it.
pub async fn cluster_by_srv(
    config: &Config,
    domain: &str,
    must_be_in_it: bool,
) -> Result<InitialCluster, SrvClusterError> {
    let own = own_addresses(&config.advertise_peer_urls).await?;
    let lookup = SrvLookup::new()?;
    let mut members = SrvMembers { name: &config.name, own, numbers: 0, pairs: Vec::new() };
    let mut failed = Vec::new();
    for (service, scheme) in SERVICES {
        match lookup.records(&format!("_{service}"), domain).await {
            Ok(records) => {
                for record in &records {
                    members.add_record(service, scheme, record, addresses(&record.target, record.port).await);
                }
            }
            Err(error) => failed.push((service, error)),
        }
    }
    if failed.len() == SERVICES.len() {
        for (service, error) in &failed {
            log::warning!("discovery", "error querying DNS SRV records for _{service} {error}");
        }
        log::error!("discovery", "SRV discovery failed: too many errors querying DNS SRV records");
        if let Some((_, error)) = failed.pop() {
            return Err(error.into());
        }
    }
    let cluster = InitialCluster::parse(&members.pairs.join(","))?;
    if must_be_in_it && cluster.get(&config.name).is_none() {
        return Err(SrvClusterError::NotNamed(config.name.clone()));
    }
    Ok(cluster)
}

/// The members found so far.
struct SrvMembers<'a> {
    /// This member's name.
    name: &'a str,
    /// This member's addresses.
    own: BTreeSet<SocketAddr>,
    /// How many other members have been numbered.
    numbers: usize,
    /// `name=URL`
    pairs: Vec<String>,
}

impl SrvMembers<'_> {
    fn add_record(
        &mut self,
        service: &str,
        scheme: &str,
        record: &SrvRecord,
        found: Result<Vec<SocketAddr>, String>,
    ) {
        let host = match record.target.contains(':') {
            true => format!("[{}]:{}", record.target, record.port),
            false => format!("{}:{}", record.target, record.port),
        };
        let Ok(found) = found else {
            log::warning!("discovery", "couldn't resolve host {host} during SRV discovery");
            return;
        };
        let name = if found.iter().any(|address| self.own.contains(address)) {
            self.name.to_owned()
        } else {
            self.numbers += 1;
            (self.numbers - 1).to_string()
        };
        log::notice!("discovery", "got bootstrap from DNS for {service} at {scheme}://{host}");
        self.pairs.push(format!("{name}={scheme}://{host}"));
    }
}

/// The addresses of the member's own peer URLs.
async fn own_addresses(urls: &Urls) -> Result<BTreeSet<SocketAddr>, SrvClusterError> {
    let mut own = BTreeSet::new();
    for url in urls {
        let found = addresses(url.host(), url.port().parse().unwrap_or(0)).await;
        own.extend(found.map_err(|reason| {
            log::error!("discovery", "couldn't resolve host {} during SRV discovery", url.address());
            SrvClusterError::Own { host: url.host().to_owned(), reason }
        })?);
    }
    Ok(own)
}

/// The addresses of a host, with the port.
async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => Ok(found.collect()),
        Err(_) => Err("no such host".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> SrvMembers<'static> {
        let own = BTreeSet::from([SocketAddr::from(([10, 0, 0, 1], 2380))]);
        SrvMembers { name: "me", own, numbers: 0, pairs: Vec::new() }
    }

    fn add_record(members: &mut SrvMembers<'_>, target: &str, port: u16, found: Result<[u8; 4], &str>) {
        let record = SrvRecord { priority: 0, target: target.to_owned(), port };
        let found = found.map(|ip| vec![SocketAddr::from((ip, port))]).map_err(str::to_owned);
        members.add_record("etcd-server", "http", &record, found);
    }

    #[test]
    fn the_member_has_its_name_and_the_others_have_numbers() {
        let mut members = members();
        add_record(&mut members, "c.example", 2380, Ok([10, 0, 0, 3]));
        add_record(&mut members, "a.example", 2380, Ok([10, 0, 0, 1]));
        add_record(&mut members, "nowhere.example", 2380, Err("no such host"));
        add_record(&mut members, "a.example", 2381, Ok([10, 0, 0, 1]));
        assert_eq!(
            members.pairs,
            ["0=http://c.example:2380", "me=http://a.example:2380", "1=http://a.example:2381"]
        );
    }
}
