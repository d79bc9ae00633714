//! The life of a session in lines of data: what comes in, what goes out.

use kairos_logic::event::{Event, GapReason};
use kairos_logic::units::{InstrumentId, Nanos, Stamp, VenueId};

use super::{Twin, book, table};
use crate::kraken::{Depth, KrakenMarket, Options};
use crate::session::{Arrival, Dial, Fault, MarketSession, Outbox};
use crate::testing::words;
use crate::venue::SetupError;

const SYMBOLS: [&str; 2] = ["AAA/USD", "BBB/USD"];
const DEPTH: usize = 10;

/// A session with its outbox, and the venue's books; prices and quantities have no decimals here.
struct Line {
    session: KrakenMarket,
    out: Outbox,
    twins: [Twin; 2],
}

impl Line {
    fn new() -> Self {
        let (mut table, ids) = table(&SYMBOLS);
        for it in &mut table.instruments {
            (it.price_scale, it.qty_scale) = (0, 0);
        }
        let options = Options { depth: Depth::Ten, tape_only: false };
        let session = KrakenMarket::new(&table, VenueId(0), &ids, options).unwrap();
        Self { session, out: Outbox::new(), twins: Default::default() }
    }

    /// One input, `<ms> <what> …`: `open`, `close`, `alive`, `time`, `resync I`, `beat`,
    /// `frame TEXT`, and `snap I levels…` or `depth I levels…` with levels as `b100=1` and `a101=2`.
    /// `miss I levels…` changes the venue's book, and its message is lost.
    fn feed(&mut self, input: &str) -> Vec<String> {
        let (ms, input) = input.split_once(' ').unwrap();
        let at = Nanos(ms.parse::<u64>().unwrap() * 1_000_000);
        let (what, rest) = input.split_once(' ').unwrap_or((input, ""));
        let arrival = Arrival { at, recv: Stamp(1), number: at.0 / 1_000_000 };
        let mut events = Vec::new();
        let publish = &mut |event: Event| events.push(words(&event));
        let Self { session, out, twins } = self;
        let fields: Vec<_> = rest.split(' ').collect();
        match what {
            "frame" => session.on_frame(arrival, rest.as_bytes(), out, publish),
            "beat" => session.on_frame(arrival, br#"{"channel":"heartbeat"}"#, out, publish),
            "snap" | "depth" | "miss" => {
                let (n, levels) = (fields[0].parse::<usize>().unwrap(), &fields[1..]);
                if what == "snap" {
                    twins[n] = Twin::default();
                }
                twins[n].set(levels, DEPTH);
                let kind = if what == "snap" { "snapshot" } else { "update" };
                let text = book(SYMBOLS[n], kind, levels, twins[n].checksum());
                if what != "miss" {
                    session.on_frame(arrival, text.as_bytes(), out, publish);
                }
            }
            "open" => session.on_open(at, out, publish),
            "close" => session.on_close(at, publish),
            "alive" => session.on_alive(at),
            "time" => session.on_time(at, out, publish),
            "resync" => {
                let id = fields[0].parse().ok().map(InstrumentId);
                session.resync(at, id, GapReason::Dropped, out, publish);
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

/// Each input with what it leads to.
fn check(steps: &[(&str, &[&str])]) -> KrakenMarket {
    let mut line = Line::new();
    for (input, want) in steps {
        assert_eq!(&line.feed(input), want, "{input}");
    }
    line.session
}

const ENTER: &str = r#"send {"method":"subscribe","params":{"channel":"book","symbol":["AAA/USD","BBB/USD"],"depth":10},"req_id":1}"#;
const TRADES: &str = r#"send {"method":"subscribe","params":{"channel":"trade","symbol":["AAA/USD","BBB/USD"],"snapshot":false},"req_id":2}"#;
const TICKER: &str = r#"send {"method":"subscribe","params":{"channel":"ticker","symbol":["AAA/USD","BBB/USD"],"event_trigger":"bbo"},"req_id":3}"#;
const LEAVE_0: &str = r#"send {"method":"unsubscribe","params":{"channel":"book","symbol":["AAA/USD"],"depth":10},"req_id":4}"#;
const ENTER_0: &str = r#"send {"method":"subscribe","params":{"channel":"book","symbol":["AAA/USD"],"depth":10},"req_id":1}"#;
const LEAVE_1: &str = r#"send {"method":"unsubscribe","params":{"channel":"book","symbol":["BBB/USD"],"depth":10},"req_id":4}"#;
const ENTER_1: &str = r#"send {"method":"subscribe","params":{"channel":"book","symbol":["BBB/USD"],"depth":10},"req_id":1}"#;
const PING: &str = r#"send {"method":"ping"}"#;
const OPEN: (&str, &[&str]) = ("0 open", &["0 resync 0", "1 resync 0", ENTER, TRADES, TICKER]);
const SNAP_0: &[&str] = &["0 bid 1@100 u0 snapshot clear", "0 ask 2@101 u0 snapshot last"];
const SNAP_1: &[&str] = &["1 bid 1@100 u0 snapshot clear", "1 ask 2@101 u0 snapshot last"];

#[test]
fn a_book_is_its_snapshot_and_what_follows() {
    let session = check(&[
        OPEN,
        ("1 depth 0 b99=1", &[]), // before its snapshot
        ("2 snap 0 b100=1 a101=2", SNAP_0),
        ("3 snap 1 b100=1 a101=2", SNAP_1),
        (
            "4 depth 0 b99=1 a101=0 a102=7",
            &["0 bid 1@99 u0", "0 ask 0@101 u0", "0 ask 7@102 u0 last"],
        ),
        ("5 depth 0 b98=0", &["0 bid 0@98 u0 last"]), // nothing was there
        ("6 depth 1", &[]),
        ("7 beat", &[]),
        ("8 snap 0", &["0 bid 0@0 u0 snapshot clear last"]),
        ("9 depth 0 b7=7", &["0 bid 7@7 u0 last"]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.depth_updates, counters.depth_stale), (5, 1));
    assert_eq!((counters.snapshots, counters.gaps), (3, 0));
    assert!(session.is_whole());
}

#[test]
fn levels_that_fall_off_the_end_are_told_of() {
    let full = "1 snap 0 b100=1 b99=1 b98=1 b97=1 b96=1 b95=1 b94=1 b93=1 b92=1 b91=1 a101=1";
    let mut line = Line::new();
    assert_eq!(line.feed(full).len(), 11);
    assert_eq!(
        line.feed("2 depth 0 b102=1 a101=0 a103=1"),
        ["0 bid 1@102 u0", "0 ask 0@101 u0", "0 ask 1@103 u0", "0 bid 0@91 u0 last"]
    );
    // It leaves and comes within one message: nothing falls off.
    assert_eq!(line.feed("3 depth 0 b90=1 b100=0"), ["0 bid 1@90 u0", "0 bid 0@100 u0 last"]);
    // It comes and falls off in one.
    assert_eq!(line.feed("4 depth 0 b1=1"), ["0 bid 1@1 u0", "0 bid 0@1 u0 last"]);
}

#[test]
fn a_missing_message_is_found_by_the_checksum_and_costs_its_book() {
    let mut line = Line::new();
    line.feed("0 open");
    line.feed("1 snap 0 b100=1 a101=2");
    line.feed("1 snap 1 b100=1 a101=2");
    line.feed("1 depth 0 b98=1");
    line.feed("2 miss 0 b99=5");
    let events = line.feed("1003 depth 0 b98=7");
    let [gap, rest @ ..] = &events[..] else { panic!() };
    assert!(gap.starts_with("0 gap checksum "), "{gap}");
    assert_eq!(rest, ["0 resync 8", LEAVE_0, ENTER_0], "and not one level of it");
    assert!(!line.session.is_whole());
    for (input, want) in [
        ("1004 depth 0 b98=8", &[][..]),
        ("1005 depth 1 b99=1", &["1 bid 1@99 u0 last"]),
        ("1006 snap 0 b100=1 a101=2", SNAP_0),
        ("1007 depth 0 b99=1", &["0 bid 1@99 u0 last"]),
    ] {
        assert_eq!(line.feed(input), want, "{input}");
    }
    assert!(line.session.is_whole());
}

#[test]
fn a_book_that_crosses_is_rebuilt_though_its_checksum_is_right() {
    check(&[
        ("1 snap 0 b100=1 a101=2", SNAP_0),
        ("1 snap 1 b100=1 a101=2", SNAP_1),
        ("2 depth 0 b101=1", &["0 gap crossed 0 0", "0 resync 3", LEAVE_0, ENTER_0]),
    ]);
}

#[test]
fn books_are_asked_for_again_and_not_too_often() {
    check(&[
        OPEN,
        ("1 snap 0 b100=1 a101=2", SNAP_0),
        ("4000 beat", &[]),
        ("4999 time", &[]),
        ("5000 time", &[LEAVE_1, ENTER_1]), // its snapshot did not come
        ("5100 resync 0", &["0 gap dropped 0 0", "0 resync 4", LEAVE_0, ENTER_0]),
        ("5200 snap 0 b100=1 a101=2", SNAP_0),
        // Broken at once, twice: the second request waits for its pause.
        ("5300 resync 0", &["0 gap dropped 0 0", "0 resync 4"]),
        ("6099 time", &[]),
        ("6100 time", &[LEAVE_0, ENTER_0]),
    ]);
}

#[test]
fn the_depth_is_what_the_venue_says_or_sends() {
    let reply = |depth: usize| {
        format!(
            r#"0 frame {{"method":"subscribe","result":{{"channel":"book","symbol":"AAA/USD","depth":{depth},"snapshot":true}},"success":true}}"#
        )
    };
    let side = |mark: char, from: usize, count: usize| {
        (from..from + count).map(|it| format!(" {mark}{it}=1")).collect::<String>()
    };
    let levels = |bids, asks| side('b', 1_000, bids) + &side('a', 2_000, asks);
    let cut = |reply: Option<String>, bids: usize, asks: usize| {
        let mut line = Line::new();
        // The session asks for 25 here; the venue's side of this test keeps what it is given.
        let (mut table, ids) = table(&SYMBOLS);
        for it in &mut table.instruments {
            (it.price_scale, it.qty_scale) = (0, 0);
        }
        let options = Options { depth: Depth::TwentyFive, tape_only: false };
        line.session = KrakenMarket::new(&table, VenueId(0), &ids, options).unwrap();
        line.feed("0 open");
        if let Some(reply) = reply {
            assert!(line.feed(&reply).is_empty());
        }
        let all = levels(bids, asks);
        let all: Vec<_> = all.trim().split(' ').collect();
        let mut twin = Twin::default();
        twin.set(&all, 1_000);
        let text = book("AAA/USD", "snapshot", &all, twin.checksum());
        let events = line.feed(&format!("1 frame {text}"));
        events.iter().filter(|it| it.contains(" 0@")).count()
    };
    // How many fall off.
    assert_eq!(cut(None, 25, 25), 0);
    assert_eq!(cut(None, 26, 27), 3);
    assert_eq!(cut(None, 10, 10), 0);
    assert_eq!(cut(Some(reply(10)), 26, 10), 16);
    assert_eq!(cut(Some(reply(100)), 26, 27), 0);
}

#[test]
fn a_lost_connection_forgets_everything() {
    check(&[
        OPEN,
        ("1 snap 0 b100=1 a101=2", SNAP_0),
        ("2 close", &["0 gap disconnected 0 0", "1 gap disconnected 0 0"]),
        ("9000 time", &[]),
        ("9001 open", &[ENTER, TRADES, TICKER]),
        ("9002 depth 0 b100=1", &[]),
        ("9003 snap 0 b100=1 a101=2", SNAP_0),
    ]);
}

#[test]
fn a_refusal_is_told_in_the_venue_s_own_words() {
    let trades_of_b = r#"send {"method":"subscribe","params":{"channel":"trade","symbol":["BBB/USD"],"snapshot":false},"req_id":2}"#;
    let session = check(&[
        OPEN,
        (
            r#"1 frame {"error":"Not supported BBB/USD","method":"subscribe","req_id":2,"success":false,"symbol":"BBB/USD"}"#,
            &["1 venue_error 0", "1 said \"Not supported BB\"", "1 said \"B/USD\""],
        ),
        ("500 time", &[]),
        ("501 time", &[trades_of_b]),
        ("502 time", &[]),
        // Whose ticker it was is not said: all are asked for again.
        (
            r#"600 frame {"method":"subscribe","req_id":3,"success":false}"#,
            &["65535 venue_error 0"],
        ),
        ("1600 time", &[TICKER]),
        (
            r#"1700 frame {"error":"Already subscribed","method":"subscribe","req_id":3,"success":false}"#,
            &["65535 venue_error 0", "65535 said \"Already subscrib\"", "65535 said \"ed\""],
        ),
        ("4500 beat", &[]),
        ("4900 time", &[]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.error_replies, counters.malformed()), (3, 0));
}

#[test]
fn silence_is_asked_about_and_then_given_up() {
    check(&[
        OPEN,
        ("1 snap 0 b100=1 a101=2", SNAP_0),
        ("1 snap 1 b100=1 a101=2", SNAP_1),
        ("2999 time", &[]),
        ("3001 time", &[PING]),
        (r#"3100 frame {"method":"pong"}"#, &[]),
        ("6099 time", &[]),
        ("6100 time", &[PING]),
        ("9200 time", &[PING]),
        ("13099 time", &[PING]),
        ("13100 time", &["reconnect Silent"]),
        ("13101 alive", &[]),
        ("13102 time", &[]),
    ]);
}

#[test]
fn a_bad_book_update_costs_the_books_that_it_may_have_changed() {
    let bad = |frame: &str| {
        let mut line = Line::new();
        for n in 0..2 {
            line.feed(&format!("1 snap {n} b100=1 a101=2"));
            line.feed(&format!("1 depth {n} b99=1"));
        }
        let events = line.feed(&format!("1000 frame {frame}"));
        assert_eq!(line.session.counters().malformed(), 1, "{frame}");
        let gaps = events.iter().filter(|it| it.contains(" gap malformed 0 0"));
        gaps.map(|it| it[..1].to_owned()).collect::<String>()
    };
    let good = book("BBB/USD", "update", &["b1=1"], 5);
    for (from, to, want) in [
        (r#""price":1"#, r#""price":-1"#, "1"),
        (r#""price":1"#, r#""price":1.5"#, "1"),
        (r#""price":1"#, r#""price":"1""#, "1"),
        (r#""checksum":5"#, r#""checksum":-5"#, "1"),
        (r#""checksum":5,"#, "", "1"),
        ("update", "upgrade", "1"),
        (r#""data":["#, r#""data":["symbol","#, "01"),
        ("BBB/USD", "BBB\u{7}USD", "01"),
        (r#""channel":"book""#, r#""channel":"bo"k""#, "01"),
        (r#""channel""#, r#""chan"el""#, "01"),
        (r#""channel":"book""#, r#""channel":"ticker""#, ""),
        (r#""channel":"book""#, r#""channel":"trade""#, ""),
    ] {
        assert!(good.contains(from), "{from}");
        assert_eq!(bad(&good.replacen(from, to, 1)), want, "{from} -> {to}");
    }
    assert_eq!(bad(&good[..70]), "1");
    assert_eq!(bad(&good[..20]), "01");
    assert_eq!(bad("x"), "01");
    assert_eq!(bad(r#"{"method":"subscribe","#), "");
}

#[test]
fn bad_frames_are_counted_by_their_fault() {
    let trade = |price: &str, side: &str| {
        format!(
            r#"{{"channel":"trade","type":"update","data":[{{"symbol":"AAA/USD","side":"{side}","price":{price},"qty":1,"ord_type":"market","trade_id":7,"timestamp":"2026-08-01T00:00:00Z"}}]}}"#
        )
    };
    let quote = |bid: &str, ask: &str| {
        format!(
            r#"{{"channel":"ticker","type":"update","data":[{{"symbol":"AAA/USD","bid":{bid},"bid_qty":1,"ask":{ask},"ask_qty":1}}]}}"#
        )
    };
    for (frame, fault) in [
        (r#"{"channel":"trade","#.into(), Fault::NotJson),
        (r#"{"channel":"trade"}"#.into(), Fault::Shape),
        (r#"{"channel":"trade","type":"update","data":{}}"#.into(), Fault::Shape),
        (r#"{"channel":"trade","type":"update","data":[["AAA/USD"]]}"#.into(), Fault::Shape),
        (trade("5", "Buy"), Fault::Shape),
        (trade("\"5\"", "buy"), Fault::Shape),
        (trade("5", "buy").replace("\"trade_id\":7", "\"trade_id\":-7"), Fault::Shape),
        (trade("5e3", "buy"), Fault::Number),
        (trade("5.1", "buy"), Fault::TooFine),
        (trade("99999999999999999999", "buy"), Fault::TooLarge),
        (trade("0", "buy"), Fault::NotPositive),
        (trade("-5", "buy"), Fault::NotPositive),
        (trade("5", "buy").replace("08-01", "13-01"), Fault::Time),
        (trade("5", "buy").replace("\"qty\"", "\"price\""), Fault::Shape),
        (quote("5", "5"), Fault::CrossedQuote),
        (quote("null", "5"), Fault::NotPositive),
        (quote("4", "true"), Fault::Shape),
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
fn five_bad_frames_in_ten_seconds_want_a_new_connection() {
    let mut line = Line::new();
    let mut bad = |ms: u64| {
        let events = line.feed(&format!("{ms} frame {{\"channel\":\"trade\","));
        events.contains(&"reconnect Malformed".to_owned())
    };
    let told = [1_000, 2_000, 3_000, 4_000, 11_001, 12_000].map(&mut bad);
    assert_eq!(told, [false, false, false, false, false, true]);
}

#[test]
fn what_no_connection_can_serve_is_refused() {
    let (table, ids) = table(&["A/USD"]);
    let refused = |venue: u8, ids: &[InstrumentId]| {
        KrakenMarket::new(&table, VenueId(venue), ids, Options::default()).err()
    };
    assert_eq!(refused(0, &[]), Some(SetupError::NoInstruments));
    let foreign = |id| Some(SetupError::ForeignInstrument { id });
    assert_eq!(refused(1, &ids), foreign(ids[0]));
    assert_eq!(refused(0, &[InstrumentId(7)]), foreign(InstrumentId(7)));
    let found = SetupError::TooManyStreams { found: 101, limit: 100 };
    assert_eq!(refused(0, &[ids[0]; 101]), Some(found));
    let session = KrakenMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    assert_eq!(session.instrument("A/USD"), Some(ids[0]));
    assert_eq!(session.dial(), Dial::Path("".into()));
}
