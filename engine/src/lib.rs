//! kairos-engine: seats on pinned threads, rings between them, one journal.
//!
//! Start reading at [`wiring`]: it holds the drawing. What decides stands in `kairos-logic`; what
//! speaks to venues in `kairos-adapters`; this package puts them onto threads.
//!
//! A program with strategies of its own registers them and hands over:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use kairos_logic::strategy::Registry;
//!
//! fn start() -> ExitCode {
//!     let mut registry = Registry::shipped();
//!     // registry.register("mine", Mine::build);
//!     kairos_engine::main_with(&registry)
//! }
//! ```

pub mod wiring;

pub mod ring;
pub mod seat;
pub mod seats;

pub mod assemble;
pub mod feeds;
pub mod fold;
mod journaling;
pub mod operator;
pub mod page;
pub mod recording;
pub mod run;
pub mod simulated;
mod sockets;
pub mod start;
pub mod watch;

pub mod latency;
mod preamble;
pub mod replay;
pub mod summary;

pub mod commands;

pub mod build;
pub mod clock;
pub mod meter;
pub mod pin;
mod prefetch;

use std::process::ExitCode;

use kairos_logic::strategy::Registry;

/// The whole of a binary: parses the command line, runs the verb, gives the exit status.
///
/// Its verbs know the strategies in `registry`: the shipped ones and whatever was registered.
#[must_use]
pub fn main_with(registry: &Registry) -> ExitCode {
    commands::main_with_args(registry, std::env::args_os())
}
