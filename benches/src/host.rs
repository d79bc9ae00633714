//! What the figures were measured on: printed with every result, because none holds elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use kairos_engine::build::BuildId;
use kairos_engine::clock::Clock;
use kairos_engine::pin;
use serde::Serialize;

use crate::threads::Scheduler;

/// The host and the build.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    /// Model of the processor.
    pub(crate) cpu: String,
    /// CPUs that the process may use.
    pub(crate) cpus: Vec<u16>,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// The kernel's command line.
    pub(crate) command_line: String,
    /// Frequency governor of the first usable CPU; absent where the host shows none.
    pub(crate) governor: Option<String>,
    /// What the kernel takes for its clock.
    pub(crate) clock_source: String,
    /// Smallest step that two readings of the stamp counter showed. Values below it are quantised.
    pub(crate) clock_step_ns: f64,
    /// How the measured threads were scheduled.
    pub(crate) scheduler: Scheduler,
    /// The compiler.
    pub(crate) rustc: &'static str,
    /// Commit, lock file and features of the build.
    pub(crate) build: String,
    /// Whether the build is optimised: figures of any other mean nothing.
    pub(crate) optimised: bool,
}

impl Host {
    /// Reads all of it.
    pub(crate) fn look(clock: &Clock, scheduler: Scheduler) -> Self {
        let cpus = pin::usable_cpus().unwrap_or_default();
        let first = cpus.first().copied().unwrap_or_default();
        let line = |path: &str| fs::read_to_string(path).map(|it| it.trim().to_owned()).ok();
        let governor = format!("/sys/devices/system/cpu/cpu{first}/cpufreq/scaling_governor");
        let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
        Self {
            cpu: cpu_model(),
            cpus,
            kernel: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
            command_line: line("/proc/cmdline").unwrap_or_default(),
            governor: line(&governor),
            clock_source: line(source).unwrap_or_default(),
            clock_step_ns: clock_step(clock),
            scheduler,
            rustc: env!("KAIROS_RUSTC"),
            build: BuildId::of_this_binary().text(),
            optimised: !cfg!(debug_assertions),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let governor = self.governor.as_deref().unwrap_or("none shown");
        write!(
            f,
            "host    {}, CPUs {:?}, kernel {}, governor {governor}, clock {} in steps of {:.1} ns, \
             scheduler {:?}\n\
             build   {}, {}{}",
            self.cpu,
            self.cpus,
            self.kernel,
            self.clock_source,
            self.clock_step_ns,
            self.scheduler,
            self.rustc,
            self.build,
            if self.optimised { "" } else { ", NOT OPTIMISED: these figures mean nothing" }
        )
    }
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|it| it.starts_with("model name"));
    line.and_then(|it| it.split_once(':')).map_or("unknown", |(_, model)| model.trim()).to_owned()
}

/// The step in which the counter advances: the distance between the two differences of readings that
/// occur most often, or the only one. A step of a virtual counter need not be a whole number of
/// ticks, so values one tick apart count as one.
#[expect(clippy::cast_precision_loss, reason = "a few ticks")]
fn clock_step(clock: &Clock) -> f64 {
    const READINGS: usize = 20_000;
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    let mut before = clock.stamp();
    for _ in 0..READINGS {
        let now = clock.stamp();
        *counts.entry(now.0.saturating_sub(before.0)).or_default() += 1;
        before = now;
    }
    let mut by_count: Vec<(u64, u64)> = counts.into_iter().map(|(it, count)| (count, it)).collect();
    by_count.sort_unstable_by(|a, b| b.cmp(a));
    let first = by_count.first().map_or(0, |&(_, ticks)| ticks);
    let often = by_count.iter().filter(|(count, _)| *count > READINGS as u64 / 100);
    let distances = often.map(|&(_, ticks)| ticks.abs_diff(first));
    let step = distances.filter(|it| *it > 1).min().unwrap_or(first.max(1));
    step as f64 * 1e9 / clock.ticks_per_second() as f64
}
