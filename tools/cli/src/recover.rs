//! `kairos journal recover`: seals what a killed run left.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kairos_journal::{Mode, recover};

use crate::outcome;

/// Recover a journal.
#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// The journal's directory.
    dir: PathBuf,
    /// How much may be accepted: `absolute` (a clean end only), `tolerate-torn-tail`, or
    /// `point-in-time` (cut at the first bad frame; needs --accept-loss).
    #[arg(long, default_value = "tolerate-torn-tail")]
    mode: Mode,
    /// Accept that events are lost. The report says which.
    #[arg(long)]
    accept_loss: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Recovers and prints the report.
#[expect(clippy::print_stdout, reason = "this is the command's answer")]
pub(crate) fn run(args: &RecoverArgs) -> ExitCode {
    match recover(&args.dir, args.mode, args.accept_loss) {
        Ok(report) => {
            if args.json {
                println!("{}", serde_json::json!(report));
            } else {
                println!("{}: {}", report.verdict, report.reason);
                if let Some((first, last)) = report.kept {
                    println!("kept seq {first} to {last}");
                }
                if report.later_frames > 0 {
                    println!("{} later frames set aside", report.later_frames);
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => outcome::fail(&error),
    }
}
