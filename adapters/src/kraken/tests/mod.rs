//! Tests of the market data session: recorded connections, the two readers against each other,
//! and the life of a book in lines of data.

use std::collections::BTreeMap;

use kairos_logic::instrument::InstrumentTable;
use kairos_logic::units::InstrumentId;

use crate::kraken::instruments::split_symbol;
use crate::testing::table_of;

mod captures;
mod differential;
mod life;

/// A table of instruments that nothing describes, and their ids.
fn table(symbols: &[&str]) -> (InstrumentTable, Vec<InstrumentId>) {
    table_of("kraken", symbols, split_symbol)
}

/// The venue's side of a book, in whole numbers that it writes without decimals.
#[derive(Clone, Default)]
struct Twin {
    bids: BTreeMap<i64, i64>,
    asks: BTreeMap<i64, i64>,
}

impl Twin {
    /// Sets levels as `b100=1` and `a101=2`, cut to `depth`.
    fn set(&mut self, levels: &[&str], depth: usize) {
        for level in levels {
            let (side, level) = level.split_at(1);
            let (price, qty) = level.split_once('=').unwrap();
            let (price, qty) = (price.parse().unwrap(), qty.parse().unwrap());
            let levels = if side == "b" { &mut self.bids } else { &mut self.asks };
            levels.insert(price, qty);
            levels.retain(|_, qty| *qty > 0);
        }
        while self.bids.len() > depth {
            self.bids.pop_first();
        }
        while self.asks.len() > depth {
            self.asks.pop_last();
        }
    }

    fn checksum(&self) -> u32 {
        let level = |(price, qty): (&i64, &i64)| format!("{price}{qty}");
        let asks: String = self.asks.iter().take(10).map(level).collect();
        let bids: String = self.bids.iter().rev().take(10).map(level).collect();
        crc32fast::hash((asks + &bids).as_bytes())
    }
}

/// `{"price":100,"qty":1},…` of the levels of one side.
fn side(levels: &[&str], mark: &str) -> String {
    let levels = levels.iter().filter_map(|it| it.strip_prefix(mark)).map(|it| {
        let (price, qty) = it.split_once('=').unwrap();
        format!(r#"{{"price":{price},"qty":{qty}}}"#)
    });
    levels.collect::<Vec<_>>().join(",")
}

fn book(symbol: &str, kind: &str, levels: &[&str], checksum: u32) -> String {
    let (bids, asks) = (side(levels, "b"), side(levels, "a"));
    format!(
        r#"{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],"checksum":{checksum},"timestamp":"2026-08-01T00:00:00.123456Z"}}]}}"#
    )
}
