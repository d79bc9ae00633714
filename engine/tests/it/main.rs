//! The engine as a whole: real frames in, a journal out, and the journal read back.

mod determinism;
mod harness;
mod pipeline;
mod topology;
