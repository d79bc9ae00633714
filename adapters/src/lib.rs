//! Everything that touches a wire: venue protocols, sockets, capture files, the simulated exchange.
//!
//! A venue's protocol lives in a folder of its own and is *sans-io*: bytes and times in, events and
//! outgoing messages out ([`session`]). Sockets name no venue, and protocols name no socket.
#![forbid(unsafe_code)]

pub mod binance;
pub mod capture;
pub mod coinbase;
pub mod kraken;
pub mod kucoin;
pub mod lines;
pub mod link;
pub mod net;
pub mod okx;
pub mod session;
pub mod sim;
#[cfg(test)]
mod testing;
pub mod venue;
pub mod venues;
