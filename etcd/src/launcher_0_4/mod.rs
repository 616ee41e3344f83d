//! Allow-legacy mode: one program that starts etcd 0.4 or this server, depending on the data and the cluster.
//!
//! All members of a 0.4 cluster change to 2.x at the same time: `etcdctl upgrade` writes the change into the cluster,
//! all members stop, and are started again with their usual command lines. So each start has to find out which version
//! to run; [`decide`] holds the rules.
//!
//! ```text
//! main ─▶ prepare ─▶ data (what is on disk) ─▶ decide ─▶ ask (others) ─▶ decide ─┬─▶ exec ETCD_BINARY_DIR/1
//!                                                                                 └─▶ words and variables for 2.x
//! ```
//!
//! The mode is off unless `ETCD_ALLOW_LEGACY_MODE` or CoreOS switches it on; while it is off this module does nothing.
//! How this server converts 0.4 data, and a standby's directory, is part of its normal start.

mod ask;
mod data;
mod decide;
mod flags;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use shared::disk::{Disk as _, Kind, RealDisk, read_file};
use shared::net::TlsFileError;

use self::ask::PeerAnswers;
pub use self::data::DataError;
use self::decide::{DataDirContent, NextStep, Protocol, StartTarget};
use self::flags::LauncherFlags;
use crate::log;

/// The variable that switches the mode on or off.
const MODE: &str = "ETCD_ALLOW_LEGACY_MODE";

/// The variable with the directory of the programs: `1` for 0.4, `2` for 2.x.
const BINARY_DIR: &str = "ETCD_BINARY_DIR";

/// The default of [`BINARY_DIR`].
const BINARY_DIR_DEFAULT: &str = "/usr/libexec/etcd/internal_versions/";

/// The file that describes the operating system.
const OS_RELEASE: &str = "/usr/lib/os-release";

/// The longest file that is read as the OS release file or as the configuration file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The arguments and the environment to start the server with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Launch {
    /// The command line, without the program's name.
    pub words: Vec<OsString>,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Whether the mode is on. Then 0.4 standbys and launchers ask members for the protocol that they speak.
    pub legacy: bool,
}

/// Why neither version can be started.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// The value of the mode is neither true nor false.
    #[error("failed to parse {MODE}={0} as bool: it must be true or false")]
    Mode(String),
    /// The data directory is not given.
    #[error(
        "please set -data-dir or ETCD_DATA_DIR: in allow-legacy mode the data directory decides which version starts \
         ({MODE}=false switches the mode off)"
    )]
    NoDataDir,
    /// The content of the data directory cannot be determined.
    #[error("cannot tell which version the data in {dir} need: {error}")]
    Data {
        /// The data directory.
        dir: String,
        /// The cause.
        error: DataError,
    },
    /// A TLS file cannot be used.
    #[error("cannot ask the cluster which version it runs: {0}")]
    Tls(#[from] TlsFileError),
    /// Peers are given, but none of them answers which version the cluster runs.
    #[error(
        "cannot tell which version to start: none of the peers {0} says what the cluster runs. Start one of them \
         first, or set -initial-cluster to start a 2.x member"
    )]
    NoPeerAnswers(String),
    /// The 0.4 program cannot be started.
    #[error(
        "cannot start etcd 0.4 as {}: {error}. {why}; put the etcd 0.4 program there, or set {BINARY_DIR} to its \
         directory, or switch the mode off with {MODE}=false so that this version converts the data", .program.display()
    )]
    Exec {
        /// The program.
        program: PathBuf,
        /// Why the program does not start.
        error: io::Error,
        /// Why 0.4 was selected.
        why: &'static str,
    },
    /// The 0.4 program is this program, which would start itself forever.
    #[error("{} should be etcd 0.4, and is this program", .0.display())]
    IsThisProgram(PathBuf),
    /// The runtime for asking other members cannot be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
}

/// Decides what to start. With the mode off, returns the arguments and variables unchanged. If etcd 0.4 is to start,
/// this process becomes it (`exec`).
///
/// # Errors
/// If the version cannot be determined, or etcd 0.4 cannot be started.
pub fn prepare(
    program: &OsStr,
    words: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
) -> Result<Launch, LauncherError> {
    let variable =
        |name: &str| variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_os_str());
    let binary_dir = PathBuf::from(
        variable(BINARY_DIR).filter(|dir| !dir.is_empty()).unwrap_or(BINARY_DIR_DEFAULT.as_ref()),
    );
    let legacy =
        mode_is_on(variable(MODE), || read_file(&RealDisk, Path::new(OS_RELEASE), FILE_BYTES_MAX).ok())?;
    if !legacy {
        return Ok(Launch { words, variables: without_launcher_variables(variables), legacy });
    }
    let Some(mut flags) = LauncherFlags::read(&words) else {
        return Ok(Launch { words, variables: without_launcher_variables(variables), legacy });
    };
    flags.add_variables(&variables);
    let file = flags.value_of("config").to_owned();
    if let Ok(content) = read_file(&RealDisk, file.as_ref(), FILE_BYTES_MAX) {
        flags.add_file(&String::from_utf8_lossy(&content));
    }
    let (target, why) = choose_target(&flags)?;
    log::info!("starter", "start etcd version {}", target_name(&target));
    if target == StartTarget::Old {
        return Err(exec_0_4(&binary_dir.join("1"), program, &words, why));
    }
    Ok(launch_2x(&flags, &target, words, variables))
}

/// Whether the mode is on.
fn mode_is_on(
    mode: Option<&OsStr>,
    os_release: impl FnOnce() -> Option<Vec<u8>>,
) -> Result<bool, LauncherError> {
    match mode.map(OsStr::to_string_lossy).as_deref() {
        None | Some("") => Ok(os_release().is_some_and(|text| is_coreos(&text))),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(LauncherError::Mode(other.to_owned())),
    }
}

/// Whether the operating system is CoreOS itself. Its successors, which mention it, never had etcd 0.4.
fn is_coreos(os_release: &[u8]) -> bool {
    let lines = String::from_utf8_lossy(os_release);
    lines.lines().any(|line| {
        line.trim().strip_prefix("ID=").is_some_and(|id| id.trim_matches(['"', '\'']) == "coreos")
    })
}

/// The version to start, and for 0.4 the reason.
fn choose_target(flags: &LauncherFlags) -> Result<(StartTarget, &'static str), LauncherError> {
    let dir = flags.value_of("data-dir");
    let data = match dir {
        "" if decide::selects_2x(flags) => DataDirContent::Nothing,
        "" => return Err(LauncherError::NoDataDir),
        dir => data::inspect(&RealDisk, Path::new(dir))
            .map_err(|error| LauncherError::Data { dir: dir.to_owned(), error })?,
    };
    log::info!("starter", "found {} in {}", describe_content(&data), shared::quote::quote(dir));
    match decide::next_step(flags, &data) {
        NextStep::Start(target) => {
            Ok((target, "The data directory is one of 0.4, and `etcdctl upgrade` has not been run"))
        }
        NextStep::AskMembers(urls) => {
            let protocol = runtime()?.block_on(ask::members_protocol(flags, &urls))?;
            let DataDirContent::Standby(info) = &data else { return Ok((StartTarget::Old, "")) };
            if protocol.is_none() {
                log::warning!("starter", "no member answers which version the cluster of this standby runs");
            }
            Ok((
                decide::standby_target(info, protocol),
                "The data directory is that of a 0.4 standby, and its cluster has not been upgraded",
            ))
        }
        NextStep::AskPeers => {
            let PeerAnswers { peers, protocol } = runtime()?.block_on(ask::ask_peers(flags))?;
            match protocol {
                Some(Protocol::One) => Ok((StartTarget::Old, "The cluster to join runs 0.4")),
                Some(Protocol::Two) => Ok((StartTarget::New { has_data: false }, "")),
                None if peers.is_empty() => Ok((StartTarget::New { has_data: false }, "")),
                None => Err(LauncherError::NoPeerAnswers(peers.join(", "))),
            }
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, LauncherError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(LauncherError::Runtime)
}

fn describe_content(data: &DataDirContent) -> &'static str {
    match data {
        DataDirContent::Nothing => "no data",
        DataDirContent::Member => "a member of 2.x",
        DataDirContent::Proxy => "a proxy of 2.x",
        DataDirContent::Old { next: None } => "a member of 0.x",
        DataDirContent::Old { next: Some(_) } => {
            "a member of 0.x whose cluster has been upgraded by etcdctl upgrade"
        }
        DataDirContent::Standby(_) => "a standby of 0.4",
    }
}

fn target_name(target: &StartTarget) -> &'static str {
    match target {
        StartTarget::Old => "1",
        StartTarget::New { .. } => "2",
        StartTarget::Proxy { .. } => "2.proxy",
    }
}

/// Replaces this process by the 0.4 program. Returns only if that fails.
fn exec_0_4(old: &Path, program: &OsStr, words: &[OsString], why: &'static str) -> LauncherError {
    if is_this_program(old) {
        return LauncherError::IsThisProgram(old.to_owned());
    }
    let error = match RealDisk.kind(old) {
        Ok(Some(Kind::Dir)) => io::ErrorKind::IsADirectory.into(),
        _ => Command::new(old).arg0(program).args(words).exec(),
    };
    LauncherError::Exec { program: old.to_owned(), error, why }
}

fn is_this_program(old: &Path) -> bool {
    let identity = |path: &Path| rustix::fs::stat(path).ok().map(|stat| (stat.st_dev, stat.st_ino));
    identity(old).is_some() && identity(old) == identity(Path::new("/proc/self/exe"))
}

/// The arguments and variables for this server.
fn launch_2x(
    flags: &LauncherFlags,
    target: &StartTarget,
    words: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
) -> Launch {
    let variables = without_launcher_variables(variables);
    let mut without = flags::join_flags().to_vec();
    let mut added: Vec<OsString> = Vec::new();
    match target {
        StartTarget::Old | StartTarget::New { has_data: false } => {
            return Launch { words, variables, legacy: true };
        }
        StartTarget::New { has_data: true } => {}
        StartTarget::Proxy { cluster } => {
            log::notice!(
                "starter",
                "the data directory is that of a standby or a proxy: starting as a proxy. Without this mode, set \
                 -proxy=on until the 0.4 data are removed"
            );
            added.push("-proxy=on".into());
            without.push("proxy");
            if let Some(cluster) = cluster {
                added.extend(["-initial-cluster".into(), cluster.into()]);
                // The server refuses two ways to find the members.
                without.extend(["discovery", "discovery-srv"]);
            }
        }
    }
    let mut new = flags.words_for_2x(&without);
    // At the front, before a possible `--`.
    new.splice(0..0, added);
    Launch { words: new, variables: flags::variables_for_2x(variables, &without), legacy: true }
}

/// Removes the variables that only the launcher reads: the server would warn of them.
fn without_launcher_variables(variables: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    variables.into_iter().filter(|(name, _)| name != MODE && name != BINARY_DIR).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(text: &str) -> OsString {
        text.into()
    }

    #[test]
    fn the_variable_decides_and_without_it_the_system() {
        let coreos = || Some(b"NAME=CoreOS\nID=coreos\nVERSION=540.0.0\n".to_vec());
        for (mode, on) in [("true", true), ("1", true), ("T", true), ("false", false), ("0", false)] {
            assert_eq!(mode_is_on(Some(os(mode).as_os_str()), coreos).unwrap(), on, "{mode}");
            assert_eq!(mode_is_on(Some(os(mode).as_os_str()), || None).unwrap(), on, "{mode}");
        }
        assert!(mode_is_on(None, coreos).unwrap());
        assert!(mode_is_on(Some(OsStr::new("")), coreos).unwrap());
        assert!(!mode_is_on(None, || None).unwrap());
        let error = mode_is_on(Some(OsStr::new("yes")), coreos).unwrap_err().to_string();
        assert!(error.contains("ETCD_ALLOW_LEGACY_MODE=yes"), "{error}");
        assert!(is_coreos(b"ID=\"coreos\"\n"));
        assert!(!is_coreos(b"ID=fedora\nVARIANT_ID=coreos\n"));
        assert!(!is_coreos(b"ID=debian\nID_LIKE=coreos\n"));
    }

    #[test]
    fn off_leaves_all_as_it_is() {
        let words = vec![os("-nonsense"), os("-data-dir"), os("x")];
        let variables =
            vec![(os("ETCD_NAME"), os("n")), (os(MODE), os("false")), (os(BINARY_DIR), os("/nowhere"))];
        let start = prepare(OsStr::new("etcd"), words.clone(), variables.clone()).unwrap();
        assert_eq!(start, Launch { words, variables: variables[..1].to_vec(), legacy: false });
    }

    #[test]
    fn a_proxy_is_told_its_members_once() {
        let words =
            [os("-name"), os("s"), os("-peers=a:1"), os("-discovery=http://d/x"), os("-data-dir"), os("d")];
        let variables = vec![
            (os("ETCD_DISCOVERY"), os("http://d/x")),
            (os("ETCD_PEERS"), os("a:1")),
            (os("HOME"), os("/")),
        ];
        let mut flags = LauncherFlags::read(&words).unwrap();
        flags.add_variables(&variables);
        let new = |target: &StartTarget| launch_2x(&flags, target, words.to_vec(), variables.clone());
        let first = new(&StartTarget::Proxy { cluster: Some("a=http://h:1".to_owned()) });
        let line = |start: &Launch| start.words.join(OsStr::new(" ")).into_string().unwrap();
        assert_eq!(line(&first), "-proxy=on -initial-cluster a=http://h:1 -name=s -data-dir=d");
        assert_eq!(first.variables, [(os("HOME"), os("/"))]);
        assert!(first.legacy);
        let later = new(&StartTarget::Proxy { cluster: None });
        assert_eq!(line(&later), "-proxy=on -name=s -discovery=http://d/x -data-dir=d");
        let member = new(&StartTarget::New { has_data: true });
        assert_eq!(line(&member), "-name=s -discovery=http://d/x -data-dir=d");
        assert_eq!(new(&StartTarget::New { has_data: false }).words, words);
    }
}
