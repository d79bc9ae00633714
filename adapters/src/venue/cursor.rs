//! What scanners are made of: steps over a frame in the exact spelling that a venue uses.
//!
//! Every byte is checked. A step that does not find what it wants ends the scan, which says nothing
//! but that the general parser has to look: a scanner never decides that a frame is bad.

use kairos_logic::digits;
use kairos_logic::units::{Nanos, POW10, take_decimal};

use super::levels::{Level, Levels, level};
use super::symbols::{Listed, Symbols, take_symbol};
use super::time::take_time;

/// What is left of a frame.
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Passes exactly this text.
    #[inline]
    pub(crate) fn eat<const N: usize>(&mut self, literal: &[u8; N]) -> Option<()> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        if head != literal {
            return None;
        }
        self.rest = rest;
        Some(())
    }

    /// Passes this text if it comes next.
    #[inline]
    pub(crate) fn eat_if<const N: usize>(&mut self, literal: &[u8; N]) -> bool {
        self.eat(literal).is_some()
    }

    /// Passes a number without sign, of at most 18 digits and without leading zeros.
    #[inline]
    pub(crate) fn integer(&mut self) -> Option<u64> {
        let (value, rest) = match short_integer(self.rest) {
            Some(taken) => taken,
            None => long_integer(self.rest)?,
        };
        self.rest = rest;
        Some(value)
    }

    /// Passes text without escapes and the quotation mark that ends it, eight bytes at a time.
    #[inline]
    pub(crate) fn skip_text(&mut self) -> Option<()> {
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
    pub(crate) fn decimal(&mut self, scale: u8) -> Option<i64> {
        let (units, rest) = take_decimal(self.rest, scale)?;
        self.rest = rest;
        self.eat(b"\"")?;
        Some(units)
    }

    /// Passes a symbol and the quotation mark that ends it. What is not in the table is not passed,
    /// so no byte that has to be escaped is.
    #[inline]
    pub(crate) fn symbol(&mut self, symbols: &Symbols) -> Option<Listed> {
        let (symbol, rest) = take_symbol(self.rest)?;
        self.rest = rest;
        symbols.get(symbol)
    }

    /// Passes a time as RFC 3339 writes it and the quotation mark that ends it.
    #[inline]
    pub(crate) fn time(&mut self) -> Option<Nanos> {
        let (time, rest) = take_time(self.rest)?;
        self.rest = rest;
        self.eat(b"\"")?;
        Some(time)
    }

    #[inline]
    pub(crate) fn boolean(&mut self) -> Option<bool> {
        if self.eat_if(b"true") {
            return Some(true);
        }
        self.eat(b"false").map(|()| false)
    }

    /// Passes `[["p","q"],…]`.
    #[inline]
    pub(crate) fn levels(&mut self, listed: Listed, levels: &mut Levels) -> Option<()> {
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
    pub(crate) fn level(&mut self, listed: Listed) -> Option<Level> {
        let price = self.decimal(listed.price_scale)?;
        self.eat(b",\"")?;
        let qty = self.decimal(listed.qty_scale)?;
        self.eat(b"]")?;
        level(price, qty).ok()
    }

    /// Passes the end of the frame.
    #[inline]
    pub(crate) fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}

/// An integer of up to 16 digits that does not nearly end the text. `None` says nothing but that it
/// has to be looked at byte by byte.
#[inline]
fn short_integer(text: &[u8]) -> Option<(u64, &[u8])> {
    let (&word, behind) = text.split_first_chunk()?;
    let len = digits::count(word);
    if len == 0 || (word[0] == b'0' && len > 1) {
        return None;
    }
    let value = digits::read(word, len);
    if len < 8 {
        return Some((value, text.get(len..)?));
    }
    let word = *behind.first_chunk()?;
    let len = digits::count(word);
    let rest = behind.get(len..)?;
    if len == 8 && rest.first().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let shift = POW10.get(len)?.unsigned_abs();
    Some((value * shift + digits::read(word, len), rest))
}

/// An integer of at most 18 digits.
fn long_integer(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    let mut digits = 0_usize;
    while let Some(&byte @ b'0'..=b'9') = text.get(digits) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
        digits += 1;
    }
    let leading_zero = digits > 1 && text.first() == Some(&b'0');
    if digits == 0 || digits > 18 || leading_zero {
        return None;
    }
    Some((value, text.get(digits..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_short_way_reads_integers_as_the_long_way_does(
            text in "[0-9]{0,20}", after in "|,|,\"s\":\"BTCUSDT\"|[.]00000000|/1234567890123456",
        ) {
            let whole = format!("{text}{after}");
            let long = long_integer(whole.as_bytes());
            if let Some(short) = short_integer(whole.as_bytes()) {
                prop_assert_eq!(Some(short), long);
            }
            let fits = (1..=18).contains(&text.len()) && (text.len() == 1 || !text.starts_with('0'));
            let want = fits.then(|| (text.parse().unwrap(), after.as_bytes()));
            let mut cursor = Cursor { rest: whole.as_bytes() };
            prop_assert_eq!(cursor.integer().map(|value| (value, cursor.rest)), want);
        }
    }
}
