//! Requests to one member alone, for tools that check it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::time::Instant;

use super::Client;
use super::endpoint::Endpoint;
use super::error::RequestError;
use super::request::Request;

/// Any answer.
#[derive(Debug, Clone)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
    /// The time from the request to the end of the answer, including dialling if there was no connection.
    pub took: Duration,
}

impl Client {
    /// Gets one page from one endpoint, which need not be one of this client's, with any status. There is no time
    /// limit: callers set one.
    ///
    /// # Errors
    /// When there is no answer, or its body is longer than `bytes_max`.
    pub async fn page(
        &self,
        method: Method,
        endpoint: &Endpoint,
        path: &str,
        query: &[(&'static str, &str)],
        bytes_max: usize,
    ) -> Result<Page, RequestError> {
        let mut request = Request::new(method, path);
        for (name, value) in query {
            request.query.add(name, *value);
        }
        request.wait = true;
        let started = Instant::now();
        let answer = self.follow(endpoint, &request, self.trace.as_ref()).await?;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let body = answer.body_within(bytes_max).await?;
        Ok(Page { status, headers, body, took: started.elapsed() })
    }
}
