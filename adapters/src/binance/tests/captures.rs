//! Recorded connections, every frame of them.

use kairos_logic::book::{Book, DEPTH_MAX};
use kairos_logic::event::{Kind, News};
use kairos_logic::units::{Side, Stamp, VenueId};

use crate::binance::{BinanceMarket, Decoded, Decoder, Options};
use crate::capture::{Capture, FrameKind};
use crate::session::{Arrival, MarketSession, Outbox};
use crate::testing::naive::Naive;
use crate::testing::{captures, table};
use crate::venue::Level;

/// What else is known of one instrument.
#[derive(Default)]
struct Seen {
    quotes: Vec<(u64, Level, Level)>, // with their update ids
    range: (u64, u64),                // update ids of the last book update
}

impl Seen {
    /// Whether the top of a book that has just been updated is the newest quote from before the
    /// end of the update; `None` where no quote falls into the update.
    fn compare(&self, book: &Naive) -> Option<bool> {
        let (first, last) = self.range;
        if book.update != last {
            return None; // a snapshot that is newer
        }
        let newest = self.quotes.iter().rev().find(|(update, _, _)| *update <= last);
        let &(_, bid, ask) = newest.filter(|(update, _, _)| first <= *update)?;
        Some(book.top() == Some((bid, ask)))
    }
}

/// What a recorded connection adds up to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    lines: u64,
    trades: u64,
    quotes: u64,
    depth: u64,
    stale: u64,
    ignored: u64,
    same_top: u64,
    other_top: u64,
}

/// Runs a capture through the session and compares the top of each book, after each update, with
/// the newest quote that is not newer than the update.
fn check(name: &str, symbols: &[&str], described: bool, want: &Sum) {
    let Some(folder) = captures() else { return };
    let (table, ids) = table(symbols);
    let mut session = BinanceMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let mut decoder = Decoder::new(&table, VenueId(0), &ids);
    let mut capture = Capture::open(folder.join(name)).unwrap();
    let mut books: Vec<Naive> = ids.iter().map(|_| Naive::default()).collect();
    let mut real: Vec<Book> = ids.iter().map(|_| Book::new(DEPTH_MAX)).collect();
    let mut seen: Vec<Seen> = ids.iter().map(|_| Seen::default()).collect();
    let (mut out, mut sum) = (Outbox::new(), Sum::default());
    while capture.advance().unwrap() {
        let frame = capture.frame().unwrap();
        sum.lines += 1;
        let arrival = Arrival { at: frame.recv, recv: Stamp(frame.line), number: frame.line };
        let mut events = Vec::new();
        match frame.kind {
            FrameKind::Text => {
                session.frame(arrival, frame.bytes, &mut out, &mut |event| events.push(event));
            }
            FrameKind::Rest { target, .. } => {
                let target = target.filter(|_| described);
                session.on_rest(arrival, target, frame.bytes, &mut out, &mut |it| events.push(it));
            }
        }
        for event in &events {
            let told = matches!(event.news(), News::Status { .. }); // of no frame, so not stamped
            assert!(told || event.recv == Stamp(frame.line));
            assert!(event.at <= frame.recv);
            if let Some(book) = books.get_mut(event.instrument.index()) {
                book.apply(event);
            }
            if let (Some(book), News::Book { side, price, qty, flags, .. }) =
                (real.get_mut(event.instrument.index()), event.news())
            {
                assert_eq!(book.apply(side, price, qty, flags), Ok(()));
            }
        }
        match decoder.scan(frame.bytes) {
            Some(Decoded::Quote { instrument, update, bid, ask }) => {
                seen[instrument.index()].quotes.push((update, bid, ask))
            }
            Some(Decoded::Depth { instrument, first, last, .. }) => {
                seen[instrument.index()].range = (first, last)
            }
            Some(
                Decoded::Trade { .. }
                | Decoded::Refused { .. }
                | Decoded::Ignored(_)
                | Decoded::UnknownSymbol,
            )
            | None => {}
        }
        if let Some(event) = events.iter().rfind(|it| it.kind == Kind::Book) {
            let at = event.instrument.index();
            assert!(real[at].is_valid());
            let best = |side| real[at].best(side).map(|it| Level { price: it.price, qty: it.qty });
            assert_eq!(best(Side::Buy).zip(best(Side::Sell)), books[at].top());
            match seen[at].compare(&books[at]) {
                Some(true) => sum.same_top += 1,
                Some(false) => sum.other_top += 1,
                None => {}
            }
        }
    }
    let counters = session.counters();
    assert_eq!(counters.malformed(), 0, "{name}");
    assert_eq!(counters.gaps, 0, "{name}");
    assert_eq!(counters.fallbacks, 0, "{name}");
    assert_eq!(counters.unknown_symbols, 0, "{name}");
    assert_eq!(counters.snapshots, symbols.len() as u64, "{name}");
    sum.trades = counters.trades;
    sum.quotes = counters.quotes;
    sum.depth = counters.depth_updates;
    sum.stale = counters.depth_stale;
    sum.ignored = counters.ignored;
    assert_eq!(&sum, want, "{name}");
}

const BTCUSDT: (&str, &[&str]) = ("binance/btcusdt_20240808.frames.gz", &["BTCUSDT"]);
const ETHUSDT: (&str, &[&str]) = ("binance/ethusdt_20240808.frames.gz", &["ETHUSDT"]);
const MULTI: (&str, &[&str]) =
    ("binance/multi_20211012.frames.gz", &["BLZETH", "LRCBTC", "NKNUSDT", "RUNEEUR"]);

#[test]
fn recorded_connections_are_understood_to_the_last_frame() {
    for described in [true, false] {
        let (name, symbols) = BTCUSDT;
        let want = Sum {
            lines: 41_249,
            trades: 9_757,
            quotes: 28_040,
            depth: 3_451,
            stale: 2,
            ignored: 0,
            same_top: 2_894,
            other_top: 0,
        };
        check(name, symbols, described, &want);
        let (name, symbols) = ETHUSDT;
        let want = Sum {
            lines: 33_618,
            trades: 6_106,
            quotes: 24_077,
            depth: 3_434,
            stale: 2,
            ignored: 0,
            same_top: 2_672,
            other_top: 0,
        };
        check(name, symbols, described, &want);
        let (name, symbols) = MULTI;
        let want = Sum {
            lines: 269,
            trades: 2,
            quotes: 84,
            depth: 177,
            stale: 5,
            ignored: 2,
            same_top: 51,
            other_top: 0,
        };
        check(name, symbols, described, &want);
    }
}
