//! What kairos decides: books, orders, the ledger, strategies and risk.
//!
//! Nothing in this crate reads a clock, a file, a socket, an environment variable or a random
//! number. Time arrives inside events. The same events in the same order therefore give the same
//! decisions on every machine, which is what makes replay possible.
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::float_arithmetic)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod accounts;
pub mod bars;
pub mod book;
pub mod code;
pub mod decision;
pub mod desk;
pub mod digits;
pub mod event;
pub mod instrument;
pub mod ledger;
pub mod market;
pub mod order;
pub mod orders;
pub mod params;
pub mod risk;
pub mod strategy;
pub mod units;
