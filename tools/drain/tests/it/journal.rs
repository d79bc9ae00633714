//! Journals with something of everything in them, written frame by frame.

use std::path::Path;

use kairos_edge::frames::{self, Cold, StrategyName};
use kairos_journal::{
    Anchor, AppendError, Frame, HotOptions, KIND_SKIPPABLE, Keeper, Options, Placement, RunFacts,
    Turn, Writer, create,
};
use kairos_logic::code::Code;
use kairos_logic::event::{Event, Flags, GapReason, ReportState, StatusCode, Verb};
use kairos_logic::instrument::{Instrument, InstrumentTable};
use kairos_logic::order::{
    Action, Decision, OrderFlags, OrderType, Reason, RiskState, TimeInForce, Verdict,
};
use kairos_logic::units::{
    CurrencyId, InstrumentId, Money, Nanos, OrderId, Price, Qty, Seq, Side, Stamp, StrategyId,
    VenueId,
};

/// When the first run begins.
pub(crate) const START_NS: u64 = 1_700_000_000_000_000_000;
const TSC_START: u64 = 1_000_000;

/// A run that is written.
pub(crate) struct Written {
    writer: Writer,
    keeper: Keeper,
    run: u64,
    random: u64,
    at: u64,
    orders: u64,
    last: u64,
}

impl Written {
    /// Starts a run with a configuration, three instruments and two strategies.
    pub(crate) fn begin(dir: &Path, run: u64) -> Self {
        Self::begin_in(dir, run, Placement::Direct)
    }

    /// The same in a ring, which an archiver must be there to copy.
    pub(crate) fn begin_hot(dir: &Path, run: u64, ring: &Path) -> Self {
        let minute = 60_000;
        let hot = HotOptions {
            segments: 4,
            archiver_wait_ms: minute,
            full_ms: minute,
            ..HotOptions::new(ring)
        };
        Self::begin_in(dir, run, Placement::Hot(hot))
    }

    fn begin_in(dir: &Path, run: u64, placement: Placement) -> Self {
        let options = Options {
            placement,
            segment_bytes: 2 << 20,
            ready_min: 1,
            not_ready_spin_us: 0,
            populate: false,
            clock: || Anchor { tsc: TSC_START, wall_ns: 0, mono_ns: 0 },
            ..Options::default()
        };
        let started = START_NS + run * 3_600_000_000_000;
        let facts = RunFacts {
            tsc_hz: 1_000_000_000,
            tsc: TSC_START,
            wall_ns: started,
            seed: 7,
            notes: serde_json::json!({ "build": "test", "gate": "committed" }),
            ..RunFacts::default()
        };
        let (writer, keeper, _) = create(dir, &options, facts).unwrap();
        let random = 0x9e37_79b9_7f4a_7c15 ^ run;
        let mut this = Self { writer, keeper, run, random, at: started, orders: 0, last: 0 };
        let names = [("tri", "tri_arb"), ("mm", "market_maker")];
        let names = names.map(|(name, kind)| StrategyName { name: name.into(), kind: kind.into() });
        let config = "[engine]\nname = \"test\"\n[venues.binance]\nmarket_data = \"sim\"\n\
                      instruments = [\"BTCUSDT\", \"ETHUSDT\", \"ETHBTC\"]\n";
        for cold in [
            Cold::Config(config.into()),
            Cold::Instruments(table()),
            Cold::Strategies(names.into()),
        ] {
            this.cold(&cold);
        }
        this
    }

    fn append(&mut self, ts: u64, kind: u16, ext: &[u64], payload: &[u8]) -> u64 {
        let frame = Frame { ts, kind, schema: frames::SCHEMA, lane: 0, ext, payload };
        loop {
            match self.writer.append(&frame) {
                Ok(seq) => {
                    self.last = seq;
                    return seq;
                }
                Err(AppendError::NotReady) => assert_ne!(self.keeper.turn(), Turn::Failed),
                Err(why) => panic!("{why}"),
            }
        }
    }

    /// A record that says what names mean from here on.
    pub(crate) fn cold(&mut self, cold: &Cold) {
        for payload in cold.payloads() {
            self.append(TSC_START, cold.kind(), &[], &payload);
        }
    }

    pub(crate) fn event(&mut self, event: &Event) -> u64 {
        let frame = frames::event(event);
        self.append(frame.ts, frame.kind, &frame.ext, &frame.payload)
    }

    pub(crate) fn decision(&mut self, decision: &Decision) -> u64 {
        let at = TSC_START + self.last * 10;
        let frame = frames::decision(decision, Stamp(at + 3), Stamp(at + 5));
        self.append(frame.ts, frame.kind, &frame.ext, &frame.payload)
    }

    /// The last number.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Writes about `count` events, mostly market data, with orders that live and die.
    pub(crate) fn some(&mut self, count: u64) {
        for _ in 0..count {
            self.at += 1_000 + self.random(1_000_000);
            let at = Nanos(self.at);
            let id = InstrumentId(u16::try_from(self.random(3)).unwrap());
            let price = Price(100_000 + i64::try_from(self.random(1_000)).unwrap());
            let qty = Qty(1 + i64::try_from(self.random(50)).unwrap());
            let side = if self.random(2) == 0 { Side::Buy } else { Side::Sell };
            let number = self.random(u64::MAX);
            let mut event = match self.random(100) {
                0..30 => Event::trade(at, Nanos(self.at - 7), id, price, qty, number, side),
                30..60 => Event::quote(at, Nanos(0), id, (price, qty), (Price(price.0 + 5), qty)),
                60..85 => Event::book(at, at, id, side, price, qty, number, Flags::LAST),
                85 => Event::gap(at, id, GapReason::Sequence, number, 3),
                86 => Event::status(at, InstrumentId::NONE, VenueId(0), StatusCode::Connected, -1),
                87 => Event::timer(at),
                88 => Event::command(at, Verb::Reduce, -5),
                89 => Event::balance(at, VenueId(0), CurrencyId(1), Money(700), Money(-30)),
                90 => Event::config(at, number),
                91 => {
                    let kind = KIND_SKIPPABLE | 0x0333;
                    self.append(TSC_START + self.last * 10, kind, &[], b"from the future");
                    continue;
                }
                92 => {
                    self.state(at);
                    continue;
                }
                _ => {
                    self.order(at, id, price, qty, side);
                    continue;
                }
            };
            event.recv = Stamp(TSC_START + self.last * 10);
            event.in_after = 2;
            self.event(&event);
        }
    }

    /// Risk changes its state by itself.
    fn state(&mut self, at: Nanos) {
        let cause = self.event(&Event::timer(at));
        self.decision(&Decision {
            cause: Seq(cause),
            at,
            order: OrderId(0),
            price: Price(0),
            qty: Qty(0),
            found: 5,
            limit: 4,
            notional: Money(0),
            instrument: InstrumentId::NONE,
            confidence: 0,
            tag: 2,
            strategy: StrategyId::RISK,
            action: Action::State,
            side: Side::Buy,
            order_type: OrderType::Market,
            tif: TimeInForce::Ioc,
            flags: OrderFlags::NONE,
            reason: Reason::Risk,
            verdict: Verdict::Approved,
            code: Code::Halted,
            state: RiskState::Halted,
        });
    }

    /// An order from its cause to its end: denied, filled in two parts, or cancelled.
    fn order(&mut self, at: Nanos, id: InstrumentId, price: Price, qty: Qty, side: Side) {
        let mut cause = Event::quote(at, at, id, (price, qty), (Price(price.0 + 1), qty));
        cause.recv = Stamp(TSC_START + self.last * 10);
        cause.in_after = 2;
        let cause = self.event(&cause);
        self.orders += 1;
        let order = OrderId::new(self.run, self.orders);
        let fate = self.random(3);
        let denied = fate == 0;
        let decision = Decision {
            cause: Seq(cause),
            at,
            order,
            price,
            qty: Qty(qty.0 * 2),
            found: if denied { 77 } else { 0 },
            limit: if denied { 70 } else { 0 },
            notional: Money(12_345),
            instrument: id,
            confidence: 9_000,
            tag: 3,
            strategy: StrategyId(u8::try_from(self.orders % 2).unwrap()),
            action: Action::Place,
            side,
            order_type: OrderType::Limit,
            tif: TimeInForce::Gtc,
            flags: OrderFlags::POST_ONLY,
            reason: Reason::Entry,
            verdict: if denied { Verdict::Denied } else { Verdict::Approved },
            code: if denied { Code::MaxOrderSizeExceeded } else { Code::None },
            state: RiskState::Running,
        };
        self.decision(&decision);
        let report = |state, code| Event::report(at, at, id, order, side, state, Qty(1), code);
        if denied {
            self.event(&report(ReportState::Denied, Code::MaxOrderSizeExceeded));
            return;
        }
        let mut sent = report(ReportState::Sent, Code::None);
        sent.recv = Stamp(TSC_START + self.last * 10 + 9);
        self.event(&sent);
        self.event(&report(ReportState::Acked, Code::None));
        if fate == 1 {
            for _ in 0..2 {
                self.event(&Event::fill(at, at, id, order, side, price, qty, Money(9), true));
            }
        } else {
            self.event(&report(ReportState::Cancelled, Code::UserCancel));
        }
    }

    /// Brings everything to the disk.
    pub(crate) fn flush(&mut self) {
        while self.writer.shared().durable_seq() < self.last {
            assert_ne!(self.keeper.turn(), Turn::Failed);
            self.writer.tend();
        }
    }

    /// Ends as an engine does that was told to.
    pub(crate) fn end(self) {
        let end = frames::RunEnd { run: self.run, ..frames::RunEnd::default() };
        self.writer.end_run(0, &end.payload()).map_err(|(_, why)| why).unwrap();
        self.keeper.finish().unwrap();
    }

    /// Ends as an engine does that is killed.
    pub(crate) fn kill(self) {}
}

/// Three instruments of one venue.
pub(crate) fn table() -> InstrumentTable {
    let mut table = InstrumentTable { venues: vec!["binance".into()], ..Default::default() };
    for (symbol, base, quote) in
        [("BTCUSDT", "BTC", "USDT"), ("ETHUSDT", "ETH", "USDT"), ("ETHBTC", "ETH", "BTC")]
    {
        let (base, quote) = (table.intern_currency(base), table.intern_currency(quote));
        table.instruments.push(Instrument {
            venue: VenueId(0),
            symbol: symbol.into(),
            base,
            quote,
            price_scale: 2,
            qty_scale: 3,
            tick: Price(1),
            lot: Qty(1),
            min_qty: Qty(1),
            min_notional: Money(0),
            maker_fee_ppm: 200,
            taker_fee_ppm: 400,
        });
    }
    table
}
