//! The market data path allocates nothing once it is built.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail and say why; the lints know tests by their attribute only"
)]

use std::env;
use std::path::Path;

use kairos_adapters::binance::instruments::undescribed;
use kairos_adapters::binance::orders::{MESSAGE_MAX, OrderEncoder};
use kairos_adapters::binance::{BinanceMarket, Options};
use kairos_adapters::capture::{FrameKind, Merge};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_adapters::venue::listing::Fees;
use kairos_logic::code::Code;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{
    Action, Decision, OrderFlags, OrderType, Reason, RiskState, TimeInForce, Verdict,
};
use kairos_logic::units::{
    InstrumentId, Money, Nanos, OrderId, Price, Qty, Seq, Side, Stamp, StrategyId, VenueId,
};

mod counting;
use counting::allocations;

fn table() -> InstrumentTable {
    let mut table = InstrumentTable::default();
    table.venues.push("binance".into());
    let it = undescribed("BTCUSDT", VenueId(0), Fees::default(), &mut table).unwrap();
    table.instruments.push(it);
    table
}

/// Frames of every kind that the recorded connections may lack: fallback, malformed, gap.
const FRAMES: [&str; 7] = [
    r#"{"e":"trade","E":1,"s":"BTCUSDT","t":7,"p":"5","q":"1","T":1,"m":true,"M":true}"#,
    r#"{"s":"BTCUSDT","e":"trade","E":1,"t":7,"p":"5","q":"1","T":1,"m":true,"M":true}"#,
    r#"{"e":"trade","E":1,"s":"BTCUSDT","t":7,"p":"0","q":"1","T":1,"m":true,"M":true}"#,
    r#"{"e":"trade","E":1,"s":"BTCUSDT","t":7,"p":"#,
    r#"{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":10,"u":10,"b":[["1","2"]],"a":[]}"#,
    r#"{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":90,"u":90,"b":[["1","2"]],"a":[]}"#,
    r#"{"e":"kline","s":"BTCUSDT","k":{"t":1,"o":"1.0"}}"#,
];

fn session_allocates_nothing(tape_only: bool) {
    let table = table();
    let options = Options { tape_only, ..Options::default() };
    let ids = [InstrumentId(0)];
    let mut session = BinanceMarket::new(&table, VenueId(0), &ids, options).unwrap();
    let mut out = Outbox::new();
    let mut events = 0_u64;
    let mut frame = |session: &mut BinanceMarket, number: u64, frame: &[u8]| {
        let arrival = Arrival { at: Nanos(number * 1_000_000_000), recv: Stamp(number), number };
        session.frame(arrival, frame, &mut out, &mut |_| events += 1);
        out.clear();
    };
    // The parser's buffers take the size of the largest frame so far.
    for (number, text) in (1..).zip(FRAMES) {
        frame(&mut session, number, text.as_bytes());
    }
    let count = allocations(|| {
        for round in 1..100 {
            for (number, text) in (1..).zip(FRAMES) {
                frame(&mut session, round * 10 + number, text.as_bytes());
            }
        }
    });
    assert_eq!(count, 0, "tape only: {tape_only}");
    assert!(session.counters().gaps > 0 && session.counters().malformed() > 0);
    assert!(events > 0);
}

fn recorded_connection_allocates_nothing() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let folder = env::var_os("KAIROS_CAPTURES").unwrap_or_else(|| "../shared/captures".into());
    let path = root.join(folder).join("binance/btcusdt_20240808.frames.gz");
    if !path.is_file() {
        println!("skipped: no capture at {}", path.display());
        return;
    }
    let table = table();
    let ids = [InstrumentId(0)];
    let mut session = BinanceMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let mut merge = Merge::open([path]).unwrap();
    let (mut out, mut events, mut total) = (Outbox::new(), 0_u64, 0);
    while let Some(line) = merge.next().unwrap() {
        let arrival = Arrival { at: line.recv, recv: Stamp(0), number: line.line };
        let id = Some(InstrumentId(0));
        total += allocations(|| match line.kind {
            FrameKind::Text => session.frame(arrival, line.bytes, &mut out, &mut |_| events += 1),
            FrameKind::Rest { .. } => {
                session.snapshot(arrival, id, line.bytes, &mut out, &mut |_| events += 1);
            }
        });
    }
    assert_eq!(total, 0);
    assert!(events > 100_000, "{events}");
}

fn orders_allocate_nothing() {
    let encoder = OrderEncoder::new(&table(), VenueId(0));
    let decision = Decision {
        cause: Seq(1),
        at: Nanos(1),
        order: OrderId::new(1, 1),
        price: Price(618_375_000_000_000),
        qty: Qty(1_000_000),
        found: 0,
        limit: 0,
        notional: Money(0),
        instrument: InstrumentId(0),
        confidence: 0,
        tag: 0,
        strategy: StrategyId(0),
        action: Action::Place,
        side: Side::Buy,
        order_type: OrderType::Limit,
        tif: TimeInForce::Ioc,
        flags: OrderFlags::NONE,
        reason: Reason::Entry,
        verdict: Verdict::Approved,
        code: Code::None,
        state: RiskState::Running,
    };
    let mut buffer = [0; MESSAGE_MAX];
    let count = allocations(|| {
        let encoded = encoder.encode(&decision, Nanos(2), &mut buffer);
        let text = encoded.ok().and_then(|it| str::from_utf8(it.text).ok());
        assert!(text.is_some_and(|it| it.contains("\"price\":\"61837.5\"")));
    });
    assert_eq!(count, 0);
}

#[test]
fn nothing_is_allocated_after_construction() {
    session_allocates_nothing(false);
    session_allocates_nothing(true);
    recorded_connection_allocates_nothing();
    orders_allocate_nothing();
}
