//! The tool as its users have it: the real binary, on journals that the engine wrote and on journals
//! that nobody should have.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archive;
mod dump;
mod follow;
mod golden;
mod harness;
mod hot;
mod journals;
mod latency;
mod replay;
#[path = "../../../../engine/tests/it/seeded.rs"]
mod seeded;
mod sim_exchange;
mod states;
mod usage;
mod verbs;
mod ws_echo;
