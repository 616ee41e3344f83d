//! `etcd-dump doctor`: whether a directory of etcd 3.x holds v2 data that etcd 3.6 would refuse.

use std::process::ExitCode;

use anyhow::{Result, bail};
use shared::flags::FlagSet;

use crate::command_line::{Command, Line};

pub(crate) const COMMAND: Command = Command {
    flags: FlagSet {
        program: "etcd-dump doctor",
        about: "Says whether a data directory holds v2 data",
        operands: "DIR",
        groups: &[],
    },
    introduction: "usage: etcd-dump doctor DIR\n",
    run,
};

fn run(line: &Line) -> Result<ExitCode> {
    let dir = line.data_dir()?;
    bail!("{} is not looked at yet", dir.display())
}
