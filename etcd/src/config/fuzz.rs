//! A fuzz target: reading settings from any source never panics.

use std::ffi::OsString;

use super::{Invocation, read};

/// Reads `input` as a command line, an environment and a file, and checks the result.
///
/// The parts are separated by lines of three dashes; each argument and each variable is a line.
///
/// # Panics
/// If a rule is broken: the fuzzer has found a bug.
pub fn fuzz_settings(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut parts = text.splitn(3, "---\n");
    let words = parts.next().unwrap_or("").lines().map(OsString::from);
    let variables = parts.next().unwrap_or("").lines().map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (OsString::from(name), OsString::from(value))
    });
    let file = parts.next().unwrap_or("");
    match read(words, variables, |_| Ok(file.to_owned())) {
        Invocation::Run(start) => {
            let config = start.config;
            assert!(config.snapshot_count > 0 && config.watch_history > 0, "{config:?}");
            assert!(config.heartbeat_ms > 0 && config.election_ticks() >= 5, "{config:?}");
            assert!(!config.data_dir.as_os_str().is_empty(), "{config:?}");
            assert!(config.request_body_bytes_max >= 1024, "{config:?}");
            let _ = config.check_bootstrap(&config.initial_cluster, |_| None);
        }
        Invocation::Exit(early_exit) => {
            let spoken = !early_exit.lines.is_empty() || !early_exit.error.is_empty();
            assert_eq!(early_exit.status != 0, spoken, "{early_exit:?}");
            assert!(early_exit.status <= 2, "{early_exit:?}");
        }
    }
}
