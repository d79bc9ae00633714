//! `replay`, for the engine's binary, the operator's tool and every binary with own strategies.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use kairos_journal::{Class, Journal};
use kairos_logic::strategy::Registry;

use super::answer;
use crate::pin;
use crate::replay::{self, Range, ReplayError, Report, WhatIf};
use crate::start;

const EXAMPLES: &str = "Examples:
  replay DIR --verify                          every decision again, compared byte for byte
  replay DIR --verify --from-seq 100000 --to-seq 200000 --json
  replay DIR --what-if tighter.toml            a file with, say, [risk] max_order_notional = \"100\"

Exit status: 0 equal, or nothing to compare; 1 no journal, or a strategy kind that this binary does
not have; 2 a decision differs, frames are missing, or the journal is damaged; 64 usage; 70 a strategy panicked, as it did
in the engine; 78 the --what-if file is wrong.";

/// Repeat a journal's decisions from its inputs.
///
/// Reads the journaled inputs in their order, gives them to the same strategies and the same risk
/// rules, and compares what they decide with what the journal says they decided. The directory alone
/// is enough: configuration and instruments are in it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ReplayArgs {
    /// The journal's directory.
    pub dir: PathBuf,
    /// Compare every decision with the journaled one; exit 2 on the first difference.
    #[arg(long)]
    pub verify: bool,
    /// Decide under another configuration: this TOML file on top of the journaled one. Prints what
    /// would have been decided differently; the exit status is 0.
    #[arg(long, value_name = "F", conflicts_with = "verify")]
    pub what_if: Option<PathBuf>,
    /// First sequence to compare; replay starts at the run that holds it.
    #[arg(long, value_name = "N")]
    pub from_seq: Option<u64>,
    /// Last sequence to read.
    #[arg(long, value_name = "N")]
    pub to_seq: Option<u64>,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Replays and prints what was found.
///
/// What made a seat of the engine panic makes replay panic again: the process then ends with the
/// status that the engine ended with, and says which input it was.
pub fn run(args: &ReplayArgs, registry: &Registry) -> ExitCode {
    end_process_on_panic();
    let range = Range { from: args.from_seq, to: args.to_seq };
    let bar = progress_bar(args);
    let mut progress = |seq: u64| bar.set_position(seq);
    if let Some(file) = &args.what_if {
        let overlay = match std::fs::read_to_string(file) {
            Ok(overlay) => overlay,
            Err(error) => {
                eprintln!("kairos: {}: cannot read: {error}", file.display());
                return ExitCode::from(78);
            }
        };
        let answer = replay::what_if(&args.dir, registry, range, &overlay, &mut progress);
        bar.finish_and_clear();
        return match answer {
            Ok(report) => show_what_if(&report, args.json),
            Err(error) => fail(&error),
        };
    }
    let report = replay::verify(&args.dir, registry, range, &mut progress);
    bar.finish_and_clear();
    match report {
        Ok(report) => show(&report, args),
        Err(error) => fail(&error),
    }
}

fn end_process_on_panic() {
    panic::set_hook(Box::new(|info| {
        let seq = replay::GIVEN.load(Ordering::Relaxed);
        eprintln!("kairos: replay: at the input with seq {seq}: {info}");
        pin::end_process(start::FAULT)
    }));
}

/// A bar on stderr, drawn only on a terminal.
fn progress_bar(args: &ReplayArgs) -> ProgressBar {
    let last = Journal::open(&args.dir)
        .and_then(|journal| journal.runs())
        .ok()
        .and_then(|runs| runs.last().and_then(|run| run.last_seq));
    let (Some(last), true) = (args.to_seq.or(last), std::io::stderr().is_terminal()) else {
        return ProgressBar::hidden();
    };
    let bar = ProgressBar::new(last);
    let style = ProgressStyle::with_template("replaying {wide_bar} {pos}/{len} {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn fail(error: &ReplayError) -> ExitCode {
    for line in error.to_string().lines() {
        eprintln!("kairos: {line}");
    }
    ExitCode::from(match error {
        ReplayError::Journal(error) => match error.class() {
            Class::Damaged => 2,
            Class::Unavailable => 1,
            Class::Configuration => 78,
        },
        ReplayError::Frame { .. } | ReplayError::Incomplete { .. } => 2,
        ReplayError::Assemble { overlay: true, .. } => 78,
        ReplayError::Assemble { overlay: false, .. } => 1,
    })
}

fn show(report: &Report, args: &ReplayArgs) -> ExitCode {
    for warning in &report.warnings {
        eprintln!("kairos: warning: {warning}");
    }
    let status = if report.equal || !args.verify { ExitCode::SUCCESS } else { ExitCode::from(2) };
    if args.json {
        return answer(&serde_json::json!(report).to_string(), status);
    }
    let mut out = format!(
        "{} runs, {} events, {} decisions, {} unjournaled\n",
        report.runs, report.events, report.decisions, report.unjournaled
    );
    // Writing to a String cannot fail.
    let _ = match &report.first_difference {
        None if args.verify && report.missing > 0 => {
            writeln!(out, "not verified: {} frames are missing", report.missing)
        }
        None if args.verify => writeln!(out, "equal: every decision is the journaled one"),
        None => Ok(()),
        Some(difference) => {
            let line = |value: &Option<serde_json::Value>| {
                value.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string)
            };
            writeln!(
                out,
                "first difference, cause {}:\n  cause      {}\n  journaled  {}\n  recomputed {}",
                difference.cause,
                line(&difference.cause_event),
                line(&difference.journaled),
                line(&difference.recomputed)
            )
        }
    };
    answer(&out, status)
}

fn show_what_if(report: &WhatIf, json: bool) -> ExitCode {
    if json {
        return answer(&serde_json::json!(report).to_string(), ExitCode::SUCCESS);
    }
    let mut out = String::new();
    for changed in &report.changed {
        let _ = writeln!(out, "cause {}: {}", changed.cause, changed.text);
    }
    if report.missing > 0 {
        let _ = writeln!(out, "{} frames are missing: salvage did not find them", report.missing);
    }
    let unlisted = report.differences - report.changed.len() as u64;
    if unlisted > 0 {
        let _ = writeln!(out, "… and {unlisted} more differences");
    }
    let _ = writeln!(
        out,
        "{} decisions journaled, {} under the other configuration, {} differ; \
         {} reports withheld, {} orders without an answer",
        report.journaled, report.decisions, report.differences, report.withheld, report.unanswered
    );
    answer(&out, ExitCode::SUCCESS)
}
