//! Coinbase Advanced Trade: market data streams, lists of instruments.
//!
//! Not to be confused with Coinbase Exchange, another product with another protocol.
//!
//! Not here: user streams, orders, signatures.

mod decode;
pub mod instruments;
mod market;
mod scanner;
mod sync;
mod tape;
#[cfg(test)]
mod tests;

pub use decode::{Channel, Decoded, Decoder, FRAME_MAX};
pub use market::{CoinbaseMarket, Options};

use crate::venues::Limits;

/// The venue's name in configuration, metrics and journals.
pub const NAME: &str = "coinbase";
/// Default address of the market data streams.
pub const STREAM_URL: &str = "wss://advanced-trade-ws.coinbase.com";
/// Default address of the REST interface.
pub const REST_URL: &str = "https://api.coinbase.com";

/// What the venue allows: eight messages a second from one address. A connection begins with four
/// of them; at one a second, the rest is left for books that have to be asked for again. The venue
/// names no largest number of instruments: 20 are a choice, because one lost message costs every
/// book of its connection, and each is several megabytes.
pub const LIMITS: Limits = Limits {
    message_max: FRAME_MAX,
    instruments_per_connection: market::INSTRUMENTS_MAX,
    dial_pause_ns: 1_000_000_000,
};
