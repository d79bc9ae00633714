//! What the strategies own, as far as they are told: positions by strategy, balances by venue.
//!
//! This is the strategies' own view, made for deciding what to wish for. The books that limits and
//! results are judged by are kept by risk, from the same events. Both move on fills only.

use alloc::vec;
use alloc::vec::Vec;

use crate::instrument::{Instrument, InstrumentTable};
use crate::units::{
    CurrencyId, InstrumentId, MONEY_SCALE, Money, POW10, Price, Qty, Side, StrategyId, VenueId,
    div_round,
};

/// A fill as it moves accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) side: Side,
    pub(crate) price: Price,
    pub(crate) qty: Qty,
    pub(crate) fee: Money,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    qty: Qty,
    /// Sum of entry price x quantity, in the instrument's scales; positive for either direction.
    cost: i128,
}

impl Position {
    fn moved(self, fill: &Fill) -> Self {
        let signed = fill.qty.0.saturating_mul(fill.side.sign());
        let (before, price) = (self.qty.0, i128::from(fill.price.0));
        let after = before.saturating_add(signed);
        let cost = if after == 0 {
            0
        } else if before == 0 || before.signum() == signed.signum() {
            self.cost.saturating_add(price * i128::from(fill.qty.0))
        } else if before.signum() == after.signum() {
            // What leaves takes its share of the cost with it; the average price stays. The cost
            // is a sum of products of two i64: its share is formed from the quotient so that
            // nothing can pass 128 bits.
            let (left, all) = (i128::from(after), i128::from(before));
            let (each, rest) = (self.cost / all.abs(), self.cost % all.abs());
            each * left.abs() + div_round(rest * left.abs(), all.abs())
        } else {
            price * i128::from(after).abs()
        };
        Self { qty: Qty(after), cost }
    }
}

#[derive(Clone, Copy, Debug)]
struct Balance {
    venue: VenueId,
    currency: CurrencyId,
    /// `None` until something is known: then the venue's first report fills it in.
    total: Option<Money>,
    reserved: Money,
}

/// Places of an instrument's two currencies among the balances.
#[derive(Clone, Copy, Debug)]
struct Pair {
    base: usize,
    quote: usize,
}

/// Positions and balances. Nothing is allocated after construction.
#[derive(Clone, Debug)]
pub struct Accounts {
    positions: Vec<Position>,
    instruments: usize,
    balances: Vec<Balance>,
    pairs: Vec<Pair>,
}

impl Accounts {
    /// Flat, with these balances. A balance of a currency that no instrument of its venue trades
    /// is kept and shown like any other.
    #[must_use]
    pub fn new(
        table: &InstrumentTable,
        strategies: usize,
        balances: &[(VenueId, CurrencyId, Money)],
    ) -> Self {
        let mut this = Self {
            positions: vec![Position::default(); strategies * table.instruments.len()],
            instruments: table.instruments.len(),
            balances: Vec::new(),
            pairs: Vec::new(),
        };
        for (_, it) in table.iter() {
            let pair =
                Pair { base: this.slot(it.venue, it.base), quote: this.slot(it.venue, it.quote) };
            this.pairs.push(pair);
        }
        for &(venue, currency, amount) in balances {
            let slot = this.slot(venue, currency);
            this.balances[slot].total = Some(amount);
        }
        this
    }

    /// A strategy's position in an instrument.
    #[must_use]
    pub fn position(&self, strategy: StrategyId, id: InstrumentId) -> Qty {
        self.held(strategy, id).map_or(Qty(0), |it| it.qty)
    }

    /// Average entry price of a strategy's position, to the nearest unit; `None` when flat.
    #[must_use]
    pub fn average_price(&self, strategy: StrategyId, id: InstrumentId) -> Option<Price> {
        let held = self.held(strategy, id).filter(|it| it.qty.0 != 0)?;
        let price = div_round(held.cost, i128::from(held.qty.0).abs());
        i64::try_from(price).ok().map(Price)
    }

    /// What is free of a currency at a venue; never negative.
    #[must_use]
    pub fn available(&self, venue: VenueId, currency: CurrencyId) -> Money {
        let is = |it: &&Balance| it.venue == venue && it.currency == currency;
        self.balances.iter().find(is).map_or(Money(0), |it| {
            let total = it.total.unwrap_or(Money(0));
            Money(total.0.saturating_sub(it.reserved.0).max(0))
        })
    }

    /// The venue's own word on a balance. It counts only where nothing was known: from then on
    /// fills move it, and a report that crosses a fill on its way must not move it twice.
    pub(crate) fn on_balance(&mut self, venue: VenueId, currency: CurrencyId, total: Money) {
        let is = |it: &&mut Balance| it.venue == venue && it.currency == currency;
        if let Some(it) = self.balances.iter_mut().find(is)
            && it.total.is_none()
        {
            it.total = Some(total);
        }
    }

    /// Moves the balances of the fill's venue, and the position of the strategy that is known to
    /// have ordered it.
    pub(crate) fn on_fill(
        &mut self,
        strategy: Option<StrategyId>,
        id: InstrumentId,
        instrument: &Instrument,
        fill: &Fill,
    ) {
        if let Some(place) = strategy.and_then(|it| self.place(it, id))
            && let Some(position) = self.positions.get_mut(place)
        {
            *position = position.moved(fill);
        }
        let value = instrument.notional(fill.price, fill.qty).unwrap_or(Money(i64::MAX));
        let base = base_amount(instrument, fill.qty);
        let sign = fill.side.sign();
        let Some(&pair) = self.pairs.get(id.index()) else {
            return;
        };
        self.add(pair.base, base.0.saturating_mul(sign));
        let paid = value.0.saturating_mul(sign).saturating_add(fill.fee.0);
        self.add(pair.quote, paid.saturating_neg());
    }

    /// Sets `amount` aside (or, negative, frees it) of what an order of this side spends.
    pub(crate) fn reserve(&mut self, id: InstrumentId, side: Side, amount: i64) {
        let Some(pair) = self.pairs.get(id.index()) else {
            return;
        };
        let slot = match side {
            Side::Buy => pair.quote,
            Side::Sell => pair.base,
        };
        if let Some(it) = self.balances.get_mut(slot) {
            it.reserved = Money(it.reserved.0.saturating_add(amount).max(0));
        }
    }

    fn add(&mut self, slot: usize, amount: i64) {
        if let Some(it) = self.balances.get_mut(slot) {
            let total = it.total.unwrap_or(Money(0));
            it.total = Some(Money(total.0.saturating_add(amount)));
        }
    }

    fn held(&self, strategy: StrategyId, id: InstrumentId) -> Option<&Position> {
        self.positions.get(self.place(strategy, id)?)
    }

    fn place(&self, strategy: StrategyId, id: InstrumentId) -> Option<usize> {
        let fits = id.index() < self.instruments;
        fits.then(|| strategy.index() * self.instruments + id.index())
    }

    fn slot(&mut self, venue: VenueId, currency: CurrencyId) -> usize {
        let is = |it: &Balance| it.venue == venue && it.currency == currency;
        self.balances.iter().position(is).unwrap_or_else(|| {
            self.balances.push(Balance { venue, currency, total: None, reserved: Money(0) });
            self.balances.len() - 1
        })
    }
}

/// A quantity as an amount of the base currency, to the nearest unit; the largest amount where it
/// does not fit.
#[must_use]
pub fn base_amount(instrument: &Instrument, qty: Qty) -> Money {
    let (scale, qty) = (instrument.qty_scale, i128::from(qty.0));
    let factor = |n: u8| i128::from(POW10.get(usize::from(n)).copied().unwrap_or(1));
    let amount = if scale <= MONEY_SCALE {
        qty * factor(MONEY_SCALE - scale)
    } else {
        div_round(qty, factor(scale - MONEY_SCALE))
    };
    Money(i64::try_from(amount).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::testing::{BTC, ETH, USDT, VENUE, money, table};
    use proptest::prelude::*;

    const BTCUSDT: InstrumentId = InstrumentId(0);
    const S: StrategyId = StrategyId(0);

    fn accounts() -> Accounts {
        Accounts::new(&table(), 2, &[(VENUE, USDT, money(1_000))])
    }

    /// Quantities in whole BTC, prices in whole USDT; buys are positive.
    fn fill(accounts: &mut Accounts, strategy: Option<StrategyId>, qty: i64, price: i64, fee: i64) {
        let side = if qty < 0 { Side::Sell } else { Side::Buy };
        let fill = Fill {
            side,
            price: Price(price * 100),
            qty: Qty(qty.abs() * 100_000_000),
            fee: money(fee),
        };
        accounts.on_fill(strategy, BTCUSDT, &table().instruments[0], &fill);
    }

    fn position(accounts: &Accounts) -> (i64, Option<i64>) {
        let average = accounts.average_price(S, BTCUSDT);
        (accounts.position(S, BTCUSDT).0 / 100_000_000, average.map(|it| it.0 / 100))
    }

    #[test]
    fn positions_average_their_entries_and_survive_flips() {
        let mut it = accounts();
        for (qty, price, want) in [
            (2, 100, (2, Some(100))),
            (2, 200, (4, Some(150))),
            (-1, 500, (3, Some(150))),
            (-5, 90, (-2, Some(90))),
            (-2, 110, (-4, Some(100))),
            (4, 7, (0, None)),
        ] {
            fill(&mut it, Some(S), qty, price, 0);
            assert_eq!(position(&it), want, "{qty} at {price}");
        }
        assert_eq!(it.position(StrategyId(1), BTCUSDT), Qty(0), "another strategy's");
    }

    #[test]
    fn balances_move_by_fills_and_reservations() {
        let mut it = accounts();
        fill(&mut it, Some(S), 2, 100, 1);
        assert_eq!(it.available(VENUE, USDT), money(799));
        assert_eq!(it.available(VENUE, BTC), money(2));
        it.reserve(BTCUSDT, Side::Buy, money(99).0);
        it.reserve(BTCUSDT, Side::Sell, money(5).0);
        assert_eq!(it.available(VENUE, USDT), money(700));
        assert_eq!(it.available(VENUE, BTC), Money(0), "never negative");
        it.reserve(BTCUSDT, Side::Buy, -money(99).0);
        // A fill of nobody's order is real money all the same.
        fill(&mut it, None, -1, 100, 1);
        assert_eq!(it.available(VENUE, USDT), money(898));
        assert_eq!(position(&it).0, 2);
    }

    #[test]
    fn a_venues_report_counts_only_where_nothing_was_known() {
        let mut it = accounts();
        it.on_balance(VENUE, USDT, money(5));
        it.on_balance(VENUE, ETH, money(5));
        it.on_balance(VENUE, ETH, money(6));
        assert_eq!(it.available(VENUE, USDT), money(1_000));
        assert_eq!(it.available(VENUE, ETH), money(5));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn a_position_is_the_sum_of_its_fills_and_its_average_lies_among_their_prices(
            fills in proptest::collection::vec((-50_i64..50, 1_i64..1_000), 1..60),
        ) {
            let mut it = accounts();
            let mut sum = 0;
            let mut cash = money(1_000).0;
            for &(qty, price) in fills.iter().filter(|it| it.0 != 0) {
                fill(&mut it, Some(S), qty, price, 0);
                sum += qty;
                cash -= money(qty * price).0;
                let (held, average) = position(&it);
                prop_assert_eq!(held, sum);
                prop_assert_eq!(average.is_some(), sum != 0);
                let low = fills.iter().map(|it| it.1).min().unwrap();
                let high = fills.iter().map(|it| it.1).max().unwrap();
                prop_assert!(average.is_none_or(|it| low - 1 <= it && it <= high));
                prop_assert_eq!(it.available(VENUE, USDT), Money(cash.max(0)));
            }
        }
    }
}
