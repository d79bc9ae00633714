use super::*;
use crate::event::GapReason;
use std::collections::BTreeSet;

/// Every code with which risk may refuse.
const CODES: [Code; 27] = [
    Code::ResolvedQtyNonPositive,
    Code::InvalidPrice,
    Code::InvalidQuantity,
    Code::InvalidNumeric,
    Code::MissingPrice,
    Code::UnknownInstrument,
    Code::MinNotional,
    Code::DuplicateClientOrderId,
    Code::InsufficientCash,
    Code::PositionLimit,
    Code::NoPosition,
    Code::PositionReserved,
    Code::ReduceOnlyViolation,
    Code::MaxNotional,
    Code::Halted,
    Code::Reducing,
    Code::Killed,
    Code::MaxOrderSizeExceeded,
    Code::MaxPositionExposureExceeded,
    Code::MaxOpenOrders,
    Code::PriceBand,
    Code::OrderRate,
    Code::NoReferencePrice,
    Code::MarketDataStale,
    Code::StrategyDisabled,
    Code::TradingStopped,
    Code::UnknownOrder,
];

type Limit = fn(&mut Limits);
type Before = fn(&mut Bench);

#[test]
fn every_code_is_reached_with_its_numbers() {
    let mut reached = BTreeSet::new();
    let mut check = |change: Limit, before: Before, intent: Intent, want: (Code, i64, i64)| {
        let mut limits = Limits::default();
        change(&mut limits);
        let mut bench = Bench::new(limits);
        before(&mut bench);
        let (_, found) = match intent.action {
            Action::Place if intent.order == OrderId(0) => bench.place(intent),
            Action::Place | Action::Cancel | Action::State | Action::Result => {
                (intent, bench.judge(intent))
            }
        };
        assert_eq!((found.code, found.found, found.limit), want, "{intent:?}");
        assert_eq!(bench.risk.counts().denied, 1);
        reached.insert(want.0);
    };
    let no: Before = |_| {};
    let as_is: Limit = |_| {};
    use Code as C;

    check(as_is, |b| drop(b.command(Verb::Kill, 0)), buy(100, 10_000), (C::Killed, 5, 0));
    check(as_is, |b| drop(b.command(Verb::Kill, 0)), exit(sell(100, 10_000)), (C::Killed, 5, 0));
    check(as_is, |b| drop(b.command(Verb::Stop, 0)), buy(100, 10_000), (C::TradingStopped, 4, 0));
    let off: Before = |b| drop(b.command(Verb::StrategyDisable, 0));
    check(as_is, off, buy(100, 10_000), (C::StrategyDisabled, 0, 0));

    let nowhere = on(InstrumentId(9), buy(100, 10_000));
    check(as_is, no, nowhere, (C::UnknownInstrument, 9, 4));
    let again = Intent { order: OrderId(1), ..buy(100, 10_000) };
    let once: Before = |b| _ = b.pass(buy(20, 10_000));
    check(as_is, once, again, (C::DuplicateClientOrderId, 1, 1));
    check(as_is, no, buy(0, 10_000), (C::InvalidQuantity, 0, 20));
    check(as_is, no, buy(-5, 10_000), (C::InvalidQuantity, -5, 20));
    check(as_is, no, buy(4, 10_000), (C::ResolvedQtyNonPositive, 4, 10));
    check(as_is, no, buy(14, 10_000), (C::InvalidQuantity, 14, 20));
    check(as_is, no, buy(100, 0), (C::MissingPrice, 0, 10));
    check(as_is, no, buy(100, 4), (C::InvalidPrice, 4, 10));
    check(as_is, no, buy(100, -10_000), (C::InvalidPrice, -10_000, 10));
    let huge = 9_000_000_000_000_000_000;
    check(as_is, no, buy(100, huge), (C::InvalidNumeric, huge, 100));
    check(as_is, no, buy(i64::MAX, 10_000), (C::InvalidNumeric, 10_000, i64::MAX));
    check(as_is, no, buy(20, 2_000), (C::MinNotional, 4 * UNIT, 5 * UNIT));

    check(as_is, |b| drop(b.wait(5_001)), buy(100, 10_000), (C::MarketDataStale, 5_001, 5_000));
    let gap: Before = |b| drop(b.tell(Event::gap(b.at(), BTCUSDT, GapReason::Sequence, 1, 3)));
    check(as_is, gap, buy(100, 10_000), (C::MarketDataStale, -1, 5_000));
    check(as_is, no, on(ETHUSDT, buy(100, 10_000)), (C::MarketDataStale, -1, 5_000));
    let eur: Before = |b| drop(b.quote(ETHEUR, 9_900, 10_100));
    check(as_is, eur, on(ETHEUR, buy(100, 10_000)), (C::NoReferencePrice, 3, 1));
    let blind: Limit = |it| it.max_daily_loss = Money(UNIT);
    let unpriced: Before = |b| {
        let balances = vec![(V, EUR, Money(1)), (V, USDT, Money(1_000 * UNIT))];
        let options = RiskOptions { currency: USDT, balances, depth: 64 };
        b.risk = Risk::new(&table(), b.risk.limits().clone(), &options);
        b.quote(BTCUSDT, 9_900, 10_100);
    };
    check(blind, unpriced, buy(100, 10_000), (C::NoReferencePrice, 3, 1));

    check(as_is, |b| drop(b.command(Verb::Halt, 0)), buy(100, 10_000), (C::Halted, 2, 0));
    check(as_is, |b| drop(b.command(Verb::Reduce, 0)), buy(100, 10_000), (C::Reducing, 3, 0));
    check(as_is, no, exit(sell(100, 10_000)), (C::ReduceOnlyViolation, UNIT, 0));
    let long: Before = |b| {
        let order = b.pass(buy(100, 10_000));
        b.fill(&order, 100);
        b.pass(exit(sell(60, 10_000)));
    };
    check(as_is, long, exit(sell(50, 10_000)), (C::ReduceOnlyViolation, UNIT / 2, 4 * UNIT / 10));

    let pending: Before = |b| _ = b.pass(buy(100, 10_000));
    let limit: Limit = |it| it.max_position_qty = Money(15 * UNIT / 10);
    check(limit, pending, buy(100, 10_000), (C::PositionLimit, 2 * UNIT, 15 * UNIT / 10));
    check(limit, no, sell(160, 10_000), (C::PositionLimit, 16 * UNIT / 10, 15 * UNIT / 10));
    let limit: Limit = |it| it.max_notional = Money(150 * UNIT);
    check(limit, pending, buy(100, 10_000), (C::MaxNotional, 200 * UNIT, 150 * UNIT));
    let limit: Limit = |it| it.max_order_notional = Money(99 * UNIT);
    check(limit, no, buy(100, 10_000), (C::MaxOrderSizeExceeded, 100 * UNIT, 99 * UNIT));
    let limit: Limit = |it| it.max_position_notional = Money(150 * UNIT);
    let want = (C::MaxPositionExposureExceeded, 200 * UNIT, 150 * UNIT);
    check(limit, pending, buy(100, 10_000), want);
    let limit: Limit = |it| it.max_open_orders = 1;
    check(limit, pending, buy(100, 10_000), (C::MaxOpenOrders, 2, 1));

    let cash = (C::InsufficientCash, 100_089_990_000, 1_000 * UNIT);
    check(as_is, no, buy(990, 10_100), cash);
    check(as_is, no, sell(300, 10_000), (C::NoPosition, 3 * UNIT, 2 * UNIT));
    let reserved: Before = |b| _ = b.pass(sell(150, 10_000));
    check(as_is, reserved, sell(100, 10_000), (C::PositionReserved, UNIT, UNIT / 2));
    check(as_is, no, buy(100, 10_700), (C::PriceBand, 595, 500));
    check(as_is, no, sell(100, 9_400), (C::PriceBand, 506, 500));
    let limit: Limit = |it| it.max_orders_per_second_instrument = 1;
    check(limit, pending, buy(100, 10_000), (C::OrderRate, 2, 1));
    let limit: Limit = |it| it.max_orders_per_second = 1;
    check(limit, pending, buy(100, 10_000), (C::OrderRate, 2, 1));

    check(as_is, no, cancel(OrderId(7)), (C::UnknownOrder, 7, 0));
    let others = Intent { strategy: StrategyId(1), ..cancel(OrderId(1)) };
    check(as_is, pending, others, (C::UnknownOrder, 1, 0));

    let all: BTreeSet<Code> = CODES.into_iter().collect();
    assert_eq!(reached, all);
}

/// What an order may violate, in the order in which it is to be noticed.
struct Case {
    limits: Limits,
    before: Vec<Event>,
    intent: Intent,
}

type Violate = fn(&mut Case, Nanos);

#[test]
fn the_first_failure_is_the_reason() {
    let at = Nanos(1_000_000 * MS);
    let violations: [(Code, Violate); 16] = [
        (Code::Killed, |it, at| it.before.push(Event::command(at, Verb::Kill, 0))),
        (Code::TradingStopped, |it, at| it.before.push(Event::command(at, Verb::Stop, 0))),
        (Code::StrategyDisabled, |it, at| {
            it.before.push(Event::command(at, Verb::StrategyDisable, 0));
        }),
        (Code::UnknownInstrument, |it, _| it.intent.instrument = InstrumentId::NONE),
        (Code::InvalidQuantity, |it, _| it.intent.qty = Qty(0)),
        (Code::MissingPrice, |it, _| it.intent.price = Price(0)),
        (Code::MarketDataStale, |it, at| {
            it.before.push(Event::gap(at, BTCUSDT, GapReason::Crossed, 0, 0));
        }),
        (Code::Halted, |it, at| it.before.push(Event::command(at, Verb::Halt, 0))),
        (Code::PositionLimit, |it, _| it.limits.max_position_qty = Money(1)),
        (Code::MaxNotional, |it, _| it.limits.max_notional = Money(1)),
        (Code::MaxOrderSizeExceeded, |it, _| it.limits.max_order_notional = Money(1)),
        (Code::MaxPositionExposureExceeded, |it, _| it.limits.max_position_notional = Money(1)),
        (Code::MaxOpenOrders, |it, _| it.limits.max_open_orders = 1),
        (Code::InsufficientCash, |it, _| it.intent.qty = Qty(1_000)),
        (Code::PriceBand, |it, _| it.intent.price = Price(10_700)),
        (Code::OrderRate, |it, _| it.limits.max_orders_per_second = 1),
    ];
    for (first, &(want, _)) in violations.iter().enumerate() {
        let limits = Limits::default();
        let mut case = Case { limits, before: Vec::new(), intent: buy(100, 10_000) };
        // The earliest one last, so that its change of the intent holds.
        for (_, violate) in violations[first..].iter().rev() {
            violate(&mut case, at);
        }
        let mut bench = Bench::new(Limits { max_orders_per_second: 1, ..Limits::default() });
        bench.pass(buy(20, 10_000));
        bench.risk.limits = case.limits;
        for event in case.before {
            bench.tell(event);
        }
        bench.refuse(case.intent, want);
    }
}

#[test]
fn orders_leave_normalised() {
    let check = |intent: Intent, want: (OrderType, TimeInForce, i64, i64)| {
        let (_, found) = Bench::new(Limits::default()).place(intent);
        assert_eq!(found.code, Code::None, "{found:?}");
        let found = (found.order_type, found.tif, found.price.0, found.qty.0);
        assert_eq!(found, want, "{intent:?}");
    };
    use OrderType::Limit;
    use TimeInForce::{Fok, Gtc, Ioc};
    check(buy(104, 10_004), (Limit, Gtc, 10_000, 100));
    check(buy(105, 10_005), (Limit, Gtc, 10_010, 110));
    // At the edge of the band: 101.00 + 5 % is 106.05, 99.00 - 5 % is 94.05.
    check(market(buy(100, 0)), (Limit, Ioc, 10_600, 100));
    check(market(sell(100, 0)), (Limit, Ioc, 9_410, 100));
    check(Intent { tif: Fok, ..market(sell(100, 0)) }, (Limit, Fok, 9_410, 100));

    let mut bench = Bench::new(Limits { price_band_bps: 0, ..Limits::default() });
    let (_, found) = bench.place(market(buy(100, 0)));
    assert_eq!((found.order_type, found.price), (OrderType::Market, Price(0)), "no band");
    assert_eq!(found.notional, Money(101 * UNIT), "never valued at nothing");
}

#[test]
fn reservations_last_exactly_as_long_as_the_order() {
    let mut bench = Bench::new(Limits::default());
    let check = |bench: &Bench, locked: i64, cash: i64, btc: i64| {
        let found = (
            bench.locked(BTCUSDT, Side::Buy),
            bench.total(BTCUSDT, Side::Buy),
            bench.total(BTCUSDT, Side::Sell),
        );
        assert_eq!(found, (locked, cash, btc));
    };
    let start = 1_000 * UNIT;
    let order = bench.pass(buy(100, 10_000));
    check(&bench, 10_010_000_000, start, 2 * UNIT);
    bench.report(order.order, ReportState::Sent, Code::None);
    bench.report(order.order, ReportState::Unknown, Code::None);
    check(&bench, 10_010_000_000, start, 2 * UNIT);
    assert!(bench.risk.life(order.order).unwrap().is_uncertain());
    bench.fill(&order, 40);
    check(&bench, 6_006_000_000, start - 4_004_000_000, 24 * UNIT / 10);
    bench.report(order.order, ReportState::Cancelled, Code::UserCancel);
    check(&bench, 0, start - 4_004_000_000, 24 * UNIT / 10);
    assert_eq!((bench.risk.open_orders(), bench.risk.counts().faults), (0, 0));
    // The fill that had crossed the cancel is money all the same.
    bench.fill(&order, 60);
    check(&bench, 0, start - 10_010_000_000, 3 * UNIT);
    assert_eq!((bench.risk.counts().faults, bench.risk.counts().late_fills), (1, 1));
}

#[test]
fn a_rejected_or_denied_order_moves_nothing() {
    for state in [ReportState::Rejected, ReportState::Expired, ReportState::Cancelled] {
        let mut bench = Bench::new(Limits::default());
        let order = bench.pass(sell(100, 10_000));
        assert_eq!(bench.locked(BTCUSDT, Side::Sell), UNIT);
        bench.report(order.order, state, Code::VenueRejected);
        assert_eq!(bench.locked(BTCUSDT, Side::Sell), 0);
        assert_eq!(bench.risk.ledger().position(BTCUSDT), Default::default());
        assert_eq!(bench.total(BTCUSDT, Side::Buy), 1_000 * UNIT);
    }
    let mut bench = Bench::new(Limits::default());
    let order = bench.pass(buy(100, 10_000));
    bench.report(order.order, ReportState::Denied, Code::UnknownOrder);
    assert_eq!(bench.risk.open_orders(), 1, "an echo of a denied cancel ends nothing");
}

#[test]
fn a_cycle_over_three_instruments_leaves_no_position() {
    let mut bench = Bench::new(Limits { max_notional: Money(250 * UNIT), ..Limits::default() });
    bench.quote(ETHUSDT, 990, 1_010);
    bench.quote(ETHBTC, 10, 11);
    for _ in 0..20 {
        // 1 BTC for 100 USDT, 10 ETH for 1 BTC, 100 USDT for 10 ETH.
        for (id, it) in [
            (BTCUSDT, buy(100, 10_000)),
            (ETHBTC, Intent { price: Price(10), ..buy(1_000, 10) }),
            (ETHUSDT, sell(1_000, 1_000)),
        ] {
            if id == ETHBTC {
                bench.risk.limits.price_band_bps = 2_000;
            }
            let order = bench.pass(on(id, it));
            bench.fill(&order, order.qty.0);
        }
    }
    let ledger = bench.risk.ledger();
    assert_eq!(ledger.position(ETHBTC).qty, Qty(20_000), "each instrument has one");
    let eth = ledger.balance(ledger.base_slot(ETHUSDT).unwrap());
    assert_eq!(eth.held(), Money(0), "the currency has none");
    bench.refuse(on(ETHUSDT, sell(100, 1_000)), Code::NoPosition);
}

#[test]
fn shorts_pass_only_where_allowed() {
    let mut bench = Bench::new(Limits { allow_short: true, ..Limits::default() });
    let order = bench.pass(sell(300, 10_000));
    bench.fill(&order, 300);
    assert_eq!(bench.total(BTCUSDT, Side::Sell), -UNIT);
    bench.pass(exit(buy(300, 10_000)));
    bench.refuse(exit(buy(20, 10_000)), Code::ReduceOnlyViolation);
}
