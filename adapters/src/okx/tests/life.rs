//! The life of a session in lines of data: what comes in, what goes out.

use kairos_logic::units::{InstrumentId, VenueId};

use crate::okx::instruments::{parse_list, split_symbol};
use crate::okx::{OkxMarket, Options, QuoteChannel};
use crate::session::{Dial, Fault, MarketSession, Outbox};
use crate::testing::{drive, levels, table_of};
use crate::venue::SetupError;

/// A session with its outbox; prices and quantities have no decimals here.
struct Line {
    session: OkxMarket,
    out: Outbox,
}

impl Line {
    fn new() -> Self {
        let (mut table, ids) = table_of("okx", &["A-USDT", "B-USDT"], split_symbol);
        for it in &mut table.instruments {
            (it.price_scale, it.qty_scale) = (0, 0);
        }
        let session = OkxMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
        Self { session, out: Outbox::new() }
    }

    /// One input as [`drive`] knows them, or `whole I seqId levels…`, `depth I prevSeqId seqId
    /// levels…`, `sum I whole|depth checksum levels…` and `snap I|? seqId levels…`, with levels as
    /// `b100=1` and `a101=2`.
    fn feed(&mut self, input: &str) -> Vec<String> {
        let fields: Vec<_> = input.split(' ').collect();
        let message = |ms: &str, of: &str, action: &str, end: &str, rest: &[&str]| {
            let (symbol, (bids, asks)) = (symbol(of), levels(rest, r#","0","1""#));
            format!(
                r#"{ms} frame {{"arg":{{"channel":"books","instId":"{symbol}"}},"action":"{action}","data":[{{"asks":[{asks}],"bids":[{bids}],"ts":"5",{end}}}]}}"#
            )
        };
        let text = match fields[..] {
            [ms, "whole", of, seq, ref rest @ ..] => {
                let end = format!(r#""checksum":0,"seqId":{seq},"prevSeqId":-1"#);
                message(ms, of, "snapshot", &end, rest)
            }
            [ms, "depth", of, prev, seq, ref rest @ ..] => {
                let end = format!(r#""checksum":0,"seqId":{seq},"prevSeqId":{prev}"#);
                message(ms, of, "update", &end, rest)
            }
            [ms, "sum", of, kind, checksum, ref rest @ ..] => {
                let action = if kind == "whole" { "snapshot" } else { "update" };
                message(ms, of, action, &format!(r#""checksum":{checksum}"#), rest)
            }
            [ms, "snap", of, seq, ref rest @ ..] => {
                let (bids, asks) = levels(rest, r#","0","1""#);
                format!(
                    r#"{ms} snapshot {of} {{"code":"0","msg":"","data":[{{"asks":[{asks}],"bids":[{bids}],"ts":"5","seqId":{seq}}}]}}"#
                )
            }
            _ => input.to_owned(),
        };
        drive(&mut self.session, &mut self.out, &text)
    }
}

fn symbol(field: &str) -> &'static str {
    ["A-USDT", "B-USDT", "Z-USDT"][field.parse::<usize>().unwrap()]
}

/// Each input with what it leads to.
fn check(steps: &[(&str, &[&str])]) -> OkxMarket {
    let mut line = Line::new();
    for (input, want) in steps {
        assert_eq!(&line.feed(input), want, "{input}");
    }
    line.session
}

const OPEN: &str = r#"send {"op":"subscribe","args":[{"channel":"trades","instId":"A-USDT"},{"channel":"bbo-tbt","instId":"A-USDT"},{"channel":"books","instId":"A-USDT"},{"channel":"trades","instId":"B-USDT"},{"channel":"bbo-tbt","instId":"B-USDT"},{"channel":"books","instId":"B-USDT"}]}"#;
const OFF_A: &str = r#"send {"op":"unsubscribe","args":[{"channel":"books","instId":"A-USDT"}]}"#;
const ON_A: &str = r#"send {"op":"subscribe","args":[{"channel":"books","instId":"A-USDT"}]}"#;
const OFF_B: &str = r#"send {"op":"unsubscribe","args":[{"channel":"books","instId":"B-USDT"}]}"#;
const ON_B: &str = r#"send {"op":"subscribe","args":[{"channel":"books","instId":"B-USDT"}]}"#;
const OFF: &str = r#"send {"op":"unsubscribe","args":[{"channel":"books","instId":"A-USDT"},{"channel":"books","instId":"B-USDT"}]}"#;
const ON: &str = r#"send {"op":"subscribe","args":[{"channel":"books","instId":"A-USDT"},{"channel":"books","instId":"B-USDT"}]}"#;
const ASK_A: &str = "ask /api/v5/market/books?instId=A-USDT&sz=400";

#[test]
fn a_book_is_its_snapshot_and_what_follows_on_it() {
    let session = check(&[
        ("0 open", &[OPEN]),
        (
            "1 whole 0 10 b100=1 a101=2",
            &["0 ask 2@101 u10 snapshot clear", "0 bid 1@100 u10 snapshot last"],
        ),
        // Ids may jump.
        ("2 depth 0 10 44 b99=3", &["0 bid 3@99 u44 last"]),
        // A sign of life; the same update twice; the venue counts anew.
        ("3 depth 0 44 44", &[]),
        ("4 depth 0 10 44 b99=3", &[]),
        ("5 depth 0 44 3 b99=0", &["0 bid 0@99 u3 last"]),
        ("6 depth 0 3 5 a101=0", &["0 ask 0@101 u5 last"]),
        ("7 whole 1 7", &["1 bid 0@0 u7 snapshot clear last"]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.depth_updates, counters.depth_stale, counters.gaps), (5, 1, 0));
    assert_eq!((counters.snapshots, counters.snapshot_requests), (2, 0));
    assert!(session.is_whole());
}

#[test]
fn whatever_does_not_follow_costs_the_book() {
    let gap = |depth: &str, found: u64| {
        let gap = format!("0 gap sequence 44 {found}");
        check(&[
            ("0 open", &[OPEN]),
            ("1 whole 1 7", &["1 bid 0@0 u7 snapshot clear last"]),
            ("1 whole 0 10 b100=1", &["0 bid 1@100 u10 snapshot clear last"]),
            ("2 depth 0 10 44 b99=3", &["0 bid 3@99 u44 last"]),
            (&format!("6000 depth 0 {depth}"), &[&gap, "0 resync 1", OFF_A, ON_A]),
            ("6100 whole 0 60 b98=1", &["0 bid 1@98 u60 snapshot clear last"]),
            ("6101 depth 0 60 61 b97=1", &["0 bid 1@97 u61 last"]),
        ]);
    };
    gap("45 46 b1=1", 45); // one is missing
    gap("43 45 b1=1", 43); // overlaps
    gap("10 43 b1=1", 10); // another update in place of a known one
    gap("9 10 b1=1", 9); // from before the last
    gap("50 2 b1=1", 50); // counted anew, and not from here
    gap("50 50", 50); // a sign of life of another book
}

#[test]
fn a_snapshot_that_does_not_come_is_asked_for() {
    check(&[
        ("0 open", &[OPEN]),
        ("10 whole 1 7", &["1 bid 0@0 u7 snapshot clear last"]),
        // Updates without a snapshot: after two seconds it is fetched.
        ("100 depth 0 40 44 b99=3", &["0 resync 0"]),
        ("1999 time", &[]),
        ("2000 time", &[ASK_A]),
        ("2050 depth 0 44 46 b98=3", &[]),
        ("2100 time", &[]),
        (
            "2200 snap 0 43 b100=1",
            &["0 bid 1@100 u43 snapshot clear last", "0 bid 3@99 u44 last", "0 bid 3@98 u46 last"],
        ),
        ("2300 depth 0 46 47 b98=0", &["0 bid 0@98 u47 last"]),
        ("2400 snap 0 50 b1=1", &[]),
    ]);
}

#[test]
fn a_fetched_snapshot_fits_where_the_updates_pass_it() {
    let joined = |seq: u64, want: &[&str]| {
        check(&[
            ("0 open", &[OPEN]),
            ("100 depth 0 40 44 b99=3", &["0 resync 0"]),
            ("101 depth 0 44 44", &[]),
            ("102 depth 0 44 46 b98=3", &[]),
            ("2000 time", &[ASK_A]),
            (&format!("2100 snap 0 {seq} b1=1"), want),
        ])
    };
    let first = |seq: u64| format!("0 bid 1@1 u{seq} snapshot clear last");
    let old = |seq: u64| format!("0 gap snapshot_too_old 40 {seq}");
    joined(39, &[&old(39), "0 resync 7"]);
    joined(40, &[&first(40), "0 bid 3@99 u44 last", "0 bid 3@98 u46 last"]);
    joined(43, &[&first(43), "0 bid 3@99 u44 last", "0 bid 3@98 u46 last"]);
    joined(44, &[&first(44), "0 bid 3@98 u46 last"]);
    joined(46, &[&first(46)]);
    let session = joined(48, &[&first(48)]);
    assert_eq!(session.counters().depth_stale, 2);
    // Newer than all that came: what comes up to it is known, what goes past it begins there.
    let later = |steps: &[(&str, &[&str])]| {
        let mut all: Vec<(&str, &[&str])> = vec![
            ("0 open", &[OPEN]),
            ("100 depth 0 40 44 b99=3", &["0 resync 0"]),
            ("2000 time", &[ASK_A]),
            ("2100 snap 0 48", &["0 bid 0@0 u48 snapshot clear last"]),
        ];
        all.extend_from_slice(steps);
        check(&all);
    };
    later(&[
        ("2101 depth 0 44 47 b1=1", &[]),
        ("2102 depth 0 47 47", &[]),
        ("2103 depth 0 47 50 b2=1", &["0 bid 1@2 u50 last"]),
        ("2104 depth 0 50 51 b3=1", &["0 bid 1@3 u51 last"]),
    ]);
    later(&[("2101 depth 0 48 50 b2=1", &["0 bid 1@2 u50 last"])]);
    later(&[("2101 depth 0 49 50 b2=1", &["0 gap sequence 48 49", "0 resync 1", OFF_A, ON_A])]);
}

#[test]
fn holes_while_a_book_waits_make_what_came_before_useless() {
    check(&[
        ("0 open", &[OPEN]),
        ("100 depth 0 40 44 b99=3", &["0 resync 0"]),
        ("101 depth 0 40 44 b99=3", &[]),
        ("102 depth 0 45 46 b98=1", &["0 gap sequence 44 45", "0 resync 1"]),
        ("2000 time", &[ASK_A]),
        ("2001 snap 0 44 b1=1", &["0 gap snapshot_too_old 45 44", "0 resync 7"]),
        // Counted anew: only what follows can be compared.
        ("2002 depth 0 46 2 b97=1", &[]),
        ("2003 depth 0 2 4 b96=1", &[]),
        ("2600 time", &[ASK_A]),
        ("2700 snap 0 3 b1=1", &["0 bid 1@1 u3 snapshot clear last", "0 bid 1@96 u4 last"]),
    ]);
}

#[test]
fn subscriptions_are_repeated_at_a_pace() {
    let mut line = Line::new();
    line.feed("0 open");
    let mut asked = Vec::new();
    for ms in (100..150_000).step_by(100) {
        let wishes = line.feed(&format!("{ms} time"));
        if wishes.iter().any(|it| it == OFF) {
            assert_eq!(wishes.iter().filter(|it| *it == ON).count(), 1);
            asked.push(ms);
        }
        line.feed(&format!("{ms} frame pong"));
    }
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(asked[0], 5_000, "no snapshot came");
    assert_eq!(pauses[..5], [5_000, 5_000, 5_000, 5_000, 8_000], "{pauses:?}");
    assert_eq!(pauses[5..7], [16_000, 32_000], "{pauses:?}");
}

#[test]
fn an_hour_has_so_many_subscriptions() {
    let mut line = Line::new();
    line.feed("0 open");
    let (mut changes, mut ms) = (0, 1);
    line.feed("1 whole 1 7");
    while ms < 600_000 {
        // A book that breaks again and again, each time after it held for a moment.
        let id = ms;
        line.feed(&format!("{ms} whole 0 {id} b1=1"));
        line.feed(&format!("{} depth 0 {id} {} b1=2", ms + 1, id + 1));
        let wishes = line.feed(&format!("{} depth 0 7 {} b1=2", ms + 2, id + 2));
        changes += wishes.iter().filter(|it| it.starts_with("send {")).count();
        // Behind that, what can still be fetched is.
        assert_eq!(wishes.iter().any(|it| it == ASK_A), ms > 199_001, "{ms}");
        ms += 1_000;
    }
    assert_eq!(changes, 398, "400 with the first subscription, and always two at once");
}

#[test]
fn checksums_are_verified_where_they_are_sent() {
    let (whole, after) = (crc("100:1:101:2"), crc("100:1:101:2:99:3"));
    let sum =
        |kind: &str, checksum: i32, levels: &str| format!("9 sum 0 {kind} {checksum} {levels}");
    let begin = sum("whole", whole, "b100=1 a101=2");
    let began: &[&str] = &["0 ask 2@101 u0 snapshot clear", "0 bid 1@100 u0 snapshot last"];
    let gap = |expected: i32, found: &str| {
        format!("0 gap checksum {} {}", expected.cast_unsigned(), crc(found).cast_unsigned())
    };
    check(&[
        (&begin, began),
        (&sum("depth", after, "b99=3"), &["0 bid 3@99 u0 last"]),
        (&sum("depth", whole, "b99=0"), &["0 bid 0@99 u0 last"]),
        (&sum("depth", whole, ""), &[]),
    ]);
    // Nothing of a frame whose checksum is another is told.
    let lost = gap(7, "100:1:101:2:99:3");
    check(&[
        (&begin, began),
        (&sum("depth", 7, "b99=3"), &[&lost, "0 resync 8", OFF, ON]),
        (&sum("depth", after, "b99=3"), &[]),
    ]);
    let lost = gap(7, "100:1:101:2");
    check(&[(&sum("whole", 7, "b100=1 a101=2"), &[&lost, "0 resync 8", OFF, ON])]);
    // They begin later than the book: it is asked for once more.
    let lost = format!("0 gap checksum {} 0", whole.cast_unsigned());
    check(&[
        ("1 whole 0 10 b100=1", &["0 bid 1@100 u10 snapshot clear last"]),
        (&sum("depth", whole, "a101=2"), &[&lost, "0 resync 8", OFF, ON]),
        (&begin, began),
        (&sum("depth", after, "b99=3"), &["0 bid 3@99 u0 last"]),
    ]);
}

/// The signed CRC-32 of a text, bit by bit.
fn crc(text: &str) -> i32 {
    let crc = text.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    });
    (!crc).cast_signed()
}

#[test]
fn silence_is_asked_about_and_then_given_up() {
    let whole = ["1 whole 0 7", "1 whole 1 7"];
    let mut line = Line::new();
    line.feed("0 open");
    for input in whole {
        line.feed(input);
    }
    let mut check = |input: &str, want: &[&str]| assert_eq!(line.feed(input), want, "{input}");
    check("20000 time", &[]);
    check("20001 time", &["send ping"]);
    check("21000 time", &[]);
    check("22000 frame pong", &[]);
    check("41999 time", &[]);
    check("42000 time", &["send ping"]);
    check("51999 time", &[]);
    check("52000 time", &["reconnect Silent"]);
    // A ping of the WebSocket is a sign of life as well.
    check("52001 alive", &[]);
    check("52002 time", &[]);
    check("82001 time", &["reconnect Silent"]);
}

#[test]
fn what_the_venue_says_of_the_connection_is_told() {
    let session = check(&[
        ("0 open", &[OPEN]),
        ("1 whole 1 7", &["1 bid 0@0 u7 snapshot clear last"]),
        (
            r#"2 frame {"event":"notice","code":"64008","msg":"soon","connId":"a"}"#,
            &["reconnect VenueShutdown"],
        ),
        (r#"3 frame {"event":"notice","code":"1","msg":"other"}"#, &[]),
        (
            r#"4 frame {"event":"error","code":"60018","msg":"channel:books,instId:A-USDT doesn't exist"}"#,
            &[
                "0 venue_error 60018",
                "0 said \"channel:books,in\"",
                "0 said \"stId:A-USDT does\"",
                "0 said \"n't exist\"",
            ],
        ),
        // Asked for again, not at once.
        ("503 time", &[]),
        ("504 time", &[OFF_A, ON_A]),
        (
            r#"600 frame {"event":"error","code":"60012","msg":"Invalid"}"#,
            &["65535 venue_error 60012", "65535 said \"Invalid\""],
        ),
        (
            r#"601 frame {"event":"error","code":"60019","arg":{"channel":"trades","instId":"B-USDT"},"msg":"x"}"#,
            &["1 venue_error 60019", "1 said \"x\""],
        ),
        (
            r#"602 frame {"event":"channel-conn-count-error","channel":"books","connCount":"30"}"#,
            &["65535 venue_error 0", "65535 said \"channel-conn-cou\"", "65535 said \"nt-error\""],
        ),
        (
            r#"603 snapshot 0 {"code":"51001","msg":"Instrument ID does not exist","data":[]}"#,
            &["0 venue_error 51001", "0 said \"Instrument ID do\"", "0 said \"es not exist\""],
        ),
    ]);
    let counters = session.counters();
    assert_eq!((counters.error_replies, counters.malformed()), (5, 0));
}

#[test]
fn bad_frames_cost_the_book_that_they_speak_of_and_no_other() {
    let bad = |frame: &str, want: &[&str]| {
        let session = check(&[
            ("0 open", &[OPEN]),
            ("1 whole 0 7", &["0 bid 0@0 u7 snapshot clear last"]),
            ("1 whole 1 7", &["1 bid 0@0 u7 snapshot clear last"]),
            (&format!("1000 frame {frame}"), want),
        ]);
        assert_eq!(session.counters().malformed(), 1);
    };
    let lost = ["1 malformed 1000", "1 gap malformed 0 0", "1 resync 2", OFF_B, ON_B];
    bad(r#"{"arg":{"channel":"books","instId":"B-USDT"},"action":"upd"#, &lost);
    bad(
        r#"{"arg":{"channel":"books-l2-tbt","instId":"B-USDT"},"action":"update","data":[]}"#,
        &lost,
    );
    let told = ["65535 malformed 1000"];
    bad(r#"{"arg":{"channel":"books5","instId":"B-USDT"},"#, &told);
    bad(r#"{"arg":{"channel":"trades","instId":"B-USDT"},"data":["#, &told);
    bad(r#"{"arg":{"channel":"books","instId":"Z-USDT"},"#, &told);
    bad("pongg", &told);
    bad("", &told);
}

#[test]
fn bad_frames_are_counted_by_their_fault() {
    let trade = |px: &str, sz: &str, ts: &str, side: &str, id: &str| {
        format!(
            r#"{{"arg":{{"channel":"trades","instId":"A-USDT"}},"data":[{{"instId":"A-USDT","tradeId":{id},"px":{px},"sz":{sz},"side":{side},"ts":{ts}}}]}}"#
        )
    };
    let good = [r#""5""#, r#""1""#, r#""9""#, r#""buy""#, r#""7""#];
    let with = |place: usize, value: &str| {
        let mut parts = good;
        parts[place] = value;
        trade(parts[0], parts[1], parts[2], parts[3], parts[4])
    };
    let mut line = Line::new();
    assert_eq!(line.feed(&format!("1 frame {}", with(0, good[0]))), ["0 trade 7 Buy 1@5"]);
    let quote = |ask: &str, bid: &str| {
        format!(
            r#"{{"arg":{{"channel":"bbo-tbt","instId":"A-USDT"}},"data":[{{"asks":[["{ask}","1","0","1"]],"bids":[["{bid}","1","0","1"]],"ts":"5"}}]}}"#
        )
    };
    assert_eq!(line.feed(&format!("1 frame {}", quote("6", "5"))), ["0 quote 1@5 1@6"]);
    for (frame, fault) in [
        (with(0, "5"), Fault::Shape),
        (with(0, r#""NaN""#), Fault::Number),
        (with(0, r#""5.1""#), Fault::TooFine),
        (with(0, r#""0""#), Fault::NotPositive),
        (with(1, r#""0""#), Fault::NotPositive),
        (with(1, r#""-1""#), Fault::NotPositive),
        (with(1, r#""99999999999999999999""#), Fault::TooLarge),
        (with(2, r#""1700000000000000000""#), Fault::Time),
        (with(2, r#""1e3""#), Fault::Number),
        (with(3, r#""Buy""#), Fault::Shape),
        (with(4, r#""x7""#), Fault::Number),
        (with(4, r#""99999999999999999999""#), Fault::Number),
        (quote("5", "5"), Fault::CrossedQuote),
        (quote("5", "0"), Fault::NotPositive),
        (r#"{"arg":{"channel":"trades","instId":"A-USDT"},"data":{}}"#.into(), Fault::Shape),
        (r#"{"arg":{"channel":"trades"},"data":[]}"#.into(), Fault::Shape),
        (r#"{"arg":{},"data":[]}"#.into(), Fault::Shape),
        ("{}".into(), Fault::Shape),
        ("7".into(), Fault::Shape),
        ("{".into(), Fault::NotJson),
    ] {
        let mut line = Line::new();
        let events = line.feed(&format!("9 frame {frame}"));
        assert_eq!(events, ["65535 malformed 9"], "{frame}");
        let counters = line.session.counters();
        assert_eq!(counters.fault(fault), 1, "{frame}: {:?}", counters.faults);
    }
    // A book message of which it cannot be told whether it fits.
    for end in [
        r#""checksum":0"#,
        r#""seqId":5"#,
        r#""prevSeqId":5"#,
        r#""seqId":5,"prevSeqId":-1"#,
        r#""seqId":-5,"prevSeqId":4"#,
        r#""seqId":"5","prevSeqId":4"#,
        r#""checksum":99999999999"#,
    ] {
        let frame = format!(
            r#"{{"arg":{{"channel":"books","instId":"A-USDT"}},"action":"update","data":[{{"asks":[],"bids":[],"ts":"5",{end}}}]}}"#
        );
        let mut line = Line::new();
        let events = line.feed(&format!("9 frame {frame}"));
        assert_eq!(events[..2], ["0 malformed 9", "0 gap malformed 0 0"], "{frame}");
    }
}

#[test]
fn frames_that_nobody_asked_for_are_counted() {
    let session = check(&[
        (r#"1 frame {"event":"subscribe","arg":{"channel":"books","instId":"A-USDT"}}"#, &[]),
        (r#"2 frame {"arg":{"channel":"candle1m","instId":"A-USDT"},"data":[["1"]]}"#, &[]),
        (r#"3 frame {"arg":{"channel":"trades","instId":"Z-USDT"},"data":[{"px":"x"}]}"#, &[]),
        (r#"4 frame {"arg":{"channel":"trades","instId":"A-USDT"},"data":[]}"#, &[]),
        ("5 frame pong", &[]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.ignored, counters.unknown_symbols), (3, 1));
    assert_eq!((counters.malformed(), counters.frames), (0, 5));
}

#[test]
fn a_quote_of_the_ticker_may_lack_a_side() {
    let ticker = |side: &str| {
        format!(
            r#"1 frame {{"arg":{{"channel":"tickers","instId":"A-USDT"}},"data":[{{"instId":"A-USDT",{side},"ts":"5"}}]}}"#
        )
    };
    check(&[
        (&ticker(r#""askPx":"6","askSz":"1","bidPx":"","bidSz":"""#), &["0 quote 0@0 1@6"]),
        (&ticker(r#""askPx":"","askSz":"0","bidPx":"5","bidSz":"2""#), &["0 quote 2@5 0@0"]),
        (&ticker(r#""askPx":"","askSz":"4","bidPx":"5","bidSz":"2""#), &["65535 malformed 1"]),
    ]);
}

#[test]
fn a_lost_connection_forgets_everything() {
    check(&[
        ("0 open", &[OPEN]),
        ("1 whole 0 7 b1=1", &["0 bid 1@1 u7 snapshot clear last"]),
        ("2 close", &["0 gap disconnected 0 0", "1 gap disconnected 0 0"]),
        ("9000 time", &[]),
        ("9100 open", &[OPEN]),
        ("9101 depth 0 7 8 b1=2", &[]),
        ("9102 whole 0 9 b1=1", &["0 bid 1@1 u9 snapshot clear last"]),
    ]);
}

#[test]
fn what_the_caller_dropped_is_rebuilt() {
    check(&[
        ("0 open", &[OPEN]),
        ("1 whole 0 7", &["0 bid 0@0 u7 snapshot clear last"]),
        ("2 whole 1 7", &["1 bid 0@0 u7 snapshot clear last"]),
        ("900 resync 0", &["0 gap dropped 0 0", "0 resync 4", OFF_A, ON_A]),
        (
            "1000 resync ?",
            &["0 gap dropped 0 0", "0 resync 4", "1 gap dropped 0 0", "1 resync 4", OFF_B, ON_B],
        ),
        ("1400 time", &[OFF_A, ON_A]),
    ]);
}

#[test]
fn a_recorded_reply_goes_to_the_book_of_its_request_and_to_no_other() {
    let body = r#"{"code":"0","msg":"","data":[{"asks":[],"bids":[],"ts":"5","seqId":43}]}"#;
    let mut line = Line::new();
    let mut rest = |target: &str| line.feed(&format!("1 rest {target} {body}"));
    assert!(rest("/api/v5/market/books?instId=Z-USDT&sz=5").is_empty(), "not ours");
    assert!(rest("/api/v5/public/instruments?instType=SPOT").is_empty());
    assert!(rest("/api/v5/market/trades?instId=A-USDT").is_empty());
    let event = "1 bid 0@0 u43 snapshot clear last";
    assert_eq!(rest("https://www.okx.com/api/v5/market/books?sz=5&instId=B-USDT"), [event]);
    let counters = line.session.counters();
    assert_eq!((counters.unknown_symbols, counters.ignored), (1, 2));
    // Without a name it goes where its id fits, or to the only one that waits.
    assert_eq!(line.feed("2 snap ? 9"), ["0 bid 0@0 u9 snapshot clear last"]);
    let mut line = Line::new();
    line.feed("1 depth 0 1000 1004 b1=1");
    line.feed("1 depth 1 5000 5004 b1=1");
    let events = line.feed("2 snap ? 5003");
    assert_eq!(events, ["1 bid 0@0 u5003 snapshot clear last", "1 bid 1@1 u5004 last"]);
}

#[test]
fn many_subscriptions_are_several_texts() {
    let symbols: Vec<_> = (0..240).map(|n| format!("COIN{n}-USDT")).collect();
    let symbols: Vec<_> = symbols.iter().map(String::as_str).collect();
    let (table, ids) = table_of("okx", &symbols, split_symbol);
    let options = Options { quotes: QuoteChannel::Tickers, ..Options::default() };
    let mut session = OkxMarket::new(&table, VenueId(0), &ids, options).unwrap();
    let mut out = Outbox::new();
    let wishes = drive(&mut session, &mut out, "0 open");
    assert!(wishes.len() > 1 && wishes.iter().all(|it| it.len() < 64 << 10), "{}", wishes.len());
    let mut seen = Vec::new();
    for wish in &wishes {
        let text: serde_json::Value =
            serde_json::from_str(wish.strip_prefix("send ").unwrap()).unwrap();
        assert_eq!(text["op"], "subscribe");
        for arg in text["args"].as_array().unwrap() {
            let part = |key: &str| arg[key].as_str().unwrap().to_owned();
            seen.push((part("channel"), part("instId")));
        }
    }
    let want: Vec<_> = symbols
        .iter()
        .flat_map(|symbol| {
            ["trades", "tickers", "books"].map(|it| (it.to_owned(), (*symbol).to_owned()))
        })
        .collect();
    assert_eq!(seen, want);
    // Every book that is overdue goes into one pair of texts.
    assert_eq!(drive(&mut session, &mut out, "5000 time").len(), 2);
}

#[test]
fn what_no_connection_can_serve_is_refused() {
    let (table, ids) = table_of("okx", &["A-USDT"], split_symbol);
    let refused = |venue: u8, ids: &[InstrumentId]| {
        OkxMarket::new(&table, VenueId(venue), ids, Options::default()).err()
    };
    assert_eq!(refused(0, &[]), Some(SetupError::NoInstruments));
    assert_eq!(refused(1, &ids), Some(SetupError::ForeignInstrument { id: ids[0] }));
    let found = SetupError::TooManyStreams { found: 723, limit: 720 };
    assert_eq!(refused(0, &[ids[0]; 241]), Some(found));
    let mut session = OkxMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    assert_eq!(session.dial(), Dial::Path("".into()));
    assert_eq!(session.on_dial_reply(b"{}"), Err(Fault::Shape.into()));
}

#[test]
fn symbols_split_at_hyphens() {
    let check = |symbol: &str, want: Option<(&str, &str)>| {
        assert_eq!(split_symbol(symbol), want, "{symbol}");
    };
    check("BTC-USDT", Some(("BTC", "USDT")));
    check("BTC-USD-220527", Some(("BTC", "USD")));
    check("UNI-USD-SWAP", Some(("UNI", "USD")));
    check("BTCUSDT", None);
    check("-USDT", None);
    check("BTC-", None);
    check("", None);
}

#[test]
fn lists_that_make_no_sense_are_named() {
    let list = |tick: &str, lot: &str, min: &str| {
        format!(
            r#"{{"code":"0","msg":"","data":[{{"instId":"A-B","baseCcy":"A","quoteCcy":"B","state":"live","tickSz":"{tick}","lotSz":"{lot}","minSz":"{min}"}}]}}"#
        )
    };
    let check = |text: &str, want: &str| {
        let error = parse_list(text.as_bytes(), &["A-B"]).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
    };
    check(&list("0", "1", "1"), r#"A-B: instrument tickSz = "0": must be positive"#);
    check(&list("x", "1", "1"), r#"A-B: instrument tickSz = "x": must be a decimal that fits"#);
    check(&list("1", "", "1"), r#"A-B: instrument lotSz = "": must be a decimal that fits"#);
    check(
        &list("0.0000000000001", "1", "1"),
        r#"A-B: instrument tickSz = "0.0000000000001": must have at most 12 decimals"#,
    );
    check(
        r#"{"code":"50011","msg":"Too Many Requests","data":[]}"#,
        "the venue refuses: code 50011: Too Many Requests",
    );
    check("[]", "not a list of instruments: ");
    assert!(parse_list(list("", "1", "1").as_bytes(), &[]).unwrap().is_empty());
    assert_eq!(parse_list(list("1", "1", "1").as_bytes(), &["X-Y"]).unwrap(), []);
}
