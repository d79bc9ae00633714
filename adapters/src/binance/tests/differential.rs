//! The scanner against the tape parser: what the scanner accepts, the parser reads the same; what
//! a mutation leaves meaningful, both sessions report the same; what it does not, both refuse.

use std::fs;

use kairos_logic::event::Event;
use kairos_logic::units::{Nanos, Stamp, VenueId};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::binance::{BinanceMarket, Decoded, Decoder, Options};
use crate::capture::{Capture, FrameKind};
use crate::session::{Arrival, Counters, Fault, MarketSession, Outbox};
use crate::testing::mutate::{damage, damaged, respelled};
use crate::testing::{captures, table, words};
use crate::venue::Level;

const SYMBOLS: [&str; 7] =
    ["BTCUSDT", "ETHUSDT", "BLZETH", "LRCBTC", "NKNUSDT", "RUNEEUR", "BNBBTC"];

/// One frame of every kind, as the venue spells it.
const FRAMES: [&str; 14] = [
    r#"{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}"#,
    r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":7,"p":"0.10","q":"1","T":1723161255342123,"m":false,"M":true}"#,
    r#"{"stream":"nknusdt@aggTrade","data":{"e":"aggTrade","E":1633998512068,"s":"NKNUSDT","a":31,"p":"0.35290000","q":"28.00000000","f":33,"l":34,"T":1633998512067,"m":false,"M":true}}"#,
    r#"{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}"#,
    r#"{"u":50093239212,"s":"ETHUSDT","b":"0.00000000","B":"0.00000000","a":"61837.64000000","A":"1.54698000"}"#,
    r#"{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,"b":[["61737.63000000","0.00000000"],["61730.17000000","0.50000000"]],"a":[["61837.64000000","1.54698000"]]}}"#,
    r#"{"e":"depthUpdate","E":1723161255208,"s":"ETHUSDT","U":1,"u":2,"b":[],"a":[["61837.64000000","1.54698000"]]}"#,
    r#"{"e":"depthUpdate","E":1723161255208,"s":"ETHUSDT","U":3,"u":3,"b":[],"a":[]}"#,
    r#"{"lastUpdateId":44,"bids":[["100.4","3"]],"asks":[["100.5","1"]]}"#,
    r#"{"stream":"nknusdt@kline_1m","data":{"e":"kline","E":1,"s":"NKNUSDT","k":{"t":1,"o":"1.0","x":false}}}"#,
    r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}"#,
    r#"{"result":null,"id":1}"#,
    r#"{"error":{"code":2,"msg":"Invalid request"},"id":1}"#,
    r#"{"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker","s":"BTCUSDT"}]}"#,
];

/// Both readers over one frame; the session's verdict.
struct Readers {
    scanner: Decoder,
    parser: Decoder,
}

impl Readers {
    fn new() -> Self {
        let (table, ids) = table(&SYMBOLS);
        Self {
            scanner: Decoder::new(&table, VenueId(0), &ids),
            parser: Decoder::new(&table, VenueId(0), &ids),
        }
    }

    fn parse(&mut self, frame: &[u8]) -> Result<(Decoded, Vec<Level>), Fault> {
        let decoded = self.parser.parse(frame)?;
        Ok((decoded, levels(&self.parser, decoded)))
    }

    /// Whether the scanner knew the spelling; if so, it read what the parser reads.
    fn agree(&mut self, frame: &[u8]) -> bool {
        let Some(scanned) = self.scanner.scan(frame) else {
            return false;
        };
        let shown = String::from_utf8_lossy(frame);
        let scanned = (scanned, levels(&self.scanner, scanned));
        assert_eq!(self.parse(frame), Ok(scanned), "{shown}");
        true
    }
}

/// Levels mean something only beside a book update.
fn levels(decoder: &Decoder, decoded: Decoded) -> Vec<Level> {
    match decoded {
        Decoded::Depth { .. } => decoder.levels().iter().map(|(_, level)| level).collect(),
        Decoded::Trade { .. }
        | Decoded::Quote { .. }
        | Decoded::Refused { .. }
        | Decoded::Ignored(_)
        | Decoded::UnknownSymbol => Vec::new(),
    }
}

#[test]
fn the_scanner_knows_every_recorded_spelling_and_reads_what_the_parser_reads() {
    let Some(folder) = captures() else { return };
    let mut readers = Readers::new();
    let mut left = Vec::new();
    for name in [
        "binance/btcusdt_20240808.frames.gz",
        "binance/ethusdt_20240808.frames.gz",
        "binance/multi_20211012.frames.gz",
        "binance-usdm/btcusdt_20240718.frames.gz",
    ] {
        let mut capture = Capture::open(folder.join(name)).unwrap();
        let mut unknown = 0_u32;
        while capture.advance().unwrap() {
            let frame = capture.frame().unwrap();
            if frame.kind == FrameKind::Text && !readers.agree(frame.bytes) {
                unknown += 1;
            }
        }
        left.push(unknown);
    }
    // Two candles; every frame of the futures, which are spelled differently.
    assert_eq!(left[..3], [0, 0, 2]);
    assert!(left[3] > 1_000, "futures are another spelling: {left:?}");
}

#[test]
fn the_scanner_knows_the_spelling_of_everything_that_is_needed() {
    let mut readers = Readers::new();
    for (n, frame) in FRAMES.iter().enumerate() {
        assert_eq!(readers.agree(frame.as_bytes()), n < 8, "{frame}");
        assert!(readers.parse(frame.as_bytes()).is_ok(), "{frame}");
    }
}

/// What two sessions, with and without scanner, make of the same frames.
fn sessions(frames: &[Vec<u8>]) -> [(Vec<Event>, Counters); 2] {
    let (table, ids) = table(&SYMBOLS);
    [false, true].map(|tape_only| {
        let options = Options { tape_only, ..Options::default() };
        let mut session = BinanceMarket::new(&table, VenueId(0), &ids, options).unwrap();
        let (mut events, mut out) = (Vec::new(), Outbox::new());
        for (number, frame) in (1..).zip(frames) {
            let arrival = Arrival { at: Nanos(number * 1_000_000), recv: Stamp(number), number };
            let publish = &mut |event| events.push(event);
            session.frame(arrival, frame, &mut out, publish);
            session.snapshot(arrival, None, frame, &mut out, publish);
            out.clear();
        }
        let mut counters = *session.counters();
        counters.fallbacks = 0; // the one thing in which they differ
        (events, counters)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn another_spelling_means_the_same(frame in select(&FRAMES), mut seed: u64) {
        let text = respelled(frame, &mut seed);
        let mut readers = Readers::new();
        readers.agree(text.as_bytes());
        prop_assert_eq!(readers.parse(text.as_bytes()), readers.parse(frame.as_bytes()));
    }

    #[test]
    fn damaged_frames_yield_the_same_from_both_and_never_a_panic(
        frames in prop::collection::vec(
            (select(&FRAMES), prop::collection::vec((any::<Index>(), damage()), 0..4)),
            1..6,
        ),
    ) {
        let frames: Vec<Vec<u8>> = frames
            .iter()
            .map(|(frame, damages)| damaged(frame.as_bytes(), damages))
            .collect();
        let [(fast, fast_counters), (slow, slow_counters)] = sessions(&frames);
        let words = |events: &[Event]| events.iter().map(words).collect::<Vec<_>>();
        prop_assert_eq!(words(&fast), words(&slow));
        prop_assert_eq!(fast, slow);
        prop_assert_eq!(fast_counters, slow_counters);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let [(fast, _), (slow, _)] = sessions(&[bytes]);
        prop_assert_eq!(fast, slow);
    }
}

#[test]
fn published_examples_have_their_published_results() {
    let Some(folder) = captures() else { return };
    let lines = fs::read_to_string(folder.join("expected/binance.jsonl")).unwrap();
    let (table, ids) = table(&["BNBBTC", "BTCUSDT", "DOGEBNB", "BTCUSDC"]);
    let mut session = BinanceMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let (mut seen, mut out) = (Vec::new(), Outbox::new());
    for (number, line) in (1..).zip(lines.lines()) {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let frame = &case["frame"];
        let arrival = Arrival { number, ..Arrival::default() };
        let mut events = Vec::new();
        let publish = &mut |event: Event| events.push(words(&event));
        if frame["generated"] == true {
            // What a recorder made of a REST snapshot becomes one again.
            let body = frame["data"].to_string();
            let id = session.instrument("BTCUSDC");
            session.snapshot(arrival, id, body.as_bytes(), &mut out, publish);
        } else {
            session.frame(arrival, frame.to_string().as_bytes(), &mut out, publish);
        }
        seen.push(events);
    }
    let want: [&[&str]; 5] = [
        &["0 trade 40756030 Buy 3382000000@42699000"],
        &["1 quote 14245900@80100000000000 3120100@80121500000000"],
        &[],
        &[
            "3 bid 976500@40919200000000 u16084251 snapshot clear",
            "3 bid 76393100@40890900000000 u16084251 snapshot",
            "3 ask 231652000@40959900000000 u16084251 snapshot",
            "3 ask 142541900@40960000000000 u16084251 snapshot last",
        ],
        &["3 bid 0@40848800000000 u16084253", "3 ask 0@41118400000000 u16084253 last"],
    ];
    let want: Vec<Vec<String>> =
        want.iter().map(|case| case.iter().map(|&it| it.to_owned()).collect()).collect();
    assert_eq!(seen, want);
    assert_eq!(session.counters().malformed(), 0);
}
