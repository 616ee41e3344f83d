//! The commands for members.

use shared::url::Url;
use shared::v3::pb::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest, ResponseHeader, StatusRequest,
};

use super::super::failure::Failure;
use super::super::numbers;
use super::super::print::table::table;
use super::super::print::{Format, Object};
use super::super::run::{Run, Session};

pub(super) async fn add(run: Run<'_>) -> Result<(), Failure> {
    let line = run.line;
    let urls = line.flags.text("peer-urls").unwrap_or_default();
    match line.arguments.len() {
        0 => return Err(Failure::arguments("member name not provided")),
        1 => {}
        _ => return Err(Failure::arguments("too many arguments")),
    }
    let peer_ur_ls = peer_urls(&urls)?;
    let name = line.argument(0);
    let is_learner = line.flags.is_on("learner");
    let mut session = run.connect().await?;
    let request = MemberAddRequest { peer_ur_ls: peer_ur_ls.clone(), is_learner };
    let answer = session.call(session.client.member_add(request)).await?;
    let id = answer.member.as_ref().map_or(0, |member| member.id);
    session.printer.answer(&answer, |_, out| {
        let header = answer.header.unwrap_or_default();
        out.extend_from_slice(
            format!("Member {id:>16x} added to cluster {:>16x}\n", header.cluster_id).as_bytes(),
        );
    })?;
    if session.settings.format != Format::Simple {
        return Ok(());
    }
    // What the new member is started with.
    let cluster: Vec<String> = answer
        .members
        .iter()
        .flat_map(|member| {
            let name = if member.id == id { name.clone() } else { member.name.clone() };
            member.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
        })
        .collect();
    session.printer.bytes(
        format!(
            "\nETCD_NAME=\"{name}\"\nETCD_INITIAL_CLUSTER=\"{}\"\nETCD_INITIAL_ADVERTISE_PEER_URLS=\"{}\"\n\
             ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
            cluster.join(","),
            peer_ur_ls.join(",")
        )
        .as_bytes(),
    )
}

fn peer_urls(list: &str) -> Result<Vec<String>, Failure> {
    if list.is_empty() {
        return Err(Failure::arguments("member peer urls not provided"));
    }
    let urls: Vec<String> = list.split(',').map(|url| url.trim().to_owned()).collect();
    for url in &urls {
        if url.parse::<Url>().is_err() && !url.contains("://") {
            let text = format!("URL scheme must be http, https, unix, or unixs: {url}");
            return Err(Failure::server(text));
        }
    }
    Ok(urls)
}

/// The member that is the only argument.
fn member(run: &Run<'_>) -> Result<u64, Failure> {
    if run.line.arguments.len() != 1 {
        return Err(Failure::arguments("member ID is not provided"));
    }
    numbers::member(&run.line.argument(0))
        .map_err(|error| Failure::arguments(format!("bad member ID arg ({error}), expecting ID in Hex")))
}

fn done(id: u64, what: &str, header: Option<ResponseHeader>) -> Vec<u8> {
    let cluster = header.unwrap_or_default().cluster_id;
    format!("Member {id:>16x} {what} cluster {cluster:>16x}\n").into_bytes()
}

pub(super) async fn remove(run: Run<'_>) -> Result<(), Failure> {
    let id = member(&run)?;
    let mut session = run.connect().await?;
    let answer = session.call(session.client.member_remove(MemberRemoveRequest { id })).await?;
    session.printer.answer(&answer, |_, out| out.extend(done(id, "removed from", answer.header)))
}

pub(super) async fn update(run: Run<'_>) -> Result<(), Failure> {
    let id = member(&run)?;
    let urls = run.line.flags.text("peer-urls").unwrap_or_default();
    if urls.is_empty() {
        return Err(Failure::arguments("member peer urls not provided"));
    }
    let peer_ur_ls = urls.split(',').map(str::to_owned).collect();
    let mut session = run.connect().await?;
    let request = MemberUpdateRequest { id, peer_ur_ls };
    let answer = session.call(session.client.member_update(request)).await?;
    session.printer.answer(&answer, |_, out| out.extend(done(id, "updated in", answer.header)))
}

pub(super) async fn promote(run: Run<'_>) -> Result<(), Failure> {
    let id = member(&run)?;
    let mut session = run.connect().await?;
    let answer = session.call(session.client.member_promote(MemberPromoteRequest { id })).await?;
    session.printer.answer(&answer, |_, out| out.extend(done(id, "promoted in", answer.header)))
}

pub(super) async fn list(run: Run<'_>) -> Result<(), Failure> {
    let mut session = run.connect().await?;
    let answer = session.call(session.client.member_list(MemberListRequest { linearizable: true })).await?;
    match session.settings.format {
        Format::Table => {
            let titles = ["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"];
            let rows: Vec<Vec<String>> = answer.members.iter().map(row).collect();
            session.printer.bytes(table(&titles, &rows).as_bytes())
        }
        Format::Json if session.settings.hex => {
            let mut text = hexadecimal(&answer);
            text.push(b'\n');
            session.printer.bytes(&text)
        }
        _ => session.printer.answer(&answer, |_, out| {
            for member in &answer.members {
                out.extend_from_slice(format!("{}\n", row(member).join(", ")).as_bytes());
            }
        }),
    }
}

fn row(member: &Member) -> Vec<String> {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    vec![
        format!("{:x}", member.id),
        status.to_owned(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

/// JSON with ids in hexadecimal; one name is spelt in another way there.
fn hexadecimal(answer: &MemberListResponse) -> Vec<u8> {
    let id = |id: u64| format!("\"{id:x}\"");
    let mut out = Vec::new();
    let mut object = Object::new(&mut out);
    let header = answer.header.unwrap_or_default();
    object.raw(
        "header",
        &format!(
            "{{\"cluster_id\":{},\"member_id\":{},\"raft_term\":{}}}",
            id(header.cluster_id),
            id(header.member_id),
            header.raft_term
        ),
    );
    object.list("members", &answer.members, |out, member| {
        let mut object = Object::new(out);
        object.raw("ID", &id(member.id));
        object.text("name", &member.name);
        object.texts("peerURLs", &member.peer_ur_ls);
        object.texts("clientURLS", &member.client_ur_ls);
        object.bool("isLearner", member.is_learner);
        object.end();
    });
    object.end();
    out
}

pub(super) async fn move_leader(run: Run<'_>) -> Result<(), Failure> {
    if run.line.arguments.len() != 1 {
        return Err(Failure::arguments("move-leader command needs 1 argument"));
    }
    let target = numbers::member(&run.line.argument(0)).map_err(Failure::arguments)?;
    let mut session = run.connect().await?;
    let (leader, client) = leader(&mut session).await?;
    let answer =
        session.limited(&client, client.move_leader(MoveLeaderRequest { target_id: target })).await?;
    session.printer.answer(&answer, |_, out| {
        out.extend_from_slice(format!("Leadership transferred from {leader:x} to {target:x}\n").as_bytes());
    })
}

/// The leader among the endpoints, and a client of it.
async fn leader(session: &mut Session<'_>) -> Result<(u64, shared::client::v3::Client), Failure> {
    let endpoints = session.settings.endpoints.clone();
    for endpoint in &endpoints {
        let client = session.client_of(endpoint)?;
        let status = session.limited(&client, client.status(StatusRequest {})).await?;
        let id = status.header.unwrap_or_default().member_id;
        if status.leader == id {
            return Ok((id, client));
        }
    }
    Err(Failure::arguments(format!("no leader endpoint given at [{}]", endpoints.join(" "))))
}
