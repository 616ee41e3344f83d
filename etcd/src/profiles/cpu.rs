//! The CPU profile: a hundred times in each second of CPU time the kernel interrupts the thread that uses it, and the
//! `pprof` crate notes where that stands.
//!
//! A process that is not profiled has no timer and no handler, and one that waits is not interrupted. System calls
//! that can be are taken up again by the kernel; those that cannot, such as a wait for sockets, are by tokio.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use shared::time::UnixNanos;

use super::builder::Builder;
use super::symbols;

/// Samples in a second of CPU time: as many as Go's.
const HERTZ: i32 = 100;

const NANOS_PER_SAMPLE: i64 = 1_000_000_000 / HERTZ as i64;

/// Where samples are not taken: the first one's tables for unwinding are wrong on some systems, and the other
/// one is itself at work on a stack.
const LEFT_OUT: [&str; 2] = ["vdso", "libgcc"];

/// The function of the `pprof` crate that the kernel calls. Behind it stands a frame of the kernel's, and then the
/// function that was interrupted.
const HANDLER: &str = "perf_signal_handler";

/// Frames of the kernel's on the stack between the handler and what was interrupted.
const FRAMES_OF_THE_KERNEL: usize = 1;

/// Why there is no CPU profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CpuError {
    /// There is one timer in a process.
    #[error("cpu profiling already in use")]
    InUse,
    /// The system refused the timer, the handler or a temporary file.
    #[error("{0}")]
    System(#[from] pprof::Error),
    /// The profile cannot be packed.
    #[error("{0}")]
    Pack(#[from] io::Error),
}

/// A profile that is being taken; dropped, it ends.
pub(crate) struct CpuSampling {
    guard: ProfilerGuard<'static>,
    began: UnixNanos,
    _only: SamplingLock,
}

/// Whoever holds it is the only one who takes a profile.
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
    /// Begins to take samples. The first time it makes room for them, which takes a part of a second.
    pub(crate) fn start(now: UnixNanos) -> Result<CpuSampling, CpuError> {
        let only = SamplingLock::take().ok_or(CpuError::InUse)?;
        let guard = ProfilerGuardBuilder::default().frequency(HERTZ).blocklist(&LEFT_OUT).build()?;
        Ok(CpuSampling { guard, began: now, _only: only })
    }

    /// Ends it: the profile. Looks up the names of all functions that were found, which takes seconds in a program
    /// that was built without optimization.
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
                // All but the first are where a call returns to.
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

/// Which addresses lie in the handler.
#[derive(Default)]
struct Handlers(HashMap<u64, bool>);

impl Handlers {
    /// The stack without the handler and what it called.
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
