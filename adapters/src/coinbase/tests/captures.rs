//! Recorded connections, every frame of them.

use kairos_logic::book::{Book, DEPTH_MAX};
use kairos_logic::event::{Event, Flags, Kind, News};
use kairos_logic::units::{Price, Side, Stamp, VenueId};

use super::table;
use crate::capture::{Capture, FrameKind};
use crate::coinbase::{Channel, CoinbaseMarket, Decoded, Decoder, Options};
use crate::session::{Arrival, MarketSession, Outbox};
use crate::testing::captures;
use crate::testing::naive::Naive;
use crate::venue::Level;

const HEAD: &str = "coinbase/advanced_20260809_head.frames.gz";

/// What a recorded connection adds up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    lines: u64,
    trades: u64,
    quotes: u64,
    depth: u64,
    snapshots: u64,
    ignored: u64,
    fallbacks: u64,
    levels: usize,
    /// Trades that took what the book offered: bought at or above the best ask, or sold at or below
    /// the best bid, of the last book before them.
    taken: u64,
    /// Trades that did the opposite.
    given: u64,
    same_top: u64,
    other_top: u64,
}

/// What the price of a trade says about its sides, by the book before it.
fn crossed(book: &Naive, price: Price) -> Option<Side> {
    let (bid, ask) = book.top()?;
    if price >= ask.price { Some(Side::Buy) } else { (price <= bid.price).then_some(Side::Sell) }
}

fn check(symbols: &[&str], options: Options, want: &Sum) {
    let Some(folder) = captures() else { return };
    let (table, ids) = table(symbols);
    let mut session = CoinbaseMarket::new(&table, VenueId(0), &ids, options).unwrap();
    let mut capture = Capture::open(folder.join(HEAD)).unwrap();
    let mut books: Vec<Naive> = ids.iter().map(|_| Naive::default()).collect();
    let mut real: Vec<Book> = ids.iter().map(|_| Book::new(DEPTH_MAX)).collect();
    let (mut out, mut sum) = (Outbox::new(), Sum::default());
    while capture.advance().unwrap() {
        let frame = capture.frame().unwrap();
        assert_eq!(frame.kind, FrameKind::Text);
        sum.lines += 1;
        let arrival = Arrival { at: frame.recv, recv: Stamp(frame.line), number: frame.line };
        let mut events: Vec<Event> = Vec::new();
        session.frame(arrival, frame.bytes, &mut out, &mut |event| events.push(event));
        for event in &events {
            assert_eq!((event.at, event.recv), (frame.recv, Stamp(frame.line)));
            assert!(event.venue_at.0 > 1_786_309_000_000_000_000);
            let at = event.instrument.index();
            match event.news() {
                News::Book { side, price, qty, flags, .. } => {
                    sum.levels += 1;
                    books[at].apply(event);
                    assert_eq!(real[at].apply(side, price, qty, flags), Ok(()));
                    if flags.has(Flags::LAST) {
                        let best = |side| {
                            let best = real[at].best(side);
                            best.map(|it| Level { price: it.price, qty: it.qty })
                        };
                        let top = best(Side::Buy).zip(best(Side::Sell));
                        assert_eq!(top, books[at].top());
                    }
                }
                News::Trade { price, aggressor, .. } => match crossed(&books[at], price) {
                    Some(side) if side == aggressor => sum.taken += 1,
                    Some(_) => sum.given += 1,
                    None => {}
                },
                News::Quote { bid, ask, .. } => {
                    if let Some((best_bid, best_ask)) = books[at].top() {
                        let same = (best_bid.price, best_ask.price) == (bid, ask);
                        *(if same { &mut sum.same_top } else { &mut sum.other_top }) += 1;
                    }
                }
                other @ (News::Gap { .. }
                | News::Status { .. }
                | News::Timer
                | News::Command { .. }
                | News::Fill { .. }
                | News::Report { .. }
                | News::Balance { .. }
                | News::Config { .. }
                | News::Nothing) => panic!("{other:?} at line {}", frame.line),
            }
        }
        if let Some(event) = events.iter().rfind(|it| it.kind == Kind::Book) {
            assert!(real[event.instrument.index()].is_valid());
        }
    }
    assert!(out.is_empty());
    assert!(session.is_whole());
    let counters = session.counters();
    assert_eq!(counters.malformed(), 0);
    assert_eq!(counters.gaps, 0);
    assert_eq!(counters.unknown_symbols, 0);
    assert_eq!(counters.depth_stale, 0);
    sum.trades = counters.trades;
    sum.quotes = counters.quotes;
    sum.depth = counters.depth_updates;
    sum.snapshots = counters.snapshots;
    sum.ignored = counters.ignored;
    sum.fallbacks = counters.fallbacks;
    assert_eq!(&sum, want, "{symbols:?} {options:?}");
}

#[test]
fn a_recorded_connection_is_understood_to_the_last_frame() {
    let want = Sum {
        lines: 220,
        trades: 12,
        quotes: 32,
        depth: 160,
        snapshots: 2,
        // Two hundred trades from before, candles, heartbeats, replies.
        ignored: 213,
        fallbacks: 0,
        levels: 70_271,
        // One trade came before the book.
        taken: 11,
        given: 0,
        // The channels are not in step.
        same_top: 25,
        other_top: 1,
    };
    check(&["BTC-USD", "ETH-USD"], Options::default(), &want);
    // By the names of their markets in USDC, which the venue sends under the same.
    check(&["BTC-USDC", "ETH-USDC"], Options::default(), &want);
    let want = Sum { fallbacks: 207, ..want };
    check(&["BTC-USD", "ETH-USD"], Options { tape_only: true }, &want);
}

#[test]
fn the_connection_is_counted_without_a_hole() {
    let Some(folder) = captures() else { return };
    let (table, ids) = table(&["BTC-USD", "ETH-USD"]);
    let mut decoder = Decoder::new(&table, VenueId(0), &ids);
    let mut capture = Capture::open(folder.join(HEAD)).unwrap();
    let mut kinds = [0_u32; 5];
    for expected in 0.. {
        if !capture.advance().unwrap() {
            assert_eq!(expected, 220);
            break;
        }
        let frame = capture.frame().unwrap();
        let parsed = decoder.parse(frame.bytes).unwrap();
        let Decoded::Message { channel, sequence } = parsed else { panic!("{parsed:?}") };
        assert_eq!(sequence, expected);
        kinds[channel as usize] += 1;
    }
    assert_eq!(kinds[Channel::Trades as usize], 13);
    assert_eq!(kinds[Channel::Ticker as usize], 32);
    assert_eq!(kinds[Channel::Book as usize], 162);
    assert_eq!(kinds[Channel::Heartbeats as usize], 5);
    assert_eq!(kinds[Channel::Other as usize], 8);
}
