//! `member list`, `add`, `remove`, `update`; `replace` is in its own file.

use std::ffi::OsString;

use shared::client::{ClientError, Member as Known};
use shared::quote::quote;

use super::replace::Replace;
use super::single_member;
use crate::error::CliError;
use crate::session::Session;

/// Show and change the members of the cluster
#[derive(Debug, clap::Args)]
#[command(subcommand_required = false, override_usage = "etcdctl member <COMMAND> [ARGUMENTS]")]
pub(crate) struct Member {
    #[command(subcommand)]
    command: MemberCommand,
}

#[derive(Debug, clap::Subcommand)]
enum MemberCommand {
    /// List the members: id, name, URLs, and which one leads
    List(Arguments),
    /// Add a member, and print the settings to start it with
    ///
    /// Add the member first, start it afterwards with the printed environment. Until it runs it counts as a member
    /// that is down: a cluster of one is without a majority for that time.
    #[command(override_usage = "etcdctl member add <NAME> <PEER_URLS>")]
    Add(Arguments),
    /// Remove a member by its id
    #[command(override_usage = "etcdctl member remove <ID>")]
    Remove(Arguments),
    /// Give a member other peer URLs
    ///
    /// Needed when its address changes: update first, then start it with the new address.
    #[command(override_usage = "etcdctl member update <ID> <PEER_URLS>")]
    Update(Arguments),
    Replace(Replace),
}

/// All arguments in one list: a wrong number of them is refused with the original's text.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(value_name = "ARGUMENTS", hide = true)]
    words: Vec<OsString>,
}

impl Arguments {
    /// Exactly `N` arguments.
    pub(super) fn exactly<const N: usize>(self, otherwise: &str) -> Result<[String; N], CliError> {
        let words: Vec<String> =
            self.words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
        words.try_into().map_err(|_| CliError::failed(otherwise))
    }
}

impl Member {
    pub(super) async fn run(self, session: &mut Session<'_>) -> Result<(), CliError> {
        match self.command {
            MemberCommand::List(arguments) => {
                let [] = arguments.exactly("No arguments accepted")?;
                list(session).await
            }
            MemberCommand::Add(arguments) => {
                let [name, peer_url] = arguments.exactly("Provide a name and a single member peerURL")?;
                add(session, &name, &peer_url).await
            }
            MemberCommand::Remove(arguments) => {
                let [id] = arguments.exactly("Provide a single member ID")?;
                remove(session, &id).await
            }
            MemberCommand::Update(arguments) => {
                let [id, peer_urls] = arguments.exactly(
                    "Provide an ID and a list of comma separated peerURL \
                     (0xabcd http://example.com,http://example1.com)",
                )?;
                update(session, &id, &peer_urls).await
            }
            MemberCommand::Replace(command) => command.run(session).await,
        }
    }
}

async fn list(session: &mut Session<'_>) -> Result<(), CliError> {
    let client = session.connect().await?;
    let members = session.limit(client.members()).await.map_err(CliError::failed)?;
    let leader = session
        .limit(client.leader())
        .await
        .map_err(|error| CliError::Failed(format!("Failed to get leader:  {error}")))?;
    for member in &members {
        session.out.line(&describe(member, &leader))?;
    }
    Ok(())
}

fn describe(member: &Known, leader: &Known) -> String {
    let Known { id, name, .. } = member;
    let peers = member.peer_urls.join(",");
    if name.is_empty() {
        return format!("{id}[unstarted]: peerURLs={peers}");
    }
    let clients = member.client_urls.join(",");
    format!("{id}: name={name} peerURLs={peers} clientURLs={clients} isLeader={}", *id == leader.id)
}

async fn add(session: &mut Session<'_>, name: &str, peer_urls: &str) -> Result<(), CliError> {
    let client = session.connect().await?;
    let urls: Vec<&str> = peer_urls.split(',').collect();
    if let Some(warning) = single_member::warning(&client, name, &urls).await {
        session.out.note(&warning)?;
    }
    let new = session.limit(client.add_member_at(&urls)).await.map_err(CliError::failed)?;
    session.out.line(&format!("Added member named {name} with ID {} to cluster", new.id))?;
    let members = session.limit(client.members()).await.map_err(CliError::failed)?;
    session.out.text(&start_settings(name, &new.id, &members))
}

/// The environment that a new member is started with.
pub(super) fn start_settings(name: &str, id: &str, members: &[Known]) -> String {
    format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        quote(name),
        quote(initial_cluster(name, id, members))
    )
}

/// `-initial-cluster` of a new member.
pub(super) fn initial_cluster(name: &str, id: &str, members: &[Known]) -> String {
    let mut cluster = Vec::new();
    for member in members {
        // The new member has no name yet in the cluster's list.
        let name = if member.id == id { name } else { &member.name };
        cluster.extend(member.peer_urls.iter().map(|url| format!("{name}={url}")));
    }
    cluster.join(",")
}

/// `1 member`, `3 members`.
pub(super) fn count(members: usize) -> String {
    let s = if members == 1 { "" } else { "s" };
    format!("{members} member{s}")
}

async fn remove(session: &mut Session<'_>, id: &str) -> Result<(), CliError> {
    let client = session.connect().await?;
    let members = session.limit(client.members()).await.map_err(|error: ClientError| {
        CliError::Failed(format!("Error while verifying ID against known members: {error}"))
    })?;
    for member in members.iter().filter(|member| member.name == id) {
        session.out.note(&format!(
            "Found a member named {id}; if this is correct, please use its ID, eg:\n\
             \tetcdctl member remove {}\n\
             For more details, read the documentation at https://github.com/coreos/etcd/blob/master/\
             Documentation/runtime-configuration.md#remove-a-member\n\n",
            member.id
        ))?;
    }
    if !members.iter().any(|member| member.id == id) {
        let text = format!("Couldn't find a member in the cluster with an ID of {id}.");
        return Err(CliError::Failed(text));
    }
    session.limit(client.remove_member(id)).await.map_err(|error| {
        CliError::Failed(format!("Received an error trying to remove member {id}: {error}"))
    })?;
    session.out.line(&format!("Removed member {id} from cluster"))
}

async fn update(session: &mut Session<'_>, id: &str, peer_urls: &str) -> Result<(), CliError> {
    let client = session.connect().await?;
    let urls: Vec<&str> = peer_urls.split(',').collect();
    session.limit(client.update_member(id, &urls)).await.map_err(CliError::failed)?;
    session.out.line(&format!("Updated member with ID {id} in cluster"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, name: &str, peers: &[&str]) -> Known {
        Known {
            id: id.into(),
            name: name.into(),
            peer_urls: peers.iter().map(|url| (*url).to_owned()).collect(),
            client_urls: vec!["http://c:1".into(), "http://d:1".into()],
        }
    }

    #[test]
    fn a_member_is_one_line() {
        let (one, two) =
            (member("a1", "x", &["http://p:1", "http://q:1"]), member("b2", "", &["http://r:1"]));
        assert_eq!(
            describe(&one, &one),
            "a1: name=x peerURLs=http://p:1,http://q:1 clientURLs=http://c:1,http://d:1 isLeader=true"
        );
        assert!(describe(&one, &two).ends_with("isLeader=false"));
        assert_eq!(describe(&two, &one), "b2[unstarted]: peerURLs=http://r:1");
    }

    #[test]
    fn a_new_member_is_started_with_its_name_and_everybodys_urls() {
        let members = [member("b2", "", &["http://r:1"]), member("a1", "x", &["http://p:1", "http://q:1"])];
        assert_eq!(
            start_settings("new \"one\"", "b2", &members),
            "\nETCD_NAME=\"new \\\"one\\\"\"\n\
             ETCD_INITIAL_CLUSTER=\"new \\\"one\\\"=http://r:1,x=http://p:1,x=http://q:1\"\n\
             ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n"
        );
    }

    #[test]
    fn the_number_of_arguments_is_checked() {
        let arguments = |words: &[&str]| Arguments { words: words.iter().map(OsString::from).collect() };
        assert_eq!(arguments(&["a", "b"]).exactly("two").unwrap(), ["a", "b"]);
        assert_eq!(arguments(&["a"]).exactly::<2>("two").unwrap_err().to_string(), "two");
        assert!(arguments(&["a", "b", "c"]).exactly::<2>("two").is_err());
    }
}
