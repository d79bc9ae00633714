//! Binance spot: market data streams, order messages, lists of instruments.
//!
//! Not here yet: user streams and signatures.

mod decode;
mod feed;
pub mod instruments;
mod market;
pub mod orders;
mod scanner;
mod symbols;
mod sync;
mod tape;
#[cfg(test)]
mod tests;

pub use decode::{Decoded, Decoder, FRAME_MAX, Ignored, LEVELS_MAX, Level, Levels};
pub use market::{BinanceMarket, Options, SetupError, TradeStream};

/// The venue's name in configuration, metrics and journals.
pub const NAME: &str = "binance";
/// Default address of the market data streams.
pub const STREAM_URL: &str = "wss://stream.binance.com:9443";
/// Default address of the REST interface.
pub const REST_URL: &str = "https://api.binance.com";
