//! The recorded runs of etcdctl with version 3 of the API, with our client and our server (or others: see
//! [`tests::programs`]).

use tests::recorded::kit;
use tests::{Check, programs};

#[test]
fn runs_are_as_recorded() -> Check {
    let etcdctl = programs::find()?.etcdctl.display().to_string();
    kit::play("etcdctl3", "etcdctl3.passes", &["--etcdctl", &etcdctl]).map(drop)
}

/// The runner itself must be able to fail: a client without output passes only where none is recorded.
#[test]
fn a_silent_client_passes_only_silence() -> Check {
    let server = kit::server_command()?;
    let silent = ["--etcdctl", "/bin/true", "--only", "txn"];
    let Some(results) = kit::results("etcdctl3", &server, &silent)? else { return Ok(()) };
    assert_eq!(results.len(), 1, "{results:?}");
    let (passed, failed) = (results[0].passed.len(), results[0].failed.len());
    assert!(failed > 4 * passed, "{passed} passed, {failed} failed");
    Ok(())
}
