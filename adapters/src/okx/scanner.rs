//! Reads frames in the exact spelling that the venue uses: key order, no white space, no escapes.
//!
//! Every byte is checked, so what the scanner accepts is what the tape parser would have read, and
//! whatever it does not recognise it leaves to that. It never decides that a frame is bad.

use kairos_logic::units::Side;

use super::checksum;
use super::decode::{self, Decoded, Room, Tail, Trade};
use crate::venue::cursor::Cursor;
use crate::venue::levels::level;
use crate::venue::symbols::{Listed, Symbols};

#[inline]
pub(super) fn frame(frame: &[u8], symbols: &Symbols, room: &mut Room) -> Option<Decoded> {
    let mut cursor = Cursor { rest: frame };
    cursor.eat(b"{\"arg\":{\"channel\":\"")?;
    let decoded = if cursor.eat_if(b"trades\",\"instId\":\"") {
        trades(&mut cursor, symbols, room)
    } else if cursor.eat_if(b"bbo-tbt\",\"instId\":\"") {
        quote(&mut cursor, symbols)
    } else if cursor.eat_if(b"books") {
        let named = cursor.eat_if(b"\",\"instId\":\"")
            || cursor.eat_if(b"-l2-tbt\",\"instId\":\"")
            || cursor.eat_if(b"50-l2-tbt\",\"instId\":\"");
        if named { depth(&mut cursor, symbols, room) } else { None }
    } else {
        cursor.eat(b"tickers\",\"instId\":\"")?;
        ticker(&mut cursor, symbols)
    }?;
    cursor.eat(b"]}")?;
    cursor.end()?;
    Some(decoded)
}

/// Behind the symbol: `},"data":[{…},…`.
#[inline]
fn trades(cursor: &mut Cursor<'_>, symbols: &Symbols, room: &mut Room) -> Option<Decoded> {
    let named = cursor.rest;
    let listed = cursor.symbol(symbols)?;
    let symbol = named.get(..named.len() - cursor.rest.len())?; // with its quotation mark
    cursor.eat(b"},\"data\":[")?;
    room.trades.clear();
    loop {
        cursor.eat(b"{\"instId\":\"")?;
        cursor.rest = cursor.rest.strip_prefix(symbol)?;
        let trade = trade(cursor, listed)?;
        room.push(trade).ok()?;
        if !cursor.eat_if(b",") {
            return Some(Decoded::Trades { instrument: listed.id });
        }
    }
}

/// `,"tradeId":…}`
#[inline]
fn trade(cursor: &mut Cursor<'_>, listed: Listed) -> Option<Trade> {
    cursor.eat(b",\"tradeId\":\"")?;
    let id = cursor.integer()?;
    cursor.eat(b"\",\"px\":\"")?;
    let price = cursor.decimal(listed.price_scale)?;
    cursor.eat(b",\"sz\":\"")?;
    let qty = cursor.decimal(listed.qty_scale)?;
    cursor.eat(b",\"side\":\"")?;
    let aggressor = if cursor.eat_if(b"buy\"") {
        Side::Buy
    } else {
        cursor.eat(b"sell\"")?;
        Side::Sell
    };
    cursor.eat(b",\"ts\":\"")?;
    let time = cursor.integer()?;
    cursor.eat(b"\"")?;
    // What came with the years.
    while !cursor.eat_if(b"}") {
        if cursor.eat_if(b",\"seqId\":") {
            cursor.integer()?;
            continue;
        }
        if !cursor.eat_if(b",\"count\":\"") {
            cursor.eat(b",\"source\":\"")?;
        }
        cursor.integer()?;
        cursor.eat(b"\"")?;
    }
    decode::trade(id, (price, qty), aggressor, time).ok()
}

/// Behind the symbol: the best level of each side.
#[inline]
fn quote(cursor: &mut Cursor<'_>, symbols: &Symbols) -> Option<Decoded> {
    let listed = cursor.symbol(symbols)?;
    cursor.eat(b"},\"data\":[{\"asks\":[")?;
    let ask = best(cursor, listed)?;
    cursor.eat(b"],\"bids\":[")?;
    let bid = best(cursor, listed)?;
    cursor.eat(b"],\"ts\":\"")?;
    let time = cursor.integer()?;
    cursor.eat(b"\"")?;
    if cursor.eat_if(b",\"seqId\":") {
        cursor.integer()?;
    }
    cursor.eat(b"}")?;
    decode::quote(listed, bid, ask, time).ok()
}

/// Nothing, or `["p","q","0","n"]`.
#[inline]
fn best(cursor: &mut Cursor<'_>, listed: Listed) -> Option<(i64, i64)> {
    if !cursor.eat_if(b"[\"") {
        return Some((0, 0));
    }
    let price = cursor.decimal(listed.price_scale)?;
    cursor.eat(b",\"")?;
    let qty = cursor.decimal(listed.qty_scale)?;
    end_of_level(cursor)?;
    Some((price, qty))
}

#[inline]
fn end_of_level(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.eat(b",\"")?;
    cursor.integer()?;
    cursor.eat(b"\",\"")?;
    cursor.integer()?;
    cursor.eat(b"\"]")
}

/// Behind the symbol: `},"action":…`.
#[inline]
fn depth(cursor: &mut Cursor<'_>, symbols: &Symbols, room: &mut Room) -> Option<Decoded> {
    let listed = cursor.symbol(symbols)?;
    cursor.eat(b"},\"action\":\"")?;
    let snapshot = cursor.eat_if(b"snapshot\"");
    if !snapshot {
        cursor.eat(b"update\"")?;
    }
    cursor.eat(b",\"data\":[{\"asks\":")?;
    room.levels.clear();
    levels(cursor, listed, room)?;
    room.levels.end_asks();
    cursor.eat(b",\"bids\":")?;
    levels(cursor, listed, room)?;
    cursor.eat(b",\"ts\":\"")?;
    let time = cursor.integer()?;
    cursor.eat(b"\"")?;
    let mut tail = Tail::default();
    while !cursor.eat_if(b"}") {
        // Their order differs from year to year.
        let (place, number) = if cursor.eat_if(b",\"checksum\":") {
            (&mut tail.checksum, signed(cursor)?)
        } else if cursor.eat_if(b",\"seqId\":") {
            (&mut tail.seq, signed(cursor)?)
        } else {
            cursor.eat(b",\"prevSeqId\":")?;
            (&mut tail.prev, signed(cursor)?)
        };
        if place.replace(number).is_some() {
            return None;
        }
    }
    decode::depth(listed, Some(snapshot), time, tail).ok()
}

/// A number that may be negative.
#[inline]
fn signed(cursor: &mut Cursor<'_>) -> Option<i64> {
    let negative = cursor.eat_if(b"-");
    let number = i64::try_from(cursor.integer()?).ok()?;
    match (negative, number) {
        (false, _) => Some(number),
        (true, 0) => None, // other readers may take it for a fraction
        (true, _) => Some(-number),
    }
}

/// `[["p","q","0","n"],…]`
#[inline]
fn levels(cursor: &mut Cursor<'_>, listed: Listed, room: &mut Room) -> Option<()> {
    if cursor.eat_if(b"[]") {
        return Some(());
    }
    cursor.eat(b"[[\"")?;
    loop {
        let price_text = cursor.rest;
        let price = cursor.decimal(listed.price_scale)?;
        let price_end = price_text.len() - cursor.rest.len();
        cursor.eat(b",\"")?;
        let qty_text = cursor.rest;
        let qty = cursor.decimal(listed.qty_scale)?;
        let qty_end = qty_text.len() - cursor.rest.len();
        end_of_level(cursor)?;
        let level = level(price, qty).ok()?;
        if room.exact {
            // Without their quotation marks.
            let price_text = price_text.get(..price_end.checked_sub(1)?)?;
            let qty_text = qty_text.get(..qty_end.checked_sub(1)?)?;
            room.levels.push_tagged(level, checksum::tag(price_text, qty_text)).ok()?;
        } else {
            room.levels.push(level).ok()?;
        }
        if !cursor.eat_if(b",[\"") {
            return cursor.eat(b"]");
        }
    }
}

/// Behind the symbol: a day's numbers, of which only the best bid and offer matter.
fn ticker(cursor: &mut Cursor<'_>, symbols: &Symbols) -> Option<Decoded> {
    let named = cursor.rest;
    let listed = cursor.symbol(symbols)?;
    let symbol = named.get(..named.len() - cursor.rest.len())?;
    cursor.eat(b"},\"data\":[{\"instType\":\"")?;
    cursor.skip_text()?;
    cursor.eat(b",\"instId\":\"")?;
    cursor.rest = cursor.rest.strip_prefix(symbol)?;
    cursor.eat(b",\"last\":\"")?;
    cursor.skip_text()?;
    cursor.eat(b",\"lastSz\":\"")?;
    cursor.skip_text()?;
    cursor.eat(b",\"askPx\":\"")?;
    let ask = cursor.decimal(listed.price_scale)?;
    cursor.eat(b",\"askSz\":\"")?;
    let ask_qty = cursor.decimal(listed.qty_scale)?;
    cursor.eat(b",\"bidPx\":\"")?;
    let bid = cursor.decimal(listed.price_scale)?;
    cursor.eat(b",\"bidSz\":\"")?;
    let bid_qty = cursor.decimal(listed.qty_scale)?;
    cursor.eat(b",\"open24h\":\"")?;
    cursor.skip_text()?;
    cursor.eat(b",\"high24h\":\"")?;
    cursor.skip_text()?;
    cursor.eat(b",\"low24h\":\"")?;
    cursor.skip_text()?;
    cursor.eat(b",\"sodUtc0\":\"")?;
    cursor.skip_text()?;
    cursor.eat(b",\"sodUtc8\":\"")?;
    cursor.skip_text()?;
    cursor.eat(b",\"volCcy24h\":\"")?;
    cursor.skip_text()?;
    cursor.eat(b",\"vol24h\":\"")?;
    cursor.skip_text()?;
    cursor.eat(b",\"ts\":\"")?;
    let time = cursor.integer()?;
    cursor.eat(b"\"}")?;
    decode::quote(listed, (bid, bid_qty), (ask, ask_qty), time).ok()
}
