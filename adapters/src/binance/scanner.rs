//! Reads frames in the exact spelling that the venue uses: key order, no white space, no escapes.
//!
//! Every byte is checked, so what the scanner accepts is what the tape parser would have read, and
//! whatever it does not recognise it leaves to that. It never decides that a frame is bad.

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

    /// Passes text of the wanted characters and the quotation mark that ends it.
    #[inline]
    fn quoted(&mut self, wanted: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
        let mut len = 0;
        loop {
            match self.rest.get(len)? {
                b'"' => break,
                &byte if wanted(byte) => len += 1,
                _ => return None,
            }
        }
        let text = self.rest.get(..len)?;
        self.rest = self.rest.get(len + 1..)?;
        Some(text)
    }

    /// Passes a plain decimal without sign and the quotation mark that ends it.
    #[inline]
    fn decimal(&mut self) -> Option<&'a [u8]> {
        self.quoted(|byte| byte.is_ascii_digit() || byte == b'.')
    }

    /// Passes a symbol and the quotation mark that ends it.
    #[inline]
    fn symbol(&mut self, symbols: &Symbols) -> Option<Listed> {
        let text = self.quoted(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())?;
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
        let price = self.decimal()?;
        self.eat(b",\"")?;
        let qty = self.decimal()?;
        self.eat(b"]")?;
        decode::level(price, qty, listed).ok()
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
        cursor.quoted(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'@' | b'_'))?;
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
    let bid = cursor.decimal()?;
    cursor.eat(b",\"B\":\"")?;
    let bid_qty = cursor.decimal()?;
    cursor.eat(b",\"a\":\"")?;
    let ask = cursor.decimal()?;
    cursor.eat(b",\"A\":\"")?;
    let ask_qty = cursor.decimal()?;
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
    let price = cursor.decimal()?;
    cursor.eat(b",\"q\":\"")?;
    let qty = cursor.decimal()?;
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
    let price = cursor.decimal()?;
    cursor.eat(b",\"q\":\"")?;
    let qty = cursor.decimal()?;
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
    price_qty: (&[u8], &[u8]),
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
