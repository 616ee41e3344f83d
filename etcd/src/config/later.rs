//! Flags that are known, and whose features are not built yet: they are refused, so that nobody relies on what
//! is not there. Each goes from here with its feature.

use super::{Refusal, Settings};

/// With any value.
const LATER: &[(&str, &str)] = &[
    ("experimental-v3demo", "this server has no v3 API"),
    ("experimental-gRPC-addr", "this server has no v3 API"),
    ("experimental-auto-compaction-retention", "this server has no v3 API"),
];

pub(super) fn refuse(settings: &Settings) -> Result<(), Refusal> {
    let values = &settings.values;
    for (name, why) in LATER {
        if settings.is_set(name) {
            return Err(Refusal::flags(&format!("-{name} is not supported: {why}")));
        }
    }
    if !values.switch("enable-v2") {
        return Err(Refusal::flags("-enable-v2=false is not supported: this server has the v2 API only"));
    }
    Ok(())
}
