//! `kairos-engine check`: what a configuration means on this host.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use kairos_edge::config::Placement;
use kairos_logic::strategy::Registry;
use serde::Serialize;

use super::{ConfigArgs, answer};
use crate::feeds;

const EXAMPLES: &str = "Examples:
  kairos-engine check --config kairos.toml
  kairos-engine check --config kairos.toml --set cores.risk=3 --json

Prints each thread with its CPU and its seats in the order in which they are polled: seats with the
same CPU share a thread. Captures and journals are not opened. Exit status: 0 as printed; 64 usage; 78
with every problem on a line of its own, as section.key = value: rule (file:line).";

/// Check a configuration without starting anything.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CheckArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Thread {
    name: String,
    cpu: u16,
    seats: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Checked {
    engine: String,
    threads: Vec<Thread>,
    wait: &'static str,
    housekeeping: Vec<u16>,
    gate: &'static str,
    journal: String,
    placement: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hot_dir: Option<String>,
    instruments: Vec<String>,
    strategies: Vec<String>,
}

/// Prints threads, CPUs and what else was resolved.
pub fn run(args: &CheckArgs, registry: &Registry) -> ExitCode {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(status) => return status,
    };
    let table = match feeds::check(&config, registry) {
        Ok(table) => table,
        Err(error) => return super::print_problems(&error.0),
    };
    let threads = config.cores.threads();
    let checked = Checked {
        engine: config.engine.name.clone(),
        threads: threads
            .iter()
            .map(|it| Thread {
                name: it.name.clone(),
                cpu: it.cpu,
                seats: it.seats.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        wait: config.cores.wait.text(),
        housekeeping: config.cores.housekeeping.clone(),
        gate: config.journal.gate.text(),
        journal: config.journal.dir.display().to_string(),
        placement: config.journal.placement.text(),
        hot_dir: match &config.journal.placement {
            Placement::Direct => None,
            Placement::Hot(ring) => Some(ring.dir.display().to_string()),
        },
        instruments: table.instruments.iter().map(|it| it.symbol.clone()).collect(),
        strategies: config.strategies.iter().map(|it| format!("{} ({})", it.id, it.kind)).collect(),
    };
    if args.json {
        return answer(&serde_json::json!(checked).to_string(), ExitCode::SUCCESS);
    }
    let mut out =
        format!("engine {}: gate {}, wait {}\n", checked.engine, checked.gate, checked.wait);
    for thread in &checked.threads {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "  CPU {:>3}  {:<16} {}",
            thread.cpu,
            thread.name,
            thread.seats.join(", ")
        );
    }
    let _ = write!(
        out,
        "  housekeeping {:?}\n  journal {}, {}\n  instruments {}\n  strategies {}",
        checked.housekeeping,
        checked.journal,
        checked
            .hot_dir
            .as_ref()
            .map_or_else(|| checked.placement.to_owned(), |ring| format!("hot in {ring}")),
        checked.instruments.join(", "),
        checked.strategies.join(", ")
    );
    answer(&out, ExitCode::SUCCESS)
}
