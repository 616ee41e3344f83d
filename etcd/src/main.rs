//! `etcd`, the server: reads its configuration, runs a member or a proxy, and returns an exit status.

use std::process::ExitCode;

use etcd::config::{self, Invocation};
use etcd::launcher_0_4::{self, Launch};
use etcd::profiles;
use etcd::proxy;
use etcd::server::{self, Exit};
use etcd::systemd::ServiceEnvironment;
use etcd::upgrade;
use shared::disk::report_size_limit;

/// jemalloc returns memory after large deletes, and has little overhead for small nodes.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let log = etcd::log::start(server::now);
    report_size_limit();
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    // In allow-legacy mode, this call may replace the process by etcd 0.4.
    let Launch { words, variables, legacy } =
        match launcher_0_4::prepare(&program, words.collect(), std::env::vars_os().collect()) {
            Ok(start) => start,
            Err(error) => {
                server::fail(&error.to_string());
                return ExitCode::FAILURE;
            }
        };
    let invocation = config::read(words, variables, |file| std::fs::read_to_string(file));
    let mut config = match invocation {
        Invocation::Run(startup) => {
            if startup.config.enable_pprof {
                profiles::prepare();
            }
            startup.apply_to_log(&log)
        }
        Invocation::Exit(early_exit) => return early_exit.print(&log),
    };
    config.allow_legacy = legacy;
    let service_manager = match ServiceEnvironment::from_environment() {
        Ok(service_manager) => service_manager,
        Err(error) => {
            server::fail(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = upgrade::upgrade_data_dir(&mut config) {
        server::fail(&error.to_string());
        return ExitCode::FAILURE;
    }
    let exit = match proxy::is_proxy(&config) {
        Ok(false) => match server::run(config.clone(), log, &service_manager) {
            Exit::ClusterFull => proxy::run(&config, &service_manager),
            exit => exit,
        },
        Ok(true) => proxy::run(&config, &service_manager),
        Err(error) => server::fail(&error.to_string()),
    };
    match exit {
        Exit::Removed => ExitCode::SUCCESS,
        Exit::Failed | Exit::ClusterFull => ExitCode::FAILURE,
        Exit::Signal(signal) => {
            // The parent process sees that the signal ended this process.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
            ExitCode::FAILURE
        }
    }
}
