//! `alarm list` and `alarm disarm`.

use shared::v3::pb::etcdserverpb::alarm_request::AlarmAction;
use shared::v3::pb::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse};

use super::super::failure::Failure;
use super::super::run::{Run, Session};

pub(super) async fn list(run: Run<'_>) -> Result<(), Failure> {
    if !run.line.arguments.is_empty() {
        return Err(Failure::arguments("alarm list command accepts no arguments"));
    }
    let mut session = run.connect().await?;
    let answer = session.call(session.client.alarm(AlarmRequest::default())).await?;
    show(&mut session, &answer)
}

pub(super) async fn disarm(run: Run<'_>) -> Result<(), Failure> {
    if !run.line.arguments.is_empty() {
        return Err(Failure::arguments("alarm disarm command accepts no arguments"));
    }
    let mut session = run.connect().await?;
    let raised = session.call(session.client.alarm(AlarmRequest::default())).await?;
    let mut ended = AlarmResponse { header: raised.header, alarms: Vec::new() };
    for AlarmMember { member_id, alarm } in raised.alarms {
        let request = AlarmRequest { action: AlarmAction::Deactivate.into(), member_id, alarm };
        let answer = session.call(session.client.alarm(request)).await?;
        ended.header = answer.header;
        ended.alarms.extend(answer.alarms);
    }
    show(&mut session, &ended)
}

fn show(session: &mut Session<'_>, answer: &AlarmResponse) -> Result<(), Failure> {
    session.printer.answer(answer, |_, out| {
        for alarm in &answer.alarms {
            let name = alarm.alarm().as_str_name();
            out.extend_from_slice(format!("memberID:{} alarm:{name} \n", alarm.member_id).as_bytes());
        }
    })
}
