//! A feed from capture files, under one virtual clock for all venues.
//!
//! The clock releases the earliest of: an act of the simulated venue, a timer tick, a line of a
//! capture; ties in that order, lines in configuration order. With all seats on one thread the next
//! is released only when every seat has everything: the run is then a function of its captures and
//! its configuration, at any pace. With several threads the interleaving is real and recorded.

use std::sync::{Arc, OnceLock};

use kairos_adapters::capture::{CaptureError, Frame, FrameKind, Merge};
use kairos_adapters::session::{Arrival, MarketSession, evidence};
use kairos_logic::event::{Event, StatusCode, Verb};
use kairos_logic::units::{InstrumentId, Nanos, Stamp};

use super::{Broken, Sink, Speaker, publish_wanted, stop_wanted, tell};
use crate::clock::Clock;
use crate::meter::Meters;
use crate::ring::FeedDoor;
use crate::seat::{Looked, Seat};

/// Events that may wait in IN before a capture that is not in lockstep reads on. Enough to keep two
/// threads busy, some tenths of a second of a busy market.
const AHEAD_MAX: u64 = 64;

/// How fast recorded time passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the pipeline takes it.
    Max,
    /// This many recorded seconds per second; 1.0 is as recorded.
    Factor(f64),
}

/// Why a capture ended early. Read by the control thread after the run.
pub type CaptureFault = Arc<OnceLock<CaptureError>>;

/// What a capture feed is made of.
pub struct CaptureParts {
    /// The files of all venues, merged by receive time.
    pub lines: Merge,
    /// The session of each file, by place: a file is one connection.
    pub sessions: Vec<Box<dyn MarketSession>>,
    /// How fast.
    pub pace: Pace,
    /// Nanoseconds between timer ticks; 0 is none.
    pub timer_ns: u64,
    /// Release the next only when every seat has everything.
    pub lockstep: bool,
    /// Where an unreadable line or file is told.
    pub fault: CaptureFault,
    /// Books that logic found broken.
    pub broken: Arc<Broken>,
    /// Events that go in before the first line: what an earlier run left to be remembered.
    pub first: Vec<Event>,
}

/// The feed seat under capture.
pub struct CaptureFeed {
    sink: Sink,
    speakers: Vec<Speaker>,
    lines: Merge,
    /// Receive time of the next line; `None` when the captures have ended.
    next_line: Option<Nanos>,
    next_tick: Option<Nanos>,
    now: Nanos,
    pacer: Pacer,
    timer_ns: u64,
    lockstep: bool,
    opened: bool,
    end_told: bool,
    stop_sent: bool,
    first: std::vec::IntoIter<Event>,
    fault: CaptureFault,
    broken: Arc<Broken>,
    number: usize,
    meters: Arc<Meters>,
}

/// What the virtual clock releases next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Release {
    /// An act of the simulated venue, at this time.
    Venue(Nanos),
    /// A timer tick.
    Tick(Nanos),
    /// The next line.
    Line(Nanos),
    /// Nothing is left.
    Nothing,
}

/// The earliest of the three; ties go to the venue, then to the tick.
fn earliest(due: Option<Nanos>, tick: Option<Nanos>, line: Option<Nanos>) -> Release {
    let late = Nanos(u64::MAX);
    let (due_at, tick_at, line_at) =
        (due.unwrap_or(late), tick.unwrap_or(late), line.unwrap_or(late));
    match (due, tick, line) {
        (Some(at), ..) if at <= tick_at && at <= line_at => Release::Venue(at),
        (_, Some(at), _) if at <= line_at && at <= due_at => Release::Tick(at),
        (.., Some(at)) => Release::Line(at),
        _ => Release::Nothing,
    }
}

impl CaptureFeed {
    /// A feed at the start of its captures.
    pub fn new(
        parts: CaptureParts,
        number: usize,
        door: FeedDoor,
        clock: Clock,
        meters: Arc<Meters>,
    ) -> Self {
        let mut feed = Self {
            pacer: Pacer::new(parts.pace, clock.clone()),
            sink: Sink::new(door, clock),
            speakers: parts.sessions.into_iter().map(Speaker::new).collect(),
            lines: parts.lines,
            next_line: None,
            next_tick: None,
            now: Nanos(0),
            timer_ns: parts.timer_ns,
            lockstep: parts.lockstep,
            opened: false,
            end_told: false,
            stop_sent: false,
            first: parts.first.into_iter(),
            fault: parts.fault,
            broken: parts.broken,
            number,
            meters,
        };
        feed.read_line();
        feed.now = feed.next_line.unwrap_or_default();
        feed.meters.virtual_now.set(feed.now.0);
        if feed.timer_ns > 0 && feed.next_line.is_some() {
            feed.next_tick = Some(feed.now.plus(feed.timer_ns));
        }
        feed
    }

    /// What an earlier run left to be remembered goes in before anything else: a run that has any
    /// input at all then has this one.
    fn begin(&mut self) {
        while let Some(&event) = self.first.as_slice().first() {
            let event = Event { at: self.now, ..event };
            if !self.sink.offer(event) {
                return;
            }
            self.first.next();
        }
        if !self.opened {
            self.opened = true;
            self.open();
        }
    }

    fn open(&mut self) {
        self.tell_venues(StatusCode::Connected);
        let Self { sink, speakers, now, .. } = self;
        for speaker in speakers {
            speaker.session.on_open(*now, &mut speaker.outbox, &mut |event| sink.put(event));
            // Nobody answers a request here: the replies stand in the capture.
            speaker.outbox.clear();
        }
    }

    /// Whether the pipeline is ready for more. In lockstep: when every seat has everything. Else when
    /// little waits: a feed that ran far ahead would trade with reports that come a minute of
    /// recorded time late.
    fn may_go_on(&self) -> bool {
        if self.lockstep {
            return self.meters.is_settled();
        }
        let waiting = self.meters.in_published().saturating_sub(self.meters.in_taken());
        // Orders that wait at the gate would leave a disk's flush too late.
        let orders = self.meters.execution.taken_orders.get();
        waiting <= AHEAD_MAX && orders == self.meters.orders_published.get()
    }

    /// Reads ahead by one line. What cannot be read ends the capture, and the run with it.
    fn read_line(&mut self) {
        self.next_line = self.lines.peek().unwrap_or_else(|error| {
            let _first = self.fault.set(error);
            None
        });
    }

    fn take_line(&mut self) {
        let Self { sink, speakers, lines, fault, meters, number, .. } = self;
        match lines.next() {
            Ok(Some(frame)) => {
                if let Some(speaker) = speakers.get_mut(frame.source) {
                    hear(&frame, speaker, sink);
                    let feed = meters.feeds.get(*number);
                    if let Some(meter) = feed.and_then(|it| it.venues.get(frame.source)) {
                        tell(meter, speaker.session.counters(), frame.bytes.len(), frame.recv);
                    }
                }
            }
            Ok(None) => {}
            Err(error) => {
                let _first = fault.set(error);
            }
        }
        self.read_line();
    }

    fn mend_books(&mut self) {
        let Self { sink, speakers, broken, now, .. } = self;
        broken.take(|instrument, why| {
            for Speaker { session, outbox } in speakers.iter_mut() {
                session.resync(*now, Some(instrument), why, outbox, &mut |event| sink.put(event));
                outbox.clear();
            }
        });
    }

    /// What the virtual clock may release: after the stop, only what the venue still has to say.
    fn choose(&self) -> Release {
        let due = self.meters.sim_due.get();
        let due = (due != u64::MAX).then_some(Nanos(due));
        let line = if self.stop_sent { None } else { self.next_line };
        let tick = if line.is_some() || due.is_some() { self.next_tick } else { None };
        earliest(due, tick, line)
    }

    fn release(&mut self) -> Looked {
        match self.choose() {
            Release::Venue(at) => {
                if self.meters.virtual_now.get() >= at.0 {
                    return Looked::Idle; // told already; the venue has yet to act
                }
                self.advance_to(at);
            }
            Release::Tick(at) => {
                if !self.sink.offer(Event::timer(at)) {
                    return Looked::Idle;
                }
                self.advance_to(at);
                self.next_tick = Some(at.plus(self.timer_ns));
                self.tick_sessions();
            }
            Release::Line(at) => {
                if !self.pacer.is_due(at) {
                    return Looked::Idle;
                }
                self.advance_to(at);
                self.take_line();
            }
            Release::Nothing if !self.stop_sent => self.send_stop(),
            Release::Nothing => {
                if self.meters.is_settled() {
                    self.finish();
                }
                return Looked::Idle;
            }
        }
        Looked::Busy
    }

    fn tick_sessions(&mut self) {
        let Self { sink, speakers, now, .. } = self;
        sink.begin();
        for Speaker { session, outbox } in speakers {
            session.on_time(*now, outbox, &mut |event| sink.put(event));
            outbox.clear();
        }
    }

    /// The recorded times of several files and the venue's acts may step back; the clock does not.
    fn advance_to(&mut self, at: Nanos) {
        self.now = self.now.max(at);
        self.meters.virtual_now.set(self.now.0);
    }

    /// Says the same of every venue, once.
    fn tell_venues(&mut self, code: StatusCode) {
        let Self { sink, speakers, now, .. } = self;
        let mut told = None;
        for Speaker { session, .. } in speakers {
            let venue = session.venue(); // files of one venue stand together
            if told.replace(venue) != Some(venue) {
                sink.put(Event::status(*now, InstrumentId::NONE, venue, code, 0));
            }
        }
    }

    fn send_stop(&mut self) {
        if self.next_line.is_none() && !self.end_told {
            self.end_told = true;
            self.sink.begin();
            self.tell_venues(StatusCode::EndOfCapture);
        }
        self.stop_sent = self.sink.offer(Event::command(self.now, Verb::Stop, 0));
    }

    fn finish(&self) {
        if let Some(meter) = self.meters.feeds.get(self.number) {
            meter.seat.finish();
        }
    }
}

/// Hands one line to the session of its venue.
fn hear(frame: &Frame<'_>, speaker: &mut Speaker, sink: &mut Sink) {
    let Speaker { session, outbox } = speaker;
    let arrival = Arrival { at: frame.recv, recv: sink.clock.stamp(), number: frame.line };
    sink.begin();
    let mut publish = |event: Event| {
        sink.put(event);
        evidence(&event, frame.bytes, &mut |it| sink.put(it));
    };
    match frame.kind {
        FrameKind::Text => session.on_frame(arrival, frame.bytes, outbox, &mut publish),
        FrameKind::Rest { target, .. } => {
            session.on_rest(arrival, target, frame.bytes, outbox, &mut publish);
        }
    }
    // Nobody answers a request here: the replies stand in the capture.
    outbox.clear();
}

impl Seat for CaptureFeed {
    fn turn(&mut self) -> Looked {
        if self.opened {
            publish_wanted(&mut self.sink, &self.meters, self.now);
        }
        if !self.sink.flush() {
            if let Some(meter) = self.meters.feeds.get(self.number) {
                meter.seat.held.add(1);
            }
            return Looked::Idle;
        }
        if !self.may_go_on() {
            return Looked::Idle;
        }
        if !self.opened {
            self.begin();
            return Looked::Busy;
        }
        self.mend_books();
        if stop_wanted(&self.meters) && !self.stop_sent {
            self.send_stop();
            return Looked::Busy;
        }
        self.release()
    }
}

/// Holds recorded time against the host's.
struct Pacer {
    pace: Pace,
    clock: Clock,
    start: Option<(Nanos, Stamp)>,
}

impl Pacer {
    fn new(pace: Pace, clock: Clock) -> Self {
        Self { pace, clock, start: None }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a pace needs no more than the 53 bits of a double: 104 days of nanoseconds"
    )]
    fn is_due(&mut self, at: Nanos) -> bool {
        let Pace::Factor(factor) = self.pace else { return true };
        let now = self.clock.stamp();
        let (first, start) = *self.start.get_or_insert((at, now));
        let passed = self.clock.nanos_between(start, now) as f64 * factor;
        at.since(first) <= passed as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_releases_the_earliest_and_ties_go_to_the_venue_then_the_tick() {
        let check = |due: u64, tick: u64, line: u64, want: Release| {
            let some = |at: u64| (at > 0).then_some(Nanos(at));
            assert_eq!(earliest(some(due), some(tick), some(line)), want, "{due} {tick} {line}");
        };
        check(5, 5, 5, Release::Venue(Nanos(5)));
        check(0, 5, 5, Release::Tick(Nanos(5)));
        check(6, 5, 5, Release::Tick(Nanos(5)));
        check(6, 7, 5, Release::Line(Nanos(5)));
        check(0, 0, 5, Release::Line(Nanos(5)));
        check(9, 0, 0, Release::Venue(Nanos(9)));
        check(9, 3, 0, Release::Tick(Nanos(3)));
        check(0, 0, 0, Release::Nothing);
    }

    #[test]
    fn a_factor_stretches_recorded_time_and_max_does_not_wait() {
        assert!(Pacer::new(Pace::Max, Clock::new()).is_due(Nanos(u64::MAX)));
        let mut slow = Pacer::new(Pace::Factor(1e-6), Clock::new());
        assert!(slow.is_due(Nanos(1_000)), "the first line starts the clock");
        assert!(!slow.is_due(Nanos(1_000_000_001_000)));
        let mut fast = Pacer::new(Pace::Factor(1e12), Clock::new());
        assert!(fast.is_due(Nanos(1)));
        while !fast.is_due(Nanos(1_000_000)) {}
    }
}
