//! Settings from a configuration file in the format of etcd 0.4: TOML with the tables `[peer]` and `[cluster]`.
//!
//! A key is a flag's name with underscores; in a table, the table's name is the prefix: `addr` in `[peer]` is
//! `-peer-addr`. So every flag has a key, not only those of 0.4. A list becomes comma-separated values. The file has
//! the lowest precedence: the command line and the environment override it, with new or old names.

use shared::flags::{Flag, Kind};
use shared::quote::quote;
use shared::suggest::closest;
use toml::{Table, Value};

use super::flags::FLAGS;
use super::outcome::StartupLines;
use super::{ConfigError, Settings};

/// 0.4 keys that became flags with another name.
const RENAMED: &[(&str, &str)] = &[("verbose", "v"), ("very-verbose", "vv")];

/// 0.4 keys without a flag in 2.x: ignored with a warning.
const DROPPED: &[&str] =
    &["http-read-timeout", "http-write-timeout", "peer-heartbeat-timeout", "very-very-verbose"];

/// Flags that are not allowed in a file.
const NOT_IN_FILES: &[&str] = &["config", "version"];

/// Groups of flags with the same meaning: if one flag of a group is set, the file's values for the group are ignored.
const EQUIVALENT: &[&[&str]] = &[
    &["listen-peer-urls", "peer-bind-addr"],
    &["initial-advertise-peer-urls", "peer-addr"],
    &["listen-client-urls", "bind-addr"],
    &["advertise-client-urls", "addr"],
    &["initial-cluster", "discovery", "discovery-srv"],
];

/// Applies the settings in the file's content. `path` is for messages.
pub(super) fn read(
    settings: &mut Settings,
    path: &str,
    content: &str,
    notes: &mut StartupLines,
) -> Result<(), ConfigError> {
    let table: Table = content.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map(|span| 1 + content[..span.start].matches('\n').count());
        let place = line.map(|line| format!(", line {line}")).unwrap_or_default();
        ConfigError::Fatal(format!(
            "cannot read configuration file {}{place}: {}",
            quote(path),
            error.message()
        ))
    })?;
    let file = ConfigFile { path };
    let already_set: Vec<&str> =
        FLAGS.flags().map(|flag| flag.name).filter(|name| is_already_set(settings, name)).collect();
    for (key, value) in &table {
        match (key.as_str(), value) {
            ("peer" | "cluster", Value::Table(inner)) => {
                for (inner_key, value) in inner {
                    file.read_setting(settings, &format!("{key}.{inner_key}"), value, &already_set, notes)?;
                }
            }
            _ => file.read_setting(settings, key, value, &already_set, notes)?,
        }
    }
    Ok(())
}

fn is_already_set(settings: &Settings, name: &str) -> bool {
    let equivalent = EQUIVALENT.iter().find(|equivalent| equivalent.contains(&name)).copied();
    settings.is_set(name)
        || equivalent.is_some_and(|equivalent| equivalent.iter().any(|name| settings.is_set(name)))
}

struct ConfigFile<'a> {
    path: &'a str,
}

impl ConfigFile<'_> {
    fn read_setting(
        &self,
        settings: &mut Settings,
        key: &str,
        value: &Value,
        already_set: &[&str],
        notes: &mut StartupLines,
    ) -> Result<(), ConfigError> {
        let name = key.replace(['.', '_'], "-");
        let name = RENAMED.iter().find(|(old, _)| *old == name).map_or(name.as_str(), |(_, new)| new);
        if DROPPED.contains(&name) {
            notes.ignored(&self.named(key));
            return Ok(());
        }
        let Some(flag) = FLAGS.find(name).filter(|flag| !NOT_IN_FILES.contains(&flag.name)) else {
            let known = FLAGS.flags().map(|flag| flag.name).filter(|name| !NOT_IN_FILES.contains(name));
            let hint = closest(name, known).map(|name| format!(": did you mean {name}?"));
            let hint = hint.unwrap_or_default();
            return Err(ConfigError::Fatal(format!("unknown setting {}{hint}", self.named(key))));
        };
        if matches!(flag.kind, Kind::Ignored) {
            notes.ignored(&self.named(key));
            return Ok(());
        }
        let text = text_of(value).ok_or_else(|| {
            ConfigError::Fatal(format!(
                "the setting {} has no value of a kind that is known",
                self.named(key)
            ))
        })?;
        if text.is_empty() {
            // 0.4's example file sets unused settings to empty values.
            return Ok(());
        }
        if already_set.contains(&flag.name) {
            notes.info(format!(
                "recognized setting {}, but unused: shadowed by a flag or an environment variable",
                self.named(key)
            ));
            return Ok(());
        }
        self.set(settings, flag, key, &text)
    }

    fn set(
        &self,
        settings: &mut Settings,
        flag: &'static Flag,
        key: &str,
        text: &str,
    ) -> Result<(), ConfigError> {
        settings.values.set(flag, text).map_err(|reason| {
            ConfigError::Fatal(format!(
                "invalid value {} for setting {}: {reason}",
                quote(text),
                self.named(key)
            ))
        })?;
        settings.from_file.insert(flag.name);
        Ok(())
    }

    fn named(&self, key: &str) -> String {
        format!("{} in {}", quote(key), self.path)
    }
}

/// A value in the form of the command line.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(on) => Some(on.to_string()),
        Value::Array(items) => {
            let texts = items.iter().map(|item| item.as_str().map(str::trim)).collect::<Option<Vec<_>>>()?;
            Some(texts.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}
