//! Reads frames in the exact spelling that the venue uses: key order, no white space, no escapes.
//!
//! Every byte is checked, so what the scanner accepts is what the general parser would have read,
//! and whatever it does not recognise it leaves to that. It never decides that a frame is bad.

use kairos_logic::units::{Nanos, POW10, Side};

use super::decode::{Decoded, FRAME_MAX};
use crate::venue::batch::{Batch, Part, Quote, Trade};
use crate::venue::cursor::Cursor;
use crate::venue::symbols::{Listed, Symbols};

/// A frame of trades, quotes or books, or a heartbeat.
#[inline]
pub(super) fn frame(frame: &[u8], symbols: &Symbols, batch: &mut Batch) -> Option<Decoded> {
    if frame.len() > FRAME_MAX {
        return None;
    }
    let mut cursor = Cursor { rest: frame };
    cursor.eat(b"{\"channel\":\"")?;
    let decoded = if cursor.eat_if(b"book\",\"type\":\"") {
        Decoded::Books
    } else if cursor.eat_if(b"ticker\",\"type\":\"") {
        Decoded::Quotes
    } else if cursor.eat_if(b"trade\",\"type\":\"") {
        Decoded::Trades
    } else {
        cursor.eat(b"heartbeat\"}")?;
        cursor.end()?;
        return Some(Decoded::Heartbeat);
    };
    let snapshot = !cursor.eat_if(b"update\",\"data\":[");
    if snapshot {
        cursor.eat(b"snapshot\",\"data\":[")?;
    }
    batch.clear();
    loop {
        cursor.eat(b"{\"symbol\":\"")?;
        let listed = cursor.symbol(symbols)?;
        match decoded {
            Decoded::Books => book(&mut cursor, listed, snapshot, batch)?,
            Decoded::Quotes => batch.quote(ticker(&mut cursor, listed)?).ok()?,
            Decoded::Trades
            | Decoded::Heartbeat
            | Decoded::Subscribed { .. }
            | Decoded::Refused(_)
            | Decoded::Ignored => {
                let trade = trade(&mut cursor, listed)?;
                if snapshot {
                    batch.old_trades += 1;
                } else {
                    batch.trade(trade).ok()?;
                }
            }
        }
        if !cursor.eat_if(b",") {
            break;
        }
    }
    cursor.eat(b"]}")?;
    cursor.end()?;
    Some(decoded)
}

#[inline]
fn book(cursor: &mut Cursor<'_>, listed: Listed, snapshot: bool, batch: &mut Batch) -> Option<()> {
    let mut decimals = (0, 0);
    cursor.eat(b",\"bids\":[")?;
    levels(cursor, listed, Side::Buy, &mut decimals, batch)?;
    cursor.eat(b",\"asks\":[")?;
    levels(cursor, listed, Side::Sell, &mut decimals, batch)?;
    cursor.eat(b",\"checksum\":")?;
    let checksum = u32::try_from(cursor.integer()?).ok()?;
    let venue_at = if cursor.eat_if(b",\"timestamp\":\"") { cursor.time()? } else { Nanos(0) };
    cursor.eat(b"}")?;
    batch.end_part(Part::new(listed, snapshot, venue_at).summed(checksum, decimals)).ok()
}

/// Passes `{"price":1.5,"qty":2.0},…]`.
#[inline]
fn levels(
    cursor: &mut Cursor<'_>,
    listed: Listed,
    side: Side,
    decimals: &mut (u8, u8),
    batch: &mut Batch,
) -> Option<()> {
    if cursor.eat_if(b"]") {
        return Some(());
    }
    loop {
        cursor.eat(b"{\"price\":")?;
        let (price, places) = cursor.number(listed.price_scale)?;
        decimals.0 = decimals.0.max(places);
        cursor.eat(b",\"qty\":")?;
        let (qty, places) = cursor.number(listed.qty_scale)?;
        decimals.1 = decimals.1.max(places);
        cursor.eat(b"}")?;
        batch.level(side, (price, qty)).ok()?;
        if !cursor.eat_if(b",") {
            return cursor.eat(b"]");
        }
    }
}

#[inline]
fn trade(cursor: &mut Cursor<'_>, listed: Listed) -> Option<Trade> {
    let aggressor = if cursor.eat_if(b",\"side\":\"buy\",\"price\":") {
        Side::Buy
    } else {
        cursor.eat(b",\"side\":\"sell\",\"price\":")?;
        Side::Sell
    };
    let (price, _) = cursor.number(listed.price_scale)?;
    cursor.eat(b",\"qty\":")?;
    let (qty, _) = cursor.number(listed.qty_scale)?;
    if !cursor.eat_if(b",\"ord_type\":\"market\"") {
        cursor.eat(b",\"ord_type\":\"limit\"")?;
    }
    cursor.eat(b",\"trade_id\":")?;
    let id = cursor.integer()?;
    cursor.eat(b",\"timestamp\":\"")?;
    let time = cursor.time()?;
    cursor.eat(b"}")?;
    Trade::new(listed, time, (price, qty), id, aggressor).ok()
}

#[inline]
fn ticker(cursor: &mut Cursor<'_>, listed: Listed) -> Option<Quote> {
    cursor.eat(b",\"bid\":")?;
    let (bid, _) = cursor.number(listed.price_scale)?;
    cursor.eat(b",\"bid_qty\":")?;
    let (bid_qty, _) = cursor.number(listed.qty_scale)?;
    cursor.eat(b",\"ask\":")?;
    let (ask, _) = cursor.number(listed.price_scale)?;
    cursor.eat(b",\"ask_qty\":")?;
    let (ask_qty, _) = cursor.number(listed.qty_scale)?;
    if cursor.eat_if(b",\"last\":") {
        cursor.skip_number()?;
        cursor.eat(b",\"volume\":")?;
        cursor.skip_number()?;
        cursor.eat(b",\"vwap\":")?;
        cursor.skip_number()?;
        cursor.eat(b",\"low\":")?;
        cursor.skip_number()?;
        cursor.eat(b",\"high\":")?;
        cursor.skip_number()?;
        cursor.eat(b",\"change\":")?;
        cursor.skip_number()?;
        cursor.eat(b",\"change_pct\":")?;
        cursor.skip_number()?;
    }
    let venue_at = if cursor.eat_if(b",\"timestamp\":\"") { cursor.time()? } else { Nanos(0) };
    cursor.eat(b"}")?;
    Quote::new(listed, venue_at, (bid, bid_qty), (ask, ask_qty)).ok()
}

/// Most digits of a number: fewer than an `i64` holds, so nothing wraps.
const DIGITS_MAX: usize = 18;

impl Cursor<'_> {
    /// Passes a JSON number without sign and exponent: its units of `10^-scale`, and with how many
    /// decimals it is written.
    #[inline]
    fn number(&mut self, scale: u8) -> Option<(i64, u8)> {
        let (mut units, mut rest) = (0_i64, self.rest);
        while let [byte @ b'0'..=b'9', tail @ ..] = rest {
            units = units.wrapping_mul(10).wrapping_add(i64::from(byte & 15));
            rest = tail;
        }
        let whole = self.rest.len() - rest.len();
        if whole == 0 || whole > 1 && self.rest.first() == Some(&b'0') {
            return None;
        }
        let mut places = 0;
        if let [b'.', tail @ ..] = rest {
            rest = tail;
            while let [byte @ b'0'..=b'9', tail @ ..] = rest {
                units = units.wrapping_mul(10).wrapping_add(i64::from(byte & 15));
                rest = tail;
            }
            places = tail.len() - rest.len();
            if places == 0 {
                return None;
            }
        }
        if whole + places > DIGITS_MAX {
            return None;
        }
        let places = u8::try_from(places).ok()?;
        let missing = scale.checked_sub(places)?; // too fine, or zeros at the end: the parser looks
        let units = units.checked_mul(*POW10.get(usize::from(missing))?)?;
        self.rest = rest;
        Some((units, places))
    }

    /// Passes a JSON number whose value does not matter.
    #[inline]
    fn skip_number(&mut self) -> Option<()> {
        let _negative = self.eat_if(b"-");
        let whole = self.skip_digits();
        if whole.len() > 1 && whole.first() == Some(&b'0') || whole.is_empty() {
            return None;
        }
        if self.eat_if(b".") && self.skip_digits().is_empty() {
            return None;
        }
        Some(())
    }
}

impl<'a> Cursor<'a> {
    #[inline]
    fn skip_digits(&mut self) -> &'a [u8] {
        let count = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at_checked(count).unwrap_or((&[], self.rest));
        self.rest = rest;
        digits
    }
}
