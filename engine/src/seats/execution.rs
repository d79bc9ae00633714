//! EXECUTION: ORDERS in, bytes to the venue out; what the venue answers goes back through IN.
//!
//! In paper the venue is [`PaperVenue`]: the seat then also reads IN, on a branch of its own, to
//! know the book that it trades against. The venue's own work waits until the first order's text
//! stands: no live order would wait for it. Orders are encoded for the wire in paper too, so that the
//! figures of a paper run contain what a live run has to do before its bytes leave.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use kairos_adapters::binance::orders::{MESSAGE_MAX, OrderEncoder};
use kairos_adapters::sim::paper::PaperVenue;
use kairos_logic::code::Code;
use kairos_logic::event::{Event, News, ReportState, StatusCode};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{Action, Decision, RiskState};
use kairos_logic::risk::Outcome;
use kairos_logic::units::{InstrumentId, Nanos, Stamp, VenueId};

use super::OrderSlot;
use crate::clock::Clock;
use crate::meter::Meters;
use crate::ring::{self, Batch, Inlet, Outlet};
use crate::seat::{Looked, Seat};

/// News waiting for room in IN: 4 MiB. A quarter of IN is kept free of market data for it, so it
/// fills only if IN stands still; then no order is taken and the venue does not act. What the venue
/// hands out at once may pass this mark, and the queue then grows rather than lose a report.
pub const NEWS_SLOTS: usize = 1 << 16;
/// News that one order can cause at once: that it was sent, and one answer per swept level.
const NEWS_ROOM: usize = 8_192 + 2;
/// Events of IN per turn.
const INPUTS_BATCH: Batch = Batch::new(64, 1_024);
/// Orders per turn.
const ORDERS_BATCH: u64 = 16;

/// What the seat's time is.
#[derive(Clone, Debug)]
pub enum Time {
    /// The host's clock.
    Wall(Clock),
    /// The virtual clock of a capture, moved by its feed.
    Virtual(Arc<Meters>),
}

impl Time {
    #[inline]
    fn now(&self) -> Nanos {
        match self {
            Self::Wall(clock) => clock.wall(clock.stamp()),
            Self::Virtual(meters) => Nanos(meters.virtual_now.get()),
        }
    }
}

/// Sends what risk approved, once, and nothing else.
pub struct ExecutionSeat<I, O, P> {
    market: Following<I>,
    orders: O,
    front_door: P,
    venue: PaperVenue,
    wire: Wire,
    news: VecDeque<Event>,
    published: u64,
    /// Whether to wait for the durable mark as well as for the journal.
    durable_gate: bool,
    /// Age of a decision, in nanoseconds, from which the book behind it is too old; 0 is never.
    stale_after_ns: u64,
    time: Time,
    clock: Clock,
    meters: Arc<Meters>,
}

/// The paper venue's view of the market: IN, on a branch of its own.
struct Following<I> {
    inputs: I,
    batch: Batch,
}

impl<I: Inlet<Event>> Following<I> {
    /// Tells the venue what has come, some of it at most.
    #[inline]
    fn follow(&mut self, venue: &mut PaperVenue) -> Looked {
        let (before, asked) = (self.inputs.position(), self.batch.size());
        let looked = self.inputs.look(asked, |_, event| venue.on_event(event));
        self.batch.took(self.inputs.position() - before, asked);
        looked
    }
}

impl<I, O, P> ExecutionSeat<I, O, P>
where
    I: Inlet<Event>,
    O: Inlet<OrderSlot>,
    P: Outlet<Event>,
{
    /// Puts the paper venue behind ORDERS and beside IN.
    #[expect(
        clippy::too_many_arguments,
        reason = "the seat's rings, its venue and its clocks; called once"
    )]
    pub fn new(
        inputs: I,
        orders: O,
        front_door: P,
        venue: PaperVenue,
        table: &InstrumentTable,
        durable_gate: bool,
        time: Time,
        clock: Clock,
        meters: Arc<Meters>,
    ) -> Self {
        meters.sim_due.set(u64::MAX);
        Self {
            market: Following { inputs, batch: INPUTS_BATCH },
            orders,
            front_door,
            venue,
            wire: Wire::new(table),
            news: ring::queue(NEWS_SLOTS),
            published: 0,
            durable_gate,
            stale_after_ns: 0,
            time,
            clock,
            meters,
        }
    }

    /// Refuses to send orders that were decided so many milliseconds ago: a gate may have held them
    /// for as long as the disk stood still. 0 is never, and under a capture nothing is late: its time
    /// runs on by lines, not by waiting.
    #[must_use]
    pub fn stale_after(mut self, ms: u32) -> Self {
        self.stale_after_ns = u64::from(ms) * 1_000_000;
        self
    }

    /// Moves waiting news into IN as far as there is room.
    fn deliver(&mut self) -> bool {
        let before = self.published;
        while let Some(event) = self.news.front() {
            let mut event = *event;
            let since = self.clock.stamp().0.saturating_sub(event.recv.0);
            event.in_after = u32::try_from(since).unwrap_or(u32::MAX);
            if !self.front_door.offer(event) {
                break;
            }
            self.news.pop_front();
            self.published += 1;
        }
        if self.published == before {
            return false;
        }
        if self.news.is_empty() {
            self.news.clear(); // begins at its first place again, which is in the cache
        }
        self.meters.execution.published_in.set(self.published);
        self.meters.backlog.set(self.news.len() as u64);
        true
    }

    /// Sends what waits in ORDERS, and lets the venue follow the market before the first order is
    /// there. Says what either found.
    fn take_orders(&mut self) -> Looked {
        let mut followed = None;
        let ordered = self.send(&mut followed);
        let Self { market, venue, .. } = self;
        ordered.max(followed.unwrap_or_else(|| market.follow(venue)))
    }

    fn send(&mut self, followed: &mut Option<Looked>) -> Looked {
        let free = NEWS_SLOTS.saturating_sub(self.news.len());
        let mut allowance = ((free / NEWS_ROOM) as u64).min(ORDERS_BATCH);
        if self.durable_gate {
            let durable = self.meters.orders_durable.get();
            allowance = allowance.min(durable.saturating_sub(self.orders.position()));
        }
        if allowance == 0 {
            return Looked::Idle;
        }
        let Self { market, orders, venue, wire, news, time, clock, meters, stale_after_ns, .. } =
            self;
        orders.look(allowance, |_, slot| match &slot.outcome {
            Outcome::Vacant => {}
            // JOURNAL lets go of a slot whether its frame was written or not, and says so before.
            // Nothing unjournaled is sent; the control thread is about to end the run.
            _ if meters.journal_failed.load(Ordering::Acquire) => {}
            Outcome::Denied(record) => news.extend(denied(record, clock.stamp())),
            Outcome::Approved(order) => {
                let record = order.get();
                if record.action == Action::State {
                    news.push_back(state_changed(record, clock.stamp()));
                    return;
                }
                if !record.action.is_of_order() {
                    return;
                }
                let has_message = wire.write(record);
                let sent = clock.stamp(); // behind the encoding, which is a part of the way
                // Virtual time may have run on since the decision; the order left when it was taken.
                let now = match time {
                    Time::Wall(clock) => clock.wall(sent),
                    Time::Virtual(_) => record.at,
                };
                let unavailable = (!has_message).then_some(Code::VenueUnavailable);
                let why = kept_back(record, now, *stale_after_ns, meters).or(unavailable);
                if let Some(why) = why {
                    // Nothing left: the order ends here, and says so.
                    news.push_back(report(record, record.at, sent, unsent(record), why));
                    return;
                }
                // That a cancel was sent says nothing of its order's life: only its answer does.
                if record.action == Action::Place {
                    news.push_back(left(record, now, sent));
                }
                // The order meets the market as its cause left it.
                followed.get_or_insert_with(|| market.follow(venue));
                news.extend(venue.submit(now, order));
            }
        })
    }

    fn advance_venue(&mut self) -> bool {
        let Some(due) = self.venue.next_due() else { return false };
        let now = self.time.now();
        if now < due || NEWS_SLOTS.saturating_sub(self.news.len()) < NEWS_ROOM {
            return false;
        }
        let Self { venue, news, clock, meters, .. } = self;
        let recv = clock.stamp();
        venue.advance(now, &mut |event: Event| {
            if let News::Fill { .. } = event.news() {
                meters.fills.add(1);
            }
            news.push_back(Event { recv, ..event });
        });
        true
    }
}

/// Why an approved order may not leave any more. Between its decision and this moment it may have waited
/// for the journal, and behind `gate = "durable"` for a disk that stood still. Cancels always leave.
#[inline]
fn kept_back(record: &Decision, now: Nanos, stale_after_ns: u64, meters: &Meters) -> Option<Code> {
    if record.action != Action::Place {
        return None;
    }
    // A journal that is about to end still takes cancels and their answers, no entries.
    if meters.journal_ending.load(Ordering::Acquire) {
        return Some(Code::VenueUnavailable);
    }
    // The halt overtook it: its cancel stands behind it in ORDERS.
    if record.cause.0 < meters.halted_at.get() {
        return Some(Code::Halted);
    }
    let is_stale = stale_after_ns > 0 && now.since(record.at) > stale_after_ns;
    is_stale.then_some(Code::MarketDataStale)
}

/// The text of orders, as it goes to each venue.
struct Wire {
    encoders: Vec<OrderEncoder>,
    venues: Vec<VenueId>,
    buffer: [u8; MESSAGE_MAX],
}

impl Wire {
    fn new(table: &InstrumentTable) -> Self {
        let ids = (0_u8..).map(VenueId).zip(&table.venues);
        Self {
            encoders: ids.map(|(id, _)| OrderEncoder::new(table, id)).collect(),
            venues: table.instruments.iter().map(|it| it.venue).collect(),
            buffer: [0; MESSAGE_MAX],
        }
    }

    /// Writes the message of an approved order; `false` where it has none.
    #[inline]
    fn write(&mut self, record: &Decision) -> bool {
        let Self { encoders, venues, buffer } = self;
        let venue = venues.get(record.instrument.index());
        let encoder = venue.and_then(|it| encoders.get(usize::from(it.0)));
        encoder.is_some_and(|it| it.encode(record, record.at, buffer).is_ok())
    }
}

/// What a command that could not be sent is answered with.
const fn unsent(record: &Decision) -> ReportState {
    match record.action {
        Action::Place => ReportState::Rejected,
        Action::Cancel | Action::State | Action::Result => ReportState::CancelRejected,
    }
}

/// Risk's no, brought back to the strategy like a venue's reject. Cancels that were refused say so
/// without ending the order.
pub(crate) fn denied(record: &Decision, recv: Stamp) -> Option<Event> {
    let state = match record.action {
        Action::Place => ReportState::Denied,
        Action::Cancel => ReportState::CancelRejected,
        Action::State | Action::Result => return None,
    };
    Some(report(record, record.at, recv, state, record.code))
}

fn left(record: &Decision, at: Nanos, recv: Stamp) -> Event {
    report(record, at, recv, ReportState::Sent, Code::None)
}

fn report(record: &Decision, at: Nanos, recv: Stamp, state: ReportState, code: Code) -> Event {
    let mut event = Event::report(
        at,
        Nanos(0),
        record.instrument,
        record.order,
        record.side,
        state,
        record.qty,
        code,
    );
    event.recv = recv;
    event
}

fn state_changed(record: &Decision, recv: Stamp) -> Event {
    let code = match record.state {
        RiskState::Running => StatusCode::RiskRunning,
        RiskState::Cooldown => StatusCode::RiskCooldown,
        RiskState::Halted | RiskState::Killed => StatusCode::RiskHalted,
        RiskState::Reducing => StatusCode::RiskReducing,
        RiskState::Stopped => StatusCode::RiskStopped,
    };
    let mut event = Event::status(
        record.at,
        InstrumentId::NONE,
        VenueId(u8::MAX),
        code,
        i64::from(record.code as u8),
    );
    event.recv = recv;
    event
}

impl<I, O, P> Seat for ExecutionSeat<I, O, P>
where
    I: Inlet<Event>,
    O: Inlet<OrderSlot>,
    P: Outlet<Event>,
{
    fn turn(&mut self) -> Looked {
        let mut busy = self.deliver();
        let looked = self.take_orders();
        busy |= self.advance_venue();
        busy |= self.deliver();
        // What is still to come is told before what was taken: whoever finds everything taken must
        // also find the answers that are due.
        self.meters.backlog.set(self.news.len() as u64);
        self.meters.sim_due.set(self.venue.next_due().map_or(u64::MAX, |due| due.0));
        self.meters.execution.taken_in.set(self.market.inputs.position());
        self.meters.execution.taken_orders.set(self.orders.position());
        if busy { Looked::Busy } else { looked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kairos_adapters::sim::paper::PaperOptions;
    use kairos_logic::event::Verb;
    use kairos_logic::risk::{Limits, Risk, RiskOptions};
    use kairos_logic::units::{CurrencyId, Seq};

    /// Slots that wait, and nothing more.
    struct Waiting<E>(VecDeque<E>, u64);
    impl<E: Send> Inlet<E> for Waiting<E> {
        fn look(&mut self, max: u64, mut take: impl FnMut(Seq, &E)) -> Looked {
            let before = self.1;
            while self.1 - before < max
                && let Some(slot) = self.0.pop_front()
            {
                take(Seq(self.1), &slot);
                self.1 += 1;
            }
            if self.1 == before { Looked::Idle } else { Looked::Busy }
        }
        fn position(&self) -> u64 {
            self.1
        }
    }

    /// Counts what enters IN.
    struct Door(Arc<std::sync::atomic::AtomicU64>);
    impl Outlet<Event> for Door {
        fn offer(&mut self, _value: Event) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            true
        }
    }

    /// What comes of one approved decision.
    fn news_of_one_approval(journal_failed: bool) -> u64 {
        let table = InstrumentTable::default();
        let options = RiskOptions { currency: CurrencyId(0), balances: Vec::new(), depth: 64 };
        let mut risk = Risk::new(&table, Limits::default(), &options);
        let mut orders = VecDeque::new();
        risk.on_event(Seq(0), &Event::command(Nanos(1), Verb::Halt, 0), &mut |outcome| {
            orders.push_back(OrderSlot { outcome, ..OrderSlot::default() });
        });
        assert_eq!(orders.len(), 1);
        let meters = Meters::new(&[1]);
        meters.journal_failed.store(journal_failed, Ordering::Release);
        let entered = Arc::default();
        let mut seat = ExecutionSeat::new(
            Waiting(VecDeque::new(), 0),
            Waiting(orders, 0),
            Door(Arc::clone(&entered)),
            PaperVenue::new(&table, PaperOptions::default()),
            &table,
            false,
            Time::Virtual(Arc::clone(&meters)),
            Clock::new(),
            meters,
        );
        seat.turn();
        entered.load(Ordering::Relaxed)
    }

    /// Behind a gate that opens late: what was decided before a halt, or on a book that is too old by
    /// now, stays; cancels leave.
    #[test]
    fn what_a_gate_held_for_too_long_does_not_leave() {
        const MS: u64 = 1_000_000;
        let meters = Meters::new(&[1]);
        let mut risk = Risk::new(
            &InstrumentTable::default(),
            Limits::default(),
            &RiskOptions { currency: CurrencyId(0), balances: Vec::new(), depth: 64 },
        );
        let mut halt = None;
        risk.on_event(Seq(7), &Event::command(Nanos(1), Verb::Halt, 0), &mut |outcome| {
            halt = outcome.record().copied();
        });
        let decided = Decision { at: Nanos(100 * MS), ..halt.unwrap() };
        let check = |action: Action, now_ms: u64, halted_at: u64, want: Option<Code>| {
            meters.halted_at.set(halted_at);
            let record = Decision { action, ..decided };
            let now = Nanos(now_ms * MS);
            let found = kept_back(&record, now, 50 * MS, &meters);
            assert_eq!(found, want, "{action:?} at {now_ms} ms, halted at {halted_at}");
            assert_eq!(kept_back(&record, record.at, 0, &meters), want.filter(|_| halted_at > 7));
        };
        check(Action::Place, 150, 0, None);
        check(Action::Place, 151, 0, Some(Code::MarketDataStale));
        check(Action::Place, 90, 0, None); // a clock that was set back
        check(Action::Place, 100, 7, None); // an exit that the halt itself lets pass
        check(Action::Place, 100, 8, Some(Code::Halted));
        check(Action::Cancel, 151, 8, None);
    }

    #[test]
    fn what_the_journal_let_go_of_without_writing_it_is_not_acted_upon() {
        assert_eq!(news_of_one_approval(false), 1);
        assert_eq!(news_of_one_approval(true), 0);
    }
}
