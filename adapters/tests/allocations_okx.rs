//! The market data path of OKX allocates nothing once it is built.
mod counting;
mod recorded;

use counting::allocations;
use kairos_adapters::okx::instruments::split_symbol;
use kairos_adapters::okx::{OkxMarket, Options};
use kairos_adapters::session::{Arrival, MarketSession, Outbox};
use kairos_logic::units::{Nanos, Stamp, VenueId};
use recorded::{recorded, table_of};

/// Frames of every kind that the recorded connection lacks: best levels, ids, fallback, malformed,
/// gap, refusal, wrong checksum.
const FRAMES: [&str; 12] = [
    r#"{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["30243.6","2.3","0","3"]],"bids":[["30243.5","0.1","0","1"]],"ts":"1652459226050","seqId":123456}]}"#,
    r#"{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"7","px":"30243.5","sz":"0.2","side":"sell","ts":"1652459226050","count":"3"},{"instId":"BTC-USDT","tradeId":"8","px":"30243","sz":"1","side":"sell","ts":"1652459226051","count":"1"}]}"#,
    r#"{"data":[{"tradeId":"8","instId":"BTC-USDT","px":"30243","sz":"1","side":"sell","ts":"1652459226051"}],"arg":{"channel":"trades","instId":"BTC-USDT"}}"#,
    r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["30243.6","2.3","0","3"]],"bids":[["30243.5","0.1","0","1"]],"ts":"1652459226050","checksum":0,"seqId":41,"prevSeqId":-1}]}"#,
    r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["30243.6","0","0","0"]],"bids":[],"ts":"1652459226150","checksum":0,"prevSeqId":41,"seqId":44}]}"#,
    r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["30243.6","0","0","0"]],"bids":[],"ts":"1652459226150","checksum":0,"prevSeqId":45,"seqId":46}]}"#,
    r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["30243.7","1","0","0"]],"bids":[],"ts":"1652459226150","checksum":0,"prevSeqId":46,"seqId":47}]}"#,
    r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["30243.6","2.3","0","3"]],"bids":[],"ts":"1652459226050","checksum":7}]}"#,
    r#"{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"upd"#,
    r#"{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"8","px":"0","sz":"1","side":"sell","ts":"1652459226051"}]}"#,
    r#"{"event":"error","code":"60018","msg":"Wrong URL or channel:books,instId:BTC-USDT does not exist","connId":"a1"}"#,
    "pong",
];

#[test]
fn nothing_is_allocated_after_construction() {
    for tape_only in [false, true] {
        let symbols = ["BTC-USDT", "BTC-USD-220527", "UNI-USD-SWAP"];
        let (table, ids) = table_of("okx", &symbols, split_symbol);
        let options = Options { tape_only, ..Options::default() };
        let mut session = OkxMarket::new(&table, VenueId(0), &ids, options).unwrap();
        let (mut out, mut events) = (Outbox::new(), 0_u64);
        session.on_open(Nanos(0), &mut out, &mut |_| {});
        let mut frame = |session: &mut OkxMarket, number: u64, frame: &[u8]| {
            let at = Nanos(number * 500_000_000);
            let arrival = Arrival { at, recv: Stamp(number), number };
            session.frame(arrival, frame, &mut out, &mut |_| events += 1);
            session.on_time(at, &mut out, &mut |_| events += 1);
            out.clear();
        };
        let frames: Vec<Vec<u8>> = recorded("okx/books_20220513.frames.gz");
        // The parser's buffers take the size of the largest frame so far.
        let longest = frames.iter().max_by_key(|it| it.len());
        if let Some(longest) = longest.filter(|_| tape_only) {
            frame(&mut session, 1, longest);
        }
        let mut number = 1;
        let count = allocations(|| {
            for _ in 0..50 {
                for text in FRAMES {
                    number += 1;
                    frame(&mut session, number, text.as_bytes());
                }
            }
            for recorded in &frames {
                number += 1;
                frame(&mut session, number, recorded);
            }
        });
        assert_eq!(count, 0, "tape only: {tape_only}");
        let counters = session.counters();
        assert!(counters.gaps > 0 && counters.malformed() > 0 && counters.error_replies > 0);
        assert!(events > 0);
    }
}
