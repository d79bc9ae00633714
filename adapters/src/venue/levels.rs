//! Levels of one message, in room that is allocated once, and the checks that every venue's numbers
//! pass before they become events.

use kairos_logic::units::{Nanos, Price, Qty, Side, parse_decimal};

use crate::session::Fault;

/// A price with the quantity that rests there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Positive.
    pub price: Price,
    /// Absolute, not negative; 0 removes the level.
    pub qty: Qty,
}

/// Levels of one message: one side, then the other, each in the order of the message.
#[derive(Clone, Debug)]
pub struct Levels {
    items: Vec<Level>, // never more than max
    tags: Vec<u64>,    // of the items, where the venue's rules need more than a level says
    max: usize,        // also the capacity of items
    split: usize,      // levels of the first side, in 0..=items.len()
    bids_first: bool,
}

/// Levels with their sides.
#[derive(Clone, Debug)]
pub struct Sided<'a> {
    items: std::slice::Iter<'a, Level>,
    split: usize, // of those that are left, how many are of the first side
    bids_first: bool,
}

impl<'a> Sided<'a> {
    /// Levels whose first `split` are bids, or asks.
    pub(crate) fn new(items: &'a [Level], (split, bids_first): (usize, bool)) -> Self {
        Self { items: items.iter(), split, bids_first }
    }
}

impl Iterator for Sided<'_> {
    type Item = (Side, Level);

    #[inline]
    fn next(&mut self) -> Option<(Side, Level)> {
        let &level = self.items.next()?;
        let is_first = self.split > 0;
        self.split = self.split.saturating_sub(1);
        let side = if is_first == self.bids_first { Side::Buy } else { Side::Sell };
        Some((side, level))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl ExactSizeIterator for Sided<'_> {}

impl Levels {
    /// Room for `max` levels, allocated here and never grown.
    pub(crate) fn new(max: usize) -> Self {
        Self { items: Vec::with_capacity(max), tags: Vec::new(), max, split: 0, bids_first: true }
    }

    /// As [`Self::new`], with room for a tag beside every level.
    pub(crate) fn tagged(max: usize) -> Self {
        Self { tags: Vec::with_capacity(max), ..Self::new(max) }
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.tags.clear();
        (self.split, self.bids_first) = (0, true);
    }

    #[inline]
    pub(crate) fn push(&mut self, level: Level) -> Result<(), Fault> {
        if self.items.len() >= self.max {
            return Err(Fault::TooManyLevels);
        }
        self.items.push(level);
        Ok(())
    }

    /// As [`Self::push`], with what else is to be known of the level.
    #[inline]
    pub(crate) fn push_tagged(&mut self, level: Level, tag: u64) -> Result<(), Fault> {
        self.push(level)?;
        self.tags.push(tag);
        Ok(())
    }

    /// The tags of all levels, in their order; empty where they were pushed without.
    pub(crate) fn tags(&self) -> &[u64] {
        &self.tags
    }

    /// What was pushed so far are the bids, what follows the asks.
    pub(crate) fn end_bids(&mut self) {
        (self.split, self.bids_first) = (self.items.len(), true);
    }

    /// What was pushed so far are the asks, what follows the bids.
    pub(crate) fn end_asks(&mut self) {
        (self.split, self.bids_first) = (self.items.len(), false);
    }

    /// Every level with its side, in the order of the message.
    pub fn iter(&self) -> Sided<'_> {
        Sided::new(&self.items, self.shape())
    }

    /// How many levels are of the first side, and whether that is bids.
    pub(crate) fn shape(&self) -> (usize, bool) {
        (self.split, self.bids_first)
    }

    /// How many levels there are on both sides.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no level.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// A number as text, in units of the instrument's scale.
pub(crate) fn units(text: &str, scale: u8) -> Result<i64, Fault> {
    Ok(parse_decimal(text.as_bytes(), scale)?)
}

/// A level of a book: quantity 0 removes it.
#[inline]
pub(crate) fn level(price: i64, qty: i64) -> Result<Level, Fault> {
    match (price, qty) {
        (1.., 0..) => Ok(Level { price: Price(price), qty: Qty(qty) }),
        _ => Err(Fault::NotPositive),
    }
}

/// Both sides of a quote, checked: `bid < ask` where both are there.
#[inline]
pub(crate) fn top(bid: (i64, i64), ask: (i64, i64)) -> Result<(Level, Level), Fault> {
    let (bid, ask) = (best(bid)?, best(ask)?);
    if bid.qty.0 != 0 && ask.qty.0 != 0 && bid.price >= ask.price {
        return Err(Fault::CrossedQuote);
    }
    Ok((bid, ask))
}

/// The price and quantity of a trade, checked.
#[inline]
pub(crate) fn traded((price, qty): (i64, i64)) -> Result<Level, Fault> {
    match (price, qty) {
        (1.., 1..) => Ok(Level { price: Price(price), qty: Qty(qty) }),
        _ => Err(Fault::NotPositive),
    }
}

/// A time in milliseconds. One in microseconds does not fit.
#[inline]
pub(crate) fn millis(number: u64) -> Result<Nanos, Fault> {
    number.checked_mul(1_000_000).map(Nanos).ok_or(Fault::Time)
}

/// A number that the venue writes as text: digits, nothing else.
pub(crate) fn digits(text: &str) -> Result<u64, Fault> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Fault::Number);
    }
    text.parse().map_err(|_| Fault::Number)
}

/// A side of a quote: both numbers positive, or both zero.
#[inline]
pub(crate) fn best((price, qty): (i64, i64)) -> Result<Level, Fault> {
    match (price, qty) {
        (1.., 1..) | (0, 0) => Ok(Level { price: Price(price), qty: Qty(qty) }),
        _ => Err(Fault::NotPositive),
    }
}
