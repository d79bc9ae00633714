//! The market data path of Coinbase allocates nothing once it is built.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail and say why; the lints know tests by their attribute only"
)]

use std::env;
use std::path::Path;

use kairos_adapters::capture::Capture;
use kairos_adapters::coinbase::{CoinbaseMarket, Options, instruments::split_symbol};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_adapters::venue::listing::{Fees, undescribed};
use kairos_logic::event::GapReason;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, Stamp, VenueId};

mod counting;
use counting::allocations;

fn session(options: Options) -> CoinbaseMarket {
    let mut table = InstrumentTable::default();
    table.venues.push("coinbase".into());
    let mut ids = Vec::new();
    for (id, symbol) in (0..).zip(["BTC-USD", "ETH-USD"]) {
        let parts = split_symbol(symbol).unwrap();
        let it = undescribed(symbol, parts, VenueId(0), Fees::default(), &mut table);
        table.instruments.push(it);
        ids.push(InstrumentId(id));
    }
    CoinbaseMarket::new(&table, VenueId(0), &ids, options).unwrap()
}

/// Frames of every kind that the recorded connection may lack: in another spelling, malformed,
/// about others, behind a hole, refusing.
const FRAMES: [&str; 10] = [
    r#"{"channel":"market_trades","timestamp":"2026-08-09T21:05:48.2Z","sequence_num":1,"events":[{"type":"update","trades":[{"product_id":"BTC-USD","trade_id":"7","price":"5","size":"1","time":"2026-08-09T21:05:48.1Z","side":"SELL"}]}]}"#,
    r#"{"timestamp":"2026-08-09T21:05:48.2Z","channel":"market_trades","sequence_num":2,"events":[{"type":"update","trades":[{"product_id":"BTC-USD","trade_id":"7","price":"5","size":"1","time":"2026-08-09T21:05:48.1Z","side":"SELL"}]}]}"#,
    r#"{"channel":"ticker","timestamp":"2026-08-09T21:05:48.2Z","sequence_num":3,"events":[{"type":"update","tickers":[{"product_id":"BTC-USD","best_bid":"1","best_ask":"2","best_bid_quantity":"1","best_ask_quantity":"1"}]}]}"#,
    r#"{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.2Z","sequence_num":4,"events":[{"type":"snapshot","product_id":"BTC-USD","updates":[]}]}"#,
    r#"{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.2Z","sequence_num":5,"events":[{"type":"update","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"2026-08-09T21:05:48Z","price_level":"0","new_quantity":"3"}]}]}"#,
    r#"{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.2Z","sequence_num":6,"events":[{"type":"update","product_id":"DOGE-USD","updates":[]}]}"#,
    r#"{"channel":"heartbeats","timestamp":"2026-08-09T21:05:48.2Z","sequence_num":9,"events":[{"heartbeat_counter":1}]}"#,
    r#"{"channel":"heartbeats","timestamp":"2026-08-09T21:05:48.2Z","sequence_num":9,"events":[{"heartbeat_counter":1}]}"#,
    r#"{"type":"error","message":"failure to subscribe"}"#,
    r#"{"channel":"l2_data","#,
];

fn session_allocates_nothing(tape_only: bool) {
    let mut session = session(Options { tape_only });
    let mut out = Outbox::new();
    let mut events = 0_u64;
    let mut round = |session: &mut CoinbaseMarket, round: u64| {
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
    };
    // The parser's buffers take the size of the largest frame so far.
    round(&mut session, 1);
    let count = allocations(|| (2..100).for_each(|it| round(&mut session, it)));
    assert_eq!(count, 0, "tape only: {tape_only}");
    assert!(session.counters().gaps > 0 && session.counters().malformed() > 0);
    assert!(events > 0);
}

fn recorded_connection_allocates_nothing() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let folder = env::var_os("KAIROS_CAPTURES").unwrap_or_else(|| "../shared/captures".into());
    let path = root.join(folder).join("coinbase/advanced_20260809_head.frames.gz");
    if !path.is_file() {
        println!("skipped: no capture at {}", path.display());
        return;
    }
    let mut session = session(Options::default());
    let mut capture = Capture::open(path).unwrap();
    let (mut out, mut events, mut total) = (Outbox::new(), 0_u64, 0);
    while capture.advance().unwrap() {
        let frame = capture.frame().unwrap();
        let arrival = Arrival { at: frame.recv, recv: Stamp(0), number: frame.line };
        // Candles are the largest frames that the scanner leaves to the parser.
        let known = frame.line > 6;
        let count = allocations(|| {
            session.frame(arrival, frame.bytes, &mut out, &mut |_| events += 1);
        });
        total += if known { count } else { 0 };
    }
    assert_eq!(total, 0);
    assert!(events > 70_000, "{events}");
}

#[test]
fn nothing_is_allocated_after_construction() {
    session_allocates_nothing(false);
    session_allocates_nothing(true);
    recorded_connection_allocates_nothing();
}
