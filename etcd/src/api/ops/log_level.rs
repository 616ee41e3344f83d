//! `/config/local/log`: how much this member writes to its log.

use http::{HeaderMap, Method, StatusCode};

use crate::api::page::Asked;
use crate::api::page::Context;
use crate::api::page::gate;
use crate::auth::Authorized;
use crate::backend::Backend;
use crate::go_json;
use crate::log::{self, Level};
use crate::transport::reply::{self, Response};

/// Changes the level. With auth on that is for `root`: a verbose log fills disks, a silent one hides what happens.
pub(crate) async fn answer<B: Backend>(
    context: &Context<B>,
    asked: &Asked<'_>,
    headers: HeaderMap,
) -> Response {
    if *asked.method != Method::PUT {
        return reply::method_not_allowed(headers, "PUT");
    }
    match Authorized::while_off(context.backend.auth(), asked) {
        Ok(asked) => set(context, &asked, headers),
        Err(asked) => match gate::admit_root(context, asked, "/config/local/log").await {
            Ok(asked) => set(context, &asked, headers),
            Err(denied) => gate::refuse(headers, denied),
        },
    }
}

fn set<B>(context: &Context<B>, asked: &Authorized<&Asked<'_>>, headers: HeaderMap) -> Response {
    let Some(level) = go_json::first_string_at(&asked.body, "Level") else {
        return reply::message(headers, StatusCode::BAD_REQUEST, "Invalid json body");
    };
    match level.to_uppercase().parse::<Level>() {
        Ok(level) => {
            log::notice!("etcdhttp", "globalLogLevel set to \"{level}\"");
            context.log.set_all(level);
            reply::empty(headers, StatusCode::NO_CONTENT)
        }
        Err(_) => reply::message(headers, StatusCode::BAD_REQUEST, format!("Invalid log level {level}")),
    }
}
