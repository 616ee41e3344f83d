//! gRPC: the generated clients against the server.

use std::sync::atomic::Ordering::Relaxed;

use futures_util::stream;
use rustls::pki_types::ServerName;
use shared::v3::Error;
use shared::v3::pb::etcdserverpb::cluster_client::ClusterClient;
use shared::v3::pb::etcdserverpb::lease_client::LeaseClient;
use shared::v3::pb::etcdserverpb::request_op::Request as Op;
use shared::v3::pb::etcdserverpb::watch_client::WatchClient;
use shared::v3::pb::etcdserverpb::watch_request::RequestUnion;
use shared::v3::pb::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberAddRequest, MemberListRequest, RequestOp, TxnRequest,
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::*;

/// The client's side of a stream that stays open.
fn open<T: Send + 'static>() -> (tokio::sync::mpsc::Sender<T>, impl stream::Stream<Item = T> + Send + 'static)
{
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    (sender, stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }))
}

fn assert_is(status: &Status, error: Error) {
    assert_eq!(status.code(), Code::from_i32(error.code().number()));
    assert_eq!(status.message(), error.message());
}

#[tokio::test]
async fn keys_are_written_read_and_deleted() {
    let (server, _) = start().await;
    let mut kv = Channel::to(&server).await.kv();
    let response = kv.put(put("a", "1")).await.unwrap().into_inner();
    let header = response.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id, header.revision, header.raft_term), (11, 22, 2, 2));
    let response = kv.range(get("a")).await.unwrap().into_inner();
    assert_eq!((response.count, &response.kvs[0].value[..]), (1, &b"1"[..]));
    assert_eq!(response.header.unwrap().member_id, 22);
    let request = DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() };
    assert_eq!(kv.delete_range(request).await.unwrap().into_inner().deleted, 1);
    let compaction =
        kv.compact(CompactionRequest { revision: 2, physical: false }).await.unwrap().into_inner();
    assert_eq!(compaction.header.unwrap().revision, 3);
}

#[tokio::test]
async fn refusals_have_the_codes_and_the_texts_that_clients_compare() {
    let (server, member) = start().await;
    let mut kv = Channel::to(&server).await.kv();
    assert_is(&kv.put(put("", "1")).await.unwrap_err(), Error::KeyNotProvided);
    assert_is(&kv.range(get("")).await.unwrap_err(), Error::KeyNotProvided);
    let future = RangeRequest { revision: 9, ..get("a") };
    assert_is(&kv.range(future).await.unwrap_err(), Error::FutureRevision);
    let unsorted = RangeRequest { sort_target: 9, ..get("a") };
    assert_is(&kv.range(unsorted).await.unwrap_err(), Error::InvalidSortOption);
    let kept = PutRequest { ignore_value: true, ..put("a", "1") };
    assert_is(&kv.put(kept).await.unwrap_err(), Error::ValueProvided);
    let op = || RequestOp { request: Some(Op::RequestPut(put("a", "1"))) };
    let txn = |success| TxnRequest { success, ..TxnRequest::default() };
    assert_is(&kv.txn(txn(vec![op(), op()])).await.unwrap_err(), Error::DuplicateKey);
    assert_is(&kv.txn(txn(vec![op(); 129])).await.unwrap_err(), Error::TooManyOps);
    assert!(kv.txn(txn(vec![op()])).await.unwrap().into_inner().header.unwrap().revision == 2);

    member.leads.store(false, Relaxed);
    assert_is(&kv.range(get("a")).await.unwrap_err(), Error::Timeout);
    assert!(kv.range(RangeRequest { serializable: true, ..get("a") }).await.is_ok());
    let mut impatient = tonic::Request::new(put("a", "1"));
    impatient.metadata_mut().insert("hasleader", "true".parse().unwrap());
    assert_is(&kv.put(impatient).await.unwrap_err(), Error::NoLeader);
    member.learns.store(true, Relaxed);
    assert_is(&kv.put(put("a", "1")).await.unwrap_err(), Error::NotSupportedForLearner);
    assert!(kv.range(RangeRequest { serializable: true, ..get("a") }).await.is_ok());
}

#[tokio::test]
async fn the_member_learns_who_asks() {
    let (server, member) = start().await;
    let mut request = tonic::Request::new(put("a", "1"));
    request.metadata_mut().insert("token", "abc.7".parse().unwrap());
    Channel::to(&server).await.kv().put(request).await.unwrap();
    assert_eq!(member.caller.lock().token.as_deref(), Some("abc.7"));
}

#[tokio::test]
async fn a_message_may_be_so_long_and_no_longer() {
    let settings = Settings { request_bytes_max: 1000, ..Settings::default() };
    let (server, _, _) = start_with(settings, Acceptor::plain()).await;
    let mut kv = Channel::to(&server).await.kv();
    let limit = 1000 + 512 * 1024;
    assert!(kv.put(put("a", vec![b'x'; limit - 100])).await.is_ok());
    let status = kv.put(put("a", vec![b'x'; limit])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let wanted = format!("grpc: received message larger than max ({} vs. {limit})", limit + 7);
    assert_eq!(status.message(), wanted);
    // The connection goes on.
    assert!(kv.range(RangeRequest { count_only: true, ..get("b") }).await.is_ok());
}

#[tokio::test]
async fn what_does_not_exist_is_unimplemented_as_the_original_says_it() {
    let (server, member) = start().await;
    let channel = Channel::to(&server).await;
    let call = async |path: &'static str| {
        let mut grpc = tonic::client::Grpc::with_origin(channel.clone(), "http://x".parse().unwrap());
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<MemberListRequest, MemberListRequest>::default();
        let request = tonic::Request::new(MemberListRequest::default());
        let status = grpc.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        status.message().to_owned()
    };
    assert_eq!(call("/foo.Bar/X").await, "unknown service foo.Bar");
    assert_eq!(call("/etcdserverpb.KV/X").await, "unknown method X for service etcdserverpb.KV");
    let mut cluster = ClusterClient::with_origin(channel.clone(), "http://x".parse().unwrap());
    let status = cluster.member_add(MemberAddRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("not implemented by this server yet"), "{status}");
    // Below level 3.4 there is no v3.
    member.level.store(23, Relaxed);
    let status = channel.kv().put(put("a", "1")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().starts_with("etcdserver: not capable: the cluster is at level 2.3"), "{status}");
    let mut health = HealthClient::with_origin(channel, "http://x".parse().unwrap());
    let response = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(response.status, 1);
}

#[tokio::test]
async fn leases_live_and_end() {
    let (server, _) = start().await;
    let mut lease = LeaseClient::with_origin(Channel::to(&server).await, "http://x".parse().unwrap());
    let granted = lease.lease_grant(LeaseGrantRequest { ttl: 60, id: 7 }).await.unwrap().into_inner();
    assert_eq!((granted.id, granted.ttl, granted.header.unwrap().revision), (7, 60, 1));
    let again = lease.lease_grant(LeaseGrantRequest { ttl: 60, id: 7 }).await.unwrap_err();
    assert_is(&again, Error::LeaseExists);
    let (sender, requests) = open();
    let mut renewed = lease.lease_keep_alive(requests).await.unwrap().into_inner();
    for (id, ttl) in [(7, 60), (8, 0)] {
        sender.send(LeaseKeepAliveRequest { id }).await.unwrap();
        let response = renewed.message().await.unwrap().unwrap();
        assert_eq!((response.id, response.ttl), (id, ttl));
    }
    drop(sender);
    assert!(renewed.message().await.unwrap().is_none());
    let time = |id| LeaseTimeToLiveRequest { id, keys: true };
    let left = lease.lease_time_to_live(time(7)).await.unwrap().into_inner();
    assert_eq!((left.ttl, left.granted_ttl, left.keys.len()), (59, 60, 1));
    let left = lease.lease_time_to_live(time(9)).await.unwrap().into_inner();
    assert_eq!((left.id, left.ttl, left.granted_ttl), (9, -1, 0));
    assert_eq!(lease.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases[0].id, 7);
    assert!(lease.lease_revoke(LeaseRevokeRequest { id: 7 }).await.is_ok());
    assert_is(&lease.lease_revoke(LeaseRevokeRequest { id: 7 }).await.unwrap_err(), Error::LeaseNotFound);
}

fn watch_request(union: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(union) }
}

fn create(key: &str) -> WatchRequest {
    let request = WatchCreateRequest { key: key.to_owned().into(), ..WatchCreateRequest::default() };
    watch_request(RequestUnion::CreateRequest(request))
}

#[tokio::test]
async fn watches_share_a_stream_and_end_with_it() {
    let (server, member, services) = start_with(Settings::default(), Acceptor::plain()).await;
    let channel = Channel::to(&server).await;
    let mut client = WatchClient::with_origin(channel.clone(), "http://x".parse().unwrap());
    let (sender, requests) = open();
    for key in ["a", "b"] {
        sender.send(create(key)).await.unwrap();
    }
    let mut responses = client.watch(requests).await.unwrap().into_inner();
    for id in [0, 1] {
        let response = responses.message().await.unwrap().unwrap();
        assert_eq!((response.watch_id, response.created), (id, true));
    }
    for (id, key) in [(1, "b"), (0, "a")] {
        channel.kv().put(put(key, "1")).await.unwrap();
        let response = responses.message().await.unwrap().unwrap();
        assert_eq!((response.watch_id, response.events.len()), (id, 1));
        assert_eq!(response.header.unwrap().raft_term, 2);
    }
    sender.send(watch_request(RequestUnion::ProgressRequest(WatchProgressRequest {}))).await.unwrap();
    assert_eq!(responses.message().await.unwrap().unwrap().watch_id, -1);
    sender
        .send(watch_request(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 1 })))
        .await
        .unwrap();
    assert!(responses.message().await.unwrap().unwrap().canceled);
    // The client sends no more; its watch goes on.
    drop(sender);
    channel.kv().put(put("a", "2")).await.unwrap();
    assert_eq!(responses.message().await.unwrap().unwrap().events.len(), 1);
    // A server that stops ends the streams, and then the connection.
    services.stop();
    assert_is(&responses.message().await.unwrap_err(), Error::Stopped);
    wait_for_streams(&member, 0).await;
    server.stop.send_replace(true);
    timeout(PATIENCE, server.served).await.unwrap().unwrap();
}

/// Waits until so many streams of watches are open.
async fn wait_for_streams(member: &Member, wanted: usize) {
    let reached = async {
        while Arc::strong_count(&member.streams) != wanted + 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reached).await.expect("the number of streams");
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_watches() {
    let (server, member) = start().await;
    let channel = Channel::to(&server).await;
    let mut client = WatchClient::with_origin(channel.clone(), "http://x".parse().unwrap());
    let (sender, requests) = open();
    sender.send(create("a")).await.unwrap();
    let mut responses = client.watch(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    wait_for_streams(&member, 1).await;
    // One stream of a connection that goes on.
    drop((responses, sender));
    wait_for_streams(&member, 0).await;
    assert!(channel.kv().put(put("a", "1")).await.is_ok());
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let (server, _) = start().await;
    let channel = Channel::to(&server).await;
    let calls = (0..500).map(|number| {
        let mut kv = channel.kv();
        tokio::spawn(async move { kv.put(put(&format!("k{number}"), vec![b'v'; 5000])).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    // More than the windows of the stream and of the connection have room for.
    assert_eq!(channel.kv().range(all).await.unwrap().into_inner().kvs.len(), 500);
}

#[tokio::test]
async fn tls_with_and_without_alpn_speaks_both_protocols() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own folder")]
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (cert, key) =
        (write("cert.pem", made.cert.pem()), write("key.pem", made.signing_key.serialize_pem()));
    let files = ServerTlsFiles { cert: Some(cert), key: Some(key), ..ServerTlsFiles::default() };
    let acceptor = Acceptor::tls_offering(&files, &[b"http/1.1", b"h2"]).unwrap();
    let (server, _, _) = start_with(Settings::default(), acceptor).await;
    let connect = async |protocols: &[&str]| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let socket = TcpStream::connect(server.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
        let chosen = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap());
        (stream, chosen)
    };
    for protocols in [&["h2"][..], &[]] {
        let (stream, chosen) = connect(protocols).await;
        assert_eq!(chosen.as_deref(), protocols.first().copied());
        assert!(Channel::over(stream).await.kv().put(put("a", "1")).await.is_ok());
    }
    for protocols in [&["h2", "http/1.1"][..], &[]] {
        let (mut stream, chosen) = connect(protocols).await;
        assert_eq!(chosen.as_deref(), protocols.last().copied());
        stream.write_all(b"GET /v2/keys HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read).await;
        assert!(read.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&read));
    }
}
