//! A book that anyone can follow, to compare with.

use std::collections::BTreeMap;

use kairos_logic::event::{Event, Flags, News};
use kairos_logic::units::{Price, Qty, Side};

use crate::venue::Level;

/// The naive book: what every level of every message adds up to.
#[derive(Default)]
pub(crate) struct Naive {
    pub(crate) bids: BTreeMap<Price, Qty>,
    pub(crate) asks: BTreeMap<Price, Qty>,
    pub(crate) update: u64,
    pub(crate) valid: bool,
}

impl Naive {
    pub(crate) fn apply(&mut self, event: &Event) {
        let News::Book { side, price, qty, update, flags } = event.news() else {
            return;
        };
        if flags.has(Flags::CLEAR) {
            *self = Self { valid: true, ..Self::default() };
        }
        assert!(self.valid, "a level before the first snapshot");
        assert!(self.update <= update, "updates out of order");
        let levels = match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        if qty.0 == 0 {
            levels.remove(&price);
        } else {
            levels.insert(price, qty);
        }
        self.update = update;
    }

    pub(crate) fn top(&self) -> Option<(Level, Level)> {
        let level = |(&price, &qty)| Level { price, qty };
        let bid = self.bids.last_key_value().map(level)?;
        let ask = self.asks.first_key_value().map(level)?;
        Some((bid, ask))
    }
}
