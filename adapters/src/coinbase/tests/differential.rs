//! The scanner against the tape parser: what the scanner accepts, the parser reads the same; what
//! a mutation leaves meaningful, both sessions report the same; what it does not, both refuse.

use std::fs;

use kairos_logic::event::{Event, Kind};
use kairos_logic::units::{Nanos, Stamp, VenueId};
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::table;
use crate::capture::Capture;
use crate::coinbase::{CoinbaseMarket, Decoded, Decoder, FRAME_MAX, Options};
use crate::session::{Arrival, Counters, Fault, MarketSession, Outbox};
use crate::sim::random::Random;
use crate::testing::mutate::{damage, damaged, respelled};
use crate::testing::{captures, words};

const SYMBOLS: [&str; 3] = ["BTC-USD", "ETH-USDC", "ETC-GBP"];

/// One frame of every kind, as the venue spells it; the first ten are for the scanner.
const FRAMES: [&str; 17] = [
    r#"{"channel":"market_trades","timestamp":"2026-08-09T21:05:48.251397169Z","sequence_num":9,"events":[{"type":"update","trades":[{"product_id":"BTC-USD","trade_id":"1068572091","price":"65083.67","size":"0.01034361","time":"2026-08-09T21:05:48.167634Z","side":"SELL"}]}]}"#,
    r#"{"channel":"market_trades","client_id":"","timestamp":"2026-08-09T21:05:48Z","sequence_num":10,"events":[{"type":"update","trades":[{"trade_id":"7","product_id":"ETH-USD","price":"5","size":"1","side":"BUY","time":"2026-08-09T21:05:48.1Z"},{"trade_id":"8","product_id":"BTC-USD","price":"0.5","size":"12","side":"SELL","time":"2026-08-09T21:05:48.123456789Z"}]}]}"#,
    r#"{"channel":"market_trades","timestamp":"2026-08-09T21:05:48.228Z","sequence_num":0,"events":[{"type":"snapshot","trades":[{"product_id":"BTC-USD","trade_id":"90","price":"65083.67","size":"0.002186","time":"2026-08-09T21:05:42.514318Z","side":"SELL"}]}]}"#,
    r#"{"channel":"ticker","timestamp":"2026-08-09T21:05:48.298032046Z","sequence_num":10,"events":[{"type":"update","tickers":[{"type":"ticker","product_id":"ETH-USD","price":"1919.41","volume_24_h":"19975.95927439","low_24_h":"1911.04","high_24_h":"1925","low_52_w":"1505","high_52_w":"4955.9","price_percent_chg_24_h":"0.02501394006035","best_bid":"1919.44","best_ask":"1919.49","best_bid_quantity":"0.02858092","best_ask_quantity":"0.5"}]}]}"#,
    r#"{"channel":"ticker","client_id":"x","timestamp":"2026-08-09T21:05:48Z","sequence_num":11,"events":[{"type":"snapshot","tickers":[{"type":"ticker","product_id":"BTC-USD","price":"68900.50","volume_24_h":"1","low_24_h":"1","high_24_h":"1","low_52_w":"1","high_52_w":"1","price_percent_chg_24_h":"-1.85","best_bid":"68900.00","best_bid_quantity":"1.5","best_ask":"68901.00","best_ask_quantity":"0.5"}]}]}"#,
    r#"{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.483587501Z","sequence_num":11,"events":[{"type":"snapshot","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"2026-08-09T21:05:48.170326Z","price_level":"65083.66","new_quantity":"0.20371215"},{"side":"offer","event_time":"2026-08-09T21:05:48.170326Z","price_level":"65083.67","new_quantity":"1"}]}]}"#,
    r#"{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.505350477Z","sequence_num":12,"events":[{"type":"update","product_id":"BTC-USD","updates":[{"side":"offer","event_time":"2026-08-09T21:05:48.27841Z","price_level":"65083.71","new_quantity":"0.06"},{"side":"bid","event_time":"2026-08-09T21:05:48.3Z","price_level":"65000","new_quantity":"0"}]}]}"#,
    r#"{"channel":"l2_data","client_id":"","timestamp":"2026-08-09T21:05:48.5Z","sequence_num":13,"events":[{"type":"snapshot","product_id":"ETH-USD","updates":[]},{"type":"update","product_id":"ETC-GBP","updates":[{"side":"bid","event_time":"1970-01-01T00:00:00Z","price_level":"4.9","new_quantity":"3"}]}]}"#,
    r#"{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.6Z","sequence_num":14,"events":[{"type":"update","product_id":"ETH-USDC","updates":[{"side":"bid","event_time":"0001-01-01T00:00:00Z","price_level":"4.9","new_quantity":"3"}]}]}"#,
    r#"{"channel":"ticker","timestamp":"2026-08-09T21:05:48.7Z","sequence_num":15,"events":[{"type":"update","tickers":[{"type":"ticker","product_id":"ETC-GBP","price":"1","volume_24_h":"0","low_24_h":"0","high_24_h":"0","low_52_w":"0","high_52_w":"0","price_percent_chg_24_h":"0","best_bid":"0","best_ask":"1919.49","best_bid_quantity":"0","best_ask_quantity":"0.5"}]}]}"#,
    r#"{"channel":"ticker","timestamp":"2026-08-09T21:05:48.7Z","sequence_num":15,"events":[{"type":"update","tickers":[{"type":"ticker","product_id":"ETC-GBP","price":"","best_bid":"","best_ask":"","best_bid_quantity":"","best_ask_quantity":""}]}]}"#,
    r#"{"channel":"l2_data","timestamp":"2026-08-09T21:05:48.6Z","sequence_num":14,"events":[{"type":"update","product_id":"DOGE-USD","updates":[]}]}"#,
    r#"{"channel":"market_trades","timestamp":"2026-08-09T21:05:48.6Z","sequence_num":14,"events":[]}"#,
    r#"{"channel":"heartbeats","timestamp":"2026-08-09T21:05:48.856364007Z","sequence_num":35,"events":[{"current_time":"2026-08-09 21:05:48.854840045 +0000 UTC m=+41691.260485341","heartbeat_counter":41691}]}"#,
    r#"{"channel":"subscriptions","timestamp":"2026-08-09T21:05:48.629706932Z","sequence_num":26,"events":[{"subscriptions":{"heartbeats":["heartbeats"],"level2":["BTC-USD","ETH-USD"]}}]}"#,
    r#"{"channel":"candles","timestamp":"2026-08-09T21:05:48.228Z","sequence_num":3,"events":[{"type":"snapshot","candles":[{"start":"1786279500","high":"1916.6","product_id":"ETH-USD"}]}]}"#,
    r#"{"type":"error","message":"failure to subscribe"}"#,
];
const SCANNED: usize = 10;

/// What a decoder made of a frame, in words.
type Read = Result<(Decoded, String), Fault>;

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

    fn parse(&mut self, frame: &[u8]) -> Read {
        let decoded = self.parser.parse(frame)?;
        Ok((decoded, said(&self.parser)))
    }

    /// Whether the scanner knew the spelling; if so, it read what the parser reads.
    fn agree(&mut self, frame: &[u8]) -> bool {
        let Some(scanned) = self.scanner.scan(frame) else {
            return false;
        };
        let shown = String::from_utf8_lossy(&frame[..frame.len().min(2_000)]).into_owned();
        let scanned = (scanned, said(&self.scanner));
        assert_eq!(self.parse(frame), Ok(scanned), "{shown}");
        true
    }
}

fn said(decoder: &Decoder) -> String {
    let batch = &decoder.batch;
    let books: Vec<_> = batch.books().collect();
    let (old, unknown) = (batch.old_trades, batch.unknown);
    format!("{:?} {:?} {books:?} {old} {unknown}", batch.trades(), batch.quotes())
}

#[test]
fn the_scanner_knows_every_recorded_spelling_and_reads_what_the_parser_reads() {
    let Some(folder) = captures() else { return };
    let (table, ids) = table(&["BTC-USD", "ETH-USD"]);
    let made = || Decoder::new(&table, VenueId(0), &ids);
    let mut readers = Readers { scanner: made(), parser: made() };
    let path = folder.join("coinbase/advanced_20260809_head.frames.gz");
    let mut capture = Capture::open(path).unwrap();
    let mut unknown = 0_u32;
    while capture.advance().unwrap() {
        unknown += u32::from(!readers.agree(capture.frame().unwrap().bytes));
    }
    assert_eq!(unknown, 13, "candles, heartbeats and replies");
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
        let options = Options { tape_only };
        let mut session = CoinbaseMarket::new(&table, VenueId(0), &ids, options).unwrap();
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
}

/// Frames out of a recorded connection, damaged by a seeded generator: a bounded fuzz run.
#[test]
fn recorded_frames_that_are_damaged_never_panic() {
    let Some(folder) = captures() else { return };
    let path = folder.join("coinbase/advanced_20260809_head.frames.gz");
    let mut capture = Capture::open(path).unwrap();
    let mut corpus = Vec::new();
    while capture.advance().unwrap() {
        let bytes = capture.frame().unwrap().bytes;
        if bytes.len() < 3_000 {
            corpus.push(bytes.to_vec());
        }
    }
    let mut random = Random::fork(1, 20);
    let mut below = |limit: usize| usize::try_from(random.up_to(limit as u64 - 1)).unwrap();
    let mut events = 0;
    for _ in 0..100 {
        let frames: Vec<Vec<u8>> = (0..60)
            .map(|_| {
                let mut frame = corpus[below(corpus.len())].clone();
                for _ in 0..below(4) {
                    let (at, to) = (below(frame.len()), below(frame.len()));
                    match below(5) {
                        0 => frame[at] = u8::try_from(below(256)).unwrap(),
                        1 => frame[at] ^= 1 << below(8),
                        2 => frame.truncate(at + 1),
                        3 => frame[at] = frame[to],
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
    let trade = |price: &str| FRAMES[0].replace("\"65083.67\"", price).into_bytes();
    let mut broken = FRAMES[0].as_bytes().to_vec();
    let at = FRAMES[0].find("BTC").unwrap();
    broken[at] = 0xFF;
    let nested = |open: &str, count: usize| open.repeat(count).into_bytes();
    let inside = |open: &str, count: usize| {
        let text =
            format!(r#"{{"channel":"l2_data","sequence_num":1,"events":{}"#, open.repeat(count));
        text.into_bytes()
    };
    let frames = [
        vec![0; FRAME_MAX],
        vec![b' '; FRAME_MAX],
        vec![b'7'; FRAME_MAX],
        vec![b'"'; 1 << 20],
        vec![0; FRAME_MAX + 1],
        nested("[", 1 << 20),
        nested("{\"a\":", 1 << 20),
        inside("[", 1 << 20),
        inside("[{\"type\":", 1 << 18),
        broken,
        trade("NaN"),
        trade("\"NaN\""),
        trade("1e309"),
        trade("\"1e309\""),
        trade("\"Infinity\""),
        trade("\"-1\""),
        trade(&format!("\"{}\"", "9".repeat(1 << 20))),
        trade(&"9".repeat(1 << 20)),
        trade(&format!("\"0.{}1\"", "0".repeat(1 << 20))),
        trade("\"\u{0}\""),
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

#[test]
fn published_examples_are_understood() {
    let Some(folder) = captures() else { return };
    let (table, ids) = table(&["BTC-USD", "ETH-USD", "ETH-USDT"]);
    let mut out = Outbox::new();
    let mut read = |text: &str| {
        let mut session =
            CoinbaseMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
        let mut events = Vec::new();
        let publish = &mut |event: Event| events.push(words(&event));
        session.frame(Arrival::default(), text.as_bytes(), &mut out, publish);
        assert_eq!(session.counters().malformed(), 0, "{text}");
        events
    };
    let file = |name: &str| fs::read_to_string(folder.join("orders/coinbase").join(name)).unwrap();
    let mut check = |name: &str, want: &[&str]| {
        assert_eq!(read(&file(&format!("nautilus/{name}"))), want, "{name}");
    };
    check("ws_heartbeats.json", &[]);
    check("ws_subscriptions.json", &[]);
    check("ws_candles.json", &[]);
    check("ws_user.json", &[]);
    check(
        "ws_l2_data_snapshot.json",
        &[
            "0 bid 150000000@689000000000000 u0 snapshot clear",
            "0 bid 75000000@688995000000000 u0 snapshot",
            "0 bid 230000000@688990000000000 u0 snapshot",
            "0 ask 50000000@689010000000000 u0 snapshot",
            "0 ask 120000000@689015000000000 u0 snapshot",
            "0 ask 80000000@689020000000000 u0 snapshot last",
        ],
    );
    check("ws_l2_data_update.json", &["0 resync 0"]); // no snapshot came before
    check(
        "ws_market_trades.json",
        &[
            "0 trade 995098700 Sell 150000@689005000000000",
            "0 trade 995098701 Buy 5000000@689000000000000",
        ],
    );
    check("ws_ticker.json", &["0 quote 150000000@689000000000000 50000000@689010000000000"]);
    // What is pushed stands behind `=`.
    let mut pushed = |name: &str, want: &[&str]| {
        let text = file(&format!("jkorf/Subscriptions/AdvancedTrade/{name}"));
        assert_eq!(read(text.split_once("\n=").unwrap().1.trim()), want, "{name}");
    };
    pushed("Heartbeat.txt", &[]);
    pushed("Klines.txt", &[]);
    pushed("BatchTicker.txt", &[]);
    pushed("Ticker.txt", &["2 quote 800021000000@219319800000000 803807770938@219339800000000"]);
    pushed(
        "Trades.txt",
        &[
            "2 trade 22381690 Sell 50000000@23755600000000",
            "2 trade 22381691 Sell 50000000@23755600000000",
        ],
    );
}
