//! Frames read back as what was written, and arbitrary bytes do no harm.

use kairos_logic::code::Code;
use kairos_logic::instrument::Instrument;
use kairos_logic::order::{Action, OrderFlags, OrderType, Reason, RiskState, TimeInForce, Verdict};
use kairos_logic::units::{
    CurrencyId, InstrumentId, Money, Nanos, OrderId, Price, Qty, Seq, Side, StrategyId, VenueId,
};
use proptest::prelude::*;

use super::*;

fn read<const WORDS: usize, const BYTES: usize>(
    frame: &Fixed<WORDS, BYTES>,
) -> Result<Record<'_>, FrameError> {
    Record::read(frame.kind, frame.schema, frame.ts, &frame.ext, &frame.payload)
}

#[test]
fn an_event_reads_back_with_its_stamps() {
    let mut event =
        Event::trade(Nanos(1), Nanos(2), InstrumentId(3), Price(4), Qty(5), 6, Side::Sell);
    event.recv = Stamp(7);
    event.in_after = u32::MAX;
    let frame = super::event(&event);
    assert_eq!((frame.kind, frame.ts, frame.ext), (0x0101, 7, [u64::from(u32::MAX)]));
    assert_eq!(read(&frame), Ok(Record::Event(event)));

    let swapped = Record::read(0x0102, SCHEMA, 7, &frame.ext, &frame.payload);
    assert!(matches!(swapped, Err(FrameError::Malformed { .. })), "a trade is no quote");
    let bare = Record::read(frame.kind, SCHEMA, 7, &[], &frame.payload);
    assert!(matches!(bare, Err(FrameError::Malformed { .. })), "no extension word");
    let wide = Record::read(frame.kind, SCHEMA, 7, &[1 << 32], &frame.payload);
    assert!(matches!(wide, Err(FrameError::Malformed { .. })), "33 bits");
    let newer = Record::read(frame.kind, 2, 7, &frame.ext, &frame.payload);
    assert_eq!(newer, Err(FrameError::UnknownSchema { kind: 0x0101, schema: 2 }));
    let unknown = Record::read(0x01ff, 1, 7, &[], &[]).unwrap_err().to_string();
    assert_eq!(unknown, "frame kind 0x01ff: not known to this version; it needs a newer kairos");
}

#[test]
fn a_decision_reads_back_with_its_stamps() {
    let record = Decision {
        cause: Seq(1),
        at: Nanos(2),
        order: OrderId(3),
        price: Price(4),
        qty: Qty(5),
        found: -6,
        limit: 7,
        notional: Money(8),
        instrument: InstrumentId(9),
        confidence: 10,
        tag: 11,
        strategy: StrategyId(12),
        action: Action::Cancel,
        side: Side::Sell,
        order_type: OrderType::Limit,
        tif: TimeInForce::Fok,
        flags: OrderFlags::POST_ONLY,
        reason: Reason::Unwind,
        verdict: Verdict::Denied,
        code: Code::Killed,
        state: RiskState::Killed,
    };
    let frame = decision(&record, Stamp(3), Stamp(9));
    assert_eq!((frame.kind, frame.ts, frame.ext), (DECISION, 9, [3, 9]));
    let want = Record::Decision { record, strategy_at: Stamp(3), risk_at: Stamp(9) };
    assert_eq!(read(&frame), Ok(want));
    let short = Record::read(DECISION, SCHEMA, 0, &[1, 2], &frame.payload[..79]);
    assert!(matches!(short, Err(FrameError::Malformed { bytes: 79, .. })), "{short:?}");
}

fn table(instruments: usize) -> InstrumentTable {
    let instrument = Instrument {
        venue: VenueId(0),
        symbol: "BTCUSDT".to_owned(),
        base: CurrencyId(0),
        quote: CurrencyId(1),
        price_scale: 10,
        qty_scale: 8,
        tick: Price(1),
        lot: Qty(1),
        min_qty: Qty(100),
        min_notional: Money(0),
        maker_fee_ppm: -5,
        taker_fee_ppm: 400,
    };
    InstrumentTable {
        venues: vec!["binance".to_owned()],
        currencies: vec!["BTC".to_owned(), "USDT".to_owned()],
        instruments: vec![instrument; instruments],
    }
}

fn assemble(
    assembler: &mut Assembler,
    kind: u16,
    payload: &[u8],
) -> Result<Option<Cold>, FrameError> {
    match Record::read(kind, SCHEMA, 0, &[], payload)? {
        Record::Part(part) => assembler.push(&part),
        other @ (Record::Event(_) | Record::Decision { .. }) => panic!("{other:?}"),
    }
}

#[test]
fn cold_records_of_any_size_come_in_parts() {
    let check = |record: Cold, parts: usize| {
        let payloads = record.payloads();
        assert_eq!(payloads.len(), parts);
        assert!(payloads.iter().all(|it| it.len() <= PART_BYTES + 16));
        let mut assembler = Assembler::default();
        for (place, payload) in payloads.iter().enumerate() {
            let got = assemble(&mut assembler, record.kind(), payload).unwrap();
            assert_eq!(got.is_some(), place + 1 == parts);
            assert!(got.is_none_or(|got| got == record));
        }
    };
    check(Cold::Config(String::new()), 1);
    check(Cold::Config("x".repeat(PART_BYTES)), 1);
    check(Cold::Config("ü".repeat(PART_BYTES)), 2);
    check(Cold::Instruments(table(InstrumentTable::INSTRUMENTS_MAX)), 2);
    let name = StrategyName { name: "tri".to_owned(), kind: "tri_arb".to_owned() };
    check(Cold::Strategies(vec![name]), 1);
}

#[test]
fn parts_out_of_order_are_refused_and_a_first_part_starts_again() {
    let record = Cold::Config("a".repeat(2 * PART_BYTES + 1));
    let payloads = record.payloads();
    let mut assembler = Assembler::default();
    assert!(assemble(&mut assembler, CONFIG, &payloads[1]).is_err(), "no first part");
    assert_eq!(assemble(&mut assembler, CONFIG, &payloads[0]), Ok(None));
    let skipped = assemble(&mut assembler, CONFIG, &payloads[2]).unwrap_err();
    assert_eq!(skipped.to_string(), "frame kind 0x0180: part 2 of 3 where part 1 should be");
    assert_eq!(assemble(&mut assembler, CONFIG, &payloads[0]), Ok(None));
    assert!(assemble(&mut assembler, INSTRUMENTS, &payloads[1]).is_err(), "of another record");
    for payload in &payloads[..2] {
        assert_eq!(assemble(&mut assembler, CONFIG, payload), Ok(None));
    }
    assert_eq!(assemble(&mut assembler, CONFIG, &payloads[2]), Ok(Some(record)));
}

#[test]
fn ends_of_runs_read_back() {
    let end = RunEnd { run: 3, reason: EndReason::Stopped, events: 1, decisions: 2 };
    assert_eq!(RunEnd::from_payload(&end.payload()), Some(end));
    assert_eq!(RunEnd::from_payload(&[]), None);
}

#[test]
fn every_kind_has_a_name_of_its_own() {
    let names: Vec<_> = (0..=u16::MAX).filter_map(kind_name).collect();
    assert_eq!(names.len(), Kind::ALL.len() + 4);
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), names.len(), "{names:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_never_panic(
        kind in prop_oneof![0x0100_u16..0x010c, Just(DECISION), CONFIG..=STRATEGIES, any::<u16>()],
        schema in 0_u16..3,
        ts: u64,
        ext in proptest::collection::vec(any::<u64>(), 0..4),
        payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100),
            proptest::collection::vec(0_u8..10, Event::LOGICAL),
            proptest::collection::vec(0_u8..4, 80),
        ],
    ) {
        let mut assembler = Assembler::default();
        let mut text = String::new();
        let renderer = crate::render::Renderer::new(&table(1), &[], crate::render::Clock { tsc_hz: 1, start: 5 });
        if let Ok(record) = Record::read(kind, schema, ts, &ext, &payload) {
            renderer.json(1, &record, &mut text);
            renderer.csv(1, &record, &mut text);
            if let Record::Part(part) = record {
                let _ = assembler.push(&part);
            }
        }
        let _ = RunEnd::from_payload(&payload);
    }
}
