//! Instruments: out of a venue's own list, or out of nothing but a symbol.

use kairos_logic::instrument::{Instrument, InstrumentTable};
use kairos_logic::units::{Money, POW10, Price, Qty, VenueId};

/// Decimals of a price where nothing describes the instrument.
const UNDESCRIBED_PRICE_SCALE: u8 = 10;
/// Decimals of a quantity where nothing describes the instrument.
const UNDESCRIBED_QTY_SCALE: u8 = 8;
/// Smallest order where nothing describes the instrument: 1e-6 at 8 decimals.
const UNDESCRIBED_MIN_QTY: i64 = 100;

/// Fees of an account, in parts per million of an order's value; negative is a rebate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// For orders that rested.
    pub maker_ppm: i32,
    /// For orders that took.
    pub taker_ppm: i32,
}

impl Default for Fees {
    /// 0.1 % both, what an account without volume pays.
    fn default() -> Self {
        Self { maker_ppm: 1_000, taker_ppm: 1_000 }
    }
}

/// An instrument that neither a table nor a list describes: 10 decimals for prices, 8 for
/// quantities, the smallest steps that these allow.
#[must_use]
pub fn undescribed(
    symbol: &str,
    (base, quote): (&str, &str),
    venue: VenueId,
    fees: Fees,
    table: &mut InstrumentTable,
) -> Instrument {
    Instrument {
        venue,
        symbol: symbol.into(),
        base: table.intern_currency(base),
        quote: table.intern_currency(quote),
        price_scale: UNDESCRIBED_PRICE_SCALE,
        qty_scale: UNDESCRIBED_QTY_SCALE,
        tick: Price(1),
        lot: Qty(1),
        min_qty: Qty(UNDESCRIBED_MIN_QTY),
        min_notional: Money(0),
        maker_fee_ppm: fees.maker_ppm,
        taker_fee_ppm: fees.taker_ppm,
    }
}

/// One instrument of the venue's list, its rules checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The venue's symbol.
    pub symbol: String,
    /// Base currency.
    pub base: String,
    /// Quote currency.
    pub quote: String,
    /// Whether it trades now.
    pub trading: bool,
    /// Decimals of prices that the venue may write, whatever the tick.
    pub price_scale: u8,
    /// Decimals of quantities that the venue may write.
    pub qty_scale: u8,
    /// Smallest step of a price.
    pub tick: Price,
    /// Smallest step of a quantity.
    pub lot: Qty,
    /// Smallest order.
    pub min_qty: Qty,
    /// Smallest value of an order, in the quote currency.
    pub min_notional: Money,
}

impl Listing {
    /// The instrument, its currencies entered into the table.
    #[must_use]
    pub fn instrument(
        &self,
        venue: VenueId,
        fees: Fees,
        table: &mut InstrumentTable,
    ) -> Instrument {
        Instrument {
            venue,
            symbol: self.symbol.clone(),
            base: table.intern_currency(&self.base),
            quote: table.intern_currency(&self.quote),
            price_scale: self.price_scale,
            qty_scale: self.qty_scale,
            tick: self.tick,
            lot: self.lot,
            min_qty: self.min_qty,
            min_notional: self.min_notional,
            maker_fee_ppm: fees.maker_ppm,
            taker_fee_ppm: fees.taker_ppm,
        }
    }
}

/// Why a list of instruments can not be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is no such list.
    #[error("not a list of instruments: {0}")]
    Json(#[from] serde_json::Error),
    /// The venue answered with an error, in its own words.
    #[error("the venue refuses: {0}")]
    Refused(String),
    /// A rule of one instrument makes no sense.
    #[error("{symbol}: {filter} {field} = {found:?}: {rule}")]
    Filter {
        /// Which instrument.
        symbol: String,
        /// Which filter.
        filter: &'static str,
        /// Which of its values.
        field: &'static str,
        /// What was found.
        found: String,
        /// What it has to be.
        rule: &'static str,
    },
}

/// Splits a symbol into base and quote currency: the first two of the parts between hyphens.
/// Futures and swaps have more parts. `None` where there are fewer, or one is empty.
#[must_use]
pub fn split_at_hyphen(symbol: &str) -> Option<(&str, &str)> {
    let mut parts = symbol.split('-');
    let (base, quote) = (parts.next()?, parts.next()?);
    (!base.is_empty() && !quote.is_empty()).then_some((base, quote))
}

/// Decimals of a text without its trailing zeros.
pub(crate) fn decimals(text: &str) -> u8 {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    u8::try_from(fraction.trim_end_matches('0').len()).unwrap_or(u8::MAX)
}

/// Decimals of quantities, where there is room for them.
const QTY_DECIMALS: u8 = 8;

/// Decimals of quantities: as many of 8 as leave room for a thousand of the largest orders, and
/// never fewer than the step has. `largest` is the largest order, in whole units.
pub(crate) fn qty_scale(largest: i64, step_decimals: u8) -> u8 {
    let fits = |scale: u8| {
        let room = i64::MAX / 1_000 / POW10[usize::from(scale)];
        largest < room
    };
    let mut scale = QTY_DECIMALS;
    while scale > step_decimals && !fits(scale) {
        scale -= 1;
    }
    scale
}
