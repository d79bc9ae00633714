//! What is traded where: the table of venues, currencies and instruments. Itself journaled.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::units::{CurrencyId, InstrumentId, Money, Overflow, Price, Qty, VenueId, notional};

/// One instrument of one venue. Prices and quantities everywhere are counts in its scales.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instrument {
    /// Where it trades.
    pub venue: VenueId,
    /// The venue's own symbol, as it stands on the wire: `BTCUSDT`, `BTC-USD`, `BTC/USD`.
    pub symbol: String,
    /// What is bought and sold.
    pub base: CurrencyId,
    /// What it is paid with.
    pub quote: CurrencyId,
    /// Decimals of a price. In 0..=12.
    pub price_scale: u8,
    /// Decimals of a quantity. In 0..=12.
    pub qty_scale: u8,
    /// Smallest step of a price, positive.
    pub tick: Price,
    /// Smallest step of a quantity, positive.
    pub lot: Qty,
    /// Smallest quantity of an order, at least one lot.
    pub min_qty: Qty,
    /// Smallest value of an order in the quote currency; 0 is none.
    pub min_notional: Money,
    /// Fee of an order that rested, in parts per million of its value; negative is a rebate.
    pub maker_fee_ppm: i32,
    /// Fee of an order that took, in parts per million of its value.
    pub taker_fee_ppm: i32,
}

impl Instrument {
    /// Value of `qty` at `price` in the quote currency, to the nearest unit.
    ///
    /// # Errors
    /// [`Overflow`] above about 92 thousand million.
    pub fn notional(&self, price: Price, qty: Qty) -> Result<Money, Overflow> {
        notional(price, qty, self.price_scale, self.qty_scale)
    }

    /// The fee on `value`, to the nearest unit, halves away from zero.
    ///
    /// # Errors
    /// [`Overflow`], only for rates above 100 %.
    pub fn fee(&self, value: Money, maker: bool) -> Result<Money, Overflow> {
        let ppm = if maker { self.maker_fee_ppm } else { self.taker_fee_ppm };
        let fee = crate::units::div_round(i128::from(value.0) * i128::from(ppm), 1_000_000);
        i64::try_from(fee).map(Money).map_err(|_| Overflow)
    }
}

/// Venues, currencies and instruments of one run. Ids are places in these lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstrumentTable {
    /// Names of the venues, lower case, in configuration order.
    pub venues: Vec<String>,
    /// Names of the currencies, upper case, in order of first mention.
    pub currencies: Vec<String>,
    /// The instruments, in configuration order.
    pub instruments: Vec<Instrument>,
}

impl InstrumentTable {
    /// Most instruments that one engine may trade: ids are 16 bits, the last one means none.
    pub const INSTRUMENTS_MAX: usize = 4_096;

    /// The instrument with this id, if there is one.
    #[must_use]
    pub fn instrument(&self, id: InstrumentId) -> Option<&Instrument> {
        self.instruments.get(id.index())
    }

    /// Every id with its instrument.
    pub fn iter(&self) -> impl Iterator<Item = (InstrumentId, &Instrument)> {
        (0_u16..).map(InstrumentId).zip(&self.instruments)
    }

    /// The id of a venue's symbol.
    #[must_use]
    pub fn find(&self, venue: VenueId, symbol: &str) -> Option<InstrumentId> {
        self.iter().find(|(_, it)| it.venue == venue && it.symbol == symbol).map(|(id, _)| id)
    }

    /// The id of a currency by name.
    #[must_use]
    pub fn currency(&self, name: &str) -> Option<CurrencyId> {
        let place = self.currencies.iter().position(|it| it == name)?;
        u16::try_from(place).ok().map(CurrencyId)
    }

    /// The id of a currency by name, entering it where it is new.
    ///
    /// # Panics
    /// With more than 65 535 currencies.
    pub fn intern_currency(&mut self, name: &str) -> CurrencyId {
        if let Some(id) = self.currency(name) {
            return id;
        }
        let id = u16::try_from(self.currencies.len()).expect("fewer than 65 536 currencies");
        self.currencies.push(String::from(name));
        CurrencyId(id)
    }

    /// The name of a currency; empty for an id of another table.
    #[must_use]
    pub fn currency_name(&self, id: CurrencyId) -> &str {
        self.currencies.get(usize::from(id.0)).map_or("", String::as_str)
    }

    /// The name of a venue; empty for an id of another table.
    #[must_use]
    pub fn venue_name(&self, id: VenueId) -> &str {
        self.venues.get(usize::from(id.0)).map_or("", String::as_str)
    }
}
