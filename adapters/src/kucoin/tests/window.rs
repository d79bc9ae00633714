//! A book whose snapshots are cut off against the whole book behind it: what is told is true, and
//! where too little is known nothing is.

use std::collections::BTreeMap;

use kairos_logic::event::{Event, News};
use kairos_logic::units::{Nanos, Price, Qty, Side, Stamp, VenueId};
use proptest::prelude::*;

use crate::kucoin::instruments::split_symbol;
use crate::kucoin::{KucoinMarket, Options};
use crate::session::{Arrival, Outbox};
use crate::testing::naive::Naive;
use crate::testing::table_of;

/// Levels a side of a snapshot: few more than a book needs.
const LIMIT: usize = 30;

/// The venue's own book.
struct Truth {
    bids: BTreeMap<i64, i64>,
    asks: BTreeMap<i64, i64>,
    sequence: u64,
}

impl Truth {
    fn new() -> Self {
        let bids = (1..=500).map(|price| (price, 1)).collect();
        let asks = (501..=1_000).map(|price| (price, 1)).collect();
        Self { bids, asks, sequence: 1 }
    }

    /// One change so far from the best level of the other side, as a message.
    fn change(&mut self, side: Side, away: i64, qty: i64) -> String {
        let (price, levels) = match side {
            Side::Buy => {
                let best = self.asks.first_key_value().map_or(501, |it| *it.0);
                ((best - away).max(1), &mut self.bids)
            }
            Side::Sell => {
                let best = self.bids.last_key_value().map_or(500, |it| *it.0);
                ((best + away).min(1_000), &mut self.asks)
            }
        };
        if qty == 0 {
            levels.remove(&price);
        } else {
            levels.insert(price, qty);
        }
        self.sequence += 1;
        let sequence = self.sequence;
        let record = format!(r#"["{price}","{qty}","{sequence}"]"#);
        let (asks, bids) = match side {
            Side::Buy => ("", &*record),
            Side::Sell => (&*record, ""),
        };
        format!(
            r#"{{"topic":"/market/level2:A-B","type":"message","subject":"trade.l2update","data":{{"changes":{{"asks":[{asks}],"bids":[{bids}]}},"sequenceEnd":{sequence},"sequenceStart":{sequence},"symbol":"A-B","time":5}}}}"#
        )
    }

    fn snapshot(&self) -> String {
        let side = |levels: &mut dyn Iterator<Item = (&i64, &i64)>| {
            let levels = levels.take(LIMIT).map(|(price, qty)| format!(r#"["{price}","{qty}"]"#));
            levels.collect::<Vec<_>>().join(",")
        };
        let (bids, asks) = (side(&mut self.bids.iter().rev()), side(&mut self.asks.iter()));
        let sequence = self.sequence;
        format!(
            r#"{{"code":"200000","data":{{"time":5,"sequence":"{sequence}","bids":[{bids}],"asks":[{asks}]}}}}"#
        )
    }

    /// Whether every level that is told is there, none is missing between them, and the best are the
    /// best.
    fn agrees(&self, told: &Naive) -> bool {
        let there = |told: &BTreeMap<Price, Qty>, whole: &BTreeMap<i64, i64>| {
            told.iter().all(|(price, qty)| whole.get(&price.0) == Some(&qty.0))
        };
        let worst = |price: Option<(&Price, &Qty)>| price.map_or(0, |it| it.0.0);
        let (lowest, highest) =
            (worst(told.bids.first_key_value()), worst(told.asks.last_key_value()));
        let best_bid = self.bids.last_key_value().map(|it| *it.0);
        let best_ask = self.asks.first_key_value().map(|it| *it.0);
        there(&told.bids, &self.bids)
            && there(&told.asks, &self.asks)
            && self.bids.range(lowest..).count() == told.bids.len()
            && self.asks.range(..=highest).count() == told.asks.len()
            && told.bids.last_key_value().map(|it| it.0.0) == best_bid
            && told.asks.first_key_value().map(|it| it.0.0) == best_ask
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_told_of_a_book_that_is_cut_off_is_true(
        changes in prop::collection::vec((any::<bool>(), 1..45_i64, 0..8_i64, 0..40_u8), 1..400),
    ) {
        let (mut table, ids) = table_of("kucoin", &["A-B"], split_symbol);
        (table.instruments[0].price_scale, table.instruments[0].qty_scale) = (0, 0);
        let options = Options { snapshot_levels: LIMIT, ..Options::default() };
        let mut session = KucoinMarket::new(&table, VenueId(0), &ids, options).unwrap();
        let (mut truth, mut told, mut out) = (Truth::new(), Naive::default(), Outbox::new());
        let (mut wanted, mut late) = (false, String::new());
        for (number, (buys, away, qty, delay)) in (1..).zip(changes) {
            let arrival =
                Arrival { at: Nanos(number * 1_000_000_000), recv: Stamp(0), number };
            let mut publish = |event: Event| {
                if matches!(event.news(), News::Gap { .. }) {
                    told.valid = false;
                }
                told.apply(&event);
            };
            let side = if buys { Side::Buy } else { Side::Sell };
            // Most changes take levels away, so that the book moves out of what is known.
            let frame = truth.change(side, away, (qty - 6).max(0));
            session.frame(arrival, frame.as_bytes(), &mut out, &mut publish);
            if wanted && delay < 30 {
                // The reply may be older than what has come since.
                let id = Some(ids[0]);
                session.snapshot(arrival, id, late.as_bytes(), &mut out, &mut publish);
                wanted = false;
            }
            if !out.snapshots().is_empty() {
                (wanted, late) = (true, truth.snapshot());
            }
            out.clear();
            prop_assert!(!told.valid || truth.agrees(&told), "change {}", number);
        }
    }
}
