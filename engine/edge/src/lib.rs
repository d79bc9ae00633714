//! What other processes may know of the engine: its configuration, the payloads of its journal
//! frames, their text, and the stats page.
//!
//! No threads, no sockets, no journal: the engine, the operator's tool and whatever else reads the
//! engine's files share these definitions and nothing more.
//!
//! # Limits
//! The command ring is not part of this version.

pub mod config;
pub mod frames;
pub mod render;
pub mod stats;
