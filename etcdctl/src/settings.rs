//! The settings from global flags and environment.
//!
//! [`Global`] has the flags as typed; [`Settings`] is what commands use.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use shared::net::{ClientTlsFiles, Role};

use crate::cli::Global;
use crate::output::Format;

/// The default endpoints.
const DEFAULT_ENDPOINTS: &str = "http://127.0.0.1:2379,http://127.0.0.1:4001";

/// The settings of a command.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The domain whose SRV records name the endpoints; it takes precedence over `endpoints`.
    pub(crate) discovery: Option<String>,
    /// URLs of members.
    pub(crate) endpoints: Vec<String>,
    /// Certificates and keys.
    pub(crate) tls: ClientTlsFiles,
    /// `NAME` or `NAME:PASSWORD`.
    pub(crate) username: Option<String>,
    /// The time limit of one request.
    pub(crate) timeout: Option<Duration>,
    /// The time limit of a command.
    pub(crate) total_timeout: Duration,
    /// Whether to get the endpoints from the cluster first.
    pub(crate) sync: bool,
    /// Whether to print requests.
    pub(crate) debug: bool,
    /// The output format.
    pub(crate) format: Format,
}

impl Settings {
    /// Joins flags and the process's environment.
    pub(crate) fn new(flags: Global) -> Settings {
        Settings::with_environment(flags, |name| env::var_os(name).and_then(|value| value.into_string().ok()))
    }

    fn with_environment(flags: Global, environment: impl Fn(&str) -> Option<String>) -> Settings {
        // An empty value of a flag or a variable counts as not set.
        let from = |name: &str| environment(name).filter(|value| !value.is_empty());
        let text =
            |flag: Option<String>, name: &str| flag.filter(|flag| !flag.is_empty()).or_else(|| from(name));
        let file = |flag: Option<OsString>, name: &str| {
            flag.filter(|flag| !flag.is_empty()).or_else(|| from(name).map(OsString::from)).map(PathBuf::from)
        };
        // The variable of each name takes precedence over the flag of the next name, as in the original.
        let endpoints = text(flags.endpoints, "ETCDCTL_ENDPOINTS")
            .or_else(|| text(flags.endpoint, "ETCDCTL_ENDPOINT"))
            .or_else(|| text(flags.peers, "ETCDCTL_PEERS"))
            .unwrap_or_else(|| DEFAULT_ENDPOINTS.to_owned());
        Settings {
            discovery: text(flags.discovery_srv, "ETCDCTL_DISCOVERY_SRV"),
            endpoints: endpoints.split(',').map(str::to_owned).collect(),
            tls: ClientTlsFiles {
                cert: file(flags.cert_file, "ETCDCTL_CERT_FILE"),
                key: file(flags.key_file, "ETCDCTL_KEY_FILE"),
                ca: file(flags.ca_file, "ETCDCTL_CA_FILE").into_iter().collect(),
                accept_common_name: flags.tls_accept_common_name,
                role: Role::Tool,
            },
            username: flags.username.filter(|name| !name.is_empty()),
            timeout: Some(flags.timeout).filter(|limit| !limit.is_zero()),
            total_timeout: flags.total_timeout,
            sync: !flags.no_sync,
            debug: flags.debug,
            format: Format::new(&flags.output),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn settings(flags: &[&str], environment: &[(&str, &str)]) -> Settings {
        let words = ["etcdctl"].iter().chain(flags);
        Settings::with_environment(Cli::parse_from(words).global, |name| {
            environment.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn endpoints(flags: &[&str], environment: &[(&str, &str)]) -> String {
        settings(flags, environment).endpoints.join(",")
    }

    #[test]
    fn a_names_variable_goes_before_the_next_names_flag() {
        assert_eq!(endpoints(&[], &[]), DEFAULT_ENDPOINTS);
        assert_eq!(endpoints(&["--endpoints=a", "--endpoint=b", "--peers=c"], &[]), "a");
        assert_eq!(endpoints(&["--endpoint=b", "-C=c"], &[]), "b");
        assert_eq!(endpoints(&["--endpoint=b"], &[("ETCDCTL_ENDPOINTS", "e")]), "e");
        assert_eq!(endpoints(&["--peers=c"], &[("ETCDCTL_ENDPOINT", "e")]), "e");
        assert_eq!(endpoints(&["--peers=c"], &[("ETCDCTL_PEERS", "e")]), "c");
        assert_eq!(
            endpoints(&["--endpoints="], &[("ETCDCTL_ENDPOINTS", ""), ("ETCDCTL_PEERS", "p,q")]),
            "p,q"
        );
    }

    #[test]
    fn files_and_domain_come_from_the_environment_too() {
        let settings = settings(
            &["--cert-file=c"],
            &[
                ("ETCDCTL_CERT_FILE", "x"),
                ("ETCDCTL_KEY_FILE", "k"),
                ("ETCDCTL_CA_FILE", "a"),
                ("ETCDCTL_DISCOVERY_SRV", "d"),
            ],
        );
        assert_eq!(settings.tls.cert, Some("c".into()));
        assert_eq!(settings.tls.key, Some("k".into()));
        assert_eq!(settings.tls.ca, ["a"].map(PathBuf::from));
        assert_eq!(settings.discovery.as_deref(), Some("d"));
    }

    #[test]
    fn limits_have_defaults_and_a_zero_for_one_request_is_none() {
        let by_default = settings(&[], &[]);
        assert_eq!(by_default.timeout, Some(Duration::from_secs(1)));
        assert_eq!(by_default.total_timeout, Duration::from_secs(5));
        assert_eq!(settings(&["--timeout=0"], &[]).timeout, None);
        assert!(by_default.sync && !by_default.debug && by_default.format == Format::Simple);
    }
}
