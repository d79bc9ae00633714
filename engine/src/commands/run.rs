//! `kairos-engine run`: one run, then its summary from the journal.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use kairos_edge::config::Config;
use kairos_logic::strategy::Registry;

use super::{ConfigArgs, answer};
use crate::meter::Meters;
use crate::run::{self, Audience, Finished, RunError, Signals};
use crate::start::{self, SeatThread};
use crate::summary::Summary;

const EXAMPLES: &str = "Examples:
  kairos-engine run --config kairos.toml
  kairos-engine run --config kairos.toml --set journal.gate=durable --set 'cores.wait=\"yield\"'
  KAIROS__RISK__MAX_ORDER_NOTIONAL=500 kairos-engine run --config kairos.toml
  kairos-engine run --config capture.toml --set 'venues.binance.captures=[\"btcusdt.frames.gz\"]' --json

SIGINT and SIGTERM stop it: resting orders are cancelled and the end of the run is journaled. SIGUSR2
is the kill switch: nothing leaves any more, and later runs stay killed until one is started with
--resume. Captures end by themselves. What it says while it runs goes to stderr, the summary to stdout.

Exit status: 0 ended as it should; 1 a capture cannot be read, the disk is full, another engine owns
the journal; 2 the journal is damaged; 64 usage; 70 engine fault; 78 configuration missing or wrong, or
host refused. Whatever was journaled before is kept.";

/// Run the engine.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Trade again although an earlier run of this journal ended halted, reducing or killed. The
    /// decision is the operator's and is journaled.
    #[arg(long)]
    pub resume: bool,
    /// Print the summary as one JSON document.
    #[arg(long)]
    pub json: bool,
}

/// Runs until stopped and prints what happened.
pub fn run(args: &RunArgs, registry: &Registry) -> ExitCode {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(status) => return status,
    };
    let signals = match Signals::of_process() {
        Ok(signals) => Signals { resume: args.resume, ..signals },
        Err(error) => {
            eprintln!("kairos-engine: signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run_and_sum_up(&config, registry, &signals, &mut Log::of(&config)) {
        Ok((_, summary)) => {
            for remark in summary.remarks() {
                eprintln!("kairos-engine: warning: {remark}");
            }
            answer(&shown(&summary, args.json), ExitCode::SUCCESS)
        }
        Err(error) => fail(&error),
    }
}

/// Prints why a run failed and gives the status.
pub(super) fn fail(error: &RunError) -> ExitCode {
    for line in error.to_string().lines() {
        eprintln!("kairos-engine: {line}");
    }
    ExitCode::from(error.status())
}

/// A run and what its journal says of it.
///
/// # Errors
/// [`RunError`] of the run, or of reading its journal back.
pub(super) fn run_and_sum_up(
    config: &Config,
    registry: &Registry,
    signals: &Signals,
    audience: &mut dyn Audience,
) -> Result<(Finished, Summary), RunError> {
    let finished = run::run(config, registry, signals, audience)?;
    let summary = Summary::of_run(Path::new(&finished.journal), finished.run, finished.first_seq)?;
    Ok((finished, summary))
}

/// The summary as text or as one JSON document.
fn shown(summary: &Summary, json: bool) -> String {
    if json { serde_json::json!(summary).to_string() } else { summary.to_string() }
}

/// Says on stderr what an operator wants to see in the service's log.
pub(super) struct Log {
    warnings: bool,
    news: bool,
}

impl Log {
    /// As much as `logging.filter` allows.
    pub(super) fn of(config: &Config) -> Self {
        let filter = &config.logging.filter;
        // The last entry that concerns us wins: `warn,kairos=info`.
        let ours = filter.split(',').map(str::trim).rfind(|it| !it.contains('='));
        let named = filter.split(',').rev().find_map(|it| it.trim().strip_prefix("kairos="));
        let level = named.or(ours).unwrap_or("info");
        Self {
            warnings: !matches!(level, "error" | "off"),
            news: !matches!(level, "error" | "off" | "warn"),
        }
    }
}

impl Audience for Log {
    fn meters(&mut self, meters: &Arc<Meters>) {
        start::end_process_on_panic(Arc::clone(meters));
    }

    fn started(&mut self, run: u64, threads: &[SeatThread], warnings: &[String]) {
        for warning in warnings.iter().filter(|_| self.warnings) {
            eprintln!("kairos-engine: warning: {warning}");
        }
        if !self.news {
            return;
        }
        let seats: Vec<String> =
            threads.iter().map(|it| format!("{} on CPU {}", it.name, it.cpu)).collect();
        eprintln!("kairos-engine: run {run}: {}", seats.join(", "));
    }

    fn alarm(&mut self, what: &str) {
        if self.warnings {
            eprintln!("kairos-engine: alarm: {what}");
        }
    }
}
