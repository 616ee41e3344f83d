//! `etcd-dump salvage`: a directory that starts, from what is readable of a damaged one.

use std::process::ExitCode;

use anyhow::{Result, bail};
use shared::flags::FlagSet;

use crate::command_line::{Command, Line};

pub(crate) const COMMAND: Command = Command {
    flags: FlagSet {
        program: "etcd-dump salvage",
        about: "Rebuilds a data directory from what is readable of a damaged one",
        operands: "DIR OUT",
        groups: &[],
    },
    introduction: "usage: etcd-dump salvage DIR OUT\n",
    run,
};

fn run(line: &Line) -> Result<ExitCode> {
    let [dir, out] = line.operands.as_slice() else { bail!("give a damaged directory and a new one") };
    bail!("{dir} is not read into {out} yet")
}
