//! Follows what the venue counts: the messages of a connection, over all channels and instruments.
//!
//! A book has no count of its own. A message that is missing may have been about any of them.

/// This many lower numbers in a row are no repetitions any more: the venue counts anew.
const OLD_MAX: u32 = 16;

/// What a message's number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is missing before it.
    Next,
    /// It came before, or too late to be of use.
    Old,
    /// Messages are missing before it.
    Hole {
        /// The number that should have come.
        expected: u64,
    },
}

/// The count of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence {
    next: Option<u64>, // not known before the first message
    old: u32,          // lower numbers in a row
}

impl Sequence {
    /// A message of this number arrived. The first may have any.
    #[inline]
    pub(super) fn step(&mut self, found: u64) -> Step {
        let after = Some(found.saturating_add(1));
        match self.next {
            Some(expected) if found < expected => {
                self.old += 1;
                if self.old < OLD_MAX {
                    return Step::Old;
                }
                *self = Self { next: after, old: 0 };
                Step::Hole { expected }
            }
            Some(expected) if found > expected => {
                *self = Self { next: after, old: 0 };
                Step::Hole { expected }
            }
            Some(_) | None => {
                *self = Self { next: after, old: 0 };
                Step::Next
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_follows_repeats_or_leaves_a_hole() {
        let check = |numbers: &[(u64, Step)]| {
            let mut sequence = Sequence::default();
            for &(found, want) in numbers {
                assert_eq!(sequence.step(found), want, "{found} of {numbers:?}");
            }
        };
        let hole = |expected| Step::Hole { expected };
        check(&[(0, Step::Next), (1, Step::Next), (2, Step::Next)]);
        check(&[(7, Step::Next), (8, Step::Next)]);
        check(&[(7, Step::Next), (7, Step::Old), (6, Step::Old), (8, Step::Next)]);
        check(&[(7, Step::Next), (9, hole(8)), (8, Step::Old), (10, Step::Next)]);
        check(&[(0, Step::Next), (u64::MAX, hole(1)), (u64::MAX, Step::Next)]);
        // A number that was never true, and then the true ones: found out after a while.
        let mut numbers = vec![(7, Step::Next), (900, hole(8))];
        numbers.extend((8..23).map(|found| (found, Step::Old)));
        numbers.extend([(23, hole(901)), (24, Step::Next)]);
        check(&numbers);
    }
}
