//! What a client is subscribed to, and how often it may speak.

use std::collections::{BTreeSet, VecDeque};

use kairos_logic::units::Nanos;

/// The subscriptions of one connection, each by a name that the venue's own words give.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    held: BTreeSet<String>,
    fresh: Vec<String>,
}

impl Topics {
    /// Adds one; `false` where it was there.
    pub(crate) fn add(&mut self, topic: &str) -> bool {
        let added = self.held.insert(topic.to_owned());
        if added {
            self.fresh.push(topic.to_owned());
        }
        added
    }

    /// Takes one away; `false` where it was not there.
    pub(crate) fn remove(&mut self, topic: &str) -> bool {
        self.fresh.retain(|it| it != topic);
        self.held.remove(topic)
    }

    /// Whether it is held.
    #[must_use]
    pub fn has(&self, topic: &str) -> bool {
        self.held.contains(topic)
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// How many are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.held.iter().map(String::as_str)
    }

    /// Those that were added since the last call, oldest first.
    pub fn take_fresh(&mut self) -> Vec<String> {
        std::mem::take(&mut self.fresh)
    }
}

/// So many messages in so long a time, counted over a sliding window.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    most: usize,
    window_ns: u64,
    times: VecDeque<Nanos>,
}

impl Allowance {
    pub(super) const fn new(most: usize, window_ns: u64) -> Self {
        Self { most, window_ns, times: VecDeque::new() }
    }

    /// Counts one message; `false` where it is one too many.
    pub(super) fn take(&mut self, at: Nanos) -> bool {
        while self.times.front().is_some_and(|&time| at.since(time) >= self.window_ns) {
            self.times.pop_front();
        }
        let fits = self.times.len() < self.most;
        if fits {
            self.times.push_back(at);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_slides() {
        let mut allowance = Allowance::new(2, 10);
        let taken = [0, 1, 2, 9, 10, 10, 11, 12].map(|ns| allowance.take(Nanos(ns)));
        assert_eq!(taken, [true, true, false, false, true, false, true, false]);
    }
}
