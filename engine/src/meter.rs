//! Counters of the running pipeline: how far each seat is, and what it could not do.
//!
//! Hot seats store into their own cache lines and read nobody else's, except where a seat asks for
//! room or for quiet. Consumers of a ring publish how many slots they have *finished with*; the
//! difference to what was published is the depth. Plain `Release` stores and `Acquire` loads of
//! monotonic counters: a reader may see an old value, never a wrong one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use kairos_logic::event::Verb;

/// A counter with one writer.
#[derive(Debug, Default)]
pub struct Count(CachePadded<AtomicU64>);

impl Count {
    /// Stores a new value. Only the owner may call it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }
    /// Adds to it. Only the owner may call it: load and store are not one step.
    #[inline]
    pub fn add(&self, more: u64) {
        let value = self.0.load(Ordering::Relaxed);
        self.0.store(value + more, Ordering::Release);
    }
    /// The value, perhaps of a moment ago.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// What one seat tells.
#[derive(Debug, Default)]
pub struct SeatMeter {
    /// Slots of IN it has finished with.
    pub taken_in: Count,
    /// Slots of ORDERS it has finished with.
    pub taken_orders: Count,
    /// Events it has published into IN.
    pub published_in: Count,
    /// Turns in which it could not go on for want of room behind it.
    pub held: Count,
    /// Set, for good, when the seat will publish nothing more of its own accord.
    pub finished: AtomicBool,
}

impl SeatMeter {
    /// Marks the seat as finished.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }
    /// Whether the seat is finished.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }
}

/// What a feed tells of one connection to a venue, for the stats page.
#[derive(Debug, Default)]
pub struct VenueMeter {
    /// Frames read.
    pub frames: Count,
    /// Bytes of them.
    pub bytes: Count,
    /// Events that they became.
    pub events: Count,
    /// Frames that could not be understood.
    pub malformed: Count,
    /// Frames about instruments that nobody trades here.
    pub unknown: Count,
    /// Gaps in books.
    pub gaps: Count,
    /// Snapshots that made a book valid again.
    pub resyncs: Count,
    /// Events dropped because IN was full.
    pub dropped: Count,
    /// When the last frame came, in nanoseconds since the Unix epoch.
    pub last_message_at: Count,
    /// 1 while the link is up.
    pub connected: Count,
    /// Connections made after the first.
    pub reconnects: Count,
    /// Time from the kernel's stamp of the last bytes until they were read, in nanoseconds.
    pub kernel_ns: Count,
}

/// What one feed seat tells.
#[derive(Debug, Default)]
pub struct FeedMeter {
    /// As any seat.
    pub seat: SeatMeter,
    /// Of each connection that it reads.
    pub venues: Vec<VenueMeter>,
}

/// All that the seats of one engine tell each other beside the rings.
#[derive(Debug)]
pub struct Meters {
    /// One per feed seat.
    pub feeds: Vec<FeedMeter>,
    /// The strategy seat.
    pub strategy: SeatMeter,
    /// The risk seat.
    pub risk: SeatMeter,
    /// The execution seat.
    pub execution: SeatMeter,
    /// The journal seat.
    pub journal: SeatMeter,
    /// Outcomes published into ORDERS.
    pub orders_published: Count,
    /// Proposals that risk has taken out of PROPOSALS.
    pub proposals_taken: Count,
    /// ORDERS slots whose frames are on disk; with `gate = "durable"` execution goes no further.
    pub orders_durable: Count,
    /// News that execution still holds for want of room in IN.
    pub backlog: Count,
    /// When the simulated venue acts next, in its time; `u64::MAX` when nothing is due.
    pub sim_due: Count,
    /// The virtual clock of a capture.
    pub virtual_now: Count,
    /// Orders that risk approved.
    pub approved: Count,
    /// Orders that risk refused.
    pub denied: Count,
    /// Number of the state of risk.
    pub risk_state: Count,
    /// Orders that risk counts as open.
    pub open_orders: Count,
    /// Executions that the venue reported.
    pub fills: Count,
    /// Position in IN behind the event that halted or killed trading; 0 while it is neither.
    pub halted_at: Count,
    /// Set, for good, when the journal cannot go on for long: it takes what it has kept for the end,
    /// and execution sends cancels only.
    pub journal_ending: AtomicBool,
    /// Set, for good, when the journal could not take a frame.
    pub journal_failed: AtomicBool,
    /// A command that the control thread wants published, as the number of its verb; 0 is none. The
    /// first feed takes it and publishes it: the control thread has no door to IN.
    pub wanted: AtomicU8,
    /// Set once what an earlier run left is in IN: until then only the first feed publishes.
    pub begun: AtomicBool,
    /// Set by whoever wants the engine to stop in an orderly way.
    pub stop: AtomicBool,
    /// Set when every thread shall leave its loop.
    pub over: AtomicBool,
}

impl Meters {
    /// Counters for an engine whose feed seats read that many venues each.
    #[must_use]
    pub fn new(venues_of_feeds: &[usize]) -> Arc<Self> {
        let feed = |&venues: &usize| FeedMeter {
            seat: SeatMeter::default(),
            venues: (0..venues).map(|_| VenueMeter::default()).collect(),
        };
        Arc::new(Self {
            feeds: venues_of_feeds.iter().map(feed).collect(),
            strategy: SeatMeter::default(),
            risk: SeatMeter::default(),
            execution: SeatMeter::default(),
            journal: SeatMeter::default(),
            orders_published: Count::default(),
            proposals_taken: Count::default(),
            orders_durable: Count::default(),
            backlog: Count::default(),
            sim_due: Count::default(),
            virtual_now: Count::default(),
            approved: Count::default(),
            denied: Count::default(),
            risk_state: Count::default(),
            open_orders: Count::default(),
            fills: Count::default(),
            halted_at: Count::default(),
            journal_ending: AtomicBool::new(false),
            journal_failed: AtomicBool::new(false),
            wanted: AtomicU8::new(0),
            begun: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            over: AtomicBool::new(false),
        })
    }

    /// Events published into IN by all its producers.
    #[must_use]
    pub fn in_published(&self) -> u64 {
        let feeds: u64 = self.feeds.iter().map(|it| it.seat.published_in.get()).sum();
        feeds + self.execution.published_in.get()
    }

    /// Events of IN that its slowest consumer has finished with.
    #[must_use]
    pub fn in_taken(&self) -> u64 {
        let (risk, journal) = (self.risk.taken_in.get(), self.journal.taken_in.get());
        risk.min(journal).min(self.execution.taken_in.get())
    }

    /// Asks the first feed to publish a command. A stronger one replaces a weaker one that still
    /// waits: kill before halt before reduce.
    pub fn want(&self, verb: Verb) {
        let rank = |number: u8| match Verb::from_number(i64::from(number)) {
            Some(Verb::Kill) => 3,
            Some(Verb::Halt) => 2,
            Some(_) => 1,
            None => 0,
        };
        let stronger = |waiting: u8| (rank(waiting) < rank(verb as u8)).then_some(verb as u8);
        let _waiting = self.wanted.fetch_update(Ordering::AcqRel, Ordering::Acquire, stronger);
    }

    /// The command that waits, for the feed that publishes it. Cheap while there is none.
    #[must_use]
    pub fn take_wanted(&self) -> Option<Verb> {
        if self.wanted.load(Ordering::Relaxed) == 0 {
            return None;
        }
        Verb::from_number(i64::from(self.wanted.swap(0, Ordering::AcqRel)))
    }

    /// Whether everything published was taken by everyone who reads it.
    ///
    /// The takers are read first, then what execution still holds, then what was published: news
    /// moves from the one to the other, so in any other order some could be overlooked on its way.
    /// Publications of a later moment can only make the answer "no": "settled" is never said too
    /// early.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_settled_while(|| true)
    }

    /// Whether everything is settled and the simulated venue has nothing to do or to say: what
    /// nobody feeds any more is then over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_settled_while(|| self.sim_due.get() == u64::MAX)
    }

    /// Whether trading is halted, and everybody has everything up to the event that halted it.
    #[must_use]
    pub fn has_halted(&self) -> bool {
        let at = self.halted_at.get();
        at > 0 && at <= self.in_taken()
    }

    /// `quiet` is asked after the takers and before the publishers: execution tells what is due
    /// before it tells what it took, and what it published before it tells that nothing is due.
    fn is_settled_while(&self, quiet: impl Fn() -> bool) -> bool {
        let taken = self.in_taken().min(self.strategy.taken_in.get());
        let orders = self.journal.taken_orders.get().min(self.execution.taken_orders.get());
        let nothing_held = self.backlog.get() == 0 && quiet();
        nothing_held && taken == self.in_published() && orders == self.orders_published.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_means_that_every_reader_has_everything() {
        let meters = Meters::new(&[1]);
        assert!(meters.is_settled());
        meters.feeds[0].seat.published_in.add(2);
        for seat in [&meters.strategy, &meters.risk, &meters.execution, &meters.journal] {
            assert!(!meters.is_settled());
            seat.taken_in.set(2);
        }
        assert!(meters.is_settled());
        meters.orders_published.add(1);
        meters.journal.taken_orders.set(1);
        assert!(!meters.is_settled());
        meters.execution.taken_orders.set(1);
        assert!(meters.is_settled());
    }
}
