//! One pair of the seeded exchange: its shape, its book, and its words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use kairos_logic::units::Side;

use crate::sim::random::Random;

/// Levels kept around the price on each side.
const LEVELS: i64 = 25;
/// Levels further away than this are withdrawn.
const LEVELS_MAX: i64 = 40;

/// What never changes about a pair. Prices are counts of ticks, quantities counts of lots.
pub(super) struct Shape {
    pub symbol: &'static str,
    pub base: &'static str,
    pub quote: &'static str,
    pub trade_stream: &'static str,
    pub quote_stream: &'static str,
    pub depth_stream: &'static str,
    /// Decimals of the tick and of the lot; both steps are one unit of it.
    pub tick_decimals: u32,
    pub lot_decimals: u32,
    pub min_notional: &'static str,
    /// Distance of two levels, in ticks: 1.7 to 2 basis points.
    pub grid: i64,
    /// Smallest and largest size of a level, in lots.
    pub lots: (u64, u64),
}

pub(super) static BTCUSDT: Shape = Shape {
    symbol: "BTCUSDT",
    base: "BTC",
    quote: "USDT",
    trade_stream: "btcusdt@trade",
    quote_stream: "btcusdt@bookTicker",
    depth_stream: "btcusdt@depth@100ms",
    tick_decimals: 2,
    lot_decimals: 5,
    min_notional: "10.00000000",
    grid: 1_000,
    lots: (5_000, 200_000),
};

pub(super) static ETHUSDT: Shape = Shape {
    symbol: "ETHUSDT",
    base: "ETH",
    quote: "USDT",
    trade_stream: "ethusdt@trade",
    quote_stream: "ethusdt@bookTicker",
    depth_stream: "ethusdt@depth@100ms",
    tick_decimals: 2,
    lot_decimals: 4,
    min_notional: "10.00000000",
    grid: 50,
    lots: (5_000, 200_000),
};

pub(super) static ETHBTC: Shape = Shape {
    symbol: "ETHBTC",
    base: "ETH",
    quote: "BTC",
    trade_stream: "ethbtc@trade",
    quote_stream: "ethbtc@bookTicker",
    depth_stream: "ethbtc@depth@100ms",
    tick_decimals: 5,
    lot_decimals: 4,
    min_notional: "0.00010000",
    grid: 1,
    lots: (5_000, 200_000),
};

impl Shape {
    pub(super) fn price_text(&self, ticks: i64) -> String {
        fixed(ticks, self.tick_decimals)
    }

    pub(super) fn qty_text(&self, lots: i64) -> String {
        fixed(lots, self.lot_decimals)
    }

    /// The pair's entry in the list of instruments.
    pub(super) fn describe(&self, body: &mut String) {
        let (tick, lot) = (self.price_text(1), self.qty_text(1));
        let _ = write!(
            body,
            concat!(
                r#"{{"symbol":"{}","status":"TRADING","baseAsset":"{}","baseAssetPrecision":8,"#,
                r#""quoteAsset":"{}","quotePrecision":8,"quoteAssetPrecision":8,"#,
                r#""orderTypes":["LIMIT","LIMIT_MAKER","MARKET"],"isSpotTradingAllowed":true,"#,
                r#""filters":[{{"filterType":"PRICE_FILTER","minPrice":"{}","#,
                r#""maxPrice":"1000000.00000000","tickSize":"{}"}},{{"filterType":"LOT_SIZE","#,
                r#""minQty":"{}","maxQty":"9000.00000000","stepSize":"{}"}},"#,
                r#"{{"filterType":"MIN_NOTIONAL","minNotional":"{}","applyToMarket":true,"#,
                r#""avgPriceMins":5}}],"permissions":["SPOT"]}}"#
            ),
            self.symbol, self.base, self.quote, tick, tick, lot, lot, self.min_notional
        );
    }
}

/// `units` of `10^-decimals` with 8 decimals, as the venue writes every number.
fn fixed(units: i64, decimals: u32) -> String {
    let factor = 10_u64.pow(decimals);
    let units = units.unsigned_abs();
    let rest = units % factor * 10_u64.pow(8 - decimals);
    format!("{}.{rest:08}", units / factor)
}

/// A trade between others.
pub(super) struct Trade {
    pub price: i64,
    pub qty: i64,
    pub aggressor: Side,
}

/// A pair's book at the exchange, and what of it has not been told yet.
pub(super) struct Pair {
    pub shape: &'static Shape,
    /// Number of the last trade.
    pub trades: u64,
    /// Bids and asks: lots by ticks.
    sides: [BTreeMap<i64, i64>; 2],
    /// Levels changed since the last depth frame.
    untold: [BTreeMap<i64, i64>; 2],
    /// Number of the last change of a level, and of the last one told.
    update: u64,
    told: u64,
}

const fn place(side: Side) -> usize {
    match side {
        Side::Buy => 0,
        Side::Sell => 1,
    }
}

impl Pair {
    pub(super) fn new(shape: &'static Shape, fair: i64, random: &mut Random) -> Self {
        let mut pair = Self {
            shape,
            trades: 0,
            sides: [BTreeMap::new(), BTreeMap::new()],
            untold: [BTreeMap::new(), BTreeMap::new()],
            update: 1_000,
            told: 0,
        };
        pair.refill(fair, random);
        pair.untold = [BTreeMap::new(), BTreeMap::new()];
        pair.told = pair.update;
        pair
    }

    /// Best bid and ask with their sizes.
    pub(super) fn top(&self) -> [Option<(i64, i64)>; 2] {
        let [bids, asks] = &self.sides;
        let copy = |(&price, &qty): (&i64, &i64)| (price, qty);
        [bids.last_key_value().map(copy), asks.first_key_value().map(copy)]
    }

    fn set(&mut self, side: Side, price: i64, qty: i64) {
        let levels = &mut self.sides[place(side)];
        let before = if qty == 0 { levels.remove(&price) } else { levels.insert(price, qty) };
        if before.unwrap_or(0) != qty {
            self.update += 1;
            self.untold[place(side)].insert(price, qty);
        }
    }

    /// The best bid and ask that belong to a price in units of 10^-8.
    fn around(&self, fair: i64) -> (i64, i64) {
        let per_tick = 10_i64.pow(8 - self.shape.tick_decimals);
        let grid = self.shape.grid * per_tick;
        // One level away from the level nearest to the price, on both sides.
        let bid = (fair - grid / 2).div_euclid(grid);
        let ask = (fair + grid / 2).div_euclid(grid) + 1;
        (bid * self.shape.grid, ask * self.shape.grid)
    }

    /// Takes away every level that the new price has passed; about every second one by a trade.
    pub(super) fn sweep_to(&mut self, fair: i64, random: &mut Random) -> Vec<Trade> {
        let (bid, ask) = self.around(fair);
        let [bids, asks] = &self.sides;
        let lifted = asks.range(..ask).map(|(&price, &qty)| (Side::Sell, price, qty));
        let hit = bids.range(bid + 1..).rev().map(|(&price, &qty)| (Side::Buy, price, qty));
        let passed: Vec<_> = lifted.chain(hit).collect();
        let mut trades = Vec::new();
        for (side, price, qty) in passed {
            self.set(side, price, 0);
            if random.up_to(1) == 0 {
                trades.push(Trade { price, qty, aggressor: side.opposite() });
            }
        }
        trades
    }

    /// A trade at the touch that takes a part of it.
    pub(super) fn noise_trade(&mut self, random: &mut Random) -> Option<Trade> {
        let aggressor = if random.up_to(1) == 0 { Side::Buy } else { Side::Sell };
        let side = aggressor.opposite();
        let (price, there) = self.top()[place(side)]?;
        let most = there.unsigned_abs() / 2;
        let qty = 1 + i64::try_from(random.up_to(most)).unwrap_or(0);
        let qty = qty.min(there);
        self.set(side, price, there - qty);
        Some(Trade { price, qty, aggressor })
    }

    /// Fills the levels around the price, redraws two of them, withdraws what is far away.
    pub(super) fn refill(&mut self, fair: i64, random: &mut Random) {
        let (bid, ask) = self.around(fair);
        let grid = self.shape.grid;
        let (least, most) = self.shape.lots;
        for (side, best, away) in [(Side::Buy, bid, -grid), (Side::Sell, ask, grid)] {
            let redrawn = random.up_to(LEVELS.unsigned_abs() - 1);
            for level in 0..LEVELS {
                let price = best + level * away;
                let known = self.sides[place(side)].contains_key(&price);
                if price > 0 && (!known || level.unsigned_abs() == redrawn) {
                    let qty = i64::try_from(least + random.up_to(most - least)).unwrap_or(1);
                    self.set(side, price, qty);
                }
            }
        }
        let [bids, asks] = &self.sides;
        let far_bids = bids.range(..bid - LEVELS_MAX * grid);
        let far_asks = asks.range(ask + LEVELS_MAX * grid + 1..);
        let far: Vec<_> = far_bids
            .map(|(&price, _)| (Side::Buy, price))
            .chain(far_asks.map(|(&price, _)| (Side::Sell, price)))
            .collect();
        for (side, price) in far {
            self.set(side, price, 0);
        }
    }

    /// The newest best bid and offer.
    pub(super) fn quote_text(&self) -> String {
        let [bid, ask] = self.top().map(|level| level.unwrap_or((0, 0)));
        let shape = self.shape;
        format!(
            r#"{{"stream":"{}","data":{{"u":{},"s":"{}","b":"{}","B":"{}","a":"{}","A":"{}"}}}}"#,
            shape.quote_stream,
            self.update,
            shape.symbol,
            shape.price_text(bid.0),
            shape.qty_text(bid.1),
            shape.price_text(ask.0),
            shape.qty_text(ask.1),
        )
    }

    /// What changed since the last time; `None` where nothing did.
    pub(super) fn depth_text(&mut self, ms: u64) -> Option<String> {
        if self.update == self.told {
            return None;
        }
        let shape = self.shape;
        let mut text = format!(
            r#"{{"stream":"{}","data":{{"e":"depthUpdate","E":{ms},"s":"{}","U":{},"u":{},"b":"#,
            shape.depth_stream,
            shape.symbol,
            self.told + 1,
            self.update,
        );
        let [bids, asks] = &mut self.untold;
        self.shape.levels(bids.iter().rev(), &mut text);
        text.push_str(r#","a":"#);
        self.shape.levels(asks.iter(), &mut text);
        text.push_str("}}");
        bids.clear();
        asks.clear();
        self.told = self.update;
        Some(text)
    }

    /// The book, as REST tells it.
    pub(super) fn snapshot(&self, limit: usize) -> String {
        let [bids, asks] = &self.sides;
        let mut text = format!(r#"{{"lastUpdateId":{},"bids":"#, self.update);
        self.shape.levels(bids.iter().rev().take(limit), &mut text);
        text.push_str(r#","asks":"#);
        self.shape.levels(asks.iter().take(limit), &mut text);
        text.push('}');
        text
    }
}

impl Shape {
    fn levels<'a>(&self, levels: impl Iterator<Item = (&'a i64, &'a i64)>, text: &mut String) {
        text.push('[');
        for (index, (&price, &qty)) in levels.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let (price, qty) = (self.price_text(price), self.qty_text(qty));
            let _ = write!(text, r#"{comma}["{price}","{qty}"]"#);
        }
        text.push(']');
    }
}
