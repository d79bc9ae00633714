//! The command line.

mod care;
mod run;
mod verbs;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kairos_edge::config::{Config, Drain, Problem, Sources};

/// Success of a check that says no.
const SAYS_NO: u8 = 2;
/// Wrong command line.
const USAGE: u8 = 64;
/// Wrong configuration.
const CONFIGURATION: u8 = 78;

const EXAMPLES: &str = "Examples:
  kairos-drain run --config /etc/kairos/kairos.toml
  kairos-drain run --config kairos.toml --until-caught-up
  kairos-drain audit --config kairos.toml --json
  kairos-drain run --config kairos.toml --set drain.postgres.url=postgres://kairos@127.0.0.1/kairos

Without a sink in the configuration, Parquet files go to /var/lib/kairos/<name>/parquet.
Exit status: 0 success, 1 failure, 2 the check says no (a sink differs, a damaged journal), 64 usage,
78 configuration missing or wrong, or a schema that needs another version.";

/// Takes the journal to Parquet files, PostgreSQL or TimescaleDB, and Redis.
#[derive(Debug, Parser)]
#[command(name = "kairos-drain", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Follow the journal and write every configured sink, until told to stop.
    Run(run::RunArgs),
    /// How each sink is: place, lag, rate, last error. Exit 0 all well, 1 behind or waiting, 2 broken,
    /// 3 no drain runs.
    Status(verbs::StatusArgs),
    /// Count what each sink holds against the journal; exit 2 where one differs.
    Audit(verbs::AuditArgs),
    /// Bring the database's schema up to date, or print what that would execute.
    Migrate(verbs::MigrateArgs),
    /// Delete what a sink holds, so that the next run writes it anew from the journal.
    Rebuild(verbs::RebuildArgs),
    /// Connect to every sink and say what is there and what is wrong; writes nothing. Exit 2 where
    /// something is.
    Check(care::CheckArgs),
    /// Go on behind what the journal no longer has and the sink never got.
    Skip(care::SkipArgs),
    /// Let a running drain leave a sink alone, until it is resumed.
    Pause(care::PauseArgs),
    /// Let it go on.
    Resume(care::PauseArgs),
    /// Make one Parquet file of the many of each hour that is over.
    Compact(care::CompactArgs),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
struct Where {
    /// The configuration; takes the place of the layers of files.
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    /// Overrides one value, such as drain.batch_ms=20. May come again.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl Where {
    fn load(&self) -> Result<(Config, Drain), ExitCode> {
        let sources = Sources::of_process(self.config.clone(), self.set.clone());
        sources.load_drain().map_err(|problems| {
            for problem in &problems {
                let problem: &Problem = problem;
                eprintln!("kairos-drain: {problem}");
            }
            ExitCode::from(CONFIGURATION)
        })
    }
}

/// Reads the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked = !error.use_stderr();
            // A closed pipe is no reason to fail: there is nothing else to say.
            let _printed = error.print();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    match cli.verb {
        Verb::Run(args) => run::run(&args),
        Verb::Status(args) => verbs::status(&args),
        Verb::Audit(args) => verbs::audit(&args),
        Verb::Migrate(args) => verbs::migrate(&args),
        Verb::Rebuild(args) => verbs::rebuild(&args),
        Verb::Check(args) => care::check(&args),
        Verb::Skip(args) => care::skip(&args),
        Verb::Pause(args) => care::pause(&args, true),
        Verb::Resume(args) => care::pause(&args, false),
        Verb::Compact(args) => care::compact(&args),
    }
}
