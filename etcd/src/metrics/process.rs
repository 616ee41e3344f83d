//! The metrics of this process from the kernel.

use std::fs;

use prometheus::proto::MetricFamily;

use super::families::{counter, float, gauge};

/// The resources that the process uses, and its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// CPU time in seconds, user and system mode.
    pub cpu_seconds: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Virtual memory in bytes.
    pub virtual_bytes: u64,
    /// The start time, in seconds since 1970.
    pub start_seconds: f64,
    /// Open descriptors.
    pub open_descriptors: u64,
    /// The limit of open descriptors; `u64::MAX` for no limit.
    pub descriptor_limit: u64,
}

impl Process {
    /// Reads the values; `None` without a Linux `/proc`.
    pub fn read() -> Option<Process> {
        let stat = Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)?;
        let boot_seconds = boot_seconds(&fs::read_to_string("/proc/stat").ok()?)?;
        let ticks = float(rustix::param::clock_ticks_per_second());
        let descriptors = fs::read_dir("/proc/self/fd").ok()?.count();
        Some(Process {
            cpu_seconds: float(stat.cpu_ticks) / ticks,
            resident_bytes: stat.resident_pages * u64::try_from(rustix::param::page_size()).ok()?,
            virtual_bytes: stat.virtual_bytes,
            start_seconds: float(boot_seconds) + float(stat.start_ticks) / ticks,
            // One descriptor is that of the directory being read.
            open_descriptors: u64::try_from(descriptors.saturating_sub(1)).ok()?,
            descriptor_limit: descriptor_limit(),
        })
    }

    /// The metric families.
    pub fn families(&self) -> Vec<MetricFamily> {
        let descriptors = float(self.open_descriptors);
        vec![
            gauge("etcd_server_file_descriptors_used_total", "Open descriptors.", descriptors),
            counter(
                "process_cpu_seconds_total",
                "CPU time in user and system mode, in seconds.",
                self.cpu_seconds,
            ),
            gauge("process_max_fds", "Limit of open descriptors.", float(self.descriptor_limit)),
            gauge("process_open_fds", "Open descriptors.", descriptors),
            gauge("process_resident_memory_bytes", "Resident memory in bytes.", float(self.resident_bytes)),
            gauge(
                "process_start_time_seconds",
                "Start time of the process, in seconds since 1970.",
                self.start_seconds,
            ),
            gauge("process_virtual_memory_bytes", "Virtual memory in bytes.", float(self.virtual_bytes)),
        ]
    }
}

/// The limit of open descriptors; `u64::MAX` for no limit.
pub fn descriptor_limit() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The values from `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The second field is the program's name in parentheses; it may contain blanks and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) numbers the fields from 1; `fields` starts with field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            cpu_ticks: field(14)?.checked_add(field(15)?)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// The boot time of the machine, from `/proc/stat`.
fn boot_seconds(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_proc_are_counted_from_the_name() {
        let text = "4242 (a (b) c) S 1 4242 4242 0 -1 4194304 1000 0 0 0 150 50 0 0 20 0 9 0 777 742023168 3593 \
                    18446744073709551615 1 1 0 0";
        let stat =
            Stat { cpu_ticks: 200, start_ticks: 777, virtual_bytes: 742_023_168, resident_pages: 3593 };
        assert_eq!(Stat::parse(text), Some(stat));
        for cut in ["", "4242 (a", "4242 (a)", "4242 (a) S 1 2"] {
            assert_eq!(Stat::parse(cut), None, "{cut}");
        }
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1795253000\nprocesses 1\n"), Some(1_795_253_000));
        assert_eq!(boot_seconds("cpu 1 2\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_believable() {
        let before = Process::read().unwrap();
        assert!(
            before.resident_bytes > 100_000 && before.virtual_bytes >= before.resident_bytes,
            "{before:?}"
        );
        assert!(before.start_seconds > 1_600_000_000.0, "{before:?}");
        assert!(
            before.open_descriptors >= 3 && before.descriptor_limit > before.open_descriptors,
            "{before:?}"
        );
        let files: Vec<_> = (0..20).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        // Other tests of this process open files too.
        assert!(
            Process::read().unwrap().open_descriptors >= before.open_descriptors.min(20),
            "{}",
            files.len()
        );
    }
}
