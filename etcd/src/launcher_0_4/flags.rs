//! Reads the command line, the environment and the configuration file as leniently as the decision allows: the
//! arguments may be for etcd 0.4, and the version that starts checks them itself.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use shared::flags::Kind;

use crate::config::FLAGS;
use crate::log;

/// The prefix of all the server's variables.
const PREFIX: &str = "ETCD_";

/// 0.4 flags whose value may be the next word. 2.x knows some of them, but takes their value only after `=`.
const OLD_WITH_VALUE: [&str; 12] = [
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "cpuprofile",
    "http-read-timeout",
    "http-write-timeout",
    "internal-dir",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-election-timeout",
    "peer-heartbeat-interval",
    "retry-interval",
];

/// 0.4 switches that 2.x does not know.
const OLD_SWITCHES: [&str; 2] = ["f", "vvv"];

/// Flags that 0.4 inherited from earlier versions, and their current names; empty for removed flags.
const RENAMED: [(&str, &str); 20] = [
    ("C", "peers"),
    ("CF", "peers-file"),
    ("n", "name"),
    ("c", "addr"),
    ("cl", "bind-addr"),
    ("s", "peer-addr"),
    ("sl", "peer-bind-addr"),
    ("serverCAFile", "peer-ca-file"),
    ("serverCert", "peer-cert-file"),
    ("serverKey", "peer-key-file"),
    ("clientCAFile", "ca-file"),
    ("clientCert", "cert-file"),
    ("clientKey", "key-file"),
    ("d", "data-dir"),
    ("snapshotCount", "snapshot-count"),
    ("m", ""),
    ("r", ""),
    ("peer-heartbeat-timeout", ""),
    ("max-cluster-size", ""),
    ("maxsize", ""),
];

/// Flags that name the members of a 0.4 cluster to join.
const JOIN_FLAGS: [&str; 2] = ["peers", "peers-file"];

/// A flag on the command line, under its current name; the name is empty for a removed flag.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FlagValue {
    name: &'static str,
    value: String,
    /// The word as typed.
    typed: String,
}

/// The flags that the launcher reads.
#[derive(Debug, Clone, Default)]
pub(super) struct LauncherFlags {
    line: Vec<FlagValue>,
    /// The words after the flags.
    rest: Vec<OsString>,
    /// Values from the environment and the file, by flag name; without those of the command line.
    others: BTreeMap<&'static str, String>,
}

impl LauncherFlags {
    /// Parses the command line. `None` if it cannot be parsed, or asks for help or the version: then there is nothing
    /// to decide.
    pub(super) fn read(words: &[OsString]) -> Option<LauncherFlags> {
        let mut flags = LauncherFlags::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let typed = word.to_str()?;
            let body = match typed.strip_prefix("--").or_else(|| typed.strip_prefix('-')) {
                Some("") if typed == "--" => break,
                None | Some("") => {
                    flags.rest.push(word.clone());
                    break;
                }
                Some(body) => body,
            };
            let (name, inline) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (body, None),
            };
            let (name, takes_value) = current_name(name)?;
            let value = match inline {
                Some(value) => value.to_owned(),
                None if takes_value => words.next()?.to_str()?.to_owned(),
                None => "true".to_owned(),
            };
            if name == "version" {
                return None;
            }
            flags.line.push(FlagValue { name, value, typed: typed.to_owned() });
        }
        flags.rest.extend(words.cloned());
        Some(flags)
    }

    /// Adds the values of the environment.
    pub(super) fn add_variables(&mut self, variables: &[(OsString, OsString)]) {
        for flag in FLAGS.flags() {
            let variable = flag.env_name(PREFIX);
            let value =
                variables.iter().find(|(name, _)| *name == *variable).and_then(|(_, value)| value.to_str());
            self.add(flag.name, value.unwrap_or_default());
        }
    }

    /// Adds the values of the `-config` file; the server reports errors in it later.
    pub(super) fn add_file(&mut self, content: &str) {
        let Ok(table) = content.parse::<toml::Table>() else { return };
        for flag in FLAGS.flags() {
            let key = flag.name.replace('-', "_");
            let of_peer = flag.name.strip_prefix("peer-").map(|name| name.replace('-', "_"));
            let in_peer = || table.get("peer")?.get(of_peer?);
            let text = match table.get(&key).or_else(in_peer) {
                Some(toml::Value::String(text)) => text.clone(),
                Some(toml::Value::Array(items)) => {
                    items.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(",")
                }
                _ => continue,
            };
            self.add(flag.name, &text);
        }
    }

    fn add(&mut self, name: &'static str, value: &str) {
        if self.value_of(name).is_empty() && !value.is_empty() {
            self.others.insert(name, value.to_owned());
        }
    }

    /// The value of a flag; empty if it is not set.
    pub(super) fn value_of(&self, name: &str) -> &str {
        match self.line.iter().rev().find(|setting| setting.name == name) {
            Some(setting) => &setting.value,
            None => self.others.get(name).map_or("", String::as_str),
        }
    }

    /// The command line for 2.x: without flags that only 0.4 knows and those in `without`, each with a log line; old
    /// names are replaced by current ones.
    pub(super) fn words_for_2x(&self, without: &[&str]) -> Vec<OsString> {
        let mut words = Vec::new();
        for FlagValue { name, value, typed } in &self.line {
            if without.contains(name) || OLD_WITH_VALUE.contains(name) || !is_known_to_2x(name) {
                log::warning!("starter", "{typed} is ignored: a 2.x member with data does not use it");
            } else {
                words.push(format!("-{name}={value}").into());
            }
        }
        if !self.rest.is_empty() {
            words.push("--".into());
            words.extend(self.rest.iter().cloned());
        }
        words
    }
}

/// The variables for 2.x: without those of the flags in `without`.
pub(super) fn variables_for_2x(
    variables: Vec<(OsString, OsString)>,
    without: &[&str],
) -> Vec<(OsString, OsString)> {
    let gone = |name: &OsStr| {
        FLAGS.flags().filter(|flag| without.contains(&flag.name)).any(|flag| *name == *flag.env_name(PREFIX))
    };
    variables.into_iter().filter(|(name, _)| !gone(name)).collect()
}

/// The flags for joining: a member with data does not need them, and 2.x refuses them.
pub(super) fn join_flags() -> &'static [&'static str] {
    &JOIN_FLAGS
}

/// The current name of a flag, and whether its value may be the next word.
fn current_name(name: &str) -> Option<(&'static str, bool)> {
    if let Some((_, now)) = RENAMED.iter().find(|(old, _)| *old == name) {
        return Some((now, true));
    }
    if let Some(name) = OLD_WITH_VALUE.iter().find(|old| **old == name) {
        return Some((name, true));
    }
    if let Some(name) = OLD_SWITCHES.iter().find(|old| **old == name) {
        return Some((name, false));
    }
    // `-help` is not in the list, so it is not parsed here.
    let flag = FLAGS.find(name)?;
    Some((flag.name, !matches!(flag.kind, Kind::Bool | Kind::Ignored)))
}

fn is_known_to_2x(name: &str) -> bool {
    FLAGS.find(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn flags(line: &str) -> LauncherFlags {
        LauncherFlags::read(&words(line)).unwrap()
    }

    #[test]
    fn words_of_both_versions_are_understood() {
        let flags =
            flags("-d /data --peers=a:1 -max-result-buffer 10 -v -snapshot=false -n one -addr h:4001");
        assert_eq!(flags.value_of("data-dir"), "/data");
        assert_eq!(flags.value_of("peers"), "a:1");
        assert_eq!(flags.value_of("name"), "one");
        assert_eq!(flags.value_of("proxy"), "");
        for line in ["-h", "--help", "-version", "--version=true", "-name", "-nonsense x", "-nonsense"] {
            assert!(LauncherFlags::read(&words(line)).is_none(), "{line}");
        }
        assert_eq!(LauncherFlags::read(&[]).unwrap().value_of("name"), "");
    }

    #[test]
    fn a_member_with_data_gets_what_2_understands() {
        let flags = flags(
            "-d /data -peers a:1 -CF f -trace x -max-result-buffer 10 -f -force -vv -addr 10.0.0.1:4001 x y",
        );
        let line: Vec<String> = flags
            .words_for_2x(&[join_flags(), &["name"]].concat())
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        assert_eq!(
            line,
            ["-data-dir=/data", "-trace=x", "-force=true", "-vv=true", "-addr=10.0.0.1:4001", "--", "x", "y"]
        );
    }

    #[test]
    fn the_line_goes_before_the_environment_and_that_before_the_file() {
        let mut flags = flags("-name line");
        let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let variables = [
            variable("ETCD_NAME", "environment"),
            variable("ETCD_DATA_DIR", "environment"),
            variable("ETCD_PEER_CA_FILE", ""),
            variable("ETCD_PEERS", "p"),
        ];
        flags.add_variables(&variables);
        flags.add_file(
            "data_dir = \"file\"\ndiscovery = \"file\"\npeers = [\"a\", \"b\"]\n[peer]\nca_file = \"ca\"\n",
        );
        assert_eq!(flags.value_of("name"), "line");
        assert_eq!(flags.value_of("data-dir"), "environment");
        assert_eq!(flags.value_of("discovery"), "file");
        assert_eq!(flags.value_of("peers"), "p");
        assert_eq!(flags.value_of("peer-ca-file"), "ca");
        flags.add_file("no toml");
        let left = variables_for_2x(variables.to_vec(), join_flags());
        assert_eq!(left.len(), 3);
        assert!(left.iter().all(|(name, _)| name != "ETCD_PEERS"));
    }
}
