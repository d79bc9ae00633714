//! Prices on ticks and quantities in lots, as strategies need them.

use crate::instrument::Instrument;
use crate::params::Reader;
use crate::units::{MONEY_SCALE, Money, POW10, Price, Qty, div_round};

/// A quantity as configuration writes it: units of `10^-8` of the base currency, for any
/// instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub i64);

impl Size {
    /// Reads a positive quantity of the base currency, of at most a thousand million.
    pub fn read(reader: &mut Reader<'_>, key: &'static str, default: Self) -> Self {
        Self(reader.decimal(key, MONEY_SCALE, default.0, 1..=100_000_000_000_000_000))
    }

    /// The same in an instrument's scale: the nearest lot, halves up, at least the minimum.
    #[must_use]
    pub fn in_lots(self, instrument: &Instrument) -> Qty {
        let lot = i128::from(instrument.lot.0.max(1));
        let wide = i128::from(self.0) * ten_to(instrument.qty_scale);
        let lots = div_round(wide, ten_to(MONEY_SCALE) * lot);
        Qty(narrow(lots * lot).max(instrument.min_qty.0))
    }
}

/// The most whole lots within `amount` of the base currency.
#[must_use]
pub fn lots_within(instrument: &Instrument, amount: Money) -> Qty {
    let wide = i128::from(amount.0.max(0)) * ten_to(instrument.qty_scale);
    let qty = wide / ten_to(MONEY_SCALE);
    let lot = i128::from(instrument.lot.0.max(1));
    Qty(narrow(qty - qty % lot))
}

/// The nearest tick at or below `price` (in thousandths of a unit).
#[must_use]
pub fn tick_below(instrument: &Instrument, price_milli: i128) -> Price {
    let tick = i128::from(instrument.tick.0.max(1));
    let step = tick * MILLI;
    Price(narrow(price_milli.div_euclid(step) * tick))
}

/// The nearest tick at or above `price` (in thousandths of a unit).
#[must_use]
pub fn tick_above(instrument: &Instrument, price_milli: i128) -> Price {
    let tick = i128::from(instrument.tick.0.max(1));
    let step = tick * MILLI;
    Price(narrow((price_milli + step - 1).div_euclid(step) * tick))
}

/// Thousandths of a unit: half a unit, the middle of the smallest spread, is exact in them.
pub const MILLI: i128 = 1_000;

/// `10^n` of a scale.
#[must_use]
pub fn ten_to(scale: u8) -> i128 {
    i128::from(POW10.get(usize::from(scale)).copied().unwrap_or(1))
}

/// Back to 64 bits; what does not fit becomes the nearest end.
#[must_use]
pub fn narrow(value: i128) -> i64 {
    let fits = value.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    i64::try_from(fits).unwrap_or(i64::MAX)
}
