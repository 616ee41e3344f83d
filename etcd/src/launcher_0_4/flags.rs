//! What the command line, the environment and the file say, read as loosely as the decision allows: the words may be
//! meant for etcd 0.4, and whether they are good is for the one that starts to say.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use shared::flags::Kind;

use crate::config::FLAGS;
use crate::log;

/// What all variables of the server begin with.
const PREFIX: &str = "ETCD_";

/// Flags of 0.4 whose value is the next word if it does not stand in the same one. 2.x knows some and takes their
/// value from the same word only.
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

/// Switches of 0.4 that 2.x does not know.
const OLD_SWITCHES: [&str; 2] = ["f", "vvv"];

/// Flags that 0.4 had from its predecessors, and what they are called since; those without a name are gone.
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

/// Flags that name the members of a 0.4 cluster to one that joins it.
const JOIN_FLAGS: [&str; 2] = ["peers", "peers-file"];

/// A flag as it was given, under its name of today; an empty one for what is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FlagValue {
    name: &'static str,
    value: String,
    /// As it was typed.
    typed: String,
}

/// What was said.
#[derive(Debug, Clone, Default)]
pub(super) struct LauncherFlags {
    line: Vec<FlagValue>,
    /// Words behind the flags.
    rest: Vec<OsString>,
    /// By the flags' names; what the line says is not in it.
    others: BTreeMap<&'static str, String>,
}

impl LauncherFlags {
    /// Reads the words. `None` if they cannot be understood, or ask for help or the version: there is nothing to
    /// decide then.
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

    /// Adds what the environment says.
    pub(super) fn add_variables(&mut self, variables: &[(OsString, OsString)]) {
        for flag in FLAGS.flags() {
            let variable = flag.env_name(PREFIX);
            let value =
                variables.iter().find(|(name, _)| *name == *variable).and_then(|(_, value)| value.to_str());
            self.add(flag.name, value.unwrap_or_default());
        }
    }

    /// Adds what the file of `-config` says; what is wrong with it shows later.
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

    /// The value of a flag; empty if nobody said one.
    pub(super) fn value_of(&self, name: &str) -> &str {
        match self.line.iter().rev().find(|setting| setting.name == name) {
            Some(setting) => &setting.value,
            None => self.others.get(name).map_or("", String::as_str),
        }
    }

    /// The words for 2.x: flags that only 0.4 understands are left out, with a word in the log, and so are those of
    /// `without`; those with names of old get today's.
    pub(super) fn words_for_2x(&self, without: &[&str]) -> Vec<OsString> {
        let mut words = Vec::new();
        for FlagValue { name, value, typed } in &self.line {
            if without.contains(name) || OLD_WITH_VALUE.contains(name) || !is_known_to_2x(name) {
                log::warning!(
                    "starter",
                    "{typed} means nothing to a member of 2.x that has its data: passed over"
                );
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

/// The variables for 2.x: without those of the flags named, and those that only the starter reads.
pub(super) fn variables_for_2x(
    variables: Vec<(OsString, OsString)>,
    without: &[&str],
) -> Vec<(OsString, OsString)> {
    let gone = |name: &OsStr| {
        FLAGS.flags().filter(|flag| without.contains(&flag.name)).any(|flag| *name == *flag.env_name(PREFIX))
    };
    variables.into_iter().filter(|(name, _)| !gone(name)).collect()
}

/// What a member that has its data makes no use of, and 2.x refuses.
pub(super) fn join_flags() -> &'static [&'static str] {
    &JOIN_FLAGS
}

/// Today's name of a flag, and whether its value may be the next word.
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
    // Help is none of them, and so it is not understood.
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
