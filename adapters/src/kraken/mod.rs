//! Kraken spot, WebSocket version 2: market data streams, lists of instruments.
//!
//! Not here: user streams, orders, signatures.

mod book;
mod decode;
pub mod instruments;
mod market;
mod scanner;
mod sync;
mod tape;
#[cfg(test)]
mod tests;

pub use decode::{Decoded, Decoder, FRAME_MAX, Refusal};
pub use market::{Depth, KrakenMarket, Options};

use crate::venues::Limits;

/// The venue's name in configuration, metrics and journals.
pub const NAME: &str = "kraken";
/// Default address of the market data streams.
pub const STREAM_URL: &str = "wss://ws.kraken.com/v2";
/// Default address of the REST interface.
pub const REST_URL: &str = "https://api.kraken.com";

/// What the venue allows. It names no largest number of instruments: 100 are a choice, at which a
/// lost connection costs no more than that. About 150 attempts to connect in ten minutes are one
/// in four seconds.
pub const LIMITS: Limits = Limits {
    message_max: FRAME_MAX,
    instruments_per_connection: market::INSTRUMENTS_MAX,
    dial_pause_ns: 4_000_000_000,
};
