//! `/v2/admin` of 0.4 on clients' ports.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use crate::admin::{self, ChangeRequest};
use crate::api::page::Asked;
use crate::api::page::Context;
use crate::api::page::gate;
use crate::auth::only_reads;
use crate::backend::Backend;
use crate::transport::reply::{self, Response};

/// Answers a client. With auth on, what changes the cluster is for `root`.
pub(crate) async fn answer<B: Backend>(
    context: &Context<B>,
    asked: Asked<'_>,
    mut headers: HeaderMap,
) -> Response {
    let answer = if only_reads(asked.method) {
        admin::read(&context.backend, asked.rest)
    } else {
        match gate::admit_root(context, &asked, "/v2/admin").await {
            Ok(asked) => {
                let change =
                    asked.map(|Asked { method, rest, body, .. }| ChangeRequest { method, rest, body });
                admin::change(&context.backend, change).await
            }
            Err(denied) => return gate::refuse(headers, denied),
        }
    };
    if !answer.content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    }
    reply::answer(headers, answer.status, answer.body)
}
