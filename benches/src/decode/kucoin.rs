//! KuCoin: trades, tickers, books.

use std::fmt::Write as _;
use std::hint::black_box;

use kairos_adapters::kucoin::{Decoded, Decoder};
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
    Quote,
    /// Changes of up to so many levels a side.
    Depth(u64),
}

const KINDS: [(&str, Kind, usize); 4] = [
    ("trade", Kind::Trade, 32),
    ("ticker", Kind::Quote, 32),
    ("depth_small", Kind::Depth(8), 16),
    ("depth_large", Kind::Depth(60), 4),
];

pub(super) fn run(bench: &mut Bench, found: &mut Findings) -> Result<(), Trouble> {
    for (name, kind, per_sample) in KINDS {
        let messages = messages(kind, MESSAGES);
        let (mut scanner, mut tape, typed) = (decoder(), decoder(), by_serde(kind));
        check(kind, &messages)?;
        Race { venue: "kucoin", name, per_sample, messages: &messages, general: SIMD_JSON }.run(
            bench,
            found,
            |it| keep(&scanner.scan(it)),
            |it| keep(&tape.parse(it)),
            |it| keep(&typed(it)),
        );
    }
    Ok(())
}

/// Trades on the whole way through a link.
pub(super) fn way(bench: &mut Bench, found: &mut Findings) -> Result<(), Trouble> {
    let (table, messages) = (table("kucoin"), messages(Kind::Trade, MESSAGES));
    let mut scanner = decoder();
    let way = Way { venue: Venue::Kucoin, name: "trade", table: &table, messages: &messages };
    way.run(bench, found, |it| keep(&scanner.scan(it)))
}

fn decoder() -> Decoder {
    Decoder::new(&table("kucoin"), VenueId(0), &[InstrumentId(0)])
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
    match decoded {
        Decoded::Trade { price, qty, id, aggressor, .. } => {
            Some(Typed::Trade { price, qty, id, aggressor })
        }
        Decoded::Quote { bid, ask, .. } => {
            Some(Typed::Quote([(bid.price, bid.qty), (ask.price, ask.qty)]))
        }
        Decoded::Depth { .. } => {
            let levels = decoder.levels().iter();
            Some(Typed::Depth(levels.map(|(_, it)| (it.price, it.qty)).collect()))
        }
        Decoded::Refused { .. } | Decoded::Ignored(_) | Decoded::UnknownSymbol => None,
    }
}

fn messages(kind: Kind, count: usize) -> Messages {
    let mut numbers = Numbers::new(7);
    Messages::written(count, |_, text| {
        numbers.step();
        // Writing into a string does not fail.
        let _ = write(kind, &mut numbers, text);
    })
}

fn write(kind: Kind, it: &mut Numbers, text: &mut String) -> std::fmt::Result {
    let (ms, id) = (it.ms, it.id);
    let (topic, subject) = match kind {
        Kind::Trade => ("match", "l3match"),
        Kind::Quote => ("ticker", "ticker"),
        Kind::Depth(_) => ("level2", "l2update"),
    };
    write!(
        text,
        "{{\"topic\":\"/market/{topic}:{SYMBOL}\",\"type\":\"message\",\
         \"subject\":\"trade.{subject}\",\"data\":{{"
    )?;
    match kind {
        Kind::Trade => {
            let above = it.random.up_to(1) == 0;
            let side = if above { "buy" } else { "sell" };
            let (maker, taker) = (it.random.draw(), it.random.draw());
            let (price, quantity) = (it.price(above), it.quantity());
            write!(
                text,
                "\"makerOrderId\":\"671b5007{maker:016x}\",\"price\":\"{price}\",\
                 \"sequence\":\"{id}\",\"side\":\"{side}\",\"size\":\"{quantity}\",\
                 \"symbol\":\"{SYMBOL}\",\"takerOrderId\":\"671b5016{taker:016x}\",\
                 \"time\":\"{ms}000000\",\"tradeId\":\"{id}\",\"type\":\"match\"}}}}"
            )
        }
        Kind::Quote => {
            let (ask, bid, last) = (it.price(true), it.price(false), it.price(true));
            let (ask_qty, bid_qty, size) = (it.quantity(), it.quantity(), it.quantity());
            write!(
                text,
                "\"bestAsk\":\"{ask}\",\"bestAskSize\":\"{ask_qty}\",\"bestBid\":\"{bid}\",\
                 \"bestBidSize\":\"{bid_qty}\",\"price\":\"{last}\",\"sequence\":\"{id}\",\
                 \"size\":\"{size}\",\"time\":{ms}}}}}"
            )
        }
        Kind::Depth(levels) => {
            let mut sequence = id;
            text.push_str("\"changes\":{");
            for (name, above) in [("\"asks\":[", true), ("],\"bids\":[", false)] {
                text.push_str(name);
                for level in 0..1 + it.random.up_to(levels - 1) {
                    let comma = if level == 0 { "" } else { "," };
                    sequence += 1;
                    let (price, quantity) = (it.price(above), it.quantity());
                    write!(text, "{comma}[\"{price}\",\"{quantity}\",\"{sequence}\"]")?;
                }
            }
            it.id = sequence;
            write!(
                text,
                "]}},\"sequenceEnd\":{sequence},\"sequenceStart\":{},\"symbol\":\"{SYMBOL}\",\
                 \"time\":{ms}}}}}",
                id + 1
            )
        }
    }
}

fn by_serde(kind: Kind) -> fn(&[u8]) -> Option<Typed> {
    match kind {
        Kind::Trade => |it| {
            let frame: Wire<'_, WireTrade<'_>> = serde_json::from_slice(it).ok()?;
            let it = &frame.data;
            black_box((frame.topic, frame.subject, it.symbol, it.sequence, it.time));
            Some(Typed::Trade {
                price: price(it.price)?,
                qty: qty(it.size)?,
                id: it.trade_id.parse().ok()?,
                aggressor: if it.side == "buy" { Side::Buy } else { Side::Sell },
            })
        },
        Kind::Quote => |it| {
            let frame: Wire<'_, WireTicker<'_>> = serde_json::from_slice(it).ok()?;
            let it = &frame.data;
            black_box((frame.topic, frame.subject, it.sequence, it.time));
            let bid = (price(it.best_bid)?, qty(it.best_bid_size)?);
            Some(Typed::Quote([bid, (price(it.best_ask)?, qty(it.best_ask_size)?)]))
        },
        Kind::Depth(_) => |it| {
            let frame: Wire<'_, WireUpdate<'_>> = serde_json::from_slice(it).ok()?;
            let it = &frame.data;
            black_box((frame.topic, frame.subject, it.symbol, it.time));
            black_box((it.sequence_start, it.sequence_end));
            let levels = it.changes.asks.iter().chain(&it.changes.bids);
            let levels = levels.map(|it| {
                black_box(it.2.parse::<u64>().ok()?);
                Some((price(it.0)?, qty(it.1)?))
            });
            levels.collect::<Option<_>>().map(Typed::Depth)
        },
    }
}

#[derive(Deserialize)]
struct Wire<'a, T> {
    topic: &'a str,
    subject: &'a str,
    data: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTrade<'a> {
    symbol: &'a str,
    side: &'a str,
    price: &'a str,
    size: &'a str,
    trade_id: &'a str,
    sequence: &'a str,
    time: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTicker<'a> {
    best_ask: &'a str,
    best_ask_size: &'a str,
    best_bid: &'a str,
    best_bid_size: &'a str,
    sequence: &'a str,
    time: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUpdate<'a> {
    #[serde(borrow)]
    changes: WireChanges<'a>,
    sequence_start: u64,
    sequence_end: u64,
    symbol: &'a str,
    time: u64,
}

#[derive(Deserialize)]
struct WireChanges<'a> {
    #[serde(borrow)]
    asks: Vec<(&'a str, &'a str, &'a str)>,
    bids: Vec<(&'a str, &'a str, &'a str)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_says_the_same_of_every_kind() {
        for (_, kind, _) in KINDS {
            check(kind, &messages(kind, 200)).unwrap();
        }
        assert!(check(Kind::Quote, &messages(Kind::Trade, 1)).is_err());
    }
}
