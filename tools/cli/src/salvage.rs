//! `kairos journal salvage`: what still reads, into a new journal.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kairos_journal::salvage;

use crate::outcome;

const EXAMPLES: &str = "Examples:
  kairos journal salvage DIR --out RESCUED
  kairos journal verify RESCUED

The damaged journal is not touched. Every frame that validates is copied with its sequence; what is
missing between becomes a gap.";

/// Copy every frame that still validates into a new journal.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SalvageArgs {
    /// The damaged journal's directory.
    dir: PathBuf,
    /// Where the new journal goes: an empty or absent directory.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Copies and prints what was saved.
pub(crate) fn run(args: &SalvageArgs) -> ExitCode {
    match salvage(&args.dir, &args.out) {
        Ok(saved) => {
            let said = if args.json {
                serde_json::json!({
                    "events": saved.events,
                    "lost": saved.lost,
                    "skipped": saved.skipped,
                })
                .to_string()
            } else {
                let gaps = saved.lost.len();
                format!("{} events saved, {gaps} gaps, into {}", saved.events, args.out.display())
            };
            outcome::answer(&said, ExitCode::SUCCESS)
        }
        Err(error) => outcome::fail(&error),
    }
}
