//! Coinbase: trades, best bids and offers, books.

use std::fmt::Write as _;
use std::hint::black_box;

use kairos_adapters::coinbase::{Channel, Decoded, Decoder};
use kairos_adapters::venues::Venue;
use kairos_logic::units::{InstrumentId, Side, VenueId};
use serde::Deserialize;

use super::hyphen::{MESSAGES, Numbers, SYMBOL, agree, table};
use super::link::Way;
use super::{Race, SIMD_JSON, Typed, keep, price, qty};
use crate::report::Findings;
use crate::traffic::Messages;
use crate::{Bench, Trouble};

#[derive(Clone, Copy)]
enum Kind {
    Trade,
    Ticker,
    /// Changes of up to so many levels a side.
    Depth(u64),
}

const KINDS: [(&str, Kind, usize); 4] = [
    ("trade", Kind::Trade, 32),
    ("ticker", Kind::Ticker, 32),
    ("depth_small", Kind::Depth(8), 16),
    ("depth_large", Kind::Depth(60), 4),
];

/// The number of the first message.
const FIRST: usize = 1_000_000_000;

pub(super) fn run(bench: &mut Bench, found: &mut Findings) -> Result<(), Trouble> {
    for (name, kind, per_sample) in KINDS {
        let messages = messages(kind, MESSAGES);
        let (mut scanner, mut tape, typed) = (decoder(), decoder(), by_serde(kind));
        check(kind, &messages)?;
        Race { venue: "coinbase", name, per_sample, messages: &messages, general: SIMD_JSON }.run(
            bench,
            found,
            |it| keep(&scanner.scan(it)),
            |it| keep(&tape.parse(it)),
            |it| keep(&typed(it)),
        );
    }
    Ok(())
}

/// Trades on the whole way through a link. The venue counts messages: when a lap begins again some
/// sixteen of its thousand are taken for repetitions, which no median sees.
pub(super) fn way(bench: &mut Bench, found: &mut Findings) -> Result<(), Trouble> {
    let (table, messages) = (table("coinbase"), messages(Kind::Trade, MESSAGES));
    let mut scanner = decoder();
    let way = Way { venue: Venue::Coinbase, name: "trade", table: &table, messages: &messages };
    way.run(bench, found, |it| keep(&scanner.scan(it)))
}

fn decoder() -> Decoder {
    Decoder::new(&table("coinbase"), VenueId(0), &[InstrumentId(0)])
}

fn check(kind: Kind, messages: &Messages) -> Result<(), Trouble> {
    let (mut scanner, mut tape) = (decoder(), decoder());
    agree(
        messages,
        |it| scanner.scan(it).and_then(|decoded| told(&scanner, decoded)),
        |it| tape.parse(it).ok().and_then(|decoded| told(&tape, decoded)),
        by_serde(kind),
    )
}

fn told(decoder: &Decoder, decoded: Decoded) -> Option<Typed> {
    let Decoded::Message { channel, .. } = decoded else { return None };
    let batch = decoder.batch();
    match channel {
        Channel::Trades => batch.trades().first().map(Typed::trade),
        Channel::Ticker => batch.quotes().first().map(Typed::quote),
        Channel::Book => batch.books().next().map(|(_, levels)| Typed::depth(levels)),
        Channel::Heartbeats | Channel::Other => None,
    }
}

fn messages(kind: Kind, count: usize) -> Messages {
    let mut numbers = Numbers::new(8);
    Messages::written(count, |number, text| {
        numbers.step();
        // Writing into a string does not fail.
        let _ = write(kind, &mut numbers, FIRST + number, text);
    })
}

/// A time of this minute, in microseconds where `fine` is not asked for.
fn time(it: &mut Numbers, fine: bool) -> String {
    let (second, nanos) = (it.ms / 1_000 % 60, it.random.up_to(999_999_999));
    let fraction = format!("{nanos:09}");
    format!("2026-08-09T21:05:{second:02}.{}Z", &fraction[..if fine { 9 } else { 6 }])
}

fn write(kind: Kind, it: &mut Numbers, sequence: usize, text: &mut String) -> std::fmt::Result {
    let (id, sent, at) = (it.id, time(it, true), time(it, false));
    let channel = match kind {
        Kind::Trade => "market_trades",
        Kind::Ticker => "ticker",
        Kind::Depth(_) => "l2_data",
    };
    write!(
        text,
        "{{\"channel\":\"{channel}\",\"timestamp\":\"{sent}\",\"sequence_num\":{sequence},\
         \"events\":[{{\"type\":\"update\","
    )?;
    match kind {
        Kind::Trade => {
            let above = it.random.up_to(1) == 0;
            let (price, size, side) =
                (it.price(above), it.quantity(), if above { "SELL" } else { "BUY" });
            write!(
                text,
                "\"trades\":[{{\"product_id\":\"{SYMBOL}\",\"trade_id\":\"{id}\",\
                 \"price\":\"{price}\",\"size\":\"{size}\",\"time\":\"{at}\",\"side\":\"{side}\"}}]"
            )?;
        }
        Kind::Ticker => {
            let (bid, ask) = (it.price(false), it.price(true));
            let (bid_size, ask_size) = (it.quantity(), it.quantity());
            write!(
                text,
                "\"tickers\":[{{\"type\":\"ticker\",\"product_id\":\"{SYMBOL}\",\"price\":\"{bid}\",\
                 \"volume_24_h\":\"2867.54532609\",\"low_24_h\":\"64675.22\",\
                 \"high_24_h\":\"65252.99\",\"low_52_w\":\"57717.55\",\"high_52_w\":\"126296\",\
                 \"price_percent_chg_24_h\":\"0.09601107287722\",\"best_bid\":\"{bid}\",\
                 \"best_ask\":\"{ask}\",\"best_bid_quantity\":\"{bid_size}\",\
                 \"best_ask_quantity\":\"{ask_size}\"}}]"
            )?;
        }
        Kind::Depth(levels) => {
            write!(text, "\"product_id\":\"{SYMBOL}\",\"updates\":[")?;
            for (side, above) in [("bid", false), ("offer", true)] {
                for level in 0..1 + it.random.up_to(levels - 1) {
                    let comma = if level == 0 && !above { "" } else { "," };
                    let (price, size) = (it.price(above), it.quantity());
                    write!(
                        text,
                        "{comma}{{\"side\":\"{side}\",\"event_time\":\"{at}\",\
                         \"price_level\":\"{price}\",\"new_quantity\":\"{size}\"}}"
                    )?;
                }
            }
            text.push(']');
        }
    }
    text.push_str("}]}");
    Ok(())
}

/// The first event of a message, or nothing.
fn event<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Option<T> {
    let frame: Wire<'a, T> = serde_json::from_slice(text).ok()?;
    black_box((frame.channel, frame.timestamp, frame.sequence_num));
    let [event] = frame.events;
    Some(event)
}

fn by_serde(kind: Kind) -> fn(&[u8]) -> Option<Typed> {
    match kind {
        Kind::Trade => |text| {
            let it: WireTrades<'_> = event(text)?;
            let [it] = &it.trades;
            black_box((it.product_id, it.time));
            Some(Typed::Trade {
                price: price(it.price)?,
                qty: qty(it.size)?,
                id: it.trade_id.parse().ok()?,
                aggressor: if it.side == "SELL" { Side::Buy } else { Side::Sell },
            })
        },
        Kind::Ticker => |text| {
            let it: WireTickers<'_> = event(text)?;
            let [it] = &it.tickers;
            black_box(it.product_id);
            let bid = (price(it.best_bid)?, qty(it.best_bid_quantity)?);
            Some(Typed::Quote([bid, (price(it.best_ask)?, qty(it.best_ask_quantity)?)]))
        },
        Kind::Depth(_) => |text| {
            let it: WireBook<'_> = event(text)?;
            black_box(it.product_id);
            let levels = it.updates.iter().map(|it| {
                black_box((it.side, it.event_time));
                Some((price(it.price_level)?, qty(it.new_quantity)?))
            });
            levels.collect::<Option<_>>().map(Typed::Depth)
        },
    }
}

#[derive(Deserialize)]
struct Wire<'a, T> {
    channel: &'a str,
    timestamp: &'a str,
    sequence_num: u64,
    events: [T; 1],
}

#[derive(Deserialize)]
struct WireTrades<'a> {
    #[serde(borrow)]
    trades: [WireTrade<'a>; 1],
}

#[derive(Deserialize)]
struct WireTrade<'a> {
    product_id: &'a str,
    trade_id: &'a str,
    price: &'a str,
    size: &'a str,
    time: &'a str,
    side: &'a str,
}

#[derive(Deserialize)]
struct WireTickers<'a> {
    #[serde(borrow)]
    tickers: [WireTicker<'a>; 1],
}

#[derive(Deserialize)]
struct WireTicker<'a> {
    product_id: &'a str,
    best_bid: &'a str,
    best_ask: &'a str,
    best_bid_quantity: &'a str,
    best_ask_quantity: &'a str,
}

#[derive(Deserialize)]
struct WireBook<'a> {
    product_id: &'a str,
    #[serde(borrow)]
    updates: Vec<WireLevel<'a>>,
}

#[derive(Deserialize)]
struct WireLevel<'a> {
    side: &'a str,
    event_time: &'a str,
    price_level: &'a str,
    new_quantity: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_says_the_same_of_every_kind() {
        for (_, kind, _) in KINDS {
            check(kind, &messages(kind, 200)).unwrap();
        }
        assert!(check(Kind::Ticker, &messages(Kind::Trade, 1)).is_err());
    }
}
