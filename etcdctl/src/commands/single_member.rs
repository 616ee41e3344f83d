//! Checks whether a second member could reach the only member of a cluster. If not, the cluster accepts no writes
//! after the second one is added: both are needed for a majority.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use shared::client::{Client, Member};
use shared::url::{Scheme, Url, Urls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the only member's peer port may take to answer. A port that does not answer may be behind a firewall.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// The largest answer; the list of one member is short.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// The warning before a member with these peer URLs is added, if the only member cannot be reached at its own.
pub(super) async fn warning(client: &Client, name: &str, new_urls: &[&str]) -> Option<String> {
    let cluster = match client.cluster() {
        Some(cluster) => cluster,
        None => {
            client.members().await.ok()?;
            client.cluster()?
        }
    };
    let [only] = &cluster.members[..] else { return None };
    warning_of(client, only, name, new_urls).await
}

/// As [`warning`], where `only` is the member that remains after another one is removed.
pub(super) async fn warning_of(
    client: &Client,
    only: &Member,
    name: &str,
    new_urls: &[&str],
) -> Option<String> {
    let cluster = client.cluster()?;
    let cluster_id = cluster.id?;
    let mut ids: Vec<String> = cluster.members.into_iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let new = Urls::from_texts(new_urls.iter().copied()).ok()?;
    let own = Urls::from_texts(only.peer_urls.iter().map(String::as_str)).ok()?;
    // A loopback URL of the member can be checked only on the member's machine.
    let is_near = client.endpoints().iter().all(|url| url.parse().is_ok_and(|url: Url| is_loopback(&url)));
    let mut why = None;
    for url in &own {
        let reason = if is_loopback(url) && !new.iter().any(is_loopback) {
            format!("{url}, which is a loopback address")
        } else if is_loopback(url) && !is_near {
            return None;
        } else {
            format!("{url}, where {}", problem(url, &cluster_id, &ids).await?)
        };
        why.get_or_insert(reason);
    }
    Some(text(only, name, &why?))
}

fn text(only: &Member, name: &str, why: &str) -> String {
    let Member { id, name: only_name, .. } = only;
    format!(
        "warning: the only member of the cluster, {id} ({only_name}), is known to others by {why}.\n\
         warning: with {name} as a second member nothing can be written until the two have reached each other. If they \
         do not,\n\
         warning: start {only_name} again with -force-new-cluster, give it the address that others reach it by,\n\
         warning: \tetcdctl member update {id} http://ADDRESS:PORT\n\
         warning: and then add {name} again.\n"
    )
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Why a URL is not that of the member; `None` if it is, or if this cannot be decided from here.
async fn problem(url: &Url, cluster_id: &str, ids: &[String]) -> Option<&'static str> {
    match timeout(ANSWER_TIME_MAX, TcpStream::connect(url.address())).await {
        Ok(Ok(stream)) if url.scheme() == Scheme::Http => {
            let answer = timeout(ANSWER_TIME_MAX, members_at(stream, url)).await.ok()?.ok()?;
            is_of_another(&answer, cluster_id, ids)?.then_some("a member of another cluster answers")
        }
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Some("no program listens"),
        _ => None,
    }
}

async fn members_at(mut stream: TcpStream, url: &Url) -> std::io::Result<String> {
    let request = format!("GET /members HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", url.address());
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether the answer of a peer port comes from another cluster than the one with these members. A copy of the data
/// that was started with -force-new-cluster has the same cluster id, so the list is compared too. `None` for other
/// answers.
fn is_of_another(answer: &str, cluster_id: &str, ids: &[String]) -> Option<bool> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let header = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-etcd-cluster-id").then(|| value.trim())
    })?;
    let list = body.get(body.find('[')?..=body.rfind(']')?)?;
    let members: Vec<Value> = serde_json::from_str(list).ok()?;
    let mut listed: Vec<String> =
        members.iter().filter_map(|member| Some(format!("{:x}", member.get("id")?.as_u64()?))).collect();
    listed.sort_unstable();
    Some(header != cluster_id || listed != ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_is_known_by_the_list() {
        let answer = |cluster: &str, ids: &str| {
            format!("HTTP/1.1 200 OK\r\nX-Etcd-Cluster-Id: {cluster}\r\n\r\n[{ids}]")
        };
        let of_another = |text: &str| is_of_another(text, "c1", &["a1".to_owned()]);
        assert_eq!(of_another(&answer("c1", r#"{"id":161,"peerURLs":[]}"#)), Some(false));
        assert_eq!(of_another(&answer("c2", r#"{"id":161}"#)), Some(true));
        assert_eq!(of_another(&answer("c1", r#"{"id":161},{"id":162}"#)), Some(true), "a copy was forced");
        assert_eq!(of_another("HTTP/1.1 404 Not Found\r\n\r\nnot found"), None);
        assert_eq!(of_another("SSH-2.0-x"), None);
    }

    #[test]
    fn loopback_has_many_names() {
        for (url, loopback) in [
            ("http://localhost:2380", true),
            ("http://127.0.0.2:2380", true),
            ("http://[::1]:2380", true),
            ("http://10.0.0.1:2380", false),
            ("http://localhost.example:2380", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), loopback, "{url}");
        }
    }
}
