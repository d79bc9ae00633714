//! How often something happens.

use alloc::boxed::Box;
use alloc::vec;

use crate::units::Nanos;

/// Remembers the last `limit` times of something, and so whether the next one is too soon.
/// Exact: a sliding window, not one that starts anew at every full second.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    times: Box<[Nanos]>,
    next: usize,
    used: usize,
    window_ns: u64,
}

impl Meter {
    /// At most `limit` per window; 0 is no limit.
    pub(super) fn new(limit: u32, limit_max: u32, window_ns: u64) -> Self {
        let places = limit.min(limit_max) as usize;
        Self { times: vec![Nanos(0); places].into_boxed_slice(), next: 0, used: 0, window_ns }
    }

    /// Whether `limit` of them already lie within the window that ends at `now`.
    pub(super) fn is_full(&self, now: Nanos) -> bool {
        let oldest = self.times.get(self.next);
        self.used == self.times.len() && oldest.is_some_and(|it| now.since(*it) < self.window_ns)
    }

    /// Takes note of one.
    pub(super) fn note(&mut self, now: Nanos) {
        if let Some(slot) = self.times.get_mut(self.next) {
            *slot = now;
            self.next = (self.next + 1) % self.times.len();
            self.used = (self.used + 1).min(self.times.len());
        }
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.next = 0;
    }

    /// The limit in force; 0 is none.
    pub(super) fn limit(&self) -> i64 {
        i64::try_from(self.times.len()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides() {
        let mut meter = Meter::new(2, 10, 1_000);
        let mut check = |at: u64, full: bool| {
            assert_eq!(meter.is_full(Nanos(at)), full, "at {at}");
            if !full {
                meter.note(Nanos(at));
            }
        };
        check(0, false);
        check(900, false);
        check(999, true);
        check(1_000, false);
        check(1_899, true);
        check(1_900, false);
        meter.clear();
        assert!(!meter.is_full(Nanos(1_900)));
        assert!(!Meter::new(0, 10, 1_000).is_full(Nanos(5)), "off");
        assert_eq!(Meter::new(99, 10, 1_000).limit(), 10, "bounded");
    }
}
