//! The engine as a whole: real frames in, a journal out, and the journal read back.
#![expect(
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test is one crate with a clock of its own, fails by panicking, and looks for one thing"
)]

mod bad_input;
mod configs;
mod crash;
mod deep;
mod determinism;
mod full_disk;
mod harness;
mod hot;
mod own_strategy;
mod pipeline;
mod process;
mod record;
mod refold;
mod replay;
mod resume;
mod samples;
mod stop;
mod storm;
mod topology;
