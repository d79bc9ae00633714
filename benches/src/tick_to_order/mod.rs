//! `tick_to_order`: from the bytes of a frame to the text of an order, by four builds of the same
//! work.
//!
//! * **fused**: the engine's own seats, wired by the engine's own wiring, all on one thread. Only the
//!   feed is the bench's: it hands each scheduled frame to the venue's session, stamps and publishes
//!   as the engine's feeds do.
//! * **split**: the same on two threads: feed and journal, and strategy, risk and execution.
//! * **straight**: one function that does the same without rings: decode, strategy and risk with
//!   their own books, the frames of input and decision, the order's text, the paper venue, the same
//!   stamps, and the venue's answers back through all of it.
//! * **tokio**: the same strategy, risk and venue as tasks behind `broadcast` and `mpsc`, in two
//!   styles (see [`tasks`]): ordinary, as such programs are commonly written, and lean, with
//!   everything of ours that a task can use.
//!
//! `tokio_over_…` compares with the ordinary style, since the question is what a desk gains that
//! would otherwise write its engine on an async runtime; `tokio_lean_over_…` answers what of that is
//! tasks and wake-ups alone. The ordinary style runs on one worker that has the other CPU to itself,
//! under the real-time scheduler, and on two free workers, as a runtime starts by default; what is
//! compared is whichever was quicker.
//!
//! Every frame causes one order. Load is open loop: frame *n* is due at start + *n* / rate whatever
//! happened to the ones before, and latency counts from that moment to the stamp that is taken when
//! the order's text stands in its buffer. In the engine and in the straight function both stamps
//! travel through the journal and are read back from there afterwards; nothing is recorded on the
//! hot path for this bench's sake.
//!
//! Journals lie on tmpfs. The gate is `committed` in every build: cause and decision are in the
//! journal before the order's text is written.
//!
//! # Limits
//! No socket, no TLS, no kernel: those cost every build the same microseconds. A run is a third of a
//! second: tails are indicative (a published tail needs ten minutes at each rate).

pub(crate) mod beside;
mod owned;
mod rig;
mod seats;
mod straight;
mod tasks;

use std::sync::Arc;

use kairos_engine::latency::SPANS;
use kairos_engine::pin;

use self::rig::{Load, Rig, Run};
use self::tasks::{Style, Workers};
use crate::report::Findings;
use crate::stats::{ROUNDS, Ratio, Series};
use crate::{Bench, Trouble};

/// Offered rates, in frames per second, up to where everything has broken.
const RATES: [u32; 5] = [20_000, 100_000, 200_000, 400_000, 800_000];
/// The rate at which builds are compared.
const COMPARED_AT: u32 = 100_000;
/// A build whose median is above this falls behind: higher rates would say nothing more.
const BROKEN_NS: f64 = 1_000_000.0;

/// The builds, in the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Straight,
    Fused,
    Split,
    TokioPinned,
    TokioFree,
    LeanPinned,
}

impl Build {
    const ALL: [Self; 6] = [
        Self::Straight,
        Self::Fused,
        Self::Split,
        Self::TokioPinned,
        Self::TokioFree,
        Self::LeanPinned,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::Straight => "straight",
            Self::Fused => "fused",
            Self::Split => "split",
            Self::TokioPinned => "tokio, one pinned worker",
            Self::TokioFree => "tokio, two free workers",
            Self::LeanPinned => "tokio lean, one pinned worker",
        }
    }

    fn run(self, rig: &Rig, load: &Arc<Load>) -> Result<Run, Trouble> {
        match self {
            Self::Straight => straight::run(rig, load),
            Self::Fused => seats::run(rig, load, [rig.hot; 2]),
            Self::Split => seats::run(rig, load, [rig.hot, rig.other]),
            Self::TokioPinned => tasks::run(rig, load, Style::Ordinary, Workers::OnePinned),
            Self::TokioFree => tasks::run(rig, load, Style::Ordinary, Workers::TwoFree),
            Self::LeanPinned => tasks::run(rig, load, Style::Lean, Workers::OnePinned),
        }
    }
}

/// Runs the benches of this module.
pub(crate) fn run(bench: &mut Bench) -> Result<Findings, Trouble> {
    let (hot, other) = bench.two_cpus();
    let mut builds = Build::ALL.to_vec();
    let mut found = Findings::default();
    // As the engine does at its start: otherwise the first lap of each queue faults.
    if let Err(error) = pin::lock_memory() {
        found.note(error.to_string());
    }
    if hot == other {
        builds = vec![Build::Straight, Build::Fused];
        found.note("one usable CPU: nothing that needs two was run");
    }
    for rate in RATES {
        let at_rate = at_rate(bench, &builds, rate)?;
        for measured in &at_rate {
            found.row(&measured.series);
            if let Some(lost) = measured.lost() {
                found.note(lost);
            }
        }
        if rate == COMPARED_AT {
            compare(&at_rate, &mut found);
        }
        let broken = |it: &Measured| it.series.median().is_none_or(|it| it > BROKEN_NS);
        for late in at_rate.iter().filter(|it| broken(it)) {
            found.note(format!("{} breaks at {rate}/s", late.build.text()));
            // At the rate of the comparison nobody is left out, and nobody judged by an earlier mood
            // of the host.
            if rate >= COMPARED_AT {
                builds.retain(|it| *it != late.build);
            }
        }
    }
    found.note("from the intended arrival of the frame to the order's text; every frame orders");
    found.note("left out for all: socket, TLS, kernel. Journals on tmpfs, gate committed");
    found.note("shorter than ten minutes a rate: p99.9 and above are indicative");
    Ok(found)
}

/// One build at one rate.
struct Measured {
    build: Build,
    series: Series,
    spans: Vec<Series>,
    frames: u64,
    orders: u64,
    /// The largest of the rounds.
    allocs_per_tick: f64,
}

impl Measured {
    /// Frames that led to no order, where there were any.
    fn lost(&self) -> Option<String> {
        let lost = self.frames.saturating_sub(self.orders);
        let text = || {
            let (name, frames) = (self.series.row().name, self.frames);
            format!("{name}: {lost} of {frames} frames led to no order")
        };
        (lost > 0).then(text)
    }
}

fn at_rate(bench: &mut Bench, builds: &[Build], rate: u32) -> Result<Vec<Measured>, Trouble> {
    let (hot, other) = bench.two_cpus();
    let rig = Rig { clock: bench.clock.clone(), hot, other };
    let load = Arc::new(Load::new(rate));
    let mut all: Vec<Measured> = builds
        .iter()
        .map(|&build| Measured {
            build,
            series: Series::new(format!("{} at {rate}/s", build.text()), 1),
            spans: SPANS.map(|it| Series::new(format!("  {} {it}", build.text()), 1)).into(),
            frames: 0,
            orders: 0,
            allocs_per_tick: 0.0,
        })
        .collect();
    for _ in 0..ROUNDS {
        for measured in &mut all {
            let run = measured.build.run(&rig, &load)?;
            measured.frames += load.measured() as u64;
            measured.orders += run.latencies.len() as u64;
            measured.allocs_per_tick = measured.allocs_per_tick.max(run.allocs_per_tick);
            measured.series.push(run.latencies);
            for (series, samples) in measured.spans.iter_mut().zip(run.spans) {
                series.push(samples);
            }
        }
        bench.look_at_jitter();
    }
    Ok(all)
}

fn compare(all: &[Measured], found: &mut Findings) {
    let of = |build: Build| all.iter().find(|it| it.build == build);
    let (Some(straight), Some(fused)) = (of(Build::Straight), of(Build::Fused)) else { return };
    let ratio = fused.series.over(&straight.series, 0.5);
    found.asked("fused_over_straight_p50", ratio, "<= 1.5");
    // Where the time goes; the last span is the whole.
    for measured in [straight, fused] {
        measured.spans.iter().take(SPANS.len() - 1).for_each(|it| found.row(it));
    }
    found.asked("allocs_per_tick", Some(Ratio::exactly(fused.allocs_per_tick)), "0");
    let (Some(pinned), Some(free)) = (of(Build::TokioPinned), of(Build::TokioFree)) else { return };
    // Whichever of the two serves tokio better.
    let over = |other: &Measured, q: f64| {
        let ratios = [pinned, free].map(|it| it.series.over(&other.series, q));
        ratios.into_iter().flatten().min_by(|a, b| a.median.total_cmp(&b.median))
    };
    found.asked("tokio_over_fused_p50", over(fused, 0.5), ">= 80");
    found.asked("tokio_over_fused_p99", over(fused, 0.99), ">= 100");
    if let Some(split) = of(Build::Split) {
        found.ratio("tokio_over_split_p50", over(split, 0.5));
        found.ratio("split_over_fused_p50", split.series.over(&fused.series, 0.5));
    }
    if let Some(lean) = of(Build::LeanPinned) {
        found.ratio("tokio_lean_over_fused_p50", lean.series.over(&fused.series, 0.5));
        found.ratio("tokio_lean_over_fused_p99", lean.series.over(&fused.series, 0.99));
    }
    let allocs = pinned.allocs_per_tick.min(free.allocs_per_tick);
    found.ratio("tokio_allocs_per_tick", Some(Ratio::exactly(allocs)));
}

#[cfg(test)]
mod tests {
    use kairos_engine::clock::Clock;
    use kairos_engine::pin;

    use super::*;

    #[test]
    fn without_tasks_every_frame_leads_to_one_order() {
        let cpus = pin::usable_cpus().unwrap();
        let (hot, other) = (cpus[0], *cpus.last().unwrap());
        let rig = Rig { clock: Clock::new(), hot, other };
        let load = Arc::new(Load::new(20_000));
        for build in [Build::Straight, Build::Fused] {
            let run = build.run(&rig, &load).unwrap();
            assert_eq!(run.latencies.len(), load.measured(), "{build:?}");
            let allocs = run.allocs_per_tick;
            assert!(allocs < f64::EPSILON, "{build:?}: {allocs} allocations per frame");
        }
    }

    #[test]
    fn tasks_trade_too() {
        let cpus = pin::usable_cpus().unwrap();
        let rig = Rig { clock: Clock::new(), hot: cpus[0], other: *cpus.last().unwrap() };
        let load = Arc::new(Load::new(20_000));
        for style in [Style::Ordinary, Style::Lean] {
            // How many it manages on a busy host is not the code's.
            let run = tasks::run(&rig, &load, style, Workers::TwoFree).unwrap();
            assert!(run.latencies.len() > 100, "{style:?}: {}", run.latencies.len());
        }
    }
}
