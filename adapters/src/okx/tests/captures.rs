//! The recorded connection, every frame of it, and frames with published results.

use std::fs;

use kairos_logic::book::{Book, DEPTH_MAX};
use kairos_logic::event::{Event, Flags, News};
use kairos_logic::units::{Money, Price, Qty, Stamp, VenueId};

use crate::capture::{Capture, FrameKind};
use crate::okx::instruments::{parse_list, split_symbol};
use crate::okx::{Decoded, Decoder, OkxMarket, Options};
use crate::session::{Arrival, MarketSession, Outbox};
use crate::testing::{captures, table_of, words};
use crate::venue::listing::Listing;

pub(super) const BOOKS: &str = "okx/books_20220513.frames.gz";
pub(super) const SYMBOLS: [&str; 3] = ["BTC-USDT", "BTC-USD-220527", "UNI-USD-SWAP"];

#[test]
fn the_recorded_connection_is_understood_to_the_last_frame() {
    let Some(folder) = captures() else { return };
    let (table, ids) = table_of("okx", &SYMBOLS, split_symbol);
    let mut session = OkxMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let mut decoder = Decoder::new(&table, VenueId(0), &ids);
    let mut capture = Capture::open(folder.join(BOOKS)).unwrap();
    let mut books: Vec<Book> = ids.iter().map(|_| Book::new(DEPTH_MAX)).collect();
    let (mut out, mut frames, mut checksums) = (Outbox::new(), 0, 0);
    while capture.advance().unwrap() {
        let frame = capture.frame().unwrap();
        assert_eq!(frame.kind, FrameKind::Text);
        frames += 1;
        if let Ok(Decoded::Depth { update, .. }) = decoder.parse(frame.bytes) {
            checksums += u32::from(update.checksum.is_some());
        }
        let arrival = Arrival { at: frame.recv, recv: Stamp(frame.line), number: frame.line };
        let (mut open, mut last) = (None, Flags::LAST);
        session.frame(arrival, frame.bytes, &mut out, &mut |event: Event| {
            assert_eq!((event.at, event.recv), (frame.recv, Stamp(frame.line)));
            if let News::Book { side, price, qty, flags, .. } = event.news() {
                let book = &mut books[event.instrument.index()];
                assert_eq!(book.apply(side, price, qty, flags), Ok(()));
                (open, last) = (Some(event.instrument), flags);
            }
        });
        assert!(last.has(Flags::LAST), "line {}: {open:?}", frame.line);
        assert!(out.is_empty(), "line {}", frame.line);
    }
    assert!(books.iter().all(Book::is_valid));
    assert!(session.is_whole());
    let counters = session.counters();
    assert_eq!((frames, checksums), (410, 290));
    assert_eq!((counters.trades, counters.quotes), (74, 28));
    assert_eq!((counters.snapshots, counters.depth_updates), (3, 287));
    // Every checksum was right: a wrong one costs the book.
    assert_eq!((counters.gaps, counters.malformed(), counters.fallbacks), (0, 0, 0));
    assert_eq!((counters.unknown_symbols, counters.ignored), (0, 18));
}

#[test]
fn a_wrong_checksum_is_noticed_in_every_frame() {
    let Some(folder) = captures() else { return };
    let (table, ids) = table_of("okx", &SYMBOLS, split_symbol);
    let mut capture = Capture::open(folder.join(BOOKS)).unwrap();
    let mut frames = Vec::new();
    while capture.advance().unwrap() {
        frames.push(String::from_utf8(capture.frame().unwrap().bytes.to_vec()).unwrap());
    }
    let books: Vec<_> = (0..).zip(&frames).filter(|(_, it)| it.contains("checksum")).collect();
    for &(bad, frame) in books.iter().step_by(7) {
        let mut session = OkxMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
        let (mut out, mut at_bad) = (Outbox::new(), Vec::new());
        let other = frame.replace("\"checksum\":", "\"checksum\":1");
        let other = other.replace("\"checksum\":1-", "\"checksum\":1");
        for (n, frame) in (0..=bad).zip(&frames) {
            at_bad.clear();
            let frame = if n == bad { &other } else { frame };
            session.frame(Arrival::default(), frame.as_bytes(), &mut out, &mut |it| {
                at_bad.push(words(&it));
            });
        }
        // A number that is too large for a checksum is a bad frame, which costs the book as well.
        let lost = |it: &&String| it.contains(" gap checksum ") || it.contains(" gap malformed ");
        let gap = at_bad.iter().find(lost);
        assert!(gap.is_some(), "{other}: {at_bad:?}");
        assert!(!at_bad.iter().any(|it| it.contains(" bid ") || it.contains(" ask ")));
        assert_eq!(session.counters().gaps, 1);
    }
}

#[test]
fn published_examples_have_their_published_results() {
    let Some(folder) = captures() else { return };
    let lines = fs::read_to_string(folder.join("expected/okx.jsonl")).unwrap();
    let symbols = ["BCH-USDT", "BTC-USDT", "TRX-ETH", "CRV-USDT", "BTC-DAI", "ACT-USDT"];
    let (table, ids) = table_of("okx", &symbols, split_symbol);
    let mut session = OkxMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let (mut seen, mut out) = (Vec::new(), Outbox::new());
    // The protocol that these three speak is retired.
    let retired = ["map okex messages 1", "map okex messages 2", "map okex messages 3"];
    for line in lines.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        if retired.contains(&case["case"].as_str().unwrap()) {
            assert!(!case["frame"]["table"].is_null());
            continue;
        }
        let mut events = Vec::new();
        let publish = &mut |event: Event| events.push((words(&event), event.venue_at.0));
        session.frame(Arrival::default(), case["frame"].to_string().as_bytes(), &mut out, publish);
        seen.push(events);
    }
    const BOOK_AT: u64 = 1_639_999_305_247_000_000;
    let want: [&[(&str, u64)]; 4] = [
        &[],
        &[("3 trade 21300150 Buy 1349114600@39730000000", 1_639_999_319_938_000_000)],
        &[
            ("4 ask 2250534@461678000000000 u0 snapshot clear", BOOK_AT),
            ("4 ask 455491@461679000000000 u0 snapshot", BOOK_AT),
            ("4 bid 375882@460434000000000 u0 snapshot", BOOK_AT),
            ("4 bid 238905@460433000000000 u0 snapshot", BOOK_AT),
            ("4 bid 4357960@459068000000000 u0 snapshot last", BOOK_AT),
        ],
        &[("5 quote 409232600000@71300000 5496940753400@72000000", 1_639_999_318_686_000_000)],
    ];
    let want: Vec<Vec<(String, u64)>> = want
        .iter()
        .map(|case| case.iter().map(|&(it, at)| (it.to_owned(), at)).collect())
        .collect();
    assert_eq!(seen[..2], want[..2]);
    assert_eq!(seen[3], want[3]);
    // The book of the example was cut down to five levels, and its checksum was not.
    assert_eq!(seen[2].len(), 2, "{:?}", seen[2]);
    assert_eq!(session.counters().gaps, 1);
    let mut lenient = Vec::new();
    let case = lines.lines().find(|it| it.contains("books-l2-tbt")).unwrap();
    let case: serde_json::Value = serde_json::from_str(case).unwrap();
    let frame = case["frame"].to_string().replace("\"checksum\":-1971869027", "\"seqId\":0");
    let mut session = OkxMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let publish = &mut |event: Event| lenient.push((words(&event), event.venue_at.0));
    session.frame(Arrival::default(), frame.as_bytes(), &mut out, publish);
    assert_eq!(lenient, want[2]);
}

#[test]
fn the_recorded_list_describes_its_instruments() {
    let Some(folder) = captures() else { return };
    let mut capture = Capture::open(folder.join("instruments/okx_20220513.rest.gz")).unwrap();
    let mut counts = Vec::new();
    while capture.advance().unwrap() {
        let body = capture.frame().unwrap().bytes;
        let all = parse_list(body, &[]).unwrap();
        for it in &all {
            let rules = it.tick.0 > 0 && it.lot.0 > 0 && it.min_qty >= it.lot;
            assert!(rules && it.price_scale <= 12 && it.qty_scale <= 12, "{it:?}");
        }
        counts.push(all.len());
    }
    assert_eq!(counts.len(), 15);
    assert!(counts.iter().all(|&it| it > 20), "{counts:?}");
    let mut capture = Capture::open(folder.join("instruments/okx_20220513.rest.gz")).unwrap();
    assert!(capture.advance().unwrap());
    let two = parse_list(capture.frame().unwrap().bytes, &["BTC-USDT", "NO-SUCH"]).unwrap();
    assert_eq!(
        two,
        [Listing {
            symbol: "BTC-USDT".into(),
            base: "BTC".into(),
            quote: "USDT".into(),
            trading: true,
            price_scale: 3,
            qty_scale: 8,
            tick: Price(100),
            lot: Qty(1),
            min_qty: Qty(1_000),
            min_notional: Money(0),
        }]
    );
}
