//! Scenarios are lines of words; [`Bench`] is the only thing here that knows the API.
#![expect(clippy::wildcard_enum_match_arm, reason = "what a test does not expect makes it fail")]

mod properties;
mod scenarios;

use kairos_logic::code::Code;
use kairos_logic::event::{Event, Flags, GapReason, News, StatusCode};
use kairos_logic::instrument::{Instrument, InstrumentTable};
use kairos_logic::order::{
    Action, Decision, OrderFlags, OrderType, Reason, RiskState, TimeInForce, Verdict,
};
use kairos_logic::units::{
    CurrencyId, InstrumentId, Money, Nanos, OrderId, Price, Qty, Seq, Side, StrategyId, VenueId,
};

use super::{PaperOptions, PaperVenue};

const I: InstrumentId = InstrumentId(0);
const VENUE: VenueId = VenueId(0);
const USDT: CurrencyId = CurrencyId(0);
const BTC: CurrencyId = CurrencyId(1);
/// One unit of a currency.
const ONE: i64 = 100_000_000;

/// BTCUSDT in whole dollars and whole coins; 0.1 % for makers, 0.2 % for takers.
fn table() -> InstrumentTable {
    InstrumentTable {
        venues: vec!["sim".into()],
        currencies: vec!["USDT".into(), "BTC".into()],
        instruments: vec![Instrument {
            venue: VENUE,
            symbol: "BTCUSDT".into(),
            base: BTC,
            quote: USDT,
            price_scale: 0,
            qty_scale: 0,
            tick: Price(1),
            lot: Qty(1),
            min_qty: Qty(1),
            min_notional: Money(0),
            maker_fee_ppm: 1_000,
            taker_fee_ppm: 2_000,
        }],
    }
}

/// No latency, a million dollars, ten thousand coins.
fn options() -> PaperOptions {
    PaperOptions {
        latency_ns: 0,
        jitter_ns: 0,
        balances: vec![(VENUE, USDT, Money(1_000_000 * ONE)), (VENUE, BTC, Money(10_000 * ONE))],
        depth: 64,
        ..PaperOptions::default()
    }
}

fn place(id: u64, side: Side, order_type: OrderType, price: i64, qty: i64) -> Decision {
    Decision {
        cause: Seq(0),
        at: Nanos(0),
        order: OrderId(id),
        price: Price(price),
        qty: Qty(qty),
        found: 0,
        limit: 0,
        notional: Money(0),
        instrument: I,
        confidence: 0,
        tag: 0,
        strategy: StrategyId(0),
        action: Action::Place,
        side,
        order_type,
        tif: TimeInForce::Gtc,
        flags: OrderFlags::NONE,
        reason: Reason::Entry,
        verdict: Verdict::Approved,
        code: Code::None,
        state: RiskState::Running,
    }
}

fn cancel(id: u64) -> Decision {
    Decision { action: Action::Cancel, ..place(id, Side::Buy, OrderType::Limit, 0, 0) }
}

/// What a report says, in words.
fn words(event: &Event) -> String {
    match event.news() {
        News::Fill { order, price, qty, maker, .. } => {
            let role = if maker { " maker" } else { "" };
            format!("{} {}@{}{role}", order.0, qty.0, price.0)
        }
        News::Report { order, state, remaining, code, .. } => match code {
            Code::None => format!("{} {}", order.0, state.text()),
            _ => format!("{} {} {} {}", order.0, state.text(), remaining.0, code.text()),
        },
        other => format!("{other:?}"),
    }
}

/// A venue, a clock that ticks once per line, and the reports so far.
struct Bench {
    venue: PaperVenue,
    now: Nanos,
    orders: u64,
    reports: Vec<Event>,
}

impl Bench {
    fn new(options: PaperOptions) -> Self {
        Self {
            venue: PaperVenue::new(&table(), options),
            now: Nanos(0),
            orders: 0,
            reports: Vec::new(),
        }
    }

    fn advance(&mut self) {
        self.venue.advance(self.now, &mut |event| self.reports.push(event));
    }

    fn send(&mut self, decision: &Decision) {
        let refused = self.venue.send(self.now, decision);
        self.reports.extend(refused);
    }

    fn level(&mut self, side: Side, level: &str, flags: Flags) {
        let (price, qty) = pair(level);
        let (price, qty) = (Price(price), Qty(qty));
        let at = self.now;
        self.venue.on_event(&Event::book(at, at, I, side, price, qty, 0, flags));
    }

    /// A snapshot: `98x5 99x3 / 101x2 102x4`, either side may be empty.
    fn snapshot(&mut self, levels: &[&str]) {
        let middle = levels.iter().position(|&word| word == "/").unwrap();
        let bids = levels[..middle].iter().map(|&word| (Side::Buy, word));
        let asks = levels[middle + 1..].iter().map(|&word| (Side::Sell, word));
        let first = Flags::SNAPSHOT.with(Flags::CLEAR);
        self.level(Side::Buy, "1x0", first);
        for (side, word) in bids.chain(asks) {
            self.level(side, word, Flags::SNAPSHOT);
        }
        self.level(Side::Buy, "1x0", Flags::SNAPSHOT.with(Flags::LAST));
    }

    /// One line: something happens, a nanosecond later.
    fn line(&mut self, line: &str) {
        self.now = self.now.plus(1);
        let at = self.now;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["book", levels @ ..] => self.snapshot(levels),
            ["bid", level] => self.level(Side::Buy, level, Flags::LAST),
            ["ask", level] => self.level(Side::Sell, level, Flags::LAST),
            ["quote", bid, ask] => {
                let (bid, ask) = (pair(bid), pair(ask));
                let (bid, ask) = ((Price(bid.0), Qty(bid.1)), (Price(ask.0), Qty(ask.1)));
                self.venue.on_event(&Event::quote(at, at, I, bid, ask));
            }
            ["trade", side, level] => {
                let (price, qty) = pair(level);
                let (price, qty) = (Price(price), Qty(qty));
                self.venue.on_event(&Event::trade(at, at, I, price, qty, 1, side_of(side)));
            }
            ["gap"] => self.venue.on_event(&Event::gap(at, I, GapReason::Sequence, 0, 0)),
            ["disconnect"] => {
                let code = StatusCode::Disconnected;
                self.venue.on_event(&Event::status(at, InstrumentId::NONE, VENUE, code, 0));
            }
            ["cancel", id] => self.send(&cancel(id.parse().unwrap())),
            [side @ ("buy" | "sell"), order @ ..] => {
                self.orders += 1;
                let decision = order_of(self.orders, side_of(side), order);
                self.send(&decision);
            }
            other => panic!("what is {other:?}?"),
        }
        self.advance();
    }

    fn words(&self) -> String {
        let words: Vec<String> = self.reports.iter().map(words).collect();
        words.join(", ")
    }
}

fn side_of(word: &str) -> Side {
    match word {
        "buy" => Side::Buy,
        "sell" => Side::Sell,
        other => panic!("no side {other}"),
    }
}

/// `101x2` is a price and a quantity.
fn pair(level: &str) -> (i64, i64) {
    let (price, qty) = level.split_once('x').unwrap();
    (price.parse().unwrap(), qty.parse().unwrap())
}

/// `5@101 ioc post`: a limit order; `5`: a market order; `5<102 market`: a bounded one.
fn order_of(id: u64, side: Side, order: &[&str]) -> Decision {
    let (text, marks) = order.split_first().unwrap();
    let mut decision = match (text.split_once('@'), text.split_once('<')) {
        (Some((qty, price)), _) => {
            let (qty, price) = (qty.parse().unwrap(), price.parse().unwrap());
            place(id, side, OrderType::Limit, price, qty)
        }
        (None, Some((qty, price))) => {
            let (qty, price) = (qty.parse().unwrap(), price.parse().unwrap());
            place(id, side, OrderType::Market, price, qty)
        }
        (None, None) => place(id, side, OrderType::Market, 0, text.parse().unwrap()),
    };
    for mark in marks {
        match *mark {
            "gtc" => decision.tif = TimeInForce::Gtc,
            "ioc" => decision.tif = TimeInForce::Ioc,
            "fok" => decision.tif = TimeInForce::Fok,
            "post" => decision.flags = decision.flags.with(OrderFlags::POST_ONLY),
            "reduce" => decision.flags = decision.flags.with(OrderFlags::REDUCE_ONLY),
            "-" => {}
            other => panic!("no mark {other}"),
        }
    }
    decision
}

/// Plays lines separated by `;` and compares everything that was reported.
fn check(script: &str, want: &str) {
    let mut bench = Bench::new(options());
    for line in script.split(';') {
        bench.line(line.trim());
    }
    assert_eq!(bench.words(), want, "after {script}");
}
