//! The life of a session in lines of data: what comes in, what goes out.

use kairos_logic::book::DEPTH_MIN;
use kairos_logic::units::{InstrumentId, Nanos, VenueId};

use crate::binance::{BinanceMarket, Options, TradeStream};
use crate::session::{Arrival, Fault, MarketSession, Outbox, Reconnect};
use crate::testing::{drive, levels, table};
use crate::venue::SetupError;

/// A session with its outbox; prices and quantities have no decimals here.
struct Line {
    session: BinanceMarket,
    out: Outbox,
}

impl Line {
    fn new() -> Self {
        let (mut table, ids) = table(&["AAAUSDT", "BBBUSDT", "CCCUSDT"]);
        for it in &mut table.instruments {
            (it.price_scale, it.qty_scale) = (0, 0);
        }
        let session = BinanceMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
        let out = Outbox::new();
        Self { session, out }
    }

    /// One input as [`drive`] knows them, or `depth I U u levels…` and `snap I|? id levels…` with
    /// levels as `b100=1` and `a101=2`.
    fn feed(&mut self, input: &str) -> Vec<String> {
        let fields: Vec<_> = input.split(' ').collect();
        let text = match fields[..] {
            [ms, "depth", of, first, last, ref rest @ ..] => {
                let (symbol, (bids, asks)) = (symbol(of), levels(rest, ""));
                format!(
                    r#"{ms} frame {{"e":"depthUpdate","E":5,"s":"{symbol}","U":{first},"u":{last},"b":[{bids}],"a":[{asks}]}}"#
                )
            }
            [ms, "snap", of, id, ref rest @ ..] => {
                let (bids, asks) = levels(rest, "");
                let body = format!(r#"{{"lastUpdateId":{id},"bids":[{bids}],"asks":[{asks}]}}"#);
                format!("{ms} snapshot {of} {body}")
            }
            _ => input.to_owned(),
        };
        drive(&mut self.session, &mut self.out, &text)
    }
}

fn symbol(field: &str) -> &'static str {
    ["AAAUSDT", "BBBUSDT", "CCCUSDT", "ZZZUSDT"][field.parse::<usize>().unwrap()]
}

/// Each input with what it leads to.
fn check(steps: &[(&str, &[&str])]) -> BinanceMarket {
    let mut line = Line::new();
    for (input, want) in steps {
        assert_eq!(&line.feed(input), want, "{input}");
    }
    line.session
}

const ASK_0: &str = "ask /api/v3/depth?symbol=AAAUSDT&limit=1000";
const ASK_1: &str = "ask /api/v3/depth?symbol=BBBUSDT&limit=1000";
const ASK_2: &str = "ask /api/v3/depth?symbol=CCCUSDT&limit=1000";

#[test]
fn what_arrives_before_the_snapshot_waits_for_it() {
    let session = check(&[
        ("0 open", &[]),
        ("1 depth 0 3 4 b99=9", &["0 resync 0", ASK_0]),
        ("2 depth 0 5 7 b98=1 a101=0", &[]),
        ("3 depth 0 8 8 a103=3", &[]),
        (
            "4 snap 0 5 b100=1 a101=2",
            &[
                "0 bid 1@100 u5 snapshot clear",
                "0 ask 2@101 u5 snapshot last",
                "0 bid 1@98 u7",
                "0 ask 0@101 u7 last",
                "0 ask 3@103 u8 last",
            ],
        ),
        ("5 depth 0 9 9 b100=0", &["0 bid 0@100 u9 last"]),
        ("6 depth 0 7 9 b55=5", &[]),
        ("7 depth 0 9 11 b97=1", &["0 bid 1@97 u11 last"]),
        ("8 depth 0 12 13", &[]),
        ("9 depth 0 14 14 a104=1", &["0 ask 1@104 u14 last"]),
        ("10 snap 0 20 b1=1", &[]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.depth_stale, counters.gaps), (2, 0));
    assert_eq!((counters.snapshots, counters.snapshots_refused), (1, 1));
}

#[test]
fn a_hole_in_the_update_ids_costs_the_book() {
    check(&[
        ("1 depth 0 3 4 b99=9", &["0 resync 0", ASK_0]),
        ("2 snap 0 4 b100=1", &["0 bid 1@100 u4 snapshot clear last"]),
        ("900 depth 0 6 6 b98=1", &["0 gap sequence 5 6", "0 resync 1", ASK_0]),
        ("901 depth 0 7 7 b98=2", &[]),
        // Updates are missing again, while the book waits: what came before is useless.
        ("902 depth 0 9 9 b98=3", &["0 gap sequence 8 9", "0 resync 1"]),
        ("1500 snap 0 7 b100=1", &["0 gap snapshot_too_old 8 7", "0 resync 7", ASK_0]),
        ("1600 snap 0 8 a100=1", &["0 ask 1@100 u8 snapshot clear last", "0 bid 3@98 u9 last"]),
    ]);
}

#[test]
fn a_book_that_crosses_is_rebuilt() {
    check(&[
        (
            "1 snap 0 4 b100=1 a101=1",
            &["0 bid 1@100 u4 snapshot clear", "0 ask 1@101 u4 snapshot last"],
        ),
        // Crossed in between, not at the end.
        ("2 depth 0 5 5 b101=1 a101=0", &["0 bid 1@101 u5", "0 ask 0@101 u5 last"]),
        (
            "3 depth 0 6 6 a101=1",
            &["0 ask 1@101 u6 last", "0 gap crossed 0 0", "0 resync 3", ASK_0],
        ),
        ("4 depth 0 7 7 b101=0", &[]),
        (
            "900 snap 0 6 b101=1 a101=1",
            &[
                "0 bid 1@101 u6 snapshot clear",
                "0 ask 1@101 u6 snapshot last",
                "0 bid 0@101 u7 last",
                "0 gap crossed 0 0",
                "0 resync 3",
            ],
        ),
        ("1002 depth 0 7 7 b1=1", &[]),
        ("1003 depth 0 8 8 b1=1", &[ASK_0]),
    ]);
}

#[test]
fn a_book_that_runs_out_of_known_levels_is_rebuilt() {
    let (mut table, ids) = table(&["AAAUSDT"]);
    (table.instruments[0].price_scale, table.instruments[0].qty_scale) = (0, 0);
    let options = Options { book_depth: DEPTH_MIN, ..Options::default() };
    let session = BinanceMarket::new(&table, VenueId(0), &ids, options).unwrap();
    let mut line = Line { session, out: Outbox::new() };
    let levels: Vec<_> = (100..150).map(|price| format!("b{price}=1")).collect();
    let events = line.feed(&format!("1 snap 0 4 {}", levels.join(" ")));
    assert_eq!(events.len(), 50);
    // 40 are known, the best down to 110; the best 20 of them go, then one more.
    let gone: Vec<_> = (130..150).map(|price| format!("b{price}=0")).collect();
    let events = line.feed(&format!("2 depth 0 5 5 {}", gone.join(" ")));
    assert_eq!(events.len(), 20);
    let events = line.feed("3 depth 0 6 6 b129=0");
    assert_eq!(events, ["0 bid 0@129 u6 last", "0 gap shallow 0 0", "0 resync 6", ASK_0]);
}

#[test]
fn an_empty_snapshot_is_one_event() {
    check(&[("1 snap 0 7", &["0 bid 0@0 u7 snapshot clear last"])]);
}

#[test]
fn a_snapshot_without_a_name_goes_where_its_ids_fit() {
    check(&[
        ("1 depth 0 1000 1004 b99=9", &["0 resync 0", ASK_0]),
        ("2 depth 1 5000 5004 b99=9", &["1 resync 0", ASK_1]),
        ("3 snap ? 5003 b7=7", &["1 bid 7@7 u5003 snapshot clear last", "1 bid 9@99 u5004 last"]),
        ("4 snap ? 1004 b7=7", &["0 bid 7@7 u1004 snapshot clear last"]),
        // Only the third waits, and has no updates that could fit or not.
        ("5 snap ? 9 b7=7", &["2 bid 7@7 u9 snapshot clear last"]),
        ("6 snap ? 10 b7=7", &[]),
    ]);
}

#[test]
fn snapshots_are_asked_for_again_and_not_too_often() {
    check(&[
        ("0 open", &[]),
        ("10 depth 0 3 4 b99=9", &["0 resync 0", ASK_0]),
        ("20 depth 0 5 5 b99=9", &[]),
        ("900 time", &[]),
        // Quiet books have no first update that would ask for them.
        ("1000 time", &[ASK_1, ASK_2]),
        ("5009 time", &[]),
        ("5010 time", &[ASK_0]),
        ("5100 failed 0", &[]),
        ("5110 depth 0 6 6 b99=9", &[]),
        ("5599 time", &[]),
        ("5600 time", &[ASK_0]),
    ]);
}

#[test]
fn a_recorded_reply_goes_to_the_book_of_its_request_and_to_no_other() {
    let body = r#"{"lastUpdateId":4,"bids":[],"asks":[]}"#;
    let mut line = Line::new();
    let mut rest = |target: &str| line.feed(&format!("1 rest {target} {body}"));
    assert!(rest("/api/v3/depth?symbol=ZZZUSDT&limit=5").is_empty(), "not ours");
    assert!(rest("/api/v3/exchangeInfo").is_empty());
    assert!(rest("/api/v3/trades?symbol=AAAUSDT").is_empty());
    let event = "1 bid 0@0 u4 snapshot clear last";
    assert_eq!(rest("https://api.example/api/v3/depth?limit=5&symbol=BBBUSDT"), [event]);
    let counters = line.session.counters();
    assert_eq!((counters.unknown_symbols, counters.ignored), (1, 2));
    assert_eq!(counters.malformed(), 0);
}

#[test]
fn answers_of_no_use_make_the_pause_longer() {
    let mut line = Line::new();
    line.feed("0 depth 0 1000 1000 b1=1");
    let mut asked = Vec::new();
    for tenth in 1..2_000_u64 {
        let (ms, id) = (tenth * 100, 1_000 + tenth);
        if line.feed(&format!("{ms} depth 0 {id} {id} b1=1")) == [ASK_0] {
            asked.push(ms);
            line.feed(&format!("{ms} failed 0"));
        }
    }
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(asked[0], 5_000, "no answer to the first");
    assert_eq!(
        pauses,
        [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000, 32_000, 32_000, 32_000]
    );
}

#[test]
fn many_books_are_asked_for_within_what_a_minute_allows() {
    let symbols: Vec<_> = (0..250).map(|n| format!("C{n}USDT")).collect();
    let symbols: Vec<_> = symbols.iter().map(String::as_str).collect();
    let (table, ids) = table(&symbols);
    let mut session = BinanceMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let mut out = Outbox::new();
    session.on_open(Nanos(0), &mut out, &mut |_| {});
    let mut asked = |seconds: u64| {
        session.on_time(Nanos(seconds * 1_000_000_000), &mut out, &mut |_| {});
        for request in out.snapshots() {
            let body = br#"{"lastUpdateId":4,"bids":[],"asks":[]}"#;
            let (arrival, id) = (Arrival::default(), Some(request.instrument));
            session.on_snapshot(arrival, id, body, &mut Outbox::new(), &mut |_| {});
        }
        let count = out.snapshots().len();
        out.clear();
        count
    };
    let counts = [61, 62, 120, 121, 181, 300].map(&mut asked);
    assert_eq!(counts, [100, 0, 0, 100, 50, 0]);
}

#[test]
fn a_lost_connection_forgets_everything() {
    check(&[
        ("1 depth 0 3 4 b99=9", &["0 resync 0", ASK_0]),
        ("2 snap 0 4 b100=1", &["0 bid 1@100 u4 snapshot clear last"]),
        (
            "3 close",
            &["0 gap disconnected 0 0", "1 gap disconnected 0 0", "2 gap disconnected 0 0"],
        ),
        ("4 time", &[]),
        ("2000 open", &[]),
        ("2001 depth 0 5 5 b98=1", &[ASK_0]),
        ("2002 snap 0 5 b100=1", &["0 bid 1@100 u5 snapshot clear last"]),
    ]);
}

#[test]
fn what_the_caller_dropped_is_rebuilt() {
    check(&[
        ("1 snap 0 4 b100=1", &["0 bid 1@100 u4 snapshot clear last"]),
        ("2 resync 0", &["0 gap dropped 0 0", "0 resync 4", ASK_0]),
        ("3 depth 0 5 5 b98=1", &[]),
        (
            "700 resync ?",
            &[
                "0 gap dropped 0 0",
                "0 resync 4",
                "1 gap dropped 0 0",
                "1 resync 4",
                "2 gap dropped 0 0",
                "2 resync 4",
                ASK_0,
                ASK_1,
                ASK_2,
            ],
        ),
    ]);
}

#[test]
fn a_bad_book_update_costs_its_book_and_no_other() {
    let bad = |frame: &str| {
        let mut line = Line::new();
        line.feed("1 snap 0 4 b100=1");
        line.feed("1 snap 1 4 b100=1");
        line.feed(&format!("1000 frame {frame}"))
    };
    let lost = |i: u16, ask: &str| {
        [
            format!("{i} malformed 1000"),
            format!("{i} gap malformed 0 0"),
            format!("{i} resync 2"),
            ask.to_owned(),
        ]
    };
    for frame in [
        // Cut off, by the name of the stream and by the symbol.
        r#"{"stream":"aaausdt@depth@100ms","data":{"e":"depthUpd"#,
        r#"{"e":"depthUpdate","E":5,"s":"AAAUSDT","U":5,"u":5,"b":[["1","#,
        // A negative, a zero and a too fine number; ids reversed; no time.
        r#"{"e":"depthUpdate","E":5,"s":"AAAUSDT","U":5,"u":5,"b":[["1","-1"]],"a":[]}"#,
        r#"{"e":"depthUpdate","E":5,"s":"AAAUSDT","U":5,"u":5,"b":[["0","1"]],"a":[]}"#,
        r#"{"e":"depthUpdate","E":5,"s":"AAAUSDT","U":5,"u":5,"b":[["1.5","1"]],"a":[]}"#,
        r#"{"e":"depthUpdate","E":5,"s":"AAAUSDT","U":6,"u":5,"b":[],"a":[]}"#,
        r#"{"e":"depthUpdate","s":"AAAUSDT","U":5,"u":5,"b":[],"a":[]}"#,
    ] {
        assert_eq!(bad(frame), lost(0, ASK_0), "{frame}");
    }
    let frame = r#"{"stream":"bbbusdt@depth@100ms","data":{}}"#;
    assert_eq!(bad(frame), lost(1, ASK_1));
    // Nobody knows whose it was: the hole in the update ids will tell.
    let frame = r#"{"e":"depthUpdate","#;
    assert_eq!(bad(frame), ["65535 malformed 1000"]);
}

#[test]
fn bad_frames_are_counted_by_their_fault() {
    let trade = |p: &str, q: &str, t: &str| {
        format!(
            r#"{{"e":"trade","E":1,"s":"AAAUSDT","t":7,"p":{p},"q":{q},"T":{t},"m":true,"M":true}}"#
        )
    };
    let quote = |b: &str, bq: &str, a: &str, aq: &str| {
        format!(r#"{{"u":4,"s":"AAAUSDT","b":"{b}","B":"{bq}","a":"{a}","A":"{aq}"}}"#)
    };
    for (frame, fault) in [
        (String::new(), Fault::NotJson),
        ("{\"e\":\"trade\"".into(), Fault::NotJson),
        ("{\"e\":\"tr\u{fffd}".into(), Fault::NotJson),
        ("[]".into(), Fault::Shape),
        ("{}".into(), Fault::Shape),
        ("7".into(), Fault::Shape),
        ("{\"e\":\"trade\"}".into(), Fault::Shape),
        ("{\"e\":7}".into(), Fault::Shape),
        ("{\"stream\":\"x\"}".into(), Fault::Shape),
        (trade("5", "\"1\"", "1"), Fault::Shape),
        (trade("\"5\"", "\"1\",\"q\":\"2\"", "1"), Fault::Shape),
        (trade("\"NaN\"", "\"1\"", "1"), Fault::Number),
        (trade("\"1e3\"", "\"1\"", "1"), Fault::Number),
        (trade("\"\"", "\"1\"", "1"), Fault::Number),
        (trade("\"5\"", "\"1\"", "-1"), Fault::Number),
        (trade("\"5.1\"", "\"1\"", "1"), Fault::TooFine),
        (trade("\"5\"", "\"99999999999999999999\"", "1"), Fault::TooLarge),
        (trade("\"5\"", "\"1\"", "123456789012345"), Fault::Time),
        (trade("\"0\"", "\"1\"", "1"), Fault::NotPositive),
        (trade("\"-5\"", "\"1\"", "1"), Fault::NotPositive),
        (trade("\"5\"", "\"0\"", "1"), Fault::NotPositive),
        (trade("\"5\"", "\"-1\"", "1"), Fault::NotPositive),
        (quote("5", "1", "5", "1"), Fault::CrossedQuote),
        (quote("6", "1", "5", "1"), Fault::CrossedQuote),
        (quote("4", "0", "5", "1"), Fault::NotPositive),
        (quote("0", "1", "5", "1"), Fault::NotPositive),
        (quote("4", "1", "5", "-1"), Fault::NotPositive),
    ] {
        let mut line = Line::new();
        let events = line.feed(&format!("9 frame {frame}"));
        assert_eq!(events, ["65535 malformed 9"], "{frame}");
        let counters = line.session.counters();
        assert_eq!(counters.fault(fault), 1, "{frame}: {:?}", counters.faults);
        assert_eq!(counters.malformed(), 1);
    }
}

#[test]
fn a_side_without_orders_is_a_quote_of_zero() {
    check(&[(
        r#"1 frame {"u":4,"s":"AAAUSDT","b":"0.00","B":"0.00","a":"5.0","A":"1"}"#,
        &["0 quote 0@0 1@5"],
    )]);
}

#[test]
fn five_bad_frames_in_ten_seconds_want_a_new_connection() {
    const BAD: &[&str] = &["65535 malformed 0"];
    let mut line = Line::new();
    let mut bad = |ms: u64, frame: &str| {
        let events = line.feed(&format!("{ms} frame {frame}"));
        assert_eq!(events[0], BAD[0].replace('0', &ms.to_string()));
        events.len() > 1
    };
    for ms in [1_000, 2_000, 3_000, 4_000] {
        assert!(!bad(ms, "x"));
    }
    // Values that make no sense say nothing against the connection.
    let zero = r#"{"e":"trade","E":1,"s":"AAAUSDT","t":7,"p":"0","q":"1","T":1,"m":true,"M":true}"#;
    assert!(!bad(4_500, zero));
    assert!(!bad(11_001, "x"), "five in 10.001 s");
    assert!(bad(12_000, "x"), "five in 10 s");
    assert!(!bad(12_001, "x"), "counted anew");
}

#[test]
fn known_messages_that_are_not_needed_are_counted() {
    let session = check(&[
        (r#"1 frame {"result":null,"id":1}"#, &[]),
        (
            r#"2 frame {"error":{"code":2,"msg":"Invalid request"},"id":1}"#,
            &["65535 venue_error 2", "65535 said \"Invalid request\""],
        ),
        (
            r#"3 frame {"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}"#,
            &["reconnect VenueShutdown"],
        ),
        (r#"4 frame {"event":{"e":"serverShutdown","E":1}}"#, &["reconnect VenueShutdown"]),
        (r#"5 frame {"e":"kline","s":"AAAUSDT","k":{}}"#, &[]),
        (r#"6 frame {"lastUpdateId":1,"bids":[],"asks":[]}"#, &[]),
        (r#"7 frame {"e":"something new","s":"AAAUSDT"}"#, &[]),
        ("8 depth 3 1 1 b1=1", &[]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.ignored, counters.error_replies), (7, 1));
    assert_eq!((counters.unknown_symbols, counters.malformed()), (1, 0));
}

#[test]
fn what_the_venue_refuses_is_told_in_its_own_words() {
    let mut line = Line::new();
    let mut said = |input: &str, want: &[&str]| assert_eq!(line.feed(input), want, "{input}");
    said(r#"1 frame {"error":{"code":3},"id":null}"#, &["65535 venue_error 3"]);
    said(r#"2 frame {"code":-1,"msg":7}"#, &["65535 venue_error -1"]);
    said(r#"3 frame {"error":"no"}"#, &["65535 malformed 3"]);
    // A snapshot that is refused with HTTP status 200 is asked for again, after a pause.
    said("10 depth 0 3 4 b99=9", &["0 resync 0", ASK_0]);
    said(
        r#"20 snapshot 0 {"code":-1121,"msg":"Invalid symbol."}"#,
        &["0 venue_error -1121", "0 said \"Invalid symbol.\""],
    );
    said("519 depth 0 5 5 b99=9", &[]);
    said("520 depth 0 6 6 b99=9", &[ASK_0]);
    said(
        r#"530 snapshot ? {"code":-1003,"msg":"Way too many requests."}"#,
        &["65535 venue_error -1003", "65535 said \"Way too many req\"", "65535 said \"uests.\""],
    );
    let counters = line.session.counters();
    assert_eq!((counters.error_replies, counters.malformed()), (4, 1));
}

#[test]
fn a_connection_is_replaced_before_the_venue_closes_it() {
    check(&[
        ("0 open", &[]),
        ("1 snap 0 4", &["0 bid 0@0 u4 snapshot clear last"]),
        ("1 snap 1 4", &["1 bid 0@0 u4 snapshot clear last"]),
        ("1 snap 2 4", &["2 bid 0@0 u4 snapshot clear last"]),
        ("85799998 alive", &[]),
        ("85799999 time", &[]),
        ("85800000 time", &["reconnect Age"]),
    ]);
}

#[test]
fn a_connection_that_gives_no_sign_of_life_is_given_up() {
    check(&[
        ("0 open", &[]),
        ("1 snap 0 4", &["0 bid 0@0 u4 snapshot clear last"]),
        ("1 snap 1 4", &["1 bid 0@0 u4 snapshot clear last"]),
        ("1 snap 2 4", &["2 bid 0@0 u4 snapshot clear last"]),
        ("20000 alive", &[]),
        ("64999 time", &[]),
        ("65000 time", &["reconnect Silent"]),
    ]);
}

#[test]
fn a_waiting_book_keeps_what_its_room_allows_and_never_lies() {
    let mut line = Line::new();
    for n in 0..1_500 {
        line.feed(&format!("{} depth 0 {n} {n} b100={n}", n * 100));
    }
    // The first 1 024 fell away when the room ended: a snapshot from among them is too old.
    let late = line.feed("150000 snap 0 1000 b1=1");
    assert_eq!(late[0], "0 gap snapshot_too_old 1023 1000");
    let events = line.feed("151000 snap 0 1023 b1=1");
    assert_eq!(events.len(), 1 + 1_500 - 1_024);
    assert_eq!(events.last().unwrap(), "0 bid 1499@100 u1499 last");
    assert_eq!(line.session.counters().gaps, 1);
}

#[test]
fn the_largest_snapshot_passes_whole() {
    let mut line = Line::new();
    // Bids end at 5000, asks begin at 9000: the book behind keeps the best 4096 of each.
    let side = |mark: char, from: u32| {
        let levels = (from..from + 5_000).map(|price| format!("{mark}{price}=1"));
        levels.collect::<Vec<_>>().join(" ")
    };
    let events = line.feed(&format!("1 snap 0 7 {} {}", side('b', 1), side('a', 9_000)));
    assert_eq!(events.len(), 10_000);
    assert_eq!(events[0], "0 bid 1@1 u7 snapshot clear");
    assert_eq!(events[9_999], "0 ask 1@13999 u7 snapshot last");
    assert_eq!(line.feed("2 depth 0 8 8 b5000=0"), ["0 bid 0@5000 u8 last"]);
}

#[test]
fn streams_are_named_in_the_address_or_in_a_message() {
    let (table, ids) = table(&["AAAUSDT", "BBBUSDT"]);
    let made = |by_message: bool, trades| {
        let options = Options { subscribe_by_message: by_message, trades, ..Options::default() };
        BinanceMarket::new(&table, VenueId(0), &ids[..1], options).unwrap()
    };
    let mut session = made(false, TradeStream::AggTrade);
    assert_eq!(
        session.stream_path(),
        "/stream?streams=aaausdt@aggTrade/aaausdt@bookTicker/aaausdt@depth@100ms"
    );
    let mut out = Outbox::new();
    session.on_open(Nanos(0), &mut out, &mut |_| {});
    assert!(out.is_empty());
    let mut session = made(true, TradeStream::Trade);
    assert_eq!(session.stream_path(), "/stream");
    session.on_open(Nanos(0), &mut out, &mut |_| {});
    let texts: Vec<_> = out.texts().collect();
    assert_eq!(
        texts,
        [
            r#"{"method":"SUBSCRIBE","params":["aaausdt@trade","aaausdt@bookTicker","aaausdt@depth@100ms"],"id":1}"#
        ]
    );
    assert_eq!(out.wants_reconnect(), None::<Reconnect>);
}

#[test]
fn what_no_connection_can_serve_is_refused() {
    let (table, ids) = table(&["AAAUSDT"]);
    let refused = |venue: u8, ids: &[InstrumentId]| {
        BinanceMarket::new(&table, VenueId(venue), ids, Options::default()).err()
    };
    assert_eq!(refused(0, &[]), Some(SetupError::NoInstruments));
    let foreign = |id| Some(SetupError::ForeignInstrument { id });
    assert_eq!(refused(1, &ids), foreign(ids[0]));
    assert_eq!(refused(0, &[InstrumentId(7)]), foreign(InstrumentId(7)));
    let found = SetupError::TooManyStreams { found: 1_026, limit: 1_024 };
    assert_eq!(refused(0, &[ids[0]; 342]), Some(found));
}
