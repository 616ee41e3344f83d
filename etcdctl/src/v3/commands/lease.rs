//! The commands for leases.

use std::time::Duration;

use shared::client::v3::RpcError;
use shared::v3::pb::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

use super::super::failure::Failure;
use super::super::numbers;
use super::super::run::{Run, Session};

const NOT_FOUND: &str = "etcdserver: requested lease not found";

pub(super) async fn grant(run: Run<'_>) -> Result<(), Failure> {
    if run.line.arguments.len() != 1 {
        return Err(Failure::arguments("lease grant command needs TTL argument"));
    }
    let ttl = numbers::decimal(&run.line.argument(0))
        .map_err(|error| Failure::arguments(format!("bad TTL ({error})")))?;
    let mut session = run.connect().await?;
    let answer = session
        .call(session.client.lease_grant(LeaseGrantRequest { ttl, id: 0 }))
        .await
        .map_err(|error| Failure::server(format!("failed to grant lease ({error})")))?;
    session.printer.answer(&answer, |_, out| {
        out.extend_from_slice(
            format!("lease {:016x} granted with TTL({}s)\n", answer.id, answer.ttl).as_bytes(),
        );
    })
}

/// The lease that is the only argument.
fn lease(run: &Run<'_>, needs: &str) -> Result<i64, Failure> {
    if run.line.arguments.len() != 1 {
        return Err(Failure::arguments(needs));
    }
    numbers::lease(&run.line.argument(0))
        .map_err(|error| Failure::arguments(format!("bad lease ID arg ({error}), expecting ID in Hex")))
}

pub(super) async fn revoke(run: Run<'_>) -> Result<(), Failure> {
    let id = lease(&run, "lease revoke command needs 1 argument")?;
    let mut session = run.connect().await?;
    let answer = session
        .call(session.client.lease_revoke(LeaseRevokeRequest { id }))
        .await
        .map_err(|error| Failure::server(format!("failed to revoke lease ({error})")))?;
    session.printer.answer(&answer, |_, out| {
        out.extend_from_slice(format!("lease {id:016x} revoked\n").as_bytes());
    })
}

pub(super) async fn time_to_live(run: Run<'_>) -> Result<(), Failure> {
    let id = lease(&run, "lease timetolive command needs lease ID as argument")?;
    let keys = run.line.flags.is_on("keys");
    let mut session = run.connect().await?;
    let request = LeaseTimeToLiveRequest { id, keys };
    let answer = session.call(session.client.lease_time_to_live(request)).await?;
    session.printer.answer(&answer, |_, out| out.extend(simple_time_to_live(&answer, keys)))
}

fn simple_time_to_live(answer: &LeaseTimeToLiveResponse, keys: bool) -> Vec<u8> {
    let LeaseTimeToLiveResponse { id, ttl, granted_ttl, .. } = answer;
    if *granted_ttl == 0 && *ttl == -1 {
        return format!("lease {id:016x} already expired\n").into_bytes();
    }
    let mut out = format!("lease {id:016x} granted with TTL({granted_ttl}s), remaining({ttl}s)").into_bytes();
    if keys {
        out.extend_from_slice(b", attached keys([");
        out.extend(answer.keys.join(&b' '));
        out.extend_from_slice(b"])");
    }
    out.push(b'\n');
    out
}

pub(super) async fn list(run: Run<'_>) -> Result<(), Failure> {
    let mut session = run.connect().await?;
    let answer = session.call(session.client.lease_leases(LeaseLeasesRequest {})).await?;
    session.printer.answer(&answer, |_, out| {
        out.extend_from_slice(format!("found {} leases\n", answer.leases.len()).as_bytes());
        for lease in &answer.leases {
            out.extend_from_slice(format!("{:016x}\n", lease.id).as_bytes());
        }
    })
}

pub(super) async fn keep_alive(run: Run<'_>) -> Result<(), Failure> {
    let id = lease(&run, "lease keep-alive command needs lease ID as argument")?;
    let once = run.line.flags.is_on("once");
    let mut session = run.connect().await?;
    if once {
        let answer = session.call(renewed(&session, id)).await.map_err(Failure::connection)?;
        if answer.ttl <= 0 {
            return Err(Failure::connection(NOT_FOUND));
        }
        return show(&mut session, &answer);
    }
    loop {
        // A lost connection is no lost lease: the next attempt may reach another member in time.
        let mut stream = session.client.keep_alive(id).await?;
        loop {
            let answer = match stream.answer().await {
                Ok(answer) => answer,
                Err(RpcError::Broken(_) | RpcError::Ended) => break,
                Err(error) => return Err(error.into()),
            };
            if answer.ttl <= 0 {
                return session.printer.bytes(format!("lease {id:016x} expired or revoked.\n").as_bytes());
            }
            show(&mut session, &answer)?;
            let ttl = Duration::from_secs(answer.ttl.unsigned_abs());
            tokio::time::sleep(ttl / 3).await;
            if stream.renew(id).await.is_err() {
                break;
            }
        }
    }
}

async fn renewed(session: &Session<'_>, id: i64) -> Result<LeaseKeepAliveResponse, RpcError> {
    session.client.keep_alive(id).await?.answer().await
}

fn show(session: &mut Session<'_>, answer: &LeaseKeepAliveResponse) -> Result<(), Failure> {
    session.printer.answer(answer, |_, out| {
        let text = format!("lease {:016x} keepalived with TTL({})\n", answer.id, answer.ttl);
        out.extend_from_slice(text.as_bytes());
    })?;
    session.printer.now("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_lease_is_told() {
        let answer = |ttl, granted_ttl| LeaseTimeToLiveResponse {
            id: 0x1f,
            ttl,
            granted_ttl,
            keys: vec!["a".into(), "b".into()],
            ..LeaseTimeToLiveResponse::default()
        };
        let text =
            |ttl, granted, keys| String::from_utf8(simple_time_to_live(&answer(ttl, granted), keys)).unwrap();
        assert_eq!(text(-1, 0, true), "lease 000000000000001f already expired\n");
        assert_eq!(text(5, 10, false), "lease 000000000000001f granted with TTL(10s), remaining(5s)\n");
        assert_eq!(
            text(5, 10, true),
            "lease 000000000000001f granted with TTL(10s), remaining(5s), attached keys([a b])\n"
        );
    }
}
