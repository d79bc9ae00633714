//! KuCoin spot, classic push: public market data, lists of instruments.
//!
//! Not here yet: orders, user streams and signatures.

mod decode;
mod dial;
mod feed;
pub mod instruments;
mod market;
mod scanner;
mod tape;
#[cfg(test)]
mod tests;

pub use decode::{Decoded, Decoder, FRAME_MAX, Ignored};
pub use market::{KucoinMarket, Options};

use crate::venues::Limits;

/// The venue's name in configuration, metrics and journals.
pub const NAME: &str = "kucoin";
/// Where the market data streams usually are. The venue says so each time that it is asked, and what
/// it says then counts.
pub const STREAM_URL: &str = "wss://ws-api-spot.kucoin.com/";
/// Default address of the REST interface.
pub const REST_URL: &str = "https://api.kucoin.com";

/// What the venue allows: 30 attempts to connect per minute.
pub const LIMITS: Limits = Limits {
    message_max: FRAME_MAX,
    instruments_per_connection: market::INSTRUMENTS_MAX,
    dial_pause_ns: 2_000_000_000,
};
