//! A seeded exchange: three pairs whose prices hang together, told in Binance's words.
//!
//! Pure: a function of its seed. Virtual time runs in steps of 5 to 25 ms; each frame says when it is
//! due, and whoever plays them decides how fast. The prices are meant to give strategies something
//! to do, not to look like a market:
//!
//! * BTC and ETH wander around an anchor, and every few seconds one jumps by 12 to 25 basis points,
//!   trading through the levels in between: more than a market maker's usual distance.
//! * ETHBTC follows the quotient of the two, but every 3 to 6 s it stands 0.9 to 1.4 % aside for 300
//!   to 700 ms: a cycle over the three earns more than 0.3 % after three fees of 0.1 %.
//!
//! An [`Exchange`] is an endless iterator of [`Frame`]s; [`Exchange::snapshot`] answers for the
//! moment between two frames.

mod pair;

use std::collections::VecDeque;
use std::fmt::Write as _;

use kairos_logic::units::Side;

use self::pair::{BTCUSDT, ETHBTC, ETHUSDT, Pair};
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

/// What an exchange is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeOptions {
    /// Same seed, same bytes.
    pub seed: u64,
    /// Its time at the start, in milliseconds since the Unix epoch. Stands in the frames.
    pub epoch_ms: u64,
}

impl Default for ExchangeOptions {
    /// Seed 42, on 2023-11-14.
    fn default() -> Self {
        Self { seed: 42, epoch_ms: 1_700_000_000_000 }
    }
}

/// One frame of the combined stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When it leaves the exchange, in nanoseconds since its start.
    pub due_ns: u64,
    /// Name of its stream, such as `btcusdt@trade`.
    pub stream: &'static str,
    /// The text as it stands on the wire, with the combined wrapping.
    pub text: String,
}

impl Frame {
    /// The text without the combined wrapping.
    #[must_use]
    pub fn payload(&self) -> &str {
        let wrapping = r#"{"stream":"","data":"#.len() + self.stream.len();
        let end = self.text.len().saturating_sub(1);
        self.text.get(wrapping..end).unwrap_or("")
    }
}

/// The seeded exchange.
pub struct Exchange {
    options: ExchangeOptions,
    random: Random,
    now_ns: u64,
    next_depth_ns: u64,
    btc: i64,
    eth: i64,
    /// How far ETHBTC stands aside, in parts per million, and until when.
    aside_ppm: i64,
    aside_until_ns: u64,
    next_aside_ns: u64,
    pairs: [Pair; 3],
    frames: VecDeque<Frame>,
}

impl Exchange {
    /// The symbols that it trades.
    pub const SYMBOLS: [&'static str; 3] = [BTCUSDT.symbol, ETHUSDT.symbol, ETHBTC.symbol];

    /// An exchange at its start, with full books.
    #[must_use]
    pub fn new(options: ExchangeOptions) -> Self {
        let mut random = Random::fork(options.seed, 3);
        let pairs = [
            Pair::new(&BTCUSDT, BTC_ANCHOR, &mut random),
            Pair::new(&ETHUSDT, ETH_ANCHOR, &mut random),
            Pair::new(&ETHBTC, ETHBTC_ANCHOR, &mut random),
        ];
        let next_aside_ns = (2_000 + random.up_to(2_000)) * MS;
        Self {
            options,
            random,
            now_ns: 0,
            next_depth_ns: DEPTH_MS * MS,
            btc: BTC_ANCHOR,
            eth: ETH_ANCHOR,
            aside_ppm: 0,
            aside_until_ns: 0,
            next_aside_ns,
            pairs,
            frames: VecDeque::new(),
        }
    }

    /// The body of `GET /api/v3/depth`: up to `limit` levels a side, as of the frame that
    /// [`Iterator::next`] returned last or up to 25 ms later. `None` for a symbol that it has not.
    #[must_use]
    pub fn snapshot(&self, symbol: &str, limit: usize) -> Option<String> {
        let pair = self.pairs.iter().find(|it| it.shape.symbol == symbol)?;
        Some(pair.snapshot(limit))
    }

    /// The body of `GET /api/v3/exchangeInfo`.
    #[must_use]
    pub fn exchange_info(&self) -> String {
        let mut body = format!(
            r#"{{"timezone":"UTC","serverTime":{},"rateLimits":[],"exchangeFilters":[],"symbols":["#,
            self.ms()
        );
        for (index, pair) in self.pairs.iter().enumerate() {
            if index > 0 {
                body.push(',');
            }
            pair.shape.describe(&mut body);
        }
        body.push_str("]}");
        body
    }

    /// Its own time, in milliseconds since the Unix epoch.
    fn ms(&self) -> u64 {
        self.options.epoch_ms + self.now_ns / MS
    }

    /// Lets 5 to 25 ms pass and collects the frames of that.
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
        let ms = self.ms();
        let Some(pair) = self.pairs.get_mut(index) else {
            return;
        };
        let before = pair.top();
        let mut trades = pair.sweep_to(fair, &mut self.random);
        if self.random.up_to(2) == 0 {
            trades.extend(pair.noise_trade(&mut self.random));
        }
        pair.refill(fair, &mut self.random);
        let shape = pair.shape;
        for trade in trades {
            pair.trades += 1;
            let maker_bought = trade.aggressor == Side::Sell;
            let mut text = String::with_capacity(220);
            let _ = write!(
                text,
                r#"{{"stream":"{}","data":{{"e":"trade","E":{},"s":"{}","t":{},"p":"{}","q":"{}","T":{},"m":{maker_bought},"M":true}}}}"#,
                shape.trade_stream,
                ms,
                shape.symbol,
                pair.trades,
                shape.price_text(trade.price),
                shape.qty_text(trade.qty),
                ms,
            );
            self.frames.push_back(Frame { due_ns: self.now_ns, stream: shape.trade_stream, text });
        }
        if pair.top() != before {
            self.frames.push_back(Frame {
                due_ns: self.now_ns,
                stream: shape.quote_stream,
                text: pair.quote_text(),
            });
        }
    }

    fn publish_depth(&mut self) {
        let (due_ns, ms) = (self.now_ns, self.ms());
        for pair in &mut self.pairs {
            if let Some(text) = pair.depth_text(ms) {
                self.frames.push_back(Frame { due_ns, stream: pair.shape.depth_stream, text });
            }
        }
    }
}

/// Never ends: `next` is always `Some`.
impl Iterator for Exchange {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(frame);
            }
            self.step();
        }
    }
}

#[cfg(test)]
mod tests;
