//! Settings from the environment: `ETCD_MAX_WALS` for `-max-wals`.

use shared::flags::{Flag, Kind};
use shared::quote::quote;
use shared::suggest::closest;

use super::flags::FLAGS;
use super::outcome::StartupLines;
use super::peer_list::without_users;
use super::{ConfigError, Settings};

/// The prefix of all variables of this program.
pub(super) const PREFIX: &str = "ETCD_";

/// Applies the variables of flags that the command line did not set, and logs how each variable was used.
///
/// An empty variable counts as absent. All variables are read; of several invalid ones the last is reported, in the
/// order of the flags' names, as in the original.
pub(super) fn read(
    settings: &mut Settings,
    variables: &[(String, String)],
    notes: &mut StartupLines,
) -> Result<(), ConfigError> {
    let mut flags: Vec<&'static Flag> = FLAGS.flags().collect();
    flags.sort_by_key(|flag| flag.name);
    let on_the_line: Vec<String> =
        flags.iter().filter(|flag| settings.is_set(flag.name)).map(|flag| flag.env_name(PREFIX)).collect();
    let mut used = Vec::new();
    let mut refusal = None;
    for flag in flags {
        let variable = flag.env_name(PREFIX);
        let value = variables.iter().find(|(name, _)| *name == variable).map_or("", |(_, value)| value);
        if value.is_empty() || settings.is_set(flag.name) {
            continue;
        }
        match settings.values.set(flag, value) {
            Ok(()) if matches!(flag.kind, Kind::Ignored) => {
                notes.ignored(&format!("flag \"-{}\"", flag.name))
            }
            Ok(()) => {
                settings.from_environment.insert(flag.name);
            }
            Err(reason) => {
                let text = format!("invalid value {} for {variable}: {reason}", quote(value));
                refusal = Some(ConfigError::Fatal(text));
            }
        }
        // `-peers` may contain a password.
        let hidden = (flag.name == "peers" && value.contains('@')).then(|| without_users(value));
        let value = hidden.as_deref().unwrap_or(value);
        notes.info(format!("recognized and used environment variable {variable}={value}"));
        used.push(variable);
    }
    for (name, value) in variables {
        if used.contains(name) {
            continue;
        }
        if on_the_line.contains(name) {
            // The original's text has this blank at the end.
            notes.info(format!(
                "recognized environment variable {name}, but unused: shadowed by corresponding flag "
            ));
        } else if name.starts_with(PREFIX) && !(value.is_empty() && is_known(name)) {
            notes.warning(format!("unrecognized environment variable {name}={value}"));
            let known: Vec<String> = FLAGS.flags().map(|flag| flag.env_name(PREFIX)).collect();
            if let Some(meant) = closest(name, known.iter().map(String::as_str)) {
                notes.warning(format!("did you mean the environment variable {meant}?"));
            }
        }
    }
    refusal.map_or(Ok(()), Err)
}

fn is_known(variable: &str) -> bool {
    FLAGS.flags().any(|flag| flag.env_name(PREFIX) == variable)
}
