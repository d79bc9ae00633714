//! The scanner against the general parser: what the scanner accepts, the parser reads the same;
//! what a mutation leaves meaningful, both sessions report the same; what it does not, both refuse.

use std::fs;

use kairos_logic::event::{Event, Kind};
use kairos_logic::units::{Nanos, Stamp, VenueId};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::table;
use crate::capture::Capture;
use crate::kraken::{Decoded, Decoder, Depth, FRAME_MAX, KrakenMarket, Options};
use crate::session::{Arrival, Counters, Fault, MarketSession, Outbox};
use crate::sim::random::Random;
use crate::testing::mutate::{damage, damaged, respelled};
use crate::testing::{captures, words};

const SYMBOLS: [&str; 3] = ["BTC/USD", "AAPLx/USD", "ETH/USDT"];

/// One frame of every kind, as the venue spells it; the first twelve are for the scanner.
const FRAMES: [&str; 20] = [
    r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":100.5,"qty":0.20000000,"ord_type":"market","trade_id":7,"timestamp":"2026-08-01T00:00:00.123456Z"}]}"#,
    r#"{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell","price":105944.20,"qty":0.00027625,"ord_type":"limit","trade_id":10218208,"timestamp":"2023-10-06T17:35:55.440295Z"},{"symbol":"AAPLx/USD","side":"buy","price":1,"qty":2,"ord_type":"limit","trade_id":1,"timestamp":"2023-10-06T17:35:55Z"}]}"#,
    r#"{"channel":"trade","type":"snapshot","data":[{"symbol":"BTC/USD","side":"buy","price":100.1,"qty":0.25,"ord_type":"limit","trade_id":122,"timestamp":"2026-07-10T00:00:00.023456Z"}]}"#,
    r#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":100.4,"bid_qty":3.0,"ask":100.5,"ask_qty":1.0,"last":100.5,"volume":997038.98383185,"vwap":0.10148,"low":0.09979,"high":0.10285,"change":-0.00017,"change_pct":-0.17}]}"#,
    r#"{"channel":"ticker","type":"snapshot","data":[{"symbol":"ETH/USDT","bid":105944.20,"bid_qty":2.5,"ask":105944.30,"ask_qty":3.2,"last":105899.40,"volume":163.28908096,"vwap":105904.39279,"low":104711.00,"high":106613.10,"change":250.00,"change_pct":0.24,"timestamp":"2022-12-25T09:30:59.123456Z"}]}"#,
    r#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":99.9,"bid_qty":1.2,"ask":100.1,"ask_qty":2.3,"timestamp":"2026-07-10T00:00:02.123456Z"}]}"#,
    r#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":0,"bid_qty":0.00,"ask":100.1,"ask_qty":2.3}]}"#,
    r#"{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":[{"price":100.4,"qty":3.00000000},{"price":100.3,"qty":1.00000000}],"asks":[{"price":100.6,"qty":0.50000000}],"checksum":2706846363}]}"#,
    r#"{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[{"price":100.4,"qty":0.00000000}],"asks":[],"checksum":123456789,"timestamp":"2026-08-01T00:00:00.123456Z"}]}"#,
    r#"{"channel":"book","type":"snapshot","data":[{"symbol":"ETH/USDT","bids":[],"asks":[],"checksum":0}]}"#,
    r#"{"channel":"book","type":"update","data":[{"symbol":"ETH/USDT","bids":[],"asks":[{"price":5,"qty":7},{"price":6,"qty":8}],"checksum":4271018497,"timestamp":"2026-08-01T00:00:00.1Z"}]}"#,
    r#"{"channel":"heartbeat"}"#,
    r#"{"channel":"trade","type":"update","data":[]}"#,
    r#"{"channel":"book","type":"update","data":[{"symbol":"NO/SUCH","bids":[],"asks":[],"checksum":5}]}"#,
    r#"{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":null,"bid_qty":null,"ask":100.1,"ask_qty":2.3}]}"#,
    r#"{"channel":"status","type":"update","data":[{"api_version":"v2","connection_id":17843232920108168701,"system":"online","version":"2.0.0"}]}"#,
    r#"{"method":"subscribe","result":{"channel":"book","symbol":"BTC/USD","depth":10,"snapshot":true},"success":true,"time_in":"2023-09-25T09:04:31.742599Z","time_out":"2023-09-25T09:04:31.742648Z","req_id":1}"#,
    r#"{"method":"subscribe","error":"Currency pair not supported NO/SUCH","success":false,"symbol":"NO/SUCH","req_id":2,"time_in":"x","time_out":"x"}"#,
    r#"{"method":"pong","req_id":42,"time_in":"2023-09-25T09:05:00.123456Z","time_out":"2023-09-25T09:05:00.123500Z"}"#,
    r#"{"channel":"ohlc","type":"update","data":[{"symbol":"BTC/USD","open":1.0}]}"#,
];
const SCANNED: usize = 12;

/// Both readers over one frame.
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

    fn parse(&mut self, frame: &[u8]) -> Result<(Decoded, String), Fault> {
        let decoded = self.parser.parse(frame)?;
        Ok((decoded, said(&self.parser, decoded)))
    }

    /// Whether the scanner knew the spelling; if so, it read what the parser reads.
    fn agree(&mut self, frame: &[u8]) -> bool {
        let Some(scanned) = self.scanner.scan(frame) else {
            return false;
        };
        let shown = String::from_utf8_lossy(&frame[..frame.len().min(2_000)]).into_owned();
        let scanned = (scanned, said(&self.scanner, scanned));
        assert_eq!(self.parse(frame), Ok(scanned), "{shown}");
        true
    }
}

/// What a decoder says besides; means something only beside trades, quotes and books.
fn said(decoder: &Decoder, decoded: Decoded) -> String {
    match decoded {
        Decoded::Trades | Decoded::Quotes | Decoded::Books => {}
        Decoded::Heartbeat
        | Decoded::Subscribed { .. }
        | Decoded::Refused(_)
        | Decoded::Ignored => return String::from_utf8_lossy(decoder.words()).into_owned(),
    }
    let batch = &decoder.batch;
    let books: Vec<_> = batch.books().collect();
    let (old, unknown) = (batch.old_trades, batch.unknown);
    format!("{:?} {:?} {books:?} {old} {unknown}", batch.trades(), batch.quotes())
}

fn corpus() -> Option<Vec<Vec<u8>>> {
    let path = captures()?.join("kraken/book10_btcusd_20230730.frames.gz");
    let mut capture = Capture::open(path).unwrap();
    let mut corpus = Vec::new();
    while capture.advance().unwrap() {
        corpus.push(capture.frame().unwrap().bytes.to_vec());
    }
    Some(corpus)
}

#[test]
fn the_scanner_knows_every_recorded_spelling_and_reads_what_the_parser_reads() {
    let Some(corpus) = corpus() else { return };
    let mut readers = Readers::new();
    assert!(corpus.iter().all(|frame| readers.agree(frame)));
}

#[test]
fn the_scanner_knows_the_spelling_of_everything_that_is_needed() {
    let mut readers = Readers::new();
    for (n, frame) in FRAMES.iter().enumerate() {
        assert_eq!(readers.agree(frame.as_bytes()), n < SCANNED, "{frame}");
        assert!(readers.parse(frame.as_bytes()).is_ok(), "{frame}");
    }
}

/// What two sessions, with and without scanner, make of the same frames.
fn sessions(frames: &[Vec<u8>]) -> [(Vec<Event>, Counters); 2] {
    let (table, ids) = table(&SYMBOLS);
    [false, true].map(|tape_only| {
        let options = Options { depth: Depth::Ten, tape_only };
        let mut session = KrakenMarket::new(&table, VenueId(0), &ids, options).unwrap();
        let (mut events, mut out) = (Vec::new(), Outbox::new());
        for (number, frame) in (1..).zip(frames) {
            let arrival = Arrival { at: Nanos(number * 1_000_000), recv: Stamp(number), number };
            session.frame(arrival, frame, &mut out, &mut |event| events.push(event));
            out.clear();
        }
        let mut counters = *session.counters();
        counters.fallbacks = 0; // the one thing in which they differ
        (events, counters)
    })
}

fn agree_on(frames: &[Vec<u8>]) -> [(Vec<Event>, Counters); 2] {
    let both = sessions(frames);
    let words = |events: &[Event]| events.iter().map(words).collect::<Vec<_>>();
    assert_eq!(words(&both[0].0), words(&both[1].0));
    assert_eq!(both[0], both[1]);
    both
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

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
        agree_on(&frames);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        agree_on(&[bytes]);
    }

    /// Numbers in every spelling of JSON and some that it does not have: both readers take the same
    /// text for the same number, or leave it.
    #[test]
    fn numbers_are_their_text(
        sign in select(&["", "-", "+"][..]),
        whole in "0{0,2}[0-9]{0,19}",
        fraction in prop_oneof![Just(String::new()), "\\.[0-9]{0,12}0{0,3}"],
        exponent in select(&["", "", "", "e3", "E-2", "e309"][..]),
    ) {
        let number = format!("{sign}{whole}{fraction}{exponent}");
        let frame = FRAMES[0].replace("0.20000000", &number);
        let mut readers = Readers::new();
        readers.agree(frame.as_bytes());
        let is_json = serde_json::from_str::<serde_json::Number>(&number).is_ok();
        let is_plain = is_json && exponent.is_empty();
        match readers.parse(frame.as_bytes()) {
            Ok(_) => prop_assert!(is_plain, "{}", number),
            // A number that is out of range for a double is a number all the same.
            Err(Fault::NotJson) => prop_assert!(!is_json || !exponent.is_empty(), "{}", number),
            Err(Fault::Number) => prop_assert!(!exponent.is_empty(), "{}", number),
            Err(Fault::NotPositive) => {
                let zero = number.bytes().all(|it| !(b'1'..=b'9').contains(&it));
                prop_assert!(zero || sign == "-", "{}", number);
            }
            Err(Fault::TooFine | Fault::TooLarge) => prop_assert!(number.len() > 9, "{}", number),
            Err(other) => prop_assert!(false, "{}: {}", number, other),
        }
    }
}

/// Frames out of a recorded connection, damaged by a seeded generator: a bounded fuzz run.
#[test]
fn recorded_frames_that_are_damaged_never_panic() {
    let Some(corpus) = corpus() else { return };
    let mut random = Random::fork(2, 20);
    let mut below = |limit: usize| usize::try_from(random.up_to(limit as u64 - 1)).unwrap();
    let mut events = 0;
    for _ in 0..200 {
        let frames: Vec<Vec<u8>> = (0..40)
            .map(|n| {
                let whole = n % 8 == 0; // a snapshot now and then
                let mut frame = corpus[if whole { 0 } else { below(corpus.len()) }].clone();
                for _ in 0..below(4) {
                    let (at, to) = (below(frame.len()), below(frame.len()));
                    match below(6) {
                        0 => frame[at] = u8::try_from(below(256)).unwrap(),
                        1 => frame[at] ^= 1 << below(8),
                        2 => frame.truncate(at + 1),
                        3 => frame[at] = frame[to],
                        4 => frame = frame.repeat(2),
                        _ => drop(frame.splice(at..at, b"-09e.\"{[".iter().copied())),
                    }
                }
                frame
            })
            .collect();
        events += agree_on(&frames)[0].0.len();
    }
    assert!(events > 1_000, "{events}");
}

#[test]
fn hostile_frames_are_refused() {
    let trade = |price: &str| FRAMES[0].replace("100.5", price).into_bytes();
    let mut broken = FRAMES[0].as_bytes().to_vec();
    let at = FRAMES[0].find("BTC").unwrap();
    broken[at] = 0xFF;
    let nested = |open: &str, count: usize| open.repeat(count).into_bytes();
    let inside = |open: &str, count: usize| {
        let text = format!(r#"{{"channel":"book","type":"update","data":{}"#, open.repeat(count));
        text.into_bytes()
    };
    let closed = format!(
        r#"{{"channel":"book","type":"update","data":{}{}}}"#,
        "[".repeat(1 << 18),
        "]".repeat(1 << 18)
    );
    let frames = [
        vec![0; 16 << 20],
        vec![b' '; FRAME_MAX],
        vec![b'7'; FRAME_MAX],
        vec![b'"'; FRAME_MAX],
        nested("[", FRAME_MAX),
        nested("{\"a\":", 1 << 17),
        inside("[", 1 << 19),
        inside("[{\"symbol\":", 1 << 16),
        closed.into_bytes(),
        broken,
        trade("NaN"),
        trade("\"NaN\""),
        trade("\"100.5\""),
        trade("1e309"),
        trade("1e3"),
        trade("-1"),
        trade("Infinity"),
        trade(&"9".repeat(1 << 19)),
        trade(&format!("0.{}1", "0".repeat(1 << 19))),
        trade("[100.5]"),
    ];
    for frame in frames {
        let shown = String::from_utf8_lossy(&frame[..frame.len().min(300)]).into_owned();
        let [(events, counters), _] = agree_on(&[frame]);
        let kinds: Vec<_> = events.iter().map(|it| it.kind).collect();
        assert_eq!(kinds[0], Kind::Status, "{shown}");
        assert!(kinds.iter().all(|it| matches!(it, Kind::Status | Kind::Gap)), "{shown}");
        assert_eq!(counters.malformed(), 1, "{shown}");
    }
}

/// A session of the instruments in the published examples, and what one text makes of it.
fn read(text: &str) -> Vec<String> {
    let (table, ids) = table(&["BTC/USD", "AAPLx/USD", "ETH/USDT"]);
    let mut session = KrakenMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let (mut out, mut events) = (Outbox::new(), Vec::new());
    let publish = &mut |event: Event| events.push(words(&event));
    session.frame(Arrival::default(), text.as_bytes(), &mut out, publish);
    assert_eq!(session.counters().malformed(), 0, "{text}");
    events
}

#[test]
fn published_examples_have_their_published_results() {
    let Some(folder) = captures() else { return };
    let lines = fs::read_to_string(folder.join("expected/kraken.jsonl")).unwrap();
    let mut seen = Vec::new();
    for line in lines.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        if case["frame"].is_object() {
            seen.push(read(&case["frame"].to_string()));
        } // else of the older protocol
    }
    let want: [&[&str]; 3] = [
        &[],
        // Its checksum is invented.
        &["1 gap checksum 123456 1152157940", "1 resync 8"],
        &["0 quote 120000000@999000000000 230000000@1001000000000"],
    ];
    assert_eq!(seen, want);
}

#[test]
fn published_messages_are_understood() {
    let Some(folder) = captures() else { return };
    let file = |name: &str| fs::read_to_string(folder.join("orders/kraken").join(name)).unwrap();
    let check = |name: &str, want: &[&str]| {
        assert_eq!(read(&file(&format!("nautilus/{name}"))), want, "{name}");
    };
    check("ws_pong.json", &[]);
    check("ws_subscribe_response.json", &[]);
    check("ws_ohlc_update.json", &[]);
    check("ws_l3_snapshot.json", &[]);
    check("ws_add_order_response_success.json", &[]);
    check(
        "ws_add_order_response_failure.json",
        &["65535 venue_error 0", "65535 said \"EOrder:Insuffici\"", "65535 said \"ent funds\""],
    );
    check(
        "ws_ticker_snapshot.json",
        &["0 quote 250000000@1059442000000000 320000000@1059443000000000"],
    );
    check(
        "ws_trade_update.json",
        &[
            "0 trade 10218208 Buy 27625@1059442000000000",
            "0 trade 10218209 Sell 12460@1059105000000000",
        ],
    );
    // Examples of the documentation have checksums of other books.
    assert!(
        read(&file("nautilus/ws_book_snapshot.json"))[0].starts_with("0 gap checksum 2439117997 ")
    );
    check("ws_book_update.json", &["0 resync 0"]);
    // What is pushed stands behind `=`.
    let pushed = |name: &str| {
        let text = file(&format!("jkorf/Subscriptions/Spot/{name}"));
        read(text.split_once("\n=").unwrap().1.trim())
    };
    assert_eq!(pushed("Ticker.txt"), ["2 quote 74000000000@1002500000 74000000000@1003500000"]);
    assert_eq!(pushed("Trades.txt"), ["2 trade 4665906 Sell 4000000000@5117000000"]);
    assert_eq!(pushed("Kline.txt"), [""; 0]);
    // This one's is true, though its numbers have lost the zeros at their ends.
    let book = pushed("AggBook.txt");
    assert_eq!(book.len(), 20, "{book:?}");
    assert_eq!(book[0], "2 bid 483175496356@5666000000 u0 snapshot clear");
}
