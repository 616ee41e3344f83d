//! Flags of features that this server does not have. They are refused, so that no user relies on them.

use super::{ConfigError, Settings};

/// Flags that are refused with any value, and why.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("experimental-v3demo", "this server has no v3 API"),
    ("experimental-gRPC-addr", "this server has no v3 API"),
    ("experimental-auto-compaction-retention", "this server has no v3 API"),
];

pub(super) fn check_unsupported(settings: &Settings) -> Result<(), ConfigError> {
    let values = &settings.values;
    for (name, why) in UNSUPPORTED {
        if settings.is_set(name) {
            return Err(ConfigError::flags(&format!("-{name} is not supported: {why}")));
        }
    }
    if !values.switch("enable-v2") {
        return Err(ConfigError::flags("-enable-v2=false is not supported: this server has the v2 API only"));
    }
    Ok(())
}
