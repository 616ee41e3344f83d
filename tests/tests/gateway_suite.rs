//! The recorded answers of the JSON gateway of etcd 3.5, against our server (or another: see [`tests::programs`]).

use tests::Check;
use tests::recorded::kit;

#[test]
fn answers_are_as_recorded() -> Check {
    kit::play("gateway", "gateway.passes", &[]).map(drop)
}

/// The runner itself must be able to fail: without a server, no step passes.
#[test]
fn nothing_passes_on_a_closed_port() -> Check {
    let Some(results) = kit::results("gateway", kit::NOBODY, &["--only", "kv_sort", "--start-timeout", "1"])?
    else {
        return Ok(());
    };
    assert_eq!(results.len(), 1, "{results:?}");
    assert!(results[0].passed.is_empty() && !results[0].failed.is_empty(), "{results:?}");
    Ok(())
}
