//! `kairos journal prune`: which old runs may go, and removing them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kairos_journal::{PrunePlan, Retention, prune, prune_plan};

use crate::outcome;

const EXAMPLES: &str = "Examples:
  kairos journal prune DIR --keep-days 30                      show what is older and may go
  kairos journal prune DIR --max-mib 200000 --required-sink postgres --json
  kairos journal prune DIR --keep-days 30 --apply              remove it

Runs go from the oldest on, as a whole, and only what every sink that left its position in DIR/cursors has
passed, and no hold keeps. The newest run stays. A living archiver removes by itself what [journal] keep_days and max_mib say;
--apply is for a journal that no process owns. Exit status: 0 also where nothing may go, 1 no journal, or a
living process owns it, 2 a cursor, record or segment is damaged.";

/// Show which old runs may be removed; remove them with --apply.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PruneArgs {
    /// The journal's directory.
    dir: PathBuf,
    /// A run may go when its last segment was sealed so many days ago.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    keep_days: Option<u64>,
    /// The oldest runs may go while the segments take more than this.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    max_mib: Option<u64>,
    /// So much of the newest segments stays in any case.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1 << 30))]
    keep_mib_min: u64,
    /// Seconds since which every sink must have been past what goes.
    #[arg(long, default_value_t = 3_600, value_parser = clap::value_parser!(u64).range(0..=7_200))]
    prune_safety_s: u64,
    /// A sink without whose position nothing goes. May be given several times.
    #[arg(long, value_name = "SINK")]
    required_sink: Vec<String>,
    /// Let --max-mib hold even where a sink has not passed what goes; what it loses is told.
    #[arg(long, requires = "max_mib")]
    drop_undrained: bool,
    /// Only show it; so it is without --apply.
    #[arg(long, conflicts_with = "apply")]
    dry_run: bool,
    /// Remove it.
    #[arg(long)]
    apply: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Plans, removes if asked, and prints.
pub(crate) fn run(args: &PruneArgs) -> ExitCode {
    let retention = Retention {
        keep_days: args.keep_days,
        max_bytes: args.max_mib.map(|mib| mib << 20),
        keep_bytes_min: args.keep_mib_min << 20,
        prune_safety_s: args.prune_safety_s,
        required_sinks: args.required_sink.clone(),
        drop_undrained: args.drop_undrained,
    };
    let planned =
        if args.apply { prune(&args.dir, &retention) } else { prune_plan(&args.dir, &retention) };
    match planned {
        Ok(plan) if args.json => {
            let document = serde_json::json!({ "applied": args.apply, "plan": plan });
            outcome::answer(&document.to_string(), ExitCode::SUCCESS)
        }
        Ok(plan) => outcome::answer(&text(&plan, args.apply), ExitCode::SUCCESS),
        Err(error) => outcome::fail(&error),
    }
}

fn text(plan: &PrunePlan, applied: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for run in &plan.runs {
        let _ = writeln!(
            out,
            "run {}: {} segments, {} bytes, up to seq {}",
            run.run, run.segments, run.bytes, run.last_seq
        );
        for it in &run.undrained {
            let (sink, from, to) = (&it.sink, it.from, it.to);
            let _ = writeln!(
                out,
                "  sink {sink} loses what it has not taken: it is at run {} seq {}, gone is up to run {} \
                 seq {}",
                from.run, from.seq, to.run, to.seq
            );
        }
    }
    let verb = if applied { "removed" } else { "would be removed" };
    let _ = writeln!(out, "{} runs, {} bytes {verb}", plan.runs.len(), plan.bytes);
    let _ = write!(out, "stays: {}", plan.stays);
    out
}
