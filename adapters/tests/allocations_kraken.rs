//! The market data path of Kraken allocates nothing once it is built, for what the venue sends in
//! its own spelling.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail and say why; the lints know tests by their attribute only"
)]

use std::env;
use std::path::Path;

use kairos_adapters::capture::Capture;
use kairos_adapters::kraken::{KrakenMarket, Options, instruments::split_symbol};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_adapters::venue::listing::{Fees, undescribed};
use kairos_logic::event::GapReason;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, Stamp, VenueId};

mod counting;
use counting::allocations;

fn session() -> KrakenMarket {
    let mut table = InstrumentTable::default();
    table.venues.push("kraken".into());
    let parts = split_symbol("BTC/USD").unwrap();
    let it = undescribed("BTC/USD", parts, VenueId(0), Fees::default(), &mut table);
    table.instruments.push(it);
    KrakenMarket::new(&table, VenueId(0), &[InstrumentId(0)], Options::default()).unwrap()
}

/// Frames of every kind that the scanner knows; the checksum of the second is wrong.
const FRAMES: [&str; 5] = [
    r#"{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[],"asks":[],"checksum":0}]}"#,
    r#"{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":100.4,"qty":1.00000000}],"asks":[],"checksum":123456789,"timestamp":"2026-08-01T00:00:00.123456Z"}]}"#,
    r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":100.5,"qty":0.20000000,"ord_type":"market","trade_id":7,"timestamp":"2026-08-01T00:00:00.123456Z"}]}"#,
    r#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":99.9,"bid_qty":1.2,"ask":100.1,"ask_qty":2.3,"timestamp":"2026-07-10T00:00:02.123456Z"}]}"#,
    r#"{"channel":"heartbeat"}"#,
];

fn session_allocates_nothing() {
    let mut session = session();
    let mut out = Outbox::new();
    let mut events = 0_u64;
    let count = allocations(|| {
        for round in 1..100_u64 {
            for (number, text) in (1..).zip(FRAMES) {
                let number = round * 100 + number;
                let at = Nanos(number * 1_000_000_000);
                let arrival = Arrival { at, recv: Stamp(number), number };
                session.frame(arrival, text.as_bytes(), &mut out, &mut |_| events += 1);
                session.on_time(at, &mut out, &mut |_| events += 1);
                out.clear();
            }
            session.on_close(Nanos(round * 100_000_000_000), &mut |_| events += 1);
            session.on_open(Nanos(round * 100_000_000_000), &mut out, &mut |_| events += 1);
            session.resync(Nanos(1), None, GapReason::Dropped, &mut out, &mut |_| events += 1);
            out.clear();
        }
    });
    assert_eq!(count, 0);
    let counters = session.counters();
    assert!(counters.gaps > 0 && counters.trades > 0 && counters.quotes > 0 && events > 0);
    assert_eq!((counters.fallbacks, counters.malformed()), (0, 0));
}

fn recorded_connection_allocates_nothing() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let folder = env::var_os("KAIROS_CAPTURES").unwrap_or_else(|| "../shared/captures".into());
    let path = root.join(folder).join("kraken/book10_btcusd_20230730.frames.gz");
    if !path.is_file() {
        println!("skipped: no capture at {}", path.display());
        return;
    }
    let mut session = session();
    let mut capture = Capture::open(path).unwrap();
    let (mut out, mut events, mut total) = (Outbox::new(), 0_u64, 0);
    while capture.advance().unwrap() {
        let frame = capture.frame().unwrap();
        let arrival = Arrival { at: frame.recv, recv: Stamp(0), number: frame.line };
        total += allocations(|| {
            session.frame(arrival, frame.bytes, &mut out, &mut |_| events += 1);
        });
    }
    assert_eq!(total, 0);
    assert!(events > 150, "{events}");
}

#[test]
fn nothing_is_allocated_after_construction() {
    session_allocates_nothing();
    recorded_connection_allocates_nothing();
}
