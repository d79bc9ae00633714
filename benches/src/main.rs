//! Figures of kairos, each beside a floor or a peer that ran in the same process, round by round.
//!
//! `cargo run --release -p kairos-benches -- [--json] [NAME…]`. Without names every bench runs. A
//! ratio is the median of the ratios of single rounds, given with the lowest and the highest: on a
//! shared or virtual machine the host's moods last seconds, and only what ran within the same
//! moments can be compared. Absolute values belong to the host printed above them.
//!
//! Each bench describes itself in the documentation of its module; `--help` has the short form.

mod alloc;
mod host;
mod jitter;
mod journaling;
mod report;
mod stats;
mod threads;

mod append;
mod archive;
mod decode;
mod hop;
mod replay;
mod tick_to_order;
mod traffic;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use kairos_engine::clock::Clock;
use kairos_engine::pin;

use crate::host::Host;
use crate::jitter::Probe;
use crate::report::{Findings, Report};
use crate::threads::Scheduler;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// What the ratios mean, for `--help`.
const RATIOS: &str = "\
Ratios (median of the rounds, with the lowest and the highest):
  hop            rtt_over_floor            round trip over two rings / over two atomics, 8 bytes each way
                 line_rtt_over_line_floor  the same with 64 bytes in 1024 slots, for both
                 ..._over_line_rtt         a peer's round trip / the ring's, 64 bytes
  decode         simd_json_over_scanner_<venue>_<kind>, serde_json_over_scanner_<venue>_<kind>
  append         tmpfs_over_copy           an event as a chained frame / a plain copy of its 64 bytes
                 tmpfs_faults_per_million, ext4_faults_per_million
                 hot_over_copy, hot_faults_per_million    in the ring, with the archiver at work
  archive        throughput_over_dd        bytes per second, catching up / dd bs=1M oflag=dsync
  beside         p99_added_over_gap_p99    p99 of orders with the archiver catching up on the other CPU, less
                                           the p99 without / the p99 of the host's own gaps
  tick_to_order  fused_over_straight_p50   all seats on one thread / one straight-line function
                 tokio_over_fused_p50, tokio_over_fused_p99, tokio_over_split_p50
                 tokio_lean_over_...       the same tasks with our decoder, journal and no allocation
                 allocs_per_tick           of the fused thread
  replay         over_straight             replay --verify / the decisions alone, events in memory

Every row with fewer than 100 samples beyond a percentile leaves it blank.";

/// Measures kairos against floors and peers in the same process.
///
/// Rows of one bench run interleaved, in at least 7 rounds; ratios are medians of the rounds'
/// ratios. Beside each result stands what the host did meanwhile: a tail no longer than the gaps of
/// an idle loop is the host's. Build with --release, on a machine where nothing else runs.
#[derive(Debug, Parser)]
#[command(name = "kairos-benches", version, after_long_help = RATIOS)]
struct Arguments {
    /// One JSON object per bench and line on stdout.
    #[arg(long)]
    json: bool,
    /// How measured threads are scheduled. `fifo` keeps other processes out, where the host allows
    /// it; the result says which it was.
    #[arg(long, value_enum, default_value_t = Scheduler::Fifo)]
    scheduler: Scheduler,
    /// Which; all when none is named.
    #[arg(value_name = "NAME")]
    names: Vec<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Name {
    /// Round trip over two rings against two atomics, and against channels and queues. Two CPUs.
    Hop,
    /// The scanner against simd-json and serde_json, by kind of message.
    Decode,
    /// A journal append against a plain copy, on tmpfs and on disk, with page faults.
    Append,
    /// The archiver that catches up against dd with dsync, the same bytes to the same disk.
    Archive,
    /// Frame bytes to order text: fused, split, straight-line, and tokio; open loop.
    TickToOrder,
    /// Frame bytes to order text while the archiver catches up on the other CPU, against without. Two
    /// CPUs.
    Beside,
    /// Replay of a journal against the same decisions over events in memory.
    Replay,
}

impl Name {
    const fn text(self) -> &'static str {
        match self {
            Self::Hop => "hop",
            Self::Decode => "decode",
            Self::Append => "append",
            Self::Archive => "archive",
            Self::TickToOrder => "tick_to_order",
            Self::Beside => "beside",
            Self::Replay => "replay",
        }
    }

    fn run(self, bench: &mut Bench) -> Result<Findings, Trouble> {
        match self {
            Self::Hop => hop::run(bench),
            Self::Decode => decode::run(bench),
            Self::Append => append::run(bench),
            Self::Archive => archive::run(bench),
            Self::TickToOrder => tick_to_order::run(bench),
            Self::Beside => tick_to_order::beside::run(bench),
            Self::Replay => replay::run(bench),
        }
    }
}

/// What every bench needs.
struct Bench {
    clock: Clock,
    /// CPUs that may be used, at least one.
    cpus: Vec<u16>,
    probe: Probe,
}

impl Bench {
    /// The CPU of what is measured, and that of its helper or peer: the same where there is one.
    fn two_cpus(&self) -> (u16, u16) {
        let hot = self.cpus.first().copied().unwrap_or_default();
        (hot, self.cpus.get(1).copied().unwrap_or(hot))
    }

    /// Looks at the host's jitter on the CPU of what is measured.
    fn look_at_jitter(&mut self) {
        let (hot, _) = self.two_cpus();
        let Self { clock, probe, .. } = self;
        threads::measured_on(hot, || probe.look(clock));
    }

    /// Nanoseconds from one stamp to another, with fractions.
    #[expect(clippy::cast_precision_loss, reason = "a span of a day in ticks has 48 bits")]
    fn nanos_per_tick(&self) -> f64 {
        1e9 / self.clock.ticks_per_second() as f64
    }
}

/// Why a bench could not run: one line, naming what was tried.
#[derive(Debug)]
struct Trouble(String);

impl Trouble {
    /// `what` failed, because of `why`.
    fn new(what: &str, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let status = if error.use_stderr() { 64 } else { 0 };
            // Whoever closed stdout does not want to read it.
            let _printed = error.print();
            return ExitCode::from(status);
        }
    };
    let names = match arguments.names.as_slice() {
        [] => Name::value_variants(),
        named => named,
    };
    let scheduler = threads::choose(arguments.scheduler);
    let mut failed = false;
    for &name in names {
        match measure(name, scheduler) {
            Ok(report) => show(&report, arguments.json),
            Err(trouble) => {
                eprintln!("kairos-benches: {}: {trouble}", name.text());
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn measure(name: Name, scheduler: Scheduler) -> Result<Report, Trouble> {
    let cpus = pin::usable_cpus().map_err(|error| Trouble::new("usable CPUs", error))?;
    let clock = Clock::new();
    let host = Host::look(&clock, scheduler);
    let mut bench = Bench { clock, cpus, probe: Probe::default() };
    bench.look_at_jitter();
    let findings = name.run(&mut bench)?;
    Ok(findings.under(name.text(), host, bench.probe.sum_up()))
}

#[expect(clippy::print_stdout, reason = "this is the command's answer")]
fn show(report: &Report, json: bool) {
    if json {
        println!("{}", serde_json::json!(report));
    } else {
        println!("{report}");
    }
}
