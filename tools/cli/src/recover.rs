//! `kairos journal recover`: seals what a killed run left.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kairos_journal::{Class, Error, Mode, Report, Verdict, recover};

use crate::outcome;

const EXAMPLES: &str = "Examples:
  kairos journal recover DIR                                   what the engine does at its start
  kairos journal recover DIR --mode absolute --json            refuse anything but a clean end
  kairos journal recover DIR --mode point-in-time --accept-loss

Changes no frame; killed at any point, it comes to the same verdict the next time. Exit status: 0
recovered or nothing to do, 1 no journal, or a living engine owns it, 2 refused: damaged, or more is
lost than the mode accepts.";

/// Seal what a killed run left, and say what is kept and what is lost.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
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
pub(crate) fn run(args: &RecoverArgs) -> ExitCode {
    match recover(&args.dir, args.mode, args.accept_loss) {
        Ok(report) => outcome::answer(&shown(&report, args.json), ExitCode::SUCCESS),
        Err(error) => {
            let status = outcome::fail(&error);
            match (&error, args.json) {
                // Refused with reasons: the report is the answer all the same.
                (Error::Refused { report, .. }, true) => {
                    outcome::answer(&shown(report, true), status)
                }
                (_, true) if error.class() == Class::Damaged => {
                    outcome::answer(&damaged(&error, args), status)
                }
                _ => status,
            }
        }
    }
}

/// What no mode repairs in place is found before there is a report: the same first fields, and where.
fn damaged(error: &Error, args: &RecoverArgs) -> String {
    let finding = if let Error::Damaged(finding) = error { Some(finding) } else { None };
    let file = match (finding, error) {
        (Some(finding), _) => Some(&finding.file),
        (None, Error::Foreign { file, .. } | Error::Version { file, .. }) => Some(file),
        _ => None,
    };
    let document = serde_json::json!({
        "verdict": Verdict::Corrupt,
        "reason": finding.map_or_else(|| error.to_string(), |it| it.reason.clone()),
        "mode": args.mode,
        "accept_loss": args.accept_loss,
        "file": file,
        "segment": finding.and_then(|it| it.segment),
        "offset": finding.and_then(|it| it.offset),
        "kept": null,
    });
    document.to_string()
}

fn shown(report: &Report, json: bool) -> String {
    if json {
        return serde_json::json!(report).to_string();
    }
    let mut out = format!("{}: {}\n", report.verdict, report.reason);
    // Writing to a String cannot fail.
    if let Some((first, last)) = report.kept {
        let _ = writeln!(out, "kept seq {first} to {last}");
    }
    if report.later_frames > 0 {
        let _ = writeln!(out, "{} later frames set aside", report.later_frames);
    }
    out
}
