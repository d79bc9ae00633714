//! The market data path of KuCoin allocates nothing once it is built and dialled.

mod counting;
mod recorded;

use counting::allocations;
use kairos_adapters::kucoin::instruments::split_symbol;
use kairos_adapters::kucoin::{KucoinMarket, Options};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_logic::units::{InstrumentId, Nanos, Stamp, VenueId};
use recorded::{recorded, table_of};

/// Frames of every kind that the recorded connection lacks: trade, fallback, malformed, gap, refusal.
const FRAMES: [&str; 7] = [
    r#"{"topic":"/market/match:NRG-BTC","type":"message","subject":"trade.l3match","data":{"makerOrderId":"671b5007389355000701b1d3","price":"67523","sequence":"11067996711960577","side":"buy","size":"0.003","symbol":"NRG-BTC","takerOrderId":"671b50161777ff00074c168d","time":"1729843222921000000","tradeId":"11067996711960577","type":"match"}}"#,
    r#"{"zz":1,"topic":"/market/match:NRG-BTC","type":"message","subject":"trade.l3match","data":{"price":"67523","sequence":"1","side":"buy","size":"0.003","symbol":"NRG-BTC","time":"1729843222921000000","tradeId":"1"}}"#,
    r#"{"topic":"/market/level2:NRG-BTC","type":"message","subject":"trade.l2update","data":{"changes":{"asks":[["67996.7","0.007","10"]],"bids":[]},"sequenceEnd":10,"sequenceStart":10,"symbol":"NRG-BTC"}}"#,
    r#"{"topic":"/market/level2:NRG-BTC","type":"message","subject":"trade.l2update","data":{"changes":{"asks":[["67996.7","0.007","90"]],"bids":[]},"sequenceEnd":90,"sequenceStart":90,"symbol":"NRG-BTC"}}"#,
    r#"{"topic":"/market/level2:NRG-BTC","type":"message","subject":"#,
    r#"{"id":"2","type":"error","code":404,"data":"topic /market/match:NRG-BTC is not found"}"#,
    r#"{"id":"1","type":"welcome"}"#,
];

#[test]
fn nothing_is_allocated_after_construction() {
    for tape_only in [false, true] {
        let symbols = ["ANKR-BTC", "CAPP-BTC", "EQZ-BTC", "NRG-BTC"];
        let (table, ids) = table_of("kucoin", &symbols, split_symbol);
        let options = Options { tape_only, ..Options::default() };
        let mut session = KucoinMarket::new(&table, VenueId(0), &ids, options).unwrap();
        let (mut out, mut events) = (Outbox::new(), 0_u64);
        session.on_open(Nanos(0), &mut out, &mut |_| {});
        let frames: Vec<Vec<u8>> = recorded("kucoin/level2_20210425.frames.gz");
        let mut number = 0;
        let mut frame = |session: &mut KucoinMarket, frame: &[u8]| {
            number += 1;
            let at = Nanos(number * 500_000_000);
            let arrival = Arrival { at, recv: Stamp(number), number };
            if frame.starts_with(b"{\"code\"") {
                // In the order of the recording.
                let id = [1, 0, 3, 2].map(InstrumentId).into_iter().find(|&it| {
                    let before = session.counters().snapshots;
                    session.snapshot(arrival, Some(it), frame, &mut out, &mut |_| events += 1);
                    session.counters().snapshots > before
                });
                assert!(id.is_some() || session.is_whole());
            } else {
                session.frame(arrival, frame, &mut out, &mut |_| events += 1);
            }
            session.on_time(at, &mut out, &mut |_| events += 1);
            out.clear();
        };
        // The parser's buffers take the size of the largest frame so far.
        for recorded in frames.iter().filter(|it| it.starts_with(b"{\"code\"")) {
            frame(&mut session, recorded);
        }
        let count = allocations(|| {
            for _ in 0..50 {
                for text in FRAMES {
                    frame(&mut session, text.as_bytes());
                }
            }
            for recorded in &frames {
                frame(&mut session, recorded);
            }
        });
        assert_eq!(count, 0, "tape only: {tape_only}");
        let counters = session.counters();
        assert!(counters.gaps > 0 && counters.malformed() > 0 && counters.error_replies > 0);
        assert!(events > 0);
    }
}
