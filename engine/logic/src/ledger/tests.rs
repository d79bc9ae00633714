use alloc::string::String;

use proptest::prelude::*;

use super::*;
use crate::event::Event;
use crate::units::{Nanos, notional};

const UNIT: i64 = 100_000_000;
const V: VenueId = VenueId(0);
const BTC: CurrencyId = CurrencyId(0);
const USDT: CurrencyId = CurrencyId(1);
const I: InstrumentId = InstrumentId(0);

fn table(price_scale: u8, qty_scale: u8) -> InstrumentTable {
    InstrumentTable {
        venues: vec![String::from("venue")],
        currencies: vec![String::from("BTC"), String::from("USDT")],
        instruments: vec![Instrument {
            venue: V,
            symbol: String::from("BTCUSDT"),
            base: BTC,
            quote: USDT,
            price_scale,
            qty_scale,
            tick: Price(1),
            lot: Qty(1),
            min_qty: Qty(1),
            min_notional: Money(0),
            maker_fee_ppm: 0,
            taker_fee_ppm: 0,
        }],
    }
}

fn fill(side: Side, price: i64, qty: i64, fee: i64) -> Fill {
    Fill { instrument: I, side, price: Price(price), qty: Qty(qty), fee: Money(fee) }
}

/// `fills` are (side, price in units, quantity in units, fee in 1e-8).
fn check(
    cash: i64,
    fills: &[(Side, i64, i64, i64)],
    cash_after: i64,
    average: i64,
    fifo: i64,
    fees: i64,
) {
    let table = table(0, 0);
    let mut ledger = Ledger::new(&table, &[(V, USDT, Money(cash * UNIT))]);
    for &(side, price, qty, fee) in fills {
        ledger.book(&fill(side, price, qty, fee)).unwrap();
    }
    let slot = ledger.spent_slot(I, Side::Buy).unwrap();
    let position = ledger.position(I);
    let found = (
        ledger.balance(slot).total.0,
        position.realised_average.0,
        position.realised_fifo.0,
        position.fees.0,
    );
    assert_eq!(found, (cash_after, average, fifo, fees), "{fills:?}");
}

#[test]
fn realised_by_both_methods() {
    use Side::{Buy, Sell};
    // 1000 cash, buy 1 at 100, sell 1 at 110: without fees, and with 10 bps.
    check(1_000, &[(Buy, 100, 1, 0), (Sell, 110, 1, 0)], 1_010 * UNIT, 10 * UNIT, 10 * UNIT, 0);
    check(
        1_000,
        &[(Buy, 100, 1, UNIT / 10), (Sell, 110, 1, 11 * UNIT / 100)],
        100_979 * UNIT / 100,
        979 * UNIT / 100,
        10 * UNIT,
        21 * UNIT / 100,
    );
    // Two lots: the first one bought is the first one sold; the average sees one of 150.
    let fills = [(Buy, 100, 1, 0), (Buy, 200, 1, 0), (Sell, 200, 1, 0)];
    check(1_000, &fills, 900 * UNIT, 50 * UNIT, 100 * UNIT, 0);
    // Short, and covered dearer.
    let fills = [(Sell, 100, 2, 0), (Buy, 110, 1, 0)];
    check(1_000, &fills, 1_090 * UNIT, -10 * UNIT, -10 * UNIT, 0);
    // A flip: 1 closes at 120, 2 open short at 120 and are covered at 100.
    let fills = [(Buy, 100, 1, 0), (Sell, 120, 3, 0), (Buy, 100, 2, 0)];
    check(1_000, &fills, 1_060 * UNIT, 60 * UNIT, 60 * UNIT, 0);
}

#[test]
fn the_identity_of_equity_at_a_mark() {
    let table = table(0, 0);
    let mut ledger = Ledger::new(&table, &[(V, USDT, Money(1_000 * UNIT))]);
    let mut market = Market::new(&table, 64);
    ledger.book(&fill(Side::Buy, 100, 2, UNIT)).unwrap();
    assert_eq!(ledger.equity(&market, USDT), None, "a missing mark is never zero");
    let quote =
        |bid, ask| Event::quote(Nanos(1), Nanos(0), I, (Price(bid), Qty(1)), (Price(ask), Qty(1)));
    market.on_event(&quote(119, 121));
    // 1000 - 200 - 1 + 2 x 120
    assert_eq!(ledger.equity(&market, USDT), Some(Money(1_039 * UNIT)));
    let position = ledger.position(I);
    let unrealised = 240 * UNIT - position.cost.0;
    assert_eq!(1_000 * UNIT + position.realised_average.0 + unrealised, 1_039 * UNIT);
}

#[test]
fn what_does_not_fit_is_an_error_and_books_nothing() {
    let table = table(0, 0);
    let mut ledger = Ledger::new(&table, &[(V, USDT, Money(i64::MAX))]);
    let before = (ledger.position(I), ledger.lots(I));
    let check = |ledger: &mut Ledger, fill: &Fill, want: LedgerError| {
        assert_eq!(ledger.book(fill), Err(want), "{fill:?}");
    };
    let overflow = LedgerError::Overflow(Overflow);
    check(&mut ledger, &fill(Side::Sell, 1, 1, 0), overflow);
    check(&mut ledger, &fill(Side::Buy, i64::MAX, 2, 0), overflow);
    check(&mut ledger, &fill(Side::Buy, 1, i64::MAX, 0), overflow);
    check(&mut ledger, &fill(Side::Sell, 1, 1, i64::MIN), overflow);
    let (price, qty) = (Price(0), Qty(1));
    check(&mut ledger, &fill(Side::Buy, 0, 1, 0), LedgerError::NotPositive { price, qty });
    let (price, qty) = (Price(1), Qty(-1));
    check(&mut ledger, &fill(Side::Buy, 1, -1, 0), LedgerError::NotPositive { price, qty });
    let other = Fill { instrument: InstrumentId(1), ..fill(Side::Buy, 1, 1, 0) };
    check(&mut ledger, &other, LedgerError::UnknownInstrument(InstrumentId(1)));
    assert_eq!((ledger.position(I), ledger.lots(I)), before);
    assert_eq!(ledger.balance(ledger.spent_slot(I, Side::Buy).unwrap()).total, Money(i64::MAX));
}

#[test]
fn a_report_fills_in_what_is_unknown_and_moves_nothing_else() {
    let table = table(0, 0);
    let mut ledger = Ledger::new(&table, &[(V, USDT, Money(500))]);
    assert_eq!(ledger.on_balance(V, USDT, Money(520)), Money(20));
    assert_eq!(ledger.on_balance(V, BTC, Money(7)), Money(0));
    assert_eq!(ledger.on_balance(V, BTC, Money(8)), Money(1));
    let totals: Vec<i64> = ledger.balances().map(|(_, it)| it.total.0).collect();
    assert_eq!(totals, [7, 500]);
    assert_eq!(ledger.balance(ledger.base_slot(I).unwrap()).held(), Money(0));
}

#[test]
fn lots_are_bounded_and_neighbours_of_one_price_are_one() {
    let table = table(0, 0);
    let mut ledger = Ledger::new(&table, &[]);
    for _ in 0..10 {
        ledger.book(&fill(Side::Buy, 100, 1, 0)).unwrap();
    }
    assert_eq!(ledger.lots(I), 1);
    let more = i64::try_from(LOTS_MAX).unwrap() + 20;
    for n in 0..more {
        ledger.book(&fill(Side::Buy, 101 + n, 1, 0)).unwrap();
    }
    assert_eq!(ledger.lots(I), LOTS_MAX);
    ledger.book(&fill(Side::Sell, 100, 10 + more, 0)).unwrap();
    let position = ledger.position(I);
    assert_eq!((position.qty, position.cost, position.lots_cost), (Qty(0), Money(0), Money(0)));
    assert_eq!(position.realised_fifo, position.realised_average, "all closed: one result");
    assert_eq!(position.realised_fifo, Money(-(1..=more).sum::<i64>() * UNIT));
    assert_eq!(ledger.lots(I), 0);
}

fn any_fill() -> impl Strategy<Value = Fill> {
    (prop::bool::ANY, 1_i64..100_000, 1_i64..1_000_000, -50_i64..5_000).prop_map(
        |(buy, price, qty, fee)| fill(if buy { Side::Buy } else { Side::Sell }, price, qty, fee),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Cash is what the results say, to the unit, by both methods, after every fill, long, short
    /// and through flips; and both methods agree whenever the position is flat.
    #[test]
    fn identities_hold_after_every_fill(
        fills in prop::collection::vec(any_fill(), 1..600),
        price_scale in 2_u8..6,
        qty_scale in 2_u8..=12,
        flat_every in 2_usize..40,
    ) {
        let table = table(price_scale, qty_scale);
        let start = 1_000 * UNIT;
        let mut ledger = Ledger::new(&table, &[(V, USDT, Money(start)), (V, BTC, Money(UNIT))]);
        let (base, quote) = (ledger.base_slot(I).unwrap(), ledger.spent_slot(I, Side::Buy).unwrap());
        let mut position = 0_i64;
        let mut paid = 0_i64;
        for (n, fill) in fills.iter().enumerate() {
            let mut fill = *fill;
            if n % flat_every == 0 && position != 0 {
                fill.qty = Qty(position.abs());
                fill.side = if position > 0 { Side::Sell } else { Side::Buy };
            }
            let value = notional(fill.price, fill.qty, price_scale, qty_scale).unwrap();
            ledger.book(&fill).unwrap();
            position += fill.side.sign() * fill.qty.0;
            paid += fill.side.sign() * value.0 + fill.fee.0;
            let it = ledger.position(I);
            prop_assert_eq!(it.qty, Qty(position));
            prop_assert_eq!(ledger.balance(quote).total.0, start - paid);
            prop_assert_eq!(-paid, it.realised_average.0 - it.cost.0);
            prop_assert_eq!(-paid, it.realised_fifo.0 - it.lots_cost.0 - it.fees.0);
            let held = amount(Qty(position), qty_scale).unwrap();
            prop_assert_eq!(ledger.balance(base).held(), held);
            prop_assert!(ledger.lots(I) <= LOTS_MAX);
            if position == 0 {
                prop_assert_eq!((it.cost, it.lots_cost, ledger.lots(I)), (Money(0), Money(0), 0));
                prop_assert_eq!(it.realised_average.0, it.realised_fifo.0 - it.fees.0);
            } else {
                prop_assert!(ledger.lots(I) > 0);
            }
        }
    }
}
