//! Recorded connections, every frame of them.

use kairos_logic::book::{Book, DEPTH_MAX};
use kairos_logic::event::{Event, Flags, Kind, News};
use kairos_logic::units::{Side, Stamp, VenueId};

use super::table;
use crate::capture::Capture;
use crate::kraken::{Depth, KrakenMarket, Options};
use crate::session::{Arrival, MarketSession, Outbox};
use crate::testing::captures;
use crate::testing::naive::Naive;

/// Runs the capture through a session that asks for `depth` levels; 0 or more decimals are as in
/// the venue's list, `None` is an instrument that nothing describes.
fn check(depth: Depth, described: Option<(u8, u8)>, tape_only: bool) {
    let Some(folder) = captures() else { return };
    let (mut table, ids) = table(&["BTC/USD"]);
    if let Some((price, qty)) = described {
        (table.instruments[0].price_scale, table.instruments[0].qty_scale) = (price, qty);
    }
    let options = Options { depth, tape_only };
    let mut session = KrakenMarket::new(&table, VenueId(0), &ids, options).unwrap();
    let path = folder.join("kraken/book10_btcusd_20230730.frames.gz");
    let mut capture = Capture::open(path).unwrap();
    let (mut naive, mut real) = (Naive::default(), Book::new(DEPTH_MAX));
    let (mut out, mut lines) = (Outbox::new(), 0);
    while capture.advance().unwrap() {
        let frame = capture.frame().unwrap();
        lines += 1;
        let arrival = Arrival { at: frame.recv, recv: Stamp(frame.line), number: frame.line };
        let mut events: Vec<Event> = Vec::new();
        session.frame(arrival, frame.bytes, &mut out, &mut |event| events.push(event));
        assert!(!events.is_empty());
        for event in &events {
            assert_eq!((event.at, event.kind), (frame.recv, Kind::Book), "line {lines}");
            // The recorder took the venue's time for its own, but for the snapshot's.
            assert!(lines == 1 || event.venue_at == frame.recv);
            naive.apply(event);
            if let News::Book { side, price, qty, flags, .. } = event.news() {
                assert_eq!(real.apply(side, price, qty, flags), Ok(()));
            }
        }
        let last = events.iter().filter(|it| it.flags.has(Flags::LAST)).count();
        assert_eq!(last, 1);
        // Whoever reads the events has the venue's book: no level more than it sends.
        let sizes =
            [naive.bids.len(), naive.asks.len(), real.depth(Side::Buy), real.depth(Side::Sell)];
        assert!(sizes.iter().all(|&it| it == 10), "line {lines}: {sizes:?}");
        let (bid, ask) = naive.top().unwrap();
        assert!(bid.price < ask.price);
    }
    assert_eq!(lines, 150);
    assert!(out.is_empty() && session.is_whole());
    let counters = session.counters();
    assert_eq!((counters.malformed(), counters.gaps, counters.unknown_symbols), (0, 0, 0));
    assert_eq!((counters.snapshots, counters.depth_updates, counters.depth_stale), (1, 149, 0));
    assert_eq!(counters.fallbacks, if tape_only { 150 } else { 0 });
}

#[test]
fn every_recorded_checksum_is_right() {
    check(Depth::Ten, None, false);
    check(Depth::Ten, None, true);
    check(Depth::Ten, Some((1, 8)), false);
    check(Depth::Ten, Some((2, 8)), false);
    // Recorded with fewer levels than are asked for now.
    check(Depth::Hundred, None, false);
    check(Depth::Thousand, Some((1, 8)), true);
}

#[test]
fn a_digit_that_is_wrong_is_found() {
    let Some(folder) = captures() else { return };
    let path = folder.join("kraken/book10_btcusd_20230730.frames.gz");
    let (table, ids) = table(&["BTC/USD"]);
    let mut capture = Capture::open(path).unwrap();
    let mut found = 0;
    let mut session = KrakenMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let mut snapshot = Vec::new();
    let mut out = Outbox::new();
    while capture.advance().unwrap() {
        let frame = capture.frame().unwrap();
        if snapshot.is_empty() {
            snapshot = frame.bytes.to_vec();
            continue;
        }
        // Each update in turn, wrong in the last digit of a quantity, on a book that is right.
        let text = String::from_utf8(frame.bytes.to_vec()).unwrap();
        let Some(at) = text.rfind("}],\"") else { continue };
        let mut wrong = text.into_bytes();
        wrong[at - 1] = if wrong[at - 1] == b'7' { b'8' } else { b'7' };
        let mut gaps = 0;
        let arrival = Arrival { at: frame.recv, number: frame.line, ..Arrival::default() };
        session.frame(arrival, &snapshot, &mut out, &mut |_| {});
        session.frame(arrival, &wrong, &mut out, &mut |event| {
            gaps += u32::from(event.kind == Kind::Gap);
            assert_ne!(event.kind, Kind::Book);
        });
        assert_eq!(gaps, 1, "line {}", frame.line);
        found += gaps;
        out.clear();
    }
    assert!(found > 100, "{found}");
}
