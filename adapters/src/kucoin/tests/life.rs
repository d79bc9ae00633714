//! The life of a session in lines of data: what comes in, what goes out.

use kairos_logic::units::{InstrumentId, VenueId};

use super::captures::WHOLE;
use crate::kucoin::instruments::{parse_list, split_symbol};
use crate::kucoin::{KucoinMarket, Options};
use crate::session::{Dial, Fault, MarketSession, NoAddress, Outbox};
use crate::testing::{drive, levels, table_of};
use crate::venue::SetupError;

/// A session with its outbox; prices and quantities have no decimals here.
struct Line {
    session: KucoinMarket,
    out: Outbox,
}

impl Line {
    fn new(options: Options) -> Self {
        let (mut table, ids) = table_of("kucoin", &["A-USDT", "B-USDT"], split_symbol);
        for it in &mut table.instruments {
            (it.price_scale, it.qty_scale) = (0, 0);
        }
        let session = KucoinMarket::new(&table, VenueId(0), &ids, options).unwrap();
        Self { session, out: Outbox::new() }
    }

    /// One input as [`drive`] knows them, or `depth I first last records…` with records as
    /// `b100=1#7` and `a101=2#8`, or `snap I|? sequence levels…` with levels as `b100=1`; `ready` is
    /// a connection whose topics are all acknowledged.
    fn feed(&mut self, input: &str) -> Vec<String> {
        let fields: Vec<_> = input.split(' ').collect();
        let text = match fields[..] {
            [ms, "ready"] => {
                let inputs = ["open", WELCOME, &ack(1), &ack(2), &ack(3)];
                return inputs.map(|it| self.feed(&format!("{ms} {it}"))).concat();
            }
            [ms, "depth", of, first, last, ref records @ ..] => {
                let symbol = ["A-USDT", "B-USDT", "Z-USDT"][of.parse::<usize>().unwrap()];
                let side = |mark: char| {
                    let records = records.iter().filter_map(|it| it.strip_prefix(mark));
                    let records = records.map(|it| {
                        let (price, rest) = it.split_once('=').unwrap();
                        let (qty, sequence) = rest.split_once('#').unwrap();
                        format!(r#"["{price}","{qty}","{sequence}"]"#)
                    });
                    records.collect::<Vec<_>>().join(",")
                };
                let (bids, asks) = (side('b'), side('a'));
                format!(
                    r#"{ms} frame {{"topic":"/market/level2:{symbol}","type":"message","subject":"trade.l2update","data":{{"changes":{{"asks":[{asks}],"bids":[{bids}]}},"sequenceEnd":{last},"sequenceStart":{first},"symbol":"{symbol}","time":5}}}}"#
                )
            }
            [ms, "snap", of, sequence, ref rest @ ..] => {
                let (bids, asks) = levels(rest, "");
                format!(
                    r#"{ms} snapshot {of} {{"code":"200000","data":{{"time":5,"sequence":"{sequence}","bids":[{bids}],"asks":[{asks}]}}}}"#
                )
            }
            _ => input.to_owned(),
        };
        drive(&mut self.session, &mut self.out, &text)
    }
}

const WELCOME: &str = r#"frame {"id":"x","type":"welcome"}"#;

fn ack(id: u64) -> String {
    format!(r#"frame {{"id":"{id}","type":"ack"}}"#)
}

/// Each input with what it leads to.
fn check(steps: &[(&str, &[&str])]) -> KucoinMarket {
    let mut line = Line::new(WHOLE);
    for (input, want) in steps {
        assert_eq!(&line.feed(input), want, "{input}");
    }
    line.session
}

const SUB_1: &str = r#"send {"id":1,"type":"subscribe","topic":"/market/level2:A-USDT,B-USDT","privateChannel":false,"response":true}"#;
const SUB_2: &str = r#"send {"id":2,"type":"subscribe","topic":"/market/match:A-USDT,B-USDT","privateChannel":false,"response":true}"#;
const SUB_3: &str = r#"send {"id":3,"type":"subscribe","topic":"/market/ticker:A-USDT,B-USDT","privateChannel":false,"response":true}"#;
const SUBS: &[&str] = &[SUB_1, SUB_2, SUB_3];
const ASK_A: &str = "ask /api/v3/market/orderbook/level2?symbol=A-USDT";
const ASK_B: &str = "ask /api/v3/market/orderbook/level2?symbol=B-USDT";

#[test]
fn what_arrives_before_the_snapshot_waits_for_it() {
    let session = check(&[
        ("1 depth 0 3 4 b99=9#3 b98=8#4", &["0 resync 0", ASK_A]),
        ("2 depth 0 5 7 b98=1#5 a101=0#7", &[]),
        ("3 depth 0 8 8 a103=3#8", &[]),
        // The second message begins before the snapshot and ends behind it: the part that the
        // snapshot has is not told again.
        (
            "4 snap 0 5 b100=1 a101=2",
            &[
                "0 bid 1@100 u5 snapshot clear",
                "0 ask 2@101 u5 snapshot last",
                "0 ask 0@101 u7 last",
                "0 ask 3@103 u8 last",
            ],
        ),
        ("5 depth 0 9 9 b100=0#9", &["0 bid 0@100 u9 last"]),
        // Old; overlapping; nothing but a placeholder; and one beside a change.
        ("6 depth 0 7 9 b55=5#9", &[]),
        ("7 depth 0 9 11 b97=1#11", &["0 bid 1@97 u11 last"]),
        ("8 depth 0 12 12 a0=0#12", &[]),
        ("9 depth 0 13 14 b0=0#13 a104=1#14", &["0 ask 1@104 u14 last"]),
        ("10 snap 0 20 b1=1", &[]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.depth_updates, counters.depth_stale, counters.gaps), (8, 2, 0));
    assert_eq!((counters.snapshots, counters.snapshots_refused), (1, 1));
}

#[test]
fn live_messages_that_begin_before_the_snapshot_are_news_from_there_on() {
    check(&[
        ("1 snap 0 5 b100=1", &["0 bid 1@100 u5 snapshot clear last"]),
        ("2 depth 0 3 5 b99=9#4", &[]),
        ("3 depth 0 4 7 b99=9#5 b98=8#6 b97=7#7", &["0 bid 8@98 u7", "0 bid 7@97 u7 last"]),
    ]);
}

#[test]
fn a_hole_in_the_sequence_costs_the_book() {
    check(&[
        ("1 depth 0 3 4 b99=9#3", &["0 resync 0", ASK_A]),
        ("2 snap 0 4 b100=1", &["0 bid 1@100 u4 snapshot clear last"]),
        ("900 depth 0 6 6 b98=1#6", &["0 gap sequence 5 6", "0 resync 1", ASK_A]),
        ("901 depth 0 7 7 b98=2#7", &[]),
        // Messages are missing again, while the book waits: what came before is useless.
        ("902 depth 0 9 9 b98=3#9", &["0 gap sequence 8 9", "0 resync 1"]),
        ("1500 snap 0 7 b100=1", &["0 gap snapshot_too_old 8 7", "0 resync 7", ASK_A]),
        ("1600 snap 0 8 a100=1", &["0 ask 1@100 u8 snapshot clear last", "0 bid 3@98 u9 last"]),
    ]);
}

#[test]
fn a_book_is_known_as_far_as_its_snapshot_reaches() {
    let options = Options { snapshot_levels: 25, ..WHOLE };
    let side = |mark: char, from: u64, count: u64| {
        (from..from + count).map(|it| format!("{mark}{it}=1")).collect::<Vec<_>>().join(" ")
    };
    let mut line = Line::new(options);
    // The bids are cut off at 76; there are no more than 10 asks.
    let snapshot = format!("1 snap 0 5 {} {}", side('b', 76, 25), side('a', 101, 10));
    assert_eq!(line.feed(&snapshot).len(), 35);
    let mut check = |input: &str, want: &[&str]| assert_eq!(line.feed(input), want, "{input}");
    check("2 depth 0 6 6 b75=3#6", &[]);
    check("3 depth 0 7 8 b76=3#7 b74=1#8", &["0 bid 3@76 u8 last"]);
    check("4 depth 0 9 9 a500=3#9", &["0 ask 3@500 u9 last"]);
    check(
        "5 depth 0 10 14 b100=0#10 b99=0#11 b98=0#12 b97=0#13 b96=0#14",
        &[
            "0 bid 0@100 u14",
            "0 bid 0@99 u14",
            "0 bid 0@98 u14",
            "0 bid 0@97 u14",
            "0 bid 0@96 u14 last",
        ],
    );
    // Twenty are left; the next that goes leaves too few.
    check(
        "600 depth 0 15 15 b95=0#15",
        &["0 bid 0@95 u15 last", "0 gap shallow 0 0", "0 resync 6", ASK_A],
    );
    check("601 depth 0 16 16 b94=0#16", &[]);
    // The next snapshot reaches as far as it reaches.
    check(
        "602 snap 0 15 b95=1 b60=2",
        &["0 bid 1@95 u15 snapshot clear", "0 bid 2@60 u15 snapshot last", "0 bid 0@94 u16 last"],
    );
    check("603 depth 0 17 17 b1=1#17", &["0 bid 1@1 u17 last"]);
    // A book that is cut off and crosses is noticed here.
    check(
        "1200 depth 0 18 18 a60=1#18",
        &["0 ask 1@60 u18 last", "0 gap crossed 0 0", "0 resync 3", ASK_A],
    );
}

#[test]
fn a_connection_is_dialled_with_a_token() {
    let mut line = Line::new(WHOLE);
    assert_eq!(line.session.dial(), Dial::Ask("/api/v1/bullet-public".into()));
    let reply = |token: &str, endpoint: &str, interval: u64, timeout: u64| {
        format!(
            r#"{{"code":"200000","data":{{"token":"{token}","instanceServers":[{{"endpoint":"{endpoint}","encrypt":true,"protocol":"websocket","pingInterval":{interval},"pingTimeout":{timeout}}}]}}}}"#
        )
    };
    let good = reply("2neA-x_.==", "wss://ws-api-spot.kucoin.com/", 30_000, 5_000);
    let address = |count: u32| {
        format!("wss://ws-api-spot.kucoin.com/?token=2neA-x_.==&connectId=kairos{count}")
    };
    assert_eq!(line.session.on_dial_reply(good.as_bytes()), Ok(address(1)));
    assert_eq!(line.session.on_dial_reply(good.as_bytes()), Ok(address(2)));
    let mut refused = |body: &str, fault: Fault| {
        assert_eq!(line.session.on_dial_reply(body.as_bytes()), Err(fault.into()), "{body}");
    };
    refused("", Fault::NotJson);
    refused("<html>", Fault::NotJson);
    refused("{}", Fault::Shape);
    refused(r#"{"code":"200000","data":{"token":"x","instanceServers":[]}}"#, Fault::Shape);
    refused(&reply("", "wss://x/", 18_000, 10_000), Fault::Shape);
    refused(&reply("a&b=c", "wss://x/", 18_000, 10_000), Fault::Shape);
    refused(&reply("a b", "wss://x/", 18_000, 10_000), Fault::Shape);
    refused(&reply("a", "wss://x/?y", 18_000, 10_000), Fault::Shape);
    refused(&reply("a", "wss://x/", 0, 10_000), Fault::Time);
    refused(&reply("a", "wss://x/", 18_000, 999_999_999), Fault::Time);
    let mut unwilling = |body: &str, words: &str, retry_after_s: u64| {
        let want = NoAddress::Refused { words: words.into(), retry_after_s };
        assert_eq!(line.session.on_dial_reply(body.as_bytes()), Err(want), "{body}");
    };
    unwilling(r#"{"code":"429000","msg":"too \"many\""}"#, r#"code 429000: too "many""#, 30);
    unwilling(r#"{"code":"1015","msg":"IP blocked"}"#, "code 1015: IP blocked", 30);
    unwilling(r#"{"code":"400100"}"#, "code 400100: ", 0);
    unwilling(&good.replace("200000", "200001"), "code 200001: ", 0);
    // What was refused changed nothing: pings are those of the last good answer.
    line.feed("0 open");
    line.feed(&format!("1 {WELCOME}"));
    let told = |wishes: Vec<String>| wishes.into_iter().find(|it| !it.contains("subscribe"));
    assert_eq!(told(line.feed("29999 time")), None);
    assert_eq!(told(line.feed("30000 time")).unwrap(), r#"send {"id":"100","type":"ping"}"#);
    assert_eq!(told(line.feed("35000 time")), None);
    assert_eq!(told(line.feed("35001 time")).unwrap(), "reconnect Silent");
}

#[test]
fn topics_are_asked_for_after_the_welcome_and_until_they_are_acknowledged() {
    check(&[
        ("0 open", &[]),
        ("4000 time", &[]),
        (&format!("4100 {WELCOME}"), SUBS),
        (&format!("4200 {}", ack(2)), &[]),
        ("4300 time", &[]),
        (
            r#"4400 frame {"id":"3","type":"error","code":509,"data":"exceed max subscription count"}"#,
            &[
                "65535 venue_error 509",
                "65535 said \"exceed max subsc\"",
                "65535 said \"ription count\"",
            ],
        ),
        ("4899 time", &[]),
        ("4900 time", &[SUB_3]),
        (&format!("5000 {}", ack(3)), &[]),
        // No answer at all: asked for again when it is overdue, and again, ever more slowly.
        ("9099 time", &[]),
        ("9100 time", &[SUB_1]),
        // Quiet books wait for the topic that would bring their changes.
        ("10400 time", &[]),
        (&format!("10500 {}", ack(1)), &[]),
        ("11499 time", &[]),
        ("11500 time", &[ASK_A, ASK_B]),
        ("11600 snap 0 5", &["0 bid 0@0 u5 snapshot clear last"]),
        ("11700 failed 1", &[]),
        ("12199 time", &[]),
        ("12200 time", &[ASK_B]),
    ]);
}

#[test]
fn pings_go_out_at_their_interval_and_silence_is_noticed() {
    let mut line = Line::new(WHOLE);
    line.feed("0 ready");
    line.feed("1 snap 0 5");
    line.feed("1 snap 1 5");
    let mut check = |input: &str, want: &[&str]| assert_eq!(line.feed(input), want, "{input}");
    let ping = |id: u64| format!(r#"send {{"id":"{id}","type":"ping"}}"#);
    check("17999 time", &[]);
    // Whatever else comes: the venue wants its pings.
    check("17999 depth 0 6 6 b1=1#6", &["0 bid 1@1 u6 last"]);
    check("18000 time", &[&ping(100)]);
    check("18001 time", &[]);
    check(r#"18100 frame {"id":"100","type":"pong"}"#, &[]);
    check("36000 time", &[&ping(101)]);
    check("46099 time", &[]);
    check("46100 time", &["reconnect Silent"]);
    check("46101 alive", &[]);
    check("46102 time", &[]);
}

#[test]
fn a_connection_is_replaced_before_its_token_ends() {
    let mut line = Line::new(WHOLE);
    line.feed("0 ready");
    line.feed("1 snap 0 5");
    line.feed("1 snap 1 5");
    line.feed("85799000 alive");
    line.feed("85799998 time");
    assert!(line.feed("85799999 time").is_empty());
    assert_eq!(line.feed("85800000 time"), ["reconnect Age"]);
}

#[test]
fn bad_frames_cost_the_book_that_they_speak_of_and_no_other() {
    let bad = |frame: &str, want: &[&str]| {
        let session = check(&[
            ("1 snap 0 7", &["0 bid 0@0 u7 snapshot clear last"]),
            ("1 snap 1 7", &["1 bid 0@0 u7 snapshot clear last"]),
            (&format!("1000 frame {frame}"), want),
        ]);
        assert_eq!(session.counters().malformed(), 1);
    };
    let lost = ["1 malformed 1000", "1 gap malformed 0 0", "1 resync 2", ASK_B];
    bad(r#"{"topic":"/market/level2:B-USDT","type":"message","subj"#, &lost);
    bad(r#"{"data":{"sequenceStart":5,"symbol":"B-USDT","changes":{"asks":[["#, &lost);
    bad(
        r#"{"topic":"/market/level2:B-USDT","type":"message","subject":"trade.l2update","data":{"changes":{"asks":[],"bids":[]},"sequenceEnd":4,"sequenceStart":5,"symbol":"B-USDT"}}"#,
        &lost,
    );
    bad(
        r#"{"topic":"/market/level2:B-USDT","type":"message","subject":"trade.l2update","data":{"changes":{"asks":[],"bids":[]},"sequenceEnd":5,"sequenceStart":5,"symbol":"A-USDT"}}"#,
        &lost,
    );
    let told = ["65535 malformed 1000"];
    bad(r#"{"topic":"/market/match:B-USDT","type":"message","data":{"#, &told);
    bad(r#"{"topic":"/market/level2:Z-USDT","#, &told);
    bad("{}", &told);
    bad("", &told);
}

#[test]
fn bad_frames_are_counted_by_their_fault() {
    let parts = [
        ("price", r#""5""#),
        ("size", r#""1""#),
        ("side", r#""buy""#),
        ("time", r#""1729843222921000000""#),
        ("sequence", r#""7""#),
        ("tradeId", r#""8""#),
        ("symbol", r#""A-USDT""#),
    ];
    let with = |key: &str, value: &str| {
        let data: Vec<_> = parts
            .iter()
            .map(|(k, v)| format!(r#""{k}":{}"#, if *k == key { value } else { v }))
            .collect();
        format!(
            r#"{{"topic":"/market/match:A-USDT","type":"message","subject":"trade.l3match","data":{{{}}}}}"#,
            data.join(",")
        )
    };
    let mut line = Line::new(WHOLE);
    let mut good = |frame: String, want: &str| {
        assert_eq!(line.feed(&format!("1 frame {frame}")), [want], "{frame}");
    };
    good(with("", ""), "0 trade 8 Buy 1@5");
    good(with("side", r#""sell""#), "0 trade 8 Sell 1@5");
    // An id that is no number, or too large for one: the sequence stands in.
    good(with("tradeId", r#""62fade002e113d292303a18b""#), "0 trade 7 Buy 1@5");
    good(with("tradeId", r#""99999999999999999999""#), "0 trade 7 Buy 1@5");
    let quote = |ask: &str, bid: &str| {
        format!(
            r#"{{"topic":"/market/ticker:A-USDT","type":"message","subject":"trade.ticker","data":{{"bestAsk":{ask},"bestAskSize":"1","bestBid":{bid},"bestBidSize":"2","price":"5","sequence":"9","size":"1","time":5}}}}"#
        )
    };
    good(quote(r#""6""#, r#""5""#), "0 quote 2@5 1@6");
    for (frame, fault) in [
        (with("price", "5"), Fault::Shape),
        (with("price", r#""NaN""#), Fault::Number),
        (with("price", r#""5.1""#), Fault::TooFine),
        (with("price", r#""0""#), Fault::NotPositive),
        (with("size", r#""0""#), Fault::NotPositive),
        (with("size", r#""99999999999999999999""#), Fault::TooLarge),
        (with("side", r#""BUY""#), Fault::Shape),
        (with("time", r#""1729843222921""#), Fault::Time),
        (with("time", "1729843222921000000"), Fault::Shape),
        (with("sequence", r#""x""#), Fault::Number),
        (with("symbol", r#""B-USDT""#), Fault::Shape),
        (quote(r#""5""#, r#""5""#), Fault::CrossedQuote),
        (quote("null", r#""5""#), Fault::Shape),
        (r#"{"type":"message","topic":"/market/match:A-USDT"}"#.into(), Fault::Shape),
        (r#"{"type":7}"#.into(), Fault::Shape),
        ("[]".into(), Fault::Shape),
        ("{".into(), Fault::NotJson),
    ] {
        let mut line = Line::new(WHOLE);
        let events = line.feed(&format!("9 frame {frame}"));
        assert_eq!(events, ["65535 malformed 9"], "{frame}");
        let counters = line.session.counters();
        assert_eq!(counters.fault(fault), 1, "{frame}: {:?}", counters.faults);
    }
    // A record that is none.
    for record in [r#"["1","1"]"#, r#"["1","1","x"]"#, r#"["-1","1","5"]"#, r#"["1","-1","5"]"#] {
        let mut line = Line::new(WHOLE);
        let frame = format!(
            r#"9 frame {{"topic":"/market/level2:A-USDT","type":"message","subject":"trade.l2update","data":{{"changes":{{"asks":[{record}],"bids":[]}},"sequenceEnd":5,"sequenceStart":5,"symbol":"A-USDT"}}}}"#
        );
        assert_eq!(line.feed(&frame)[..2], ["0 malformed 9", "0 gap malformed 0 0"], "{record}");
    }
}

#[test]
fn what_the_venue_says_is_told() {
    let session = check(&[
        (
            r#"1 frame {"id":"9","type":"error","code":"404","data":"topic /market/match:B-USDT is not found"}"#,
            &[
                "1 venue_error 404",
                "1 said \"topic /market/ma\"",
                "1 said \"tch:B-USDT is no\"",
                "1 said \"t found\"",
            ],
        ),
        // Of several symbols nobody knows which one is meant.
        (
            r#"2 frame {"id":"9","type":"error","code":404,"data":"topic /market/match:A-USDT,B-USDT"}"#,
            &[
                "65535 venue_error 404",
                "65535 said \"topic /market/ma\"",
                "65535 said \"tch:A-USDT,B-USD\"",
                "65535 said \"T\"",
            ],
        ),
        (r#"3 frame {"type":"error"}"#, &["65535 venue_error 0"]),
        (
            r#"4 snapshot 0 {"code":"429000","msg":"Too many requests"}"#,
            &["0 venue_error 429000", "0 said \"Too many request\"", "0 said \"s\""],
        ),
        (r#"5 frame {"id":"9","type":"notice","data":"x"}"#, &[]),
        (r#"6 frame {"type":"message","topic":"/market/candles:A-USDT_1min","data":{}}"#, &[]),
        (r#"7 frame {"type":"message","topic":"/market/match:Z-USDT","data":{}}"#, &[]),
    ]);
    let counters = session.counters();
    assert_eq!((counters.error_replies, counters.malformed()), (4, 0));
    assert_eq!((counters.ignored, counters.unknown_symbols), (5, 1));
}

#[test]
fn a_snapshot_that_cannot_be_read_is_asked_for_again_not_at_once() {
    check(&[
        ("1 depth 0 3 4 b99=9#3", &["0 resync 0", ASK_A]),
        ("2 snapshot 0 {", &["0 malformed 2"]),
        ("3 depth 0 5 5 b99=9#5", &[]),
        ("502 depth 0 6 6 b99=9#6", &[ASK_A]),
        (r#"503 snapshot 0 {"code":"200000","data":null}"#, &["0 malformed 503"]),
        ("1502 depth 0 7 7 b99=9#7", &[]),
        ("1503 depth 0 8 8 b99=9#8", &[ASK_A]),
    ]);
}

#[test]
fn a_lost_connection_forgets_everything() {
    check(&[
        ("1 depth 0 3 4 b99=9#3", &["0 resync 0", ASK_A]),
        ("2 snap 0 4 b100=1", &["0 bid 1@100 u4 snapshot clear last"]),
        ("3 close", &["0 gap disconnected 0 0", "1 gap disconnected 0 0"]),
        ("4000 time", &[]),
        ("4000 open", &[]),
        (&format!("4001 {WELCOME}"), SUBS),
        ("4002 depth 0 5 5 b98=1#5", &[ASK_A]),
        ("4003 snap 0 5 b100=1", &["0 bid 1@100 u5 snapshot clear last"]),
    ]);
}

#[test]
fn what_the_caller_dropped_is_rebuilt() {
    check(&[
        ("1 snap 0 4", &["0 bid 0@0 u4 snapshot clear last"]),
        ("2 resync 0", &["0 gap dropped 0 0", "0 resync 4", ASK_A]),
        (
            "700 resync ?",
            &["0 gap dropped 0 0", "0 resync 4", "1 gap dropped 0 0", "1 resync 4", ASK_A, ASK_B],
        ),
    ]);
}

#[test]
fn a_recorded_reply_goes_to_the_book_of_its_request_and_to_no_other() {
    let body = r#"{"code":"200000","data":{"time":5,"sequence":"43","bids":[],"asks":[]}}"#;
    let mut line = Line::new(Options::default());
    let mut rest = |target: &str| line.feed(&format!("1 rest {target} {body}"));
    assert!(rest("/api/v3/market/orderbook/level2?symbol=Z-USDT").is_empty(), "not ours");
    assert!(rest("/api/v2/symbols").is_empty());
    assert!(rest("/api/v1/market/histories?symbol=A-USDT").is_empty());
    assert!(rest("/api/v1/market/orderbook/level2_20?symbol=A-USDT").is_empty(), "too few");
    let of = |i: u8| format!("{i} bid 0@0 u43 snapshot clear last");
    assert_eq!(rest("https://x/api/v1/market/orderbook/level2_100?symbol=B-USDT"), [of(1)]);
    assert_eq!(rest("/api/v3/market/orderbook/level2?symbol=A-USDT"), [of(0)]);
    let counters = line.session.counters();
    assert_eq!((counters.unknown_symbols, counters.ignored), (1, 3));
    // Without a name it goes where its sequence fits, or to the only one that waits.
    let mut line = Line::new(WHOLE);
    line.feed("1 depth 0 1000 1004 b1=1#1004");
    line.feed("1 depth 1 5000 5004 b1=1#5004");
    let events = line.feed("2 snap ? 5003");
    assert_eq!(events, ["1 bid 0@0 u5003 snapshot clear last", "1 bid 1@1 u5004 last"]);
    assert!(line.feed("3 snap ? 99999999").is_empty(), "nobody's");
    assert_eq!(line.session.counters().unknown_symbols, 1);
}

#[test]
fn many_books_are_asked_for_within_what_the_venue_allows() {
    let symbols: Vec<_> = (0..100).map(|n| format!("C{n}-USDT")).collect();
    let symbols: Vec<_> = symbols.iter().map(String::as_str).collect();
    let (table, ids) = table_of("kucoin", &symbols, split_symbol);
    let mut session = KucoinMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let mut out = Outbox::new();
    let mut asked = 0;
    for ms in 0..300 {
        let wishes = drive(&mut session, &mut out, &format!("{} resync ?", ms * 100));
        asked += wishes.iter().filter(|it| it.starts_with("ask ")).count();
    }
    assert_eq!(asked, 300, "in 30 seconds, of 100 books that broke in each of their tenths");
    let wishes = drive(&mut session, &mut out, "30100 resync 0");
    assert_eq!(wishes.last().unwrap(), "ask /api/v1/market/orderbook/level2_100?symbol=C0-USDT");
}

#[test]
fn what_no_connection_can_serve_is_refused() {
    let (table, ids) = table_of("kucoin", &["A-USDT"], split_symbol);
    let refused = |venue: u8, ids: &[InstrumentId]| {
        KucoinMarket::new(&table, VenueId(venue), ids, WHOLE).err()
    };
    assert_eq!(refused(0, &[]), Some(SetupError::NoInstruments));
    assert_eq!(refused(1, &ids), Some(SetupError::ForeignInstrument { id: ids[0] }));
    let found = SetupError::TooManyStreams { found: 303, limit: 300 };
    assert_eq!(refused(0, &[ids[0]; 101]), Some(found));
}

#[test]
fn lists_that_make_no_sense_are_named() {
    let list = |tick: &str, lot: &str, min: &str, funds: &str| {
        format!(
            r#"{{"code":"200000","data":[{{"symbol":"A-B","baseCurrency":"A","quoteCurrency":"B","baseMinSize":"{min}","quoteMinSize":"7","baseIncrement":"{lot}","priceIncrement":"{tick}","minFunds":{funds},"enableTrading":false}}]}}"#
        )
    };
    let check = |text: &str, want: &str| {
        let error = parse_list(text.as_bytes(), &[]).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
    };
    let good = parse_list(list("0.01", "0.001", "0", "\"0.1\"").as_bytes(), &["A-B"]).unwrap();
    assert_eq!((good[0].min_qty, good[0].lot), (good[0].lot, good[0].lot));
    assert_eq!((good[0].min_notional.0, good[0].trading), (10_000_000, false));
    let good = parse_list(list("0.01", "0.001", "0", "null").as_bytes(), &[]).unwrap();
    assert_eq!(good[0].min_notional.0, 700_000_000);
    check(&list("0", "1", "1", "null"), r#"A-B: symbol priceIncrement = "0": must be positive"#);
    check(&list("1", "x", "1", "null"), r#"A-B: symbol baseIncrement = "x": must be a decimal"#);
    check(&list("1", "1", "-1", "null"), r#"A-B: symbol baseMinSize = "-1": must not be neg"#);
    check(&list("1", "1", "1", "\"y\""), r#"A-B: symbol minFunds = "y": must be a decimal"#);
    check(
        &list("0.0000000000001", "1", "1", "null"),
        r#"A-B: symbol priceIncrement = "0.0000000000001": must have at most 12 decimals"#,
    );
    check(r#"{"code":"429000","msg":"busy"}"#, "the venue refuses: code 429000: busy");
    check("[]", "not a list of instruments: ");
}
