//! Asks a cluster which API its users work with: one or two requests.

use std::io::{IsTerminal as _, stderr};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use shared::client::v3::{self, Options as V3Options};
use shared::client::{Client, Endpoint, Options};
use shared::v3::pb::etcdserverpb::RangeRequest;

use super::choice::Choice;
use crate::output::note;
use crate::settings::Settings;

/// The time for each question.
const TIME_MAX: Duration = Duration::from_secs(1);
/// The largest list of the first level of keys that is read.
const BODY_BYTES_MAX: usize = 64 << 20;

const BOTH: &str = "note: both APIs hold keys; this is version 2 (ETCDCTL_API=3 or =2 chooses)\n";

#[derive(Debug, Deserialize)]
struct Version {
    etcdserver: String,
    #[serde(default)]
    etcdcluster: String,
}

#[derive(Debug, Deserialize)]
struct Keys {
    node: Node,
}

#[derive(Debug, Deserialize)]
struct Node {
    #[serde(default)]
    nodes: Vec<serde_json::Value>,
}

/// The API of a cluster. Version 2 if no endpoint answers: its commands explain why.
pub(crate) async fn probe(settings: &Settings) -> Choice {
    let options = Options {
        endpoints: settings.endpoints.clone(),
        tls: settings.tls.clone(),
        dial_timeout: Some(TIME_MAX),
        ..Options::default()
    };
    let Ok(client) = Client::new(options) else { return Choice::V2 };
    for text in client.endpoints() {
        let Ok(endpoint) = Endpoint::parse(&text) else { continue };
        let Some((status, body)) = page(&client, &endpoint, "/version").await else { continue };
        if status != 200 || !is_version_3(&body) {
            return Choice::V2;
        }
        let choice = match page(&client, &endpoint, "/v2/keys").await {
            Some((status, body)) => by_keys(status, &body),
            None => Choice::V3,
        };
        if choice == Choice::V2 && stderr().is_terminal() && holds_keys(settings, text).await {
            note(BOTH);
        }
        return choice;
    }
    Choice::V2
}

async fn page(client: &Client, endpoint: &Endpoint, path: &str) -> Option<(u16, Bytes)> {
    let page = client.page(Method::GET, endpoint, path, &[], BODY_BYTES_MAX);
    let page = tokio::time::timeout(TIME_MAX, page).await.ok()?.ok()?;
    Some((page.status, page.body))
}

/// Whether server and cluster have a version from 3 on. Old servers answer with a text alone.
fn is_version_3(body: &[u8]) -> bool {
    let Ok(version) = serde_json::from_slice::<Version>(body) else { return false };
    let is_old = |text: &str| text.starts_with("0.") || text.starts_with("2.");
    !is_old(&version.etcdserver) && !is_old(&version.etcdcluster)
}

/// The API by what a server answers about the keys of version 2.
fn by_keys(status: u16, body: &[u8]) -> Choice {
    match status {
        200 => match serde_json::from_slice::<Keys>(body) {
            Ok(keys) if !keys.node.nodes.is_empty() => Choice::V2,
            _ => Choice::V3,
        },
        // What is protected is in use.
        401 | 403 => Choice::V2,
        _ => Choice::V3,
    }
}

/// Whether the store of version 3 has a key.
async fn holds_keys(settings: &Settings, endpoint: String) -> bool {
    let options = V3Options { endpoints: vec![endpoint], tls: settings.tls.clone(), ..V3Options::default() };
    let Ok(client) = v3::Client::new(options) else { return false };
    let all = Bytes::from_static(b"\0");
    let range = RangeRequest {
        key: all.clone(),
        range_end: all,
        count_only: true,
        limit: 1,
        ..RangeRequest::default()
    };
    matches!(tokio::time::timeout(TIME_MAX, client.range(range)).await, Ok(Ok(answer)) if answer.count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_and_not_the_program_has_the_version() {
        for (body, is) in [
            (&br#"{"etcdserver":"3.5.30","etcdcluster":"3.5.0"}"#[..], true),
            (br#"{"etcdserver":"3.5.30","etcdcluster":"2.3.0"}"#, false),
            (br#"{"etcdserver":"2.3.8","etcdcluster":"2.3.0"}"#, false),
            (br#"{"etcdserver":"3.4.23","etcdcluster":"not_decided"}"#, true),
            (b"etcd 0.4.9", false),
        ] {
            assert_eq!(is_version_3(body), is, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn keys_of_version_2_choose_it() {
        let keys = br#"{"action":"get","node":{"dir":true,"nodes":[{"key":"/a","value":"1"}]}}"#;
        assert_eq!(by_keys(200, keys), Choice::V2);
        assert_eq!(by_keys(200, br#"{"action":"get","node":{"dir":true}}"#), Choice::V3);
        assert_eq!(by_keys(404, b"404 page not found\n"), Choice::V3);
        assert_eq!(by_keys(401, b""), Choice::V2);
    }
}
