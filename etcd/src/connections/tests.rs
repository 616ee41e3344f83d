use super::*;

fn open(slots: &ConnectionSlots, port: Port) -> usize {
    slots.0.open.lock().group(port).connections.len()
}

/// Takes all free slots.
fn fill(slots: &ConnectionSlots, port: Port) -> Vec<Slot> {
    std::iter::from_fn(|| slots.try_enter(port)).collect()
}

#[test]
fn connections_and_the_reserve_fit_into_the_limit() {
    for limit in [183, 200, 1024, 65_536] {
        let slots = ConnectionSlots::of_member(limit, 1).unwrap();
        let clients = fill(&slots, Port::Clients);
        // Members get slots, however many clients there are.
        let peers = fill(&slots, Port::Peers);
        assert!(peers.len() >= PEERS_RESERVED.min(slots.0.total / 4), "{limit}: {}", peers.len());
        assert!(clients.len() >= slots.0.total / 2, "{limit}: {}", clients.len());
        assert_eq!((clients.len() + peers.len()) as u64, limit - DESCRIPTORS_RESERVED - 1);
        drop((clients, peers));
        // Clients get slots, however many members there are, or programs that pretend to be members.
        let peers = fill(&slots, Port::Peers);
        assert!(peers.len() <= PEERS_MAX && peers.len() <= slots.0.total / 2);
        assert!(fill(&slots, Port::Clients).len() >= slots.0.total / 2);
    }
    assert_eq!(ConnectionSlots::of_member(182, 1).unwrap_err(), TooFewDescriptors { limit: 182 });
    let error = ConnectionSlots::of_proxy(64, 1).unwrap_err().to_string();
    assert!(error.contains("file descriptor limit[64]") && error.contains("ulimit -n"), "{error}");
    assert_eq!(ConnectionSlots::of_member(u64::MAX, 4).unwrap().0.total as u64, SLOTS_MAX);
    // A proxy's clients, the connections of their requests, and the idle ones.
    let proxy = ConnectionSlots::of_proxy(1024, 1).unwrap();
    assert!(2 * proxy.0.total + proxy.idle_upstream() <= 1024 - 151);
}

#[tokio::test]
async fn who_never_spoke_goes_first_then_who_is_idle_and_never_who_is_busy() {
    let slots = ConnectionSlots::new(40);
    let held = fill(&slots, Port::Clients);
    assert_eq!(held.len(), 30);
    for slot in &held {
        slot.activity().enter(Phase::Busy);
    }
    assert!(!slots.make_room(Port::Clients));
    held[3].activity().enter(Phase::Receiving);
    held[4].activity().enter(Phase::Arriving);
    held[5].activity().enter(Phase::Idle);
    held[6].activity().enter(Phase::Idle);
    held[5].activity().enter(Phase::Idle);
    held[7].activity().enter(Phase::Silent);
    for wanted in [7, 6, 5, 4, 3] {
        assert!(slots.make_room(Port::Clients));
        let asked: Vec<usize> = (0..30).filter(|at| held[*at].activity().must_close()).collect();
        assert_eq!(asked, [wanted]);
        held[wanted].activity().wait_for_close_request().await;
        // It becomes busy, and another one is asked.
        held[wanted].activity().enter(Phase::Busy);
    }
    assert!(!slots.make_room(Port::Clients));
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_one_that_goes() {
    let slots = ConnectionSlots::new(40);
    let mut going = Vec::new();
    for slot in fill(&slots, Port::Clients) {
        going.push(tokio::spawn(async move { slot.activity().wait_for_close_request().await }));
    }
    tokio::task::yield_now().await;
    for _ in 0..100 {
        let slot = slots.enter(Port::Clients).await;
        going.push(tokio::spawn(async move { slot.activity().wait_for_close_request().await }));
        assert!(open(&slots, Port::Clients) <= 30);
    }
    let gone = going.iter().filter(|task| task.is_finished()).count();
    assert_eq!(gone, 100);
}

#[tokio::test]
async fn when_all_are_busy_the_next_one_waits() {
    let slots = ConnectionSlots::new(40);
    let held = fill(&slots, Port::Peers);
    held.iter().for_each(|slot| slot.activity().enter(Phase::Busy));
    let there = slots.clone();
    let waiting = tokio::spawn(async move { there.enter(Port::Peers).await });
    sleep(4 * ROOM_PAUSE).await;
    assert!(!waiting.is_finished());
    drop(held);
    waiting.await.unwrap();
}
