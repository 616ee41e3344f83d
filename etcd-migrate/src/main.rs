//! `etcd-migrate`: will convert the data directory of an etcd 0.x member into that of a 2.x member.
//!
//! It reads its flags and says that the rest is not there yet. It never touches a data directory, so nobody can
//! take it for done.

use std::io::{self, Write as _};
use std::process::ExitCode;

use shared::flags::{Flag, FlagError, FlagSet, Group};

static FLAGS: FlagSet = FlagSet {
    program: "etcd-migrate",
    about: "Converts the data directory of an etcd 0.x member into that of a 2.x member.",
    operands: "",
    groups: &[Group {
        title: "flags",
        remark: "",
        hidden: false,
        flags: &[
            Flag::text("data-dir", "", "The data directory to convert."),
            Flag::text("name", "", "The name of the member whose directory it is."),
            Flag::switch("version", "Tell the version and leave."),
        ],
    }],
};

fn main() -> ExitCode {
    let (output, error, status) = match FLAGS.parse(std::env::args_os().skip(1)) {
        Err(FlagError::Help) => (FLAGS.usage() + &FLAGS.help(), String::new(), 0),
        Err(error) => (FLAGS.usage(), format!("{error}\n"), error.exit_status()),
        Ok(values) if values.switch("version") => {
            (format!("etcd-migrate Version: {}\n", env!("CARGO_PKG_VERSION")), String::new(), 0)
        }
        Ok(_) => (
            String::new(),
            "etcd-migrate: migration comes with a later release; nothing was changed\n".to_owned(),
            1,
        ),
    };
    // Whoever closed the pipe does not want to know.
    let _ = io::stderr().write_all(error.as_bytes());
    let _ = io::stdout().write_all(output.as_bytes());
    ExitCode::from(status)
}
