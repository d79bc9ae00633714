//! The drain as its users have it: the real binary, on journals that live, against real servers that
//! are killed, cut off and taken over.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive;
mod care;
mod doubt;
mod files;
mod harness;
mod history;
mod journal;
mod kill;
mod model;
mod outage;
mod postgres;
mod redis;
mod trouble;
mod verbs;
mod whole;
