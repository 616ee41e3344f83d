//! What other programs want to know of the command line: shells and `man`.

use std::path::PathBuf;

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
        clap_mangen::generate_to(Cli::command(), &self.dir)
            .map_err(|error| CliError::Failed(format!("{}: {error}", self.dir.display())))?;
        out.line(&format!("manual pages written to {}", self.dir.display()))
    }
}
