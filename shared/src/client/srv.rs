//! A cluster that is found in the DNS.

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use super::error::ClientError;

/// The services to look for and the scheme that each means.
const SERVICES: [(&str, &str); 2] = [("_etcd-client-ssl", "https"), ("_etcd-client", "http")];

/// The client URLs that a domain publishes in SRV records, those with TLS first.
///
/// # Errors
/// When neither service is there. Takes as long as the system's resolver settings allow.
pub async fn discover(domain: &str) -> Result<Vec<String>, ClientError> {
    let resolver = TokioResolver::builder_tokio()
        .and_then(|builder| builder.build())
        .map_err(|error| ClientError::Discovery(format!("dns settings of this system: {error}")))?;
    let mut urls = Vec::new();
    let mut errors = Vec::new();
    for (service, scheme) in SERVICES {
        let name = format!("{service}._tcp.{}.", domain.trim_end_matches('.'));
        match resolver.srv_lookup(name.as_str()).await {
            Ok(lookup) => {
                let records = lookup.answers().iter().filter_map(|record| match &record.data {
                    RData::SRV(srv) => Some((srv.priority, srv.target.to_utf8(), srv.port)),
                    _ => None,
                });
                urls.extend(order(records.collect(), scheme));
            }
            Err(error) if error.is_no_records_found() => errors.push(format!("lookup {name}: no such host")),
            Err(error) => errors.push(format!("lookup {name}: {error}")),
        }
    }
    if errors.len() == SERVICES.len() {
        return Err(ClientError::Discovery(format!("dns lookup errors: {}", errors.join(" and "))));
    }
    Ok(urls)
}

/// URLs of the records, by priority. Weights do not matter: the client draws the order anyway.
fn order(mut records: Vec<(u16, String, u16)>, scheme: &str) -> Vec<String> {
    records.sort_by_key(|(priority, ..)| *priority);
    records
        .into_iter()
        .map(|(_, target, port)| format!("{scheme}://{}:{port}", target.trim_end_matches('.')))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_urls() {
        let records = vec![(20, "b.example.com.".to_owned(), 4001), (10, "a.example.com.".to_owned(), 2379)];
        assert_eq!(order(records, "https"), ["https://a.example.com:2379", "https://b.example.com:4001"]);
    }
}
