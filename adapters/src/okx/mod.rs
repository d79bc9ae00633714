//! OKX v5: public market data of spot pairs, lists of instruments.
//!
//! Not here yet: orders, user streams and signatures.

mod checksum;
mod decode;
mod feed;
pub mod instruments;
mod market;
mod scanner;
mod sync;
mod tape;
#[cfg(test)]
mod tests;

pub use decode::{Decoded, Decoder, FRAME_MAX, Ignored, Trade, Update};
pub use market::{OkxMarket, Options, QuoteChannel};

use crate::venues::Limits;

/// The venue's name in configuration, metrics and journals.
pub const NAME: &str = "okx";
/// Default address of the public channels, with their path.
pub const STREAM_URL: &str = "wss://ws.okx.com:8443/ws/v5/public";
/// Default address of the REST interface.
pub const REST_URL: &str = "https://www.okx.com";

/// What the venue allows: three attempts to connect per second.
pub const LIMITS: Limits = Limits {
    message_max: FRAME_MAX,
    instruments_per_connection: market::INSTRUMENTS_MAX,
    dial_pause_ns: 334_000_000,
};
