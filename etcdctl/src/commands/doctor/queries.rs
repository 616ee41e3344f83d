//! Queries every given endpoint, then every member; all in parallel, each with a time limit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use serde_json::Value;
use shared::client::{Client, Endpoint, Member, Page};
use shared::net::{self, certificates_in};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::metrics;
use super::observed::{Certificate, History, ObservedCluster, ObservedMember, QuorumRead};
use crate::diagnosis;
use crate::settings::Settings;

/// The time limit of one query. A later answer counts as none.
const QUERY_TIME_MAX: Duration = Duration::from_secs(3);
/// The time limit of a quorum read, which may wait for an election.
const QUORUM_TIME_MAX: Duration = Duration::from_secs(5);
/// The time limit of the watch from the first index. Its error comes at once; without one the history is complete.
const WATCH_TIME_MAX: Duration = Duration::from_millis(500);
/// The largest answer; a page of metrics has some hundred kilobytes.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// The most time between a member's start and its first event, in seconds.
const START_SECONDS: f64 = 2.0;
/// A key that does not exist, so that the answer is short.
const MISSING_KEY: &str = "/v2/keys/_etcdctl_doctor_asks";

/// Queries all endpoints and members.
pub(super) async fn query_cluster(client: &Arc<Client>, settings: &Settings) -> ObservedCluster {
    let mut cluster = ObservedCluster { files: files(settings), ..ObservedCluster::default() };
    let mut members: BTreeMap<String, Member> = BTreeMap::new();
    let mut endpoints: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut lists: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for (text, view) in in_parallel(client.endpoints(), |text| query_endpoint(client.clone(), text)).await {
        match view {
            Ok(view) => {
                cluster.ids.extend(view.cluster_id);
                let ids = view.members.iter().map(|member| member.id.clone()).collect();
                lists.entry(ids).or_default().push(text.clone());
                members.extend(view.members.into_iter().map(|member| (member.id.clone(), member)));
                endpoints.entry(view.id).or_default().push(text);
            }
            Err(why) => cluster.unknown_endpoints.push((text, why)),
        }
    }
    // An unreachable endpoint that a member publishes is reported with that member.
    let published =
        |url: &str| members.values().any(|member| member.client_urls.iter().any(|other| other == url));
    cluster.unknown_endpoints.retain(|(url, _)| !published(url));
    let members: Vec<(Member, Vec<String>)> = members
        .into_values()
        .map(|member| {
            let given = endpoints.remove(&member.id).unwrap_or_default();
            (member, given)
        })
        .collect();
    let seen = in_parallel(members, |(member, given)| inspect_member(client.clone(), member, given)).await;
    for (_, (seen, view)) in seen {
        if let Some(view) = view {
            cluster.ids.extend(view.cluster_id);
            let ids = view.members.iter().map(|member| member.id.clone()).collect();
            lists.entry(ids).or_default().push(seen.label().to_owned());
        }
        cluster.members.push(seen);
    }
    if lists.len() > 1 {
        let lists = lists.into_iter();
        cluster.other_lists =
            lists.map(|(ids, who)| format!("{}: {}", who.join(", "), ids.join(" "))).collect();
    }
    cluster
}

/// Runs `work` on each item in parallel; returns the items with their results, in the order of the items.
async fn in_parallel<T: Clone + Send + 'static, R: Send + 'static, F: Future<Output = R> + Send + 'static>(
    items: Vec<T>,
    work: impl Fn(T) -> F,
) -> Vec<(T, R)> {
    let mut running = JoinSet::new();
    for (at, item) in items.into_iter().enumerate() {
        let done = work(item.clone());
        running.spawn(async move { (at, item, done.await) });
    }
    let mut all = Vec::new();
    while let Some(done) = running.join_next().await {
        all.extend(done);
    }
    all.sort_by_key(|(at, ..)| *at);
    all.into_iter().map(|(_, item, result)| (item, result)).collect()
}

/// The answers of an endpoint about its cluster.
struct EndpointView {
    id: String,
    cluster_id: Option<String>,
    members: Vec<Member>,
}

async fn query_endpoint(client: Arc<Client>, text: String) -> Result<EndpointView, String> {
    let endpoint = Endpoint::parse(&text).map_err(|error| error.to_string())?;
    let page = query(&client, Method::GET, &endpoint, "/v2/members", &[], QUERY_TIME_MAX).await;
    let list = page.as_ref().ok().and_then(member_list);
    let (Ok(page), Some(members)) = (&page, list) else {
        let cause = match page {
            Ok(page) => format!("it answers with status {} and no list of members", page.status),
            Err(why) => why,
        };
        let diagnosis = timeout(QUERY_TIME_MAX * 2, diagnosis::diagnose_endpoint(&client, &text, false))
            .await
            .ok()
            .flatten();
        return Err(diagnosis.map_or(cause.clone(), |diagnosis| format!("{cause}: {}", diagnosis.text)));
    };
    let about_itself =
        json(query(&client, Method::GET, &endpoint, "/v2/stats/self", &[], QUERY_TIME_MAX).await);
    let id = about_itself.as_ref().and_then(|value| text_of(value, "id")).unwrap_or_default();
    Ok(EndpointView { id, cluster_id: header(&page.headers, "x-etcd-cluster-id"), members })
}

fn member_list(page: &Page) -> Option<Vec<Member>> {
    let value: Value = serde_json::from_slice(&page.body).ok().filter(|_| page.status == 200)?;
    serde_json::from_value(value.get("members")?.clone()).ok()
}

/// Queries one member; `given` are the endpoints of the command line that belong to it.
async fn inspect_member(
    client: Arc<Client>,
    listed: Member,
    given: Vec<String>,
) -> (ObservedMember, Option<EndpointView>) {
    let mut seen = ObservedMember { listed, ..ObservedMember::default() };
    let mut urls = seen.listed.client_urls.clone();
    let extra: Vec<String> = given.into_iter().filter(|url| !urls.contains(url)).collect();
    urls.extend(extra.iter().cloned());
    let certificates = certificates([seen.listed.peer_urls.clone(), urls.clone()].concat());
    let answers = in_parallel(urls, |url| {
        let client = client.clone();
        async move { first_answer(&client, &url).await }
    });
    let (certificates, answers) = tokio::join!(certificates, answers);
    seen.certificates = certificates;
    let mut found = None;
    for (url, answer) in answers {
        match answer {
            Ok(version) if found.is_none() => found = Some((url, version)),
            Ok(_) => {}
            Err(why) => seen.unreachable.push((url, why)),
        }
    }
    let Some((url, version)) = found else { return (seen, None) };
    seen.version = text_of(&version, "etcdserver");
    seen.cluster_version = text_of(&version, "etcdcluster");
    let view = query_member(&client, &url, &mut seen).await;
    seen.url = Some(url);
    (seen, view)
}

/// The answer of `/version` at a URL.
async fn first_answer(client: &Client, url: &str) -> Result<Value, String> {
    let endpoint = Endpoint::parse(url).map_err(|error| error.to_string())?;
    match query(client, Method::GET, &endpoint, "/version", &[], QUERY_TIME_MAX).await {
        Ok(page) => serde_json::from_slice(&page.body)
            .map_err(|_| format!("it answers with status {}, and not as an etcd", page.status)),
        Err(why) => {
            let diagnosis = timeout(QUERY_TIME_MAX, diagnosis::diagnose_endpoint(client, url, false))
                .await
                .ok()
                .flatten();
            Err(diagnosis.map_or(why.clone(), |diagnosis| format!("{why}: {}", diagnosis.text)))
        }
    }
}

/// Sends all queries to a member that answers.
async fn query_member(client: &Arc<Client>, url: &str, seen: &mut ObservedMember) -> Option<EndpointView> {
    let endpoint = Endpoint::parse(url).ok()?;
    let get = |path: &'static str| query(client, Method::GET, &endpoint, path, &[], QUERY_TIME_MAX);
    // On the connection of the first query, and before the parallel queries.
    let before = super::super::now().0;
    if let Ok(page) = get("/version").await {
        seen.round_trip = Some(page.took.as_secs_f64());
        seen.clock_ms = clock(&page.headers, before, super::super::now().0);
    }
    let quorum = [("quorum", "true")];
    let watch = [("wait", "true"), ("recursive", "true"), ("waitIndex", "1")];
    let (own, health, auth, head, quorum, page, oldest, view) = tokio::join!(
        get("/v2/stats/self"),
        get("/health"),
        get("/v2/auth/enable"),
        query(client, Method::HEAD, &endpoint, "/v2/keys/", &[], QUERY_TIME_MAX),
        query(client, Method::GET, &endpoint, MISSING_KEY, &quorum, QUORUM_TIME_MAX),
        get("/metrics"),
        query(client, Method::GET, &endpoint, "/v2/keys/", &watch, WATCH_TIME_MAX),
        query_endpoint(client.clone(), url.to_owned()),
    );
    let own = json(own);
    let leader = own.as_ref().and_then(|own| own.get("leaderInfo"));
    seen.leader = leader.map(|leader| text_of(leader, "leader").unwrap_or_default());
    seen.healthy = json(health).and_then(|health| match health.get("health")? {
        Value::Bool(healthy) => Some(*healthy),
        Value::String(text) => Some(text == "true"),
        _ => None,
    });
    seen.auth = json(auth).and_then(|auth| auth.get("enabled")?.as_bool());
    if let Ok(head) = head {
        let number = |name| header(&head.headers, name).and_then(|text| text.parse().ok());
        seen.raft_index = number("x-raft-index");
        seen.etcd_index = number("x-etcd-index");
    }
    seen.quorum_read = Some(match quorum {
        Ok(page) => match page.status {
            200 | 404 => QuorumRead::Took(page.took.as_secs_f64()),
            401 | 403 => QuorumRead::NotAllowed,
            status => QuorumRead::Failed(format!("status {status}: {}", short(&page.body))),
        },
        Err(why) => QuorumRead::Failed(why),
    });
    let page = page.ok().filter(|page| page.status == 200);
    let page = page.map(|page| String::from_utf8_lossy(&page.body).into_owned()).unwrap_or_default();
    seen.fsync = metrics::fsync(&page);
    let uptime = own.as_ref().and_then(|own| uptime(&text_of(own, "startTime")?));
    let from_metrics = metrics::history(&page).map(|history| known_age(history, uptime));
    seen.history = from_metrics.or_else(|| history(json_of_any_status(oldest)?, seen.etcd_index?));
    view.ok()
}

/// How long a member has been running, in seconds, by its start time.
fn uptime(start: &str) -> Option<f64> {
    let start = start.parse::<jiff::Timestamp>().ok()?.as_nanosecond();
    let nanos = i128::from(super::super::now().0) - start;
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?).as_secs_f64())
}

/// Removes the history's age if it is only the time since the member's start: the events may be older.
fn known_age(history: History, uptime: Option<f64>) -> History {
    let known = |age: &f64| uptime.is_none_or(|uptime| age + START_SECONDS < uptime);
    History { age: history.age.filter(known), ..history }
}

/// The history from the error of a watch from the first index: `… has been cleared [4001/1]`.
fn history(refusal: Value, index: u64) -> Option<History> {
    let cleared = refusal.get("errorCode")?.as_u64()? == 401;
    let cause = text_of(&refusal, "cause").filter(|_| cleared)?;
    let oldest_index: u64 = cause.rsplit_once('[')?.1.split_once('/')?.0.parse().ok()?;
    Some(History { oldest_index, reach: (index + 1).saturating_sub(oldest_index), age: None })
}

/// A member's clock minus ours, in milliseconds: the least and the most possible. `Date` has whole seconds.
fn clock(headers: &HeaderMap, before: i64, after: i64) -> Option<(i64, i64)> {
    let date = header(headers, "date")?;
    let second = jiff::fmt::rfc2822::parse(&date).ok()?.timestamp().as_second();
    let millis = |nanos: i64| nanos / 1_000_000;
    Some((second * 1000 - millis(after), second * 1000 + 1000 - millis(before)))
}

/// The certificates of those URLs that use TLS.
async fn certificates(urls: Vec<String>) -> Vec<Certificate> {
    let targets = urls.into_iter().filter_map(|url| {
        let target = Endpoint::parse(&url).ok()?.target()?.clone();
        target.tls.then_some((url, target))
    });
    let presented = in_parallel(targets.collect(), |(_, target)| async move {
        let result = timeout(QUERY_TIME_MAX, net::peer_certificate(&target, QUERY_TIME_MAX)).await;
        result.map_err(|_| late(QUERY_TIME_MAX))?.map_err(|error| error.to_string())
    });
    presented.await.into_iter().map(|((at, _), shown)| Certificate { at, shown }).collect()
}

/// The certificates in the given files.
fn files(settings: &Settings) -> Vec<Certificate> {
    let read = |path: &Path| {
        let at = path.display().to_string();
        match certificates_in(path) {
            Ok(shown) => {
                shown.into_iter().map(|shown| Certificate { at: at.clone(), shown: Ok(shown) }).collect()
            }
            Err(error) => vec![Certificate { at, shown: Err(error.to_string()) }],
        }
    };
    settings.tls.cert.iter().chain(&settings.tls.ca).flat_map(|path| read(path)).collect()
}

/// Sends one query with a time limit.
async fn query(
    client: &Client,
    method: Method,
    endpoint: &Endpoint,
    path: &str,
    query: &[(&'static str, &str)],
    limit: Duration,
) -> Result<Page, String> {
    match timeout(limit, client.page(method, endpoint, path, query, PAGE_BYTES_MAX)).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(late(limit)),
    }
}

fn late(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs_f64())
}

fn json(answer: Result<Page, String>) -> Option<Value> {
    answer.ok().filter(|page| page.status == 200).and_then(|page| serde_json::from_slice(&page.body).ok())
}

fn json_of_any_status(answer: Result<Page, String>) -> Option<Value> {
    serde_json::from_slice(&answer.ok()?.body).ok()
}

fn text_of(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The beginning of an answer, without control characters.
fn short(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_leaves_a_second_open() {
        let headers: HeaderMap =
            [(http::header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap())].into_iter().collect();
        let second = 784_111_777_000_000_000;
        // Asked 0.2 s after that second, answered 0.1 s later.
        assert_eq!(clock(&headers, second + 200_000_000, second + 300_000_000), Some((-300, 800)));
        assert_eq!(clock(&HeaderMap::new(), 0, 0), None);
    }

    #[test]
    fn an_age_since_the_start_tells_nothing() {
        let history = History { oldest_index: 1, reach: 1000, age: Some(5.0) };
        assert_eq!(known_age(history, Some(6.0)).age, None);
        assert_eq!(known_age(history, Some(60.0)).age, Some(5.0));
        assert_eq!(known_age(history, None).age, Some(5.0));
        assert!(uptime("2016-01-01T00:00:00.5Z").unwrap() > 1e8);
        assert_eq!((uptime("yesterday"), uptime("9000-01-01T00:00:00Z")), (None, None));
    }

    #[test]
    fn a_refused_watch_tells_the_oldest_event() {
        let refusal = |code: u16| serde_json::json!({"errorCode": code, "cause": "the requested history has been cleared [4001/1]", "index": 5000});
        assert_eq!(history(refusal(401), 5000), Some(History { oldest_index: 4001, reach: 1000, age: None }));
        assert_eq!(history(refusal(100), 5000), None);
    }
}
