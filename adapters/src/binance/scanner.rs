//! Reads frames in the exact spelling that the venue uses: key order, no white space, no escapes.
//!
//! Every byte is checked, so what the scanner accepts is what the tape parser would have read, and
//! whatever it does not recognise it leaves to that. It never decides that a frame is bad.

use kairos_logic::units::take_decimal;

use super::decode::{self, Decoded, Level, Levels};
use super::symbols::{Listed, Symbols};

/// What is left of a frame.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Passes exactly this text.
    #[inline]
    fn eat<const N: usize>(&mut self, literal: &[u8; N]) -> Option<()> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        if head != literal {
            return None;
        }
        self.rest = rest;
        Some(())
    }

    /// Passes this text if it comes next.
    #[inline]
    fn eat_if<const N: usize>(&mut self, literal: &[u8; N]) -> bool {
        self.eat(literal).is_some()
    }

    /// Passes a number without sign, of at most 18 digits and without leading zeros.
    #[inline]
    fn integer(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        let mut digits = 0_usize;
        while let Some(&byte @ b'0'..=b'9') = self.rest.get(digits) {
            value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            digits += 1;
        }
        let leading_zero = digits > 1 && self.rest.first() == Some(&b'0');
        if digits == 0 || digits > 18 || leading_zero {
            return None;
        }
        self.rest = self.rest.get(digits..)?;
        Some(value)
    }

    /// Passes text without escapes and the quotation mark that ends it, eight bytes at a time.
    #[inline]
    fn skip_text(&mut self) -> Option<()> {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        // Whether a byte is zero; nothing that is not may be found before the first that is.
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
        loop {
            let (&head, rest) = self.rest.split_first_chunk::<8>()?;
            let word = u64::from_le_bytes(head);
            let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
            // Behind the end there is syntax, which has none of these either.
            if (word & HIGH) | controls | zeros(word ^ (ONES * u64::from(b'\\'))) != 0 {
                return None;
            }
            let quotes = zeros(word ^ (ONES * u64::from(b'"')));
            if quotes != 0 {
                let end = quotes.trailing_zeros() / 8;
                self.rest = self.rest.get(end as usize + 1..)?;
                return Some(());
            }
            self.rest = rest;
        }
    }

    /// Passes a plain decimal without sign and the quotation mark that ends it: its units of
    /// `10^-scale`.
    #[inline]
    fn decimal(&mut self, scale: u8) -> Option<i64> {
        let (units, rest) = take_decimal(self.rest, scale)?;
        self.rest = rest;
        self.eat(b"\"")?;
        Some(units)
    }

    /// Passes a symbol and the quotation mark that ends it.
    #[inline]
    fn symbol(&mut self, symbols: &Symbols) -> Option<Listed> {
        let wanted = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        let len = self.rest.iter().take_while(|byte| wanted(byte)).count();
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        self.eat(b"\"")?;
        symbols.find(text)
    }

    #[inline]
    fn boolean(&mut self) -> Option<bool> {
        if self.eat_if(b"true") {
            return Some(true);
        }
        self.eat(b"false").map(|()| false)
    }

    /// Passes `[["p","q"],…]`.
    #[inline]
    fn levels(&mut self, listed: Listed, levels: &mut Levels) -> Option<()> {
        if self.eat_if(b"[]") {
            return Some(());
        }
        self.eat(b"[[\"")?;
        loop {
            let level = self.level(listed)?;
            levels.push(level).ok()?;
            if !self.eat_if(b",[\"") {
                return self.eat(b"]");
            }
        }
    }

    /// Passes `p","q"]`.
    #[inline]
    fn level(&mut self, listed: Listed) -> Option<Level> {
        let price = self.decimal(listed.price_scale)?;
        self.eat(b",\"")?;
        let qty = self.decimal(listed.qty_scale)?;
        self.eat(b"]")?;
        decode::level(price, qty).ok()
    }

    /// Passes the end of the frame.
    #[inline]
    fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

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
