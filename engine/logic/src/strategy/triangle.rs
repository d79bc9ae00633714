//! Cycles of three currencies, what they earn exactly, and how much of one can be traded.
//!
//! Selling one unit of BASE at the bid gives `bid * (1 - fee)` of QUOTE; spending one unit of
//! QUOTE at the ask gives `(1 - fee) / ask` of BASE. A cycle earns when the product of its three
//! rates is above one. With graph weights `-ln(rate)` that is a negative cycle; on triangles the
//! product can be formed directly, and exactly, from integers.

use alloc::vec;
use alloc::vec::Vec;

use crate::accounts::base_amount;
use crate::instrument::{Instrument, InstrumentTable};
use crate::market::Touch;
use crate::strategy::round::{lots_within, narrow, ten_to};
use crate::units::{
    CurrencyId, InstrumentId, MONEY_SCALE, Money, Price, Qty, Side, VenueId, div_round,
};

/// Most currencies of one venue: 16 give at most 560 triangles, each in two directions.
pub const CURRENCIES_MAX: usize = 16;
/// Most cuts of one plan: two for each leg, and the pass that fills in the numbers.
const PASSES_MAX: usize = 7;
/// Parts per million in one.
const ONE: u64 = 1_000_000;

/// One conversion of a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// On which instrument.
    pub instrument: InstrumentId,
    /// `Sell` goes from base to quote, `Buy` from quote to base.
    pub side: Side,
    /// What is given.
    pub from: CurrencyId,
    /// What is got.
    pub to: CurrencyId,
}

impl Leg {
    /// The way back over the same instrument.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { side: self.side.opposite(), from: self.to, to: self.from, ..self }
    }
}

/// Three legs that end where they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    /// In the order of trading.
    pub legs: [Leg; 3],
}

impl Cycle {
    /// The same cycle, begun `by` legs later.
    #[must_use]
    pub const fn rotated(self, by: usize) -> Self {
        let [a, b, c] = self.legs;
        let legs = match by % 3 {
            0 => [a, b, c],
            1 => [b, c, a],
            _ => [c, a, b],
        };
        Self { legs }
    }
}

/// All cycles over some instruments, found once.
#[derive(Clone, Debug, Default)]
pub struct Cycles {
    cycles: Vec<Cycle>,
    /// By instrument: the cycles that run through it.
    through: Vec<Vec<usize>>,
}

impl Cycles {
    /// Finds every triangle of `ids` whose instruments are of one venue, in both directions.
    ///
    /// # Errors
    /// The venue that has more than [`CURRENCIES_MAX`] currencies, and how many.
    pub fn find(table: &InstrumentTable, ids: &[InstrumentId]) -> Result<Self, (VenueId, usize)> {
        let all: Vec<(InstrumentId, &Instrument)> = ids
            .iter()
            .filter_map(|id| table.instrument(*id).map(|it| (*id, it)))
            .filter(|(_, it)| it.base != it.quote)
            .collect();
        for (_, it) in &all {
            let mut found: Vec<CurrencyId> = Vec::new();
            for (_, other) in all.iter().filter(|(_, other)| other.venue == it.venue) {
                found.extend([other.base, other.quote]);
            }
            found.sort_unstable();
            found.dedup();
            if found.len() > CURRENCIES_MAX {
                return Err((it.venue, found.len()));
            }
        }
        let mut this =
            Self { cycles: Vec::new(), through: vec![Vec::new(); table.instruments.len()] };
        for (place, &first) in all.iter().enumerate() {
            for (next, &second) in all.iter().enumerate().skip(place + 1) {
                for &third in all.iter().skip(next + 1) {
                    let one_venue = first.1.venue == second.1.venue;
                    if one_venue && second.1.venue == third.1.venue {
                        this.add([first, second, third]);
                    }
                }
            }
        }
        Ok(this)
    }

    /// Every cycle.
    #[must_use]
    pub fn all(&self) -> &[Cycle] {
        &self.cycles
    }

    /// How many cycles run through an instrument.
    #[must_use]
    pub fn count_through(&self, id: InstrumentId) -> usize {
        self.through.get(id.index()).map_or(0, Vec::len)
    }

    /// One of the cycles that run through an instrument.
    #[must_use]
    pub fn nth_through(&self, id: InstrumentId, nth: usize) -> Option<Cycle> {
        let place = self.through.get(id.index())?.get(nth)?;
        self.cycles.get(*place).copied()
    }

    fn add(&mut self, [first, second, third]: [(InstrumentId, &Instrument); 3]) {
        for side in [Side::Sell, Side::Buy] {
            let begin = leg(first, side);
            for [next, last] in [[second, third], [third, second]] {
                let next = from(next, begin.to);
                let last = next.and_then(|it| from(last, it.to));
                if let (Some(next), Some(last)) = (next, last)
                    && last.to == begin.from
                    && next.to != begin.from
                {
                    let legs = [begin, next, last];
                    for leg in legs {
                        self.through[leg.instrument.index()].push(self.cycles.len());
                    }
                    self.cycles.push(Cycle { legs });
                }
            }
        }
    }
}

fn leg((instrument, it): (InstrumentId, &Instrument), side: Side) -> Leg {
    let (from, to) = match side {
        Side::Sell => (it.base, it.quote),
        Side::Buy => (it.quote, it.base),
    };
    Leg { instrument, side, from, to }
}

fn from(instrument: (InstrumentId, &Instrument), currency: CurrencyId) -> Option<Leg> {
    let legs = [leg(instrument, Side::Sell), leg(instrument, Side::Buy)];
    legs.into_iter().find(|it| it.from == currency)
}

/// A leg with what the market offers for it.
#[derive(Clone, Copy, Debug)]
pub struct Priced<'a> {
    /// The leg.
    pub leg: Leg,
    /// Its instrument.
    pub instrument: &'a Instrument,
    /// The price it takes.
    pub price: Price,
    /// What is offered there.
    pub offered: Qty,
    /// The fee of taking, in parts per million. In 0..=1 000 000.
    pub fee_ppm: u32,
}

impl<'a> Priced<'a> {
    /// The leg against the present touch.
    #[must_use]
    pub fn new(leg: Leg, instrument: &'a Instrument, touch: &Touch, fee_ppm: u32) -> Self {
        let (price, offered) = touch.taken_by(leg.side);
        Self { leg, instrument, price, offered, fee_ppm }
    }

    /// The quantity to trade so that at most `given` is spent, in whole lots.
    fn qty_for(&self, given: Money) -> Qty {
        match self.leg.side {
            Side::Sell => lots_within(self.instrument, given),
            Side::Buy => {
                // given / (price * (1 + fee)), in units of the base currency's money.
                let one = i128::from(ONE);
                let before_fee =
                    i128::from(given.0.max(0)) * one / (one + i128::from(self.fee_ppm));
                let base = before_fee * ten_to(self.instrument.price_scale)
                    / i128::from(self.price.0.max(1));
                lots_within(self.instrument, Money(narrow(base)))
            }
        }
    }

    /// What a quantity costs in the leg's first currency and gives in its second.
    fn moves(&self, qty: Qty) -> Option<(Money, Money)> {
        let value = self.instrument.notional(self.price, qty).ok()?.0;
        let fee = div_round(i128::from(value) * i128::from(self.fee_ppm), i128::from(ONE));
        let fee = i64::try_from(fee).ok()?;
        let base = base_amount(self.instrument, qty);
        match self.leg.side {
            Side::Sell => Some((base, Money(value.checked_sub(fee)?))),
            Side::Buy => Some((Money(value.checked_add(fee)?), base)),
        }
    }

    /// Whether the venue takes an order of this size.
    fn is_tradable(&self, qty: Qty) -> bool {
        let value = self.instrument.notional(self.price, qty);
        qty.0 > 0
            && qty >= self.instrument.min_qty
            && value.is_ok_and(|it| it >= self.instrument.min_notional)
    }
}

/// Whether the product of the three rates, less one, is above `threshold_ppm`. Exact.
#[must_use]
pub fn earns_more_than(legs: &[Priced<'_>; 3], threshold_ppm: u32) -> bool {
    // product of numerators / product of denominators > (1e6 + threshold) / 1e6
    let mut top = Wide::ONE.times(ONE);
    let mut bottom = Wide::ONE.times(ONE + u64::from(threshold_ppm));
    for it in legs {
        let Some(price) = u64::try_from(it.price.0).ok().filter(|it| *it > 0) else {
            return false;
        };
        let one = u64::try_from(ten_to(it.instrument.price_scale)).unwrap_or(1);
        let (up, down) = match it.leg.side {
            Side::Sell => (price, one),
            Side::Buy => (one, price),
        };
        top = top.times(up).times(ONE.saturating_sub(u64::from(it.fee_ppm)));
        bottom = bottom.times(down).times(ONE);
    }
    top > bottom
}

/// How much to trade on each leg, and what it should earn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Quantities of the legs, in whole lots.
    pub qty: [Qty; 3],
    /// What each leg spends of its first currency, the fee included.
    pub spends: [Money; 3],
    /// What is left at the end, less what was given: in the first leg's first currency.
    pub profit: Money,
}

/// Sizes a cycle: at most `budget` of the first currency, at most what is offered on each leg,
/// rounded down to lots. `None` where a leg would be below what the venue takes.
#[must_use]
pub fn plan(legs: &[Priced<'_>; 3], budget: Money) -> Option<Plan> {
    let mut given = budget;
    // Each pass that finds a leg too large cuts the start in proportion. Where lots are coarse the
    // share of a leg is not quite proportional, so a leg may need a second cut.
    for _ in 0..PASSES_MAX {
        match try_plan(legs, given)? {
            Ok(plan) => return Some(plan),
            Err(smaller) => given = smaller,
        }
    }
    None
}

/// A plan, or a smaller start to try.
fn try_plan(legs: &[Priced<'_>; 3], given: Money) -> Option<Result<Plan, Money>> {
    let mut plan = Plan { qty: [Qty(0); 3], spends: [Money(0); 3], profit: Money(0) };
    let mut amount = given;
    // What the start comes to: from the second leg on the whole lots of the first one, so that
    // every cut takes away a lot at least and never just the change.
    let mut start = given;
    let mut is_first = true;
    for (leg, (qty, spends)) in legs.iter().zip(plan.qty.iter_mut().zip(&mut plan.spends)) {
        *qty = leg.qty_for(amount);
        if *qty > leg.offered {
            let lot = leg.instrument.lot.0.max(1);
            let fits = leg.offered.0 - leg.offered.0 % lot;
            let cut = i128::from(start.0) * i128::from(fits) / i128::from(qty.0);
            return Some(Err(Money(narrow(cut))));
        }
        if !leg.is_tradable(*qty) {
            return None;
        }
        let (spent, got) = leg.moves(*qty)?;
        if is_first {
            start = spent;
            is_first = false;
        }
        (*spends, amount) = (spent, got);
    }
    plan.profit = Money(amount.0.checked_sub(plan.spends[0].0)?);
    Some(Ok(plan))
}

/// The quantity of a leg for an amount that is really there; `None` below what the venue takes.
#[must_use]
pub fn continue_with(leg: &Priced<'_>, amount: Money) -> Option<Qty> {
    let qty = leg.qty_for(amount);
    leg.is_tradable(qty).then_some(qty)
}

/// The quantity that buys at least `amount` of the leg's second currency, rounded up to lots.
#[must_use]
pub fn quantity_getting(leg: &Priced<'_>, amount: Money) -> Option<Qty> {
    let it = leg.instrument;
    let base = match leg.leg.side {
        Side::Buy => i128::from(amount.0),
        Side::Sell => {
            let one = i128::from(ONE);
            let left = (one - i128::from(leg.fee_ppm)).max(1);
            let before_fee = (i128::from(amount.0) * one + left - 1) / left;
            div_round(before_fee * ten_to(it.price_scale), i128::from(leg.price.0.max(1)))
        }
    };
    let units = i128::from(narrow(base)) * ten_to(it.qty_scale);
    let lot = i128::from(it.lot.0.max(1)) * ten_to(MONEY_SCALE);
    let lots = (units + lot - 1) / lot;
    let qty = Qty(narrow(lots * i128::from(it.lot.0.max(1))));
    leg.is_tradable(qty).then_some(qty)
}

/// A product of 64-bit numbers, exact. Three prices (63 bits), three fees or their ones (20 bits)
/// and a threshold (21 bits) are 270 bits; five words are 320.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wide([u64; 5]);

impl Wide {
    const ONE: Self = Self([1, 0, 0, 0, 0]);

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the low word of a product is meant; the high one is carried"
    )]
    fn times(self, by: u64) -> Self {
        let mut words = self.0;
        let mut carry = 0_u128;
        for word in &mut words {
            let product = u128::from(*word) * u128::from(by) + carry;
            *word = product as u64;
            carry = product >> 64;
        }
        debug_assert_eq!(carry, 0, "320 bits hold every product formed here");
        Self(words)
    }
}

impl Ord for Wide {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.0.iter().rev().cmp(other.0.iter().rev())
    }
}

impl PartialOrd for Wide {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests;
