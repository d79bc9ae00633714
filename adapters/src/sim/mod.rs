//! The exchange that is not there: an execution venue for paper runs, a seeded market, and a
//! loopback server that speaks a real venue's wire protocol.
//!
//! [`paper`], [`exchange`] and [`random`] read no clock and no random source: the same calls give the same
//! answers on every machine.

pub mod exchange;
pub mod faults;
pub mod gateway;
pub mod host;
pub mod market;
pub mod paper;
pub mod random;
pub mod server;
pub mod tape;
pub mod venue;
