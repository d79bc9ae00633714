//! The host's share: how often a thread that only reads the clock finds that it did not run.
//!
//! A tail that is no longer than the gaps of an idle loop is the host's, not the code's. The probe
//! runs on the measured CPU between the rounds, and its findings are printed beside the result.

use std::fmt;

use kairos_engine::clock::Clock;
use serde::Serialize;

/// A gap is what is longer than this: some readings of the clock, no interrupt is that short.
const GAP_NS: u64 = 150;
/// How long one probe looks.
const PROBE_NS: u64 = 50_000_000;

/// Gaps found so far.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    looked_ns: u64,
    stolen_ns: u64,
    gaps: Vec<u64>,
}

/// What was found.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Jitter {
    /// Share of the time that other things than the loop took.
    pub(crate) stolen_percent: f64,
    /// Gaps longer than 150 ns, per second.
    pub(crate) gaps_per_s: f64,
    /// 99 % of them are not longer.
    pub(crate) p99_gap_ns: u64,
    /// The longest.
    pub(crate) max_gap_ns: u64,
    /// How long the probes looked, in all.
    pub(crate) looked_s: f64,
}

impl Probe {
    /// Looks for 50 ms on the CPU of the caller.
    pub(crate) fn look(&mut self, clock: &Clock) {
        let start = clock.stamp();
        let mut before = start;
        loop {
            let now = clock.stamp();
            let gap = clock.nanos_between(before, now);
            if gap > GAP_NS {
                self.gaps.push(gap);
                self.stolen_ns += gap;
            }
            before = now;
            let looked = clock.nanos_between(start, now);
            if looked >= PROBE_NS {
                self.looked_ns += looked;
                return;
            }
        }
    }

    /// All probes together.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes")]
    pub(crate) fn sum_up(mut self) -> Jitter {
        self.gaps.sort_unstable();
        let looked_s = self.looked_ns as f64 / 1e9;
        let per_second = |count: f64| if looked_s > 0.0 { count / looked_s } else { 0.0 };
        Jitter {
            stolen_percent: per_second(self.stolen_ns as f64 / 1e9) * 100.0,
            gaps_per_s: per_second(self.gaps.len() as f64),
            p99_gap_ns: self.gaps.get(self.gaps.len() * 99 / 100).copied().unwrap_or(0),
            max_gap_ns: self.gaps.last().copied().unwrap_or(0),
            looked_s,
        }
    }
}

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "jitter  {:.2} % stolen, {:.0} gaps/s, gap p99 {:.1} µs, max {:.1} µs ({:.1} s looked at)",
            self.stolen_percent,
            self.gaps_per_s,
            Micros(self.p99_gap_ns).value(),
            Micros(self.max_gap_ns).value(),
            self.looked_s
        )
    }
}

struct Micros(u64);

impl Micros {
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of minutes")]
    fn value(&self) -> f64 {
        self.0 as f64 / 1e3
    }
}
