//! Forms a cluster of two from a member of the original and this transport.

use std::process::{Child, Command, Stdio};

use node::member::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

/// A process of the original and its data, which are removed on drop.
struct Original {
    process: Child,
    data: std::path::PathBuf,
}

impl Drop for Original {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

async fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn put(url: &str, value: &str) -> std::io::Result<String> {
    let address = url.trim_start_matches("http://");
    let mut socket = TcpStream::connect(address).await?;
    let body = format!("value={value}");
    let request = format!(
        "PUT /v2/keys/a HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Votes for the original and acknowledges all its appends, like a follower without a log.
async fn follow(
    transport: Transport,
    mut inbound: mpsc::Receiver<Inbound>,
    appends: mpsc::UnboundedSender<Message>,
) {
    while let Some(inbound) = inbound.recv().await {
        let Inbound::Message(message) = inbound else { continue };
        let (kind, index) = match message.kind() {
            Kind::Vote => (6, 0),
            Kind::Append => (APPEND_RESPONSE, message.index() + message.entries().len() as u64),
            Kind::Heartbeat => (9, 0),
            _ => continue,
        };
        let answer = pb::Message {
            kind,
            from: message.to().0,
            to: message.from().0,
            term: message.term(),
            index,
            ..pb::Message::default()
        };
        let answer = Message::decode(answer.encode_to_vec().into()).unwrap();
        if message.kind() == Kind::Append {
            let _ = appends.send(message);
        }
        transport.send(vec![answer]);
    }
}

#[tokio::test]
#[ignore = "needs the original: ETCD_238 names a program of etcd 2.3.8"]
async fn the_original_takes_us_for_one_of_its_kind() {
    let program = std::env::var_os("ETCD_238").expect("ETCD_238 names a program of etcd 2.3.8");
    let urls = [free_url().await, free_url().await];
    let [theirs, ours] = [0, 1].map(|at| MemberId::compute(&urls[at..=at], "tok", None));
    let cluster_id = ClusterId::compute(&[theirs, ours]);
    let client = free_url().await;
    let data = std::env::temp_dir().join(format!("peers-original-{}", std::process::id()));
    let mut command = Command::new(program);
    command.args(["-name", "n1", "-initial-cluster-token", "tok", "-data-dir"]).arg(&data);
    command.args(["-initial-cluster", &format!("n1={},n2={}", urls[0], urls[1])]);
    command.args(["-listen-peer-urls", &urls[0], "-initial-advertise-peer-urls", &urls[0]]);
    command.args(["-listen-client-urls", &client, "-advertise-client-urls", &client]);
    let process = command.stderr(Stdio::inherit()).spawn().unwrap();
    let _original = Original { process, data };

    let Node { transport, inbound, stop: _stop, .. } =
        Node::start_as(ours, cluster_id, urls[1].trim_start_matches("http://")).await;
    transport.add_peer(theirs, &urls[..1]);
    let (sender, mut appends) = mpsc::unbounded_channel();
    let following = tokio::spawn(follow(transport.clone(), inbound, sender));
    let written = async {
        loop {
            match put(&client, "first").await {
                Ok(answer) if answer.starts_with("HTTP/1.1 201") => return,
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    timeout(Duration::from_secs(20), written).await.expect("the original has no majority");
    let large = "x".repeat(300_000);
    for value in ["second", &large, "third"] {
        let answer = timeout(TIME_MAX, put(&client, value)).await.unwrap().unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(transport.features(theirs), super::super::Features::default());
    assert!(transport.active_since(theirs).is_some());
    for kind in [super::super::frames::StreamKind::Append, super::super::frames::StreamKind::Message] {
        assert!(transport.peer(theirs).unwrap().queue(kind).is_attached(), "{kind:?}");
    }
    following.abort();
    let mut entries = Vec::new();
    while let Ok(message) = appends.try_recv() {
        entries.extend(message.entries().map(|entry| (entry.index, entry.data.unwrap_or_default().to_vec())));
    }
    for value in ["first", "second", &large, "third"] {
        let has = |data: &[u8]| data.windows(value.len()).any(|part| part == value.as_bytes());
        assert!(entries.iter().any(|(_, data)| has(data)), "{} bytes", value.len());
    }
}
