//! The settings from global flags and environment.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use shared::client::Credentials;
use shared::client::v3::Options;
use shared::net::{ClientTlsFiles, Role};

use super::definition::Flag;
use super::failure::Failure;
use super::print::Format;
use super::table::GLOBAL;
use super::words::{self, Line};
use crate::output::Output;
use crate::password;
use shared::go_values;

/// The settings of a command that talks to a cluster.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The endpoints.
    pub(crate) endpoints: Vec<String>,
    /// The limit of a call.
    pub(crate) command_timeout: Duration,
    /// The limit of connecting to one endpoint.
    pub(crate) dial_timeout: Duration,
    /// The output format.
    pub(crate) format: Format,
    /// Whether bytes are printed in hexadecimal.
    pub(crate) hex: bool,
    /// Whether to say what is done.
    pub(crate) debug: bool,
    /// The domain whose SRV records name the endpoints, and the service's suffix.
    pub(crate) discovery: Option<(String, String)>,
    tls: ClientTlsFiles,
    tls_by_default: bool,
    accept_any_server: bool,
    keep_alive_time: Duration,
    keep_alive_timeout: Duration,
    user: Option<(String, Option<String>)>,
}

/// Flags and variables together.
struct Values<'a, E> {
    line: &'a Line,
    environment: E,
}

impl<E: Fn(&str) -> Option<String>> Values<'_, E> {
    fn text(&self, name: &'static str) -> Result<String, Failure> {
        let Some(flag) = GLOBAL.iter().find(|flag| flag.name == name) else { return Ok(String::new()) };
        Ok(self.given(flag)?.unwrap_or_else(|| flag.default.to_owned()))
    }

    /// A flag's value, or its variable's. An empty variable counts as not set.
    fn given(&self, flag: &Flag) -> Result<Option<String>, Failure> {
        let variable = flag.variable();
        let set = (self.environment)(&variable).filter(|value| !value.is_empty());
        match (self.line.flags.text(flag.name), set) {
            (Some(_), Some(_)) => Err(Failure::Both { flag: flag.name.to_owned(), variable }),
            (Some(value), None) => Ok(Some(value)),
            (None, Some(value)) => match words::check(flag, &value) {
                Ok(()) => Ok(Some(value)),
                Err(reason) => {
                    Err(Failure::server(format!("invalid value \"{value}\" for {variable}: {reason}")))
                }
            },
            (None, None) => Ok(None),
        }
    }

    fn is_on(&self, name: &'static str) -> Result<bool, Failure> {
        Ok(go_values::boolean(&self.text(name)?) == Some(true))
    }

    fn duration(&self, name: &'static str) -> Result<Duration, Failure> {
        Ok(words::duration(&self.text(name)?))
    }

    fn file(&self, name: &'static str) -> Result<Option<PathBuf>, Failure> {
        Ok(Some(self.text(name)?).filter(|path| !path.is_empty()).map(PathBuf::from))
    }
}

impl Settings {
    /// Joins flags and the process's environment.
    ///
    /// # Errors
    /// If a flag and its variable are both given, or the format does not exist.
    pub(crate) fn new(line: &Line) -> Result<Settings, Failure> {
        Settings::with_environment(line, |name| env::var(name).ok())
    }

    fn with_environment(
        line: &Line,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Settings, Failure> {
        let values = Values { line, environment };
        // Every variable is checked, used or not: what is given twice is a mistake.
        for flag in GLOBAL {
            values.given(flag)?;
        }
        let (cert, key, ca) = (values.file("cert")?, values.file("key")?, values.file("cacert")?);
        let tls_by_default =
            cert.is_some() || key.is_some() || ca.is_some() || !values.is_on("insecure-transport")?;
        let user = values.text("user")?;
        let password = values.text("password")?;
        let domain = values.text("discovery-srv")?;
        Ok(Settings {
            endpoints: values.text("endpoints")?.split(',').map(|one| one.trim().to_owned()).collect(),
            command_timeout: values.duration("command-timeout")?,
            dial_timeout: values.duration("dial-timeout")?,
            format: Format::new(&values.text("write-out")?)?,
            hex: values.is_on("hex")?,
            debug: values.is_on("debug")?,
            discovery: (!domain.is_empty()).then_some((domain, values.text("discovery-srv-name")?)),
            tls: ClientTlsFiles {
                cert,
                key,
                ca: ca.into_iter().collect(),
                accept_common_name: false,
                role: Role::V3Tool,
            },
            tls_by_default,
            accept_any_server: values.is_on("insecure-skip-tls-verify")?,
            keep_alive_time: values.duration("keepalive-time")?,
            keep_alive_timeout: values.duration("keepalive-timeout")?,
            user: (!user.is_empty()).then(|| split_user(user, password)),
        })
    }

    /// The options of a client for given endpoints. Asks for the password if it is missing.
    ///
    /// # Errors
    /// If the password cannot be read.
    pub(crate) fn options(&mut self, endpoints: Vec<String>, out: &mut Output) -> Result<Options, Failure> {
        let credentials = match &mut self.user {
            None => None,
            Some((user, password)) => {
                let password = match password {
                    Some(password) => password.clone(),
                    None => password.insert(password::ask("Password: ", out)?).clone(),
                };
                Some(Credentials { user: user.clone(), password })
            }
        };
        Ok(Options {
            endpoints,
            tls: self.tls.clone(),
            tls_by_default: self.tls_by_default,
            accept_any_server: self.accept_any_server,
            dial_timeout: self.dial_timeout,
            keep_alive_time: self.keep_alive_time,
            keep_alive_timeout: self.keep_alive_timeout,
            credentials,
        })
    }
}

/// With a password of its own the whole of `--user` is the name.
fn split_user(user: String, password: String) -> (String, Option<String>) {
    if !password.is_empty() {
        return (user, Some(password));
    }
    match user.split_once(':') {
        Some((name, password)) => (name.to_owned(), Some(password.to_owned())),
        None => (user, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &[&str], environment: &[(&str, &str)]) -> Result<Settings, Failure> {
        let line = words::read(words.iter().map(Into::into).collect()).unwrap();
        Settings::with_environment(&line, |name| {
            environment.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_flag_or_its_variable_but_not_both() {
        let variable = &[("ETCDCTL_ENDPOINTS", "a:1,b:2")];
        assert_eq!(settings(&["get"], variable).unwrap().endpoints, ["a:1", "b:2"]);
        assert_eq!(settings(&["get"], &[("ETCDCTL_ENDPOINTS", "")]).unwrap().endpoints, ["127.0.0.1:2379"]);
        let error = settings(&["get", "--endpoints=c:3"], variable).unwrap_err();
        assert!(matches!(error, Failure::Both { .. }) && error.status() == 1, "{error:?}");
        let formats = settings(&["get"], &[("ETCDCTL_WRITE_OUT", "xml")]).unwrap_err();
        assert_eq!((formats.to_string().as_str(), formats.status()), ("unsupported output format", 4));
        assert!(settings(&["get"], &[("ETCDCTL_DIAL_TIMEOUT", "soon")]).is_err());
    }

    #[test]
    fn files_turn_tls_on() {
        assert!(!settings(&["get"], &[]).unwrap().tls_by_default);
        assert!(settings(&["get", "--cacert=x"], &[]).unwrap().tls_by_default);
        assert!(settings(&["get", "--insecure-transport=false"], &[]).unwrap().tls_by_default);
    }

    #[test]
    fn a_password_of_its_own_leaves_the_name_whole() {
        let user = |words: &[&str]| settings(words, &[]).unwrap().user.unwrap();
        assert_eq!(user(&["get", "--user=u:p:q"]), ("u".to_owned(), Some("p:q".to_owned())));
        assert_eq!(user(&["get", "--user=u:p", "--password=x"]), ("u:p".to_owned(), Some("x".to_owned())));
        assert_eq!(user(&["get", "--user=u"]), ("u".to_owned(), None));
    }
}
