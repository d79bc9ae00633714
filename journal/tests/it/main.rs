//! The journal through its public API: lifecycle, damage, death, and a model.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "the child of the kill test talks to its parent")]

mod archive;
mod common;
mod damage;
mod faults;
mod hot;
mod hot_kill;
mod hot_trouble;
mod kill;
mod lifecycle;
mod model;
