//! Writes the messages and services of the v3 API, as Rust and as descriptors, into `shared/src/v3/pb/generated`.
//!
//! The result is committed, so that building the programs needs neither this nor protoc. With `--check` nothing is
//! written: the exit status tells whether the files are what the `.proto` files say.

use std::path::Path;

use anyhow::{Context, bail};
use prost::Message;

const FILES: [&str; 7] = [
    "authpb.proto",
    "etcdserverpb.proto",
    "leasepb.proto",
    "mvccpb.proto",
    "raftlog.proto",
    "v3electionpb.proto",
    "v3lockpb.proto",
];

const DESCRIPTORS: &str = "descriptors.bin";

fn main() -> anyhow::Result<()> {
    let check = match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("usage: generate-protocol [--check]"),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = root.join("../src/v3/pb/generated");
    let out = std::env::temp_dir().join(format!("generate-protocol-{}", std::process::id()));
    std::fs::create_dir_all(&out)?;
    let written = write(&root, &out);
    let result = written.and_then(|()| publish(&out, &target, check));
    std::fs::remove_dir_all(&out)?;
    result
}

fn write(root: &Path, out: &Path) -> anyhow::Result<()> {
    let set = protox::compile(FILES, [root]).context("the .proto files do not compile")?;
    std::fs::write(out.join(DESCRIPTORS), set.encode_to_vec())?;
    let mut messages = prost_build::Config::new();
    messages.bytes(["."]);
    tonic_prost_build::configure()
        .out_dir(out)
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(set, messages)
        .context("no code for the .proto files")
}

/// Copies what was written to its place, or compares the two.
fn publish(out: &Path, target: &Path, check: bool) -> anyhow::Result<()> {
    std::fs::create_dir_all(target)?;
    for entry in std::fs::read_dir(out)? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        let new = std::fs::read(&path)?;
        let to = target.join(name);
        if std::fs::read(&to).is_ok_and(|old| old == new) {
            continue;
        }
        if check {
            bail!("{} is not what the .proto files say: run this without --check", to.display());
        }
        std::fs::write(&to, new)?;
    }
    Ok(())
}
