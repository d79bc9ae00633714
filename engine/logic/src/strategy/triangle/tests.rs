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
