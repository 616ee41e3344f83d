//! Shell completions and manual pages.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::error::CliError;
use crate::output::Output;

/// Print the completions for a shell
///
/// For bash: etcdctl completion bash > /etc/bash_completion.d/etcdctl
#[derive(Debug, clap::Args)]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(super) fn run(self, out: &mut Output) -> Result<(), CliError> {
        use clap_complete::Shell as Known;
        let shell = match self.shell {
            Shell::Bash => Known::Bash,
            Shell::Zsh => Known::Zsh,
            Shell::Fish => Known::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "etcdctl", &mut script);
        out.text(&String::from_utf8_lossy(&script))
    }
}

/// Write the manual pages into a directory, for packagers
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// The directory; it must be there
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Man {
    pub(super) fn run(self, out: &mut Output) -> Result<(), CliError> {
        // Names such as etcdctl-member-add, and what each command inherits.
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        write_pages(&root, &self.dir)
            .map_err(|error| CliError::Failed(format!("{}: {error}", self.dir.display())))?;
        out.line(&format!("manual pages written to {}", self.dir.display()))
    }
}

/// The page of a command, and those of the commands below it.
fn write_pages(command: &clap::Command, dir: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let page = clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .source(concat!("etcd-rs ", env!("CARGO_PKG_VERSION")))
        .manual("etcd-rs");
    page.generate_to(dir)?;
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
        .try_for_each(|below| write_pages(below, dir))
}
