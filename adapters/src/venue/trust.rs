//! How many malformed frames a connection may send before it is given up.

use kairos_logic::units::Nanos;

/// This many malformed frames ...
const MALFORMED_MAX: usize = 5;
/// ... within this time say that the connection can not be trusted.
const MALFORMED_WITHIN_NS: u64 = 10_000_000_000;

/// Times of a connection's latest malformed frames.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trust {
    bad: [Option<Nanos>; MALFORMED_MAX], // a ring
    next: usize,                         // in 0..MALFORMED_MAX
}

impl Trust {
    /// One more malformed frame. Says whether the connection should be given up; then it begins anew.
    pub(crate) fn malformed(&mut self, at: Nanos) -> bool {
        self.bad[self.next] = Some(at);
        self.next = (self.next + 1) % MALFORMED_MAX;
        // The next to be overwritten is the oldest.
        let lost = self.bad[self.next].is_some_and(|it| at.since(it) <= MALFORMED_WITHIN_NS);
        if lost {
            *self = Self::default();
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_within_ten_seconds_are_too_many() {
        let check = |step_ns: u64, wanted: [bool; 6]| {
            let mut trust = Trust::default();
            let told: Vec<bool> = (0..6).map(|n| trust.malformed(Nanos(1 + n * step_ns))).collect();
            assert_eq!(told, wanted, "every {step_ns} ns");
        };
        check(1, [false, false, false, false, true, false]);
        check(2_500_000_000, [false, false, false, false, true, false]);
        check(2_500_000_001, [false; 6]);
    }
}
