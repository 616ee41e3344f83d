//! The CPU profile: 100 times per second of CPU time, the kernel interrupts the running thread, and the `pprof` crate
//! records its stack.
//!
//! Without profiling there is no timer and no handler, and a waiting process is not interrupted. The kernel restarts
//! interrupted system calls where it can; tokio repeats the others, such as a wait for sockets.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use shared::time::UnixNanos;

use super::builder::Builder;
use super::symbols;

/// Samples per second of CPU time, as in Go.
const HERTZ: i32 = 100;

const NANOS_PER_SAMPLE: i64 = 1_000_000_000 / HERTZ as i64;

/// Libraries in which no samples are taken: vdso's unwind tables are wrong on some systems, and libgcc may be unwinding
/// a stack itself.
const LEFT_OUT: [&str; 2] = ["vdso", "libgcc"];

/// The `pprof` crate's signal handler. Its caller on the stack is a kernel frame, then the interrupted function.
const HANDLER: &str = "perf_signal_handler";

/// The number of kernel frames between the handler and the interrupted function.
const FRAMES_OF_THE_KERNEL: usize = 1;

/// Why a CPU profile cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CpuError {
    /// Another CPU profile is running: a process has only one timer.
    #[error("cpu profiling already in use")]
    InUse,
    /// The system refused the timer, the handler or a temporary file.
    #[error("{0}")]
    System(#[from] pprof::Error),
    /// The profile cannot be compressed.
    #[error("{0}")]
    Pack(#[from] io::Error),
}

/// A running CPU profile; ends on drop.
pub(crate) struct CpuSampling {
    guard: ProfilerGuard<'static>,
    began: UnixNanos,
    _only: SamplingLock,
}

/// A process-wide lock: only its holder takes a profile.
struct SamplingLock;

static TAKEN: AtomicBool = AtomicBool::new(false);

impl SamplingLock {
    fn take() -> Option<SamplingLock> {
        (!TAKEN.swap(true, Ordering::AcqRel)).then_some(SamplingLock)
    }
}

impl Drop for SamplingLock {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

impl CpuSampling {
    /// Starts sampling. The first call allocates the sample buffers, which takes a fraction of a second.
    pub(crate) fn start(now: UnixNanos) -> Result<CpuSampling, CpuError> {
        let only = SamplingLock::take().ok_or(CpuError::InUse)?;
        let guard = ProfilerGuardBuilder::default().frequency(HERTZ).blocklist(&LEFT_OUT).build()?;
        Ok(CpuSampling { guard, began: now, _only: only })
    }

    /// Stops sampling and returns the profile. Resolves all function names, which takes seconds in an unoptimized
    /// build.
    pub(crate) fn finish(self) -> Result<Vec<u8>, CpuError> {
        let CpuSampling { guard, began, _only } = self;
        let report = guard.report().build_unresolved()?;
        drop(guard);
        let kinds = [("samples", "count"), ("cpu", "nanoseconds")];
        let mut builder = Builder::new(&kinds, began, symbols::mapped(), symbols::resolve);
        builder.set_period(NANOS_PER_SAMPLE, "cpu", "nanoseconds");
        builder.set_duration(i64::try_from(report.timing.duration.as_nanos()).unwrap_or(i64::MAX));
        let mut handlers = Handlers::default();
        for (frames, count) in &report.data {
            let stack: Vec<u64> = frames.frames.iter().map(|frame| frame.ip().addr() as u64).collect();
            let stack = handlers.interrupted(&stack);
            let stack = stack.iter().enumerate().map(|(depth, address)| {
                // All addresses but the first are return addresses.
                builder.address_location(if depth == 0 { *address } else { address.saturating_sub(1) })
            });
            let stack = stack.collect();
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            let name = frames.thread_name.get(..frames.thread_name_length).unwrap_or_default();
            let thread = String::from_utf8_lossy(name);
            builder.sample(
                stack,
                vec![count, count.saturating_mul(NANOS_PER_SAMPLE)],
                &[("thread", &thread)],
            );
        }
        symbols::forget();
        Ok(builder.pack()?)
    }
}

/// Caches which addresses are in the signal handler.
#[derive(Default)]
struct Handlers(HashMap<u64, bool>);

impl Handlers {
    /// The stack without the handler and its callees.
    fn interrupted<'a>(&mut self, stack: &'a [u64]) -> &'a [u64] {
        let handler = stack.iter().position(|address| self.contains(*address));
        let first = handler.map_or(0, |at| at + 1 + FRAMES_OF_THE_KERNEL);
        stack.get(first..).unwrap_or_default()
    }

    fn contains(&mut self, address: u64) -> bool {
        *self.0.entry(address).or_insert_with(|| {
            symbols::resolve(address.saturating_sub(1)).iter().any(|place| place.function == HANDLER)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_at_a_time() {
        let first = CpuSampling::start(UnixNanos(1)).unwrap();
        let second = CpuSampling::start(UnixNanos(1)).map(drop).unwrap_err();
        assert_eq!(second.to_string(), "cpu profiling already in use");
        assert!(!first.finish().unwrap().is_empty());
        drop(CpuSampling::start(UnixNanos(1)).unwrap());
        CpuSampling::start(UnixNanos(1)).unwrap().finish().unwrap();
    }
}
