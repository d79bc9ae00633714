//! The only reader of time. Stamps are raw ticks of the time stamp counter; the wall time of an
//! event is derived from its stamp, so that one reading serves both.

use std::time::{SystemTime, UNIX_EPOCH};

use kairos_logic::units::{Nanos, Stamp};

/// Reads the time stamp counter and turns its ticks into nanoseconds.
///
/// The wall clock is read once, at construction: afterwards time runs with the counter, so it never
/// steps back and costs no system call. It drifts from the host's clock as far as the host's clock
/// is steered, some microseconds per second at most; `TIME_ANCHOR` frames record both.
#[derive(Clone, Debug)]
pub struct Clock {
    source: quanta::Clock,
    anchor: Stamp,
    anchor_wall: Nanos,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Calibrates the counter, which takes some milliseconds the first time in a process.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that reads the wall clock"
    )]
    pub fn new() -> Self {
        let source = quanta::Clock::new();
        let anchor = Stamp(source.raw());
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_nanos());
        Self { source, anchor, anchor_wall: Nanos(u64::try_from(wall).unwrap_or(u64::MAX)) }
    }

    /// Now, in ticks.
    #[inline]
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp(self.source.raw())
    }

    /// Wall time of a stamp that was taken after this clock was made.
    #[inline]
    #[must_use]
    pub fn wall(&self, stamp: Stamp) -> Nanos {
        self.anchor_wall.plus(self.nanos_between(self.anchor, stamp))
    }

    /// Nanoseconds from one stamp to a later one; 0 where `to` is earlier.
    #[inline]
    #[must_use]
    pub fn nanos_between(&self, from: Stamp, to: Stamp) -> u64 {
        self.source.delta_as_nanos(from.0, to.0)
    }

    /// Ticks per second, as the journal's segment header states them.
    #[must_use]
    pub fn ticks_per_second(&self) -> u64 {
        // quanta gives nanoseconds for ticks: measured over 2^40 ticks (minutes), so that the
        // rounding of its fixed-point factor does not show.
        const TICKS: u64 = 1 << 40;
        let nanos = self.source.delta_as_nanos(0, TICKS).max(1);
        u64::try_from(u128::from(TICKS) * 1_000_000_000 / u128::from(nanos)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_nanoseconds_convert_both_ways() {
        let clock = Clock::new();
        let hz = clock.ticks_per_second();
        let second = clock.nanos_between(Stamp(0), Stamp(hz));
        assert!(second.abs_diff(1_000_000_000) < 1_000, "{hz} ticks are {second} ns");
        assert_eq!(clock.nanos_between(Stamp(10), Stamp(5)), 0);
        let (a, b) = (clock.stamp(), clock.stamp());
        assert!(clock.wall(a) <= clock.wall(b));
    }
}
