//! Kraken: trades, best bids and offers, books.
//!
//! Numbers are no text there, and the venue's checksum is over their digits: a tape of doubles would
//! not do. The general parser of this venue is `serde_json` with the text of numbers kept; `simd-json`
//! stands beside it with a tape that nobody reads.

use std::fmt::Write as _;
use std::hint::black_box;

use kairos_adapters::kraken::{Decoded, Decoder};
use kairos_adapters::venues::Venue;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Side, VenueId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::hyphen::{MESSAGES, Numbers, agree};
use super::link::Way;
use super::{General, Race, Typed, keep, price, qty};
use crate::report::Findings;
use crate::traffic::Messages;
use crate::{Bench, Trouble};

const SYMBOL: &str = "BTC/USD";
const RAW_VALUES: General = ("text of numbers", "raw_value");

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

pub(super) fn run(bench: &mut Bench, found: &mut Findings) -> Result<(), Trouble> {
    for (name, kind, per_sample) in KINDS {
        let messages = messages(kind, MESSAGES);
        let (mut scanner, mut general, typed) = (decoder(), decoder(), by_serde(kind));
        check(kind, &messages)?;
        let (venue, messages) = ("kraken", &messages);
        let race = Race { venue, name, per_sample, messages, general: RAW_VALUES };
        race.against_tape(bench, found, |it| keep(&scanner.scan(it)));
        race.run(
            bench,
            found,
            |it| keep(&scanner.scan(it)),
            |it| keep(&general.parse(it)),
            |it| keep(&typed(it)),
        );
    }
    Ok(())
}

fn table() -> InstrumentTable {
    let mut table = super::table();
    table.venues = vec!["kraken".to_owned()];
    for it in &mut table.instruments {
        it.symbol = SYMBOL.to_owned();
    }
    table
}

/// Trades on the whole way through a link.
pub(super) fn way(bench: &mut Bench, found: &mut Findings) -> Result<(), Trouble> {
    let (table, messages) = (table(), messages(Kind::Trade, MESSAGES));
    let mut scanner = decoder();
    let way = Way { venue: Venue::Kraken, name: "trade", table: &table, messages: &messages };
    way.run(bench, found, |it| keep(&scanner.scan(it)))
}

fn decoder() -> Decoder {
    Decoder::new(&table(), VenueId(0), &[InstrumentId(0)])
}

fn check(kind: Kind, messages: &Messages) -> Result<(), Trouble> {
    let (mut scanner, mut general) = (decoder(), decoder());
    agree(
        messages,
        |it| scanner.scan(it).and_then(|decoded| told(&scanner, decoded)),
        |it| general.parse(it).ok().and_then(|decoded| told(&general, decoded)),
        by_serde(kind),
    )
}

fn told(decoder: &Decoder, decoded: Decoded) -> Option<Typed> {
    let batch = decoder.batch();
    match decoded {
        Decoded::Trades => batch.trades().first().map(Typed::trade),
        Decoded::Quotes => batch.quotes().first().map(Typed::quote),
        Decoded::Books => batch.books().next().map(|(_, levels)| Typed::depth(levels)),
        Decoded::Heartbeat
        | Decoded::Subscribed { .. }
        | Decoded::Refused(_)
        | Decoded::Ignored => None,
    }
}

fn messages(kind: Kind, count: usize) -> Messages {
    let mut numbers = Numbers::new(9);
    Messages::written(count, |_, text| {
        numbers.step();
        // Writing into a string does not fail.
        let _ = write(kind, &mut numbers, text);
    })
}

fn write(kind: Kind, it: &mut Numbers, text: &mut String) -> std::fmt::Result {
    let at = format!("2026-08-09T21:05:{:02}.{:06}Z", it.ms / 1_000 % 60, it.random.up_to(999_999));
    let (id, channel) = match kind {
        Kind::Trade => (it.id, "trade"),
        Kind::Ticker => (it.id, "ticker"),
        Kind::Depth(_) => (it.id, "book"),
    };
    write!(
        text,
        "{{\"channel\":\"{channel}\",\"type\":\"update\",\"data\":[{{\"symbol\":\"{SYMBOL}\","
    )?;
    match kind {
        Kind::Trade => {
            let above = it.random.up_to(1) == 0;
            let (price, qty, side) =
                (it.price(above), it.quantity(), if above { "buy" } else { "sell" });
            write!(
                text,
                "\"side\":\"{side}\",\"price\":{price},\"qty\":{qty},\"ord_type\":\"limit\",\
                 \"trade_id\":{id},"
            )?;
        }
        Kind::Ticker => {
            let (bid, ask) = (it.price(false), it.price(true));
            let (bid_qty, ask_qty) = (it.quantity(), it.quantity());
            write!(
                text,
                "\"bid\":{bid},\"bid_qty\":{bid_qty},\"ask\":{ask},\"ask_qty\":{ask_qty},\
                 \"last\":{ask},\"volume\":163.28908096,\"vwap\":105904.39279,\"low\":104711.0,\
                 \"high\":106613.1,\"change\":250.0,\"change_pct\":0.24,"
            )?;
        }
        Kind::Depth(levels) => {
            for (name, above) in [("\"bids\":[", false), ("],\"asks\":[", true)] {
                text.push_str(name);
                for level in 0..1 + it.random.up_to(levels - 1) {
                    let comma = if level == 0 { "" } else { "," };
                    let (price, qty) = (it.price(above), it.quantity());
                    write!(text, "{comma}{{\"price\":{price},\"qty\":{qty}}}")?;
                }
            }
            write!(text, "],\"checksum\":{},", it.random.up_to(u64::from(u32::MAX)))?;
        }
    }
    write!(text, "\"timestamp\":\"{at}\"}}]}}")
}

/// The first item of a message.
fn item<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Option<T> {
    let frame: Wire<'a, T> = serde_json::from_slice(text).ok()?;
    black_box((frame.channel, frame.kind));
    let [item] = frame.data;
    Some(item)
}

fn by_serde(kind: Kind) -> fn(&[u8]) -> Option<Typed> {
    match kind {
        Kind::Trade => |text| {
            let it: WireTrade<'_> = item(text)?;
            black_box((it.symbol, it.timestamp));
            Some(Typed::Trade {
                price: price(it.price.get())?,
                qty: qty(it.qty.get())?,
                id: it.trade_id,
                aggressor: if it.side == "buy" { Side::Buy } else { Side::Sell },
            })
        },
        Kind::Ticker => |text| {
            let it: WireTicker<'_> = item(text)?;
            black_box((it.symbol, it.timestamp));
            let bid = (price(it.bid.get())?, qty(it.bid_qty.get())?);
            Some(Typed::Quote([bid, (price(it.ask.get())?, qty(it.ask_qty.get())?)]))
        },
        Kind::Depth(_) => |text| {
            let it: WireBook<'_> = item(text)?;
            black_box((it.symbol, it.timestamp, it.checksum));
            let levels = it.bids.iter().chain(&it.asks);
            let levels = levels.map(|it| Some((price(it.price.get())?, qty(it.qty.get())?)));
            levels.collect::<Option<_>>().map(Typed::Depth)
        },
    }
}

#[derive(Deserialize)]
struct Wire<'a, T> {
    channel: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    data: [T; 1],
}

#[derive(Deserialize)]
struct WireTrade<'a> {
    symbol: &'a str,
    side: &'a str,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
    trade_id: u64,
    timestamp: &'a str,
}

#[derive(Deserialize)]
struct WireTicker<'a> {
    symbol: &'a str,
    #[serde(borrow)]
    bid: &'a RawValue,
    #[serde(borrow)]
    bid_qty: &'a RawValue,
    #[serde(borrow)]
    ask: &'a RawValue,
    #[serde(borrow)]
    ask_qty: &'a RawValue,
    timestamp: &'a str,
}

#[derive(Deserialize)]
struct WireBook<'a> {
    symbol: &'a str,
    #[serde(borrow)]
    bids: Vec<WireLevel<'a>>,
    #[serde(borrow)]
    asks: Vec<WireLevel<'a>>,
    checksum: u32,
    timestamp: &'a str,
}

#[derive(Deserialize)]
struct WireLevel<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use super::super::BareTape;
    use super::*;

    #[test]
    fn the_bare_tape_reads_every_kind() {
        for (_, kind, _) in KINDS {
            let mut tape = BareTape::new();
            assert!(messages(kind, 50).iter().all(|it| tape.nodes(it) > 10));
        }
        assert_eq!(BareTape::new().nodes(b"{\"channel\":"), 0);
    }

    #[test]
    fn every_reader_says_the_same_of_every_kind() {
        for (_, kind, _) in KINDS {
            check(kind, &messages(kind, 200)).unwrap();
        }
        assert!(check(Kind::Ticker, &messages(Kind::Trade, 1)).is_err());
    }
}
