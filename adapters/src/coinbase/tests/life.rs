//! The life of a session in lines of data: what comes in, what goes out.

use kairos_logic::event::{Event, GapReason};
use kairos_logic::units::{InstrumentId, Nanos, Stamp, VenueId};

use super::table;
use crate::coinbase::{CoinbaseMarket, Options};
use crate::session::{Arrival, Dial, Fault, MarketSession, Outbox};
use crate::testing::words;
use crate::venue::SetupError;

/// A session with its outbox; prices and quantities have no decimals here.
struct Line {
    session: CoinbaseMarket,
    out: Outbox,
}

impl Line {
    fn new() -> Self {
        let (mut table, ids) = table(&["AAA-USD", "BBB-USDC"]);
        for it in &mut table.instruments {
            (it.price_scale, it.qty_scale) = (0, 0);
        }
        let session = CoinbaseMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
        Self { session, out: Outbox::new() }
    }

    /// One input, `<ms> <what> …`: `open`, `close`, `alive`, `time`, `resync I REASON`,
    /// `frame TEXT`, `beat SEQ`, `trade SEQ I id price`, and `snap SEQ I levels…` or
    /// `depth SEQ I levels…` with levels as `b100=1` and `a101=2`.
    fn feed(&mut self, input: &str) -> Vec<String> {
        let (ms, input) = input.split_once(' ').unwrap();
        let at = Nanos(ms.parse::<u64>().unwrap() * 1_000_000);
        let (what, rest) = input.split_once(' ').unwrap_or((input, ""));
        let arrival = Arrival { at, recv: Stamp(1), number: at.0 / 1_000_000 };
        let mut events = Vec::new();
        let publish = &mut |event: Event| events.push(words(&event));
        let (session, out) = (&mut self.session, &mut self.out);
        let fields: Vec<_> = rest.split(' ').collect();
        let mut frame = |text: String| {
            session.on_frame(arrival, text.as_bytes(), out, publish);
        };
        match what {
            "frame" => frame(rest.into()),
            "beat" => frame(envelope("heartbeats", fields[0], "{\"heartbeat_counter\":1}")),
            "trade" => {
                let (symbol, id, price) = (symbol(fields[1]), fields[2], fields[3]);
                let trade = format!(
                    r#"{{"type":"update","trades":[{{"product_id":"{symbol}","trade_id":"{id}","price":"{price}","size":"1","time":"2026-08-09T21:05:48Z","side":"BUY"}}]}}"#
                );
                frame(envelope("market_trades", fields[0], &trade));
            }
            "snap" => frame(envelope("l2_data", fields[0], &book("snapshot", &fields[1..]))),
            "depth" => frame(envelope("l2_data", fields[0], &book("update", &fields[1..]))),
            "open" => session.on_open(at, out, publish),
            "close" => session.on_close(at, publish),
            "alive" => session.on_alive(at),
            "time" => session.on_time(at, out, publish),
            "resync" => {
                let id = fields[0].parse().ok().map(InstrumentId);
                session.resync(at, id, GapReason::Crossed, out, publish);
            }
            _ => panic!("no such input: {what}"),
        }
        let texts = out.texts().map(|text| format!("send {text}"));
        let again = out.wants_reconnect().map(|why| format!("reconnect {why:?}"));
        let wishes: Vec<_> = texts.chain(again).collect();
        assert!(out.snapshots().is_empty());
        out.clear();
        events.extend(wishes);
        events
    }
}

fn envelope(channel: &str, sequence: &str, event: &str) -> String {
    format!(
        r#"{{"channel":"{channel}","timestamp":"2026-08-09T21:05:48.1Z","sequence_num":{sequence},"events":[{event}]}}"#
    )
}

fn symbol(field: &str) -> &'static str {
    // The second as the venue sends it.
    ["AAA-USD", "BBB-USD", "ZZZ-USD"][field.parse::<usize>().unwrap()]
}

fn book(kind: &str, fields: &[&str]) -> String {
    let levels: Vec<_> = fields[1..]
        .iter()
        .map(|it| {
            let (side, level) = it.split_at(1);
            let side = if side == "b" { "bid" } else { "offer" };
            let (price, qty) = level.split_once('=').unwrap();
            format!(r#"{{"side":"{side}","event_time":"2026-08-09T21:05:48Z","price_level":"{price}","new_quantity":"{qty}"}}"#)
        })
        .collect();
    let (symbol, levels) = (symbol(fields[0]), levels.join(","));
    format!(r#"{{"type":"{kind}","product_id":"{symbol}","updates":[{levels}]}}"#)
}

/// Each input with what it leads to.
fn check(steps: &[(&str, &[&str])]) -> CoinbaseMarket {
    let mut line = Line::new();
    for (input, want) in steps {
        assert_eq!(&line.feed(input), want, "{input}");
    }
    line.session
}

const LEAVE_0: &str = r#"send {"type":"unsubscribe","product_ids":["AAA-USD"],"channel":"level2"}"#;
const ENTER_0: &str = r#"send {"type":"subscribe","product_ids":["AAA-USD"],"channel":"level2"}"#;
const LEAVE_1: &str =
    r#"send {"type":"unsubscribe","product_ids":["BBB-USDC"],"channel":"level2"}"#;
const ENTER_1: &str = r#"send {"type":"subscribe","product_ids":["BBB-USDC"],"channel":"level2"}"#;
const LEAVE: &str =
    r#"send {"type":"unsubscribe","product_ids":["AAA-USD","BBB-USDC"],"channel":"level2"}"#;
const ENTER: &str =
    r#"send {"type":"subscribe","product_ids":["AAA-USD","BBB-USDC"],"channel":"level2"}"#;
const BEAT: &str = r#"send {"type":"subscribe","channel":"heartbeats"}"#;
const TRADES: &str =
    r#"send {"type":"subscribe","product_ids":["AAA-USD","BBB-USDC"],"channel":"market_trades"}"#;
const TICKER: &str =
    r#"send {"type":"subscribe","product_ids":["AAA-USD","BBB-USDC"],"channel":"ticker"}"#;
const OPEN: (&str, &[&str]) =
    ("0 open", &["0 resync 0", "1 resync 0", BEAT, TRADES, TICKER, ENTER]);
const SNAP_0: &[&str] = &["0 bid 1@100 u1 snapshot clear", "0 ask 2@101 u1 snapshot last"];
const SNAP_1: &[&str] = &["1 bid 1@100 u2 snapshot clear", "1 ask 2@101 u2 snapshot last"];

#[test]
fn a_book_is_its_snapshot_and_what_follows() {
    let session = check(&[
        OPEN,
        ("1 depth 0 0 b99=1", &[]), // before its snapshot
        ("2 snap 1 0 b100=1 a101=2", SNAP_0),
        ("3 snap 2 1 b100=1 a101=2", SNAP_1),
        ("4 depth 3 0 b99=1 a101=0", &["0 bid 1@99 u3", "0 ask 0@101 u3 last"]),
        ("5 depth 4 1 a105=5", &["1 ask 5@105 u4 last"]),
        ("6 depth 5 1", &[]),
        ("7 trade 6 1 77 100", &["1 trade 77 Sell 1@100"]),
        ("8 beat 7", &[]),
        // A snapshot is the truth even where nobody waits for one; it may be empty.
        ("9 snap 8 0", &["0 bid 0@0 u8 snapshot clear last"]),
        ("10 depth 9 0 b7=7", &["0 bid 7@7 u9 last"]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.depth_updates, counters.depth_stale), (5, 1));
    assert_eq!((counters.snapshots, counters.gaps), (3, 0));
    assert!(session.is_whole());
}

#[test]
fn one_missing_message_costs_every_book_of_the_connection() {
    check(&[
        OPEN,
        ("1 snap 1 0 b100=1 a101=2", SNAP_0),
        ("2 snap 2 1 b100=1 a101=2", SNAP_1),
        ("3 depth 3 0 b99=1", &["0 bid 1@99 u3 last"]),
        ("4 depth 4 1 b99=1", &["1 bid 1@99 u4 last"]),
        // A trade was lost, or a heartbeat: nobody knows. What tells of the hole is good itself.
        (
            "1000 trade 6 0 9 100",
            &[
                "0 gap sequence 5 6",
                "0 resync 1",
                "1 gap sequence 5 6",
                "1 resync 1",
                "0 trade 9 Sell 1@100",
                LEAVE,
                ENTER,
            ],
        ),
        ("1001 depth 7 0 b99=2", &[]), // until the new snapshot
        (
            "1002 frame {\"channel\":\"subscriptions\",\"timestamp\":\"\",\"sequence_num\":8,\"events\":[]}",
            &[],
        ),
        ("1003 snap 9 1 b7=7", &["1 bid 7@7 u9 snapshot clear last"]),
        ("1004 depth 10 1 b7=6", &["1 bid 6@7 u10 last"]),
        ("1005 depth 11 0 b99=3", &[]),
        ("1006 snap 12 0 b8=8", &["0 bid 8@8 u12 snapshot clear last"]),
    ]);
}

#[test]
fn a_snapshot_behind_the_hole_is_good() {
    check(&[
        OPEN,
        ("1 snap 1 0 b100=1 a101=2", SNAP_0),
        ("2 depth 2 0 b99=1", &["0 bid 1@99 u2 last"]),
        (
            "900 snap 9 1 b7=7",
            &[
                "0 gap sequence 3 9",
                "0 resync 1",
                "1 gap sequence 3 9",
                "1 resync 1",
                "1 bid 7@7 u9 snapshot clear last",
                LEAVE_0,
                ENTER_0,
            ],
        ),
    ]);
}

#[test]
fn what_comes_twice_or_late_is_dropped() {
    let session = check(&[
        ("1 snap 40 0 b100=1", &["0 bid 1@100 u40 snapshot clear last"]),
        ("2 depth 41 0 b99=1", &["0 bid 1@99 u41 last"]),
        ("3 depth 41 0 b99=2", &[]),
        ("4 trade 40 0 7 5", &[]),
        ("5 trade 42 0 7 5", &["0 trade 7 Sell 1@5"]),
        ("6 snap 12 0 b1=1", &[]),
        ("7 depth 43 0 b99=3", &["0 bid 3@99 u43 last"]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.depth_stale, counters.ignored, counters.gaps), (2, 1, 0));
}

#[test]
fn a_number_that_was_never_true_does_not_silence_the_connection() {
    let mut line = Line::new();
    line.feed("0 open");
    line.feed("1 snap 1 0 b100=1");
    let gap = line.feed("2 depth 99999999999 0 b99=1");
    assert_eq!(gap[0], "0 gap sequence 2 99999999999");
    let heard = (2..40).find(|n| !line.feed(&format!("{n}00 beat {n}")).is_empty());
    assert_eq!(heard, Some(17), "sixteen lower numbers in a row");
    assert_eq!(line.feed("4000 snap 18 0 b100=1"), ["0 bid 1@100 u18 snapshot clear last"]);
}

#[test]
fn books_are_asked_for_again_and_not_too_often() {
    check(&[
        OPEN,
        ("1 snap 1 0 b100=1 a101=2", SNAP_0),
        ("4999 beat 2", &[]),
        ("4999 time", &[]),
        ("5000 time", &[LEAVE_1, ENTER_1]), // its snapshot did not come
        ("5100 resync 0", &["0 gap crossed 0 0", "0 resync 3", LEAVE_0, ENTER_0]),
        ("5200 snap 3 0 b100=1", &["0 bid 1@100 u3 snapshot clear last"]),
        // Broken at once, twice: the second request waits for its pause.
        ("5300 resync 0", &["0 gap crossed 0 0", "0 resync 3"]),
        ("6099 time", &[]),
        ("6100 time", &[LEAVE_0, ENTER_0]),
        ("6101 resync ?", &["0 gap crossed 0 0", "0 resync 3", "1 gap crossed 0 0", "1 resync 3"]),
        ("9999 time", &[]),
        ("10000 time", &[LEAVE_1, ENTER_1]),
    ]);
}

#[test]
fn books_that_never_come_are_asked_for_ever_more_seldom() {
    let mut line = Line::new();
    line.feed("0 open");
    let mut asked = Vec::new();
    for tenth in 1..3_000_u64 {
        line.feed(&format!("{} beat {tenth}", tenth * 100));
        if !line.feed(&format!("{} time", tenth * 100)).is_empty() {
            asked.push(tenth * 100);
        }
    }
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(asked[0], 5_000);
    assert_eq!(pauses[..5], [5_000, 5_000, 5_000, 5_000, 8_000]);
    assert_eq!(pauses[5], 16_000);
    assert!(pauses[6..].iter().all(|&it| it == 32_000), "{pauses:?}");
}

#[test]
fn a_lost_connection_forgets_everything() {
    check(&[
        OPEN,
        ("1 snap 1 0 b100=1 a101=2", SNAP_0),
        ("2 close", &["0 gap disconnected 0 0", "1 gap disconnected 0 0"]),
        ("9000 time", &[]),
        ("9001 open", &[BEAT, TRADES, TICKER, ENTER]),
        ("9002 depth 0 0 b100=1", &[]), // counted anew
        ("9003 snap 1 0 b100=1 a101=2", SNAP_0),
    ]);
}

#[test]
fn a_refusal_is_told_in_the_venue_s_own_words() {
    let session = check(&[
        OPEN,
        (
            r#"1 frame {"type":"error","message":"failure to subscribe"}"#,
            &["65535 venue_error 0", "65535 said \"failure to subsc\"", "65535 said \"ribe\""],
        ),
        ("500 time", &[]),
        // What was refused may have been any of these; the book is asked for by itself.
        ("501 time", &[BEAT, TRADES, TICKER]),
        ("502 time", &[]),
        (r#"600 frame {"type":"error","message":""}"#, &["65535 venue_error 0"]),
        ("1599 time", &[]),
        ("1600 time", &[BEAT, TRADES, TICKER]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.error_replies, counters.malformed()), (2, 0));
    let long = format!(r#"1 frame {{"type":"error","message":"{}"}}"#, "x".repeat(5_000));
    assert_eq!(Line::new().feed(&long).len(), 1 + 10, "160 bytes of them");
}

#[test]
fn a_connection_without_a_sign_of_life_is_given_up() {
    check(&[
        OPEN,
        ("14999 alive", &[]),
        ("15000 snap 1 0 b100=1 a101=2", SNAP_0),
        ("15001 snap 2 1 b100=1 a101=2", SNAP_1),
        // No beat was heard yet.
        ("25000 time", &[]),
        ("25001 beat 3", &[]),
        ("30000 time", &[]),
        ("30001 time", &["reconnect Silent"]),
    ]);
    // A large book may be on its way: frames show only when they are whole.
    check(&[
        OPEN,
        ("1 beat 0", &[]),
        ("5001 time", &[LEAVE, ENTER]),
        ("15000 time", &[LEAVE, ENTER]),
        ("15001 time", &["reconnect Silent"]),
    ]);
}

#[test]
fn a_bad_book_update_costs_its_book_and_no_other() {
    let bad = |frame: &str| {
        let mut line = Line::new();
        line.feed("1 snap 0 0 b100=1");
        line.feed("1 depth 1 0 b100=2");
        line.feed("1 snap 2 1 b100=1");
        line.feed("1 depth 3 1 b100=2");
        let events = line.feed(&format!("1000 frame {frame}"));
        assert_eq!(line.session.counters().malformed(), 1);
        (events, line)
    };
    let lost = |i: u16, leave: &str, enter: &str| {
        let lines = [
            format!("{i} malformed 1000"),
            format!("{i} gap malformed 0 0"),
            format!("{i} resync 2"),
            leave.to_owned(),
            enter.to_owned(),
        ];
        lines.to_vec()
    };
    let level = |price: &str, qty: &str| book("update", &["0", &format!("b{price}={qty}")]);
    for event in [
        level("1", "-1"),
        level("0", "1"),
        level("1.5", "1"),
        level("1", "1").replace("bid", "bit"),
        level("1", "1").replace("48Z", "88Z"),
        level("1", "1").replace("update\"", "change\""),
        level("1", "1").replace("new_quantity", "q"),
    ] {
        let (events, mut line) = bad(&envelope("l2_data", "4", &event));
        assert_eq!(events, lost(0, LEAVE_0, ENTER_0), "{event}");
        assert_eq!(line.feed("1001 depth 5 1 b1=1"), ["1 bid 1@1 u5 last"], "no hole");
    }
    let (events, _) = bad(&envelope("l2_data", "4", &level("1", "-1").replace("AAA", "BBB")));
    assert_eq!(events, lost(1, LEAVE_1, ENTER_1));
    // Nobody knows whose it was: all of them are in doubt.
    let both = [
        "65535 malformed 1000",
        "0 gap malformed 0 0",
        "0 resync 2",
        "1 gap malformed 0 0",
        "1 resync 2",
        LEAVE,
        ENTER,
    ];
    assert_eq!(bad(&envelope("l2_data", "4", "{\"type\":\"update\"}")).0, both);
    assert_eq!(bad(&envelope("l2_data", "4", "7")).0, both);
    // What is no JSON has no number: the next message tells.
    let (events, mut line) = bad(r#"{"channel":"l2_data","timestamp":"#);
    assert_eq!(events, ["65535 malformed 1000"]);
    assert_eq!(line.feed("1001 beat 5")[0], "0 gap sequence 4 5");
    // A bad trade costs itself only.
    let (events, mut line) = bad(&envelope("market_trades", "4", "{\"type\":\"update\"}"));
    assert_eq!(events, ["65535 malformed 1000"]);
    assert_eq!(line.feed("1001 depth 5 1 b1=1"), ["1 bid 1@1 u5 last"]);
    // A bad frame behind a hole tells of the hole.
    let (events, _) = bad(&envelope("market_trades", "6", "7"));
    assert_eq!(events[1], "0 gap sequence 4 6");
}

#[test]
fn trades_of_a_message_are_told_in_the_order_in_which_they_happened() {
    // Each trade is instrument, id and hundredths of a second.
    let check = |trades: &[(usize, u64, u32)], want: &[(usize, u64)]| {
        let listed: Vec<String> = trades
            .iter()
            .map(|(i, id, at)| {
                let symbol = ["AAA-USD", "BBB-USD"][*i];
                format!(
                    r#"{{"product_id":"{symbol}","trade_id":"{id}","price":"5","size":"1","time":"2026-08-09T21:05:48.{at:02}Z","side":"BUY"}}"#
                )
            })
            .collect();
        let event = format!(r#"{{"type":"update","trades":[{}]}}"#, listed.join(","));
        let frame = envelope("market_trades", "0", &event);
        let events = Line::new().feed(&format!("1 frame {frame}"));
        let want: Vec<String> =
            want.iter().map(|(i, id)| format!("{i} trade {id} Sell 1@5")).collect();
        assert_eq!(events, want, "{trades:?}");
    };
    // The newest first, as the venue has them; the ids of two products say nothing of each other.
    check(&[(0, 9, 43), (0, 8, 37), (0, 7, 37)], &[(0, 7), (0, 8), (0, 9)]);
    check(&[(0, 9, 43), (0, 8, 43)], &[(0, 8), (0, 9)]);
    check(&[(1, 3, 43), (0, 9, 37)], &[(0, 9), (1, 3)]);
    // In order already.
    check(&[(0, 8, 37), (0, 9, 43)], &[(0, 8), (0, 9)]);
    check(&[(0, 9, 37), (1, 3, 37)], &[(0, 9), (1, 3)]);
    check(&[(0, 9, 37)], &[(0, 9)]);
}

#[test]
fn bad_frames_are_counted_by_their_fault() {
    let trade = |from: &str, to: &str| {
        let text = r#"{"type":"update","trades":[{"product_id":"AAA-USD","trade_id":"7","price":"5","size":"1","time":"2026-08-09T21:05:48Z","side":"BUY"}]}"#;
        let text = envelope("market_trades", "0", text);
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    };
    let quote = |bid: &str, bid_qty: &str, ask: &str, ask_qty: &str| {
        envelope(
            "ticker",
            "1",
            &format!(
                r#"{{"type":"update","tickers":[{{"product_id":"AAA-USD","best_bid":"{bid}","best_ask":"{ask}","best_bid_quantity":"{bid_qty}","best_ask_quantity":"{ask_qty}"}}]}}"#
            ),
        )
    };
    for (frame, fault) in [
        (String::new(), Fault::NotJson),
        ("{\"channel\":".into(), Fault::NotJson),
        ("[]".into(), Fault::Shape),
        ("{}".into(), Fault::Shape),
        ("7".into(), Fault::Shape),
        (r#"{"type":"error"}"#.into(), Fault::Shape),
        (r#"{"type":"something"}"#.into(), Fault::Shape),
        (r#"{"channel":"ticker"}"#.into(), Fault::Shape),
        (r#"{"channel":"ticker","sequence_num":"7"}"#.into(), Fault::Shape),
        (r#"{"channel":"ticker","sequence_num":-7}"#.into(), Fault::Number),
        (trade("\"5\"", "5"), Fault::Shape),
        (trade("\"7\"", "7"), Fault::Shape),
        (trade("\"7\"", "\"+7\""), Fault::Number),
        (trade("\"7\"", "\"99999999999999999999\""), Fault::Number),
        (trade("\"BUY\"", "\"buy\""), Fault::Shape),
        (trade("\"5\"", "\"NaN\""), Fault::Number),
        (trade("\"5\"", "\"1e3\""), Fault::Number),
        (trade("\"5\"", "\"\""), Fault::Number),
        (trade("\"5\"", "\"5.1\""), Fault::TooFine),
        (trade("\"5\"", "\"99999999999999999999\""), Fault::TooLarge),
        (trade("\"5\"", "\"0\""), Fault::NotPositive),
        (trade("\"1\"", "\"-1\""), Fault::NotPositive),
        (trade("2026-08-09T", "2026-08-32T"), Fault::Time),
        (trade("48.1Z", "48.1"), Fault::Time),
        (quote("5", "1", "5", "1"), Fault::CrossedQuote),
        (quote("4", "0", "5", "1"), Fault::NotPositive),
        (quote("4", "", "5", "1"), Fault::NotPositive),
        (quote("4", "1", "5", "-1"), Fault::NotPositive),
    ] {
        let mut line = Line::new();
        let events = line.feed(&format!("9 frame {frame}"));
        assert_eq!(events, ["65535 malformed 9"], "{frame}");
        let counters = line.session.counters();
        assert_eq!(counters.fault(fault), 1, "{frame}: {:?}", counters.faults);
        assert_eq!(counters.malformed(), 1);
    }
    let empty = quote("", "", "5", "1");
    assert_eq!(Line::new().feed(&format!("9 frame {empty}")), ["0 quote 0@0 1@5"]);
}

#[test]
fn five_bad_frames_in_ten_seconds_want_a_new_connection() {
    let mut line = Line::new();
    let mut bad = |ms: u64| {
        let events = line.feed(&format!("{ms} frame x"));
        events.contains(&"reconnect Malformed".to_owned())
    };
    assert_eq!(
        [1_000, 2_000, 3_000, 4_000, 11_001, 12_000].map(&mut bad),
        [false, false, false, false, false, true]
    );
}

#[test]
fn other_instruments_and_other_channels_are_counted() {
    let session = check(&[
        ("1 trade 1 2 7 5", &[]),
        ("2 depth 2 2 b1=1", &[]),
        (r#"3 frame {"channel":"status","sequence_num":3,"events":[]}"#, &[]),
        (r#"4 frame {"channel":"something new","sequence_num":4}"#, &[]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.unknown_symbols, counters.ignored), (2, 2));
    assert_eq!((counters.malformed(), counters.gaps), (0, 0));
}

#[test]
fn what_no_connection_can_serve_is_refused() {
    let refused = |symbols: &[&str], venue: u8, ids: Option<&[InstrumentId]>| {
        let (table, all) = table(symbols);
        let ids = ids.unwrap_or(&all);
        CoinbaseMarket::new(&table, VenueId(venue), ids, Options::default()).err()
    };
    assert_eq!(refused(&["A-USD"], 0, None), None);
    assert_eq!(refused(&["A-USD"], 0, Some(&[])), Some(SetupError::NoInstruments));
    let foreign = |id| Some(SetupError::ForeignInstrument { id });
    assert_eq!(refused(&["A-USD"], 1, None), foreign(InstrumentId(0)));
    assert_eq!(refused(&["A-USD"], 0, Some(&[InstrumentId(7)])), foreign(InstrumentId(7)));
    let found = SetupError::TooManyStreams { found: 21, limit: 20 };
    assert_eq!(refused(&["A-USD"], 0, Some(&[InstrumentId(0); 21])), Some(found));
    // The venue sends both under the name of the first.
    let same = SetupError::SameName { id: InstrumentId(1), other: InstrumentId(0) };
    assert_eq!(refused(&["A-USD", "A-USDC"], 0, None), Some(same));
    let (table, ids) = table(&["A-USDC"]);
    let session = CoinbaseMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    assert_eq!(session.instrument("A-USD"), Some(ids[0]));
    assert_eq!(session.instrument("A-USDC"), Some(ids[0]));
    assert_eq!(session.instrument("A-EUR"), None);
    assert_eq!(session.dial(), Dial::Path("".into()));
}
