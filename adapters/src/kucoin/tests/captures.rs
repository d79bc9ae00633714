//! The recorded connection, every frame of it, and frames with published results.

use std::fs;

use kairos_logic::event::Event;
use kairos_logic::units::{Money, Price, Qty, Stamp, VenueId};

use crate::capture::{Capture, FrameKind};
use crate::kucoin::instruments::{parse_list, split_symbol};
use crate::kucoin::{Decoded, Decoder, KucoinMarket, Options};
use crate::session::{Arrival, MarketSession, Outbox};
use crate::testing::naive::Naive;
use crate::testing::{captures, table_of, words};
use crate::venue::Level;
use crate::venue::listing::Listing;

pub(super) const LEVEL2: &str = "kucoin/level2_20210425.frames.gz";
pub(super) const SYMBOLS: [&str; 4] = ["ANKR-BTC", "CAPP-BTC", "EQZ-BTC", "NRG-BTC"];

/// The recording was made with signed requests: its snapshots are whole books.
pub(super) const WHOLE: Options = Options {
    snapshot_path: "/api/v3/market/orderbook/level2?symbol=",
    snapshot_levels: 0,
    tape_only: false,
};

/// What a ticker said, and at which sequence of the book.
type Top = (u64, (Level, Level));

#[test]
fn the_recorded_connection_is_understood_to_the_last_frame() {
    let Some(folder) = captures() else { return };
    for described in [true, false] {
        let (table, ids) = table_of("kucoin", &SYMBOLS, split_symbol);
        let mut session = KucoinMarket::new(&table, VenueId(0), &ids, WHOLE).unwrap();
        let mut decoder = Decoder::new(&table, VenueId(0), &ids);
        let mut capture = Capture::open(folder.join(LEVEL2)).unwrap();
        let mut books: Vec<Naive> = ids.iter().map(|_| Naive::default()).collect();
        let mut sequences = vec![0; ids.len()];
        let mut tops: Vec<Vec<Top>> = ids.iter().map(|_| Vec::new()).collect();
        let (mut out, mut lines, mut same, mut other) = (Outbox::new(), 0, 0, 0);
        while capture.advance().unwrap() {
            let frame = capture.frame().unwrap();
            lines += 1;
            let arrival = Arrival { at: frame.recv, recv: Stamp(frame.line), number: frame.line };
            let mut publish = |event: Event| {
                if let Some(book) = books.get_mut(event.instrument.index()) {
                    book.apply(&event);
                }
            };
            match frame.kind {
                FrameKind::Text => session.frame(arrival, frame.bytes, &mut out, &mut publish),
                FrameKind::Rest { target, .. } => {
                    let target = target.filter(|_| described);
                    session.on_rest(arrival, target, frame.bytes, &mut out, &mut publish);
                }
            }
            out.clear();
            match decoder.parse(frame.bytes) {
                Ok(Decoded::Quote { instrument, sequence, bid, ask, .. }) => {
                    tops[instrument.index()].push((sequence, (bid, ask)));
                }
                Ok(Decoded::Depth { instrument, last, .. }) => sequences[instrument.index()] = last,
                _ => {}
            }
            // The best levels at a sequence are those that the ticker says of it, whichever of the
            // two comes first.
            for ((book, &sequence), tops) in books.iter().zip(&sequences).zip(&mut tops) {
                let here = |(of, _): &Top| *of == sequence && book.valid && book.update <= sequence;
                for (_, top) in tops.extract_if(.., |it| here(it)) {
                    *(if book.top() == Some(top) { &mut same } else { &mut other }) += 1;
                }
            }
        }
        let counters = session.counters();
        assert_eq!(lines, 659);
        assert!(session.is_whole());
        assert_eq!((counters.quotes, counters.depth_updates, counters.trades), (195, 446, 0));
        assert_eq!((counters.snapshots, counters.ignored), (4, 14));
        assert_eq!((counters.gaps, counters.malformed(), counters.fallbacks), (0, 0, 0));
        assert_eq!((counters.unknown_symbols, counters.error_replies), (0, 0));
        assert_eq!((same, other), (188, 0));
    }
}

#[test]
fn a_cut_off_snapshot_gives_the_same_best_levels() {
    let Some(folder) = captures() else { return };
    let (table, ids) = table_of("kucoin", &SYMBOLS, split_symbol);
    // As if the replies had been those of the public path: the best levels only.
    let run = |limit: usize| {
        let options = Options { snapshot_levels: limit, ..WHOLE };
        let mut session = KucoinMarket::new(&table, VenueId(0), &ids, options).unwrap();
        let mut capture = Capture::open(folder.join(LEVEL2)).unwrap();
        let mut books: Vec<Naive> = ids.iter().map(|_| Naive::default()).collect();
        let (mut out, mut tops) = (Outbox::new(), Vec::new());
        while capture.advance().unwrap() {
            let frame = capture.frame().unwrap();
            let arrival = Arrival { at: frame.recv, recv: Stamp(0), number: frame.line };
            let publish = &mut |event: Event| {
                if let Some(book) = books.get_mut(event.instrument.index()) {
                    book.apply(&event);
                }
            };
            match frame.kind {
                FrameKind::Text => session.frame(arrival, frame.bytes, &mut out, publish),
                FrameKind::Rest { target, .. } => {
                    let mut body: serde_json::Value = serde_json::from_slice(frame.bytes).unwrap();
                    for side in ["bids", "asks"] {
                        let levels = body["data"][side].as_array_mut().unwrap();
                        levels.truncate(if limit == 0 { usize::MAX } else { limit });
                    }
                    let body = body.to_string();
                    session.on_rest(arrival, target, body.as_bytes(), &mut out, publish);
                }
            }
            out.clear();
            tops.push(books.iter().map(Naive::top).collect::<Vec<_>>());
        }
        assert_eq!(session.counters().gaps, 0, "{limit}");
        (tops, books.iter().map(|it| it.bids.len() + it.asks.len()).sum::<usize>())
    };
    let (whole, levels) = run(0);
    let (cut, fewer) = run(40);
    assert_eq!(whole, cut);
    assert!(fewer < levels / 2, "{fewer} of {levels}");
}

#[test]
fn published_examples_have_their_published_results() {
    let Some(folder) = captures() else { return };
    let lines = fs::read_to_string(folder.join("expected/kucoin.jsonl")).unwrap();
    let (table, ids) = table_of("kucoin", &["BTC-USDT", "LMR-BTC", "APE3S-USDT"], split_symbol);
    let mut session = KucoinMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let (mut seen, mut out) = (Vec::new(), Outbox::new());
    for line in lines.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let mut events = Vec::new();
        let publish = &mut |event: Event| events.push((words(&event), event.venue_at.0));
        session.frame(Arrival::default(), case["frame"].to_string().as_bytes(), &mut out, publish);
        seen.push(events);
    }
    let want: [&[(&str, u64)]; 6] = [
        &[],
        &[],
        &[],
        // The id is a text there; the sequence of the trade stands in for it.
        &[("0 trade 1636276321894 Sell 1255@240939000000000", 1_660_608_000_026_914_990)],
        &[("1 trade 455391760226305 Sell 1296290000@10940", 1_660_608_000_023_000_000)],
        &[("2 quote 20223650000@9027000000 40430240000@9052000000", 1_660_608_019_966_000_000)],
    ];
    let want: Vec<Vec<(String, u64)>> = want
        .iter()
        .map(|case| case.iter().map(|&(it, at)| (it.to_owned(), at)).collect())
        .collect();
    assert_eq!(seen, want);
    assert_eq!(session.counters().malformed(), 0);
}

#[test]
fn the_recorded_list_describes_its_instruments() {
    let Some(folder) = captures() else { return };
    let mut capture = Capture::open(folder.join("instruments/kucoin_20210425.rest.gz")).unwrap();
    assert!(capture.advance().unwrap());
    let body = capture.frame().unwrap().bytes;
    let all = parse_list(body, &[]).unwrap();
    assert!(all.len() > 500, "{}", all.len());
    for it in &all {
        let rules = it.tick.0 > 0 && it.lot.0 > 0 && it.min_qty >= it.lot;
        assert!(rules && it.price_scale <= 12 && it.qty_scale <= 12, "{it:?}");
        if it.symbol.starts_with(&it.base) {
            assert_eq!(split_symbol(&it.symbol), Some((&*it.base, &*it.quote)));
        }
    }
    assert_eq!(
        parse_list(body, &["REQ-ETH", "NO-SUCH"]).unwrap(),
        [Listing {
            symbol: "REQ-ETH".into(),
            base: "REQ".into(),
            quote: "ETH".into(),
            trading: true,
            price_scale: 9,
            qty_scale: 6,
            tick: Price(100),
            lot: Qty(100),
            min_qty: Qty(1_000_000),
            min_notional: Money(10_000),
        }]
    );
}
