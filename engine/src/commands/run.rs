//! `kairos-engine run`: one run, then its summary from the journal.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use kairos_edge::config::Config;
use kairos_logic::strategy::Registry;

use super::ConfigArgs;
use crate::meter::Meters;
use crate::run::{self, Audience, Finished, RunError};
use crate::start::{self, SeatThread};
use crate::summary::Summary;

/// Run the engine.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
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
    let stop = match run::stop_on_signals() {
        Ok(stop) => stop,
        Err(error) => {
            eprintln!("kairos-engine: signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run_and_sum_up(&config, registry, stop, &mut Log) {
        Ok((_, summary)) => {
            print(&summary, args.json);
            ExitCode::SUCCESS
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
    stop: Arc<AtomicBool>,
    audience: &mut dyn Audience,
) -> Result<(Finished, Summary), RunError> {
    let finished = run::run(config, registry, stop, audience)?;
    let summary = Summary::of_run(Path::new(&finished.journal), finished.run, finished.first_seq)?;
    Ok((finished, summary))
}

#[expect(clippy::print_stdout, reason = "this is the command's answer")]
pub(super) fn print(summary: &Summary, json: bool) {
    if json {
        println!("{}", serde_json::json!(summary));
    } else {
        println!("{summary}");
    }
}

/// Says on stderr what an operator wants to see in the service's log.
pub(super) struct Log;

impl Audience for Log {
    fn meters(&mut self, meters: &Arc<Meters>) {
        start::end_process_on_panic(Arc::clone(meters));
    }

    fn started(&mut self, run: u64, threads: &[SeatThread], warnings: &[String]) {
        for warning in warnings {
            eprintln!("kairos-engine: warning: {warning}");
        }
        let seats: Vec<String> =
            threads.iter().map(|it| format!("{} on CPU {}", it.name, it.cpu)).collect();
        eprintln!("kairos-engine: run {run}: {}", seats.join(", "));
    }

    fn progress(&mut self, _meters: &Meters) {}
}
