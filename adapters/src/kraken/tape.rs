//! Reads frames in any spelling of JSON: the fallback of the scanner, and its oracle in tests.
//!
//! `serde_json` hands out numbers as the text that they are; a tape would make doubles of them.
//! It allocates, and so do frames that the scanner does not know.

use std::borrow::Cow;

use kairos_logic::event::Event;
use kairos_logic::units::{Nanos, Side};
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::decode::{Decoded, FRAME_MAX, Refusal};
use crate::session::Fault;
use crate::venue::batch::{Batch, Part, Quote, Trade};
use crate::venue::levels::units;
use crate::venue::symbols::{Listed, Symbols};
use crate::venue::time::parse_time;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    success: Option<bool>,
    #[serde(borrow)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow)]
    symbol: Option<Cow<'a, str>>,
    #[serde(borrow)]
    req_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Subscribed<'a> {
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    symbol: Option<Cow<'a, str>>,
    depth: Option<u16>,
}

#[derive(Deserialize)]
struct Book<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    bids: Vec<&'a RawValue>,
    #[serde(borrow)]
    asks: Vec<&'a RawValue>,
    checksum: u32,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RawLevel<'a> {
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
}

#[derive(Deserialize)]
struct RawTrade<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    qty: &'a RawValue,
    trade_id: u64,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Ticker<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    bid: &'a RawValue,
    #[serde(borrow)]
    bid_qty: &'a RawValue,
    #[serde(borrow)]
    ask: &'a RawValue,
    #[serde(borrow)]
    ask_qty: &'a RawValue,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => Fault::Shape,
        Category::Syntax | Category::Eof | Category::Io => Fault::NotJson,
    })
}

/// An object. (A list of its values in their order would do for the library.)
fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Fault> {
    if !raw.get().starts_with('{') {
        return Err(Fault::Shape);
    }
    json(raw.get())
}

/// The text of a number, in units of the instrument's scale, and its decimals.
fn number(raw: &RawValue, scale: u8) -> Result<(i64, u8), Fault> {
    let text = raw.get();
    if !text.starts_with(|it: char| it == '-' || it.is_ascii_digit()) {
        return Err(Fault::Shape);
    }
    let fraction = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let units = units(text, scale)?;
    Ok((units, u8::try_from(fraction).map_err(|_| Fault::TooFine)?))
}

/// A number of a quote; `null` is a side without orders.
fn side(raw: &RawValue, scale: u8) -> Result<i64, Fault> {
    if raw.get() == "null" { Ok(0) } else { number(raw, scale).map(|(units, _)| units) }
}

fn time(text: Option<&str>) -> Result<Nanos, Fault> {
    text.map_or(Ok(Nanos(0)), parse_time)
}

pub(super) fn frame(
    frame: &[u8],
    symbols: &Symbols,
    batch: &mut Batch,
    words: &mut Vec<u8>,
) -> Result<Decoded, Fault> {
    batch.clear();
    words.clear();
    if frame.len() > FRAME_MAX {
        return Err(Fault::TooLong);
    }
    let text = str::from_utf8(frame).map_err(|_| Fault::NotJson)?;
    let message: Message<'_> = object(json(text)?)?;
    let Some(channel) = &message.channel else {
        return reply(&message, symbols, words);
    };
    let (decoded, kind) = match &**channel {
        "book" => (Decoded::Books, message.kind),
        "trade" => (Decoded::Trades, message.kind),
        "ticker" => (Decoded::Quotes, message.kind),
        "heartbeat" => return Ok(Decoded::Heartbeat),
        _ => return Ok(Decoded::Ignored),
    };
    let snapshot = match kind.as_deref() {
        Some("snapshot") => true,
        Some("update") => false,
        Some(_) | None => return Err(Fault::Shape),
    };
    let data: Vec<&RawValue> = json(message.data.ok_or(Fault::Shape)?.get())?;
    if data.is_empty() {
        return Ok(Decoded::Ignored);
    }
    for item in data {
        match decoded {
            Decoded::Books => book(item, snapshot, symbols, batch)?,
            Decoded::Quotes => ticker(item, symbols, batch)?,
            Decoded::Trades
            | Decoded::Heartbeat
            | Decoded::Subscribed { .. }
            | Decoded::Refused(_)
            | Decoded::Ignored => trade(item, snapshot, symbols, batch)?,
        }
    }
    Ok(decoded)
}

/// A message that answers a request: it has a method and no channel.
fn reply(message: &Message<'_>, symbols: &Symbols, words: &mut Vec<u8>) -> Result<Decoded, Fault> {
    let refused = message.success == Some(false) || message.error.is_some();
    if message.method.is_none() && !refused {
        return Err(Fault::Shape);
    }
    let find = |symbol: &Option<Cow<'_, str>>| symbols.find(symbol.as_deref()?.as_bytes());
    if refused {
        let error = message.error.as_deref().unwrap_or_default().as_bytes();
        words.extend_from_slice(error.get(..Event::SAID_MAX).unwrap_or(error));
        let request = message.req_id.and_then(|it| it.get().parse().ok());
        let instrument = find(&message.symbol).map(|it| it.id);
        return Ok(Decoded::Refused(Refusal { request, instrument }));
    }
    let Some(result) = message.result.filter(|_| message.method.as_deref() == Some("subscribe"))
    else {
        return Ok(Decoded::Ignored);
    };
    let result: Subscribed<'_> = object(result)?;
    let depth = result.depth.filter(|_| result.channel.as_deref() == Some("book"));
    Ok(match (find(&result.symbol), depth) {
        (Some(listed), Some(depth)) => Decoded::Subscribed { slot: listed.slot, depth },
        (Some(_) | None, _) => Decoded::Ignored,
    })
}

fn book(raw: &RawValue, snapshot: bool, symbols: &Symbols, batch: &mut Batch) -> Result<(), Fault> {
    let book: Book<'_> = object(raw)?;
    let Some(listed) = symbols.find(book.symbol.as_bytes()) else {
        batch.unknown += 1;
        return Ok(());
    };
    let mut decimals = (0, 0);
    for (side, levels) in [(Side::Buy, &book.bids), (Side::Sell, &book.asks)] {
        for level in levels {
            let level: RawLevel<'_> = object(level)?;
            let (price, places) = number(level.price, listed.price_scale)?;
            decimals.0 = places.max(decimals.0);
            let (qty, places) = number(level.qty, listed.qty_scale)?;
            decimals.1 = places.max(decimals.1);
            batch.level(side, (price, qty))?;
        }
    }
    let part = Part::new(listed, snapshot, time(book.timestamp.as_deref())?);
    batch.end_part(part.summed(book.checksum, decimals))
}

fn trade(
    raw: &RawValue,
    snapshot: bool,
    symbols: &Symbols,
    batch: &mut Batch,
) -> Result<(), Fault> {
    let trade: RawTrade<'_> = object(raw)?;
    let Some(listed) = symbols.find(trade.symbol.as_bytes()) else {
        batch.unknown += 1;
        return Ok(());
    };
    let aggressor = match &*trade.side {
        "buy" => Side::Buy,
        "sell" => Side::Sell,
        _ => return Err(Fault::Shape),
    };
    let (price, qty) = pair(trade.price, trade.qty, listed)?;
    let time = parse_time(&trade.timestamp)?;
    let trade = Trade::new(listed, time, (price, qty), trade.trade_id, aggressor)?;
    if snapshot {
        batch.old_trades += 1;
        return Ok(());
    }
    batch.trade(trade)
}

fn pair(price: &RawValue, qty: &RawValue, listed: Listed) -> Result<(i64, i64), Fault> {
    Ok((number(price, listed.price_scale)?.0, number(qty, listed.qty_scale)?.0))
}

fn ticker(raw: &RawValue, symbols: &Symbols, batch: &mut Batch) -> Result<(), Fault> {
    let ticker: Ticker<'_> = object(raw)?;
    let Some(listed) = symbols.find(ticker.symbol.as_bytes()) else {
        batch.unknown += 1;
        return Ok(());
    };
    let bid = (side(ticker.bid, listed.price_scale)?, side(ticker.bid_qty, listed.qty_scale)?);
    let ask = (side(ticker.ask, listed.price_scale)?, side(ticker.ask_qty, listed.qty_scale)?);
    batch.quote(Quote::new(listed, time(ticker.timestamp.as_deref())?, bid, ask)?)
}
