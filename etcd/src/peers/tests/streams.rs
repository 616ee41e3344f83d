use node::member::Kind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::super::Features;
use super::*;

#[tokio::test]
async fn messages_go_both_ways_and_keep_their_order() {
    let (mut one, mut two) = pair().await;
    let appends: Vec<Message> = (4..300)
        .map(|index| append(&one, &two, index, vec![7; usize::try_from(index * 37 % 5000).unwrap()]))
        .collect();
    for part in appends.chunks(7) {
        one.transport.send(part.to_vec());
    }
    for sent in &appends {
        assert_eq!(two.next_message().await, *sent);
    }
    let answers: Vec<Message> =
        (4..300).map(|index| plain(APPEND_RESPONSE, two.id, one.id, index + 1)).collect();
    two.transport.send(answers.clone());
    for sent in &answers {
        assert_eq!(one.next_message().await, *sent);
    }
    let stats = one.transport.stats();
    let follower = stats.followers[&two.id];
    assert_eq!((follower.success, follower.fail, stats.sent.count), (296, 0, 296));
    assert!(follower.latency_current > 0.0 && follower.latency_minimum <= follower.latency_maximum);
    assert_eq!(two.transport.stats().received.count, 296);
    assert!(one.transport.active_since(two.id).is_some());
    assert_eq!(one.transport.features(two.id), Features::OURS);
}

#[tokio::test]
async fn a_message_of_megabytes_arrives_whole() {
    let (one, mut two) = pair().await;
    for index in [4, 5] {
        let data = (0..3_000_000_u32).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        let sent = append(&one, &two, index, data);
        one.transport.send(vec![sent.clone()]);
        assert!(two.next_message().await == sent);
    }
}

#[tokio::test]
async fn what_a_socket_does_not_take_at_once_follows_in_order() {
    let (one, mut two) = pair().await;
    let appends: Vec<Message> = (0..60).map(|index| append(&one, &two, index, vec![3; 500_000])).collect();
    for sent in &appends {
        // Each one is tried directly: no other task runs in between.
        one.transport.send(vec![sent.clone()]);
        one.transport.send(vec![plain(HEARTBEAT, one.id, two.id, sent.index())]);
    }
    let (mut heartbeats, mut wanted) = (0, appends.iter());
    while wanted.len() > 0 || heartbeats < 60 {
        let got = two.next_message().await;
        if got.kind() == Kind::Heartbeat {
            assert_eq!(got.index(), heartbeats + 1);
            heartbeats += 1;
        } else {
            assert!(Some(&got) == wanted.next());
        }
    }
}

#[tokio::test]
async fn without_streams_messages_go_by_post() {
    let (one, mut two) = (Node::start(0x11).await, Node::start(0x22).await);
    // The other member does not dial, because it does not know this one.
    one.knows(&two);
    for index in 0..20 {
        let sent = append(&one, &two, index, vec![1]);
        one.transport.send(vec![sent.clone()]);
        assert_eq!(two.next_message().await, sent);
    }
    until(|| one.transport.active_since(two.id).is_some()).await;
}

#[tokio::test]
async fn a_peer_that_restarts_is_found_again() {
    let (mut one, two) = pair().await;
    let (id, address) = (two.id, two.address.to_string());
    two.stop().await;
    // Lost messages are reported.
    let heartbeat = plain(HEARTBEAT, one.id, id, 1);
    loop {
        one.transport.send(vec![heartbeat.clone()]);
        if let Ok(Some(Inbound::Unreachable(lost))) =
            timeout(Duration::from_millis(20), one.inbound.recv()).await
        {
            assert_eq!(lost, id);
            break;
        }
    }
    until(|| one.transport.active_since(id).is_none()).await;
    let mut two = Node::start_at(id.0, &address).await;
    two.knows(&one);
    one.is_connected_to(id).await;
    let sent = append(&one, &two, 7, vec![1]);
    one.transport.send(vec![sent.clone()]);
    loop {
        let got = two.next_message().await;
        if got.kind() == Kind::Append {
            assert_eq!(got, sent);
            break;
        }
        assert_eq!(got, heartbeat);
    }
}

#[tokio::test]
async fn a_removed_member_is_told_to_stop() {
    let (one, mut two) = pair().await;
    one.transport.remove_peer(two.id);
    match two.next().await {
        Inbound::RemovedAccordingTo(by) => assert_eq!(by, one.id),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_member_removed_before_this_one_started_is_told_so_too() {
    let (one, mut two) = (Node::start(0x11).await, Node::start(0xdead).await);
    two.knows(&one);
    assert!(matches!(two.next().await, Inbound::RemovedAccordingTo(by) if by == one.id));
}

#[tokio::test]
async fn a_peer_that_talks_nonsense_is_dialled_again_and_stops_nobody() {
    let mut one = Node::start(0x11).await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ok = "HTTP/1.1 200 OK\r\nX-Server-Version: 2.3.8\r\nTransfer-Encoding: chunked\r\n\r\n";
    let refusal = "HTTP/1.1 412 Precondition Failed\r\nX-Server-Version: 2.3.8\r\nContent-Length: 20\r\n\r\n";
    let answers = [
        "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
        format!("{ok}5\r\n\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\r\n"),
        format!("{ok}9\r\n\u{1}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\r\n"),
        format!("{ok}zzz\r\n"),
        format!("{refusal}cluster ID mismatch\n"),
        format!("{refusal}incompatible versio\n"),
        "HTTP/1.1 404 Not Found\r\nX-Server-Version: 2.3.8\r\n\r\nwho\n".to_owned(),
        "HTTP/1.1 200 OK\r\nX-Server-Version: none\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nX-Server-Version: 2.0.9\r\n\r\n".to_owned(),
        String::new(),
    ];
    one.transport.add_peer(MemberId(0x33), &[format!("http://{}", other.local_addr().unwrap())]);
    // Both streams get each response at least once.
    for answer in answers.iter().chain(&answers) {
        let (mut socket, _) = timeout(TIME_MAX, other.accept()).await.expect("nobody dials").unwrap();
        socket.write_all(answer.as_bytes()).await.unwrap();
    }
    while let Ok(inbound) = one.inbound.try_recv() {
        assert!(matches!(inbound, Inbound::PeerChanged), "{inbound:?}");
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_slows_nobody() {
    let (mut one, mut two) = pair().await;
    let slow = MemberId(0x33);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    one.transport.add_peer(slow, &[format!("http://{}", silent.local_addr().unwrap())]);
    let mut sockets = Vec::new();
    for kind in ["msgapp", "message"] {
        let mut socket = TcpStream::connect(one.address).await.unwrap();
        let request = format!(
            "GET /raft/stream/{kind}/33 HTTP/1.1\r\nHost: x\r\nX-Server-Version: 2.3.8\r\n\
             X-Min-Cluster-Version: 2.2.0\r\nX-Etcd-Cluster-Id: {CLUSTER}\r\nX-Raft-To: 11\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    one.is_connected_to(slow).await;
    let mut lost = 0;
    for index in 0..200 {
        let entries = vec![entry(index + 2, vec![0; 1 << 20])];
        let to_slow = Message::append(one.id, slow, 2, index + 1, 0, entries).unwrap();
        let to_two = append(&one, &two, index, vec![1]);
        one.transport.send(vec![to_slow, to_two.clone()]);
        assert_eq!(two.next_message().await, to_two);
        while let Ok(inbound) = one.inbound.try_recv() {
            lost += u32::from(matches!(inbound, Inbound::Unreachable(id) if id == slow));
        }
    }
    assert!(lost >= 100, "what does not fit is told: {lost}");
    // After five seconds without a read the stream is closed.
    until(|| {
        !one.transport.peer(slow).unwrap().queue(super::super::frames::StreamKind::Append).is_attached()
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_goes_from_its_file() {
    let (mut one, mut two) = pair().await;
    let data = vec![b'x'; 5_000_000];
    let (message, file) = snapshot(one.id, two.id, 42, data.clone());
    one.snapshots.0.lock().insert(42, file.clone());
    one.transport.send(vec![message.clone()]);
    let got = two.next_message().await;
    assert_eq!(got.snapshot(), message.snapshot());
    let mut encoded = bytes::BytesMut::new();
    got.encode(&mut encoded);
    assert!(encoded.windows(file.len()).any(|part| part == file));
    assert!(matches!(one.next().await, Inbound::SnapshotSent { ok: true, to } if to == two.id));
    // A missing snapshot is reported too: otherwise raft would send nothing more to that peer.
    let (message, _) = snapshot(one.id, two.id, 43, Vec::new());
    one.transport.send(vec![message]);
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(one.next().await);
    }
    assert!(
        matches!(told[..], [Inbound::Unreachable(_), Inbound::SnapshotSent { ok: false, .. }]),
        "{told:?}"
    );
}

#[tokio::test]
async fn idle_streams_stay_up() {
    let (one, two) = pair().await;
    let since = one.transport.active_since(two.id);
    tokio::time::sleep(Duration::from_millis(5500)).await;
    let peer = one.transport.peer(two.id).unwrap();
    assert!(peer.queue(super::super::frames::StreamKind::Message).is_attached());
    assert_eq!(one.transport.active_since(two.id), since);
}
