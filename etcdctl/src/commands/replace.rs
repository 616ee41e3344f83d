//! `member replace`: removes a member and adds another one.
//!
//! Both changes go through the cluster's log, one after the other, and an added member that does not run yet counts
//! as one that is down. So the health of all members is checked first, and [`plan`] refuses a replacement that would
//! leave the cluster without a majority at any time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use shared::client::{Client, ClientError, Endpoint, Member};
use shared::quote::quote;
use shared::url::{Scheme, Url, Urls};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::member::initial_cluster;
use super::single_member;
use crate::error::CliError;
use crate::output::Format;
use crate::session::{Session, within};

/// The time limit of a health check.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(3);
/// How often the health is checked before the cluster counts as one without a majority.
const HEALTH_CHECKS_MAX: usize = 5;
const HEALTH_CHECK_PAUSE: Duration = Duration::from_secs(1);
/// How long to retry the addition: after the removal of a leader the others elect a new one first.
const ADD_TIME_MAX: Duration = Duration::from_secs(20);
const ADD_PAUSE: Duration = Duration::from_millis(500);
const PAGE_BYTES_MAX: usize = 1 << 20;
/// The default port for clients.
const CLIENT_PORT: &str = "2379";

/// Replace a member by a new one, and print how to start that
///
/// For a member whose machine or data is lost, or that is to move. OLD is its id or name. The member is removed, one
/// with NEW_NAME and PEER_URLS (commas between them) is added, and the command is printed that starts it, also as
/// environment. Start it with an empty data directory.
///
/// Before anything is changed it is checked that the cluster keeps a majority all the way: the members are asked
/// whether they are well. If only the time until the new member runs would be without a majority, as in a cluster of
/// two, --force goes on.
#[derive(Debug, clap::Args)]
#[command(override_usage = "etcdctl member replace [--force] <OLD> <NEW_NAME> <PEER_URLS>")]
pub(crate) struct Replace {
    /// Go on though nothing can be written until the new member runs
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pub(super) arguments: super::member::Arguments,
}

/// Why a member cannot be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplaceRefusal {
    /// It is the only member.
    Alone,
    /// There is no majority now.
    NoQuorum,
    /// There would be no majority after the removal.
    LostByRemoval,
    /// There would be no majority from the addition until the new member runs.
    LostUntilStart,
}

/// Checks that a cluster of `all` members keeps a majority during the replacement. `others` is the number of healthy
/// members without the old one.
fn plan(all: usize, others: usize, old_is_well: bool) -> Result<(), ReplaceRefusal> {
    let majority = |members: usize| members / 2 + 1;
    if all <= 1 {
        Err(ReplaceRefusal::Alone)
    } else if others + usize::from(old_is_well) < majority(all) {
        Err(ReplaceRefusal::NoQuorum)
    } else if others < majority(all - 1) {
        Err(ReplaceRefusal::LostByRemoval)
    } else if others < majority(all) {
        Err(ReplaceRefusal::LostUntilStart)
    } else {
        Ok(())
    }
}

impl Replace {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        session.settings.format.check()?;
        let [old, name, peer_urls] = self.arguments.exactly(
            "Provide the ID or name of the old member, the name of the new one, and its peer URLs with commas between \
             them (node1 node4 http://10.0.0.4:2380)",
        )?;
        let urls = Urls::from_texts(peer_urls.split(',')).map_err(CliError::failed)?;
        let client = Arc::new(session.connect().await?);
        let members = session.limit(client.members()).await.map_err(CliError::failed)?;
        let old = find(&members, &old)?.clone();
        let others: Vec<&Member> = members.iter().filter(|member| member.id != old.id).collect();
        check_names(&others, &name, &urls)?;

        let mut checks = 1;
        let (healthy, planned) = loop {
            let healthy = healthy_members(&client, &members).await;
            let others = others.iter().filter(|member| healthy.contains_key(&member.id)).count();
            let planned = plan(members.len(), others, healthy.contains_key(&old.id));
            // Right after the loss of a leader no member is healthy until another one is elected.
            if planned != Err(ReplaceRefusal::NoQuorum) || checks == HEALTH_CHECKS_MAX {
                break (healthy, planned);
            }
            checks += 1;
            sleep(HEALTH_CHECK_PAUSE).await;
        };
        match planned {
            Ok(()) => {}
            Err(ReplaceRefusal::LostUntilStart) if self.force => {}
            Err(refusal) => return Err(CliError::Failed(refusal_text(refusal, &old, &members, &healthy))),
        }
        if let [only] = &others[..] {
            let urls = urls.to_strings();
            let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
            if let Some(warning) = single_member::warning_of(&client, only, &name, &urls).await {
                session.out.note(&warning)?;
            }
        }
        // The old member must not serve the request that removes it.
        let endpoints: Vec<String> =
            others.iter().filter_map(|member| healthy.get(&member.id).cloned()).collect();
        client.set_endpoints(&endpoints).map_err(CliError::failed)?;
        remove(session, &client, &old).await?;
        let json = session.settings.format == Format::Json;
        if !json {
            session.out.line(&format!("Removed member {} ({}) from cluster", old.id, label(&old)))?;
            session.out.flush()?;
        }
        let texts = urls.to_strings();
        let new = match add(&client, &old.id, &texts, session.settings.total_timeout).await {
            Ok(new) => new,
            Err(error) => {
                return Err(CliError::Failed(removed_only_text(&old, &others, &name, &texts, &error)));
            }
        };
        let members = with_new(session.limit(client.members()).await.ok(), &others, &new);
        let start = StartCommand::new(&name, &new.id, &texts, &members, &old);
        if json {
            let removed = json!({ "id": old.id, "name": old.name });
            let added = json!({ "id": new.id, "name": name, "peerURLs": texts });
            let whole = json!({ "removed": removed, "added": added, "environment": start.environment(),
                "command": start.command(), "arguments": start.arguments() });
            return session.out.line(&whole.to_string());
        }
        session.out.text(&format!(
            "Added member named {name} with ID {} to cluster\n{}\nStart it with an empty data directory:\n\n{}\n",
            new.id,
            super::member::start_settings(&name, &new.id, &members),
            start.command()
        ))?;
        if texts.iter().any(|url| url.starts_with("https://")) {
            session.out.note("Add the flags for its certificates: -peer-cert-file, -peer-key-file, -peer-trusted-ca-file\n")?;
        }
        Ok(())
    }
}

fn label(member: &Member) -> &str {
    if member.name.is_empty() { "never started" } else { &member.name }
}

/// Finds a member by id or name.
fn find<'a>(members: &'a [Member], wanted: &str) -> Result<&'a Member, CliError> {
    let id = wanted.trim_start_matches("0x").to_lowercase();
    if let Some(member) = members.iter().find(|member| member.id == id) {
        return Ok(member);
    }
    let named: Vec<&Member> =
        members.iter().filter(|member| member.name == wanted && !wanted.is_empty()).collect();
    match named[..] {
        [member] => Ok(member),
        [] => {
            let all: Vec<String> =
                members.iter().map(|member| format!("{} ({})", member.id, label(member))).collect();
            let names = members.iter().map(|member| member.name.as_str());
            let meant = shared::suggest::closest(wanted, names).map(|name| format!(" Did you mean {name}?"));
            let meant = meant.unwrap_or_default();
            Err(CliError::Failed(format!(
                "no member has the ID or name {wanted}: there are {}.{meant}",
                all.join(", ")
            )))
        }
        _ => {
            let ids: Vec<&str> = named.iter().map(|member| member.id.as_str()).collect();
            Err(CliError::Failed(format!(
                "several members are called {wanted}: give the ID, one of {}",
                ids.join(", ")
            )))
        }
    }
}

/// Checks the name and the URLs that would make the addition fail or keep the new member from starting.
fn check_names(others: &[&Member], name: &str, urls: &Urls) -> Result<(), CliError> {
    let refuse = |text: String| Err(CliError::Failed(text));
    if name.is_empty() || name.contains(['=', ',']) {
        return refuse(format!("{} is no name for a member: -initial-cluster uses '=' and ','", quote(name)));
    }
    if let Some(other) = others.iter().find(|other| other.name == name) {
        return refuse(format!(
            "member {} is called {name} already: give the new one another name",
            other.id
        ));
    }
    let taken = |url: &String| {
        others.iter().find(|other| other.peer_urls.contains(url)).map(|other| (url.clone(), other.id.clone()))
    };
    match urls.to_strings().iter().find_map(taken) {
        Some((url, id)) => refuse(format!("{url} is the peer URL of member {id}: the new one needs another")),
        None => Ok(()),
    }
}

/// The ids of the healthy members, each with a URL that reported it.
async fn healthy_members(client: &Arc<Client>, members: &[Member]) -> BTreeMap<String, String> {
    let mut urls: BTreeMap<String, Option<String>> =
        client.endpoints().into_iter().map(|endpoint| (endpoint, None)).collect();
    for member in members {
        urls.extend(member.client_urls.iter().map(|url| (url.clone(), Some(member.id.clone()))));
    }
    let mut requests = JoinSet::new();
    for (url, listed) in urls {
        let client = client.clone();
        requests.spawn(async move {
            let endpoint = Endpoint::parse(&url).ok()?;
            let page = client.page(Method::GET, &endpoint, "/v2/stats/self", &[], PAGE_BYTES_MAX);
            let page = timeout(HEALTH_TIME_MAX, page).await.ok()?.ok()?;
            let own: Value = serde_json::from_slice(&page.body).ok()?;
            let id = own.get("id").and_then(Value::as_str).map(str::to_owned).or(listed)?;
            let healthy = timeout(HEALTH_TIME_MAX, client.is_healthy(&url)).await.ok()?.ok()?;
            healthy.then_some((id, url))
        });
    }
    let mut healthy = BTreeMap::new();
    while let Some(answer) = requests.join_next().await {
        healthy.extend(answer.ok().flatten());
    }
    healthy
}

/// The text of a refusal: why nothing was done, and what to do.
fn refusal_text(
    refusal: ReplaceRefusal,
    old: &Member,
    members: &[Member],
    healthy: &BTreeMap<String, String>,
) -> String {
    let ill: Vec<&str> = members
        .iter()
        .filter(|member| member.id != old.id && !healthy.contains_key(&member.id))
        .map(|member| if member.name.is_empty() { member.id.as_str() } else { member.name.as_str() })
        .collect();
    let (all, ill) = (members.len(), ill.join(", "));
    let why = match refusal {
        ReplaceRefusal::Alone => {
            "it is the only member. Add the new one with `etcdctl member add`, start it, and remove the old one then".to_owned()
        }
        ReplaceRefusal::NoQuorum => format!(
            "the cluster has no majority: of {all} members too many are not well (beside it: {}). Start them first; if \
             that cannot be, make a new cluster of one member's data with -force-new-cluster",
            if ill.is_empty() { "none" } else { &ill }
        ),
        ReplaceRefusal::LostByRemoval => format!(
            "without it the other {} would have no majority, as these are not well: {ill}. Start them first, or replace \
             one of them instead",
            all - 1
        ),
        ReplaceRefusal::LostUntilStart => {
            let others = if ill.is_empty() { String::new() } else { format!(", as these are not well: {ill}") };
            format!(
                "nothing could be written from the addition until the new member runs{others}. Add another member first, or \
                 say --force if the new one can be started at once"
            )
        }
    };
    format!("member {} ({}) is not replaced, and nothing was changed: {why}", old.id, label(old))
}

async fn remove(session: &Session<'_>, client: &Client, old: &Member) -> Result<(), CliError> {
    let Err(error) = session.limit(client.remove_member(&old.id)).await else { return Ok(()) };
    // The member may be removed although the answer was lost.
    match session.limit(client.members()).await {
        Ok(members) if !members.iter().any(|member| member.id == old.id) => Ok(()),
        Ok(_) => Err(CliError::Failed(format!(
            "member {} ({}) could not be removed: {error}. Nothing was changed so far; look with `etcdctl member list` before \
             you try again",
            old.id,
            label(old)
        ))),
        Err(_) => Err(CliError::Failed(format!(
            "it is not known whether member {} ({}) was removed: {error}. Look with `etcdctl member list`, and if it is \
             there still, try again",
            old.id,
            label(old)
        ))),
    }
}

/// Adds the member; retries during an election.
async fn add(client: &Client, old: &str, urls: &[String], limit: Duration) -> Result<Member, ClientError> {
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let end = Instant::now() + ADD_TIME_MAX.max(limit);
    loop {
        let error = match within(limit, client.add_member_at(&urls)).await {
            Ok(new) => return Ok(new),
            Err(error) => error,
        };
        // The member may be added although the answer was lost.
        if let Ok(members) = within(limit, client.members()).await
            && let Some(new) = members
                .into_iter()
                .find(|member| member.id != old && member.name.is_empty() && same(&member.peer_urls, &urls))
        {
            return Ok(new);
        }
        let passing = matches!(error, ClientError::Unavailable(_) | ClientError::DeadlineExceeded);
        if !passing || Instant::now() >= end {
            return Err(error);
        }
        sleep(ADD_PAUSE).await;
    }
}

fn same(one: &[String], other: &[&str]) -> bool {
    let sorted = |mut urls: Vec<String>| {
        urls.sort_unstable();
        urls
    };
    sorted(one.to_vec()) == sorted(other.iter().map(|url| (*url).to_owned()).collect())
}

/// The text for a member that was removed but not replaced: the state of the cluster, and how to continue.
fn removed_only_text(
    old: &Member,
    others: &[&Member],
    name: &str,
    urls: &[String],
    error: &ClientError,
) -> String {
    let detail = error.detail().unwrap_or_default();
    let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
    format!(
        "Member {} ({}) is removed, but the new one is not added: {error}\n{detail}\
         The cluster has {} now ({}) and works with {} of them. To finish:\n\n\
         \tetcdctl member add {} {}\n",
        old.id,
        label(old),
        super::member::count(others.len()),
        names.join(", "),
        others.len() / 2 + 1,
        word(name),
        word(&urls.join(","))
    )
}

/// The members including the new one; from the earlier list, if the new list is missing or lacks it.
fn with_new(requests: Option<Vec<Member>>, others: &[&Member], new: &Member) -> Vec<Member> {
    requests.filter(|members| members.iter().any(|member| member.id == new.id)).unwrap_or_else(|| {
        let mut members: Vec<Member> = others.iter().map(|member| (*member).clone()).collect();
        members.push(new.clone());
        members
    })
}

/// The settings that start the new member.
struct StartCommand {
    name: String,
    cluster: String,
    peer_urls: Vec<String>,
    client_urls: Vec<String>,
}

impl StartCommand {
    fn new(name: &str, id: &str, peer_urls: &[String], members: &[Member], old: &Member) -> StartCommand {
        StartCommand {
            name: name.to_owned(),
            cluster: initial_cluster(name, id, members),
            peer_urls: peer_urls.to_vec(),
            client_urls: client_urls(peer_urls, &old.client_urls),
        }
    }

    fn environment(&self) -> Value {
        json!({ "ETCD_NAME": self.name, "ETCD_INITIAL_CLUSTER": self.cluster, "ETCD_INITIAL_CLUSTER_STATE": "existing" })
    }

    fn arguments(&self) -> Vec<String> {
        let listen = |urls: &[String]| urls.iter().map(|url| listening(url)).collect::<Vec<_>>().join(",");
        [
            ("-name", self.name.clone()),
            ("-data-dir", format!("{}.etcd", self.name)),
            ("-initial-advertise-peer-urls", self.peer_urls.join(",")),
            ("-listen-peer-urls", listen(&self.peer_urls)),
            ("-advertise-client-urls", self.client_urls.join(",")),
            ("-listen-client-urls", listen(&self.client_urls)),
            ("-initial-cluster", self.cluster.clone()),
            ("-initial-cluster-state", "existing".to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }

    /// The shell command, over several lines.
    fn command(&self) -> String {
        let mut out = "etcd".to_owned();
        for pair in self.arguments().chunks(2) {
            // Writing to a String cannot fail.
            let _ =
                write!(out, " \\\n  {}", pair.iter().map(|text| word(text)).collect::<Vec<_>>().join(" "));
        }
        out
    }
}

/// The client URLs of the new member: on its own host, with the old member's schemes and ports.
fn client_urls(peer_urls: &[String], old: &[String]) -> Vec<String> {
    let host = peer_urls.first().and_then(|url| url.parse::<Url>().ok()).map(|url| bracketed(url.host()));
    let host = host.unwrap_or_else(|| "localhost".to_owned());
    let mut urls: Vec<String> = old
        .iter()
        .filter_map(|url| url.parse::<Url>().ok())
        .map(|url| format!("{}://{host}:{}", scheme(&url), url.port()))
        .collect();
    urls.sort_unstable();
    urls.dedup();
    if urls.is_empty() {
        urls.push(format!("http://{host}:{CLIENT_PORT}"));
    }
    urls
}

/// The URL to listen at for an advertised URL: all addresses if the host is a name.
fn listening(url: &str) -> String {
    match url.parse::<Url>() {
        Ok(parsed) if parsed.host().parse::<std::net::IpAddr>().is_err() => {
            format!("{}://0.0.0.0:{}", scheme(&parsed), parsed.port())
        }
        _ => url.to_owned(),
    }
}

fn scheme(url: &Url) -> &'static str {
    if url.scheme() == Scheme::Https { "https" } else { "http" }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Quotes a word for a shell.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,[]".contains(c);
    if !text.is_empty() && text.chars().all(plain) && !text.contains(['[', ']']) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, name: &str, peer: &str, clients: &[&str]) -> Member {
        Member {
            id: id.to_owned(),
            name: name.to_owned(),
            peer_urls: vec![peer.to_owned()],
            client_urls: clients.iter().map(|url| (*url).to_owned()).collect(),
        }
    }

    #[test]
    fn a_majority_is_kept_all_the_way() {
        for (all, others, old_is_well, outcome) in [
            (3, 2, false, Ok(())),
            (3, 2, true, Ok(())),
            (5, 3, false, Ok(())),
            (4, 3, false, Ok(())),
            (1, 0, true, Err(ReplaceRefusal::Alone)),
            (3, 1, false, Err(ReplaceRefusal::NoQuorum)),
            (2, 1, false, Err(ReplaceRefusal::NoQuorum)),
            (5, 2, false, Err(ReplaceRefusal::NoQuorum)),
            (3, 1, true, Err(ReplaceRefusal::LostByRemoval)),
            (5, 2, true, Err(ReplaceRefusal::LostByRemoval)),
            (2, 1, true, Err(ReplaceRefusal::LostUntilStart)),
            (4, 2, true, Err(ReplaceRefusal::LostUntilStart)),
        ] {
            assert_eq!(plan(all, others, old_is_well), outcome, "{all} {others} {old_is_well}");
        }
    }

    #[test]
    fn the_old_member_has_an_id_or_a_name() {
        let members = [
            member("a1", "x", "http://p:1", &[]),
            member("b2", "y", "http://q:1", &[]),
            member("c3", "y", "http://r:1", &[]),
        ];
        for wanted in ["a1", "0xa1", "A1", "x"] {
            assert_eq!(find(&members, wanted).unwrap().id, "a1", "{wanted}");
        }
        let text = |wanted: &str| find(&members, wanted).unwrap_err().to_string();
        assert!(text("y").contains("give the ID, one of b2, c3"));
        assert!(text("z").contains("there are a1 (x), b2 (y), c3 (y)"));
        assert!(text("").contains("no member"));
    }

    #[test]
    fn what_could_not_be_added_is_refused_before_anything_is_removed() {
        let other = member("a1", "x", "http://p:1", &[]);
        let check = |name: &str, urls: &str| {
            check_names(&[&other], name, &Urls::from_texts(urls.split(',')).unwrap())
                .map_err(|error| error.to_string())
        };
        assert_eq!(check("new", "http://q:1,http://q:2"), Ok(()));
        assert!(check("x", "http://q:1").unwrap_err().contains("called x already"));
        assert!(check("new", "http://q:1,http://p:1").unwrap_err().contains("is the peer URL of member a1"));
        assert!(check("a=b", "http://q:1").unwrap_err().contains("no name"));
    }

    #[test]
    fn the_command_starts_the_new_member() {
        let members =
            [member("b2", "", "http://10.0.0.4:2380", &[]), member("a1", "x", "http://10.0.0.1:2380", &[])];
        let old = member("c3", "gone", "http://10.0.0.3:2380", &["https://10.0.0.3:4001"]);
        let start = StartCommand::new("new one", "b2", &["http://10.0.0.4:2380".to_owned()], &members, &old);
        let command = start.command();
        assert!(
            command.starts_with("etcd \\\n  -name 'new one' \\\n  -data-dir 'new one.etcd' \\\n"),
            "{command}"
        );
        assert!(
            command.ends_with(
                "-advertise-client-urls https://10.0.0.4:4001 \\\n  -listen-client-urls https://10.0.0.4:4001 \\\n  \
                 -initial-cluster 'new one=http://10.0.0.4:2380,x=http://10.0.0.1:2380' \\\n  -initial-cluster-state existing"
            ),
            "{command}"
        );
        assert_eq!(listening("http://host.example:2380"), "http://0.0.0.0:2380");
        assert_eq!(listening("http://[::1]:2380"), "http://[::1]:2380");
        assert_eq!(client_urls(&["http://h:1".to_owned()], &[]), ["http://h:2379"]);
        assert_eq!(
            client_urls(&["http://[::1]:1".to_owned()], &["http://a:5".to_owned()]),
            ["http://[::1]:5"]
        );
        assert_eq!(word("http://[::1]:1"), "'http://[::1]:1'");
        assert_eq!(word("it's"), "'it'\\''s'");
    }

    #[test]
    fn half_a_replacement_says_how_to_finish_it() {
        let old = member("c3", "gone", "http://r:1", &[]);
        let (one, two) = (member("a1", "x", "http://p:1", &[]), member("b2", "y", "http://q:1", &[]));
        let urls = ["http://n:1".to_owned(), "http://n:2".to_owned()];
        let text = removed_only_text(&old, &[&one, &two], "new", &urls, &ClientError::DeadlineExceeded);
        assert!(text.contains(
            "Member c3 (gone) is removed, but the new one is not added: context deadline exceeded"
        ));
        assert!(text.contains("2 members now (x, y) and works with 2 of them"), "{text}");
        assert!(text.ends_with("\tetcdctl member add new http://n:1,http://n:2\n"), "{text}");
    }
}
