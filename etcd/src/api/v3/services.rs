//! Finds the service for a request. This is the type that the server holds; it does not show the member behind it.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use prost_reflect::DescriptorPool;
use shared::v3::pb::DESCRIPTORS;
use shared::v3::pb::etcdserverpb::auth_server::AuthServer;
use shared::v3::pb::etcdserverpb::cluster_server::ClusterServer;
use shared::v3::pb::etcdserverpb::kv_server::KvServer;
use shared::v3::pb::etcdserverpb::lease_server::LeaseServer;
use shared::v3::pb::etcdserverpb::maintenance_server::MaintenanceServer;
use tokio::sync::watch as signal;
use tonic::Status;
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower_service::Service;

use super::api::Api;
use super::gateway::Gateway;
use super::incoming::{IncomingRoom, too_long};
use super::{RESPONSE_BYTES_MAX, Settings, auth, cluster, maintenance, watch};
use crate::backend::v3::Backend;
use crate::transport::http2::{Body, ClientInfo, Http2Service, Http2Settings};

/// What a service returns.
pub(super) type ServiceFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

type Call = Box<dyn Fn(Request<Body>) -> ServiceFuture + Send + Sync>;

/// How the message of tonic's error begins for a request that is too long.
const TOO_LONG: &str = "Error, decoded message length too large";

/// The v3 API of a member.
pub struct Services {
    settings: Settings,
    /// By their names, with the package.
    services: Vec<Call>,
    methods: HashMap<String, Method>,
    /// Methods that take a stream of messages.
    streaming: HashSet<String>,
    incoming: IncomingRoom,
    /// The reason why v3 is not served, if it is not.
    refusal: Box<dyn Fn() -> Option<String> + Send + Sync>,
    stopping: signal::Sender<bool>,
    gateway: Gateway,
}

/// What answers a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// The service at this position, whatever the level of the cluster.
    Always(usize),
    /// The service at this position, if the cluster has v3.
    V3(usize),
    /// It exists in the API, and this server does not have it yet.
    Missing,
}

impl Services {
    /// The services in front of a member.
    pub fn new<B: Backend>(backend: Arc<B>, settings: Settings) -> Arc<Services> {
        let pool = DescriptorPool::decode(DESCRIPTORS)
            .unwrap_or_else(|error| unreachable!("the descriptors are compiled in: {error}"));
        let (stopping, stops) = signal::channel(false);
        let api = Arc::new(Api { backend: backend.clone(), settings, stopping: stops });
        let mut services = Services {
            settings,
            services: Vec::new(),
            methods: HashMap::new(),
            streaming: HashSet::new(),
            incoming: IncomingRoom::new(settings.message_bytes_max()),
            refusal: Box::new(move || {
                let level = backend.level();
                (!level.has_v3()).then(|| {
                        format!(
                            "etcdserver: not capable: the cluster is at level {level}, which has no v3 API, until an \
                             operator raises it"
                        )
                    })
            }),
            stopping,
            gateway: Gateway::new(&pool),
        };
        services.add_missing(&pool);
        services.add_v3(&pool, &api, settings.message_bytes_max());
        services.add_health();
        services.add_reflection();
        Arc::new(services)
    }

    /// Ends the streams of watches and keep-alives: the server stops.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    fn add_missing(&mut self, pool: &DescriptorPool) {
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            if method.is_client_streaming() {
                self.streaming.insert(path.clone());
            }
            self.methods.insert(path, Method::Missing);
        }
    }

    fn add_v3<B: Backend>(&mut self, pool: &DescriptorPool, api: &Arc<Api<B>>, message_bytes_max: usize) {
        let kv = KvServer::from_arc(api.clone())
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let watch = api.clone();
        let lease = LeaseServer::from_arc(api.clone())
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        let cluster = ClusterServer::from_arc(api.clone()).max_decoding_message_size(message_bytes_max);
        let maintenance =
            MaintenanceServer::from_arc(api.clone()).max_decoding_message_size(message_bytes_max);
        let auth = AuthServer::from_arc(api.clone()).max_decoding_message_size(message_bytes_max);
        for (name, methods, call) in [
            ("etcdserverpb.Auth", auth::METHODS, Box::new(move |request| auth.clone().call(request)) as Call),
            (
                "etcdserverpb.Cluster",
                cluster::METHODS,
                Box::new(move |request| cluster.clone().call(request)) as Call,
            ),
            (
                "etcdserverpb.Maintenance",
                maintenance::METHODS,
                Box::new(move |request| maintenance.clone().call(request)) as Call,
            ),
        ] {
            let methods: Vec<String> = methods.iter().map(|name| (*name).to_owned()).collect();
            self.add(name, &methods, Method::V3, call);
        }
        let calls: [(&str, Call); 3] = [
            ("etcdserverpb.KV", Box::new(move |request| kv.clone().call(request))),
            ("etcdserverpb.Watch", Box::new(move |request| watch::call(watch.clone(), request))),
            ("etcdserverpb.Lease", Box::new(move |request| lease.clone().call(request))),
        ];
        for (name, call) in calls {
            let service = pool.get_service_by_name(name);
            let methods: Vec<String> = service
                .iter()
                .flat_map(|service| service.methods().map(|method| method.name().to_owned()))
                .collect();
            self.add(name, &methods, Method::V3, call);
        }
    }

    fn add_health(&mut self) {
        // "" is SERVING from the start.
        let health = HealthServer::new(HealthService::from_health_reporter(HealthReporter::new()));
        let methods = ["Check", "Watch"].map(str::to_owned);
        self.add(
            "grpc.health.v1.Health",
            &methods,
            Method::Always,
            Box::new(move |request| health.clone().call(request)),
        );
    }

    fn add_reflection(&mut self) {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let v1 = builder()
            .build_v1()
            .unwrap_or_else(|error| unreachable!("the descriptors are compiled in: {error}"));
        let v1alpha = builder()
            .build_v1alpha()
            .unwrap_or_else(|error| unreachable!("the descriptors are compiled in: {error}"));
        let calls: [(&str, Call); 2] = [
            ("grpc.reflection.v1.ServerReflection", Box::new(move |request| v1.clone().call(request))),
            (
                "grpc.reflection.v1alpha.ServerReflection",
                Box::new(move |request| v1alpha.clone().call(request)),
            ),
        ];
        for (name, call) in calls {
            self.add(name, &["ServerReflectionInfo".to_owned()], Method::Always, call);
            self.streaming.insert(format!("/{name}/ServerReflectionInfo"));
        }
    }

    fn add(&mut self, service: &str, methods: &[String], method: fn(usize) -> Method, call: Call) {
        let at = self.services.len();
        self.services.push(call);
        for name in methods {
            self.methods.insert(format!("/{service}/{name}"), method(at));
        }
    }

    /// Calls a method of a service: the path names it, the body has messages as gRPC frames them.
    pub(super) async fn call(&self, request: Request<Body>) -> Response<Body> {
        let at = match self.methods.get(request.uri().path()) {
            Some(Method::Always(at)) => *at,
            Some(Method::V3(at)) => match (self.refusal)() {
                None => *at,
                Some(why) => return Status::unimplemented(why).into_http(),
            },
            Some(Method::Missing) => {
                let why = (self.refusal)().unwrap_or_else(|| {
                    format!("etcdserver: {} is not implemented by this server yet", request.uri().path())
                });
                return Status::unimplemented(why).into_http();
            }
            None => return self.unknown(request.uri().path()).into_http(),
        };
        // Services always return a response.
        let mut response = match self.services[at](request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        self.translate_too_long(&mut response);
        response
    }

    /// The status for a method that does not exist, in the words of the original's library.
    fn unknown(&self, path: &str) -> Status {
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/')) else {
            return Status::unimplemented(format!("malformed method name: {path:?}"));
        };
        let start = format!("/{service}/");
        let is_known = self.methods.keys().any(|path| path.starts_with(&start));
        Status::unimplemented(match is_known {
            true => format!("unknown method {method} for service {service}"),
            false => format!("unknown service {service}"),
        })
    }

    /// A request that is too long gets the code that Go has for it.
    fn translate_too_long(&self, response: &mut Response<Body>) {
        let is_out_of_range = response.headers().get("grpc-status").is_some_and(|status| status == "11");
        if !is_out_of_range {
            return;
        }
        let Some(status) = Status::from_header_map(response.headers()) else { return };
        let Some(rest) = status.message().strip_prefix(TOO_LONG) else { return };
        let mut numbers = rest.split(|letter: char| !letter.is_ascii_digit());
        let found = numbers.find_map(|number| number.parse().ok()).unwrap_or_default();
        *response = too_long(found, self.settings.message_bytes_max()).into_http();
    }

    /// Whether the cluster has v3.
    pub(in crate::api) fn is_served(&self) -> bool {
        (self.refusal)().is_none()
    }

    /// Answers a request of the JSON gateway; its path begins with a prefix of it. The body is complete.
    pub(in crate::api) async fn answer_json(
        &self,
        method: &http::Method,
        path: &str,
        authorization: Option<HeaderValue>,
        body: bytes::Bytes,
    ) -> Response<Body> {
        self.gateway.answer(self, method, path, authorization, body).await
    }

    async fn answer_grpc(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        if self.streaming.contains(head.uri.path()) {
            return self.call(Request::from_parts(head, self.incoming.stream(body))).await;
        }
        // The share is kept until the answer.
        match self.incoming.read(body).await {
            Ok((body, _share)) => self.call(Request::from_parts(head, body)).await,
            Err(status) => status.into_http(),
        }
    }

    async fn answer_http2(&self, client: Arc<ClientInfo>, mut request: Request<Incoming>) -> Response<Body> {
        let is_grpc = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|content_type| content_type.as_bytes().starts_with(GRPC_CONTENT_TYPE.as_bytes()));
        if is_grpc {
            request.extensions_mut().insert(client);
            return self.answer_grpc(request).await;
        }
        if !Gateway::serves(request.uri().path()) {
            return text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "over HTTP/2 this server has gRPC and /v3/; use HTTP/1.1 for other pages\n",
            );
        }
        let (head, mut body) = request.into_parts();
        // Kept until the answer: what has arrived takes memory.
        let (body, _share) = match self.incoming.read_json(&mut body).await {
            Ok(read) => read,
            Err(why) => {
                let (status, why) = why.status_and_text();
                return text(status, why);
            }
        };
        let authorization = head.headers.get(http::header::AUTHORIZATION).cloned();
        self.answer_json(&head.method, head.uri.path(), authorization, body).await
    }
}

/// The status for a method that exists and is not served yet.
pub(super) fn not_yet(method: &str) -> Status {
    Status::unimplemented(format!("etcdserver: {method} is not implemented by this server yet"))
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(bytes::Bytes::from_static(text.as_bytes()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl Http2Service for Services {
    fn settings(&self) -> Http2Settings {
        self.settings.http2
    }

    fn answer(
        self: Arc<Self>,
        client: Arc<ClientInfo>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> {
        Box::pin(async move { self.answer_http2(client, request).await })
    }
}
