//! The seeded market told in Binance's words: what `market_data = "sim"` and the benches read.
//!
//! Pure: a function of its seed. An [`Exchange`] is an endless iterator of [`Frame`]s of the combined
//! stream; [`Exchange::snapshot`] answers for the moment between two frames.

use super::market::{Market, MarketOptions};
use super::venue::binance;

/// Nanoseconds per millisecond.
const MS: u64 = 1_000_000;
/// Names of the streams of a pair: trades, quotes, depth.
const STREAMS: [[&str; 3]; 3] = [
    ["btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@100ms"],
    ["ethusdt@trade", "ethusdt@bookTicker", "ethusdt@depth@100ms"],
    ["ethbtc@trade", "ethbtc@bookTicker", "ethbtc@depth@100ms"],
];

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
    market: Market,
}

impl Exchange {
    /// The symbols that it trades.
    pub const SYMBOLS: [&'static str; 3] = ["BTCUSDT", "ETHUSDT", "ETHBTC"];

    /// An exchange at its start, with full books.
    #[must_use]
    pub fn new(options: ExchangeOptions) -> Self {
        let market = MarketOptions { seed: options.seed, ..MarketOptions::default() };
        Self { options, market: Market::new(&market) }
    }

    /// The body of `GET /api/v3/depth`: up to `limit` levels a side, as of the frame that
    /// [`Iterator::next`] returned last or up to 25 ms later. `None` for a symbol that it has not.
    #[must_use]
    pub fn snapshot(&self, symbol: &str, limit: usize) -> Option<String> {
        let index = Self::SYMBOLS.iter().position(|it| *it == symbol)?;
        let pair = self.market.pairs().get(index)?;
        Some(binance::depth_body(pair, limit))
    }

    /// The body of `GET /api/v3/exchangeInfo`.
    #[must_use]
    pub fn exchange_info(&self) -> String {
        let ms = self.options.epoch_ms + self.market.now_ns() / MS;
        binance::exchange_info(ms, self.market.pairs().iter().map(|it| &it.shape))
    }
}

/// Never ends: `next` is always `Some`.
impl Iterator for Exchange {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let step = self.market.next()?;
        let pair = self.market.pairs().get(step.pair)?;
        let (kind, data) =
            binance::words(pair, &step.what, self.options.epoch_ms + step.due_ns / MS);
        let stream = *STREAMS.get(step.pair)?.get(kind as usize)?;
        let text = format!(r#"{{"stream":"{stream}","data":{data}}}"#);
        Some(Frame { due_ns: step.due_ns, stream, text })
    }
}

#[cfg(test)]
mod tests;
