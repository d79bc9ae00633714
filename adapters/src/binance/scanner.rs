//! Reads frames in the exact spelling that the venue uses: key order, no white space, no escapes.
//!
//! Every byte is checked, so what the scanner accepts is what the tape parser would have read, and
//! whatever it does not recognise it leaves to that. It never decides that a frame is bad.

use super::decode::{self, Decoded};
use crate::venue::cursor::Cursor;
use crate::venue::levels::Levels;
use crate::venue::symbols::{Listed, Symbols};

/// A frame, bare or wrapped with the name of its stream.
#[inline]
pub(super) fn frame(frame: &[u8], symbols: &Symbols, levels: &mut Levels) -> Option<Decoded> {
    let mut cursor = Cursor { rest: frame };
    let wrapped = cursor.eat_if(b"{\"stream\":\"");
    if wrapped {
        cursor.skip_text()?;
        cursor.eat(b",\"data\":")?;
    }
    let decoded = message(&mut cursor, symbols, levels)?;
    if wrapped {
        cursor.eat(b"}")?;
    }
    cursor.end()?;
    Some(decoded)
}

#[inline]
fn message(cursor: &mut Cursor<'_>, symbols: &Symbols, levels: &mut Levels) -> Option<Decoded> {
    if cursor.eat_if(b"{\"u\":") {
        return quote(cursor, symbols);
    }
    cursor.eat(b"{\"e\":\"")?;
    if cursor.eat_if(b"trade\",\"E\":") {
        return trade(cursor, symbols);
    }
    if cursor.eat_if(b"depthUpdate\",\"E\":") {
        return depth(cursor, symbols, levels);
    }
    cursor.eat(b"aggTrade\",\"E\":")?;
    aggregate(cursor, symbols)
}

#[inline]
fn quote(cursor: &mut Cursor<'_>, symbols: &Symbols) -> Option<Decoded> {
    let update = cursor.integer()?;
    cursor.eat(b",\"s\":\"")?;
    let listed = cursor.symbol(symbols)?;
    cursor.eat(b",\"b\":\"")?;
    let bid = cursor.decimal(listed.price_scale)?;
    cursor.eat(b",\"B\":\"")?;
    let bid_qty = cursor.decimal(listed.qty_scale)?;
    cursor.eat(b",\"a\":\"")?;
    let ask = cursor.decimal(listed.price_scale)?;
    cursor.eat(b",\"A\":\"")?;
    let ask_qty = cursor.decimal(listed.qty_scale)?;
    cursor.eat(b"}")?;
    decode::quote(listed, update, (bid, bid_qty), (ask, ask_qty)).ok()
}

#[inline]
fn trade(cursor: &mut Cursor<'_>, symbols: &Symbols) -> Option<Decoded> {
    let _sent = cursor.integer()?;
    cursor.eat(b",\"s\":\"")?;
    let listed = cursor.symbol(symbols)?;
    cursor.eat(b",\"t\":")?;
    let id = cursor.integer()?;
    cursor.eat(b",\"p\":\"")?;
    let price = cursor.decimal(listed.price_scale)?;
    cursor.eat(b",\"q\":\"")?;
    let qty = cursor.decimal(listed.qty_scale)?;
    end_of_trade(cursor, listed, id, (price, qty))
}

#[inline]
fn aggregate(cursor: &mut Cursor<'_>, symbols: &Symbols) -> Option<Decoded> {
    let _sent = cursor.integer()?;
    cursor.eat(b",\"s\":\"")?;
    let listed = cursor.symbol(symbols)?;
    cursor.eat(b",\"a\":")?;
    let id = cursor.integer()?;
    cursor.eat(b",\"p\":\"")?;
    let price = cursor.decimal(listed.price_scale)?;
    cursor.eat(b",\"q\":\"")?;
    let qty = cursor.decimal(listed.qty_scale)?;
    cursor.eat(b",\"f\":")?;
    let _first = cursor.integer()?;
    cursor.eat(b",\"l\":")?;
    let _last = cursor.integer()?;
    end_of_trade(cursor, listed, id, (price, qty))
}

#[inline]
fn end_of_trade(
    cursor: &mut Cursor<'_>,
    listed: Listed,
    id: u64,
    price_qty: (i64, i64),
) -> Option<Decoded> {
    cursor.eat(b",\"T\":")?;
    let time = cursor.integer()?;
    cursor.eat(b",\"m\":")?;
    let buyer_is_maker = cursor.boolean()?;
    cursor.eat(b",\"M\":")?;
    let _ignore = cursor.boolean()?;
    cursor.eat(b"}")?;
    decode::trade(listed, id, price_qty, time, buyer_is_maker).ok()
}

#[inline]
fn depth(cursor: &mut Cursor<'_>, symbols: &Symbols, levels: &mut Levels) -> Option<Decoded> {
    let time = cursor.integer()?;
    cursor.eat(b",\"s\":\"")?;
    let listed = cursor.symbol(symbols)?;
    cursor.eat(b",\"U\":")?;
    let first = cursor.integer()?;
    cursor.eat(b",\"u\":")?;
    let last = cursor.integer()?;
    cursor.eat(b",\"b\":")?;
    levels.clear();
    cursor.levels(listed, levels)?;
    levels.end_bids();
    cursor.eat(b",\"a\":")?;
    cursor.levels(listed, levels)?;
    cursor.eat(b"}")?;
    decode::depth(listed, time, first, last).ok()
}

/// The body of a depth snapshot.
pub(super) fn snapshot(body: &[u8], listed: Listed, levels: &mut Levels) -> Option<u64> {
    let mut cursor = Cursor { rest: body };
    cursor.eat(b"{\"lastUpdateId\":")?;
    let id = cursor.integer()?;
    cursor.eat(b",\"bids\":")?;
    levels.clear();
    cursor.levels(listed, levels)?;
    levels.end_bids();
    cursor.eat(b",\"asks\":")?;
    cursor.levels(listed, levels)?;
    cursor.eat(b"}")?;
    cursor.end()?;
    Some(id)
}

/// The update id at the head of a depth snapshot.
pub(super) fn snapshot_id(body: &[u8]) -> Option<u64> {
    let mut cursor = Cursor { rest: body };
    cursor.eat(b"{\"lastUpdateId\":")?;
    let id = cursor.integer()?;
    cursor.eat(b",")?;
    Some(id)
}
