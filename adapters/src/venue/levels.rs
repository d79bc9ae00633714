//! Levels of one message, in room that is allocated once, and the checks that every venue's numbers
//! pass before they become events.

use kairos_logic::units::{Price, Qty, Side, parse_decimal};

use crate::session::Fault;

/// A price with the quantity that rests there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Positive.
    pub price: Price,
    /// Absolute, not negative; 0 removes the level.
    pub qty: Qty,
}

/// Levels of one message: bids, then asks, each in the order of the message.
#[derive(Clone, Debug)]
pub struct Levels {
    items: Vec<Level>, // never more than max
    max: usize,        // also its capacity
    bids: usize,       // in 0..=items.len()
}

impl Levels {
    /// Room for `max` levels, allocated here and never grown.
    pub(crate) fn new(max: usize) -> Self {
        Self { items: Vec::with_capacity(max), max, bids: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.bids = 0;
    }

    #[inline]
    pub(crate) fn push(&mut self, level: Level) -> Result<(), Fault> {
        if self.items.len() >= self.max {
            return Err(Fault::TooManyLevels);
        }
        self.items.push(level);
        Ok(())
    }

    /// What was pushed so far are the bids.
    pub(crate) fn end_bids(&mut self) {
        self.bids = self.items.len();
    }

    /// Every level with its side, bids first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Side, Level)> {
        let bids = self.bids;
        self.items.iter().enumerate().map(move |(n, &level)| {
            let side = if n < bids { Side::Buy } else { Side::Sell };
            (side, level)
        })
    }

    /// How many of them are bids.
    #[must_use]
    pub fn bids(&self) -> usize {
        self.bids
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

/// A side of a quote: both numbers positive, or both zero.
#[inline]
pub(crate) fn best((price, qty): (i64, i64)) -> Result<Level, Fault> {
    match (price, qty) {
        (1.., 1..) | (0, 0) => Ok(Level { price: Price(price), qty: Qty(qty) }),
        _ => Err(Fault::NotPositive),
    }
}
