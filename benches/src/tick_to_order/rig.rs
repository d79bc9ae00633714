//! What all builds share: the load, and the things that decide, trade and record.

use kairos_adapters::binance::{BinanceMarket, Options as MarketOptions};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_adapters::sim::paper::{Funding, PaperOptions, PaperVenue};
use kairos_edge::frames::Record;
use kairos_engine::clock::Clock;
use kairos_engine::latency::{SPANS, Spans};
use kairos_journal::{Journal, Options as JournalOptions};
use kairos_logic::desk::{Desk, DeskOptions};
use kairos_logic::event::{Event, Flags, News};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{Reason, TimeInForce};
use kairos_logic::params::{Params, Problem};
use kairos_logic::risk::{Limits, Risk, RiskOptions};
use kairos_logic::strategy::{Context, Place, Registry, Strategy, StrategySpec};
use kairos_logic::units::{
    CurrencyId, InstrumentId, Money, Nanos, Qty, Side, Stamp, StrategyId, VenueId,
};
use tempfile::TempDir;

use crate::journaling;
use crate::traffic::{Kind, Messages, Traffic};
use crate::{Trouble, decode};

/// The instrument, and the venue, of everything here.
pub(super) const INSTRUMENT: InstrumentId = InstrumentId(0);
pub(super) const VENUE: VenueId = VenueId(0);
/// Levels a side of every book.
const DEPTH: usize = 1_024;
/// How long a run offers its load, and how much of that is not measured.
const RUN_MS: u64 = 350;
const WARM_UP_MS: u64 = 50;
/// Least frames of a run: low rates take longer instead.
const FRAMES_MIN: usize = 12_000;
/// Journal bytes that a frame causes, rounded up: itself, its order, and three answers, in frames of
/// 96 to 160 B.
const JOURNAL_BYTES_PER_FRAME: u64 = 640;
/// The snapshot, and what is kept for a halt.
const JOURNAL_BYTES_MORE: u64 = 4 << 20;

/// Where and with what a build runs.
pub(super) struct Rig {
    pub(super) clock: Clock,
    /// CPU of the fused thread, of the straight function, and of feeds.
    pub(super) hot: u16,
    /// The other one.
    pub(super) other: u16,
}

/// Frames with their schedule.
pub(super) struct Load {
    pub(super) snapshot: String,
    pub(super) messages: Messages,
    pub(super) rate: u32,
    /// Frames before the measured ones.
    pub(super) warm_up: usize,
}

/// The frame that comes next, as a read from a socket leaves it: in a buffer that was written a
/// moment ago. A run's frames are megabytes; taken from there each would come from far away, which
/// no frame does that was just received.
#[derive(Debug, Default)]
pub(super) struct Received {
    buffer: Vec<u8>,
    number: Option<usize>,
}

impl Received {
    /// Room for every frame of the load.
    pub(super) fn new(load: &Load) -> Self {
        let longest = load.messages.iter().map(<[u8]>::len).max().unwrap_or(0);
        Self { buffer: Vec::with_capacity(longest), number: None }
    }

    /// The frame of this number; to be called once before it is due.
    #[inline]
    pub(super) fn frame(&mut self, load: &Load, number: usize) -> &[u8] {
        if self.number != Some(number) {
            self.number = Some(number);
            self.buffer.clear();
            self.buffer.extend_from_slice(load.messages.get(number));
        }
        &self.buffer
    }
}

/// What a run gave.
pub(super) struct Run {
    /// Nanoseconds, of each measured frame that led to an order.
    pub(super) latencies: Vec<f64>,
    /// Where that time went, by the engine's spans; empty where the journal does not tell.
    pub(super) spans: [Vec<f64>; SPANS.len()],
    /// Allocations of the measured threads per measured frame.
    pub(super) allocs_per_tick: f64,
}

impl Load {
    /// Half quotes, a third trades, the rest small changes of the book.
    pub(super) fn new(rate: u32) -> Self {
        let mut traffic = Traffic::new(u64::from(rate));
        let snapshot = traffic.snapshot();
        let in_ms = |ms: u64| usize::try_from(u64::from(rate) * ms / 1_000).unwrap_or(0);
        let (warm_up, count) = (in_ms(WARM_UP_MS).max(2_000), in_ms(RUN_MS).max(FRAMES_MIN));
        let messages = Messages::new(&mut traffic, count, |number| match number % 10 {
            0 => Kind::Depth(4),
            1 | 4 | 7 => Kind::Trade,
            _ => Kind::BookTicker,
        });
        Self { snapshot, messages, rate, warm_up }
    }

    /// Frames that count.
    pub(super) fn measured(&self) -> usize {
        self.messages.len() - self.warm_up
    }
}

/// When frames are due.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    start: Stamp,
    ticks_per_frame: f64,
    measured_from: Stamp,
}

impl Schedule {
    /// Starts a millisecond from now: whoever waits for the first frame is there by then.
    #[expect(clippy::cast_precision_loss, reason = "a frequency has far fewer than 53 bits")]
    pub(super) fn new(clock: &Clock, load: &Load) -> Self {
        let hz = clock.ticks_per_second();
        let start = Stamp(clock.stamp().0 + hz / 1_000);
        let mut this =
            Self { start, ticks_per_frame: hz as f64 / f64::from(load.rate), measured_from: start };
        this.measured_from = this.due(load.warm_up);
        this
    }

    /// When the frame of this number arrives.
    #[inline]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a run of a second in ticks has 32 bits"
    )]
    pub(super) fn due(&self, number: usize) -> Stamp {
        Stamp(self.start.0 + (number as f64 * self.ticks_per_frame) as u64)
    }

    /// The first arrival that counts.
    pub(super) fn measured_from(&self) -> Stamp {
        self.measured_from
    }
}

/// A session whose book is not known yet.
pub(super) fn session(table: &InstrumentTable) -> Result<BinanceMarket, Trouble> {
    // As the engine makes it: who keeps books is the logic.
    let options = MarketOptions { book_depth: 0, ..MarketOptions::default() };
    BinanceMarket::new(table, VENUE, &[INSTRUMENT], options)
        .map_err(|error| Trouble::new("session", error))
}

/// Opens the session and gives it its snapshot.
pub(super) fn open(
    session: &mut dyn MarketSession,
    load: &Load,
    (at, recv): (Nanos, Stamp),
    out: &mut Outbox,
    publish: &mut dyn FnMut(Event),
) {
    session.on_open(at, out, publish);
    let arrival = Arrival { at, recv, number: 0 };
    session.on_snapshot(arrival, Some(INSTRUMENT), load.snapshot.as_bytes(), out, publish);
    out.clear();
}

/// What is traded.
pub(super) fn table() -> InstrumentTable {
    decode::table()
}

fn balances() -> Vec<(VenueId, CurrencyId, Money)> {
    const MILLION: Money = Money(1_000_000 * 100_000_000);
    const THOUSAND: Money = Money(1_000 * 100_000_000);
    vec![(VENUE, CurrencyId(0), MILLION), (VENUE, CurrencyId(1), THOUSAND)]
}

/// Strategy and risk. No limit stands in the way of an order for each frame.
pub(super) fn logic(table: &InstrumentTable) -> Result<(Desk, Risk), Trouble> {
    let mut registry = Registry::empty();
    registry.register("each_frame", EachFrame::build);
    let spec = StrategySpec {
        id: StrategyId(0),
        name: "bench".to_owned(),
        kind: "each_frame".to_owned(),
        instruments: vec![INSTRUMENT],
        params: Params::new(),
        enabled: true,
    };
    let currency = CurrencyId(0);
    let options = DeskOptions { run: 1, depth: DEPTH, currency, balances: balances() };
    let desk = Desk::new(table, vec![spec], &registry, &options);
    let desk = desk.map_err(|problems| Trouble::new("strategy", format!("{problems:?}")))?;
    let limits = Limits {
        max_position_notional: Money(0),
        max_orders_per_second_instrument: 0,
        max_orders_per_second: 0,
        max_open_orders: 0,
        allow_short: true,
        ..Limits::default()
    };
    let options = RiskOptions { currency, balances: balances(), depth: DEPTH };
    Ok((desk, Risk::new(table, limits, &options)))
}

/// A venue that answers at once.
pub(super) fn venue(table: &InstrumentTable) -> PaperVenue {
    let options = PaperOptions {
        latency_ns: 0,
        jitter_ns: 0,
        balances: balances(),
        funding: Funding::Borrow,
        depth: DEPTH,
        ..PaperOptions::default()
    };
    PaperVenue::new(table, options)
}

/// Orders at every change of its market, against the position that it has.
#[derive(Debug)]
struct EachFrame;

impl EachFrame {
    fn build(_: &StrategySpec, _: &InstrumentTable) -> Result<Box<dyn Strategy>, Vec<Problem>> {
        Ok(Box::new(Self))
    }
}

/// 0.001 BTC: sixty dollars, above what a venue takes at least.
const SIZE: Qty = Qty(100_000);

impl Strategy for EachFrame {
    fn on_event(&mut self, event: &Event, cx: &mut Context<'_>) {
        let ends_a_message = match event.news() {
            News::Trade { .. } | News::Quote { .. } => true,
            News::Book { .. } => event.flags.has(Flags::LAST) && !event.flags.has(Flags::SNAPSHOT),
            News::Gap { .. }
            | News::Status { .. }
            | News::Timer
            | News::Command { .. }
            | News::Fill { .. }
            | News::Report { .. }
            | News::Balance { .. }
            | News::Config { .. }
            | News::Nothing => false,
        };
        if !ends_a_message {
            return;
        }
        let Some(touch) = cx.touch(INSTRUMENT) else { return };
        let (side, price) = match cx.position(INSTRUMENT).0 {
            1.. => (Side::Sell, touch.bid),
            _ => (Side::Buy, touch.ask),
        };
        let ioc = TimeInForce::Ioc;
        cx.place(Place::limit(INSTRUMENT, side, SIZE, price, ioc, Reason::Entry));
    }
}

/// How journals of this bench are kept: a segment holds a whole run, because where both CPUs spin
/// the keeper could not prepare another in time.
pub(super) fn journal_options(load: &Load) -> JournalOptions {
    let bytes = load.messages.len() as u64 * JOURNAL_BYTES_PER_FRAME + JOURNAL_BYTES_MORE;
    JournalOptions {
        segment_bytes: bytes.next_power_of_two(),
        ready_min: 1,
        ..JournalOptions::default()
    }
}

/// A directory for a journal, in memory.
pub(super) fn directory() -> Result<TempDir, Trouble> {
    journaling::Place::Tmpfs.directory()
}

/// What a journal tells of a run, from arrivals at `from` on.
pub(super) fn from_journal(
    dir: &TempDir,
    clock: &Clock,
    from: Stamp,
    allocs_per_tick: f64,
) -> Result<Run, Trouble> {
    let trouble = |error: kairos_journal::Error| Trouble::new("journal", error);
    let journal = Journal::open(dir.path()).map_err(trouble)?;
    let mut reader = journal.reader();
    let mut spans = Spans::new(clock.ticks_per_second());
    let mut found: [Vec<f64>; SPANS.len()] = Default::default();
    while let Some(frame) = reader.next().map_err(trouble)? {
        if frame.is_physical() {
            continue;
        }
        let record = Record::read(frame.kind, frame.schema, frame.ts, frame.ext(), frame.payload);
        let mut each = |it: kairos_engine::latency::Measured| {
            let is_market_data = matches!(
                it.event.news(),
                News::Trade { .. } | News::Quote { .. } | News::Book { .. }
            );
            if it.event.recv >= from && is_market_data {
                found[it.span].push(nanos(it.ns));
            }
        };
        match record.map_err(|error| Trouble::new("journal", error))? {
            Record::Event(event) => spans.event(frame.seq, &event, &mut each),
            Record::Decision { record, strategy_at, risk_at } => {
                spans.decision(&record, strategy_at, risk_at, &mut each);
            }
            Record::Part(_) => {}
        }
    }
    // The last span is the sum of the others.
    let latencies = found.last().cloned().unwrap_or_default();
    Ok(Run { latencies, spans: found, allocs_per_tick })
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of seconds")]
pub(super) const fn nanos(ns: u64) -> f64 {
    ns as f64
}
