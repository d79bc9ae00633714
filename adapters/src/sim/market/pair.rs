//! One pair of the seeded market: its shape and its book.

use std::collections::{BTreeMap, VecDeque};

use kairos_logic::units::Side;

use super::{Change, Trade};
use crate::sim::random::Random;

/// Levels kept around the price on each side.
const LEVELS: i64 = 25;
/// Levels further away than this are withdrawn, but for the still ones.
const LEVELS_MAX: i64 = 40;
/// Trades that a venue repeats to a new subscriber.
const RECENT: usize = 25;
/// Smallest and largest size of a level, in lots.
const LOTS: (u64, u64) = (5_000, 200_000);

/// What never changes about a pair. Prices are counts of ticks, quantities counts of lots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What is bought and sold, such as `BTC`.
    pub base: String,
    /// What it is paid with, such as `USDT`.
    pub quote: String,
    /// Decimals of the tick, which is one unit of the last of them.
    pub tick_decimals: u32,
    /// Decimals of the lot, which is one unit of the last of them.
    pub lot_decimals: u32,
    /// Least value of an order, with 8 decimals.
    pub min_notional: &'static str,
}

/// Bids and asks: lots by ticks.
pub type Sides = [BTreeMap<i64, i64>; 2];

/// Where a side stands in [`Sides`].
#[must_use]
pub const fn place(side: Side) -> usize {
    match side {
        Side::Buy => 0,
        Side::Sell => 1,
    }
}

/// A pair's book, and what of it has not been told yet.
#[derive(Clone, Debug)]
pub struct Pair {
    /// What it is.
    pub shape: Shape,
    /// Number of the last trade.
    pub(super) trades: u64,
    sides: Sides,
    /// Levels changed since the last [`super::What::Depth`], with the number of the change.
    untold: [BTreeMap<i64, (i64, u64)>; 2],
    /// Number of the last change of a level, and of the last one told.
    update: u64,
    told: u64,
    /// The book as those know it who were told everything so far.
    pub(super) published: Sides,
    pub(super) published_update: u64,
    pub(super) recent: VecDeque<Trade>,
    /// Levels beyond these prices stand still.
    still: (i64, i64),
    /// Distance of two levels, in ticks.
    grid: i64,
}

impl Pair {
    pub(super) fn new(
        shape: Shape,
        grid: i64,
        fair: i64,
        deep: usize,
        random: &mut Random,
    ) -> Self {
        let mut pair = Self {
            shape,
            trades: 0,
            sides: [BTreeMap::new(), BTreeMap::new()],
            untold: [BTreeMap::new(), BTreeMap::new()],
            update: 1_000,
            told: 0,
            published: [BTreeMap::new(), BTreeMap::new()],
            published_update: 0,
            recent: VecDeque::with_capacity(RECENT),
            still: (i64::MIN, i64::MAX),
            grid,
        };
        pair.refill(fair, random);
        if deep > 0 {
            pair.deepen(fair, deep);
        }
        pair.untold = [BTreeMap::new(), BTreeMap::new()];
        pair.told = pair.update;
        pair.published = pair.sides.clone();
        pair.published_update = pair.update;
        pair
    }

    /// Puts `deep` levels a side where the price will not come: 15 % away from it and further.
    fn deepen(&mut self, fair: i64, deep: usize) {
        let (bid, ask) = self.around(fair);
        self.still = (bid - bid / 100 * 15, ask + ask / 100 * 15);
        let (below, above) = self.still;
        let least = i64::try_from(LOTS.0).unwrap_or(1);
        for level in 0..i64::try_from(deep).unwrap_or(i64::MAX) {
            let qty = least + level % 97;
            if below - level > 0 {
                self.set(Side::Buy, below - level, qty);
            }
            self.set(Side::Sell, above + level, qty);
        }
    }

    /// One side of the book as it stands, of which not everything may have been told.
    #[must_use]
    pub fn side(&self, side: Side) -> &BTreeMap<i64, i64> {
        &self.sides[place(side)]
    }

    /// Number of the last change of a level.
    #[must_use]
    pub const fn update(&self) -> u64 {
        self.update
    }

    /// The book as of the last [`super::What::Depth`] that the market gave out.
    #[must_use]
    pub const fn published(&self) -> &Sides {
        &self.published
    }

    /// Number of the last change in [`Self::published`].
    #[must_use]
    pub const fn published_update(&self) -> u64 {
        self.published_update
    }

    /// The last trades that the market gave out, oldest first.
    pub fn recent(&self) -> impl DoubleEndedIterator<Item = &Trade> {
        self.recent.iter()
    }

    pub(super) fn remember(&mut self, trade: Trade) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(trade);
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
            self.untold[place(side)].insert(price, (qty, self.update));
        }
    }

    /// The best bid and ask that belong to a price in units of 10^-8.
    fn around(&self, fair: i64) -> (i64, i64) {
        let per_tick = 10_i64.pow(8 - self.shape.tick_decimals);
        let grid = self.grid * per_tick;
        // One level away from the level nearest to the price, on both sides.
        let bid = (fair - grid / 2).div_euclid(grid);
        let ask = (fair + grid / 2).div_euclid(grid) + 1;
        (bid * self.grid, ask * self.grid)
    }

    /// Takes away every level that the new price has passed; about every second one by a trade.
    /// Gives price, size and aggressor of those trades.
    pub(super) fn sweep_to(&mut self, fair: i64, random: &mut Random) -> Vec<(i64, i64, Side)> {
        let (bid, ask) = self.around(fair);
        let [bids, asks] = &self.sides;
        let lifted = asks.range(..ask).map(|(&price, &qty)| (Side::Sell, price, qty));
        let hit = bids.range(bid + 1..).rev().map(|(&price, &qty)| (Side::Buy, price, qty));
        let passed: Vec<_> = lifted.chain(hit).collect();
        let mut trades = Vec::new();
        for (side, price, qty) in passed {
            self.set(side, price, 0);
            if random.up_to(1) == 0 {
                trades.push((price, qty, side.opposite()));
            }
        }
        trades
    }

    /// A trade at the touch that takes a part of it.
    pub(super) fn noise_trade(&mut self, random: &mut Random) -> Option<(i64, i64, Side)> {
        let aggressor = if random.up_to(1) == 0 { Side::Buy } else { Side::Sell };
        let side = aggressor.opposite();
        let (price, there) = self.top()[place(side)]?;
        let most = there.unsigned_abs() / 2;
        let qty = 1 + i64::try_from(random.up_to(most)).unwrap_or(0);
        let qty = qty.min(there);
        self.set(side, price, there - qty);
        Some((price, qty, aggressor))
    }

    /// Fills the levels around the price, redraws two of them, withdraws what is far away.
    pub(super) fn refill(&mut self, fair: i64, random: &mut Random) {
        let (bid, ask) = self.around(fair);
        let grid = self.grid;
        let (least, most) = LOTS;
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
        let (low, high) = (bid - LEVELS_MAX * grid, ask + LEVELS_MAX * grid + 1);
        let (below, above) = self.still;
        let far_bids = bids.range(below.saturating_add(1).min(low)..low);
        let far_asks = asks.range(high..above.max(high));
        let far: Vec<_> = far_bids
            .map(|(&price, _)| (Side::Buy, price))
            .chain(far_asks.map(|(&price, _)| (Side::Sell, price)))
            .collect();
        for (side, price) in far {
            self.set(side, price, 0);
        }
    }

    /// What changed since the last time, bids from the best, then asks from the best, and the
    /// numbers of the first and last change; `None` where nothing did.
    pub(super) fn tell(&mut self) -> Option<(u64, u64, Vec<Change>)> {
        if self.update == self.told {
            return None;
        }
        let change = |side| {
            move |(&price, &(qty, update)): (&i64, &(i64, u64))| Change { side, price, qty, update }
        };
        let [bids, asks] = &mut self.untold;
        let bid_changes = bids.iter().rev().map(change(Side::Buy));
        let changes = bid_changes.chain(asks.iter().map(change(Side::Sell))).collect();
        let first = self.told + 1;
        bids.clear();
        asks.clear();
        self.told = self.update;
        Some((first, self.update, changes))
    }
}
