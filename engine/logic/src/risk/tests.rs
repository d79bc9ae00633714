//! One line per rule. Prices and quantities are in hundredths: `10_000` is 100.00 USDT, `100` is
//! 1.00 BTC. Money is in 1e-8.

mod denials;
mod halts;
mod random;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::code::Code;
use crate::event::Verb;
use crate::instrument::Instrument;
use crate::order::{Action, Intent, Intents, OrderType, Reason, TimeInForce, Verdict};
use crate::units::{Nanos, Price, Qty, Stamp, VenueId};

const UNIT: i64 = 100_000_000;
const MS: u64 = 1_000_000;
const V: VenueId = VenueId(0);
const BTC: CurrencyId = CurrencyId(0);
const USDT: CurrencyId = CurrencyId(1);
const ETH: CurrencyId = CurrencyId(2);
const EUR: CurrencyId = CurrencyId(3);

const BTCUSDT: InstrumentId = InstrumentId(0);
const ETHUSDT: InstrumentId = InstrumentId(1);
const ETHBTC: InstrumentId = InstrumentId(2);
const ETHEUR: InstrumentId = InstrumentId(3);

/// Ticks of 0.10, lots of 0.10, orders from 0.20 and 5 of the quote currency on; fee 10 bps.
fn table() -> InstrumentTable {
    let instrument = |symbol: &str, base, quote| Instrument {
        venue: V,
        symbol: String::from(symbol),
        base,
        quote,
        price_scale: 2,
        qty_scale: 2,
        tick: Price(10),
        lot: Qty(10),
        min_qty: Qty(20),
        min_notional: Money(5 * UNIT),
        maker_fee_ppm: 1_000,
        taker_fee_ppm: 1_000,
    };
    let cheap = |it: Instrument| Instrument { min_notional: Money(0), tick: Price(1), ..it };
    InstrumentTable {
        venues: vec![String::from("venue")],
        currencies: ["BTC", "USDT", "ETH", "EUR"].map(String::from).to_vec(),
        instruments: vec![
            instrument("BTCUSDT", BTC, USDT),
            instrument("ETHUSDT", ETH, USDT),
            cheap(instrument("ETHBTC", ETH, BTC)),
            instrument("ETHEUR", ETH, EUR),
        ],
    }
}

/// Risk with its feed: 2 BTC and 1000 USDT, BTCUSDT at 99/101.
struct Bench {
    risk: Risk,
    now: u64,
    seq: u64,
    orders: u64,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let balances = vec![(V, BTC, Money(2 * UNIT)), (V, USDT, Money(1_000 * UNIT))];
        let options = RiskOptions { currency: USDT, balances, depth: 64 };
        let risk = Risk::new(&table(), limits, &options);
        let mut bench = Self { risk, now: 1_000_000 * MS, seq: 0, orders: 0 };
        bench.quote(BTCUSDT, 9_900, 10_100);
        bench
    }

    fn tell(&mut self, event: Event) -> Vec<Decision> {
        self.seq += 1;
        let mut said = Vec::new();
        self.risk.on_event(Seq(self.seq), &event, &mut |outcome| {
            assert!(outcome.approved().is_some(), "risk's own decisions may leave");
            said.extend(outcome.record().copied());
        });
        assert!(said.iter().all(|it| it.cause == Seq(self.seq)));
        assert!(said.iter().all(|it| it.strategy == StrategyId::RISK));
        said
    }

    fn at(&self) -> Nanos {
        Nanos(self.now)
    }

    fn quote(&mut self, id: InstrumentId, bid: i64, ask: i64) -> Vec<Decision> {
        let (bid, ask) = ((Price(bid), Qty(100)), (Price(ask), Qty(100)));
        self.tell(Event::quote(self.at(), Nanos(0), id, bid, ask))
    }

    fn wait(&mut self, ms: u64) -> Vec<Decision> {
        self.now += ms * MS;
        self.tell(Event::timer(self.at()))
    }

    fn command(&mut self, verb: Verb, argument: i64) -> Vec<Decision> {
        self.tell(Event::command(self.at(), verb, argument))
    }

    fn report(&mut self, order: OrderId, state: ReportState, code: Code) -> Vec<Decision> {
        let (at, id) = (self.at(), BTCUSDT);
        self.tell(Event::report(at, at, id, order, Side::Buy, state, Qty(0), code))
    }

    fn fill(&mut self, it: &Intent, qty: i64) -> Vec<Decision> {
        let table = table();
        let instrument = table.instrument(it.instrument).unwrap();
        let value = instrument.notional(it.price, Qty(qty)).unwrap();
        let fee = instrument.fee(value, true).unwrap();
        let (at, qty) = (self.at(), Qty(qty));
        self.tell(Event::fill(at, at, it.instrument, it.order, it.side, it.price, qty, fee, true))
    }

    fn judge(&mut self, intent: Intent) -> Decision {
        let proposal = Proposal { cause: Seq(self.seq), intent, strategy_at: Stamp(0) };
        let outcome = self.risk.judge(&proposal);
        let decision = *outcome.record().unwrap();
        let leaves = outcome.approved().is_some();
        assert_eq!(leaves, decision.verdict == Verdict::Approved, "{decision:?}");
        assert_eq!(leaves, decision.code == Code::None, "{decision:?}");
        decision
    }

    /// Gives the intent the next order id and judges it.
    fn place(&mut self, mut intent: Intent) -> (Intent, Decision) {
        self.orders += 1;
        intent.order = OrderId(self.orders);
        (intent, self.judge(intent))
    }

    /// Places an order that has to pass.
    fn pass(&mut self, intent: Intent) -> Intent {
        let (intent, decision) = self.place(intent);
        assert_eq!(decision.code, Code::None, "{decision:?}");
        intent
    }

    /// Places an order that has to be refused with this code.
    fn refuse(&mut self, intent: Intent, code: Code) {
        let (_, decision) = self.place(intent);
        assert_eq!(decision.code, code, "{decision:?}");
    }

    fn locked(&self, id: InstrumentId, side: Side) -> i64 {
        self.risk.ledger().balance(self.risk.ledger().spent_slot(id, side).unwrap()).locked.0
    }

    fn total(&self, id: InstrumentId, side: Side) -> i64 {
        self.risk.ledger().balance(self.risk.ledger().spent_slot(id, side).unwrap()).total.0
    }
}

fn limit(side: Side, qty: i64, price: i64) -> Intent {
    Intent {
        order: OrderId(0),
        price: Price(price),
        qty: Qty(qty),
        instrument: BTCUSDT,
        action: Action::Place,
        side,
        order_type: OrderType::Limit,
        tif: TimeInForce::Gtc,
        reason: Reason::Entry,
        ..Intents::VACANT
    }
}

fn buy(qty: i64, price: i64) -> Intent {
    limit(Side::Buy, qty, price)
}

fn sell(qty: i64, price: i64) -> Intent {
    limit(Side::Sell, qty, price)
}

fn exit(intent: Intent) -> Intent {
    Intent { flags: OrderFlags::REDUCE_ONLY, ..intent }
}

fn market(intent: Intent) -> Intent {
    Intent { order_type: OrderType::Market, price: Price(0), ..intent }
}

fn on(instrument: InstrumentId, intent: Intent) -> Intent {
    Intent { instrument, ..intent }
}

fn cancel(order: OrderId) -> Intent {
    Intent { order, action: Action::Cancel, ..buy(0, 0) }
}
