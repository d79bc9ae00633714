//! A seeded market: three pairs whose prices hang together. It names no venue and has no words.
//!
//! Pure: a function of its seed. Its own time runs in steps of 5 to 25 ms; each [`Step`] says when it
//! is due, and whoever plays them decides how fast. The prices are meant to give strategies something
//! to do, not to look like a market:
//!
//! * BTC and ETH wander around an anchor, and every few seconds one jumps by 12 to 25 basis points,
//!   trading through the levels in between: more than a market maker's usual distance.
//! * ETH/BTC follows the quotient of the two, but every 3 to 6 s it stands 0.9 to 1.4 % aside for 300
//!   to 700 ms: a cycle over the three earns more than 0.3 % after three fees of 0.1 %.
//!
//! A [`Market`] is an endless iterator of [`Step`]s.

mod pair;

use std::collections::VecDeque;

use kairos_logic::units::Side;

pub use self::pair::{Pair, Shape, Sides, place};
use super::random::Random;

/// Nanoseconds per millisecond.
const MS: u64 = 1_000_000;
/// Depth changes are collected for so long.
const DEPTH_MS: u64 = 100;
/// One in so many steps is a jump of BTC, and as many are one of ETH: about every 3 s each.
const JUMP_EVERY: u64 = 200;
/// Prices are held in units of 10^-8 of the quote currency.
const BTC_ANCHOR: i64 = 60_000 * 100_000_000;
const ETH_ANCHOR: i64 = 3_000 * 100_000_000;
const ETHBTC_ANCHOR: i64 = ETH_ANCHOR / (BTC_ANCHOR / 100_000_000);
/// One, in parts per million.
const MILLION: i64 = 1_000_000;

/// What a market is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarketOptions {
    /// Same seed, same steps.
    pub seed: u64,
    /// What BTC and ETH are paid with.
    pub quote: String,
    /// Levels a side, far from the price, that never change: they make a full book as long as a
    /// venue's.
    pub deep: usize,
}

impl Default for MarketOptions {
    /// Seed 42, paid in USDT, nothing far away.
    fn default() -> Self {
        Self { seed: 42, quote: "USDT".to_owned(), deep: 0 }
    }
}

/// A trade between others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    /// Counts from 1, per pair.
    pub id: u64,
    /// In ticks.
    pub price: i64,
    /// In lots.
    pub qty: i64,
    /// Who took.
    pub aggressor: Side,
    /// When, in nanoseconds of the market's time.
    pub at_ns: u64,
}

/// A level that has a new quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which side.
    pub side: Side,
    /// In ticks.
    pub price: i64,
    /// In lots; zero where the level is gone.
    pub qty: i64,
    /// Number of the change, per pair.
    pub update: u64,
}

/// What happened to a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Somebody traded.
    Trade(Trade),
    /// The top of the book is another: price in ticks and size in lots, zero where there is none.
    Quote {
        /// Best bid.
        bid: (i64, i64),
        /// Best ask.
        ask: (i64, i64),
        /// Number of the last change of the book.
        update: u64,
    },
    /// What changed in the book since it was told last.
    Depth {
        /// Number of the first change.
        first: u64,
        /// Number of the last one.
        last: u64,
        /// One per level: bids from the best, then asks from the best.
        changes: Vec<Change>,
    },
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, in nanoseconds of the market's time.
    pub due_ns: u64,
    /// To which pair, by its place in [`Market::pairs`].
    pub pair: usize,
    /// What.
    pub what: What,
}

/// The seeded market.
#[derive(Clone, Debug)]
pub struct Market {
    random: Random,
    now_ns: u64,
    next_depth_ns: u64,
    btc: i64,
    eth: i64,
    /// How far ETH/BTC stands aside, in parts per million, and until when.
    aside_ppm: i64,
    aside_until_ns: u64,
    next_aside_ns: u64,
    pairs: [Pair; 3],
    steps: VecDeque<Step>,
}

impl Market {
    /// A market at its start, with full books.
    #[must_use]
    pub fn new(options: &MarketOptions) -> Self {
        let mut random = Random::fork(options.seed, 3);
        let shape = |base: &str, quote: &str, decimals: (u32, u32), min_notional| Shape {
            base: base.to_owned(),
            quote: quote.to_owned(),
            tick_decimals: decimals.0,
            lot_decimals: decimals.1,
            min_notional,
        };
        let paid = options.quote.as_str();
        // Levels are 1.7 to 2 basis points apart.
        let shapes = [
            (shape("BTC", paid, (2, 5), "10.00000000"), 1_000, BTC_ANCHOR),
            (shape("ETH", paid, (2, 4), "10.00000000"), 50, ETH_ANCHOR),
            (shape("ETH", "BTC", (5, 4), "0.00010000"), 1, ETHBTC_ANCHOR),
        ];
        let pairs = shapes
            .map(|(shape, grid, anchor)| Pair::new(shape, grid, anchor, options.deep, &mut random));
        let next_aside_ns = (2_000 + random.up_to(2_000)) * MS;
        Self {
            random,
            now_ns: 0,
            next_depth_ns: DEPTH_MS * MS,
            btc: BTC_ANCHOR,
            eth: ETH_ANCHOR,
            aside_ppm: 0,
            aside_until_ns: 0,
            next_aside_ns,
            pairs,
            steps: VecDeque::new(),
        }
    }

    /// BTC, ETH, and ETH in BTC, as of the step that [`Iterator::next`] gave last or up to 25 ms
    /// later; [`Pair::published`] is never later.
    #[must_use]
    pub const fn pairs(&self) -> &[Pair; 3] {
        &self.pairs
    }

    /// Its own time, in nanoseconds since its start.
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// When the next step is due.
    pub fn next_due_ns(&mut self) -> u64 {
        loop {
            if let Some(step) = self.steps.front() {
                return step.due_ns;
            }
            self.step();
        }
    }

    /// Lets 5 to 25 ms pass and collects what happened.
    fn step(&mut self) {
        let pause_ns = 5 * MS + self.random.up_to(20 * MS);
        let now_ns = self.now_ns + pause_ns;
        while self.next_depth_ns <= now_ns {
            self.now_ns = self.next_depth_ns;
            self.next_depth_ns += DEPTH_MS * MS;
            self.publish_depth();
        }
        self.now_ns = now_ns;
        self.move_prices();
        let cross = i128::from(self.eth) * 100_000_000 / i128::from(self.btc);
        let cross = cross * i128::from(MILLION + self.aside_ppm) / i128::from(MILLION);
        let fair = [self.btc, self.eth, i64::try_from(cross).unwrap_or(i64::MAX)];
        for (index, fair) in fair.into_iter().enumerate() {
            self.trade_and_quote(index, fair);
        }
    }

    fn move_prices(&mut self) {
        let common_ppm = self.random.around(20);
        for (price, anchor) in [(&mut self.btc, BTC_ANCHOR), (&mut self.eth, ETH_ANCHOR)] {
            // A pull of 1/2000 per step keeps prices within a few percent of the anchor.
            let pull_ppm = (anchor - *price) / (anchor / MILLION) / 2_000;
            let mut ppm = common_ppm + self.random.around(15) + pull_ppm;
            if self.random.up_to(JUMP_EVERY - 1) == 0 {
                let size = 1_850 + self.random.around(650);
                let up = self.random.up_to(1) == 0;
                ppm += if up { size } else { -size };
            }
            *price += *price / MILLION * ppm;
        }
        if self.aside_ppm != 0 && self.now_ns >= self.aside_until_ns {
            self.aside_ppm = 0;
            self.next_aside_ns = self.now_ns + (3_000 + self.random.up_to(3_000)) * MS;
        } else if self.aside_ppm == 0 && self.now_ns >= self.next_aside_ns {
            let size = 9_000 + self.random.around(5_000).abs();
            let up = self.random.up_to(1) == 0;
            self.aside_ppm = if up { size } else { -size };
            self.aside_until_ns = self.now_ns + (300 + self.random.up_to(400)) * MS;
        }
    }

    /// Moves one pair's book to its new price: trades on the way, then a quote if the top changed.
    fn trade_and_quote(&mut self, index: usize, fair: i64) {
        let Some(pair) = self.pairs.get_mut(index) else {
            return;
        };
        let before = pair.top();
        let mut trades = pair.sweep_to(fair, &mut self.random);
        if self.random.up_to(2) == 0 {
            trades.extend(pair.noise_trade(&mut self.random));
        }
        pair.refill(fair, &mut self.random);
        let due_ns = self.now_ns;
        for (price, qty, aggressor) in trades {
            pair.trades += 1;
            let trade = Trade { id: pair.trades, price, qty, aggressor, at_ns: due_ns };
            self.steps.push_back(Step { due_ns, pair: index, what: What::Trade(trade) });
        }
        let top = pair.top();
        if top != before {
            let [bid, ask] = top.map(|level| level.unwrap_or((0, 0)));
            let what = What::Quote { bid, ask, update: pair.update() };
            self.steps.push_back(Step { due_ns, pair: index, what });
        }
    }

    fn publish_depth(&mut self) {
        let due_ns = self.now_ns;
        for (index, pair) in self.pairs.iter_mut().enumerate() {
            if let Some((first, last, changes)) = pair.tell() {
                let what = What::Depth { first, last, changes };
                self.steps.push_back(Step { due_ns, pair: index, what });
            }
        }
    }
}

/// Never ends: `next` is always `Some`.
impl Iterator for Market {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        self.next_due_ns();
        let step = self.steps.pop_front()?;
        let pair = self.pairs.get_mut(step.pair)?;
        match &step.what {
            What::Trade(trade) => pair.remember(*trade),
            What::Quote { .. } => {}
            What::Depth { last, changes, .. } => {
                for change in changes {
                    let levels = &mut pair.published[place(change.side)];
                    if change.qty == 0 {
                        levels.remove(&change.price);
                    } else {
                        levels.insert(change.price, change.qty);
                    }
                }
                pair.published_update = *last;
            }
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published book is the sum of what was told, and the live one is never crossed.
    #[test]
    fn a_book_is_its_first_snapshot_and_every_change_since() {
        let options = MarketOptions { deep: 300, ..MarketOptions::default() };
        let mut market = Market::new(&options);
        let mut books: Vec<Sides> =
            market.pairs().iter().map(|it| it.published().clone()).collect();
        let mut last: Vec<u64> = market.pairs().iter().map(Pair::published_update).collect();
        for _ in 0..20_000 {
            let step = market.next().unwrap();
            let pair = &market.pairs()[step.pair];
            if let What::Depth { first, last: end, changes } = step.what {
                assert_eq!(first, last[step.pair] + 1);
                last[step.pair] = end;
                let most = changes.iter().map(|it| it.update).max();
                assert_eq!(most, Some(end), "the last change is told");
                for change in changes {
                    let levels = &mut books[step.pair][place(change.side)];
                    match change.qty {
                        0 => levels.remove(&change.price),
                        qty => levels.insert(change.price, qty),
                    };
                }
            }
            assert_eq!(pair.published(), &books[step.pair]);
            let bid = pair.side(Side::Buy).last_key_value().unwrap().0;
            let ask = pair.side(Side::Sell).first_key_value().unwrap().0;
            assert!(bid < ask, "{bid} {ask}");
        }
        assert!(books.iter().flatten().all(|side| side.len() > 300));
    }
}
