//! When a book may be asked for again: a snapshot, or a subscription whose answer begins with one.

use kairos_logic::units::Nanos;

/// An answer that has not come after this long is asked for again.
const OVERDUE_NS: u64 = 5_000_000_000;
/// Shortest time between two requests for the same book. Doubles with every further answer that is
/// of no use, up to 64 times.
const PAUSE_NS: u64 = 500_000_000;
/// Most doublings of that pause.
const PAUSE_DOUBLINGS_MAX: u32 = 6;

/// The requests for one book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    pending: Option<Nanos>,    // the last request, while its answer is out
    asked_last: Option<Nanos>, // the last request, answered or not
    failures: u32,             // answers of no use since the last good one
}

impl Pace {
    /// Whether nothing speaks against asking: no answer is on its way, and the pause is over.
    pub(crate) fn may_ask(&self, at: Nanos) -> bool {
        let pause = PAUSE_NS << self.failures.saturating_sub(1).min(PAUSE_DOUBLINGS_MAX);
        let pending = self.pending.is_some_and(|asked| at.since(asked) < OVERDUE_NS);
        let paused = self.asked_last.is_some_and(|asked| at.since(asked) < pause);
        !pending && !paused
    }

    /// Whether an answer is out, overdue or not.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// It was asked for.
    pub(crate) fn asked(&mut self, at: Nanos) {
        self.pending = Some(at);
        self.asked_last = Some(at);
    }

    /// The answer will not come, or can not be read. The pause runs from now.
    pub(crate) fn failed(&mut self, at: Nanos) {
        self.asked_last = Some(at);
        self.refused();
    }

    /// The answer came and is of no use, or what it made broke at once. The pause runs from the
    /// request: the next answer may be at hand.
    pub(crate) fn refused(&mut self) {
        self.pending = None;
        self.failures = self.failures.saturating_add(1);
    }

    /// The answer came, or nobody waits for it any more. Whether it was of use is not known yet.
    pub(crate) fn settled(&mut self) {
        self.pending = None;
    }

    /// What the answer made holds: the next request waits no longer than the first.
    pub(crate) fn useful(&mut self) {
        self.failures = 0;
    }
}

/// How often something may still be done in the current span of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    most: u32,
    within_ns: u64,
    began: Nanos,
    used: u32, // in 0..=most
}

impl Budget {
    pub(crate) const fn new(most: u32, within_ns: u64) -> Self {
        Self { most, within_ns, began: Nanos(0), used: 0 }
    }

    /// Takes `count` at once, or nothing.
    pub(crate) fn take(&mut self, at: Nanos, count: u32) -> bool {
        if at.since(self.began) >= self.within_ns {
            (self.began, self.used) = (at, 0);
        }
        let fits = count <= self.most - self.used;
        self.used += if fits { count } else { 0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Nanos {
        Nanos(1 + ms * MS)
    }

    /// The first moment, in milliseconds, at which it may be asked for.
    fn first(pace: &Pace, from: u64) -> u64 {
        (from..from + 100_000).find(|&ms| pace.may_ask(at(ms))).unwrap()
    }

    #[test]
    fn the_first_request_waits_for_nothing_and_an_overdue_one_for_five_seconds() {
        let mut pace = Pace::default();
        assert!(pace.may_ask(Nanos(0)));
        pace.asked(at(0));
        assert_eq!(first(&pace, 0), 5_000);
        pace.settled();
        assert_eq!(first(&pace, 0), 500);
    }

    #[test]
    fn answers_of_no_use_double_the_pause_and_a_useful_one_ends_that() {
        let mut pace = Pace::default();
        let mut asked = 0;
        let pauses: Vec<u64> = (0..9)
            .map(|_| {
                pace.asked(at(asked));
                pace.failed(at(asked));
                let next = first(&pace, asked);
                (next - asked, asked = next).0
            })
            .collect();
        assert_eq!(pauses, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000, 32_000]);
        pace.useful();
        assert_eq!(first(&pace, asked - 32_000), asked - 31_500);
    }

    #[test]
    fn a_failure_counts_from_itself_and_a_refusal_from_the_request() {
        let mut pace = Pace::default();
        pace.asked(at(0));
        pace.failed(at(400));
        assert_eq!(first(&pace, 400), 900);
        pace = Pace::default();
        pace.asked(at(0));
        pace.refused();
        assert_eq!(first(&pace, 400), 500);
    }

    #[test]
    fn a_budget_is_taken_whole_or_not_and_comes_back_in_time() {
        let mut budget = Budget::new(3, 10 * MS);
        let taken: Vec<bool> = [(100, 2), (105, 2), (106, 1), (109, 1), (110, 3), (119, 1)]
            .map(|(ms, count)| budget.take(Nanos(ms * MS), count))
            .into();
        assert_eq!(taken, [true, false, true, false, true, false]);
    }
}
