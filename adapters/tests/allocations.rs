//! The market data path allocates nothing once it is built.
#![expect(
    clippy::unwrap_used,
    reason = "a test may fail and say why; the lints know tests by their attribute only"
)]

mod counting;

use counting::{allocations, recorded, table_of};
use kairos_adapters::binance::instruments::split_symbol;
use kairos_adapters::binance::orders::{MESSAGE_MAX, OrderEncoder};
use kairos_adapters::binance::{BinanceMarket, Options};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_logic::code::Code;
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::order::{
    Action, Decision, OrderFlags, OrderType, Reason, RiskState, TimeInForce, Verdict,
};
use kairos_logic::units::{
    InstrumentId, Money, Nanos, OrderId, Price, Qty, Seq, Side, Stamp, StrategyId, VenueId,
};

fn table() -> InstrumentTable {
    table_of("binance", &["BTCUSDT"], split_symbol).0
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
    let frames = recorded("binance/btcusdt_20240808.frames.gz");
    let ids = [InstrumentId(0)];
    let mut session = BinanceMarket::new(&table(), VenueId(0), &ids, Options::default()).unwrap();
    let (mut out, mut events) = (Outbox::new(), 0_u64);
    let count = allocations(|| {
        for (number, frame) in (1..).zip(&frames) {
            let arrival = Arrival { at: Nanos(number), recv: Stamp(0), number };
            // The bodies of replies begin differently.
            if frame.starts_with(b"{\"lastUpdateId\"") {
                let id = Some(InstrumentId(0));
                session.snapshot(arrival, id, frame, &mut out, &mut |_| events += 1);
            } else {
                session.frame(arrival, frame, &mut out, &mut |_| events += 1);
            }
        }
    });
    assert_eq!(count, 0);
    assert!(frames.is_empty() || events > 100_000, "{events}");
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
        assert!(encoded.is_ok_and(|it| it.text.contains("\"price\":\"61837.5\"")));
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
