//! The rings: the only file that names `disruptor`'s pollers and producers.
//!
//! A poller yields `&E` without a sequence and marks a whole batch read when its guard drops. So an
//! [`Inlet`] counts (it sees every slot once, from zero: the count is the sequence), hands out
//! every event of a batch, and bounds a batch by `take`, never by breaking off.
//!
//! `publish` spins for ever on a full ring and is never called: producers try, and each seat states
//! what happens when there is no room.

use std::collections::VecDeque;
use std::sync::Arc;

use disruptor::{EventPoller, Polling, Producer};
use kairos_logic::event::Event;
use kairos_logic::units::Seq;

use crate::meter::Meters;
use crate::prefetch;
use crate::seat::Looked;

/// A consumer's end of a ring.
pub trait Inlet<E>: Send {
    /// Hands up to `max` waiting slots to `take`, in order, each with its position.
    fn look(&mut self, max: u64, take: impl FnMut(Seq, &E)) -> Looked;

    /// Position of the next slot: how many it has finished with.
    fn position(&self) -> u64;
}

/// A poller that knows its position.
pub struct Counted<P> {
    poller: P,
    next: u64,
}

impl<P> Counted<P> {
    /// Counts the slots of a poller that has not been read yet.
    #[must_use]
    pub fn new(poller: P) -> Self {
        Self { poller, next: 0 }
    }
}

// By macro, because the trait that the three barriers share is private to the crate.
macro_rules! inlet {
    ($($barrier:ident),*) => { $(
        impl<E: Send + Sync> Inlet<E> for Counted<EventPoller<E, disruptor::$barrier>> {
            #[inline]
            fn look(&mut self, max: u64, mut take: impl FnMut(Seq, &E)) -> Looked {
                let mut batch = match self.poller.take(max) {
                    Ok(batch) => batch,
                    Err(Polling::NoEvents) => return Looked::Idle,
                    Err(Polling::Shutdown) => return Looked::Closed,
                };
                let before = self.next;
                for slot in &mut batch {
                    take(Seq(self.next), slot);
                    self.next += 1;
                }
                if self.next == before { Looked::Idle } else { Looked::Busy }
            }

            fn position(&self) -> u64 {
                self.next
            }
        }
    )* };
}

inlet!(SingleProducerBarrier, MultiProducerBarrier, SingleConsumerBarrier, MultiConsumerBarrier);

/// How many slots a turn takes: few while the consumer keeps up, more while it is behind.
///
/// A consumer that reads a multi-producer ring finds the newest slot by walking over one bit for each
/// slot that waits: about 0.7 ns each, on every look, however few it then takes. With 50 000 slots
/// waiting and four taken that is 9 µs for an event, so a consumer that fell behind would stay
/// behind. Doubling the batch while every look finds a full one keeps the walk below a nanosecond or
/// two for an event; what waits behind a larger batch was late anyway.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    usual: u64,
    most: u64,
    now: u64,
}

impl Batch {
    /// `usual` while keeping up, up to `most` while behind.
    #[must_use]
    pub const fn new(usual: u64, most: u64) -> Self {
        Self { usual, most, now: usual }
    }

    /// What the next look may take.
    #[inline]
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.now
    }

    /// Learns from what a look took, of `asked`.
    #[inline]
    pub fn took(&mut self, taken: u64, asked: u64) {
        // A look that was bounded by something else says nothing about what waits.
        if asked == self.now {
            self.now = if taken < asked { self.usual } else { (self.now * 2).min(self.most) };
        }
    }
}

/// A producer's end of a ring.
pub trait Outlet<E>: Send {
    /// Publishes `value` in the next slot; `false` and nothing else where the ring is full.
    fn offer(&mut self, value: E) -> bool;
}

impl<E: Send, P: Producer<E> + Send> Outlet<E> for P {
    #[inline]
    fn offer(&mut self, value: E) -> bool {
        // The closure only assigns: a panic inside would leave a hole that every consumer waits at.
        self.try_publish(|slot| {
            *slot = value;
            prefetch::next_of(slot);
        })
        .is_ok()
    }
}

/// Takes slots one at a time while a condition on them holds: how risk takes one cause's proposals.
pub struct Ahead<E, I> {
    inlet: I,
    waiting: Option<E>,
}

impl<E: Copy, I: Inlet<E>> Ahead<E, I> {
    /// Reads ahead in `inlet` by one slot.
    #[must_use]
    pub fn new(inlet: I) -> Self {
        Self { inlet, waiting: None }
    }

    /// The next slot, where there is one and `wanted` holds for it. Its slot is free afterwards.
    #[inline]
    pub fn next_if(&mut self, wanted: impl Fn(&E) -> bool) -> Option<E> {
        if self.waiting.is_none() {
            self.inlet.look(1, |_, slot| self.waiting = Some(*slot));
        }
        match self.waiting {
            Some(slot) if wanted(&slot) => self.waiting.take(),
            _ => None,
        }
    }

    /// How many slots were read from the ring.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.inlet.position()
    }
}

/// The producing end of IN. Every input of the engine passes one of these.
pub type FrontDoor = disruptor::MultiProducer<Event, disruptor::MultiConsumerBarrier>;

/// The front door as a feed sees it: market data may not fill the ring to the brim.
///
/// A quarter of IN stays free for reports, commands and timer ticks. Without it a fast feed could
/// take every slot that falls free, and execution, whose reports must never be dropped, would wait
/// behind market data for ever.
pub struct FeedDoor {
    door: FrontDoor,
    /// Place of the feed among the feeds.
    feed: usize,
    market_slots: u64,
    /// Market events that may be published before the room is looked at again.
    allowance: u64,
    published: u64,
    meters: Arc<Meters>,
}

impl FeedDoor {
    /// The door of feed number `feed` to an IN of `slots` slots.
    #[must_use]
    pub fn new(door: FrontDoor, feed: usize, slots: usize, meters: Arc<Meters>) -> Self {
        let market_slots = slots as u64 / 4 * 3;
        Self { door, feed, market_slots, allowance: 0, published: 0, meters }
    }

    /// Publishes market data, where there is room that is not kept for others.
    #[inline]
    pub fn offer_market(&mut self, event: Event) -> bool {
        if self.allowance == 0 {
            self.allowance = self.look_for_room();
            if self.allowance == 0 {
                return false;
            }
        }
        let sent = self.offer(event);
        self.allowance -= u64::from(sent);
        sent
    }

    /// Publishes anything else, where there is any room.
    #[inline]
    pub fn offer(&mut self, event: Event) -> bool {
        let sent = self.door.offer(event);
        if sent {
            self.published += 1;
            if let Some(meter) = self.meters.feeds.get(self.feed) {
                meter.seat.published_in.set(self.published);
            }
        }
        sent
    }

    /// This feed's share of the free slots: several feeds that look at the same moment must not
    /// together pass the mark.
    fn look_for_room(&self) -> u64 {
        let taken = self.meters.in_taken();
        let waiting = self.meters.in_published().saturating_sub(taken);
        self.market_slots.saturating_sub(waiting) / self.meters.feeds.len().max(1) as u64
    }
}

/// A queue with room for so many events, in memory that is there: a queue wanders through all of its
/// room, and a page touched first on a seat would cost a fault.
#[must_use]
pub fn queue(room: usize) -> VecDeque<Event> {
    let mut queue = VecDeque::from(vec![Event::default(); room]);
    queue.clear();
    queue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_grows_while_behind_and_is_small_again_when_it_has_caught_up() {
        let mut batch = Batch::new(4, 20);
        let mut check = |taken: u64, asked: u64, next: u64| {
            batch.took(taken, asked);
            assert_eq!(batch.size(), next, "took {taken} of {asked}");
        };
        check(4, 4, 8);
        check(8, 8, 16);
        check(2, 2, 16);
        check(16, 16, 20);
        check(20, 20, 20);
        check(19, 20, 4);
        check(0, 4, 4);
    }
}
