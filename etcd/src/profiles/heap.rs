//! The heap profile: the call stacks that allocated the memory in use, from a sample of about one allocation per half a
//! megabyte, as in Go.
//!
//! jemalloc decides at its own start, before any flag is read, whether it can sample, and sampling support costs about
//! two nanoseconds per growing allocation. So a process with profiling restarts itself with jemalloc's option in the
//! environment; other processes do not pay. Memory that was allocated before sampling started is not in the profile.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use parking_lot::Mutex;
use rustix::fs::MemfdFlags;
use shared::time::UnixNanos;
use tikv_jemalloc_ctl::{Access, AsName};

use super::builder::Builder;
use super::symbols::{self, SourceLocation};
use crate::log;

/// Names in jemalloc's control tree, see jemalloc(3).
const IS_BUILT: &str = "config.prof\0";
const IS_READY: &str = "opt.prof\0";
const IS_ON: &str = "prof.active\0";
const DUMP: &str = "prof.dump\0";

/// The variable with jemalloc's options, and the options for profiling: support sampling, start inactive, and keep
/// cumulative counts.
const VARIABLE: &str = "_RJEM_MALLOC_CONF";
const OPTIONS: &str = "prof:true,prof_active:false,prof_accum:true";

/// Parts of the symbols of the allocator and of the functions that call it.
const OF_THE_ALLOCATOR: [&str; 4] = ["_rjem_", "tikv_jemallocator", "__rust_alloc", "__rust_realloc"];

/// The most innermost frames of a stack that may belong to the allocator.
const OF_THE_ALLOCATOR_MAX: usize = 12;

/// Why a heap profile cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeapError {
    /// The allocator was built or started without sampling.
    #[error(
        "the allocator of this process takes no samples; set the environment variable {VARIABLE} to {OPTIONS}"
    )]
    Absent,
    /// The allocator returned an error.
    #[error("the allocator returned no profile: {0}")]
    Refused(tikv_jemalloc_ctl::Error),
    /// The temporary file for the profile cannot be used.
    #[error("cannot store the allocator's profile: {0}")]
    Kept(#[from] io::Error),
    /// A line of the allocator's profile is invalid.
    #[error("the allocator's profile has an invalid line: {0}")]
    Malformed(String),
}

/// Restarts this process (`exec`) with the same arguments, if its allocator supports sampling but was started without
/// it. Returns if that is not necessary or not possible; then [`text`] reports why there is no profile.
pub(super) fn restart_with_sampling() {
    let set = std::env::var_os(VARIABLE).unwrap_or_default();
    let was_told = set.to_string_lossy().ends_with(OPTIONS);
    if option_is_on(IS_READY) || !option_is_on(IS_BUILT) || was_told {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut options = set;
    if !options.is_empty() {
        options.push(",");
    }
    options.push(OPTIONS);
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| program.clone().into());
    let error = Command::new(&program).arg0(name).args(words).env(VARIABLE, options).exec();
    log::warning!("etcdmain", "cannot restart {} for heap profiles: {error}", program.display());
}

/// Activates sampling for the rest of the process.
pub(super) fn switch_on() -> Result<(), HeapError> {
    if !option_is_on(IS_READY) {
        return Err(HeapError::Absent);
    }
    IS_ON.name().write(true).map_err(HeapError::Refused)
}

fn option_is_on(what: &str) -> bool {
    Access::<bool>::read(what.name()).is_ok_and(|is| is)
}

/// The allocator's own profile, in gperftools' text format, which pprof and jeprof read.
pub(crate) fn text() -> Result<Vec<u8>, HeapError> {
    /// The anonymous file that the allocator writes to, and its path, which is never freed.
    static KEPT: Mutex<Option<(File, &'static str)>> = Mutex::new(None);

    if !option_is_on(IS_READY) {
        return Err(HeapError::Absent);
    }
    let mut kept = KEPT.lock();
    let (file, path) = match &mut *kept {
        Some(kept) => kept,
        empty => {
            let file = File::from(
                rustix::fs::memfd_create("heap-profile", MemfdFlags::CLOEXEC).map_err(io::Error::from)?,
            );
            let path = format!("/proc/self/fd/{}\0", file.as_raw_fd());
            // Leaked once per process: the allocator needs a path that lives forever.
            empty.insert((file, &*path.leak()))
        }
    };
    DUMP.name().write(*path).map_err(HeapError::Refused)?;
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    // Free the memory of the file.
    file.set_len(0)?;
    Ok(text)
}

/// The profile in pprof's format, with function names.
pub(crate) fn profile(now: UnixNanos) -> Result<Vec<u8>, HeapError> {
    let text = text()?;
    let sampled = parse(&String::from_utf8_lossy(&text))?;
    let kinds = [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ];
    let mut builder = Builder::new(&kinds, now, symbols::mapped(), symbols::resolve);
    builder.set_period(sampled.period, "space", "bytes");
    builder.set_default_sample_type("inuse_space");
    let mut own = HashMap::new();
    for StackUsage { addresses, in_use, ever } in &sampled.stacks {
        let stack =
            callers(addresses, &mut own).iter().map(|address| builder.address_location(*address)).collect();
        let (in_use, ever) = (in_use.estimate(sampled.period), ever.estimate(sampled.period));
        builder.sample(stack, vec![ever.0, ever.1, in_use.0, in_use.1], &[]);
    }
    symbols::forget();
    Ok(builder.pack()?)
}

/// The stack without the allocator's frames; `own` caches which addresses are the allocator's.
fn callers<'a>(stack: &'a [u64], own: &mut HashMap<u64, bool>) -> &'a [u64] {
    let mut is_own = |address: u64| {
        *own.entry(address).or_insert_with(|| {
            let places = symbols::resolve(address);
            let of_allocator =
                |place: &SourceLocation| OF_THE_ALLOCATOR.iter().any(|part| place.symbol.contains(part));
            places.iter().any(of_allocator)
        })
    };
    let inner = &stack[..stack.len().min(OF_THE_ALLOCATOR_MAX)];
    let last = inner.iter().rposition(|address| is_own(*address));
    &stack[last.map_or(0, |at| at + 1)..]
}

/// The samples in the allocator's profile.
#[derive(Debug, PartialEq)]
struct HeapSamples {
    /// The average number of bytes between two samples.
    period: i64,
    stacks: Vec<StackUsage>,
}

/// The sampled allocations of one call stack.
#[derive(Debug, PartialEq)]
struct StackUsage {
    /// The call addresses, innermost first.
    addresses: Vec<u64>,
    in_use: Allocations,
    ever: Allocations,
}

/// A number of sampled allocations and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Allocations {
    count: u64,
    bytes: u64,
}

impl Allocations {
    /// The estimated number and bytes of all allocations that these samples represent. Small allocations are sampled
    /// with a lower probability, by a Poisson process.
    fn estimate(self, period: i64) -> (i64, i64) {
        if self.count == 0 || self.bytes == 0 {
            return (0, 0);
        }
        let size = self.bytes as f64 / self.count as f64;
        let scale = 1.0 / (1.0 - (-size / period as f64).exp());
        #[expect(clippy::cast_possible_truncation, reason = "a float beyond the range becomes its end")]
        let scaled = |number: u64| (number as f64 * scale) as i64;
        (scaled(self.count), scaled(self.bytes))
    }
}

/// Parses the text of jemalloc 5, version `heap_v2`:
///
/// ```text
/// heap_v2/524288                          bytes between two samples
///   t*: 3: 4096 [10: 20480]               total: count and bytes in use [and ever]
/// @ 0x55d0c0a2f001 0x55d0c0a2f002         a stack, the innermost call first
///   t*: 2: 1024 [4: 2048]                 the counts of that stack
///   t7: 2: 1024 [4: 2048]                 the counts of one thread
/// MAPPED_LIBRARIES:                       the rest is /proc/self/maps
/// ```
fn parse(text: &str) -> Result<HeapSamples, HeapError> {
    let malformed = |line: &str| HeapError::Malformed(line.chars().take(200).collect());
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let period = first.strip_prefix("heap_v2/").and_then(|period| period.parse().ok());
    let period = period.filter(|period| *period > 0).ok_or_else(|| malformed(first))?;
    let mut stacks = Vec::new();
    let mut addresses = None;
    for line in lines.take_while(|line| !line.starts_with("MAPPED_LIBRARIES")) {
        if let Some(stack) = line.strip_prefix('@') {
            let numbers = stack.split_ascii_whitespace().map(|word| {
                let digits = word.strip_prefix("0x")?;
                // A return address is behind the call instruction.
                Some(u64::from_str_radix(digits, 16).ok()?.saturating_sub(1))
            });
            addresses = Some(numbers.collect::<Option<Vec<u64>>>().ok_or_else(|| malformed(line))?);
        } else if let Some(counts) = line.trim_start().strip_prefix("t*:") {
            let (in_use, ever) = counts_of(counts).ok_or_else(|| malformed(line))?;
            if let Some(addresses) = addresses.take() {
                stacks.push(StackUsage { addresses, in_use, ever });
            }
        }
    }
    Ok(HeapSamples { period, stacks })
}

/// ` 2: 1024 [4: 2048]`
fn counts_of(text: &str) -> Option<(Allocations, Allocations)> {
    let (in_use, ever) = text.strip_suffix(']')?.split_once('[')?;
    let noted = |text: &str| {
        let (count, bytes) = text.split_once(':')?;
        Some(Allocations { count: count.trim().parse().ok()?, bytes: bytes.trim().parse().ok()? })
    };
    Some((noted(in_use)?, noted(ever)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocators_text_is_read() {
        let text = "heap_v2/524288\n  t*: 3: 4096 [10: 20480]\n  t0: 3: 4096 [10: 20480]\n@ 0x101 0x202\n  \
                    t*: 2: 1024 [4: 2048]\n  t0: 2: 1024 [4: 2048]\n@ 0x303\n  t*: 0: 0 [1: 3072]\n\
                    MAPPED_LIBRARIES:\n@ 0xffff\n t*: 1: 1 [1: 1]\n";
        let sampled = parse(text).unwrap();
        assert_eq!(sampled.period, 524_288);
        let stacks = [
            StackUsage {
                addresses: vec![0x100, 0x201],
                in_use: Allocations { count: 2, bytes: 1024 },
                ever: Allocations { count: 4, bytes: 2048 },
            },
            StackUsage {
                addresses: vec![0x302],
                in_use: Allocations::default(),
                ever: Allocations { count: 1, bytes: 3072 },
            },
        ];
        assert_eq!(sampled.stacks, stacks);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for text in [
            "",
            "heap_v1/1",
            "heap_v2/",
            "heap_v2/0",
            "heap_v2/9\n@ 0xzz\n",
            "heap_v2/9\n@ 12\n",
            "heap_v2/9\n t*: 1 [1: 1]\n",
            "heap_v2/9\n t*: 1: 1\n",
            "heap_v2/9\n t*: -1: 1 [0: 0]\n",
        ] {
            assert!(matches!(parse(text), Err(HeapError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn samples_stand_for_more_than_themselves() {
        assert_eq!(Allocations::default().estimate(524_288), (0, 0));
        // An allocation as large as the period: 1 / (1 - 1/e).
        assert_eq!(Allocations { count: 1, bytes: 524_288 }.estimate(524_288), (1, 829_411));
        // Small allocations: about one sample per period.
        let (count, bytes) = Allocations { count: 2, bytes: 128 }.estimate(524_288);
        assert!(
            (16_380..16_390).contains(&count) && (1_048_500..1_048_700).contains(&bytes),
            "{count} {bytes}"
        );
        // Large allocations are all sampled.
        assert_eq!(Allocations { count: 3, bytes: 300 << 20 }.estimate(524_288), (3, 300 << 20));
    }
}
