//! Sockets: the WebSocket that a feed seat polls, and the helper thread that fetches snapshots.
//!
//! Nothing here names a venue: text frames go in and out, what they mean is a session's business.
//!
//! # Limits
//! There is no TLS yet, and so no connection to anything but this host: plain text to another host
//! is refused.

mod error;
pub mod rest;
pub(crate) mod socket;
pub mod websocket;

pub use error::NetError;
