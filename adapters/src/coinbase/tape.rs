//! Reads frames in any spelling of JSON: the fallback of the scanner, and its oracle in tests.

use kairos_logic::units::{Nanos, Side};

use super::decode::{Channel, Decoded, Remains, aggressor};
use crate::session::Fault;
use crate::venue::batch::{Batch, Part, Quote, Trade};
use crate::venue::levels::units;
use crate::venue::symbols::Symbols;
use crate::venue::tape::{Reader, Value, pair};
use crate::venue::time::parse_time;

pub(super) fn frame(
    reader: &mut Reader,
    frame: &[u8],
    symbols: &Symbols,
    batch: &mut Batch,
    remains: &mut Remains,
) -> Result<Decoded, Fault> {
    batch.clear();
    reader.with(frame, |root| message(root, symbols, batch, remains))
}

fn message(
    root: Value<'_>,
    symbols: &Symbols,
    batch: &mut Batch,
    remains: &mut Remains,
) -> Result<Decoded, Fault> {
    let [channel, kind] = root.pick(["channel", "type"])?;
    let Some(channel) = channel else {
        let kind = kind.ok_or(Fault::Shape)?;
        if kind.text()? != "error" {
            return Err(Fault::Shape);
        }
        let [words] = root.all(["message"])?;
        remains.say(words.text()?);
        return Ok(Decoded::Error);
    };
    let channel = match channel.text()? {
        "market_trades" => Channel::Trades,
        "ticker" => Channel::Ticker,
        "l2_data" => Channel::Book,
        "heartbeats" => Channel::Heartbeats,
        _ => Channel::Other,
    };
    let [sequence] = root.all(["sequence_num"])?;
    let sequence = sequence.integer()?;
    remains.envelope = Some((sequence, channel));
    remains.nameless = channel == Channel::Book; // until it turns out otherwise
    match channel {
        Channel::Book | Channel::Ticker | Channel::Trades => {}
        Channel::Heartbeats | Channel::Other => {
            return Ok(Decoded::Message { channel, sequence });
        }
    }
    let [sent_at, events] = root.all(["timestamp", "events"])?;
    if channel == Channel::Book {
        remains.nameless = !name(events, symbols, remains);
    }
    let sent_at = parse_time(sent_at.text()?)?;
    for event in events.elements()? {
        let [kind] = event.all(["type"])?;
        let snapshot = match kind.text()? {
            "snapshot" => true,
            "update" => false,
            _ => return Err(Fault::Shape),
        };
        match channel {
            Channel::Book => book(event, symbols, (snapshot, sent_at), batch)?,
            Channel::Ticker => tickers(event, symbols, sent_at, batch)?,
            Channel::Trades | Channel::Heartbeats | Channel::Other => {
                trades(event, symbols, snapshot, batch)?;
            }
        }
    }
    Ok(Decoded::Message { channel, sequence })
}

/// Notes whose books these events are about; `false` where one does not say.
fn name(events: Value<'_>, symbols: &Symbols, remains: &mut Remains) -> bool {
    let Ok(events) = events.elements() else { return false };
    for event in events {
        let Ok([product]) = event.all(["product_id"]) else { return false };
        let Ok(product) = product.text() else { return false };
        if let Some(listed) = symbols.find(product.as_bytes()) {
            remains.name(listed.slot);
        }
    }
    true
}

fn book(
    event: Value<'_>,
    symbols: &Symbols,
    (snapshot, sent_at): (bool, Nanos),
    batch: &mut Batch,
) -> Result<(), Fault> {
    let [product, updates] = event.all(["product_id", "updates"])?;
    let Some(listed) = symbols.find(product.text()?.as_bytes()) else {
        batch.unknown += 1;
        return Ok(());
    };
    let mut changed_at = Nanos(0);
    for update in updates.elements()? {
        let [side, time, price, qty] =
            update.all(["side", "event_time", "price_level", "new_quantity"])?;
        let side = match side.text()? {
            "bid" => Side::Buy,
            "offer" => Side::Sell,
            _ => return Err(Fault::Shape),
        };
        changed_at = changed_at.max(parse_time(time.text()?)?);
        batch.level(side, pair(price, qty, listed)?)?;
    }
    let venue_at = if changed_at.0 == 0 { sent_at } else { changed_at };
    batch.end_part(Part::new(listed, snapshot, venue_at))
}

fn trades(
    event: Value<'_>,
    symbols: &Symbols,
    snapshot: bool,
    batch: &mut Batch,
) -> Result<(), Fault> {
    let [list] = event.all(["trades"])?;
    for trade in list.elements()? {
        let [product, id, price, qty, time, side] =
            trade.all(["product_id", "trade_id", "price", "size", "time", "side"])?;
        let Some(listed) = symbols.find(product.text()?.as_bytes()) else {
            batch.unknown += 1;
            continue;
        };
        let maker = match side.text()? {
            "BUY" => Side::Buy,
            "SELL" => Side::Sell,
            _ => return Err(Fault::Shape),
        };
        let id = id.text()?;
        if !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Fault::Number);
        }
        let id = id.parse().map_err(|_| Fault::Number)?;
        let price_qty = pair(price, qty, listed)?;
        let time = parse_time(time.text()?)?;
        let trade = Trade::new(listed, time, price_qty, id, aggressor(maker))?;
        if snapshot {
            batch.old_trades += 1;
        } else {
            batch.trade(trade)?;
        }
    }
    Ok(())
}

fn tickers(
    event: Value<'_>,
    symbols: &Symbols,
    sent_at: Nanos,
    batch: &mut Batch,
) -> Result<(), Fault> {
    let [list] = event.all(["tickers"])?;
    for ticker in list.elements()? {
        let [product, bid, bid_qty, ask, ask_qty] = ticker.all([
            "product_id",
            "best_bid",
            "best_bid_quantity",
            "best_ask",
            "best_ask_quantity",
        ])?;
        let Some(listed) = symbols.find(product.text()?.as_bytes()) else {
            batch.unknown += 1;
            continue;
        };
        let bid = (side(bid, listed.price_scale)?, side(bid_qty, listed.qty_scale)?);
        let ask = (side(ask, listed.price_scale)?, side(ask_qty, listed.qty_scale)?);
        batch.quote(Quote::new(listed, sent_at, bid, ask)?)?;
    }
    Ok(())
}

/// A number of a quote; an empty text is a side without orders.
fn side(value: Value<'_>, scale: u8) -> Result<i64, Fault> {
    match value.text()? {
        "" => Ok(0),
        text => units(text, scale),
    }
}
