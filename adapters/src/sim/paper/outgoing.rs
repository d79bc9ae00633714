//! Reports on their way from the venue to us.

use std::collections::VecDeque;

use kairos_logic::event::Event;
use kairos_logic::units::Nanos;

/// A bounded queue of reports. Every report takes equally long and the venue's time never steps
/// back, so the order of departure is the order of arrival.
pub(super) struct Outgoing {
    queue: VecDeque<Event>,
    capacity: usize,
    latency_ns: u64,
}

impl Outgoing {
    pub(super) fn new(capacity: usize, latency_ns: u64) -> Self {
        // Written once, so that its memory is there: the queue wanders through all of it.
        let mut queue = VecDeque::from(vec![Event::default(); capacity]);
        queue.clear();
        Self { queue, capacity, latency_ns }
    }

    /// How many more reports fit.
    pub(super) fn room(&self) -> usize {
        self.capacity - self.queue.len()
    }

    /// Sends a report that leaves the venue at its `at`. Whoever sends asks for [`Self::room`] first.
    pub(super) fn push(&mut self, mut event: Event) {
        debug_assert!(self.room() > 0, "a report was sent without room for it");
        event.venue_at = event.at;
        event.at = event.at.plus(self.latency_ns);
        self.queue.push_back(event);
    }

    /// When the next report arrives.
    pub(super) fn next_at(&self) -> Option<Nanos> {
        self.queue.front().map(|event| event.at)
    }

    /// Hands out what has arrived by `now`; returns whether anything had.
    pub(super) fn deliver(&mut self, now: Nanos, report: &mut impl FnMut(Event)) -> bool {
        let mut any = false;
        while self.queue.front().is_some_and(|event| event.at <= now) {
            if let Some(event) = self.queue.pop_front() {
                report(event);
                any = true;
            }
        }
        if any && self.queue.is_empty() {
            self.queue.clear(); // begins at its first place again, which is in the cache
        }
        any
    }
}
