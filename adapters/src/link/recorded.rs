//! Recorded connections of one link, played back together: who speaks when.
//!
//! A link that was recorded over a day leaves several captures: of connections that were lost, and of
//! those that overlapped their successors. Played back each has a session of its own. What goes
//! through is what the link let through: nothing of a connection that is over, a gap where one was
//! lost, and where two overlap the hand-over by instrument.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kairos_logic::event::{Event, GapReason};
use kairos_logic::units::{InstrumentId, Nanos, VenueId};

use super::handover::Handover;
use crate::session::{Arrival, Counters, Dial, MarketSession, NoAddress, Outbox, Publish};

/// What was recorded of one connection of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it was opened.
    pub opened: Nanos,
    /// When it was over; `None` where the recording ended before it.
    pub closed: Option<Nanos>,
}

impl Span {
    fn is_over(self, at: Nanos) -> bool {
        self.closed.is_some_and(|closed| at >= closed)
    }
}

#[derive(Debug)]
struct Stage {
    spans: Vec<Span>,
    active: usize,
    handover: Handover,
}

/// A session that speaks only when its connection did.
struct Recorded {
    session: Box<dyn MarketSession>,
    place: usize, // among the connections of its link
    stage: Arc<Mutex<Stage>>,
}

/// Makes the sessions of one link's recorded connections one: each comes with the span of its
/// connection, and goes out in its place. All serve the same instruments.
#[must_use]
pub fn together(sessions: Vec<(Box<dyn MarketSession>, Span)>) -> Vec<Box<dyn MarketSession>> {
    let Some((first, _)) = sessions.first() else { return Vec::new() };
    let handover = Handover::new(first.instruments());
    let spans: Vec<Span> = sessions.iter().map(|it| it.1).collect();
    let active = (0..spans.len()).min_by_key(|&it| spans[it].opened).unwrap_or(0);
    let stage = Arc::new(Mutex::new(Stage { spans, active, handover }));
    let wrap = |(place, (session, _)): (usize, (Box<dyn MarketSession>, Span))| {
        let stage = Arc::clone(&stage);
        Box::new(Recorded { session, place, stage }) as Box<dyn MarketSession>
    };
    sessions.into_iter().enumerate().map(wrap).collect()
}

/// What a connection is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It speaks.
    Speaker,
    /// It will, instrument by instrument.
    Successor,
    /// It has spoken.
    Former,
}

impl Stage {
    /// What this connection is, now that something came over it. Tells of the end of another.
    fn part(&mut self, place: usize, at: Nanos, publish: &mut Publish<'_>) -> Part {
        let (Some(&own), Some(&other)) = (self.spans.get(place), self.spans.get(self.active))
        else {
            return Part::Former;
        };
        if place == self.active {
            return Part::Speaker;
        }
        if own.opened < other.opened {
            return Part::Former;
        }
        if !other.is_over(at) {
            if !self.handover.is_on() {
                self.handover.begin(at);
            }
            return Part::Successor;
        }
        // The speaker was lost; whoever comes now begins with nothing, or goes on where it stood.
        if self.handover.is_on() {
            self.handover.end();
        } else {
            for id in self.handover.instruments() {
                publish(Event::gap(at, id, GapReason::Disconnected, 0, 0));
            }
        }
        self.active = place;
        Part::Speaker
    }

    /// The instruments that a successor had taken when it was lost: the speaker speaks for them again.
    fn given_back(&mut self, at: Nanos) -> Vec<InstrumentId> {
        let opened = self.spans.get(self.active).map_or(Nanos(0), |it| it.opened);
        let later = |it: &&Span| it.opened > opened && it.opened <= at;
        let gone = self.spans.iter().filter(later).all(|it| it.is_over(at));
        if self.handover.is_on() && gone { self.handover.end() } else { Vec::new() }
    }
}

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    // One thread plays all of them: nobody waits here.
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorded {
    /// Does something with the session, and publishes what this connection has to say.
    fn play(
        &mut self,
        at: Nanos,
        publish: &mut Publish<'_>,
        out: &mut Outbox,
        what: impl FnOnce(&mut dyn MarketSession, &mut Outbox, &mut Publish<'_>),
    ) {
        let Self { session, place, stage } = self;
        let mut stage = lock(stage);
        let part = stage.part(*place, at, publish);
        if part == Part::Speaker {
            for id in stage.given_back(at) {
                session.resync(at, Some(id), GapReason::Disconnected, out, publish);
            }
        }
        let Stage { handover, active, .. } = &mut *stage;
        what(session.as_mut(), out, &mut |event| match part {
            Part::Speaker => handover.filter(true, event, publish),
            Part::Successor => handover.filter(false, event, publish),
            Part::Former => {}
        });
        if handover.is_complete() {
            handover.end();
            *active = *place;
        }
    }
}

impl MarketSession for Recorded {
    fn venue(&self) -> VenueId {
        self.session.venue()
    }

    fn instruments(&self) -> &[InstrumentId] {
        self.session.instruments()
    }

    fn dial(&self) -> Dial {
        self.session.dial()
    }

    fn on_dial_reply(&mut self, body: &[u8]) -> Result<String, NoAddress> {
        self.session.on_dial_reply(body)
    }

    fn on_open(&mut self, at: Nanos, out: &mut Outbox, publish: &mut Publish<'_>) {
        // Only the first says that its books are not known: they are no others.
        let is_first = lock(&self.stage).active == self.place;
        self.session.on_open(at, out, &mut |event| {
            if is_first {
                publish(event);
            }
        });
    }

    fn on_frame(
        &mut self,
        arrival: Arrival,
        frame: &[u8],
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        self.play(arrival.at, publish, out, |session, out, publish| {
            session.on_frame(arrival, frame, out, publish);
        });
    }

    fn on_snapshot(
        &mut self,
        arrival: Arrival,
        instrument: Option<InstrumentId>,
        body: &[u8],
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        self.play(arrival.at, publish, out, |session, out, publish| {
            session.on_snapshot(arrival, instrument, body, out, publish);
        });
    }

    fn on_rest(
        &mut self,
        arrival: Arrival,
        target: Option<&str>,
        body: &[u8],
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        self.play(arrival.at, publish, out, |session, out, publish| {
            session.on_rest(arrival, target, body, out, publish);
        });
    }

    fn on_snapshot_failed(&mut self, at: Nanos, instrument: InstrumentId) {
        self.session.on_snapshot_failed(at, instrument);
    }

    fn on_alive(&mut self, at: Nanos) {
        self.session.on_alive(at);
    }

    fn is_whole(&self) -> bool {
        lock(&self.stage).active != self.place || self.session.is_whole()
    }

    fn on_time(&mut self, at: Nanos, out: &mut Outbox, publish: &mut Publish<'_>) {
        // Time alone makes nobody the speaker.
        let speaks = lock(&self.stage).active == self.place;
        self.session.on_time(at, out, &mut |event| {
            if speaks {
                publish(event);
            }
        });
    }

    fn on_close(&mut self, at: Nanos, publish: &mut Publish<'_>) {
        let speaks = lock(&self.stage).active == self.place;
        self.session.on_close(at, &mut |event| {
            if speaks {
                publish(event);
            }
        });
    }

    fn resync(
        &mut self,
        at: Nanos,
        instrument: Option<InstrumentId>,
        why: GapReason,
        out: &mut Outbox,
        publish: &mut Publish<'_>,
    ) {
        let speaks = lock(&self.stage).active == self.place;
        if speaks {
            self.session.resync(at, instrument, why, out, publish);
        }
    }

    fn instrument(&self, symbol: &str) -> Option<InstrumentId> {
        self.session.instrument(symbol)
    }

    fn counters(&self) -> &Counters {
        self.session.counters()
    }
}
