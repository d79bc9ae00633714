//! Reads frames in the exact spelling that the venue uses: key order, no white space, no escapes.
//!
//! Every byte is checked, so what the scanner accepts is what the tape parser would have read, and
//! whatever it does not recognise it leaves to that. It never decides that a frame is bad.

use kairos_logic::units::{Nanos, Side};

use super::decode::{Channel, Decoded, FRAME_MAX, aggressor};
use crate::venue::batch::{Batch, Part, Quote, Trade};
use crate::venue::cursor::Cursor;
use crate::venue::symbols::Symbols;

/// A frame of trades, quotes or books.
#[inline]
pub(super) fn frame(frame: &[u8], symbols: &Symbols, batch: &mut Batch) -> Option<Decoded> {
    if frame.len() > FRAME_MAX {
        return None;
    }
    let mut cursor = Cursor { rest: frame };
    cursor.eat(b"{\"channel\":\"")?;
    let channel = if cursor.eat_if(b"l2_data\",") {
        Channel::Book
    } else if cursor.eat_if(b"ticker\",") {
        Channel::Ticker
    } else {
        cursor.eat(b"market_trades\",")?;
        Channel::Trades
    };
    if cursor.eat_if(b"\"client_id\":\"") {
        cursor.skip_text()?;
        cursor.eat(b",")?;
    }
    cursor.eat(b"\"timestamp\":\"")?;
    let sent_at = cursor.time()?;
    cursor.eat(b",\"sequence_num\":")?;
    let sequence = cursor.integer()?;
    cursor.eat(b",\"events\":[")?;
    batch.clear();
    loop {
        let snapshot = cursor.event_type()?;
        match channel {
            Channel::Book => book(&mut cursor, symbols, (snapshot, sent_at), batch)?,
            Channel::Ticker => tickers(&mut cursor, symbols, sent_at, batch)?,
            Channel::Trades | Channel::Heartbeats | Channel::Other => {
                trades(&mut cursor, symbols, snapshot, batch)?;
            }
        }
        if !cursor.eat_if(b",") {
            break;
        }
    }
    cursor.eat(b"]}")?;
    cursor.end()?;
    Some(Decoded::Message { channel, sequence })
}

impl Cursor<'_> {
    /// Passes `{"type":"update",`, or `{"type":"snapshot",` which is `true`.
    #[inline]
    fn event_type(&mut self) -> Option<bool> {
        if self.eat_if(b"{\"type\":\"update\",") {
            return Some(false);
        }
        self.eat(b"{\"type\":\"snapshot\",").map(|()| true)
    }
}

#[inline]
fn book(
    cursor: &mut Cursor<'_>,
    symbols: &Symbols,
    (snapshot, sent_at): (bool, Nanos),
    batch: &mut Batch,
) -> Option<()> {
    cursor.eat(b"\"product_id\":\"")?;
    let listed = cursor.symbol(symbols)?;
    cursor.eat(b",\"updates\":[")?;
    // All levels of a message have the same time, as a rule: its text is read once.
    let (mut known, mut changed_at): (&[u8], Nanos) = (&[], Nanos(0));
    let mut more = !cursor.eat_if(b"]");
    while more {
        let side = if cursor.eat_if(b"{\"side\":\"bid\",\"event_time\":\"") {
            Side::Buy
        } else {
            cursor.eat(b"{\"side\":\"offer\",\"event_time\":\"")?;
            Side::Sell
        };
        match cursor.rest.strip_prefix(known) {
            Some(rest) if !known.is_empty() => cursor.rest = rest,
            Some(_) | None => {
                let text = cursor.rest;
                changed_at = changed_at.max(cursor.time()?);
                known = text.get(..text.len() - cursor.rest.len())?;
            }
        }
        cursor.eat(b",\"price_level\":\"")?;
        let price = cursor.decimal(listed.price_scale)?;
        cursor.eat(b",\"new_quantity\":\"")?;
        let qty = cursor.decimal(listed.qty_scale)?;
        cursor.eat(b"}")?;
        batch.level(side, (price, qty)).ok()?;
        if !cursor.eat_if(b",") {
            cursor.eat(b"]")?;
            more = false;
        }
    }
    cursor.eat(b"}")?;
    let venue_at = if changed_at.0 == 0 { sent_at } else { changed_at };
    batch.end_part(Part::new(listed, snapshot, venue_at)).ok()
}

#[inline]
fn trades(
    cursor: &mut Cursor<'_>,
    symbols: &Symbols,
    snapshot: bool,
    batch: &mut Batch,
) -> Option<()> {
    cursor.eat(b"\"trades\":[")?;
    loop {
        let trade = trade(cursor, symbols)?;
        if snapshot {
            batch.old_trades += 1;
        } else {
            batch.trade(trade).ok()?;
        }
        if !cursor.eat_if(b",") {
            return cursor.eat(b"]}");
        }
    }
}

/// The venue's stream says `product_id`, `trade_id`, …, `time`, `side`; its documentation has
/// `trade_id` and `side` first.
#[inline]
fn trade(cursor: &mut Cursor<'_>, symbols: &Symbols) -> Option<Trade> {
    let as_streamed = cursor.eat_if(b"{\"product_id\":\"");
    let (listed, id) = if as_streamed {
        let listed = cursor.symbol(symbols)?;
        cursor.eat(b",\"trade_id\":\"")?;
        (listed, cursor.id()?)
    } else {
        cursor.eat(b"{\"trade_id\":\"")?;
        let id = cursor.id()?;
        cursor.eat(b",\"product_id\":\"")?;
        (cursor.symbol(symbols)?, id)
    };
    cursor.eat(b",\"price\":\"")?;
    let price = cursor.decimal(listed.price_scale)?;
    cursor.eat(b",\"size\":\"")?;
    let qty = cursor.decimal(listed.qty_scale)?;
    let (time, maker) = if as_streamed {
        cursor.eat(b",\"time\":\"")?;
        let time = cursor.time()?;
        cursor.eat(b",\"side\":\"")?;
        (time, cursor.side()?)
    } else {
        cursor.eat(b",\"side\":\"")?;
        let maker = cursor.side()?;
        cursor.eat(b",\"time\":\"")?;
        (cursor.time()?, maker)
    };
    cursor.eat(b"}")?;
    Trade::new(listed, time, (price, qty), id, aggressor(maker)).ok()
}

impl Cursor<'_> {
    /// Passes a number that is written as text.
    #[inline]
    fn id(&mut self) -> Option<u64> {
        let id = self.integer()?;
        self.eat(b"\"")?;
        Some(id)
    }

    #[inline]
    fn side(&mut self) -> Option<Side> {
        if self.eat_if(b"BUY\"") {
            return Some(Side::Buy);
        }
        self.eat(b"SELL\"").map(|()| Side::Sell)
    }

    /// Passes a field whose value does not matter.
    #[inline]
    fn skip<const N: usize>(&mut self, key: &[u8; N]) -> Option<()> {
        self.eat(key)?;
        self.skip_text()
    }
}

#[inline]
fn tickers(
    cursor: &mut Cursor<'_>,
    symbols: &Symbols,
    sent_at: Nanos,
    batch: &mut Batch,
) -> Option<()> {
    cursor.eat(b"\"tickers\":[")?;
    loop {
        batch.quote(ticker(cursor, symbols, sent_at)?).ok()?;
        if !cursor.eat_if(b",") {
            return cursor.eat(b"]}");
        }
    }
}

/// The venue's stream has both prices before both quantities; its documentation has each price
/// with its quantity.
#[inline]
fn ticker(cursor: &mut Cursor<'_>, symbols: &Symbols, sent_at: Nanos) -> Option<Quote> {
    cursor.eat(b"{\"type\":\"ticker\",\"product_id\":\"")?;
    let listed = cursor.symbol(symbols)?;
    cursor.skip(b",\"price\":\"")?;
    cursor.skip(b",\"volume_24_h\":\"")?;
    cursor.skip(b",\"low_24_h\":\"")?;
    cursor.skip(b",\"high_24_h\":\"")?;
    cursor.skip(b",\"low_52_w\":\"")?;
    cursor.skip(b",\"high_52_w\":\"")?;
    cursor.skip(b",\"price_percent_chg_24_h\":\"")?;
    cursor.eat(b",\"best_bid\":\"")?;
    let bid = cursor.decimal(listed.price_scale)?;
    let (bid_qty, ask) = if cursor.eat_if(b",\"best_ask\":\"") {
        let ask = cursor.decimal(listed.price_scale)?;
        cursor.eat(b",\"best_bid_quantity\":\"")?;
        (cursor.decimal(listed.qty_scale)?, ask)
    } else {
        cursor.eat(b",\"best_bid_quantity\":\"")?;
        let bid_qty = cursor.decimal(listed.qty_scale)?;
        cursor.eat(b",\"best_ask\":\"")?;
        (bid_qty, cursor.decimal(listed.price_scale)?)
    };
    cursor.eat(b",\"best_ask_quantity\":\"")?;
    let ask_qty = cursor.decimal(listed.qty_scale)?;
    cursor.eat(b"}")?;
    Quote::new(listed, sent_at, (bid, bid_qty), (ask, ask_qty)).ok()
}
