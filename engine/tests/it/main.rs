//! The engine as a whole: real frames in, a journal out, and the journal read back.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, says what it skips, and looks for one thing"
)]

mod determinism;
mod harness;
mod pipeline;
mod topology;
