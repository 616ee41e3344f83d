use super::*;

fn counts() -> StoreCounts {
    StoreCounts {
        reads: 124,
        recursive_reads: 1,
        writes: vec![("set", 122), ("create", 1), ("delete", 0)],
        expires: 2,
        watch_requests: 3,
        watchers: 4,
    }
}

fn process() -> Process {
    Process {
        cpu_seconds: 0.16,
        resident_bytes: 14_716_928,
        virtual_bytes: 742_023_168,
        start_seconds: 1_795_253_054.81,
        open_descriptors: 14,
        descriptor_limit: 20_000,
    }
}

fn page(metrics: &Metrics, counts: &StoreCounts, process: Option<&Process>) -> String {
    let mut others = counts.families();
    others.extend(process.into_iter().flat_map(Process::families));
    metrics.page(others)
}

/// The page's lines without the HELP lines.
fn lines(page: &str) -> Vec<&str> {
    page.lines().filter(|line| !line.starts_with("# HELP ")).collect()
}

#[test]
fn the_page_has_the_original_names_in_their_order() {
    let metrics = Metrics::new();
    metrics.proposals_pending(7);
    metrics.proposal_failed();
    metrics.wal_holds(131);
    let page = page(&metrics, &counts(), Some(&process()));
    let is_original = |line: &&str| !line.contains("etcd_rs_") && !line.contains("etcd_disk_");
    let plain = lines(&page).into_iter().filter(|line| !line.contains("seconds_")).filter(is_original);
    let plain: Vec<&str> = plain.collect();
    assert_eq!(
        plain,
        [
            "# TYPE etcd_server_file_descriptors_used_total gauge",
            "etcd_server_file_descriptors_used_total 14",
            "# TYPE etcd_server_health_failures counter",
            "etcd_server_health_failures 0",
            "# TYPE etcd_server_health_success counter",
            "etcd_server_health_success 0",
            "# TYPE etcd_server_leader_changes_seen_total counter",
            "etcd_server_leader_changes_seen_total 0",
            "# TYPE etcd_server_pending_proposal_total gauge",
            "etcd_server_pending_proposal_total 7",
            "# TYPE etcd_server_proposal_durations_seconds histogram",
            "# TYPE etcd_server_proposal_failed_total counter",
            "etcd_server_proposal_failed_total 1",
            "# TYPE etcd_snapshot_save_marshalling_durations_seconds histogram",
            "# TYPE etcd_snapshot_save_total_durations_seconds histogram",
            "# TYPE etcd_store_expires_total counter",
            "etcd_store_expires_total 2",
            "# TYPE etcd_store_reads_total counter",
            "etcd_store_reads_total{action=\"get\"} 124",
            "etcd_store_reads_total{action=\"getRecursive\"} 1",
            "# TYPE etcd_store_watch_requests_total counter",
            "etcd_store_watch_requests_total 3",
            "# TYPE etcd_store_watchers gauge",
            "etcd_store_watchers 4",
            "# TYPE etcd_store_writes_total counter",
            "etcd_store_writes_total{action=\"create\"} 1",
            "etcd_store_writes_total{action=\"set\"} 122",
            "# TYPE etcd_wal_fsync_durations_seconds histogram",
            "# TYPE etcd_wal_last_index_saved gauge",
            "etcd_wal_last_index_saved 131",
            "# TYPE process_max_fds gauge",
            "process_max_fds 20000",
            "# TYPE process_open_fds gauge",
            "process_open_fds 14",
            "# TYPE process_resident_memory_bytes gauge",
            "process_resident_memory_bytes 14716928",
            "# TYPE process_start_time_seconds gauge",
            "process_start_time_seconds 1795253054.81",
            "# TYPE process_virtual_memory_bytes gauge",
            "process_virtual_memory_bytes 742023168",
        ]
    );
    assert!(lines(&page).contains(&"process_cpu_seconds_total 0.16"), "{page}");
    for line in lines(&page).iter().filter(|line| line.starts_with("# TYPE ")) {
        let name = line.split(' ').nth(2).unwrap();
        assert!(page.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}

#[test]
fn durations_fall_into_the_original_buckets() {
    let metrics = Metrics::new();
    metrics.wal_synced(Duration::from_micros(800));
    metrics.wal_synced(Duration::from_millis(3));
    metrics.wal_synced(Duration::from_secs(60));
    let page = page(&metrics, &StoreCounts::default(), None);
    let name = "etcd_wal_fsync_durations_seconds";
    let buckets = [
        ("0.001", 1),
        ("0.002", 1),
        ("0.004", 2),
        ("0.008", 2),
        ("0.016", 2),
        ("0.032", 2),
        ("0.064", 2),
        ("0.128", 2),
        ("0.256", 2),
        ("0.512", 2),
        ("1.024", 2),
        ("2.048", 2),
        ("4.096", 2),
        ("8.192", 2),
        ("+Inf", 3),
    ];
    // The same metric under etcd 3's name.
    for name in [name, "etcd_disk_wal_fsync_duration_seconds"] {
        let mut expected = vec![format!("# TYPE {name} histogram")];
        expected.extend(buckets.iter().map(|(le, count)| format!("{name}_bucket{{le=\"{le}\"}} {count}")));
        expected.extend([format!("{name}_sum 60.0038"), format!("{name}_count 3")]);
        let found: Vec<&str> = lines(&page).into_iter().filter(|line| line.contains(name)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn each_measure_goes_where_it_belongs() {
    let metrics = Metrics::new();
    metrics.proposal_committed(Duration::from_millis(1));
    for _ in 0..2 {
        metrics.snapshot_saved(Duration::from_millis(1));
    }
    for _ in 0..3 {
        metrics.snapshot_encoded(Duration::from_millis(1));
    }
    let page = page(&metrics, &StoreCounts::default(), None);
    for line in [
        "etcd_server_proposal_durations_seconds_count 1",
        "etcd_snapshot_save_total_durations_seconds_count 2",
        "etcd_snapshot_save_marshalling_durations_seconds_count 3",
        "etcd_wal_fsync_durations_seconds_count 0",
    ] {
        assert!(lines(&page).contains(&line), "{line}: {page}");
    }
}

#[test]
fn what_never_happened_has_no_line() {
    let page = page(&Metrics::new(), &StoreCounts::default(), None);
    assert!(!page.contains("etcd_store_reads_total") && !page.contains("process_"), "{page}");
    assert!(page.contains("etcd_store_watchers 0\n"), "{page}");
}

#[test]
fn other_parts_register_their_own() {
    let metrics = Metrics::new();
    let counter = IntCounter::new("etcd_http_x_total", "Of another part.").unwrap();
    metrics.registry().register(Box::new(counter.clone())).unwrap();
    counter.inc();
    assert!(page(&metrics, &counts(), None).contains("etcd_http_x_total 1\n"));
}

#[test]
fn the_store_is_counted_as_it_was_used() {
    use shared::store::Store;
    use shared::time::UnixNanos;
    use shared::v2::{Request, Verb};

    let mut store = Store::new(10);
    let writes =
        [(Verb::Put, "/1/a"), (Verb::Put, "/1/b"), (Verb::Delete, "/1/a"), (Verb::Delete, "/1/missing")];
    for (verb, path) in writes {
        let request = Request { val: "x".into(), ..Request::new(verb, path) };
        let _ = store.apply(&request, UnixNanos(1));
    }
    let _ = store.get(b"/1/b", false, false);
    let _ = store.get(b"/1/a", false, false);
    let _ = store.get(b"/1", true, false);
    let watcher = store.watch(b"/1", true, false, 0);
    let page = page(&Metrics::new(), &StoreCounts::from(store.stats()), None);
    for line in [
        "etcd_store_reads_total{action=\"get\"} 2",
        "etcd_store_reads_total{action=\"getRecursive\"} 1",
        "etcd_store_writes_total{action=\"delete\"} 2",
        "etcd_store_writes_total{action=\"set\"} 2",
        "etcd_store_watch_requests_total 1",
        "etcd_store_watchers 1",
        "etcd_store_expires_total 0",
    ] {
        assert!(lines(&page).contains(&line), "{line}: {page}");
    }
    drop(watcher);
}
