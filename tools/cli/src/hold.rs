//! `kairos journal hold`: runs that stay, whatever retention says.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use kairos_journal::holds::{self, Hold};
use kairos_journal::{Error, Journal};

use crate::outcome;

const EXAMPLES: &str = "Examples:
  kairos journal hold add DIR audit-2026 --run 17 --reason \"asked for by the auditor\"
  kairos journal hold ls DIR --json
  kairos journal hold rm DIR audit-2026

A hold keeps its run and every later one, against a living archiver as well as against prune. Exit status:
0 done, 1 no journal, or no such hold, 2 a hold is damaged.";

/// Keep runs, whatever retention says.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct HoldArgs {
    #[command(subcommand)]
    verb: HoldVerb,
}

#[derive(Debug, Subcommand)]
enum HoldVerb {
    /// Place a hold, or move the one of that name.
    Add {
        /// The journal's directory.
        dir: PathBuf,
        /// Its name: 1 to 64 of a-z, 0-9, _ and -.
        name: String,
        /// The first run that stays; without it everything that is there now.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        run: Option<u64>,
        /// Why.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Lift a hold.
    Rm {
        /// The journal's directory.
        dir: PathBuf,
        /// Its name.
        name: String,
    },
    /// Show all holds.
    Ls {
        /// The journal's directory.
        dir: PathBuf,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// Places, lifts or shows.
pub(crate) fn run(args: &HoldArgs) -> ExitCode {
    match done(&args.verb) {
        Ok((said, status)) => outcome::answer(&said, status),
        Err(error) => outcome::fail(&error),
    }
}

fn done(verb: &HoldVerb) -> Result<(String, ExitCode), Error> {
    match verb {
        HoldVerb::Add { dir, name, run, reason } => {
            let run = match run {
                Some(run) => *run,
                None => Journal::open(dir)?.segments()?.first().map_or(1, |it| it.header.run),
            };
            let hold = holds::place(dir, name, run, reason)?;
            Ok((text(&[hold]), ExitCode::SUCCESS))
        }
        HoldVerb::Rm { dir, name } if holds::lift(dir, name)? => {
            Ok((format!("{name}: lifted"), ExitCode::SUCCESS))
        }
        HoldVerb::Rm { name, .. } => Ok((format!("{name}: no such hold"), ExitCode::FAILURE)),
        HoldVerb::Ls { dir, json } => {
            Journal::open(dir)?;
            let found = holds::list(dir)?;
            let said = if *json {
                serde_json::json!({ "holds": found }).to_string()
            } else {
                text(&found)
            };
            Ok((said, ExitCode::SUCCESS))
        }
    }
}

fn text(holds: &[Hold]) -> String {
    let mut out = String::new();
    for hold in holds {
        // Writing to a String cannot fail.
        let _ = write!(out, "{}: keeps run {} and later ones", hold.name, hold.run);
        let _ = if hold.reason.is_empty() { Ok(()) } else { write!(out, ": {}", hold.reason) };
        out.push('\n');
    }
    if holds.is_empty() { "no holds".into() } else { out.trim_end().into() }
}
