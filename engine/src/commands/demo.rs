//! `kairos-engine demo`: everything at once, without configuration and without a network.
//!
//! A seeded exchange on loopback speaks a venue's wire protocol; the engine trades on it for some
//! seconds; then the journal is replayed and every decision compared.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kairos_edge::config::Config;
use kairos_logic::strategy::Registry;
use serde::Serialize;

use super::answer;
use super::run::{fail, run_and_sum_up};
use crate::clock::Clock;
use crate::meter::Meters;
use crate::pin;
use crate::replay::{self, Range};
use crate::run::{Audience, Signals};
use crate::start::{self, SeatThread};
use crate::summary::Summary;

const EXAMPLES: &str = "Examples:
  kairos-engine demo
  kairos-engine demo --seconds 30 --seed 7 --dir /tmp/look
  kairos journal dump /tmp/look/journal --kind decision,report       what it decided and what came of it
  kairos replay /tmp/look/journal --verify                           the same decisions again

Three pairs trade on a seeded exchange that speaks a real venue's protocol over a real socket on this
host; tri_arb and market_maker trade them on paper. Exit status: 0 traded, and replay decided the same;
2 replay differs; 64 usage; 70 engine fault; 78 no such kind of strategy.";

/// Trade a seeded exchange on loopback, then verify the journal.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArgs {
    /// How long to trade.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub seconds: u64,
    /// Seed of the exchange and of everything else that is random.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Print one JSON document.
    #[arg(long)]
    pub json: bool,
    /// Where the journal goes; a new directory below the temporary one by default.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// A further strategy of this kind, with its defaults: how one's own is tried out.
    #[arg(long, value_name = "KIND")]
    pub strategy: Option<String>,
}

/// What the demo shows.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    summary: Summary,
    pnl: replay::Outcome,
    replay: replay::Report,
}

/// Runs the demo. Exit status 2 if replay finds a difference.
pub fn run(args: &DemoArgs, registry: &Registry) -> ExitCode {
    let directory = match directory(args) {
        Ok(directory) => directory,
        Err(error) => {
            eprintln!("kairos-engine: demo: cannot make a directory for the journal: {error}");
            return ExitCode::FAILURE;
        }
    };
    let config = match configuration(args, &directory) {
        Ok(config) => config,
        Err(status) => return status,
    };
    let signals = match Signals::of_process() {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("kairos-engine: signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut show = Show::new(args, Arc::clone(&signals.stop));
    let ran = run_and_sum_up(&config, registry, &signals, &mut show);
    show.bar.finish_and_clear();
    let summary = match ran {
        Ok((_, summary)) => summary,
        Err(error) => return fail(&error),
    };
    let verified =
        replay::verify(Path::new(&summary.journal), registry, Range::default(), &mut |_| {});
    match verified {
        Ok(replay) => {
            let equal = replay.equal;
            let pnl = replay.outcome.clone();
            let status = if equal { ExitCode::SUCCESS } else { ExitCode::from(2) };
            show_all(&Shown { summary, pnl, replay }, args.json, status)
        }
        Err(error) => {
            eprintln!("kairos-engine: replay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show_all(shown: &Shown, json: bool, status: ExitCode) -> ExitCode {
    if json {
        return answer(&serde_json::json!(shown).to_string(), status);
    }
    answer(&format!("{}\n{}", shown.summary, Line(shown)), status)
}

struct Line<'a>(&'a Shown);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown { summary, pnl, replay } = self.0;
        writeln!(f, "P&L       {pnl}")?;
        writeln!(f, "journal   {}", summary.journal)?;
        let verdict = if replay.equal { "equal" } else { "DIFFERENT" };
        write!(
            f,
            "replay    {verdict}: {} decisions recomputed from {} events",
            replay.decisions, replay.events
        )
    }
}

fn directory(args: &DemoArgs) -> std::io::Result<PathBuf> {
    let directory = args.dir.clone().unwrap_or_else(|| {
        let name = format!("kairos-demo-{}-{}", args.seed, std::process::id());
        std::env::temp_dir().join(name)
    });
    std::fs::create_dir_all(&directory)?;
    directory.canonicalize()
}

fn configuration(args: &DemoArgs, directory: &Path) -> Result<Config, ExitCode> {
    let usable = pin::usable_cpus().unwrap_or_default();
    let text = text(args, directory, &usable);
    Config::parse("demo", &text, Some(&usable)).map_err(|it| super::print_problems(&it))
}

/// The demo's configuration, as a user would write it.
fn text(args: &DemoArgs, directory: &Path, usable: &[u16]) -> String {
    let further = args.strategy.as_ref().map_or_else(String::new, |kind| {
        format!("[strategies.further]\nkind = {}\n", toml_text(kind))
    });
    format!(
        r#"
[engine]
name = "demo"
seed = {seed}
timer_ms = 50
run_dir = {run}

[cores]
{cores}

[journal]
dir = {journal}
segment_mib = 32

[venues.binance]
market_data = "sim"
instruments = ["BTCUSDT", "ETHUSDT", "ETHBTC"]

# One currency only, so that the result is trading and not what a coin did meanwhile.
[paper.balances]
USDT = "100000"

[execution]
latency_ms = 2
jitter_ns = 500000

[strategies.tri]
kind = "tri_arb"

[strategies.mm]
kind = "market_maker"
instruments = ["BTCUSDT", "ETHUSDT"]
# Closer than the default of 10: the demo lasts seconds, and its quotes shall be met in them.
half_spread_bps = 2
refresh_interval_ms = 1000

{further}"#,
        seed = args.seed,
        cores = cores(usable),
        journal = toml_text(&directory.join("journal").display().to_string()),
        run = toml_text(&directory.join("run").display().to_string()),
    )
}

fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string() // JSON strings are TOML basic strings
}

/// A map of CPUs for the host: the exchange and the operator need one of their own.
fn cores(usable: &[u16]) -> String {
    let map = |feed: u16, middle: u16, journal: u16, wait: &str| {
        format!(
            "feed = {feed}\nstrategy = {middle}\nrisk = {middle}\nexecution = {middle}\n\
             journal = {journal}\nwait = \"{wait}\""
        )
    };
    match *usable {
        [] => map(0, 0, 0, "yield"),
        [only] => map(only, only, only, "yield"),
        [.., last] if usable.len() < 4 => map(last, last, last, "yield"),
        [.., feed, middle, journal] => map(feed, middle, journal, "spin"),
        [..] => map(0, 0, 0, "yield"),
    }
}

/// Shows a progress bar and ends the run when its time is over.
struct Show {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    clock: Clock,
    started: Option<kairos_logic::units::Stamp>,
    within: Duration,
}

impl Show {
    fn new(args: &DemoArgs, stop: Arc<AtomicBool>) -> Self {
        let bar = ProgressBar::with_draw_target(
            Some(args.seconds * 1_000),
            ProgressDrawTarget::stderr(), // draws nothing where stderr is no terminal
        );
        let style = ProgressStyle::with_template("trading {wide_bar} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let within = Duration::from_secs(args.seconds);
        Self { bar, stop, clock: Clock::new(), started: None, within }
    }
}

impl Audience for Show {
    fn meters(&mut self, meters: &Arc<Meters>) {
        start::end_process_on_panic(Arc::clone(meters));
    }

    fn started(&mut self, _run: u64, threads: &[SeatThread], warnings: &[String]) {
        for warning in warnings {
            eprintln!("kairos-engine: warning: {warning}");
        }
        let seats: Vec<String> =
            threads.iter().map(|it| format!("{} on CPU {}", it.name, it.cpu)).collect();
        eprintln!("kairos-engine: demo: {}", seats.join(", "));
        self.started = Some(self.clock.stamp());
    }

    fn progress(&mut self, meters: &Meters) {
        let now = self.clock.stamp();
        let since = self.clock.nanos_between(self.started.unwrap_or(now), now);
        self.bar.set_position(since / 1_000_000);
        self.bar.set_message(format!(
            "{} events, {} decisions",
            meters.in_published(),
            meters.orders_published.get()
        ));
        if u128::from(since) >= self.within.as_nanos() {
            self.stop.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_fits_the_machine() {
        let check = |usable: &[u16], threads: usize| {
            let args = DemoArgs { seconds: 1, seed: 1, json: false, dir: None, strategy: None };
            let text = text(&args, Path::new("/nowhere"), usable);
            let config = Config::parse("demo", &text, Some(usable)).unwrap();
            assert_eq!(config.cores.threads().len(), threads, "{usable:?}");
        };
        check(&[0], 1);
        check(&[0, 1], 1);
        check(&[2, 3, 9], 1);
        check(&[0, 1, 2, 3], 3);
        check(&[4, 5, 6, 7, 8, 9], 3);
    }
}
