//! Flags that are known, and whose features are not built yet: they are refused, so that nobody relies on what
//! is not there. Each goes from here with its feature.

use super::{Refusal, Settings};

/// When a flag asks for the feature.
enum Asked {
    /// As `true`.
    Switch,
    /// With any value.
    Set,
}

const LATER: &[(&str, Asked, &str)] = &[
    ("enable-pprof", Asked::Switch, "profiles come with a later release"),
    ("experimental-v3demo", Asked::Set, "this server has no v3 API"),
    ("experimental-gRPC-addr", Asked::Set, "this server has no v3 API"),
    ("experimental-auto-compaction-retention", Asked::Set, "this server has no v3 API"),
];

pub(super) fn refuse(settings: &Settings) -> Result<(), Refusal> {
    let values = &settings.values;
    for (name, asked, why) in LATER {
        let wanted = match asked {
            Asked::Switch => values.switch(name),
            Asked::Set => settings.is_set(name),
        };
        if wanted {
            return Err(Refusal::flags(&format!("-{name} is not supported: {why}")));
        }
    }
    if !values.switch("enable-v2") {
        return Err(Refusal::flags("-enable-v2=false is not supported: this server has the v2 API only"));
    }
    Ok(())
}
