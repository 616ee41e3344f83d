use super::*;

const MS: Duration = Duration::from_millis(1);

fn put(key: &str) -> Label {
    Label { method: Verb::Put.name(), path: format!("/1{key}").into() }
}

fn slow() -> Slow {
    Slow::new(500 * MS)
}

fn waited(queue: u32) -> Stages {
    Stages { queue: queue * MS, ..Stages::default() }
}

fn lines(slow: &mut Slow, count: usize, took: u32, now: Moment) -> usize {
    (0..count).filter(|_| slow.line(&put("/a"), waited(took), true, now).is_some()).count()
}

#[test]
fn time_is_told_where_it_went() {
    let start = Moment::default();
    let at = |ms: u32| start + ms * MS;
    let path = Times { arrived: at(0), proposed: at(10) };
    let mut slow = slow();
    // Another entry, then its own.
    slow.handed(BatchId::of(1), Some(4), at(5));
    slow.handed(BatchId::of(2), Some(5), at(11));
    slow.handed(BatchId::of(3), Some(6), at(300));
    slow.durable(BatchId::of(1), at(8));
    slow.durable(BatchId::of(2), at(111));
    let stages = slow.stages(path, 5, at(700), at(703));
    let wanted = Stages { queue: 10 * MS, disk: 100 * MS, peers: 590 * MS, apply: 3 * MS };
    assert_eq!(stages, wanted);
    assert_eq!(stages.sum(), 703 * MS);
    // The next batch is not durable yet: the others were faster.
    assert_eq!(
        slow.stages(path, 6, at(700), at(703)),
        Stages { disk: Duration::ZERO, peers: 690 * MS, ..wanted }
    );
    slow.durable(BatchId::of(3), at(650));
    // The disk was idle in between.
    assert_eq!(slow.stages(path, 6, at(700), at(703)), Stages { disk: 450 * MS, peers: 240 * MS, ..wanted });
    slow.applied(5);
    assert_eq!(slow.batches.len(), 1);
    slow.applied(6);
    assert_eq!(slow.batches.len(), 0);
    // No batch is known.
    assert_eq!(
        slow.stages(path, 6, at(700), at(703)),
        Stages { disk: Duration::ZERO, peers: 690 * MS, ..wanted }
    );
}

#[test]
fn a_line_says_it() {
    let stages = Stages { queue: MS / 10, disk: 700 * MS, peers: 12 * MS, apply: Duration::ZERO };
    let line = SlowLine::Request { label: put("/a b"), stages, answered: true, obstacle: String::new() };
    assert_eq!(
        line.to_string(),
        "slow request: PUT /a b took 712.1ms (queue 0.1ms, disk 700.0ms, peers 12.0ms, apply 0.0ms)"
    );
    let label = Label { method: Verb::QuorumGet.name(), path: "/1".into() };
    let line =
        SlowLine::Request { label, stages: waited(7000), answered: false, obstacle: "no leader".to_owned() }
            .to_string();
    assert!(line.starts_with("slow request: QGET / has no answer after 7000.0ms (queue 7000.0ms,"), "{line}");
    assert!(line.ends_with(", apply 0.0ms): no leader"), "{line}");
    assert_eq!(Key("/1/".repeat(200).as_bytes()).to_string().chars().count(), PATH_CHARS_MAX + 1);
    assert_eq!(Key(b"/0/members").to_string(), "/0/members");
    assert_eq!(Key(b"/1/\xff").to_string(), "/\u{fffd}");
}

#[test]
fn the_disk_is_not_blamed_where_others_do_not_answer() {
    let start = Moment::default();
    let at = |ms: u32| start + ms * MS;
    let path = Times { arrived: at(0), proposed: at(1) };
    let mut slow = slow();
    slow.set_obstacle("waiting for 2 (m2)".to_owned());
    slow.handed(BatchId::of(1), Some(4), at(1));
    slow.durable(BatchId::of(1), at(6));
    // Another request, seconds later.
    slow.handed(BatchId::of(2), Some(5), at(5000));
    slow.durable(BatchId::of(2), at(5005));
    let so_far = slow.stages_so_far(path, at(7001));
    assert_eq!(so_far, Stages { queue: MS, disk: 5 * MS, peers: 6995 * MS, apply: Duration::ZERO });
    let line = slow.line(&put("/a"), so_far, false, at(7001)).unwrap().to_string();
    assert!(line.ends_with("peers 6995.0ms, apply 0.0ms): waiting for 2 (m2)"), "{line}");
    // The others answer at last: both entries are applied together.
    let done = slow.stages(path, 5, at(6001), at(6001));
    assert_eq!((done.disk, done.peers), (10 * MS, 5990 * MS));
    let line = slow.line(&put("/a"), done, true, at(6001)).unwrap().to_string();
    assert!(line.ends_with("apply 0.0ms)"), "{line}");
    // Here the disk is slow.
    let path = Times { arrived: at(8000), proposed: at(8000) };
    slow.handed(BatchId::of(3), Some(6), at(8001));
    let so_far = slow.stages_so_far(path, at(15_000));
    assert_eq!((so_far.disk, so_far.peers), (6999 * MS, MS));
    assert!(slow.line(&put("/a"), so_far, false, at(15_000)).unwrap().to_string().ends_with("apply 0.0ms)"));
}

#[test]
fn only_what_is_slow_is_told() {
    let now = Moment::default();
    let mut slow = slow();
    assert_eq!(slow.line(&put("/a"), waited(499), true, now), None);
    assert!(slow.line(&put("/a"), waited(500), true, now).is_some());
    let mut off = Slow::new(Duration::ZERO);
    assert_eq!(off.line(&put("/a"), waited(1_000_000), true, now), None);
    off.handed(BatchId::of(1), Some(1), now);
    assert_eq!(off.batches.len(), 0);
}

#[test]
fn too_many_are_counted() {
    let start = Moment::default();
    let mut slow = slow();
    assert_eq!(lines(&mut slow, 100, 600, start), 5);
    assert_eq!(lines(&mut slow, 1, 900, start + WINDOW / 2), 0);
    assert_eq!(slow.summary(start + WINDOW / 2), None);
    // Also after the window, until the number is reported.
    assert_eq!(lines(&mut slow, 1, 600, start + WINDOW), 0);
    let later = start + WINDOW + 100 * MS;
    let rest = slow.summary(later).unwrap();
    assert_eq!(rest.to_string(), "97 more slow requests, the slowest took 900.0ms");
    assert_eq!(slow.summary(later), None);
    assert_eq!(lines(&mut slow, 100, 600, later), 5);
    // A slow request now and then always has its own line.
    let mut slow = self::slow();
    for second in 0..20 {
        let now = start + second * Duration::from_secs(2);
        assert_eq!(lines(&mut slow, 1, 600, now), 1);
        assert_eq!(slow.summary(now), None);
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let now = Moment::default();
    let mut slow = slow();
    for number in 0..3 * BATCHES_MAX as u64 {
        slow.handed(BatchId::of(number), Some(number), now);
        slow.handed(BatchId::of(number), None, now);
    }
    assert_eq!(slow.batches.len(), BATCHES_MAX);
}
