//! The threads of this process, instead of goroutines: tokio's tasks have no stacks to show.

use std::fmt::Write;
use std::fs;
use std::io;

use shared::time::UnixNanos;

use super::builder::Builder;

/// A thread, with values from the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thread {
    id: u32,
    name: String,
    /// `R` running or runnable, `S` waiting, `D` waiting for a disk; see proc(5) for the other letters.
    state: char,
    /// CPU time, user and system mode, in clock ticks.
    ticks: u64,
}

impl Thread {
    /// All threads of this process, sorted by id; empty if `/proc` cannot be read.
    pub(crate) fn all() -> Vec<Thread> {
        let Ok(folder) = fs::read_dir("/proc/self/task") else { return Vec::new() };
        // A thread that ends meanwhile is skipped.
        let texts = folder.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
        let mut threads: Vec<Thread> = texts.filter_map(|text| Thread::parse(&text)).collect();
        threads.sort_by_key(|thread| thread.id);
        threads
    }

    /// Parses a line of `/proc/PID/task/ID/stat`, see proc(5).
    fn parse(text: &str) -> Option<Thread> {
        let (id, rest) = text.split_once(" (")?;
        // A name may contain parentheses.
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `fields` starts with field 3 of the line.
        let ticks = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Thread {
            id: id.parse().ok()?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            ticks: ticks(14)?.saturating_add(ticks(15)?),
        })
    }
}

/// A text with the profile's name and count, and then the threads.
pub(crate) fn text(profile: &str, count: usize, threads: &[Thread]) -> String {
    let second = rustix::param::clock_ticks_per_second().max(1);
    let mut text = format!("{profile} profile: total {count}\n");
    for Thread { id, name, state, ticks } in threads {
        let (seconds, hundredths) = (ticks / second, ticks % second * 100 / second);
        // Writing into a String cannot fail.
        let _ = write!(text, "\nthread {id} {name:?}\n#\tstate {state}, cpu {seconds}.{hundredths:02}s\n");
    }
    text
}

/// The profile in pprof's format: `tasks` as one sample with that count, or one sample per thread.
pub(crate) fn profile(
    profile: &str,
    tasks: Option<usize>,
    threads: &[Thread],
    now: UnixNanos,
) -> io::Result<Vec<u8>> {
    let mut builder = Builder::new(&[(profile, "count")], now, Vec::new(), |_| Vec::new());
    match tasks {
        Some(tasks) => {
            let stack = vec![builder.named_location("tasks")];
            builder.sample(stack, vec![i64::try_from(tasks).unwrap_or(i64::MAX)], &[]);
        }
        None => {
            for Thread { name, state, .. } in threads {
                let stack = vec![builder.named_location(name)];
                builder.sample(stack, vec![1], &[("state", &state.to_string())]);
            }
        }
    }
    builder.pack()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines() {
        let line = "17 (a) (b) S 1 2 3 0 -1 4194304 100 0 0 0 150 52 0 0 20 0 9 0 777 1 2 3";
        let thread = Thread { id: 17, name: "a) (b".into(), state: 'S', ticks: 202 };
        assert_eq!(Thread::parse(line), Some(thread.clone()));
        for cut in ["", "17", "17 (a)", "17 (a) S 1", "x (a) S 1 2 3 0 -1 4 1 0 0 0 150 52 0"] {
            assert_eq!(Thread::parse(cut), None, "{cut}");
        }
        let text = text("threadcreate", 1, &[thread]);
        assert!(
            text.starts_with("threadcreate profile: total 1\n\nthread 17 \"a) (b\"\n#\tstate S, cpu "),
            "{text}"
        );
    }

    #[test]
    fn a_thread_of_this_process_is_found() {
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("somebody".into()).spawn(move || {
            ready.send(()).unwrap();
            let _ = ended.recv();
        });
        is_ready.recv().unwrap();
        let threads = Thread::all();
        assert!(threads.iter().any(|thread| thread.name == "somebody"), "{threads:?}");
        drop(end);
        thread.unwrap().join().unwrap();
    }
}
