//! A feed from sockets: polls its venue's connections, never waits for the network.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kairos_adapters::lines::{Lines, NoTap, Publisher};
use kairos_adapters::link::Link;
use kairos_logic::event::{Event, GapReason, StatusCode, Verb};
use kairos_logic::units::{InstrumentId, Nanos, Stamp};

use super::{Broken, Sink, is_link, publish_wanted, stop_wanted};
use crate::clock::Clock;
use crate::meter::{Meters, SeatMeter, VenueMeter};
use crate::ring::FeedDoor;
use crate::seat::{Looked, Seat};
use crate::simulated::Simulated;

/// What a live feed is made of.
pub struct LiveParts {
    /// The venue's connections.
    pub lines: Lines,
    /// The simulated exchange at the other end, where there is one: lives as long as its feed.
    pub exchange: Option<Simulated>,
    /// Nanoseconds between timer ticks; 0 is none.
    pub timer_ns: u64,
    /// How long market data may wait for an IN that does not move before it is dropped as a whole.
    pub hold_ns: u64,
    /// Books that logic found broken.
    pub broken: Arc<Broken>,
    /// Events that go in before anything else; the first feed has them.
    pub first: Vec<Event>,
}

/// IN counts as moving while it takes this many of the events that wait within `hold_ns`. A snapshot
/// of a large venue is longer than the ring: what matters is that the pipeline works on it.
const MOVED_MIN: usize = 1_024;

/// Market data that waits for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    since: Stamp,
    /// How many events waited then.
    events: usize,
}

impl Waiting {
    /// A look at `at`, after an attempt to publish that left `left` of `before` events: since when
    /// they wait for a pipeline that does not move, or `None` where this attempt got through to it.
    fn look(&mut self, at: Stamp, before: usize, left: usize) -> Option<Stamp> {
        if left + MOVED_MIN <= self.events {
            *self = Self { since: at, events: left };
        }
        (left >= before).then_some(self.since)
    }
}

/// The feed seat of one venue.
pub struct LiveFeed {
    sink: Sink,
    lines: Lines,
    waiting: Option<Waiting>,
    hold_ns: u64,
    next_tick: Nanos,
    timer_ns: u64,
    stop_sent: bool,
    first: std::vec::IntoIter<Event>,
    broken: Arc<Broken>,
    number: usize,
    meters: Arc<Meters>,
    _exchange: Option<Simulated>,
}

impl Publisher for Sink {
    fn begin(&mut self) {
        Self::begin(self);
    }

    #[inline]
    fn put(&mut self, event: Event) {
        Self::put(self, event);
    }
}

impl LiveFeed {
    /// A feed that is not connected yet.
    pub fn new(
        parts: LiveParts,
        number: usize,
        door: FeedDoor,
        clock: Clock,
        meters: Arc<Meters>,
    ) -> Self {
        Self {
            sink: Sink::new(door, clock),
            lines: parts.lines,
            waiting: None,
            hold_ns: parts.hold_ns,
            next_tick: Nanos(0),
            timer_ns: parts.timer_ns,
            stop_sent: false,
            first: parts.first.into_iter(),
            broken: parts.broken,
            number,
            meters,
            _exchange: parts.exchange,
        }
    }

    const fn is_first(&self) -> bool {
        self.number == 0
    }

    fn meter(&self, link: usize) -> Option<&VenueMeter> {
        self.meters.feeds.get(self.number).and_then(|it| it.venues.get(link))
    }

    fn now(&self) -> (Stamp, Nanos) {
        let stamp = self.sink.clock.stamp();
        (stamp, self.sink.clock.wall(stamp))
    }

    /// Mends books that logic found broken, and tells the stats page.
    fn look(&mut self, now: Nanos) {
        let Self { lines, sink, broken, .. } = self;
        for place in 0..lines.links().len() {
            let ids = lines.links().get(place).map(|it| it.instruments().len()).unwrap_or(0);
            for nth in 0..ids {
                let id = lines.links().get(place).and_then(|it| it.instruments().get(nth));
                let Some(&id) = id else { continue };
                if let Some(why) = broken.take_of(id) {
                    lines.resync(now, Some(id), why, sink);
                }
            }
        }
        for (place, link) in self.lines.links().iter().enumerate() {
            if let Some(meter) = self.meter(place) {
                tell(meter, link, self.lines.stamped_ns(place));
            }
        }
    }

    fn tick(&mut self, now: Nanos) {
        let due = self.is_first() && self.timer_ns > 0 && now >= self.next_tick;
        if due && self.sink.offer(Event::timer(now)) {
            self.next_tick = now.plus(self.timer_ns);
        }
    }

    /// Market data found no room for too long: all of it goes, and every book with it.
    #[cold]
    fn drop_held(&mut self, stamp: Stamp, now: Nanos) {
        let dropped = i64::try_from(self.sink.held.len()).unwrap_or(i64::MAX);
        self.sink.held.retain(is_link);
        self.waiting = None;
        if let Some(meter) = self.meter(0) {
            meter.dropped.add(dropped.unsigned_abs());
        }
        let Self { lines, sink, .. } = self;
        sink.begin();
        let (none, venue) = (InstrumentId::NONE, lines.venue());
        let mut event = Event::status(now, none, venue, StatusCode::Dropped, dropped);
        event.recv = stamp;
        sink.put(event);
        lines.resync(now, None, GapReason::Dropped, sink);
    }

    /// Publishes what waits; `false` while something still does.
    fn flush(&mut self) -> bool {
        let before = self.sink.held.len();
        if self.sink.flush() {
            self.waiting = None;
            return true;
        }
        if let Some(meter) = self.meters.feeds.get(self.number) {
            meter.seat.held.add(1);
        }
        let (stamp, now) = self.now();
        let left = self.sink.held.len();
        let waiting = self.waiting.get_or_insert(Waiting { since: stamp, events: left });
        if let Some(since) = waiting.look(stamp, before, left)
            && self.sink.clock.nanos_between(since, stamp) > self.hold_ns
        {
            self.drop_held(stamp, now);
        }
        false
    }

    /// What goes in before anything else. `false` while it is not all in.
    fn begin(&mut self, now: Nanos) -> bool {
        if self.meters.begun.load(Ordering::Relaxed) {
            return true;
        }
        if !self.is_first() {
            return self.meters.begun.load(Ordering::Acquire);
        }
        while let Some(&event) = self.first.as_slice().first() {
            if !self.sink.offer(Event { at: now, ..event }) {
                return false;
            }
            self.first.next();
        }
        self.meters.begun.store(true, Ordering::Release);
        true
    }

    /// The stop is one event, behind the last of every feed.
    fn stop(&mut self, now: Nanos) {
        let Some(meter) = self.meters.feeds.get(self.number) else { return };
        if self.is_first() {
            let others = self.meters.feeds.iter().skip(1);
            if !others.map(|it| &it.seat).all(SeatMeter::is_finished) {
                return;
            }
            self.stop_sent = self.sink.offer(Event::command(now, Verb::Stop, 0));
        } else {
            self.stop_sent = true;
        }
        if self.stop_sent {
            meter.seat.finish();
        }
    }
}

/// Tells the stats page what a link counted. `stamped` is the kernel's time of its last bytes.
fn tell(meter: &VenueMeter, link: &Link, stamped: u64) {
    let counts = link.counts();
    meter.frames.set(counts.frames);
    meter.bytes.set(counts.bytes);
    meter.events.set(counts.events);
    meter.malformed.set(counts.malformed);
    meter.gaps.set(counts.gaps);
    meter.resyncs.set(counts.resyncs);
    meter.reconnects.set(counts.reconnects);
    meter.last_message_at.set(counts.last_message_at.0);
    meter.connected.set(u64::from(link.is_up()));
    let waited = counts.last_message_at.0.saturating_sub(stamped);
    meter.kernel_ns.set(if stamped > 0 { waited } else { 0 });
}

impl Seat for LiveFeed {
    fn turn(&mut self) -> Looked {
        let (_, now) = self.now();
        if self.is_first() && self.meters.begun.load(Ordering::Relaxed) {
            publish_wanted(&mut self.sink, &self.meters, now);
        }
        if !self.flush() || self.stop_sent || !self.begin(now) {
            return Looked::Idle;
        }
        if stop_wanted(&self.meters) {
            self.stop(now);
            return Looked::Busy;
        }
        let clock = self.sink.clock.clone();
        let read_clock = || {
            let stamp = clock.stamp();
            (stamp, clock.wall(stamp))
        };
        let turned = self.lines.turn(&read_clock, &mut NoTap, &mut self.sink);
        self.tick(now);
        if turned.looked {
            self.look(now);
        }
        if turned.read { Looked::Busy } else { Looked::Idle }
    }

    fn close(mut self: Box<Self>) {
        self.lines.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_late_only_behind_a_pipeline_that_does_not_move() {
        // Each look: when, events before the attempt to publish and after it, since when they wait.
        let check = |looks: &[(u64, usize, usize, Option<u64>)]| {
            let mut waiting = Waiting { since: Stamp(100), events: 10_000 };
            for &(at, before, left, want) in looks {
                let found = waiting.look(Stamp(at), before, left).map(|it| it.0);
                assert_eq!(found, want, "at {at} of {looks:?}");
            }
        };
        // Nothing is taken: the wait goes on.
        check(&[(200, 10_000, 10_000, Some(100)), (300, 10_000, 10_000, Some(100))]);
        // Something was taken just now: late as it may be, the pipeline moves.
        check(&[(200, 10_000, 9_999, None), (300, 9_999, 9_999, Some(100))]);
        // Enough was taken, at once or by and by: the wait begins anew.
        check(&[(200, 10_000, 8_976, None), (300, 8_976, 8_976, Some(200))]);
        check(&[(200, 10_000, 8_977, None), (300, 8_977, 8_977, Some(100))]);
        check(&[
            (200, 10_000, 9_500, None),
            (300, 9_500, 8_900, None),
            (400, 8_900, 8_900, Some(300)),
        ]);
        // What a frame added while others waited takes nothing away.
        check(&[(200, 12_000, 12_000, Some(100))]);
    }
}
