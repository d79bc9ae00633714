#![expect(clippy::wildcard_enum_match_arm, reason = "events that are not compared here")]

use kairos_logic::book::{Book, Level};
use kairos_logic::event::{Event, Flags, News};
use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::{InstrumentId, Nanos, Side, Stamp, VenueId};

use super::*;
use crate::binance::instruments::parse_list;
use crate::binance::{BinanceMarket, Options};
use crate::session::{Arrival, MarketSession, Outbox};
use crate::venue::listing::Fees;

fn exchange(seed: u64) -> Exchange {
    Exchange::new(ExchangeOptions { seed, ..ExchangeOptions::default() })
}

/// The table that the exchange describes, in the order of its symbols.
fn table() -> (InstrumentTable, Vec<InstrumentId>) {
    let mut table = InstrumentTable::default();
    table.venues.push("binance".into());
    let body = exchange(1).exchange_info();
    for listing in parse_list(body.as_bytes(), &[]).unwrap() {
        let instrument = listing.instrument(VenueId(0), Fees::default(), &mut table);
        table.instruments.push(instrument);
    }
    let ids = table.iter().map(|(id, _)| id).collect();
    (table, ids)
}

/// What a session makes of the exchange's frames until `seconds` of its time have passed.
fn decode(seed: u64, seconds: u64, on_event: &mut impl FnMut(&Event)) -> BinanceMarket {
    let (table, ids) = table();
    let mut session = BinanceMarket::new(&table, VenueId(0), &ids, Options::default()).unwrap();
    let (mut exchange, mut outbox) = (exchange(seed), Outbox::new());
    session.on_open(Nanos(1), &mut outbox, &mut |event| on_event(&event));
    let mut number = 0;
    while let Some(frame) = exchange.next() {
        if frame.due_ns > seconds * 1_000_000_000 {
            break;
        }
        number += 1;
        let arrival = Arrival {
            at: Nanos(exchange.options.epoch_ms * MS + frame.due_ns),
            recv: Stamp(0),
            number,
        };
        let text = frame.text.as_bytes();
        session.on_frame(arrival, text, &mut outbox, &mut |event| on_event(&event));
        let wanted = outbox.snapshots().to_vec();
        outbox.clear();
        for request in wanted {
            let symbol = &table.instrument(request.instrument).unwrap().symbol;
            let body = exchange.snapshot(symbol, 1_000).unwrap();
            let id = Some(request.instrument);
            session.on_snapshot(arrival, id, body.as_bytes(), &mut outbox, &mut |event| {
                on_event(&event);
            });
        }
    }
    session
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let bytes = |seed| {
        let mut exchange = exchange(seed);
        let frames: Vec<Frame> = exchange.by_ref().take(2_000).collect();
        let books = Exchange::SYMBOLS.map(|symbol| exchange.snapshot(symbol, 5_000));
        (frames, books)
    };
    assert_eq!(bytes(42), bytes(42));
    let (one, other) = (bytes(42), bytes(43));
    assert_ne!(one.0, other.0);
    assert_ne!(one.1, other.1);
    assert!(one.0.is_sorted_by_key(|frame| frame.due_ns));
    assert_eq!(exchange(1).snapshot("DOGEUSDT", 5), None);
}

#[test]
fn the_list_of_instruments_names_ticks_and_lots() {
    let (table, ids) = table();
    let shapes: Vec<_> = ids
        .iter()
        .map(|&id| {
            let it = table.instrument(id).unwrap();
            let name = |currency| table.currency_name(currency).to_owned();
            let one = 10_i64.pow(u32::from(it.price_scale));
            (it.symbol.as_str(), name(it.base), name(it.quote), one / it.tick.0)
        })
        .collect();
    let want = [
        ("BTCUSDT", "BTC".to_owned(), "USDT".to_owned(), 100),
        ("ETHUSDT", "ETH".to_owned(), "USDT".to_owned(), 100),
        ("ETHBTC", "ETH".to_owned(), "BTC".to_owned(), 100_000),
    ];
    assert_eq!(shapes, want);
}

#[test]
fn a_session_understands_every_frame_and_its_books_are_the_exchanges() {
    let mut books = [(); 3].map(|()| Book::new(4_096));
    let mut quotes = [None; 3];
    let (mut compared, mut trades) = (0, [0; 3]);
    let session = decode(42, 60, &mut |event| {
        let index = event.instrument.index();
        match event.news() {
            News::Book { side, price, qty, flags, .. } => {
                let book = &mut books[index];
                assert_eq!(book.apply(side, price, qty, flags), Ok(()), "never crossed");
                // A snapshot may be ahead of the frames; a change ends where the quote stands.
                if flags.has(Flags::LAST) && !flags.has(Flags::SNAPSHOT) {
                    let top = [Side::Buy, Side::Sell].map(|side| book.best(side).unwrap());
                    if let Some(quote) = quotes[index] {
                        assert_eq!(top, quote);
                        compared += 1;
                    }
                }
            }
            News::Quote { bid, bid_qty, ask, ask_qty } => {
                let level = |price, qty| Level { price, qty };
                quotes[index] = Some([level(bid, bid_qty), level(ask, ask_qty)]);
            }
            News::Trade { .. } => trades[index] += 1,
            News::Gap { .. } => panic!("no message is missing"),
            _ => {}
        }
    });
    let counters = session.counters();
    assert_eq!((counters.malformed(), counters.gaps), (0, 0));
    assert_eq!((counters.fallbacks, counters.unknown_symbols), (0, 0));
    assert_eq!((counters.snapshots, counters.snapshots_refused), (3, 0));
    assert!(compared > 1_000, "{compared}");
    assert!(trades.iter().all(|&count| count > 500), "{trades:?}");
}

/// Best bid and ask of each pair as floating numbers, and the age of the oldest of the three.
struct Moment {
    now_ns: u64,
    touch: [[f64; 2]; 3],
    age_ns: u64,
}

/// Every moment at which a quote arrived and all three pairs had one.
fn quotes(seed: u64, seconds: u64, mut each: impl FnMut(Moment)) {
    let (table, _) = table();
    let (mut touch, mut at) = ([[0.0; 2]; 3], [0; 3]);
    let epoch_ns = ExchangeOptions::default().epoch_ms * MS;
    decode(seed, seconds, &mut |event| {
        if let News::Quote { bid, ask, .. } = event.news() {
            let index = event.instrument.index();
            let scale = table.instrument(event.instrument).unwrap().price_scale;
            let unit = 10_f64.powi(i32::from(scale));
            touch[index] = [bid.0 as f64 / unit, ask.0 as f64 / unit];
            let now_ns = event.at.0 - epoch_ns;
            at[index] = now_ns;
            if touch.iter().all(|it| it[0] > 0.0) {
                let age_ns = now_ns - at.into_iter().min().unwrap();
                each(Moment { now_ns, touch, age_ns });
            }
        }
    });
}

#[test]
fn now_and_then_a_cycle_earns_for_long_enough_and_otherwise_none_does() {
    for seed in [1, 42, 7_777] {
        let (mut since, mut last_ns, mut episodes, mut paying_ns) = (None, 0, 0, 0);
        let (mut is_fresh, mut fresh) = (false, 0);
        quotes(seed, 60, |Moment { now_ns, touch: [btc, eth, cross], age_ns }| {
            let kept = 0.999_f64.powi(3);
            let through_btc = kept / btc[1] / cross[1] * eth[0];
            let through_eth = kept / eth[1] * cross[0] * btc[0];
            if through_btc.max(through_eth) > 1.003 {
                paying_ns += since.map_or(0, |_| now_ns - last_ns);
                let start = *since.get_or_insert(now_ns);
                is_fresh |= age_ns <= 30 * MS;
                if now_ns - start >= 200 * MS && last_ns - start < 200 * MS {
                    episodes += 1;
                    fresh += u32::from(is_fresh);
                }
            } else {
                (since, is_fresh) = (None, false);
            }
            last_ns = now_ns;
        });
        assert!((8..=20).contains(&episodes), "seed {seed}: {episodes} in 60 s");
        assert!(fresh * 4 >= episodes * 3, "seed {seed}: {fresh} of {episodes} with fresh quotes");
        assert!(paying_ns < 15_000 * MS, "seed {seed}: pays {paying_ns} of 60 s");
    }
}

#[test]
fn prices_jump_past_a_market_makers_distance_and_stay_near_their_anchor() {
    let (mut jumps, mut last, mut range) = (0, None, (f64::MAX, 0.0_f64));
    quotes(42, 120, |Moment { touch: [btc, ..], .. }| {
        let mid = f64::midpoint(btc[0], btc[1]);
        if let Some(before) = last.replace(mid) {
            jumps += u32::from((mid / before - 1.0_f64).abs() > 10e-4);
        }
        range = (range.0.min(mid), range.1.max(mid));
    });
    assert!((10..=120).contains(&jumps), "{jumps} in 120 s");
    assert!(54_000.0 < range.0 && range.1 < 66_000.0, "{range:?}");
}
