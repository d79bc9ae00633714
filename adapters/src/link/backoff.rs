//! How long to wait before the next attempt to connect.

use crate::sim::random::Random;

/// How the wait grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffOptions {
    /// The first wait, in nanoseconds; each further one is twice as long.
    pub first_ns: u64,
    /// The longest wait, in nanoseconds.
    pub max_ns: u64,
    /// Attempts in a row before giving up; 0 is without end.
    pub attempts_max: u32,
}

impl Default for BackoffOptions {
    fn default() -> Self {
        Self { first_ns: 250_000_000, max_ns: 10_000_000_000, attempts_max: 0 }
    }
}

/// A connection that was up for so long was healthy: the next wait is the first one again.
const HEALTHY_NS: u64 = 60_000_000_000;

/// The waits of one link.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    options: BackoffOptions,
    random: Random,
    attempts: u32, // in a row
}

impl Backoff {
    pub(super) fn new(options: BackoffOptions, seed: u64, number: u16) -> Self {
        // A stream of its own for each link, so that one link's waits do not shift another's.
        let purpose = 0x4c69_6e6b_0000_0000 | u64::from(number);
        Self { options, random: Random::fork(seed, purpose), attempts: 0 }
    }

    /// The wait before the next attempt, in nanoseconds: 80 % to 120 % of twice the last.
    pub(super) fn next(&mut self) -> u64 {
        let doubled = self.options.first_ns.checked_shl(self.attempts.min(32));
        self.attempts = self.attempts.saturating_add(1);
        let wait = doubled.unwrap_or(u64::MAX).min(self.options.max_ns);
        let fifth = wait / 5;
        wait - fifth + self.random.up_to(2 * fifth)
    }

    /// As [`Self::next`]; `None` where there were enough attempts.
    pub(super) fn again(&mut self) -> Option<u64> {
        let most = self.options.attempts_max;
        (most == 0 || self.attempts < most).then(|| self.next())
    }

    /// A connection was up for so long.
    pub(super) fn was_up(&mut self, ns: u64) {
        if ns >= HEALTHY_NS {
            self.attempts = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ_by_a_fifth_at_most() {
        let waits = |seed: u64, number: u16| {
            let mut backoff = Backoff::new(BackoffOptions::default(), seed, number);
            [(); 12].map(|()| backoff.next())
        };
        for (n, wait) in waits(7, 0).into_iter().enumerate() {
            let middle = (250_000_000_u64 << n).min(10_000_000_000);
            assert!((middle * 8 / 10..=middle * 12 / 10).contains(&wait), "{n}: {wait}");
        }
        assert_eq!(waits(7, 0), waits(7, 0));
        assert_ne!(waits(7, 0), waits(8, 0), "another seed");
        assert_ne!(waits(7, 0), waits(7, 1), "another link");
    }

    #[test]
    fn a_minute_of_health_begins_anew_and_attempts_may_end() {
        let options = BackoffOptions { attempts_max: 2, ..BackoffOptions::default() };
        let mut backoff = Backoff::new(options, 1, 0);
        assert!(backoff.again().is_some() && backoff.again().is_some());
        assert_eq!(backoff.again(), None);
        backoff.was_up(HEALTHY_NS - 1);
        assert_eq!(backoff.again(), None);
        backoff.was_up(HEALTHY_NS);
        assert!(backoff.again().is_some_and(|wait| wait <= 300_000_000));
    }
}
