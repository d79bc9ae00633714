//! `kairos drain`: verbs of the drain's own binary, which holds the database clients.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Args;

const NAME: &str = "kairos-drain";

/// Arguments for the drain.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// `status`, `check`, `audit`, `migrate`, `rebuild`, `skip`, `pause`, `resume`, `compact`, with their own
    /// arguments; `help` explains them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 1.., required = true)]
    arguments: Vec<OsString>,
}

/// Becomes the drain: the one beside this binary, else the one that is found as a command.
pub(crate) fn run(args: &DrainArgs) -> ExitCode {
    let beside = std::env::current_exe().ok().and_then(|it| Some(it.parent()?.join(NAME)));
    let program = beside.filter(|it| it.is_file()).unwrap_or_else(|| PathBuf::from(NAME));
    let error = Command::new(&program).args(&args.arguments).exec();
    eprintln!("kairos: drain: cannot start {}: {error}", program.display());
    ExitCode::FAILURE
}
