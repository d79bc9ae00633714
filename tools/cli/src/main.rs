//! `kairos`: the operator's tool. Reads what the engine leaves, and plays exchanges for it; needs no
//! living engine.

mod drain;
mod dump;
mod fingerprint;
mod hold;
mod info;
mod latency;
mod outcome;
mod prune;
mod record;
mod recover;
mod salvage;
mod sim_exchange;
mod verify;
mod walk;
mod ws_echo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kairos_engine::commands::replay;
use kairos_logic::strategy::Registry;

const EXAMPLES: &str = "Examples:
  kairos journal info /var/lib/kairos/demo/journal
  kairos journal verify /var/lib/kairos/demo/journal
  kairos journal dump DIR --kind trade,quote --limit 20
  kairos journal dump DIR --kind decision,report --from-seq 100000 --format csv
  kairos journal latency DIR --by instrument --interval 1s --hlog tick.hlog
  kairos replay DIR --verify
  kairos replay DIR --what-if tighter-limits.toml
  kairos drain status --config /etc/kairos/kairos.toml
  kairos record --config kairos.toml --out /data/captures --seconds 60
  kairos sim-exchange --venue kraken --seed 7 --fault drop@1000

Exit status: 0 success, 1 failure (no journal, unreadable), 2 the check says no (damaged journal,
replay differs), 64 usage, 78 configuration missing or wrong.";

/// Look into journals, recover them, replay them; play an exchange to test against.
#[derive(Debug, Parser)]
#[command(name = "kairos", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Read, check and recover a journal.
    #[command(subcommand)]
    Journal(JournalVerb),
    /// Repeat a journal's decisions from its inputs and compare.
    Replay(replay::ReplayArgs),
    /// Ask the drain and its sinks: status, audit, migrate, rebuild.
    Drain(drain::DrainArgs),
    /// Record raw frames of live feeds into capture files.
    Record(record::RecordArgs),
    /// Send back every message of a WebSocket server: drives conformance suites.
    WsEcho(ws_echo::EchoArgs),
    /// Play a venue's protocol on loopback, from a seed or from captures, with faults on request.
    SimExchange(sim_exchange::SimExchangeArgs),
}

#[derive(Debug, Subcommand)]
enum JournalVerb {
    /// Segments, runs, counts by kind, time span, instruments, configuration.
    Info(info::InfoArgs),
    /// Check every frame, chain and seal; exit 2 with segment, offset and reason on damage.
    Verify(verify::VerifyArgs),
    /// Print one line per frame.
    Dump(dump::DumpArgs),
    /// Percentiles of every span, from the stamps in the frames.
    Latency(latency::LatencyArgs),
    /// Seal what a killed run left; prints the report.
    Recover(recover::RecoverArgs),
    /// Copy every frame that still validates into a new journal; the damaged one is not touched.
    Salvage(salvage::SalvageArgs),
    /// Show which old runs may be removed, and with --apply remove them.
    Prune(prune::PruneArgs),
    /// Keep runs, whatever retention says: add, rm, ls.
    Hold(hold::HoldArgs),
    /// Digest over sequence, type, version and payload of every logical frame; equal for equal runs.
    Fingerprint(fingerprint::FingerprintArgs),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked = !error.use_stderr();
            // A closed pipe is no reason to fail: there is nothing else to say.
            let _printed = error.print();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(outcome::USAGE) };
        }
    };
    match cli.verb {
        Verb::Replay(args) => replay::run(&args, &Registry::shipped()),
        Verb::Drain(args) => drain::run(&args),
        Verb::Record(args) => record::run(&args),
        Verb::WsEcho(args) => ws_echo::run(&args),
        Verb::SimExchange(args) => sim_exchange::run(&args),
        Verb::Journal(verb) => match verb {
            JournalVerb::Info(args) => info::run(&args),
            JournalVerb::Verify(args) => verify::run(&args),
            JournalVerb::Dump(args) => dump::run(&args),
            JournalVerb::Latency(args) => latency::run(&args),
            JournalVerb::Recover(args) => recover::run(&args),
            JournalVerb::Salvage(args) => salvage::run(&args),
            JournalVerb::Prune(args) => prune::run(&args),
            JournalVerb::Hold(args) => hold::run(&args),
            JournalVerb::Fingerprint(args) => fingerprint::run(&args),
        },
    }
}
