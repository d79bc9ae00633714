//! The books: what each account holds, what it cost, what it earned.
//!
//! Balances and positions move on fills alone, and on a venue's report where nothing was known
//! before. Every amount is an integer at 1e-8 of its currency; a result that does not fit is
//! [`LedgerError`], upon which risk halts.
//!
//! Two results stand side by side, and both identities hold exactly, to the last unit, after every
//! fill (`paid` is what left the quote balance through the instrument):
//! * average cost, fees inside: `-paid = realised_average - cost`;
//! * first in, first out, fees apart: `-paid = realised_fifo - lots_cost - fees`.
//!
//! Costs are signed: positive for what a long position cost, negative for what a short one brought.
//! A partial close takes its share of the cost, rounded to the nearest unit; what was rounded away
//! stays in the cost, so that the last close leaves nothing.
//!
//! # Limits
//! [`LOTS_MAX`] lots per instrument: when they are all taken, the two oldest become one. Neighbours
//! of one price are one lot from the start. Sums stay exact; only the split of the first-in-first-out
//! result between the two merged lots' closes becomes an average.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::instrument::{Instrument, InstrumentTable};
use crate::market::Market;
use crate::units::{
    CurrencyId, InstrumentId, MONEY_SCALE, Money, Overflow, Price, Qty, Side, VenueId, div_round,
    pow10_i128,
};

/// Lots kept per instrument. 256 of 24 bytes are 6 KiB.
pub const LOTS_MAX: usize = 256;

/// Why a fill could not be booked. The ledger is then what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A result does not fit 64 bits.
    #[error(transparent)]
    Overflow(#[from] Overflow),
    /// The instrument is not in the table.
    #[error("no instrument {0:?}")]
    UnknownInstrument(InstrumentId),
    /// A price or a quantity that is not positive.
    #[error("a fill of {qty:?} at {price:?}")]
    NotPositive {
        /// The price that was reported.
        price: Price,
        /// The quantity that was reported.
        qty: Qty,
    },
}

/// One fill, as the ledger needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Of what.
    pub instrument: InstrumentId,
    /// Bought or sold.
    pub side: Side,
    /// At what price, positive.
    pub price: Price,
    /// How much, positive.
    pub qty: Qty,
    /// The fee in the quote currency; negative is a rebate.
    pub fee: Money,
}

/// What an account holds of one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Whose account.
    pub venue: VenueId,
    /// Of what.
    pub currency: CurrencyId,
    /// All of it; negative only where shorts are allowed.
    pub total: Money,
    /// What open orders may spend of it, not negative.
    pub locked: Money,
    /// What was there before the first fill.
    pub start: Money,
    known: bool,
}

impl Balance {
    /// What no open order may spend; negative where more was promised than is there.
    #[must_use]
    pub const fn available(&self) -> Money {
        Money(self.total.0.saturating_sub(self.locked.0))
    }
    /// What was bought (or, negative, sold) since the start: the position in this currency.
    #[must_use]
    pub const fn held(&self) -> Money {
        Money(self.total.0.saturating_sub(self.start.0))
    }
}

/// Place of a balance in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

impl Slot {
    /// The place, from 0 to the number of balances.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lot {
    qty: Qty,    // positive
    cost: Money, // without fees; negative for short lots
    price: Price,
}

/// A ring of lots, oldest first.
#[derive(Clone, Debug)]
struct Lots {
    ring: Box<[Lot]>,
    first: usize,
    len: usize,
}

impl Lots {
    fn new() -> Self {
        Self { ring: vec![Lot::default(); LOTS_MAX].into_boxed_slice(), first: 0, len: 0 }
    }

    fn at(&self, place: usize) -> Option<&Lot> {
        if self.len <= place {
            return None;
        }
        self.ring.get((self.first + place) % LOTS_MAX)
    }
    fn at_mut(&mut self, place: usize) -> Option<&mut Lot> {
        if self.len <= place {
            return None;
        }
        self.ring.get_mut((self.first + place) % LOTS_MAX)
    }

    /// Cost of the oldest `qty`.
    fn cost_of(&self, qty: Qty) -> i128 {
        let (mut left, mut cost, mut place) = (qty.0, 0, 0);
        while let Some(lot) = self.at(place).filter(|_| 0 < left) {
            cost += i128::from(share(lot.cost, left.min(lot.qty.0), lot.qty.0).0);
            left -= left.min(lot.qty.0);
            place += 1;
        }
        cost
    }

    /// Forgets the oldest `qty`.
    fn take(&mut self, qty: Qty) {
        let mut left = qty.0;
        while let Some(lot) = self.at_mut(0).filter(|_| 0 < left) {
            if left < lot.qty.0 {
                lot.cost.0 -= share(lot.cost, left, lot.qty.0).0;
                lot.qty.0 -= left;
                return;
            }
            left -= lot.qty.0;
            self.first = (self.first + 1) % LOTS_MAX;
            self.len -= 1;
        }
    }

    fn push(&mut self, new: Lot) {
        if let Some(last) = self.at_mut(self.len.wrapping_sub(1)).filter(|it| it.price == new.price)
        {
            *last = joined(*last, new, new.price);
            return;
        }
        if self.len == LOTS_MAX {
            let oldest = self.at(0).copied().unwrap_or_default();
            if let Some(second) = self.at_mut(1) {
                *second = joined(oldest, *second, second.price);
            }
            self.first = (self.first + 1) % LOTS_MAX;
            self.len -= 1;
        }
        self.len += 1;
        if let Some(slot) = self.at_mut(self.len - 1) {
            *slot = new;
        }
    }
}

/// Two lots as one. Their sums are parts of a position's, which fit.
const fn joined(a: Lot, b: Lot, price: Price) -> Lot {
    Lot {
        qty: Qty(a.qty.0.saturating_add(b.qty.0)),
        cost: Money(a.cost.0.saturating_add(b.cost.0)),
        price,
    }
}

/// `part / whole` of `money`, to the nearest unit. `part` is in 0..=whole.
pub(crate) fn share(money: Money, part: i64, whole: i64) -> Money {
    if part == whole || whole <= 0 {
        return money;
    }
    let share = div_round(i128::from(money.0) * i128::from(part), i128::from(whole));
    // Not larger than the whole, which is an i64.
    Money(i64::try_from(share).unwrap_or(money.0))
}

/// A position in one instrument and what came of it, in the quote currency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Long is positive, short negative.
    pub qty: Qty,
    /// What the position cost with the fees of opening it; negative for what a short one brought.
    pub cost: Money,
    /// Result of closes by average cost, fees inside.
    pub realised_average: Money,
    /// What the open lots cost, without fees.
    pub lots_cost: Money,
    /// Result of closes by first in, first out, without fees.
    pub realised_fifo: Money,
    /// Fees of all fills; rebates count negative.
    pub fees: Money,
    /// Fills booked.
    pub fills: u64,
}

/// What one fill does, computed before anything is changed.
struct Booking {
    position: Position,
    base_total: Money,
    quote_total: Money,
    closed: Qty,
    opened: Option<Lot>,
}

/// Balances, positions and results of every account.
#[derive(Clone, Debug)]
pub struct Ledger {
    instruments: Vec<Account>,
    balances: Vec<Balance>,
}

#[derive(Clone, Debug)]
struct Account {
    price_scale: u8,
    qty_scale: u8,
    base: Slot,
    quote: Slot,
    position: Position,
    lots: Lots,
}

impl Ledger {
    /// Flat, with these balances. Currencies that are not named start at zero and are taken from
    /// the venue's first report.
    #[must_use]
    pub fn new(table: &InstrumentTable, balances: &[(VenueId, CurrencyId, Money)]) -> Self {
        let mut this = Self { instruments: Vec::new(), balances: Vec::new() };
        for (_, it) in table.iter() {
            let base = this.intern(it.venue, it.base);
            let quote = this.intern(it.venue, it.quote);
            let (price_scale, qty_scale) = (it.price_scale, it.qty_scale);
            let (position, lots) = (Position::default(), Lots::new());
            this.instruments.push(Account { price_scale, qty_scale, base, quote, position, lots });
        }
        for &(venue, currency, amount) in balances {
            let slot = this.intern(venue, currency);
            if let Some(it) = this.balances.get_mut(slot.0) {
                (it.total, it.start, it.known) = (amount, amount, true);
            }
        }
        this
    }

    fn intern(&mut self, venue: VenueId, currency: CurrencyId) -> Slot {
        let is = |it: &Balance| it.venue == venue && it.currency == currency;
        Slot(self.balances.iter().position(is).unwrap_or_else(|| {
            let (total, locked, start) = (Money(0), Money(0), Money(0));
            self.balances.push(Balance { venue, currency, total, locked, start, known: false });
            self.balances.len() - 1
        }))
    }

    /// Books a fill: both balances, the position by both methods, the fee. All or nothing.
    ///
    /// # Errors
    /// [`LedgerError`]; nothing is booked then.
    pub fn book(&mut self, fill: &Fill) -> Result<(), LedgerError> {
        let booking = self.booking(fill)?;
        let Some(account) = self.instruments.get_mut(fill.instrument.index()) else {
            return Err(LedgerError::UnknownInstrument(fill.instrument));
        };
        account.position = booking.position;
        account.lots.take(booking.closed);
        if let Some(lot) = booking.opened {
            account.lots.push(lot);
        }
        let (base, quote) = (account.base, account.quote);
        for (slot, total) in [(base, booking.base_total), (quote, booking.quote_total)] {
            if let Some(balance) = self.balances.get_mut(slot.0) {
                balance.total = total;
                balance.known = true;
            }
        }
        Ok(())
    }

    fn booking(&self, fill: &Fill) -> Result<Booking, LedgerError> {
        let unknown = LedgerError::UnknownInstrument(fill.instrument);
        let account = self.instruments.get(fill.instrument.index()).ok_or(unknown)?;
        if fill.price.0 <= 0 || fill.qty.0 <= 0 {
            return Err(LedgerError::NotPositive { price: fill.price, qty: fill.qty });
        }
        let (old, sign) = (account.position, fill.side.sign());
        let value = account.value(fill.price, fill.qty)?;
        // What does not reach beyond flat closes, the rest opens.
        let against = old.qty.0.signum() == -sign;
        let closed =
            Qty(if against { fill.qty.0.min(old.qty.0.checked_abs().ok_or(Overflow)?) } else { 0 });
        let opened = Qty(fill.qty.0 - closed.0);
        let close_value = share(value, closed.0, fill.qty.0);
        let open_value = Money(value.0 - close_value.0);
        let close_fee = share(fill.fee, closed.0, fill.qty.0);
        let open_fee = minus(fill.fee, close_fee)?;

        let mut new = old;
        if closed.0 > 0 {
            let paid = plus(Money(sign * close_value.0), close_fee)?;
            let cost = share(old.cost, closed.0, old.qty.0.abs());
            new.realised_average = minus(minus(old.realised_average, paid)?, cost)?;
            new.cost = minus(old.cost, cost)?;
            let lots = account.lots.cost_of(closed);
            let lots = i64::try_from(lots).map(Money).map_err(|_| Overflow)?;
            let earned = minus(Money(-sign * close_value.0), lots)?;
            new.realised_fifo = plus(old.realised_fifo, earned)?;
            new.lots_cost = minus(old.lots_cost, lots)?;
        }
        let mut lot = None;
        if opened.0 > 0 {
            let cost = Money(sign * open_value.0);
            new.cost = plus(new.cost, plus(cost, open_fee)?)?;
            new.lots_cost = plus(new.lots_cost, cost)?;
            lot = Some(Lot { qty: opened, cost, price: fill.price });
        }
        new.fees = plus(old.fees, fill.fee)?;
        new.qty = Qty(old.qty.0.checked_add(sign * fill.qty.0).ok_or(Overflow)?);
        new.fills += 1;

        // By difference, so that quantities finer than money round once and not at every fill.
        let moved = minus(account.base_amount(new.qty)?, account.base_amount(old.qty)?)?;
        let base_total = plus(self.balance(account.base).total, moved)?;
        // An instrument against itself would be one balance: the second write must not undo the first.
        let quote_old = if account.quote == account.base {
            base_total
        } else {
            self.balance(account.quote).total
        };
        let quote_total = minus(quote_old, plus(Money(sign * value.0), fill.fee)?)?;
        Ok(Booking { position: new, base_total, quote_total, closed, opened: lot })
    }

    /// Takes a venue's word on a balance where nothing was known. Elsewhere fills move it, and a
    /// report that crosses a fill on its way must not move it twice: the difference is returned.
    pub fn on_balance(&mut self, venue: VenueId, currency: CurrencyId, total: Money) -> Money {
        let is = |it: &&mut Balance| it.venue == venue && it.currency == currency;
        let Some(it) = self.balances.iter_mut().find(is) else {
            return Money(0);
        };
        if it.known {
            return Money(total.0.saturating_sub(it.total.0));
        }
        (it.total, it.start, it.known) = (total, total, true);
        Money(0)
    }

    /// Sets `amount` aside (negative: frees it). Never below zero, never beyond what fits.
    pub fn lock(&mut self, slot: Slot, amount: Money) {
        if let Some(it) = self.balances.get_mut(slot.0) {
            it.locked = Money(it.locked.0.saturating_add(amount.0).max(0));
        }
    }

    /// Where an order of this side finds what it spends: base for sells, quote for buys.
    #[must_use]
    pub fn spent_slot(&self, id: InstrumentId, side: Side) -> Option<Slot> {
        self.instruments.get(id.index()).map(|it| match side {
            Side::Buy => it.quote,
            Side::Sell => it.base,
        })
    }

    /// Where the base currency of an instrument is kept.
    #[must_use]
    pub fn base_slot(&self, id: InstrumentId) -> Option<Slot> {
        self.instruments.get(id.index()).map(|it| it.base)
    }

    /// A balance by its place.
    #[must_use]
    pub fn balance(&self, slot: Slot) -> Balance {
        self.balances.get(slot.0).copied().unwrap_or(Balance {
            venue: VenueId(u8::MAX),
            currency: CurrencyId(u16::MAX),
            total: Money(0),
            locked: Money(0),
            start: Money(0),
            known: false,
        })
    }

    /// Every balance with its place, in the order in which the table mentions them.
    pub fn balances(&self) -> impl Iterator<Item = (Slot, &Balance)> {
        self.balances.iter().enumerate().map(|(place, it)| (Slot(place), it))
    }

    /// The position in an instrument and its results; all zero for an id of another table.
    #[must_use]
    pub fn position(&self, id: InstrumentId) -> Position {
        self.instruments.get(id.index()).map_or_else(Position::default, |it| it.position)
    }

    /// Lots open in an instrument, at most [`LOTS_MAX`].
    #[must_use]
    pub fn lots(&self, id: InstrumentId) -> usize {
        self.instruments.get(id.index()).map_or(0, |it| it.lots.len)
    }

    /// Everything that is owned, in `currency`, at the mids of `market`.
    ///
    /// `None` where something that is owned has no price: a missing mark is never zero.
    #[must_use]
    pub fn equity(&self, market: &Market, currency: CurrencyId) -> Option<Money> {
        self.balances.iter().filter(|it| it.total.0 != 0).try_fold(Money(0), |sum, it| {
            plus(sum, market.convert(it.total, it.currency, currency)?).ok()
        })
    }
}

impl Account {
    fn value(&self, price: Price, qty: Qty) -> Result<Money, Overflow> {
        crate::units::notional(price, qty, self.price_scale, self.qty_scale)
    }
    fn base_amount(&self, qty: Qty) -> Result<Money, Overflow> {
        amount(qty, self.qty_scale)
    }
}

/// A quantity as an amount of the base currency, to the nearest unit.
///
/// # Errors
/// [`Overflow`] above about 92 thousand million.
pub fn base_amount(instrument: &Instrument, qty: Qty) -> Result<Money, Overflow> {
    amount(qty, instrument.qty_scale)
}

fn amount(qty: Qty, scale: u8) -> Result<Money, Overflow> {
    let qty = i128::from(qty.0);
    let amount = if scale <= MONEY_SCALE {
        qty * pow10_i128(u32::from(MONEY_SCALE - scale))
    } else {
        div_round(qty, pow10_i128(u32::from(scale - MONEY_SCALE)))
    };
    i64::try_from(amount).map(Money).map_err(|_| Overflow)
}

pub(crate) fn plus(a: Money, b: Money) -> Result<Money, Overflow> {
    a.0.checked_add(b.0).map(Money).ok_or(Overflow)
}

pub(crate) fn minus(a: Money, b: Money) -> Result<Money, Overflow> {
    a.0.checked_sub(b.0).map(Money).ok_or(Overflow)
}

#[cfg(test)]
mod tests;
