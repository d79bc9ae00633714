//! `journal dump`: the lines that scripts read, and which of them are asked for.

use std::collections::BTreeMap;
use std::path::Path;

use kairos_logic::code::Code;
use kairos_logic::event::{Event, Flags, GapReason, ReportState, StatusCode, Verb};
use kairos_logic::order::{
    Action, Decision, OrderFlags, OrderType, Reason, RiskState, TimeInForce, Verdict,
};
use kairos_logic::units::{
    CurrencyId, InstrumentId, Money, Nanos, OrderId, Price, Qty, Seq, Side, Stamp, StrategyId,
    VenueId,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::journal;
use crate::journals::{Traded, Written};

const I: InstrumentId = InstrumentId(0);
const AT: Nanos = Nanos(1_700_000_000_000_000_001);
const ORDER: OrderId = OrderId::new(1, 17);

pub(crate) fn decision(cause: u64) -> Decision {
    Decision {
        cause: Seq(cause),
        at: AT,
        order: ORDER,
        price: Price(500_000_100_000_000),
        qty: Qty(1_500_000),
        found: 75_000_000_000,
        limit: 10_000_000_000,
        notional: Money(75_000_015_000),
        instrument: I,
        confidence: 5_000,
        tag: 0,
        strategy: StrategyId(0),
        action: Action::Place,
        side: Side::Buy,
        order_type: OrderType::Limit,
        tif: TimeInForce::Ioc,
        flags: OrderFlags::NONE,
        reason: Reason::Leg,
        verdict: Verdict::Denied,
        code: Code::MaxOrderSizeExceeded,
        state: RiskState::Running,
    }
}

/// Every kind of event once, in seq 4 to 14.
pub(crate) fn every_kind() -> [Event; 11] {
    let (bid, ask) = ((Price(1), Qty(2)), (Price(30_000_000_000), Qty(4)));
    let flags = Flags::LAST.with(Flags::SNAPSHOT).with(Flags::CLEAR);
    let venue_at = Nanos(1_700_000_000_000_000_000);
    let (price, qty) = (Price(618_376_300_000_000), Qty(150_000_000));
    let none = InstrumentId::NONE;
    let mut trade = Event::trade(AT, venue_at, I, price, qty, 42, Side::Sell);
    (trade.recv, trade.in_after) = (Stamp(3_000), 40);
    [
        trade,
        Event::quote(AT, Nanos(0), I, bid, ask),
        Event::book(AT, venue_at, I, Side::Sell, price, Qty(0), 9, flags),
        Event::gap(AT, I, GapReason::Sequence, 8, 10),
        Event::status(AT, none, VenueId(0), StatusCode::Connected, 0),
        Event::timer(AT),
        Event::command(AT, Verb::Halt, 3),
        Event::report(AT, AT, I, ORDER, Side::Buy, ReportState::Sent, qty, Code::None),
        Event::fill(AT, AT, I, ORDER, Side::Buy, price, qty, Money(40_000), true),
        Event::balance(AT, VenueId(0), CurrencyId(1), Money(250_000_000), Money(0)),
        Event::config(AT, 0xab),
    ]
}

fn write_every_kind(dir: &Path) {
    let mut run = Written::begin(dir);
    for event in every_kind() {
        run.event(&event);
    }
    run.decision(&decision(4), (Stamp(3_100), Stamp(3_160)));
    run.end();
}

#[test]
fn each_kind_has_the_fields_that_scripts_rely_on() {
    let dir = TempDir::new().unwrap();
    write_every_kind(dir.path());
    let said = journal("dump", dir.path(), "").expect(0);
    let place = r#""venue":"binance","instrument":"BTCUSDT","at":1700000000000000001"#;
    let venue_at = r#""venue_at":1700000000000000000"#;
    let seen = r#""venue_at":1700000000000000001"#;
    let want = [
        format!(
            r#"{{"seq":4,"kind":"trade",{place},{venue_at},"id":42,"price":"61837.63","qty":"1.5","side":"sell","stamps":{{"recv":2000,"in":2040}}}}"#
        ),
        format!(
            r#"{{"seq":5,"kind":"quote",{place},"bid":"0.0000000001","bid_qty":"0.00000002","ask":"3","ask_qty":"0.00000004"}}"#
        ),
        format!(
            r#"{{"seq":6,"kind":"book",{place},{venue_at},"side":"ask","price":"61837.63","qty":"0","update":9,"flags":["LAST","SNAPSHOT","CLEAR"]}}"#
        ),
        format!(r#"{{"seq":7,"kind":"gap",{place},"reason":"sequence","expected":8,"found":10}}"#),
        r#"{"seq":8,"kind":"status","venue":"binance","at":1700000000000000001,"status":"connected","detail":0}"#.into(),
        r#"{"seq":9,"kind":"timer","at":1700000000000000001}"#.into(),
        r#"{"seq":10,"kind":"command","at":1700000000000000001,"verb":"halt","argument":3}"#.into(),
        format!(
            r#"{{"seq":11,"kind":"report",{place},{seen},"order_id":"1-17","state":"sent","side":"buy","remaining":"1.5"}}"#
        ),
        format!(
            r#"{{"seq":12,"kind":"report",{place},{seen},"order_id":"1-17","state":"filled","side":"buy","price":"61837.63","qty":"1.5","fee":"0.0004","maker":true}}"#
        ),
        r#"{"seq":13,"kind":"balance","venue":"binance","at":1700000000000000001,"currency":"USDT","total":"2.5","available":"0"}"#.into(),
        r#"{"seq":14,"kind":"config","at":1700000000000000001,"digest":"00000000000000ab"}"#.into(),
        format!(
            r#"{{"seq":15,"kind":"decision",{place},"order_id":"1-17","strategy":"tri","action":"place","side":"buy","type":"limit","tif":"ioc","price":"50000.01","qty":"0.015","approved":false,"code":"max_order_size_exceeded","found":"750","limit":"100","notional":"750.00015","cause":4,"reason":"leg","confidence":0.5,"risk_state":"running","stamps":{{"strategy":2100,"risk":2160}}}}"#
        ),
    ];
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines, want.each_ref());
    assert_eq!(said.err, "");
    assert_eq!(journal("dump", dir.path(), "--json").expect(0).out, said.out);
}

#[test]
fn options_choose_lines() {
    let dir = TempDir::new().unwrap();
    write_every_kind(dir.path());
    let check = |options: &str, want: &[u64]| {
        let said = journal("dump", dir.path(), options).expect(0);
        let seqs: Vec<u64> =
            said.lines().iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, want, "{options}");
    };
    check("", &[4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    check("--kind trade,quote", &[4, 5]);
    check("--kind trade --kind decision", &[4, 15]);
    check("--kind gap,status,timer,command,balance,config", &[7, 8, 9, 10, 13, 14]);
    check("--kind book,report", &[6, 11, 12]);
    check("--from-seq 12", &[12, 13, 14, 15]);
    check("--to-seq 5", &[4, 5]);
    check("--from-seq 6 --to-seq 7", &[6, 7]);
    check("--from-seq 7 --to-seq 6", &[]);
    check("--from-seq 99", &[]);
    check("--limit 3", &[4, 5, 6]);
    check("--limit 0", &[]);
    check("--kind report --limit 1", &[11]);
    check("--instrument BTCUSDT", &[4, 5, 6, 7, 11, 12, 15]);
    check("--instrument ETHUSDT", &[]);
    check("--order 1-17", &[11, 12, 15]);
    check("--order 2-17", &[]);
    check("--order 1-17 --kind decision", &[15]);
}

#[test]
fn all_shows_the_journal_s_own_frames_and_the_marks_of_runs() {
    let dir = TempDir::new().unwrap();
    write_every_kind(dir.path());
    let said = journal("dump", dir.path(), "--all").expect(0);
    let lines = said.lines();
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    for kind in
        ["segment_start", "run_start", "config_snapshot", "instruments", "strategies", "run_end"]
    {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    assert_eq!(kinds.first(), Some(&"segment_start"));
    let end = lines.iter().find(|line| line["kind"] == "run_end").unwrap();
    assert_eq!((&end["run"], &end["reason"]), (&1.into(), &"end_of_capture".into()));
    // A physical frame carries the seq of the next event, so the numbers never fall.
    let seqs: Vec<u64> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    let csv = journal("dump", dir.path(), "--all --format csv").expect(0);
    assert_eq!(csv.out.lines().count(), lines.len() + 1);
}

#[test]
fn csv_has_a_header_and_one_row_per_line() {
    let dir = TempDir::new().unwrap();
    write_every_kind(dir.path());
    let said = journal("dump", dir.path(), "--format csv").expect(0);
    let mut rows = said.out.lines().map(|row| row.split(',').collect::<Vec<_>>());
    let header = rows.next().unwrap();
    let column = |name: &str| header.iter().position(|it| *it == name).unwrap();
    let rows: Vec<Vec<&str>> = rows.collect();
    assert_eq!(rows.len(), 12);
    assert!(rows.iter().all(|row| row.len() == header.len()), "{said:?}");
    let check = |row: usize, name: &str, want: &str| assert_eq!(rows[row][column(name)], want);
    check(0, "kind", "trade");
    check(0, "price", "61837.63");
    check(0, "side", "sell");
    check(0, "bid", "");
    check(2, "flags", "LAST|SNAPSHOT|CLEAR");
    check(11, "order_id", "1-17");
    check(11, "code", "max_order_size_exceeded");
    check(11, "cause", "4");
}

#[test]
fn what_the_engine_wrote_is_whole_and_ordered() {
    let traded = Traded::new();
    let said = journal("dump", &traded.journal(), "").expect(0);
    let lines = said.lines();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut before = 0;
    for line in &lines {
        let seq = line["seq"].as_u64().unwrap();
        assert!(before < seq, "{before} before {seq}");
        before = seq;
        *counts.entry(line["kind"].as_str().unwrap()).or_default() += 1;
        if line["kind"] == "decision" {
            assert!(line["cause"].as_u64().unwrap() < seq, "a cause stands before: {line}");
        }
    }
    for kind in ["trade", "quote", "book", "status", "timer", "command", "decision", "report"] {
        assert!(counts.contains_key(kind), "{kind} in {counts:?}");
    }
    let info = journal("info", &traded.journal(), "--json").expect(0).document();
    let counted: BTreeMap<&str, u64> = info["events"]
        .as_object()
        .unwrap()
        .iter()
        .map(|it| (it.0.as_str(), it.1.as_u64().unwrap()))
        .collect();
    assert_eq!(counted, counts);
    sent_orders_follow_their_decisions(&lines);
}

/// Every order that left was approved before, and every fill is of an order that left.
fn sent_orders_follow_their_decisions(lines: &[Value]) {
    let mut approved = Vec::new();
    let mut sent = Vec::new();
    for line in lines {
        let order = &line["order_id"];
        match (line["kind"].as_str().unwrap(), line["state"].as_str()) {
            ("decision", _) if line["approved"] == true && line["action"] == "place" => {
                approved.push(order);
            }
            ("report", Some("sent")) => {
                assert!(approved.contains(&order), "sent and not approved: {line}");
                sent.push(order);
            }
            ("report", Some("filled")) => assert!(sent.contains(&order), "{line}"),
            _ => {}
        }
    }
    assert!(!sent.is_empty(), "the strategies trade on this capture");
}
