//! Messages as owned values, by `serde_json`: how an ordinary program reads its market data, and
//! writes its orders.

use kairos_adapters::session::Arrival;
use kairos_logic::event::{Event, Flags};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{Decision, OrderFlags, OrderType, TimeInForce};
use kairos_logic::units::{Decimal, Nanos, Price, Qty, Side, parse_decimal};
use serde::{Deserialize, Serialize};

use super::rig::INSTRUMENT;
use crate::decode::{PRICE_SCALE, QTY_SCALE};

/// One message.
#[derive(Debug)]
pub(super) enum Owned {
    Trade(Trade),
    Quote(Quote),
    Depth(Depth),
}

impl Owned {
    /// Reads a message; the kind is told by its first key, so that nothing is tried twice.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        if frame.starts_with(b"{\"e\":\"trade\"") {
            serde_json::from_slice(frame).ok().map(Self::Trade)
        } else if frame.starts_with(b"{\"e\":\"depthUpdate\"") {
            serde_json::from_slice(frame).ok().map(Self::Depth)
        } else {
            serde_json::from_slice(frame).ok().map(Self::Quote)
        }
    }

    /// Its events; none of a message whose numbers do not read.
    pub(super) fn events(&self, arrival: Arrival, publish: &mut impl FnMut(Event)) {
        match self {
            Self::Trade(it) => it.event(arrival).into_iter().for_each(publish),
            Self::Quote(it) => it.event(arrival).into_iter().for_each(publish),
            Self::Depth(it) => it.events(arrival, publish),
        }
    }
}

fn price(text: &str) -> Option<Price> {
    parse_decimal(text.as_bytes(), PRICE_SCALE).ok().map(Price)
}

fn qty(text: &str) -> Option<Qty> {
    parse_decimal(text.as_bytes(), QTY_SCALE).ok().map(Qty)
}

fn stamped(event: Event, arrival: Arrival) -> Event {
    Event { recv: arrival.recv, ..event }
}

/// A trade.
#[derive(Debug, Deserialize)]
pub(super) struct Trade {
    t: u64,
    p: String,
    q: String,
    #[serde(rename = "T")]
    time: u64,
    m: bool,
}

impl Trade {
    fn event(&self, arrival: Arrival) -> Option<Event> {
        let aggressor = if self.m { Side::Sell } else { Side::Buy };
        let (price, qty, venue_at) = (price(&self.p)?, qty(&self.q)?, ms(self.time));
        let event = Event::trade(arrival.at, venue_at, INSTRUMENT, price, qty, self.t, aggressor);
        Some(stamped(event, arrival))
    }
}

/// The best bid and offer.
#[derive(Debug, Deserialize)]
pub(super) struct Quote {
    b: String,
    #[serde(rename = "B")]
    b_qty: String,
    a: String,
    #[serde(rename = "A")]
    a_qty: String,
}

impl Quote {
    fn event(&self, arrival: Arrival) -> Option<Event> {
        let bid = (price(&self.b)?, qty(&self.b_qty)?);
        let ask = (price(&self.a)?, qty(&self.a_qty)?);
        let event = Event::quote(arrival.at, Nanos(0), INSTRUMENT, bid, ask);
        Some(stamped(event, arrival))
    }
}

/// Changes of the book.
#[derive(Debug, Deserialize)]
pub(super) struct Depth {
    #[serde(rename = "E")]
    time: u64,
    u: u64,
    b: Vec<(String, String)>,
    a: Vec<(String, String)>,
}

impl Depth {
    fn events(&self, arrival: Arrival, publish: &mut impl FnMut(Event)) {
        let sides = [(Side::Buy, &self.b), (Side::Sell, &self.a)];
        let levels = sides.iter().flat_map(|(side, all)| all.iter().map(move |it| (*side, it)));
        let mut left = self.b.len() + self.a.len();
        for (side, (price_text, qty_text)) in levels {
            left -= 1;
            let flags = if left == 0 { Flags::LAST } else { Flags::NONE };
            let (Some(price), Some(qty)) = (price(price_text), qty(qty_text)) else { return };
            let (at, venue_at) = (arrival.at, ms(self.time));
            let event = Event::book(at, venue_at, INSTRUMENT, side, price, qty, self.u, flags);
            publish(stamped(event, arrival));
        }
    }
}

/// A request to the venue.
#[derive(Debug, Serialize)]
struct Request {
    id: String,
    method: &'static str,
    params: Params,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    new_client_order_id: String,
    price: String,
    quantity: String,
    side: &'static str,
    symbol: String,
    time_in_force: &'static str,
    timestamp: u64,
    r#type: &'static str,
}

/// The text of a limit order that may trade at once; `None` for anything else.
pub(super) fn order_text(table: &InstrumentTable, decision: &Decision) -> Option<String> {
    let instrument = table.instrument(decision.instrument)?;
    let plain = decision.order_type == OrderType::Limit && decision.flags == OrderFlags::NONE;
    let id = format!("k{}-{}", decision.order.run(), decision.order.counter());
    let decimal = |units, scale| Decimal { units, scale }.to_string();
    let params = Params {
        new_client_order_id: id.clone(),
        price: decimal(decision.price.0, instrument.price_scale),
        quantity: decimal(decision.qty.0, instrument.qty_scale),
        side: match decision.side {
            Side::Buy => "BUY",
            Side::Sell => "SELL",
        },
        symbol: instrument.symbol.clone(),
        time_in_force: match decision.tif {
            TimeInForce::Gtc => "GTC",
            TimeInForce::Ioc => "IOC",
            TimeInForce::Fok => "FOK",
        },
        timestamp: decision.at.0 / 1_000_000,
        r#type: "LIMIT",
    };
    let request = Request { id, method: "order.place", params };
    plain.then(|| serde_json::to_string(&request).ok()).flatten()
}

const fn ms(ms: u64) -> Nanos {
    Nanos(ms * 1_000_000)
}

#[cfg(test)]
mod tests {
    use kairos_adapters::binance::orders::{MESSAGE_MAX, OrderEncoder};
    use kairos_adapters::session::Outbox;
    use kairos_logic::order::{Intents, Proposal};
    use kairos_logic::units::{Seq, Stamp};

    use super::super::rig::{self, Load};
    use super::*;

    #[test]
    fn owned_values_give_the_events_of_the_session() {
        let load = Load::new(20_000);
        let mut session = rig::session(&rig::table()).unwrap();
        let mut out = Outbox::new();
        let opened = (Nanos(1), Stamp(1));
        rig::open(&mut session, &load, opened, &mut out, &mut |_| {});
        for (number, frame) in load.messages.iter().take(2_000).enumerate() {
            let number = number as u64;
            let arrival = Arrival { at: Nanos(5 + number), recv: Stamp(7 + number), number };
            let (mut wanted, mut found) = (Vec::new(), Vec::new());
            session.frame(arrival, frame, &mut out, &mut |it: Event| wanted.push(it));
            Owned::read(frame).unwrap().events(arrival, &mut |it| found.push(it));
            assert!(!wanted.is_empty());
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn owned_values_give_the_text_of_the_encoder() {
        let table = rig::table();
        let (mut desk, mut risk) = rig::logic(&table).unwrap();
        let encoder = OrderEncoder::new(&table, rig::VENUE);
        let mut session = rig::session(&table).unwrap();
        let (load, mut out) = (Load::new(20_000), Outbox::new());
        let mut events = Vec::new();
        let opened = (Nanos(1), Stamp(1));
        rig::open(&mut session, &load, opened, &mut out, &mut |it| events.push(it));
        for (number, frame) in (0..).zip(load.messages.iter().take(2_000)) {
            let arrival = Arrival { at: Nanos(1_700_000_000_000_000_000), recv: Stamp(7), number };
            session.frame(arrival, frame, &mut out, &mut |it: Event| events.push(it));
        }
        let mut orders = 0;
        for (cause, event) in (0..).map(Seq).zip(&events) {
            let mut intents = Intents::new();
            desk.on_event(event, &mut intents);
            risk.on_event(cause, event, &mut |_| {});
            for &intent in intents.as_slice() {
                let outcome = risk.judge(&Proposal { cause, intent, strategy_at: Stamp(0) });
                let Some(order) = outcome.approved() else { continue };
                let mut buffer = [0; MESSAGE_MAX];
                let want = encoder.encode(order.get(), order.get().at, &mut buffer).unwrap();
                assert_eq!(order_text(&table, order.get()).unwrap().as_bytes(), want.text);
                orders += 1;
            }
        }
        assert!(orders > 1_000, "{orders} orders");
    }
}
