//! Binance spot: market data streams, order messages, lists of instruments.
//!
//! Not here yet: user streams and signatures.

mod decode;
mod feed;
pub mod instruments;
mod market;
pub mod orders;
mod scanner;
mod tape;
#[cfg(test)]
mod tests;

pub use decode::{Decoded, Decoder, FRAME_MAX, Ignored};
pub use market::{BinanceMarket, Options, TradeStream};

use crate::venues::Limits;

/// The venue's name in configuration, metrics and journals.
pub const NAME: &str = "binance";
/// Default address of the market data streams.
pub const STREAM_URL: &str = "wss://stream.binance.com:9443";
/// Default address of the REST interface.
pub const REST_URL: &str = "https://api.binance.com";

/// What the venue allows. 300 attempts to connect in five minutes are one a second.
pub const LIMITS: Limits = Limits {
    message_max: FRAME_MAX,
    instruments_per_connection: market::STREAMS_MAX / market::STREAMS_EACH,
    dial_pause_ns: 1_000_000_000,
};
