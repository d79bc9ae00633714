//! OKX: trades, best levels, books.

use std::fmt::Write as _;
use std::hint::black_box;

use kairos_adapters::okx::{Decoded, Decoder};
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
    ("bbo_tbt", Kind::Quote, 32),
    ("depth_small", Kind::Depth(8), 16),
    ("depth_large", Kind::Depth(60), 4),
];

pub(super) fn run(bench: &mut Bench, found: &mut Findings) -> Result<(), Trouble> {
    for (name, kind, per_sample) in KINDS {
        let messages = messages(kind, MESSAGES);
        let (mut scanner, mut tape, typed) = (decoder(), decoder(), by_serde(kind));
        check(kind, &messages)?;
        Race { venue: "okx", name, per_sample, messages: &messages, general: SIMD_JSON }.run(
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
    let (table, messages) = (table("okx"), messages(Kind::Trade, MESSAGES));
    let mut scanner = decoder();
    let way = Way { venue: Venue::Okx, name: "trade", table: &table, messages: &messages };
    way.run(bench, found, |it| keep(&scanner.scan(it)))
}

fn decoder() -> Decoder {
    Decoder::new(&table("okx"), VenueId(0), &[InstrumentId(0)])
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
        Decoded::Trades { .. } => {
            let it = decoder.trades().first()?;
            Some(Typed::Trade { price: it.price, qty: it.qty, id: it.id, aggressor: it.aggressor })
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
    let channel = match kind {
        Kind::Trade => "trades",
        Kind::Quote => "bbo-tbt",
        Kind::Depth(_) => "books",
    };
    write!(text, "{{\"arg\":{{\"channel\":\"{channel}\",\"instId\":\"{SYMBOL}\"}},")?;
    let levels = match kind {
        Kind::Trade => {
            let above = it.random.up_to(1) == 0;
            let side = if above { "buy" } else { "sell" };
            let (price, quantity) = (it.price(above), it.quantity());
            return write!(
                text,
                "\"data\":[{{\"instId\":\"{SYMBOL}\",\"tradeId\":\"{id}\",\"px\":\"{price}\",\
                 \"sz\":\"{quantity}\",\"side\":\"{side}\",\"ts\":\"{ms}\",\"count\":\"1\"}}]}}"
            );
        }
        Kind::Quote => 1,
        Kind::Depth(levels) => {
            text.push_str("\"action\":\"update\",");
            levels
        }
    };
    text.push_str("\"data\":[{");
    for (name, above) in [("\"asks\":[", true), ("],\"bids\":[", false)] {
        text.push_str(name);
        for level in 0..1 + it.random.up_to(levels - 1) {
            let comma = if level == 0 { "" } else { "," };
            let (price, quantity, orders) = (it.price(above), it.quantity(), it.random.up_to(30));
            write!(text, "{comma}[\"{price}\",\"{quantity}\",\"0\",\"{orders}\"]")?;
        }
    }
    write!(text, "],\"ts\":\"{ms}\"")?;
    if matches!(kind, Kind::Depth(_)) {
        write!(text, ",\"checksum\":0,\"seqId\":{id},\"prevSeqId\":{}}}]}}", id - 1)
    } else {
        write!(text, ",\"seqId\":{id}}}]}}")
    }
}

fn by_serde(kind: Kind) -> fn(&[u8]) -> Option<Typed> {
    match kind {
        Kind::Trade => |it| {
            let frame: Wire<'_, WireTrade<'_>> = serde_json::from_slice(it).ok()?;
            black_box(&frame.arg);
            let it = &frame.data[0];
            black_box((it.inst_id, it.ts));
            Some(Typed::Trade {
                price: price(it.px)?,
                qty: qty(it.sz)?,
                id: it.trade_id.parse().ok()?,
                aggressor: if it.side == "buy" { Side::Buy } else { Side::Sell },
            })
        },
        Kind::Quote => |it| {
            let frame: Wire<'_, WireBook<'_>> = serde_json::from_slice(it).ok()?;
            let it = &frame.data[0];
            black_box((&frame.arg, it.ts, it.seq_id));
            let level = |it: &WireLevel<'_>| Some((price(it.0)?, qty(it.1)?));
            Some(Typed::Quote([level(it.bids.first()?)?, level(it.asks.first()?)?]))
        },
        Kind::Depth(_) => |it| {
            let frame: Wire<'_, WireBook<'_>> = serde_json::from_slice(it).ok()?;
            let it = &frame.data[0];
            black_box((&frame.arg, frame.action, it.ts, it.seq_id, it.prev_seq_id, it.checksum));
            let levels = it.asks.iter().chain(&it.bids);
            let levels = levels.map(|it| Some((price(it.0)?, qty(it.1)?)));
            levels.collect::<Option<_>>().map(Typed::Depth)
        },
    }
}

#[derive(Deserialize)]
struct Wire<'a, T> {
    #[serde(borrow)]
    arg: WireArg<'a>,
    action: Option<&'a str>,
    data: [T; 1],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read to be looked at by the compiler only")]
struct WireArg<'a> {
    channel: &'a str,
    inst_id: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTrade<'a> {
    inst_id: &'a str,
    trade_id: &'a str,
    px: &'a str,
    sz: &'a str,
    side: &'a str,
    ts: &'a str,
}

type WireLevel<'a> = (&'a str, &'a str, &'a str, &'a str);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBook<'a> {
    #[serde(borrow)]
    asks: Vec<WireLevel<'a>>,
    bids: Vec<WireLevel<'a>>,
    ts: &'a str,
    seq_id: i64,
    prev_seq_id: Option<i64>,
    checksum: Option<i64>,
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
