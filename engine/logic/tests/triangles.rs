//! The exact evaluation of triangles against 400 recorded ones with another program's verdict.
//!
//! Needs the captures: `KAIROS_CAPTURES`, by default `../shared/captures` beside the repository.
//! Without them the test says so and passes.

use std::path::PathBuf;

use kairos_logic::instrument::{Instrument, InstrumentTable};
use kairos_logic::market::Touch;
use kairos_logic::strategy::triangle::{Cycles, Priced, earns_more_than};
use kairos_logic::units::{InstrumentId, Money, Nanos, Price, Qty, Side, VenueId};

fn captures() -> PathBuf {
    std::env::var_os("KAIROS_CAPTURES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/captures")),
        PathBuf::from,
    )
}

fn table() -> InstrumentTable {
    let mut table = InstrumentTable { venues: vec!["binance".into()], ..Default::default() };
    for (base, quote, price_scale) in [("BTC", "USDT", 2), ("ETH", "USDT", 2), ("ETH", "BTC", 5)] {
        let (base_id, quote_id) = (table.intern_currency(base), table.intern_currency(quote));
        table.instruments.push(Instrument {
            venue: VenueId(0),
            symbol: [base, quote].concat(),
            base: base_id,
            quote: quote_id,
            price_scale,
            qty_scale: 8,
            tick: Price(1),
            lot: Qty(1),
            min_qty: Qty(1),
            min_notional: Money(0),
            maker_fee_ppm: 0,
            taker_fee_ppm: 0,
        });
    }
    table
}

/// The number behind a key of a line of JSON.
fn number(line: &str, key: &str) -> f64 {
    let (_, rest) = line.split_once(&format!("\"{key}\":")).expect("the key");
    rest.split([',', '}']).next().expect("a value").parse().expect("a number")
}

#[expect(clippy::cast_possible_truncation, reason = "prices of the recording have few digits")]
fn price(value: f64, scale: i32) -> Price {
    Price((value * 10_f64.powi(scale)).round() as i64)
}

#[test]
fn the_sign_of_a_cycle_is_that_of_the_recorded_profit() {
    let path = captures().join("triangles/binance_depth5_1_400.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no captures at {}", path.display());
        return;
    };
    let table = table();
    let ids: Vec<InstrumentId> = table.iter().map(|it| it.0).collect();
    let cycles = Cycles::find(&table, &ids).expect("three currencies");
    // BTC to USDT at the bid, USDT to ETH at the ask, ETH to BTC at the bid.
    let sold_btc = |it: &&kairos_logic::strategy::triangle::Cycle| {
        it.legs.iter().any(|leg| leg.instrument == InstrumentId(0) && leg.side == Side::Sell)
    };
    let cycle = cycles.all().iter().find(sold_btc).expect("both directions");
    let (mut lines, mut earning) = (0, 0);
    for line in text.lines() {
        let prices = [
            price(number(line, "rate1"), 2),
            price(1.0 / number(line, "rate2"), 2),
            price(number(line, "rate3"), 5),
        ];
        let legs = cycle.legs.map(|leg| {
            let price = prices[leg.instrument.index()];
            let qty = Qty(1);
            // The side that the leg does not take is of no meaning here.
            let touch = Touch { bid: price, bid_qty: qty, ask: price, ask_qty: qty, at: Nanos(0) };
            let instrument = table.instrument(leg.instrument).expect("of this table");
            Priced::new(leg, instrument, &touch, 0)
        });
        let recorded = number(line, "unrealisedPnl") > 0.0;
        assert_eq!(earns_more_than(&legs, 0), recorded, "{line}");
        lines += 1;
        earning += u32::from(recorded);
    }
    assert_eq!(lines, 400);
    assert!(earning > 100, "both signs occur: {earning}");
}
