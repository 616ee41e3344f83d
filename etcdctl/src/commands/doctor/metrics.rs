//! Reads the few measures of `/metrics` that the doctor uses.

use super::observed::{Fsync, History};

/// The name of the log's sync times in 2.3 and in 3.x.
const FSYNC: [&str; 2] = ["etcd_wal_fsync_durations_seconds", "etcd_disk_wal_fsync_duration_seconds"];
const HISTORY: &str = "etcd_rs_watch_history";
/// The percentile of sync times that is checked.
const PERCENT: u64 = 99;

/// The sync times; `None` if there were no syncs, or the page does not have them.
pub(super) fn fsync(page: &str) -> Option<Fsync> {
    FSYNC.iter().find_map(|name| {
        let count = whole(value(page, &format!("{name}_count"))?)?;
        let wanted = count.checked_mul(PERCENT)?.div_ceil(100);
        let bucket = format!("{name}_bucket{{le=\"");
        let bounds = page.lines().filter_map(|line| {
            let (bound, rest) = line.strip_prefix(&bucket)?.split_once("\"}")?;
            Some((bound.parse::<f64>().ok()?, whole(rest.trim().parse().ok()?)?))
        });
        let p99 = bounds
            .filter(|(_, below)| *below >= wanted)
            .map(|(bound, _)| bound)
            .fold(f64::INFINITY, f64::min);
        (count > 0).then_some(Fsync { count, p99 })
    })
}

/// The reach of the watch history; `None` if the page does not have it, or the history is not full yet.
pub(super) fn history(page: &str) -> Option<History> {
    let of = |what: &str| value(page, &format!("{HISTORY}_{what}"));
    let (events, most) = (whole(of("events")?)?, whole(of("events_max")?)?);
    let oldest_index = whole(of("oldest_index")?)?;
    let index = value(page, "etcd_rs_store_index").and_then(whole);
    let reach = index.map_or(events, |index| index.saturating_sub(oldest_index) + 1);
    (events >= most).then_some(History { oldest_index, reach, age: of("oldest_age_seconds") })
}

/// The value of a metric without labels.
fn value(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A count; the page may write it with an exponent.
fn whole(value: f64) -> Option<u64> {
    // Beyond this a float no longer holds each number.
    const WHOLE_MAX: f64 = 9e15;
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked in front of it")]
    (0.0..WHOLE_MAX).contains(&value).then(|| (value as i64).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_below_which_nearly_all_syncs_are() {
        let page = |name: &str| {
            format!(
                "# HELP x\n{name}_bucket{{le=\"0.001\"}} 900\n{name}_bucket{{le=\"0.016\"}} 989\n\
                 {name}_bucket{{le=\"0.032\"}} 990\n{name}_bucket{{le=\"+Inf\"}} 1000\n{name}_sum 3\n{name}_count 1e3\n"
            )
        };
        for name in FSYNC {
            assert_eq!(fsync(&page(name)), Some(Fsync { count: 1000, p99: 0.032 }), "{name}");
        }
        let slow = page(FSYNC[0]).replace(" 990\n", " 989\n");
        assert_eq!(fsync(&slow).unwrap().p99, f64::INFINITY);
        for page in
            ["", "etcd_wal_fsync_durations_seconds_count 0\n", "etcd_wal_fsync_durations_seconds_count -1\n"]
        {
            assert_eq!(fsync(page), None, "{page}");
        }
    }

    #[test]
    fn a_history_that_is_full_has_a_reach() {
        let page = "etcd_rs_store_index 5000\netcd_rs_watch_history_events 1000\netcd_rs_watch_history_events_max 1000\n\
                    etcd_rs_watch_history_oldest_index 4001\netcd_rs_watch_history_oldest_age_seconds 12.5\n";
        assert_eq!(history(page), Some(History { oldest_index: 4001, reach: 1000, age: Some(12.5) }));
        assert_eq!(history(&page.replace("events_max 1000", "events_max 2000")), None);
        assert_eq!(history("other 1\n"), None);
    }
}
