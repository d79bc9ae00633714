//! The control thread: looks after the running seats, off the hot path.
//!
//! It mirrors their counters into the stats page, counts stalls and drifted masks, and decides when
//! the engine is over. It may be slow; nobody waits for it but the end of the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::meter::Meters;
use crate::pin;
use crate::start::SeatThread;
use kairos_logic::event::Verb;
use kairos_logic::units::Stamp;

/// How often it looks: often enough that the end of a short run is not waited for.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A seat that is in the same turn for this long has stalled. A turn is bounded to some
/// microseconds of work; a disk or the scheduler is behind anything longer.
const STALL_NS: u64 = 20_000_000;
/// How often the masks are read back.
const MASKS_EVERY_NS: u64 = 1_000_000_000;

/// What the watcher saw of one thread.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Rounds when it last looked.
    pub rounds: u64,
    /// Stalls counted, by the seat's place in the thread.
    pub stalls: Vec<u64>,
    /// Times that the mask was not what it should be.
    pub drifts: u64,
    /// Longest time seen in one turn, in ticks. Sampled: turns shorter than the time between two
    /// looks go unseen, and need not be seen.
    pub longest_ticks: u64,
    since: Stamp,
    counted: bool,
}

/// Why the engine is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything that was to be said was said and recorded.
    Settled,
    /// Asked to stop, but orders were still open when the time for it was over.
    Overdue,
    /// The journal could not go on for long: trading was halted and what rested was cancelled, all
    /// of it journaled.
    Halted,
    /// The journal takes no more, and what had to be said is not all in it.
    JournalFailed,
}

/// What the journal is fit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Everything.
    Well,
    /// It cannot grow: it has room for the end of the run, and no more.
    Ending,
    /// Nothing.
    Gone,
}

/// How long halting may take once the journal cannot grow: as long as an orderly stop.
const HALT_WITHIN: Duration = Duration::from_secs(10);

/// Looks after running threads until they are over.
pub struct Watch<'a> {
    /// The threads.
    pub threads: &'a [SeatThread],
    /// Their counters.
    pub meters: &'a Meters,
    /// Set by a signal.
    pub stop_signal: Arc<AtomicBool>,
    /// How long an orderly stop may take.
    pub stop_within: Option<Duration>,
    /// Time.
    pub clock: &'a Clock,
}

impl Watch<'_> {
    /// Watches until the engine is over; calls `each` at every look.
    pub fn until_over(
        &self,
        mut each: impl FnMut(&[Seen]),
        mut journal: impl FnMut() -> Health,
    ) -> End {
        let mut seen: Vec<Seen> = vec![Seen::default(); self.threads.len()];
        let mut stop_since: Option<Stamp> = None;
        let mut halting_since: Option<Stamp> = None;
        let mut masks_at = self.clock.stamp();
        loop {
            let now = self.clock.stamp();
            if self.stop_signal.load(Ordering::Relaxed) {
                self.meters.stop.store(true, Ordering::Release);
            }
            if self.meters.stop.load(Ordering::Relaxed) {
                stop_since.get_or_insert(now);
            }
            let past = |since, within: Duration| {
                u128::from(self.clock.nanos_between(since, now)) > within.as_nanos()
            };
            let health = journal();
            if self.meters.journal_failed.load(Ordering::Acquire) || health == Health::Gone {
                return End::JournalFailed;
            }
            match halting_since {
                None if self.has_ended() => return End::Settled,
                None if health == Health::Ending => {
                    halting_since = Some(now);
                    self.halt();
                }
                None => {}
                Some(_) if self.meters.has_halted() && self.has_ended() => return End::Halted,
                Some(since) if past(since, HALT_WITHIN) => return End::JournalFailed,
                // The halt first, so that it is what cancels; then no more market data.
                Some(_) if self.meters.halted_at.get() > 0 => {
                    self.meters.stop.store(true, Ordering::Release);
                }
                Some(_) => {}
            }
            if let (Some(since), Some(within), None) = (stop_since, self.stop_within, halting_since)
                && past(since, within)
            {
                return End::Overdue;
            }
            self.look(&mut seen, now);
            if self.clock.nanos_between(masks_at, now) > MASKS_EVERY_NS {
                masks_at = now;
                self.read_masks(&mut seen);
            }
            each(&seen);
            rest(LOOK_EVERY);
        }
    }

    /// The journal cannot go on: no entry leaves any more, trading halts and what rests is cancelled;
    /// the stop follows. The halt is a command like an operator's, so the next run inherits it.
    fn halt(&self) {
        self.meters.journal_ending.store(true, Ordering::Release);
        self.meters.want(Verb::Halt);
    }

    /// Feeds finished, nothing due at the venue, everything taken by everyone.
    fn has_ended(&self) -> bool {
        self.meters.feeds.iter().all(|it| it.seat.is_finished()) && self.meters.is_over()
    }

    fn look(&self, seen: &mut [Seen], now: Stamp) {
        for (thread, seen) in self.threads.iter().zip(seen) {
            let rounds = thread.pulse.rounds.get();
            if rounds != seen.rounds || seen.since == Stamp(0) {
                seen.rounds = rounds;
                seen.since = now;
                seen.counted = false;
                continue;
            }
            seen.longest_ticks = seen.longest_ticks.max(now.0.saturating_sub(seen.since.0));
            if !seen.counted && self.clock.nanos_between(seen.since, now) > STALL_NS {
                seen.counted = true;
                let place = usize::try_from(thread.pulse.turning.get()).unwrap_or(0);
                if seen.stalls.len() <= place {
                    seen.stalls.resize(place + 1, 0);
                }
                seen.stalls[place] += 1;
            }
        }
    }

    fn read_masks(&self, seen: &mut [Seen]) {
        for (thread, seen) in self.threads.iter().zip(seen) {
            if pin::affinity_of(thread.id).is_ok_and(|mask| mask != [thread.cpu]) {
                seen.drifts += 1;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a control thread on housekeeping CPUs may sleep")]
fn rest(time: Duration) {
    thread::sleep(time);
}
