//! Handles a client's request: answers it if it is about the proxy itself, else forwards it to a member.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    TE, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;
use shared::json;
use shared::time::UnixNanos;
use tokio::time::Instant;

use super::Proxy;
use super::body::{Body, ForwardedBody, StopSignal};
use super::hops::{HopError, LOOP};
use super::metrics::{DropReason, MethodIndex};
use super::premature_close::PrematureCloseLog;
use super::upstream::Outgoing;
use crate::log;
use crate::metrics;
use crate::transport::reply::{self, BadRequest};
use crate::transport::request::{self, BodyError, Expects, Framing};
use crate::transport::{Flow, HttpServer, Site, path};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Hop-by-hop headers, which are not forwarded.
const OF_ONE_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    HeaderName::from_static("trailers"),
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The state that the requests of one client connection share.
pub(crate) struct Exchange {
    proxy: Arc<Proxy>,
    flow: Arc<Flow>,
    client: Option<SocketAddr>,
    /// Whether the connection uses TLS.
    encrypted: bool,
    /// The client's address in the form of `X-Forwarded-For`.
    client_ip: Option<HeaderValue>,
}

impl Site for Proxy {
    type Exchange = Exchange;
    type Body = Body;

    fn http_server(&self) -> &HttpServer {
        &self.http_server
    }

    fn clock(&self) -> UnixNanos {
        crate::server::now()
    }

    fn begin_exchange(
        self: Arc<Self>,
        flow: Arc<Flow>,
        client: Option<SocketAddr>,
        encrypted: bool,
    ) -> Exchange {
        let client_ip = client.and_then(|client| HeaderValue::from_str(&client.ip().to_string()).ok());
        Exchange { proxy: self, flow, client, encrypted, client_ip }
    }

    async fn answer(
        exchange: Arc<Exchange>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Infallible> {
        let (head, body) = request.into_parts();
        exchange.flow.begins(body.size_hint().exact());
        let response = exchange.answer(head, body).await;
        if let Body::Own(_) = response.body() {
            exchange.flow.ends();
        }
        Ok(response)
    }
}

/// The pages that the proxy answers itself.
enum LocalPage {
    Metrics,
    NotImplemented,
    Options(Option<HeaderValue>),
    Endpoints(Option<HeaderValue>),
    Nowhere,
}

impl Exchange {
    async fn answer(&self, mut head: Parts, mut body: Incoming) -> Response<Body> {
        if let Err(bad) = request::check_head(&head) {
            return own_response(reply::bad_request(request::empty_headers(&mut head), bad));
        }
        if let Err(forbidden) = self.proxy.browsers.check(&head, self.encrypted, crate::api::area) {
            return own_response(request::forbid(&self.flow, &forbidden, head, &mut body).await);
        }
        let Ok(path) = path::unescape(head.uri.path().as_bytes()) else {
            return own_response(reply::bad_request(
                request::empty_headers(&mut head),
                BadRequest::Malformed,
            ));
        };
        let (framing, expects) = (Framing::of(&head), Expects::of(&head.headers));
        if &*path == b"*" {
            let mut headers = request::empty_headers(&mut head);
            if head.method == Method::OPTIONS {
                request::discard(&self.flow, &mut body, expects, framing, &mut headers).await;
                return own_response(reply::empty(headers, StatusCode::OK));
            }
            reply::close(&mut headers);
            return own_response(reply::empty(headers, StatusCode::BAD_REQUEST));
        }
        if expects == Expects::Unknown {
            let mut headers = request::empty_headers(&mut head);
            reply::close(&mut headers);
            return own_response(reply::empty(headers, StatusCode::EXPECTATION_FAILED));
        }
        if head.method != Method::CONNECT
            && let Some(clean) = path::cleaned(&path)
        {
            let mut headers = request::empty_headers(&mut head);
            request::discard(&self.flow, &mut body, expects, framing, &mut headers).await;
            return own_response(reply::redirect_permanently(
                headers,
                &head.method,
                &clean,
                head.uri.query(),
            ));
        }
        let origin = self.proxy.browsers.cors.allowed(&head.headers);
        let local = match &*path {
            b"/metrics" => LocalPage::Metrics,
            _ if self.proxy.readonly && head.method != Method::GET => LocalPage::NotImplemented,
            _ if head.method == Method::OPTIONS => LocalPage::Options(origin),
            b"/v2/config/local/proxy" => LocalPage::Endpoints(origin),
            [b'/', ..] => return self.forward(head, body, origin).await,
            // The target of CONNECT is not a page.
            _ => LocalPage::Nowhere,
        };
        let mut headers = request::empty_headers(&mut head);
        request::discard(&self.flow, &mut body, expects, framing, &mut headers).await;
        own_response(self.local(local, &head.method, headers))
    }

    fn local(&self, page: LocalPage, method: &Method, mut headers: HeaderMap) -> reply::Response {
        match page {
            LocalPage::Metrics => {
                let page = self.proxy.process_metrics.page(self.proxy.measures());
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
                reply::answer(headers, StatusCode::OK, page)
            }
            LocalPage::Nowhere => reply::not_found(headers),
            LocalPage::NotImplemented => reply::empty(headers, StatusCode::NOT_IMPLEMENTED),
            LocalPage::Options(origin) => reply::empty(request::with_cors(headers, origin), StatusCode::OK),
            LocalPage::Endpoints(origin) => {
                let mut headers = request::with_cors(headers, origin);
                if !matches!(*method, Method::GET | Method::HEAD) {
                    return reply::method_not_allowed(headers, "GET");
                }
                headers.insert(CONTENT_TYPE, reply::TEXT);
                reply::answer(
                    headers,
                    StatusCode::OK,
                    endpoints(&self.proxy.director.available(Instant::now())),
                )
            }
        }
    }

    /// Forwards a request to the first endpoint that answers.
    async fn forward(
        &self,
        mut head: Parts,
        mut body: Incoming,
        origin: Option<HeaderValue>,
    ) -> Response<Body> {
        let proxy = &*self.proxy;
        let began = Instant::now();
        let method = MethodIndex::of(&head.method);
        proxy.metrics.requested(method);
        let refuse = |headers, status, text: &str| {
            own_response(reply::message(request::with_cors(headers, origin.clone()), status, text))
        };

        // The reserved memory is kept until the response: the body may be sent several times.
        let (body, _room) = if body.is_end_stream() {
            (Bytes::new(), None)
        } else {
            match request::read(&self.flow, &proxy.http_server, &mut body).await {
                Ok((whole, room)) => (whole.into_bytes(), room),
                Err(why) => {
                    self.flow.leaves_unread();
                    let mut headers = request::empty_headers(&mut head);
                    reply::close(&mut headers);
                    let (status, cause) = body_error(why);
                    let text = format!("proxy: failed to read request body: {cause}");
                    return refuse(headers, status, &text);
                }
            }
        };
        let stop = is_watch(&head).then(|| proxy.stop());
        if let Err(refused) = proxy.hops.add(&mut head.headers) {
            proxy.metrics.dropped(method, DropReason::FailedGettingResponse);
            let text = refused.text();
            proxy.rate_limited_log.error(&text, began);
            return match refused {
                HopError::Loop => mark_loop(refuse(HeaderMap::new(), StatusCode::LOOP_DETECTED, &text)),
                HopError::TooFar => refuse(HeaderMap::new(), StatusCode::LOOP_DETECTED, &text),
            };
        }
        let Some(outgoing) = self.outgoing(head, body) else {
            return own_response(reply::bad_request(HeaderMap::new(), BadRequest::Malformed));
        };
        let mut premature = PrematureCloseLog::of(self.client);
        let (mut tried, mut looping) = (0, false);
        for endpoint in proxy.director.endpoints().iter() {
            if endpoint.loops() {
                looping = true;
                continue;
            }
            if !proxy.director.is_available(endpoint, began) {
                continue;
            }
            tried += 1;
            match endpoint.upstream.send(&proxy.connector, &outgoing).await {
                Ok((response, _)) if response.headers().contains_key(LOOP) => {
                    proxy.metrics.dropped(method, DropReason::FailedSendingRequest);
                    endpoint.mark_looping();
                    looping = true;
                }
                Ok((response, lease)) => {
                    let (mut head, incoming) = response.into_parts();
                    proxy.metrics.handled(method, head.status, began.elapsed());
                    remove_hop_headers(&mut head.headers);
                    append_origin(origin, &mut head.headers);
                    let forwarded = ForwardedBody::new(incoming, lease, self.flow.clone(), stop, premature);
                    let mut response = Response::new(Body::Forwarded(forwarded));
                    *response.status_mut() = head.status;
                    *response.headers_mut() = head.headers;
                    return response;
                }
                Err(error) => {
                    proxy.metrics.dropped(method, DropReason::FailedSendingRequest);
                    let url = endpoint.upstream.url();
                    log::info!("proxy", "failed to direct request to {url}: {error}");
                    proxy.director.failed(endpoint, Instant::now());
                }
            }
        }
        premature.disarm();
        if looping {
            proxy.metrics.dropped(method, DropReason::FailedGettingResponse);
            let text = HopError::Loop.text();
            return mark_loop(refuse(HeaderMap::new(), StatusCode::LOOP_DETECTED, &text));
        }
        if tried == 0 {
            proxy.metrics.dropped(method, DropReason::ZeroEndpoints);
            let text = "zero endpoints currently available";
            proxy.rate_limited_log.info(text, began);
            return refuse(HeaderMap::new(), StatusCode::SERVICE_UNAVAILABLE, &format!("proxy: {text}"));
        }
        proxy.metrics.dropped(method, DropReason::FailedGettingResponse);
        let text = format!("unable to get response from {tried} endpoint(s)");
        proxy.rate_limited_log.info(&text, Instant::now());
        refuse(HeaderMap::new(), StatusCode::BAD_GATEWAY, &format!("proxy: {text}"))
    }

    /// The request to send to a member. `None` if the target is invalid.
    fn outgoing(&self, head: Parts, body: Bytes) -> Option<Outgoing> {
        let mut headers = head.headers;
        remove_hop_headers(&mut headers);
        // The proxy has received the body already.
        headers.remove(EXPECT);
        if let Some(authority) = head.uri.authority() {
            headers.insert(HOST, HeaderValue::from_str(authority.as_str()).ok()?);
        }
        if let Some(client_ip) = &self.client_ip {
            let forwarded = forwarded_for(&headers, client_ip);
            headers.insert(X_FORWARDED_FOR, forwarded);
        }
        let target = head.uri.into_parts().path_and_query;
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        Some(Outgoing { method: head.method, target, headers, body })
    }
}

/// Marks a response so that another proxy sees that its request came back.
fn mark_loop(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(LOOP, HeaderValue::from_static("1"));
    response
}

fn own_response(response: reply::Response) -> Response<Body> {
    response.map(Body::Own)
}

/// The status and the text if the request body could not be read.
fn body_error(why: BodyError) -> (StatusCode, &'static str) {
    let (status, cause) = why.status_and_text();
    match why {
        BodyError::TooLarge | BodyError::NoRoom => (status, cause),
        BodyError::Broken => (StatusCode::INTERNAL_SERVER_ERROR, cause),
    }
}

/// Whether the request is a watch, whose response may take any time.
fn is_watch(head: &Parts) -> bool {
    head.method == Method::GET && head.uri.query().is_some_and(|query| query.contains("wait="))
}

fn remove_hop_headers(headers: &mut HeaderMap) {
    for name in &OF_ONE_HOP {
        headers.remove(name);
    }
}

/// The `X-Forwarded-For` header: the addresses from earlier proxies, then the client's.
fn forwarded_for(headers: &HeaderMap, client_ip: &HeaderValue) -> HeaderValue {
    let mut value = Vec::new();
    for earlier in headers.get_all(X_FORWARDED_FOR) {
        value.extend_from_slice(earlier.as_bytes());
        value.extend_from_slice(b", ");
    }
    if value.is_empty() {
        return client_ip.clone();
    }
    value.extend_from_slice(client_ip.as_bytes());
    HeaderValue::from_bytes(&value).unwrap_or_else(|_| client_ip.clone())
}

/// Adds CORS headers for `origin` to those of the member.
fn append_origin(origin: Option<HeaderValue>, headers: &mut HeaderMap) {
    if origin.is_none() {
        return;
    }
    for (name, value) in &request::with_cors(HeaderMap::new(), origin) {
        headers.append(name, value.clone());
    }
}

fn endpoints(urls: &[String]) -> Vec<u8> {
    let mut page = b"{\"endpoints\":[".to_vec();
    for (number, url) in urls.iter().enumerate() {
        if number > 0 {
            page.push(b',');
        }
        json::write_string(&mut page, url.as_bytes());
    }
    page.extend_from_slice(b"]}\n");
    page
}

impl Proxy {
    /// Resolves when the proxy stops.
    fn stop(&self) -> StopSignal {
        let mut stopping = self.stopping.clone();
        Box::pin(async move { drop(stopping.wait_for(|stopping| *stopping).await) })
    }
}
