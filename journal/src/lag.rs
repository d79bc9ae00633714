//! How old the oldest event is that is committed and not durable.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Moments that are remembered; beyond that the spacing doubles.
const MOMENTS: usize = 1024;

/// Remembers when which `seq` was first seen committed.
#[derive(Debug)]
pub(crate) struct LagMeter {
    seen: VecDeque<(u64, Instant)>, // ascending in both
    spacing: Duration,
}

impl Default for LagMeter {
    fn default() -> LagMeter {
        LagMeter { seen: VecDeque::with_capacity(MOMENTS), spacing: Duration::from_millis(1) }
    }
}

impl LagMeter {
    /// Nanoseconds since the oldest event above `durable` was committed; 0 if there is none. Too much
    /// by at most the time between two calls, or a thousandth of itself.
    pub(crate) fn look(&mut self, committed: u64, durable: u64, now: Instant) -> u64 {
        while self.seen.front().is_some_and(|(seq, _)| *seq <= durable) {
            self.seen.pop_front();
        }
        if self.seen.is_empty() {
            self.spacing = Duration::from_millis(1);
        }
        let newest = self.seen.back();
        let is_new = newest.map_or(committed > durable, |(seq, _)| committed > *seq);
        let is_due = newest.is_none_or(|(_, at)| now.duration_since(*at) >= self.spacing);
        if is_new && is_due {
            if self.seen.len() >= MOMENTS {
                self.thin_out();
            }
            self.seen.push_back((committed, now));
        } else if let (true, Some((seq, _))) = (is_new, self.seen.back_mut()) {
            *seq = committed; // older than they are: never too little
        }
        let oldest = self.seen.front().map_or(Duration::ZERO, |(_, at)| now.duration_since(*at));
        u64::try_from(oldest.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Forgets every second moment. A moment stands for the events since the one before it, so the
    /// later `seq` of each pair moves to the earlier time: never too little.
    fn thin_out(&mut self) {
        let old = std::mem::take(&mut self.seen);
        let mut pairs = old.into_iter();
        while let Some((first, at)) = pairs.next() {
            let seq = pairs.next().map_or(first, |(second, _)| second);
            self.seen.push_back((seq, at));
        }
        self.spacing *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_event_which_is_not_durable() {
        let mut meter = LagMeter::default();
        let start = Instant::now();
        let mut look = |committed, durable, ms| {
            meter.look(committed, durable, start + Duration::from_millis(ms)) / 1_000_000
        };
        assert_eq!(look(0, 0, 0), 0);
        assert_eq!(look(10, 0, 5), 0, "seen just now");
        assert_eq!(look(20, 0, 8), 3);
        assert_eq!(look(30, 10, 20), 12, "event 11 was seen at 8");
        assert_eq!(look(30, 25, 30), 10, "event 26 was seen at 20");
        assert_eq!(look(30, 30, 40), 0);
        assert_eq!(look(31, 30, 41), 0);
    }

    #[test]
    fn a_long_absence_is_remembered_in_bounded_memory_and_never_understated() {
        let mut meter = LagMeter::default();
        let start = Instant::now();
        for ms in 1..=100_000_u64 {
            let age = meter.look(ms, 0, start + Duration::from_millis(ms));
            assert_eq!(age / 1_000_000, ms - 1);
            assert!(meter.seen.len() <= MOMENTS);
        }
        let age = meter.look(100_000, 50_000, start + Duration::from_secs(100)) / 1_000_000;
        assert!((50_000 - 1..=50_000 + 256).contains(&age), "{age}");
    }
}
