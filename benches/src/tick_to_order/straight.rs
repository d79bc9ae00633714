//! The straight-line build: one function, no ring, no seat.

use std::collections::VecDeque;

use kairos_adapters::binance::BinanceMarket;
use kairos_adapters::binance::orders::{MESSAGE_MAX, OrderEncoder};
use kairos_adapters::session::{Arrival, Outbox};
use kairos_adapters::sim::paper::PaperVenue;
use kairos_edge::frames;
use kairos_engine::clock::Clock;
use kairos_journal::Writer;
use kairos_logic::code::Code;
use kairos_logic::desk::Desk;
use kairos_logic::event::{Event, Flags, Kind, ReportState};
use kairos_logic::order::{Decision, Intents, Proposal};
use kairos_logic::risk::{Approved, Outcome, Risk};
use kairos_logic::units::{Nanos, Seq, Stamp};

use super::rig::{self, Load, Received, Rig, Run, Schedule};
use crate::{Trouble, alloc, journaling, threads};

/// Room for what one frame says, and for what the venue answers: nothing grows in a run.
const ROOM: usize = 4_096;

/// Runs the load through it.
pub(super) fn run(rig: &Rig, load: &Load) -> Result<Run, Trouble> {
    let dir = rig::directory()?;
    let (writer, keeping) =
        journaling::start(dir.path(), &rig::journal_options(load), &rig.clock, rig.other)?;
    keeping.wait_until_prepared(1)?;
    let table = rig::table();
    let (desk, risk) = rig::logic(&table)?;
    let mut line = Line {
        clock: rig.clock.clone(),
        session: rig::session(&table)?,
        out: Outbox::new(),
        events: VecDeque::with_capacity(ROOM),
        news: VecDeque::with_capacity(ROOM),
        desk,
        risk,
        intents: Intents::new(),
        outcomes: Vec::with_capacity(ROOM),
        venue: rig::venue(&table),
        encoder: OrderEncoder::new(&table, rig::VENUE),
        wire: [0; MESSAGE_MAX],
        writer,
    };
    let mut allocs = 0;
    let mut from = Stamp(0);
    threads::measured_on(rig.hot, || {
        line.open(load);
        let mut received = Received::new(load);
        let schedule = Schedule::new(&line.clock, load);
        from = schedule.measured_from();
        for number in 0..load.messages.len() {
            if number == load.warm_up {
                allocs = alloc::of_this_thread();
            }
            let (due, frame) = (schedule.due(number), received.frame(load, number));
            while line.clock.stamp() < due {}
            line.frame(due, number, frame);
        }
        allocs = alloc::of_this_thread() - allocs;
    });
    keeping.finish(Some(line.writer), &rig.clock)?;
    rig::from_journal(&dir, &rig.clock, from, per_tick(allocs, load))
}

/// Allocations per measured frame.
#[expect(clippy::cast_precision_loss, reason = "counts of a run")]
pub(super) fn per_tick(allocs: u64, load: &Load) -> f64 {
    allocs as f64 / load.measured().max(1) as f64
}

struct Line {
    clock: Clock,
    session: BinanceMarket,
    out: Outbox,
    /// What a frame says.
    events: VecDeque<Event>,
    /// What the venue answers.
    news: VecDeque<Event>,
    desk: Desk,
    risk: Risk,
    intents: Intents,
    outcomes: Vec<(Outcome, Stamp, Stamp)>,
    venue: PaperVenue,
    encoder: OrderEncoder,
    wire: [u8; MESSAGE_MAX],
    writer: Writer,
}

impl Line {
    fn open(&mut self, load: &Load) {
        let recv = self.clock.stamp();
        let at = self.clock.wall(recv);
        let Self { session, out, events, .. } = self;
        rig::open(session, load, (at, recv), out, &mut |event| events.push_back(event));
        self.drain();
    }

    /// One frame, to its order and to the last of the venue's answers.
    fn frame(&mut self, recv: Stamp, number: usize, frame: &[u8]) {
        let arrival = Arrival { at: self.clock.wall(recv), recv, number: number as u64 };
        let Self { clock, session, out, events, .. } = self;
        let (mut first, mut in_after) = (true, 0);
        session.frame(arrival, frame, out, &mut |mut event: Event| {
            // As a feed stamps: the first of a frame, and the last of a change of a book.
            if first || (event.kind == Kind::Book && event.flags.has(Flags::LAST)) {
                first = false;
                in_after = since(clock.stamp(), event.recv);
            }
            event.in_after = in_after;
            events.push_back(event);
        });
        out.clear();
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(event) = self.events.pop_front() {
            self.event(&event);
        }
        while let Some(mut event) = self.news.pop_front() {
            event.in_after = since(self.clock.stamp(), event.recv);
            self.event(&event);
        }
        // They begin at their first places again, which are in the cache.
        self.events.clear();
        self.news.clear();
    }

    /// One input through journal, strategy, risk, journal, encoder and the venue's book.
    fn event(&mut self, event: &Event) {
        let frame = frames::event(event);
        let head = (frame.ts, frame.kind, frame.schema, 0);
        let written = self.writer.append_fixed(head, &frame.ext, &frame.payload);
        let cause = Seq(written.expect("a segment stands ready"));
        self.intents.clear();
        self.desk.on_event(event, &mut self.intents);
        let has_intents = !self.intents.as_slice().is_empty();
        let strategy_at = if has_intents { self.clock.stamp() } else { Stamp(0) };
        let Self { risk, intents, outcomes, clock, .. } = self;
        risk.on_event(cause, event, &mut |it| outcomes.push((it, Stamp(0), clock.stamp())));
        for &intent in intents.as_slice() {
            let outcome = risk.judge(&Proposal { cause, intent, strategy_at });
            outcomes.push((outcome, strategy_at, clock.stamp()));
        }
        let mut followed = false;
        // Taken out and put back: its room stays.
        let mut outcomes = std::mem::take(&mut self.outcomes);
        for (outcome, strategy_at, risk_at) in outcomes.drain(..) {
            self.outcome(&outcome, (strategy_at, risk_at), event, &mut followed);
        }
        self.outcomes = outcomes;
        if !followed {
            self.venue.on_event(event);
        }
        self.answers();
    }

    /// Writes a decision down and acts on it. `followed` says whether the venue has seen `event`.
    fn outcome(
        &mut self,
        outcome: &Outcome,
        (strategy_at, risk_at): (Stamp, Stamp),
        event: &Event,
        followed: &mut bool,
    ) {
        let Some(record) = outcome.record() else { return };
        let frame = frames::decision(record, strategy_at, risk_at);
        let head = (frame.ts, frame.kind, frame.schema, 0);
        let written = self.writer.append_fixed(head, &frame.ext, &frame.payload);
        written.expect("a segment stands ready");
        match outcome {
            Outcome::Approved(order) if record.action.is_of_order() => {
                self.send(order, event, followed);
            }
            Outcome::Approved(_) | Outcome::Vacant => {}
            Outcome::Denied(record) => {
                let at = self.clock.stamp();
                self.news.push_back(report(record, record.at, at, ReportState::Denied));
            }
        }
    }

    fn send(&mut self, order: &Approved<Decision>, event: &Event, followed: &mut bool) {
        let record = order.get();
        let encoded = self.encoder.encode(record, record.at, &mut self.wire);
        assert!(encoded.is_ok(), "{encoded:?}");
        let sent = self.clock.stamp();
        let now = self.clock.wall(sent);
        self.news.push_back(report(record, now, sent, ReportState::Sent));
        // The venue's own work waits for the text, as in the engine.
        if !std::mem::replace(followed, true) {
            self.venue.on_event(event);
        }
        self.news.extend(self.venue.submit(now, order));
    }

    fn answers(&mut self) {
        let Some(due) = self.venue.next_due() else { return };
        let now = self.clock.wall(self.clock.stamp());
        if now < due {
            return;
        }
        let recv = self.clock.stamp();
        let Self { venue, news, .. } = self;
        venue.advance(now, &mut |event: Event| news.push_back(Event { recv, ..event }));
    }
}

/// Ticks since an earlier stamp, as an event carries them.
pub(super) fn since(now: Stamp, then: Stamp) -> u32 {
    u32::try_from(now.0.saturating_sub(then.0)).unwrap_or(u32::MAX)
}

/// What execution tells of an order.
pub(super) fn report(record: &Decision, at: Nanos, recv: Stamp, state: ReportState) -> Event {
    let (id, order, side, qty) = (record.instrument, record.order, record.side, record.qty);
    let code = if state == ReportState::Denied { record.code } else { Code::None };
    Event { recv, ..Event::report(at, Nanos(0), id, order, side, state, qty, code) }
}
