//! Golden lines: what scripts read.

use kairos_logic::code::Code;
use kairos_logic::event::{Flags, GapReason, ReportState, StatusCode, Verb};
use kairos_logic::instrument::Instrument;
use kairos_logic::order::{Action, OrderFlags, OrderType, Reason, RiskState, TimeInForce, Verdict};
use kairos_logic::units::{
    CurrencyId, InstrumentId, Money, Nanos, Price, Qty, Seq, Side, StrategyId, VenueId,
};

use super::*;
use crate::frames::Part;

const I: InstrumentId = InstrumentId(0);
const AT: Nanos = Nanos(1_000);

fn table() -> InstrumentTable {
    let mut table = InstrumentTable { venues: vec!["binance".to_owned()], ..Default::default() };
    let (base, quote) = (table.intern_currency("BTC"), table.intern_currency("USDT"));
    table.instruments.push(Instrument {
        venue: VenueId(0),
        symbol: "BTCUSDT".to_owned(),
        base,
        quote,
        price_scale: 10,
        qty_scale: 8,
        tick: Price(1),
        lot: Qty(1),
        min_qty: Qty(1),
        min_notional: Money(0),
        maker_fee_ppm: 200,
        taker_fee_ppm: 400,
    });
    table
}

fn renderer() -> Renderer {
    let tri = StrategyName { name: "tri".to_owned(), kind: "tri_arb".to_owned() };
    Renderer::new(&table(), &[tri], Clock { tsc_hz: 2_000_000_000, start: 100 })
}

fn json(record: &Record<'_>) -> String {
    let mut out = String::new();
    renderer().json(7, record, &mut out);
    let value: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert!(value.is_object());
    out
}

fn check(event: Event, want: &str) {
    assert_eq!(json(&Record::Event(event)), want);
}

#[test]
fn one_event_is_one_object() {
    let mut trade = Event::trade(
        AT,
        Nanos(900),
        I,
        Price(618_376_300_000_000),
        Qty(150_000_000),
        42,
        Side::Sell,
    );
    trade.recv = Stamp(300);
    trade.in_after = 50;
    check(
        trade,
        r#"{"seq":7,"kind":"trade","venue":"binance","instrument":"BTCUSDT","at":1000,"venue_at":900,"id":42,"price":"61837.63","qty":"1.5","side":"sell","stamps":{"recv":100,"in":125}}"#,
    );
    check(
        Event::quote(
            AT,
            Nanos(0),
            I,
            (Price(10_000_000_000), Qty(100_000_000)),
            (Price(0), Qty(0)),
        ),
        r#"{"seq":7,"kind":"quote","venue":"binance","instrument":"BTCUSDT","at":1000,"bid":"1","bid_qty":"1"}"#,
    );
    check(
        Event::book(
            AT,
            Nanos(1),
            I,
            Side::Sell,
            Price(1),
            Qty(0),
            9,
            Flags::LAST.with(Flags::SNAPSHOT).with(Flags::CLEAR),
        ),
        r#"{"seq":7,"kind":"book","venue":"binance","instrument":"BTCUSDT","at":1000,"venue_at":1,"side":"ask","price":"0.0000000001","qty":"0","update":9,"flags":["LAST","SNAPSHOT","CLEAR"]}"#,
    );
    check(
        Event::book(AT, Nanos(0), I, Side::Buy, Price(1), Qty(1), 9, Flags::NONE),
        r#"{"seq":7,"kind":"book","venue":"binance","instrument":"BTCUSDT","at":1000,"side":"bid","price":"0.0000000001","qty":"0.00000001","update":9,"flags":[]}"#,
    );
    check(
        Event::gap(AT, I, GapReason::Sequence, 8, 9),
        r#"{"seq":7,"kind":"gap","venue":"binance","instrument":"BTCUSDT","at":1000,"reason":"sequence","expected":8,"found":9}"#,
    );
    check(
        Event::status(AT, InstrumentId::NONE, VenueId(0), StatusCode::Malformed, 12),
        r#"{"seq":7,"kind":"status","venue":"binance","at":1000,"status":"malformed","detail":12}"#,
    );
    check(Event::timer(AT), r#"{"seq":7,"kind":"timer","at":1000}"#);
    check(
        Event::command(AT, Verb::StrategyDisable, 3),
        r#"{"seq":7,"kind":"command","at":1000,"verb":"strategy_disable","argument":3}"#,
    );
    check(
        Event::balance(AT, VenueId(0), CurrencyId(1), Money(250_000_000), Money(-1)),
        r#"{"seq":7,"kind":"balance","venue":"binance","at":1000,"currency":"USDT","total":"2.5","available":"-0.00000001"}"#,
    );
    check(
        Event::config(AT, 0xab),
        r#"{"seq":7,"kind":"config","at":1000,"digest":"00000000000000ab"}"#,
    );
}

#[test]
fn reports_say_what_became_of_an_order() {
    let order = OrderId::new(2, 5);
    check(
        Event::fill(
            AT,
            Nanos(0),
            I,
            order,
            Side::Buy,
            Price(20_000_000_000),
            Qty(50_000_000),
            Money(40_000),
            true,
        ),
        r#"{"seq":7,"kind":"report","venue":"binance","instrument":"BTCUSDT","at":1000,"order_id":"2-5","state":"filled","side":"buy","price":"2","qty":"0.5","fee":"0.0004","maker":true}"#,
    );
    check(
        Event::report(
            AT,
            Nanos(0),
            I,
            order,
            Side::Sell,
            ReportState::Cancelled,
            Qty(1),
            Code::IocPartialCancel,
        ),
        r#"{"seq":7,"kind":"report","venue":"binance","instrument":"BTCUSDT","at":1000,"order_id":"2-5","state":"cancelled","side":"sell","remaining":"0.00000001","reason":"ioc_partial_cancel"}"#,
    );
    let mut sent = Event::report(
        AT,
        Nanos(0),
        I,
        order,
        Side::Buy,
        ReportState::Sent,
        Qty(100_000_000),
        Code::None,
    );
    sent.recv = Stamp(102);
    check(
        sent,
        r#"{"seq":7,"kind":"report","venue":"binance","instrument":"BTCUSDT","at":1000,"order_id":"2-5","state":"sent","side":"buy","remaining":"1","stamps":{"sent":1,"in":1}}"#,
    );
}

fn decision() -> Decision {
    Decision {
        cause: Seq(6),
        at: AT,
        order: OrderId::new(1, 9),
        price: Price(15_000_000_000),
        qty: Qty(200_000_000),
        found: 0,
        limit: 0,
        notional: Money(300_000_000),
        instrument: I,
        confidence: 7_500,
        tag: 0,
        strategy: StrategyId(0),
        action: Action::Place,
        side: Side::Buy,
        order_type: OrderType::Limit,
        tif: TimeInForce::Ioc,
        flags: OrderFlags::NONE,
        reason: Reason::Leg,
        verdict: Verdict::Approved,
        code: Code::None,
        state: RiskState::Running,
    }
}

fn decided(record: Decision) -> String {
    json(&Record::Decision { record, strategy_at: Stamp(90), risk_at: Stamp(200) })
}

#[test]
fn a_decision_has_its_numbers_in_their_own_units() {
    let good = r#"{"seq":7,"kind":"decision","venue":"binance","instrument":"BTCUSDT","at":1000,"order_id":"1-9","strategy":"tri","action":"place","side":"buy","type":"limit","tif":"ioc","price":"1.5","qty":"2","approved":true,"notional":"3","cause":6,"reason":"leg","confidence":0.75,"risk_state":"running","stamps":{"strategy":-5,"risk":50}}"#;
    assert_eq!(decided(decision()), good);
    let denied = |code, found, limit| {
        let line = decided(Decision { verdict: Verdict::Denied, code, found, limit, ..decision() });
        let from = line.find("\"approved\"").unwrap();
        line[from..line.find(",\"notional\"").unwrap()].to_owned()
    };
    assert_eq!(
        denied(Code::MaxOrderSizeExceeded, 150_000_000, 100_000_000),
        r#""approved":false,"code":"max_order_size_exceeded","found":"1.5","limit":"1""#
    );
    assert_eq!(
        denied(Code::InvalidPrice, -5_000_000_000, 1),
        r#""approved":false,"code":"invalid_price","found":"-0.5","limit":"0.0000000001""#
    );
    assert_eq!(
        denied(Code::InvalidQuantity, 1, 100),
        r#""approved":false,"code":"invalid_quantity","found":"0.00000001","limit":"0.000001""#
    );
    assert_eq!(
        denied(Code::OrderRate, 51, 50),
        r#""approved":false,"code":"order_rate","found":"51","limit":"50""#
    );
    assert_eq!(
        denied(Code::MarketDataStale, -1, 5_000),
        r#""approved":false,"code":"market_data_stale","found":"-1","limit":"5000""#
    );
}

#[test]
fn cancels_and_states_of_risk_are_decisions_too() {
    let cancel = Decision {
        action: Action::Cancel,
        strategy: StrategyId::RISK,
        price: Price(0),
        qty: Qty(0),
        notional: Money(0),
        code: Code::HaltCancel,
        reason: Reason::Risk,
        state: RiskState::Halted,
        ..decision()
    };
    assert_eq!(
        decided(cancel),
        r#"{"seq":7,"kind":"decision","venue":"binance","instrument":"BTCUSDT","at":1000,"order_id":"1-9","strategy":"risk","action":"cancel","side":"buy","approved":true,"code":"halt_cancel","cause":6,"reason":"risk","risk_state":"halted","stamps":{"strategy":-5,"risk":50}}"#
    );
    let state = Decision {
        action: Action::State,
        order: OrderId(0),
        instrument: InstrumentId::NONE,
        tag: 2,
        found: 310_000,
        limit: 300_000,
        code: Code::Halted,
        ..cancel
    };
    assert_eq!(
        decided(state),
        r#"{"seq":7,"kind":"decision","at":1000,"strategy":"risk","action":"state","approved":true,"code":"halted","found":"310000","limit":"300000","cause":6,"reason":"risk","trigger":"drawdown","risk_state":"halted","stamps":{"strategy":-5,"risk":50}}"#
    );
    let result = Decision {
        action: Action::Result,
        order: OrderId(0),
        tag: 3,
        found: -150_000_000,
        limit: 200_000_000,
        price: Price(0),
        qty: Qty(0),
        notional: Money(0),
        ..decision()
    };
    assert_eq!(
        decided(result),
        r#"{"seq":7,"kind":"decision","venue":"binance","instrument":"BTCUSDT","at":1000,"strategy":"tri","action":"result","realised":"-1.5","expected":"2","approved":true,"cause":6,"reason":"leg","tag":3,"risk_state":"running","stamps":{"strategy":-5,"risk":50}}"#
    );
    let quote = Decision {
        flags: OrderFlags::POST_ONLY.with(OrderFlags::REDUCE_ONLY),
        tag: 4,
        strategy: StrategyId(3),
        ..decision()
    };
    let line = decided(quote);
    assert!(line.contains(r##""strategy":"#3","action""##), "{line}");
    assert!(line.contains(r#""flags":["REDUCE_ONLY","POST_ONLY"]"#), "{line}");
    assert!(line.contains(r#""tag":4"#), "{line}");
}

#[test]
fn rows_have_the_header_s_columns() {
    let header = Renderer::csv_header();
    assert!(
        header.starts_with("seq,kind,venue,instrument,at,venue_at,id,price,qty,side,"),
        "{header}"
    );
    let row = |record: &Record<'_>| {
        let mut out = String::new();
        renderer().csv(7, record, &mut out);
        assert_eq!(out.matches(',').count(), header.matches(',').count(), "{out}");
        out
    };
    let mut trade = Event::trade(AT, Nanos(900), I, Price(15_000_000_000), Qty(1), 42, Side::Buy);
    trade.recv = Stamp(300);
    let out = row(&Record::Event(trade));
    assert!(out.starts_with("7,trade,binance,BTCUSDT,1000,900,42,1.5,0.00000001,buy,,"), "{out}");
    assert!(out.ends_with(",recv=100|in=100,"), "{out}");
    let out =
        row(&Record::Decision { record: decision(), strategy_at: Stamp(0), risk_at: Stamp(0) });
    assert!(out.contains(",tri,place,limit,ioc,true,"), "{out}");
    let part = Part { kind: crate::frames::CONFIG, part: 0, parts: 2, bytes: &[] };
    assert!(row(&Record::Part(part)).starts_with("7,config_snapshot,,,"));
}

#[test]
fn every_field_of_the_objects_is_a_column() {
    let mut missing = Vec::new();
    let mut see = |record: &Record<'_>| {
        renderer().fields(1, record, &mut |name, _| {
            if !COLUMNS.contains(&name) {
                missing.push(name);
            }
        });
    };
    for event in [
        Event::trade(AT, AT, I, Price(1), Qty(1), 1, Side::Buy),
        Event::quote(AT, AT, I, (Price(1), Qty(1)), (Price(2), Qty(1))),
        Event::book(AT, AT, I, Side::Buy, Price(1), Qty(1), 1, Flags::LAST),
        Event::gap(AT, I, GapReason::Crossed, 1, 2),
        Event::status(AT, I, VenueId(0), StatusCode::Connected, 1),
        Event::command(AT, Verb::Halt, 1),
        Event::balance(AT, VenueId(0), CurrencyId(0), Money(1), Money(1)),
        Event::config(AT, 1),
        Event::fill(AT, AT, I, OrderId(1), Side::Buy, Price(1), Qty(1), Money(1), true),
        Event::report(
            AT,
            AT,
            I,
            OrderId(1),
            Side::Buy,
            ReportState::Expired,
            Qty(1),
            Code::Expired,
        ),
    ] {
        see(&Record::Event(event));
    }
    for action in Action::ALL {
        let record =
            Decision { action: *action, tag: 2, found: 1, code: Code::Halted, ..decision() };
        see(&Record::Decision { record, strategy_at: Stamp(1), risk_at: Stamp(1) });
    }
    assert_eq!(missing, [""; 0]);
}

#[test]
fn names_of_others_are_escaped_and_unknown_ids_are_numbers() {
    let mut table = table();
    table.instruments[0].symbol = "A\"\\\n,ü".to_owned();
    let renderer = Renderer::new(&table, &[], Clock::default());
    let trade = Event::trade(AT, AT, I, Price(1), Qty(1), 1, Side::Buy);
    let (mut text, mut row) = (String::new(), String::new());
    renderer.json(1, &Record::Event(trade), &mut text);
    renderer.csv(1, &Record::Event(trade), &mut row);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["instrument"], "A\"\\\n,ü");
    assert!(row.starts_with("1,trade,binance,\"A\"\"\\\n,ü\",1000,"), "{row}");
    let strange = Event::trade(AT, AT, InstrumentId(9), Price(15), Qty(1), 1, Side::Buy);
    let value = renderer.event_value(3, &strange);
    assert_eq!((&value["instrument"], &value["price"]), (&"#9".into(), &"15".into()));
    let value = renderer.decision_value(4, &decision());
    assert_eq!((&value["strategy"], &value["seq"]), (&"#0".into(), &4.into()));
    assert!(value.get("stamps").is_none());
}
