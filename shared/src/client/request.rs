//! One call of the API, for any member.

use http::Method;
use http::header::{self, HeaderMap, HeaderValue, InvalidHeaderValue};

use super::endpoint::Endpoint;
use super::text::Form;
use crate::net::HttpRequest;
use crate::quote::quote;

/// The content type of the keys API.
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
/// The content type of the administrative API.
pub(super) const JSON: &str = "application/json";

/// A call: the same for every endpoint.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The path below the endpoint's own, not escaped.
    pub(super) path: Vec<u8>,
    pub(super) query: Form,
    pub(super) content_type: Option<&'static str>,
    pub(super) body: Option<Vec<u8>>,
    /// Whether the answer may take any time: the limit of one request does not apply.
    pub(super) wait: bool,
    /// Whether the status 500 is an answer to this call, and not a failure of the member.
    pub(super) takes_500: bool,
}

impl Request {
    /// A call without parameters.
    pub(super) fn new(method: Method, path: impl Into<Vec<u8>>) -> Request {
        Request {
            method,
            path: path.into(),
            query: Form::default(),
            content_type: None,
            body: None,
            wait: false,
            takes_500: false,
        }
    }

    /// With a body.
    pub(super) fn with_body(mut self, content_type: &'static str, body: impl Into<Vec<u8>>) -> Request {
        self.content_type = Some(content_type);
        self.body = Some(body.into());
        self
    }

    /// The call as a URL on an endpoint, and the part of it that follows the host.
    pub(super) fn url(&self, endpoint: &Endpoint) -> (String, String) {
        endpoint.url(&self.path, &self.query.encode())
    }

    /// A `curl` command that does the same on a URL.
    pub(super) fn curl(&self, url: &str) -> String {
        let mut command = format!("curl -X {} {url}", self.method);
        if let Some(body) = &self.body {
            command.push_str(" -d ");
            command.push_str(&quote(&*String::from_utf8_lossy(body)));
        }
        command
    }

    /// The call as HTTP.
    pub(super) fn to_http(
        &self,
        authority: &str,
        target: &str,
        authorization: Option<&HeaderValue>,
    ) -> Result<HttpRequest, InvalidHeaderValue> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(authority)?);
        let program = HeaderValue::from_static(concat!("etcd-rs/", env!("CARGO_PKG_VERSION")));
        headers.insert(header::USER_AGENT, program);
        if let Some(content_type) = self.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        let body = self.body.clone().unwrap_or_default().into();
        Ok(HttpRequest { method: self.method.clone(), path: target.to_owned(), headers, body })
    }
}
