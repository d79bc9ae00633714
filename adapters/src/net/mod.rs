//! Sockets: the WebSocket that a feed seat polls, and the helper threads that connect and fetch.
//!
//! Nothing here names a venue: text frames go in and out, what they mean is a session's business.
//! Whatever may wait (names, connecting, handshakes, HTTP) waits on a helper thread; a seat gets a
//! finished connection and polls it.

pub mod address;
pub mod dial;
mod error;
pub mod rest;
pub mod tls;
pub mod websocket;
mod wire;

pub use error::NetError;
pub use wire::SocketOptions;
