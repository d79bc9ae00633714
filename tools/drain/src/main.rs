//! `kairos-drain`: the process that takes the journal to files and databases.

use std::process::ExitCode;

fn main() -> ExitCode {
    kairos_drain::cli::main()
}
