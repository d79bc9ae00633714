//! The verbs of the engine's binary, and of any binary that adds strategies to it.

pub mod check;
pub mod demo;
pub mod replay;
pub mod run;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kairos_edge::config::{Config, Problem, Sources};
use kairos_logic::strategy::Registry;

use crate::pin;

/// Exit status of a wrong command line.
const USAGE: u8 = 64;
/// Exit status of a configuration that is missing or wrong, or of a host that was refused.
const CONFIGURATION: u8 = 78;

/// The engine: feeds, strategies, risk, execution and the journal on pinned threads.
#[derive(Debug, Parser)]
#[command(name = "kairos-engine", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "Examples:
  kairos-engine demo                                   see everything work, without configuration or network
  kairos-engine check --config kairos.toml             resolved seats, threads and CPUs; or every problem
  kairos-engine run --config kairos.toml               run until SIGINT or SIGTERM, or the end of a capture
  kairos-engine run --config kairos.toml --set journal.gate=durable
  kairos-engine replay /var/lib/kairos/demo/journal --verify

Exit status: 0 success, 1 failure, 2 the check says no (mismatch, damaged journal), 64 usage,
70 engine fault, 78 configuration missing or wrong, or host refused.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run until SIGINT or SIGTERM, or until the captures end; then print a summary.
    Run(run::RunArgs),
    /// Print which seat runs on which thread and CPU, or every problem of the configuration.
    Check(check::CheckArgs),
    /// Trade a seeded exchange on loopback for some seconds, then replay and verify.
    Demo(demo::DemoArgs),
    /// Repeat a journal's decisions from its inputs and compare.
    Replay(replay::ReplayArgs),
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file; replaces config/default.toml, config/ENVIRONMENT.toml and config/local.toml.
    #[arg(long, value_name = "F")]
    pub config: Option<PathBuf>,
    /// Overrides one value, after files and KAIROS__SECTION__KEY variables. May be repeated.
    #[arg(long = "set", value_name = "section.key=value", value_parser = assignment)]
    pub set: Vec<String>,
}

/// Whether a key is known and a value fits it is the configuration's to say, which shows no value that
/// may be secret; that there are two is the command line's.
fn assignment(text: &str) -> Result<String, &'static str> {
    if text.contains('=') { Ok(text.to_owned()) } else { Err("must be section.key=value") }
}

impl ConfigArgs {
    /// Reads, merges and checks; prints every problem.
    ///
    /// # Errors
    /// The exit status, after the problems were printed.
    pub fn load(&self) -> Result<Config, ExitCode> {
        let usable = pin::usable_cpus().unwrap_or_default();
        Sources::of_process(self.config.clone(), self.set.clone())
            .load(Some(&usable))
            .map_err(|problems| print_problems(&problems))
    }
}

/// Prints a command's answer to stdout and gives its status. A reader that went away has seen enough:
/// that is no failure, and no reason to panic as the printing macros do.
pub fn answer(text: &str, status: ExitCode) -> ExitCode {
    let mut out = io::stdout().lock();
    let end: &[u8] = if text.is_empty() || text.ends_with('\n') { b"" } else { b"\n" };
    match out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(end))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("kairos: stdout: {error}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => status,
    }
}

/// Prints one line per problem and gives the status of a wrong configuration.
pub(crate) fn print_problems(problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("kairos-engine: {problem}");
    }
    ExitCode::from(CONFIGURATION)
}

/// Runs the verb that `args` (program name first) ask for, with the strategies in `registry`.
pub fn main_with_args(registry: &Registry, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let asked = !error.use_stderr();
            // A closed pipe is no reason to fail: there is nothing else to say.
            let _printed = error.print();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    match cli.verb {
        Verb::Run(args) => run::run(&args, registry),
        Verb::Check(args) => check::run(&args, registry),
        Verb::Demo(args) => demo::run(&args, registry),
        Verb::Replay(args) => replay::run(&args, registry),
    }
}
