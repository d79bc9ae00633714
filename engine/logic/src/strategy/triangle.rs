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
    let units = base * ten_to(it.qty_scale);
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
mod tests {
    use super::*;
    use crate::strategy::testing::{BTC, ETH, USDT, table};
    use crate::units::{Nanos, parse_decimal};
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn all() -> [InstrumentId; 3] {
        [InstrumentId(0), InstrumentId(1), InstrumentId(2)]
    }

    fn touch(it: &Instrument, bid: &str, ask: &str) -> Touch {
        let price = |text: &str| Price(parse_decimal(text.as_bytes(), it.price_scale).unwrap());
        let qty = Qty(1_000_000_000);
        Touch { bid: price(bid), bid_qty: qty, ask: price(ask), ask_qty: qty, at: Nanos(0) }
    }

    fn priced<'a>(
        table: &'a InstrumentTable,
        cycle: &Cycle,
        touches: &[Touch],
        fee_ppm: u32,
    ) -> [Priced<'a>; 3] {
        cycle.legs.map(|leg| {
            let place = leg.instrument.index();
            Priced::new(leg, &table.instruments[place], &touches[place], fee_ppm)
        })
    }

    /// USDT to BTC to ETH to USDT.
    fn buying_btc_first(cycles: &Cycles) -> Cycle {
        let first = |it: &Cycle| it.legs[0].from == USDT && it.legs[0].to == BTC;
        let rotations = cycles.all().iter().flat_map(|it| (0..3).map(|by| it.rotated(by)));
        rotations.into_iter().find(first).unwrap()
    }

    #[test]
    fn a_triangle_is_two_cycles_and_each_instrument_knows_both() {
        let cycles = Cycles::find(&table(), &all()).unwrap();
        assert_eq!(cycles.all().len(), 2);
        for id in all() {
            assert_eq!(cycles.count_through(id), 2);
            assert!(cycles.nth_through(id, 1).is_some() && cycles.nth_through(id, 2).is_none());
        }
        for cycle in cycles.all() {
            let [a, b, c] = cycle.legs;
            assert_eq!([a.to, b.to, c.to], [b.from, c.from, a.from]);
            let mut currencies = [a.from, b.from, c.from];
            currencies.sort_unstable();
            assert_eq!(currencies, [BTC, USDT, ETH]);
        }
        assert_eq!(Cycles::find(&table(), &all()[..2]).unwrap().all().len(), 0);
    }

    #[test]
    fn instruments_of_two_venues_make_no_cycle_and_seventeen_currencies_are_refused() {
        let mut table = table();
        table.instruments[2].venue = VenueId(1);
        assert_eq!(Cycles::find(&table, &all()).unwrap().all().len(), 0);
        for n in 0..17 {
            let mut it = table.instruments[0].clone();
            it.base = table.intern_currency(&["C", &n.to_string()].concat());
            table.instruments.push(it);
        }
        let ids: Vec<InstrumentId> = table.iter().map(|it| it.0).collect();
        assert_eq!(Cycles::find(&table, &ids).unwrap_err(), (VenueId(0), 20));
    }

    #[test]
    fn profit_is_exact_at_the_threshold() {
        let table = table();
        let cycle = buying_btc_first(&Cycles::find(&table, &all()).unwrap());
        // ETH/USDT bid; net profit in parts per million, rounded down.
        let check = |bid: &str, fee_ppm: u32, profit_ppm: u32| {
            let [btc_usdt, eth_usdt, eth_btc] = &table.instruments[..] else {
                panic!("three instruments");
            };
            let touches = [
                touch(btc_usdt, "49999", "50000"),
                touch(eth_usdt, bid, "2600"),
                touch(eth_btc, "0.049", "0.05"),
            ];
            let legs = priced(&table, &cycle, &touches, fee_ppm);
            assert!(earns_more_than(&legs, profit_ppm), "{bid}: above {profit_ppm}");
            assert!(!earns_more_than(&legs, profit_ppm + 1), "{bid}: not above {profit_ppm} + 1");
        };
        check("2515", 1_000, 2_985);
        check("2510", 1_000, 991);
        check("2515.01", 0, 6_003);
        check("2540", 1_000, 12_955);
    }

    #[test]
    fn a_product_that_equals_the_threshold_does_not_pass_it() {
        let table = table();
        let cycle = buying_btc_first(&Cycles::find(&table, &all()).unwrap());
        let touches = [
            touch(&table.instruments[0], "49999", "50000"),
            touch(&table.instruments[1], "2515", "2600"),
            touch(&table.instruments[2], "0.049", "0.05"),
        ];
        let legs = priced(&table, &cycle, &touches, 0);
        assert!(!earns_more_than(&legs, 6_000));
        assert!(earns_more_than(&legs, 5_999));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn a_plan_fits_every_leg_and_its_profit_is_what_the_legs_give(
            budget in 1_i64..10_000_000_000_000,
            offered in [1_i64..2_000_000_000, 1..2_000_000_000, 1..2_000_000_000],
            bid in 240_000_i64..280_000,
        ) {
            let table = table();
            let cycle = buying_btc_first(&Cycles::find(&table, &all()).unwrap());
            let mut touches = [
                touch(&table.instruments[0], "49999", "50000"),
                touch(&table.instruments[1], "2515", "2900"),
                touch(&table.instruments[2], "0.049", "0.05"),
            ];
            touches[1].bid = Price(bid);
            for (touch, qty) in touches.iter_mut().zip(offered) {
                (touch.bid_qty, touch.ask_qty) = (Qty(qty), Qty(qty));
            }
            let legs = priced(&table, &cycle, &touches, 1_000);
            let Some(plan) = plan(&legs, Money(budget)) else {
                // Only where some leg is below one lot.
                let small = offered.iter().any(|it| *it < 30_000) || budget < 200_000_000;
                prop_assert!(small, "no plan for {budget} {offered:?}");
                return Ok(());
            };
            prop_assert!(plan.spends[0].0 <= budget);
            let mut amount = plan.spends[0];
            for (leg, qty) in legs.iter().zip(plan.qty) {
                prop_assert!(qty <= leg.offered && qty.0 % 1_000 == 0 && qty.0 > 0);
                let (spent, got) = leg.moves(qty).unwrap();
                prop_assert!(spent <= amount, "{spent} of {amount}");
                amount = got;
            }
            prop_assert_eq!(plan.profit.0, amount.0 - plan.spends[0].0);
        }

        #[test]
        fn wide_products_equal_products_that_fit(a: u64, b: u64, c: u64, d: u64) {
            let product = |x: u64, y: u64| Wide::ONE.times(x).times(y);
            let exact = |x: u64, y: u64| u128::from(x) * u128::from(y);
            prop_assert_eq!(product(a, b).cmp(&product(c, d)), exact(a, b).cmp(&exact(c, d)));
            let longer = product(a, b).times(c | 1).times(d | 1);
            prop_assert_eq!(longer, product(d | 1, c | 1).times(b).times(a));
        }
    }

    /// Currencies of the random graphs.
    const NODES: u16 = 5;

    /// An instrument for every pair, some turned round.
    fn complete_graph(turned: &[bool]) -> InstrumentTable {
        let mut graph = InstrumentTable { venues: table().venues, ..Default::default() };
        for node in 0..NODES {
            graph.intern_currency(&["N", &node.to_string()].concat());
        }
        let pairs = (0..NODES).flat_map(|a| (a + 1..NODES).map(move |b| (a, b)));
        for ((a, b), turned) in pairs.zip(turned) {
            let (base, quote) = if *turned { (b, a) } else { (a, b) };
            let mut it = table().instruments[2].clone();
            (it.base, it.quote) = (CurrencyId(base), CurrencyId(quote));
            graph.instruments.push(it);
        }
        graph
    }

    /// The nodes of a negative cycle of `-ln(rate)` among `nodes`, in its order, by relaxing edges.
    #[expect(clippy::float_arithmetic, reason = "the oracle works as the textbook does")]
    fn bellman_ford(edges: &[(u16, u16, f64)], nodes: &[u16]) -> Option<Vec<u16>> {
        let inside = |it: &&(u16, u16, f64)| nodes.contains(&it.0) && nodes.contains(&it.1);
        let edges: Vec<_> = edges.iter().filter(inside).collect();
        let mut far = [0.0_f64; NODES as usize];
        let mut before = [None::<u16>; NODES as usize];
        let mut last = None;
        for _ in 0..=nodes.len() {
            last = None;
            for &&(from, to, weight) in &edges {
                let found = far[usize::from(from)] + weight;
                if found < far[usize::from(to)] - 1e-12 {
                    far[usize::from(to)] = found;
                    before[usize::from(to)] = Some(from);
                    last = Some(to);
                }
            }
        }
        let mut node = last?;
        for _ in 0..NODES {
            node = before[usize::from(node)]?;
        }
        let mut cycle = vec![node];
        let mut at = before[usize::from(node)]?;
        while at != node {
            cycle.push(at);
            at = before[usize::from(at)]?;
        }
        cycle.reverse();
        Some(cycle)
    }

    #[expect(
        clippy::float_arithmetic,
        clippy::cast_precision_loss,
        reason = "the oracle works as the textbook does"
    )]
    fn edges(graph: &InstrumentTable, touches: &[Touch], fee_ppm: u32) -> Vec<(u16, u16, f64)> {
        let mut edges = Vec::new();
        for ((_, it), touch) in graph.iter().zip(touches) {
            let scale = ten_to(it.price_scale) as f64;
            let keep = 1.0 - f64::from(fee_ppm) / 1e6;
            let sell = touch.bid.0 as f64 / scale * keep;
            let buy = keep / (touch.ask.0 as f64 / scale);
            edges.push((it.base.0, it.quote.0, -libm::log(sell)));
            edges.push((it.quote.0, it.base.0, -libm::log(buy)));
        }
        edges
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn direct_evaluation_finds_the_cycles_that_bellman_ford_finds(
            turned in proptest::collection::vec(any::<bool>(), 10),
            prices in proptest::collection::vec((990_000_i64..1_010_000, 1_i64..2_000), 10),
            fee_ppm in 0_u32..2_000,
        ) {
            let graph = complete_graph(&turned);
            let touches: Vec<Touch> = prices
                .iter()
                .map(|&(bid, spread)| Touch {
                    bid: Price(bid),
                    bid_qty: Qty(1),
                    ask: Price(bid + spread),
                    ask_qty: Qty(1),
                    at: Nanos(0),
                })
                .collect();
            let ids: Vec<InstrumentId> = graph.iter().map(|it| it.0).collect();
            let cycles = Cycles::find(&graph, &ids).unwrap();
            prop_assert_eq!(cycles.all().len(), 20, "ten triangles, two ways each");
            let edges = edges(&graph, &touches, fee_ppm);
            for cycle in cycles.all() {
                let nodes = cycle.legs.map(|it| it.from.0);
                let earning: Vec<[u16; 3]> = cycles
                    .all()
                    .iter()
                    .filter(|it| it.legs.iter().all(|leg| nodes.contains(&leg.from.0)))
                    .filter(|it| earns_more_than(&priced(&graph, it, &touches, fee_ppm), 0))
                    .map(|it| it.legs.map(|leg| leg.from.0))
                    .collect();
                match bellman_ford(&edges, &nodes) {
                    None => prop_assert!(earning.is_empty(), "{:?}", earning),
                    Some(found) => {
                        let same = earning.iter().any(|it| {
                            let mut turns = (0..3).map(|by| [it[by], it[(by + 1) % 3], it[(by + 2) % 3]]);
                            turns.any(|it| it[..] == found[..])
                        });
                        prop_assert!(same, "{:?} against {:?}", found, earning);
                    }
                }
            }
        }
    }
}
