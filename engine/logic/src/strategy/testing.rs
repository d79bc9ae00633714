//! A desk on a script: what tests of strategies share, so that each rule is one line of data.
//!
//! A script is a list of steps parted by `;`, each one millisecond after the one before:
//!
//! | step | meaning |
//! |---|---|
//! | `t 100` | a trade at 100 |
//! | `q 99/101`, `q 99x2/101x3` | a quote; sizes are 10 where they are not said |
//! | `timer 500` | a timer 500 ms after the step before |
//! | `f 1`, `f 1 0.5@99` | order 1 fills: all at its limit (or the touch), or so much at 99 |
//! | `s 1` `a 1` `c 1` `r 1` `d 1` `u 1` | order 1 is sent, acked, cancelled, rejected, denied, unknown |
//! | `x 1` | a cancel of order 1 is refused |
//! | `gap` `up` `down` | a gap of the book; the venue's link |
//! | `halt` `resume` `kill` | commands; `off 0`, `on 0` switch a strategy |
//!
//! A step that begins with `@1` is about instrument 1. The answer lists what was wished for, each
//! with the number of its step; `made 3 of 5` is a result.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::code::Code;
use crate::desk::{Desk, DeskOptions};
use crate::event::{Event, GapReason, ReportState, StatusCode, Verb};
use crate::instrument::{Instrument, InstrumentTable};
use crate::order::{Action, Intent, Intents, OrderFlags, OrderType};
use crate::params::Params;
use crate::strategy::{Registry, StrategySpec};
use crate::units::{
    CurrencyId, Decimal, InstrumentId, Money, Nanos, OrderId, Price, Qty, Side, StrategyId,
    VenueId, parse_decimal,
};

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const BTC: CurrencyId = CurrencyId(0);
pub(crate) const USDT: CurrencyId = CurrencyId(1);
pub(crate) const ETH: CurrencyId = CurrencyId(2);
pub(crate) const VENUE: VenueId = VenueId(0);

/// BTCUSDT (0), ETHUSDT (1) and ETHBTC (2) at one venue, fee 10 bps.
pub(crate) fn table() -> InstrumentTable {
    let instrument = |symbol: &str, base, quote, price_scale, lot, fee| Instrument {
        venue: VENUE,
        symbol: symbol.to_string(),
        base,
        quote,
        price_scale,
        qty_scale: 8,
        tick: Price(1),
        lot: Qty(lot),
        min_qty: Qty(lot),
        min_notional: Money(0),
        maker_fee_ppm: fee,
        taker_fee_ppm: fee,
    };
    InstrumentTable {
        venues: vec!["test".to_string()],
        currencies: ["BTC", "USDT", "ETH"].map(String::from).to_vec(),
        instruments: vec![
            instrument("BTCUSDT", BTC, USDT, 2, 1_000, 1_000),
            instrument("ETHUSDT", ETH, USDT, 2, 1_000, 1_000),
            instrument("ETHBTC", ETH, BTC, 6, 1_000, 1_000),
        ],
    }
}

pub(crate) fn spec(id: u8, kind: &str, instruments: &[u16], params: Params) -> StrategySpec {
    StrategySpec {
        id: StrategyId(id),
        name: format!("s{id}"),
        kind: kind.to_string(),
        instruments: instruments.iter().copied().map(InstrumentId).collect(),
        params,
        enabled: true,
    }
}

/// A whole number of units of a currency.
pub(crate) fn money(units: i64) -> Money {
    Money(units * 100_000_000)
}

pub(crate) struct Rig {
    pub(crate) desk: Desk,
    table: InstrumentTable,
    at: Nanos,
    step: u32,
    wishes: Vec<(u32, Intent)>,
}

impl Rig {
    pub(crate) fn new(specs: Vec<StrategySpec>, balances: &[(CurrencyId, i64)]) -> Self {
        let table = table();
        let options = DeskOptions {
            run: 1,
            depth: 64,
            currency: USDT,
            balances: balances
                .iter()
                .map(|&(currency, units)| (VENUE, currency, money(units)))
                .collect(),
        };
        let desk = Desk::new(&table, specs, &Registry::shipped(), &options).unwrap();
        Self { desk, table, at: Nanos(1_000_000 * MS), step: 0, wishes: Vec::new() }
    }

    /// Runs a script and tells what was wished for.
    pub(crate) fn run(&mut self, script: &str) -> String {
        let before = self.wishes.len();
        for step in script.split(';').map(str::trim).filter(|it| !it.is_empty()) {
            self.step += 1;
            self.at = self.at.plus(MS);
            self.play(step);
        }
        let shown = self.wishes[before..].iter().map(|it| self.show(it));
        shown.collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn send(&mut self, event: &Event) {
        let mut intents = Intents::new();
        self.desk.on_event(event, &mut intents);
        let step = self.step;
        self.wishes.extend(intents.as_slice().iter().map(|it| (step, *it)));
    }

    fn play(&mut self, step: &str) {
        let (id, step) = match step.strip_prefix('@') {
            Some(rest) => rest.split_once(' ').unwrap(),
            None => ("0", step),
        };
        let id = InstrumentId(id.parse().unwrap());
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let scale = self.table.instruments[id.index()].price_scale;
        let number = |text: &str, scale| parse_decimal(text.as_bytes(), scale).unwrap();
        let (at, none) = (self.at, Nanos(0));
        let command = |verb| Event::command(at, verb, rest.parse().unwrap_or(0));
        let status = |code| Event::status(at, InstrumentId::NONE, VENUE, code, 0);
        let event = match verb {
            "t" => {
                let price = Price(number(rest, scale));
                Event::trade(at, none, id, price, Qty(1_000), 1, Side::Buy)
            }
            "q" => {
                let level = |text: &str| {
                    let (price, qty) = text.split_once('x').unwrap_or((text, "10"));
                    (Price(number(price, scale)), Qty(number(qty, 8)))
                };
                let (bid, ask) = rest.split_once('/').unwrap();
                Event::quote(at, none, id, level(bid), level(ask))
            }
            "timer" => {
                self.at = self.at.plus(rest.parse::<u64>().unwrap() * MS);
                Event::timer(self.at)
            }
            "gap" => Event::gap(at, id, GapReason::Sequence, 1, 2),
            "up" => status(StatusCode::Connected),
            "down" => status(StatusCode::Disconnected),
            "halt" => command(Verb::Halt),
            "resume" => command(Verb::Resume),
            "kill" => command(Verb::Kill),
            "on" => command(Verb::StrategyEnable),
            "off" => command(Verb::StrategyDisable),
            _ => self.report(verb, rest),
        };
        self.send(&event);
    }

    fn report(&self, verb: &str, rest: &str) -> Event {
        let (number, fill) = rest.split_once(' ').unwrap_or((rest, ""));
        let id = OrderId::new(1, number.parse().unwrap());
        let placed = |it: &&(u32, Intent)| it.1.order == id && it.1.action == Action::Place;
        let intent = self.wishes.iter().find(placed).unwrap_or_else(|| panic!("order {id}")).1;
        let none = Nanos(0);
        let report = |state, code| {
            let (it, left) = (intent.instrument, intent.qty);
            Event::report(self.at, none, it, id, intent.side, state, left, code)
        };
        match verb {
            "s" => report(ReportState::Sent, Code::None),
            "a" => report(ReportState::Acked, Code::None),
            "c" => report(ReportState::Cancelled, Code::UserCancel),
            "r" => report(ReportState::Rejected, Code::VenueRejected),
            "d" => report(ReportState::Denied, Code::InsufficientCash),
            "u" => report(ReportState::Unknown, Code::OrderTimeout),
            "x" => report(ReportState::CancelRejected, Code::UnknownOrder),
            "f" => self.fill(&intent, fill),
            _ => panic!("no such step: {verb}"),
        }
    }

    fn fill(&self, intent: &Intent, fill: &str) -> Event {
        let it = &self.table.instruments[intent.instrument.index()];
        let number = |text: &str, scale| parse_decimal(text.as_bytes(), scale).unwrap();
        let touch = self.desk.market().touch(intent.instrument);
        let (qty, price) = match fill.split_once('@') {
            Some((qty, price)) => (Qty(number(qty, 8)), Price(number(price, it.price_scale))),
            None if intent.order_type == OrderType::Limit => (intent.qty, intent.price),
            None => (intent.qty, touch.unwrap().taken_by(intent.side).0),
        };
        let fee = it.fee(it.notional(price, qty).unwrap(), false).unwrap();
        Event::fill(
            self.at,
            Nanos(0),
            intent.instrument,
            intent.order,
            intent.side,
            price,
            qty,
            fee,
            false,
        )
    }

    fn show(&self, (step, intent): &(u32, Intent)) -> String {
        let number = intent.order.counter();
        let reason = intent.reason.text();
        if intent.action == Action::Cancel {
            return format!("{step}: cancel {number} {reason}");
        }
        if intent.action == Action::Result {
            let (realised, expected) = (Money(intent.qty.0), Money(intent.price.0));
            return format!("{step}: made {realised} of {expected} {reason}");
        }
        let it = &self.table.instruments[intent.instrument.index()];
        let side = match intent.side {
            Side::Buy => "buy",
            Side::Sell => "sell",
        };
        let decimal = |units, scale| Decimal { units, scale };
        let qty = decimal(intent.qty.0, it.qty_scale);
        let price = match intent.order_type {
            OrderType::Market => String::from("market"),
            OrderType::Limit => {
                format!("{} {}", decimal(intent.price.0, it.price_scale), intent.tif.text())
            }
        };
        let flags =
            [(OrderFlags::REDUCE_ONLY, " reduce_only"), (OrderFlags::POST_ONLY, " post_only")];
        let set = flags.iter().filter(|it| intent.flags.has(it.0));
        let flags: String = set.map(|it| it.1).collect();
        let symbol = &it.symbol;
        format!("{step}: {number} {side} {qty} {symbol} {price}{flags} {reason}")
    }
}

/// Runs `script` under one strategy on BTCUSDT with a million USDT and ten BTC.
#[track_caller]
pub(crate) fn check(kind: &str, params: Params, script: &str, want: &str) {
    let funds = [(USDT, 1_000_000), (BTC, 10)];
    let mut rig = Rig::new(vec![spec(0, kind, &[0], params)], &funds);
    assert_eq!(rig.run(script), want, "{script}");
}

/// What a constructor objects to, one line each.
pub(crate) fn problems(kind: &str, instruments: &[u16], params: Params) -> Vec<String> {
    let spec = spec(0, kind, instruments, params);
    match Registry::shipped().build(&spec, &table()) {
        Ok(_) => Vec::new(),
        Err(found) => found.iter().map(ToString::to_string).collect(),
    }
}
